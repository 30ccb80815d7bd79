//! The rules as `nft list ruleset` prints them.

use std::fmt::Write as _;

use super::checked::{
    Chain, Checked, RejectWith, Rule, Set, Statement, Table, TableFamily, Test, Verdict,
};
use super::field::Field;
use super::lookup::Row;
use super::names::{self, ICMP_CODES, ICMPV6_CODES, ICMPX_CODES, LOG_LEVELS, name_of};
use super::{CounterId, PortNames};

/// Elements are wrapped where a line would grow beyond this.
const LINE_CHARACTERS: usize = 78;

/// A printed ruleset: text, with the places where counters stand.
#[derive(Debug, Default)]
pub(super) struct Listing {
    pub(super) pieces: Vec<Piece>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece {
    Text(String),
    /// The numbers of a counter.
    Counter(CounterId),
}

impl Listing {
    pub(super) fn of(checked: &Checked, ports: &PortNames) -> Listing {
        let mut printer = Printer {
            checked,
            ports,
            listing: Listing::default(),
            line: String::new(),
        };
        for table in &checked.tables {
            printer.table(table);
        }
        printer.listing
    }
}

/// The statements of a rule, without the numbers of its counters; those that no one wrote are empty.
pub(super) fn statements(rule: &Rule, checked: &Checked, ports: &PortNames) -> Vec<String> {
    let one = |statement: &Statement| {
        if let Statement::Count { name: None, .. } = statement {
            return "counter".to_owned();
        }
        if let Statement::Match { implied: true, .. } = statement {
            return String::new();
        }
        let mut printer = Printer {
            checked,
            ports,
            listing: Listing::default(),
            line: String::new(),
        };
        printer.statement(statement);
        printer.line
    };
    let comment = rule
        .comment
        .iter()
        .map(|comment| format!("comment \"{comment}\""));
    rule.statements.iter().map(one).chain(comment).collect()
}

struct Printer<'c> {
    checked: &'c Checked,
    ports: &'c PortNames,
    listing: Listing,
    /// What comes behind the last piece.
    line: String,
}

