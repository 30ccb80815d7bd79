//! Makes a case smaller for as long as it shows the difference.

use crate::bed::Bed;
use crate::compare::{Case, Difference, Totals};

struct Shrinking<'b> {
    bed: &'b mut Bed,
    best: Case,
    difference: Difference,
}

/// The smallest case found, and its difference.
pub fn shrink(bed: &mut Bed, case: &Case, difference: Difference) -> (Case, Difference) {
    let mut shrinking = Shrinking {
        bed,
        best: case.clone(),
        difference,
    };
    if let Difference::Verdict { at, .. } | Difference::Changed { at } = shrinking.difference {
        let mut shorter = case.clone();
        shorter.packets.truncate(at + 1);
        shrinking.try_it(shorter);
    }
    loop {
        let before = shrinking.size();
        shrinking.packets();
        shrinking.rules();
        if shrinking.size() == before {
            return (shrinking.best, shrinking.difference);
        }
    }
}

impl Shrinking<'_> {
    fn size(&self) -> (usize, usize) {
        let rules = &self.best.rules;
        let text = rules.text(crate::rules::Reader::Kernel).text;
        (self.best.packets.len(), text.len())
    }

    /// Whether the smaller case still differs; then it is the best one.
    fn try_it(&mut self, case: Case) -> bool {
        match case.compare(self.bed, &mut Totals::default(), None) {
            Err(difference) if difference.is_like(&self.difference) => {
                (self.best, self.difference) = (case, difference);
                true
            }
            _ => false,
        }
    }

    fn packets(&mut self) {
        let mut size = self.best.packets.len() / 2;
        while size > 0 {
            let mut at = 0;
            while at < self.best.packets.len() {
                let mut case = self.best.clone();
                let end = (at + size).min(case.packets.len());
                case.packets.drain(at..end);
                if !self.try_it(case) {
                    at += size;
                }
            }
            size /= 2;
        }
    }

    fn rules(&mut self) {
        for t in (0..self.best.rules.tables.len()).rev() {
            let mut case = self.best.clone();
            case.rules.tables.remove(t);
            if self.try_it(case) {
                continue;
            }
            for c in (0..self.best.rules.tables[t].chains.len()).rev() {
                let mut case = self.best.clone();
                case.rules.tables[t].chains.remove(c);
                self.try_it(case);
            }
        }
        for place in self.best.rules.places().into_iter().rev() {
            let mut case = self.best.clone();
            case.rules.remove_rule(place);
            if self.try_it(case) {
                continue;
            }
            for m in (0..self.best.rules.rule(place).matches.len()).rev() {
                let mut case = self.best.clone();
                case.rules.rule_mut(place).matches.remove(m);
                self.try_it(case);
            }
        }
        for t in 0..self.best.rules.tables.len() {
            for o in (0..self.best.rules.tables[t].objects.len()).rev() {
                let mut case = self.best.clone();
                case.rules.tables[t].objects.remove(o);
                self.try_it(case);
            }
        }
    }
}
