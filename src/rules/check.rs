//! Tree to checked tree: names are resolved, values read, and what cannot be meant is refused.

mod chains;
mod rule;
mod set;
mod statement;

use std::collections::HashSet;

use super::ast::{self, Helper, Hook, Item, Name, TableItem};
use super::checked::{
    Base, Chain, Checked, CounterStart, HelperRef, Set, Statement, Table, TableFamily,
};
use super::define::Definitions;
use super::diagnostic::Problem;
use super::field::{Family, Field};
use super::lexer::Span;
use super::lookup::MAX_ENTRIES;
use super::source::Source;
use super::{CounterId, HelperId, HelperObject, PortNames};

/// Named priorities of the forward hook: NF_IP_PRI_* and NF_BR_PRI_FILTER_BRIDGED of the kernel.
const PRIORITIES_INET: &[(&str, i32)] = &[
    ("raw", -300),
    ("mangle", -150),
    ("filter", 0),
    ("security", 50),
];
const PRIORITIES_BRIDGE: &[(&str, i32)] = &[("filter", -200)];

/// Checks a whole file. The tree counts only if no problem was noted.
pub(super) fn check<'t>(
    items: &'t [Item<'t>],
    source: &'t Source,
    ports: &'t PortNames,
    problems: &mut Vec<Problem>,
) -> Checked {
    let mut checker = Checker::new(source, ports, problems);
    let any_table = checker.declare(items);
    if !any_table && checker.problems.is_empty() {
        let end = source.tokens().last().map_or(0, |end| end.span.end);
        let end = Span { start: end, end };
        checker.note(Problem::new(end, "the file has no table", "").hint(
            "without rules everything would pass; `lotus check --print-default` shows a start",
        ));
    }
    let mut any_before = false;
    let mut tables = checker.scopes_of(items).into_iter();
    for item in items {
        match item {
            Item::Define(define) => checker.names.define(define, checker.problems),
            Item::Table(table) => {
                if let Some(scope) = tables.next() {
                    checker.table(table, scope);
                }
            }
            Item::Nothing => {}
            Item::Flush(_) if !any_before => {}
            Item::Flush(span) => {
                let message = "this would throw away tables above it";
                checker.note(
                    Problem::new(*span, message, "")
                        .hint("put it at the top: lotus replaces all rules when it loads a file"),
                );
            }
        }
        any_before |= matches!(item, Item::Table(_));
    }
    checker.check_set_uses();
    checker.check_jumps();
    checker.checked
}

/// Reads a text of matches alone: what they say of a packet.
pub(super) fn check_rule<'t>(
    rule: &ast::Rule<'t>,
    source: &'t Source,
    ports: &'t PortNames,
    problems: &mut Vec<Problem>,
) -> Vec<Statement> {
    let mut checker = Checker::new(source, ports, problems);
    let scope = Scope::new(TableFamily::Bridge, "", rule.span);
    checker.rule(rule, &scope).statements
}

struct Checker<'t, 'p> {
    text: &'t str,
    ports: &'t PortNames,
    names: Definitions<'t>,
    problems: &'p mut Vec<Problem>,
    checked: Checked,
    scopes: Vec<Scope<'t>>,
    /// How many rules there are so far.
    rules: usize,
    jumps: Vec<Jump>,
    map_uses: Vec<MapUse>,
    set_uses: Vec<SetUse>,
    /// What all sets together may still come to.
    lookup_left: usize,
    /// Names of ports that there are not: each is told of once.
    unknown_ports: HashSet<&'t str>,
}

/// A rule that asks a set or map for these fields; what it holds may not be read yet.
#[derive(Debug)]
struct SetUse {
    fields: Vec<Field>,
    set: usize,
    span: Span,
    /// Not for a verdict.
    is_match: bool,
}

/// A rule that asks a named map, which may not be read yet.
#[derive(Debug)]
struct MapUse {
    chain: usize,
    set: usize,
    span: Span,
    rule: usize,
}

/// A jump, or a goto, that some rule may make.
#[derive(Debug)]
struct Jump {
    from: usize,
    to: usize,
    span: Span,
    /// The rule: of the entries of one map only one is taken.
    rule: usize,
}