impl Printer<'_> {
    fn table(&mut self, table: &Table) {
        let _ = writeln!(self.line, "table {} {} {{", table.family.name(), table.name);
        let mut is_first = true;
        let mut gap = |printer: &mut Self| {
            if !std::mem::take(&mut is_first) {
                printer.line.push('\n');
            }
        };
        for helper in &table.helpers {
            gap(self);
            let _ = writeln!(self.line, "\tct helper {} {{", helper.name);
            self.line.push_str("\t\ttype \"ftp\" protocol tcp\n");
            let l3proto = match helper.family {
                Some(family) if family.ethertype() == crate::wire::ETHERTYPE_IPV4 => "ip",
                Some(_) => "ip6",
                None => table.family.l3proto(),
            };
            let _ = writeln!(self.line, "\t\tl3proto {l3proto}");
            if let Some(comment) = &helper.comment {
                let _ = writeln!(self.line, "\t\tcomment \"{comment}\"");
            }
            self.line.push_str("\t}\n");
        }
        for (name, id) in &table.counters {
            gap(self);
            let _ = write!(self.line, "\tcounter {name} {{\n\t\t");
            self.counter(*id);
            self.line.push_str("\n\t}\n");
        }
        for &set in &table.sets {
            if let Some(set) = self.checked.sets.get(set) {
                gap(self);
                self.set(set);
            }
        }
        for &chain in &table.chains {
            if let Some(chain) = self.checked.chains.get(chain) {
                gap(self);
                self.chain(chain, table.family);
            }
        }
        self.line.push_str("}\n");
        self.flush();
    }

    fn set(&mut self, set: &Set) {
        let (what, to) = match set.verdicts {
            Some(_) => ("map", " : verdict"),
            None => ("set", ""),
        };
        let name = set.name.as_deref().unwrap_or_default();
        let kind = match &set.fields {
            Some(fields) => format!("typeof {}", spelt(fields)),
            None => {
                let types: Vec<_> = set.types.iter().map(|datatype| datatype.name()).collect();
                format!("type {}", types.join(" . "))
            }
        };
        let _ = writeln!(self.line, "\t{what} {name} {{");
        let _ = writeln!(self.line, "\t\t{kind}{to}");
        if set.interval {
            self.line.push_str("\t\tflags interval\n");
        }
        if set.auto_merge {
            self.line.push_str("\t\tauto-merge\n");
        }
        if !set.rows.is_empty() {
            let start = "\t\telements = { ";
            self.line.push_str(start);
            self.elements(set, Some(start.len() + 14));
            self.line.push_str(" }\n");
        }
        self.line.push_str("\t}\n");
    }

    /// With a number: wrapped, the further lines begin so far in.
    fn elements(&mut self, set: &Set, indent: Option<usize>) {
        let mut order: Vec<&Row> = set.rows.iter().collect();
        order.sort_by(|a, b| a.parts().cmp(b.parts()));
        let mut width = indent.unwrap_or_default();
        for (number, row) in order.into_iter().enumerate() {
            let element = self.element(row, set);
            if number > 0 {
                self.line.push(',');
                if let Some(indent) = indent
                    && width + element.len() > LINE_CHARACTERS
                {
                    self.line.push_str("\n\t\t\t     ");
                    width = indent;
                } else {
                    self.line.push(' ');
                }
            }
            width += element.len() + 2;
            self.line.push_str(&element);
        }
    }

    fn element(&self, row: &Row, set: &Set) -> String {
        let parts = row.parts().zip(&set.types);
        let parts: Vec<_> = parts
            .map(|(&(low, high), datatype)| datatype.print(low, high, self.ports))
            .collect();
        let mut element = parts.join(" . ");
        let verdicts = set.verdicts.as_ref();
        if let Some(verdict) = verdicts.and_then(|all| all.get(row.value as usize)) {
            let _ = write!(element, " : {}", self.verdict(*verdict));
        }
        element
    }

    fn chain(&mut self, chain: &Chain, family: TableFamily) {
        let _ = writeln!(self.line, "\tchain {} {{", chain.name);
        if let Some(base) = chain.base {
            let filter = if family == TableFamily::Bridge {
                -200
            } else {
                0
            };
            let priority = match base.priority.saturating_sub(filter) {
                0 => "filter".to_owned(),
                above @ 1..=10 => format!("filter + {above}"),
                below @ -10..0 => format!("filter - {}", -below),
                _ => base.priority.to_string(),
            };
            let policy = if base.accept { "accept" } else { "drop" };
            let _ = writeln!(
                self.line,
                "\t\ttype filter hook forward priority {priority}; policy {policy};"
            );
        }
        for rule in &chain.rules {
            self.line.push_str("\t\t");
            self.rule(rule);
            self.line.push('\n');
        }
        self.line.push_str("\t}\n");
    }

    fn rule(&mut self, rule: &Rule) {
        let mut is_first = true;
        for statement in &rule.statements {
            if let Statement::Match { implied: true, .. } = statement {
                continue;
            }
            if !std::mem::take(&mut is_first) {
                self.line.push(' ');
            }
            self.statement(statement);
        }
        if let Some(comment) = &rule.comment {
            let _ = write!(self.line, " comment \"{comment}\"");
        }
    }

    fn statement(&mut self, statement: &Statement) {
        match statement {
            Statement::Match { fields, test, .. } => self.matching(fields, *test),
            Statement::Vmap { fields, set } => {
                self.line.push_str(&spelt(fields));
                self.line.push_str(" vmap ");
                self.set_of_match(*set, false);
            }
            Statement::Count {
                name: Some(name), ..
            } => {
                let _ = write!(self.line, "counter name \"{name}\"");
            }
            Statement::Count { id, name: None } => {
                self.line.push_str("counter ");
                self.counter(*id);
            }
            Statement::Limit(limit) => {
                if let Some(limit) = self.checked.limits.get(*limit) {
                    self.line.push_str(&limit.text);
                }
            }
            Statement::Log(log) => {
                self.line.push_str("log");
                if let Some(log) = self.checked.logs.get(*log) {
                    if !log.prefix.is_empty() {
                        let _ = write!(self.line, " prefix \"{}\"", log.prefix);
                    }
                    if let Some(level) = name_of(LOG_LEVELS, log.level.into())
                        && level != "warn"
                    {
                        let _ = write!(self.line, " level {level}");
                    }
                }
            }
            Statement::SetHelper { name, .. } => {
                let _ = write!(self.line, "ct helper set \"{name}\"");
            }
            Statement::Verdict(verdict) => {
                let verdict = self.verdict(*verdict);
                self.line.push_str(&verdict);
            }
        }
    }

    fn matching(&mut self, fields: &[Field], test: Test) {
        self.line.push_str(&spelt(fields));
        self.line.push(' ');
        let Some(field) = fields.first() else { return };
        let datatype = field.datatype();
        match test {
            Test::Range {
                interval: (low, high),
                negated,
            } => {
                if negated {
                    self.line.push_str("!= ");
                } else if datatype.is_mask() {
                    self.line.push_str("== ");
                }
                let max = datatype.max();
                let value = match (low, high) {
                    (0, high) if high != max && high != 0 && !is_prefix(field) => {
                        format!("<= {}", datatype.print(high, high, self.ports))
                    }
                    (low, high) if high == max && low != max && !is_prefix(field) => {
                        format!(">= {}", datatype.print(low, low, self.ports))
                    }
                    (low, high) => datatype.print(low, high, self.ports),
                };
                // Both at once cannot be said so.
                let value = if negated && value.starts_with(['<', '>']) {
                    datatype.print(low, high, self.ports)
                } else {
                    value
                };
                self.line.push_str(&value);
            }
            Test::Set { set, negated } => {
                if negated {
                    self.line.push_str("!= ");
                }
                self.set_of_match(set, !negated);
            }
            Test::Bits {
                mask,
                value,
                negated,
            } => {
                let print = |bits: u128| datatype.print(bits, bits, self.ports);
                if value == 0 && negated {
                    // Any of them.
                    let flags = print(mask).replace(" | ", ",");
                    self.line.push_str(&flags);
                    return;
                }
                let relation = if negated { "!=" } else { "==" };
                let mask = match print(mask) {
                    mask if mask.contains('|') => format!("({mask})"),
                    mask => mask,
                };
                let _ = write!(self.line, "& {mask} {relation} {}", print(value));
            }
        }
    }

    fn set_of_match(&mut self, set: usize, may_be_list: bool) {
        let Some(set) = self.checked.sets.get(set) else {
            return;
        };
        match &set.name {
            Some(name) => {
                let _ = write!(self.line, "@{name}");
            }
            None if may_be_list && is_list(set) => {
                // As nft prints masks.
                let states: Vec<_> = set.rows.iter().map(|row| self.element(row, set)).collect();
                self.line.push_str(&states.join(","));
            }
            None => {
                self.line.push_str("{ ");
                self.elements(set, None);
                self.line.push_str(" }");
            }
        }
    }

    fn verdict(&self, verdict: Verdict) -> String {
        let chain = |number: usize| {
            let chain = self.checked.chains.get(number);
            chain.map_or("", |chain| chain.name.as_str())
        };
        match verdict {
            Verdict::Accept => "accept".to_owned(),
            Verdict::Drop => "drop".to_owned(),
            Verdict::Continue => "continue".to_owned(),
            Verdict::Return => "return".to_owned(),
            Verdict::Jump(to) => format!("jump {}", chain(to)),
            Verdict::Goto(to) => format!("goto {}", chain(to)),
            Verdict::Reject(RejectWith::TcpReset) => "reject with tcp reset".to_owned(),
            Verdict::Reject(RejectWith::Icmp(code)) => with("icmp", ICMP_CODES, code),
            Verdict::Reject(RejectWith::Icmpv6(code)) => with("icmpv6", ICMPV6_CODES, code),
            Verdict::Reject(RejectWith::Icmpx(1)) => "reject".to_owned(),
            Verdict::Reject(RejectWith::Icmpx(code)) => with("icmpx", ICMPX_CODES, code),
        }
    }

    fn counter(&mut self, id: CounterId) {
        self.flush();
        self.listing.pieces.push(Piece::Counter(id));
    }

    fn flush(&mut self) {
        let line = std::mem::take(&mut self.line);
        if !line.is_empty() {
            self.listing.pieces.push(Piece::Text(line));
        }
    }
}

fn with(family: &str, names: names::Names, code: u8) -> String {
    let name = name_of(names, code.into()).map_or_else(|| code.to_string(), str::to_owned);
    format!("reject with {family} {name}")
}

fn spelt(fields: &[Field]) -> String {
    let names: Vec<_> = fields.iter().map(|field| field.name()).collect();
    names.join(" . ")
}

/// Whether ranges from the first or to the last value are prefixes, rather.
fn is_prefix(field: &Field) -> bool {
    matches!(
        field,
        Field::IpAddr(_) | Field::Ip6Addr(_) | Field::ArpIp(_) | Field::IifName | Field::OifName
    )
}

/// A set of states is printed as the mask that nft takes it for.
fn is_list(set: &Set) -> bool {
    set.types == [super::datatype::Datatype::CtState] && set.verdicts.is_none()
}
