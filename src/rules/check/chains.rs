//! Jumps: no circles, not too deep, not too much work for one packet.

use super::{Checker, Jump};
use crate::rules::checked::Verdict;
use crate::rules::diagnostic::Problem;
use crate::rules::program::MAX_JUMPS;

/// Statements that one packet may have to be held against, all jumps taken. Chains that jump to
/// the same chains again and again would else cost seconds for a packet.
const MAX_STEPS: u64 = 1_000_000;

/// What is known of a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mark {
    Unseen,
    /// A jump from it is being followed.
    Open,
    /// So many statements at most, and so many jumps within jumps.
    Done {
        steps: u64,
        depth: usize,
    },
}

impl Checker<'_, '_> {
    /// Follows every jump.
    pub(super) fn check_jumps(&mut self) {
        for map_use in std::mem::take(&mut self.map_uses) {
            let map = self.checked.sets.get(map_use.set);
            for verdict in map
                .and_then(|map| map.verdicts.as_ref())
                .into_iter()
                .flatten()
            {
                if let Verdict::Jump(to) | Verdict::Goto(to) = *verdict {
                    self.jumps.push(Jump {
                        from: map_use.chain,
                        to,
                        span: map_use.span,
                        rule: map_use.rule,
                    });
                }
            }
        }
        self.jumps.sort_by_key(|jump| (jump.from, jump.rule));
        let mut marks = vec![Mark::Unseen; self.checked.chains.len()];
        for chain in 0..marks.len() {
            if !self.follow(chain, &mut marks) {
                return;
            }
        }
        for chain in 0..marks.len() {
            let Some(Mark::Done { steps, depth }) = marks.get(chain).copied() else {
                continue;
            };
            let Some(found) = self.checked.chains.get(chain) else {
                continue;
            };
            let (span, is_base) = (found.span, found.base.is_some());
            if is_base && depth > MAX_JUMPS {
                let message = format!("chains jump more than {MAX_JUMPS} deep from here");
                let problem = Problem::new(span, message, "");
                return self.note(problem.hint("the kernel does not go deeper, either"));
            }
            if is_base && steps > MAX_STEPS {
                let message = format!("a packet may take more than {MAX_STEPS} steps from here");
                let problem = Problem::new(span, message, "");
                return self.note(problem.hint("chains that are jumped to often should be short"));
            }
        }
    }

    /// Whether there is no circle. Without recursion: a file may have very many chains.
    fn follow(&mut self, start: usize, marks: &mut [Mark]) -> bool {
        let mut stack = vec![start];
        while let Some(&chain) = stack.last() {
            let mark = marks.get(chain).copied();
            match mark {
                Some(Mark::Unseen) => {
                    set(marks, chain, Mark::Open);
                    let mut deeper = Vec::new();
                    for jump in self.jumps_from(chain) {
                        match marks.get(jump.to) {
                            Some(Mark::Unseen) => deeper.push(jump.to),
                            Some(Mark::Open) => {
                                let circle: Vec<_> = stack
                                    .iter()
                                    .skip_while(|&&on_way| on_way != jump.to)
                                    .chain(Some(&jump.to))
                                    .filter(|&&on_way| {
                                        on_way == jump.to || marks.get(on_way) == Some(&Mark::Open)
                                    })
                                    .filter_map(|&on_way| self.checked.chains.get(on_way))
                                    .map(|chain| chain.name.as_str())
                                    .collect();
                                let message = "chains that jump in a circle";
                                let problem = Problem::new(jump.span, message, "")
                                    .hint(format!("the way round: {}", circle.join(" -> ")));
                                self.note(problem);
                                return false;
                            }
                            _ => {}
                        }
                    }
                    stack.extend(deeper);
                }
                Some(Mark::Open) => {
                    let done = self.cost(chain, marks);
                    set(marks, chain, done);
                    stack.pop();
                }
                Some(Mark::Done { .. }) | None => {
                    stack.pop();
                }
            }
        }
        true
    }

    /// They are sorted by then.
    fn jumps_from(&self, chain: usize) -> &[Jump] {
        let first = self.jumps.partition_point(|jump| jump.from < chain);
        let last = self.jumps.partition_point(|jump| jump.from <= chain);
        self.jumps.get(first..last).unwrap_or_default()
    }

    fn cost(&self, chain: usize, marks: &[Mark]) -> Mark {
        let own = self.checked.chains.get(chain).map_or(0, |chain| {
            let rules = chain.rules.iter();
            rules.map(|rule| rule.statements.len() as u64).sum::<u64>() + 1
        });
        let (mut steps, mut depth) = (own, 0usize);
        // Of the entries of a map the dearest one counts.
        let mut of_rule: Option<(usize, u64)> = None;
        for jump in self.jumps_from(chain) {
            let Some(Mark::Done {
                steps: below,
                depth: under,
            }) = marks.get(jump.to)
            else {
                continue;
            };
            depth = depth.max(under + 1);
            match &mut of_rule {
                Some((rule, most)) if *rule == jump.rule => *most = (*most).max(*below),
                other => {
                    steps = steps.saturating_add(other.map_or(0, |(_, most)| most));
                    *other = Some((jump.rule, *below));
                }
            }
        }
        Mark::Done {
            steps: steps.saturating_add(of_rule.map_or(0, |(_, most)| most)),
            depth,
        }
    }
}

fn set(marks: &mut [Mark], chain: usize, mark: Mark) {
    if let Some(slot) = marks.get_mut(chain) {
        *slot = mark;
    }
}