/// What a table declares, in all its blocks.
#[derive(Clone, Debug)]
struct Scope<'t> {
    family: TableFamily,
    name: &'t str,
    span: Span,
    helpers: Vec<HelperRef>,
    counters: Vec<(Name<'t>, CounterId)>,
    sets: Vec<(Name<'t>, usize)>,
    chains: Vec<(Name<'t>, usize)>,
}

impl<'t> Scope<'t> {
    fn new(family: TableFamily, name: &'t str, span: Span) -> Scope<'t> {
        Scope {
            family,
            name,
            span,
            helpers: Vec::new(),
            counters: Vec::new(),
            sets: Vec::new(),
            chains: Vec::new(),
        }
    }
}

impl<'t, 'p> Checker<'t, 'p> {
    fn new(
        source: &'t Source,
        ports: &'t PortNames,
        problems: &'p mut Vec<Problem>,
    ) -> Checker<'t, 'p> {
        Checker {
            text: source.text(),
            ports,
            names: Definitions::new(ports),
            problems,
            checked: Checked::default(),
            scopes: Vec::new(),
            rules: 0,
            jumps: Vec::new(),
            map_uses: Vec::new(),
            set_uses: Vec::new(),
            lookup_left: MAX_ENTRIES,
            unknown_ports: HashSet::new(),
        }
    }

    /// Takes down what all tables declare, so that a rule may name what stands below it. Whether
    /// there is any table.
    fn declare(&mut self, items: &'t [Item<'t>]) -> bool {
        let mut any = false;
        for item in items {
            let Item::Table(table) = item else { continue };
            any = true;
            let family = self.family(table);
            let same = |scope: &Scope<'t>| scope.family == family && scope.name == table.name.text;
            // A table may come in several blocks, as in nft.
            let at = match self.scopes.iter().position(same) {
                Some(at) => at,
                None => {
                    let scope = Scope::new(family, table.name.text, table.name.span);
                    self.scopes.push(scope);
                    self.scopes.len() - 1
                }
            };
            let mut scope = match self.scopes.get(at) {
                Some(scope) => scope.clone(),
                None => continue,
            };
            for item in &table.items {
                self.declare_item(item, &mut scope);
            }
            if let Some(slot) = self.scopes.get_mut(at) {
                *slot = scope;
            }
        }
        for scope in &self.scopes {
            self.checked.tables.push(Table {
                span: scope.span,
                family: scope.family,
                name: scope.name.to_owned(),
                helpers: scope.helpers.clone(),
                counters: scope
                    .counters
                    .iter()
                    .map(|(name, id)| (name.text.to_owned(), *id))
                    .collect(),
                sets: scope.sets.iter().map(|&(_, set)| set).collect(),
                chains: scope.chains.iter().map(|&(_, chain)| chain).collect(),
            });
        }
        any
    }

    /// For each block of a table, the number of its scope.
    fn scopes_of(&self, items: &[Item<'t>]) -> Vec<usize> {
        let mut all = Vec::new();
        for item in items {
            if let Item::Table(table) = item {
                let family = family_named(table.family.text).unwrap_or(TableFamily::Inet);
                let same =
                    |scope: &Scope<'t>| scope.family == family && scope.name == table.name.text;
                all.push(self.scopes.iter().position(same).unwrap_or_default());
            }
        }
        all
    }

    fn family(&mut self, table: &ast::Table<'t>) -> TableFamily {
        let name = table.family.text;
        family_named(name).unwrap_or_else(|| {
            let known = matches!(name, "arp" | "netdev");
            let message = if known {
                format!("tables of the family `{name}` are not supported")
            } else {
                format!("`{name}` is not a family of tables")
            };
            let hint = match name {
                "arp" => "write `table bridge`, and `ether type arp` in its rules",
                _ => "the families: bridge (every frame), inet (IPv4 and IPv6), ip, ip6",
            };
            self.note(Problem::new(table.family.span, message, "").hint(hint));
            TableFamily::Inet
        })
    }

    fn declare_item(&mut self, item: &'t TableItem<'t>, scope: &mut Scope<'t>) {
        match item {
            TableItem::Define(_) => {}
            TableItem::Helper(helper) => self.helper(helper, scope),
            TableItem::Counter(counter) => {
                if let Some((first, _)) = find(&scope.counters, counter.name.text) {
                    return self.second("counter", counter.name, first);
                }
                let id = self.new_counter(CounterStart {
                    rule: None,
                    name: Some(counter.name.text.to_owned()),
                    packets: counter.packets,
                    bytes: counter.bytes,
                    span: counter.name.span,
                });
                if let Some(id) = id {
                    scope.counters.push((counter.name, id));
                }
            }
            TableItem::Set(set) => {
                if let Some((first, _)) = find(&scope.sets, set.name.text) {
                    return self.second("set or map", set.name, first);
                }
                let declared = self.declare_set(set);
                scope.sets.push((set.name, self.checked.sets.len()));
                self.checked.sets.push(declared);
            }
            TableItem::Chain(chain) => {
                if let Some((first, _)) = find(&scope.chains, chain.name.text) {
                    return self.second("chain", chain.name, first);
                }
                scope.chains.push((chain.name, self.checked.chains.len()));
                let base = chain.hook.as_ref().map(|hook| Base {
                    priority: self.hook(hook, scope.family),
                    accept: chain.policy.is_none_or(|(accept, _)| accept),
                });
                if let (None, Some((_, span)), false) = (&chain.hook, chain.policy, chain.damaged) {
                    let problem = Problem::new(span, "a policy of a chain without a hook", "");
                    self.note(problem.hint(
                        "begin the chain with `type filter hook forward priority 0;`, or leave \
                         the policy out: a chain that is jumped to returns at its end",
                    ));
                }
                self.checked.chains.push(Chain {
                    name: chain.name.text.to_owned(),
                    span: chain.name.span,
                    base,
                    rules: Vec::new(),
                });
            }
        }
    }

    /// Something with a name that another one has.
    fn second(&mut self, what: &str, name: Name<'t>, first: Name<'t>) {
        let message = format!("a second {what} `{}` in a table", name.text);
        let problem = Problem::new(name.span, message, "").also(first.span, "the first one");
        self.note(match what {
            "chain" => problem.hint("write its rules into the first one, or give it a name"),
            _ => problem,
        });
    }

    fn new_counter(&mut self, start: CounterStart) -> Option<CounterId> {
        let span = start.span;
        self.checked.counters.push(start);
        // The first one has number 1.
        let number = u16::try_from(self.checked.counters.len()).ok();
        let id = number.and_then(std::num::NonZeroU16::new).map(CounterId);
        if id.is_none() {
            let label = "this one is too many";
            self.note(Problem::new(span, "more than 65535 counters", label));
        }
        id
    }

    fn table(&mut self, table: &'t ast::Table<'t>, scope: usize) {
        let Some(scope) = self.scopes.get(scope).cloned() else {
            return;
        };
        self.names.enter();
        for item in &table.items {
            match item {
                TableItem::Define(define) => self.names.define(define, self.problems),
                TableItem::Helper(_) | TableItem::Counter(_) => {}
                TableItem::Set(set) => {
                    if let Some(&(first, number)) = find(&scope.sets, set.name.text).as_ref()
                        && first.span == set.name.span
                    {
                        let jumps = self.jumps.len();
                        self.fill_set(set, number, &scope);
                        // Whoever asks the map makes them.
                        self.jumps.truncate(jumps);
                    }
                }
                TableItem::Chain(chain) => {
                    if let Some((first, number)) = find(&scope.chains, chain.name.text)
                        && first.span == chain.name.span
                    {
                        let mut rules = Vec::with_capacity(chain.rules.len());
                        for rule in &chain.rules {
                            let (jumps, uses) = (self.jumps.len(), self.map_uses.len());
                            rules.push(self.rule(rule, &scope));
                            for jump in self.jumps.iter_mut().skip(jumps) {
                                jump.from = number;
                            }
                            for map_use in self.map_uses.iter_mut().skip(uses) {
                                map_use.chain = number;
                            }
                        }
                        if let Some(chain) = self.checked.chains.get_mut(number) {
                            chain.rules = rules;
                        }
                    }
                }
            }
        }
        self.names.leave();
    }

    fn helper(&mut self, helper: &Helper<'t>, scope: &mut Scope<'t>) {
        let Name { text: name, span } = helper.name;
        if let Some(first) = scope.helpers.iter().find(|first| first.name == name) {
            let problem = Problem::new(span, format!("a second helper object {name:?}"), "");
            let problem = problem.also(first.span, "the first one");
            return self.note(problem);
        }
        match helper.kind {
            Some(kind) if kind.text == "ftp" => {}
            Some(kind) => {
                let message = format!("`{}` is not a helper of lotus", kind.text.escape_debug());
                self.note(Problem::new(kind.span, message, "").hint("lotus reads FTP: \"ftp\""));
            }
            None if helper.damaged => {}
            None => {
                let problem = Problem::new(span, format!("helper {name:?} has no type"), "");
                self.note(problem.hint("write `type \"ftp\" protocol tcp;` into it"));
            }
        }
        let is_ftp = helper.kind.is_some_and(|kind| kind.text == "ftp");
        if let Some(protocol) = helper
            .protocol
            .filter(|protocol| is_ftp && protocol.text != "tcp")
        {
            self.note(Problem::new(protocol.span, "FTP runs over TCP", "").hint("`protocol tcp`"));
        }
        let family = match helper.l3proto.map(|l3| (l3.text, l3.span)) {
            None | Some(("inet", _)) => None,
            Some(("ip", _)) => Some(Family::V4),
            Some(("ip6", _)) => Some(Family::V6),
            Some((other, span)) => {
                let problem = Problem::new(span, format!("`{other}` is not a family"), "");
                self.note(problem.hint("one of: ip, ip6, inet"));
                None
            }
        };
        let profile = helper.comment.and_then(|comment| {
            let profile = comment.text.strip_prefix("lotus:")?;
            if profile.is_empty() {
                let problem = Problem::new(comment.span, "`lotus:` names no profile", "");
                self.note(problem.hint("for example comment \"lotus:ftps\""));
            }
            Some(profile.to_owned())
        });
        let Ok(id) = u8::try_from(self.checked.helpers.len()) else {
            let problem = Problem::new(span, "more than 256 helper objects", "");
            return self.note(problem.hint("many rules can share one"));
        };
        scope.helpers.push(HelperRef {
            name: name.to_owned(),
            id: HelperId(id),
            family,
            comment: helper.comment.map(|comment| comment.text.to_owned()),
            span,
        });
        self.checked.helpers.push(HelperObject {
            name: name.to_owned(),
            profile,
        });
    }

    /// A base chain's priority.
    fn hook(&mut self, hook: &Hook<'t>, family: TableFamily) -> i32 {
        if hook.kind.text != "filter" {
            let message = format!("chains of the type `{}` are not supported", hook.kind.text);
            let problem = Problem::new(hook.kind.span, message, "");
            self.note(problem.hint(
                "lotus changes and routes no packets: leave the chain out, or write `type filter`",
            ));
            return 0;
        }
        if hook.hook.text != "forward" {
            let message = format!("the hook `{}` is not supported", hook.hook.text);
            let problem = Problem::new(hook.hook.span, message, "");
            let near = super::names::nearest(["forward"], hook.hook.text);
            self.note(problem.hint(match near {
                Some(_) => "did you mean `forward`?",
                None => {
                    "write `hook forward`: what lotus sees passes between its two ports, nothing \
                     begins or ends in it"
                }
            }));
            return 0;
        }
        let base = match hook.base {
            None => 0,
            Some(base) => {
                let known = if family == TableFamily::Bridge {
                    PRIORITIES_BRIDGE
                } else {
                    PRIORITIES_INET
                };
                let found = known.iter().find(|&&(name, _)| name == base.text);
                found.map_or_else(
                    || {
                        let message = format!("the priority `{}` is not supported", base.text);
                        let names: Vec<_> = known.iter().map(|&(name, _)| name).collect();
                        let hint = format!("write a number, or one of: {}", names.join(", "));
                        self.note(Problem::new(base.span, message, "").hint(hint));
                        0
                    },
                    |&(_, priority)| priority,
                )
            }
        };
        base.saturating_add(hook.offset)
    }

    fn note(&mut self, problem: Problem) {
        self.problems.push(problem);
    }
}

fn family_named(name: &str) -> Option<TableFamily> {
    Some(match name {
        "bridge" => TableFamily::Bridge,
        "inet" => TableFamily::Inet,
        "ip" => TableFamily::Ip,
        "ip6" => TableFamily::Ip6,
        _ => return None,
    })
}

/// What was declared with this name.
fn find<'t, T: Copy>(declared: &[(Name<'t>, T)], name: &str) -> Option<(Name<'t>, T)> {
    declared
        .iter()
        .find(|(known, _)| known.text == name)
        .copied()
}

/// A hint for a name that nothing has.
fn known_names<'n>(what: &str, names: impl Iterator<Item = &'n str> + Clone, name: &str) -> String {
    if let Some(near) = super::names::nearest(names.clone(), name) {
        return format!("did you mean `{near}`?");
    }
    let all: Vec<_> = names.collect();
    if all.is_empty() {
        format!("it has none; a {what} belongs to one table")
    } else {
        format!("the table has: {}", all.join(", "))
    }
}

/// A set that was declared and has no elements yet.
fn empty_set(name: Option<String>, span: Span) -> Set {
    Set {
        name,
        types: Vec::new(),
        fields: None,
        interval: false,
        auto_merge: false,
        rows: Vec::new(),
        verdicts: None,
        lookup: super::lookup::Lookup::default(),
        span,
    }
}
