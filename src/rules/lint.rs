//! What is odd about rules and no error.

use super::checked::{Chain, Checked, Rule, Statement, Test, Verdict};
use super::diagnostic::Problem;
use super::field::{End, Field, Ports};
use super::lookup::Interval;

/// The port at which FTP servers listen, RFC 959.
const FTP_PORT: u128 = 21;

/// An open range of so many high ports is one that somebody was told to open for FTP.
const MANY_PORTS: u128 = 1000;
const FIRST_HIGH_PORT: u128 = 1024;

/// Chains of more rules are not searched for rules that cover others: it takes the square.
const MAX_RULES_COMPARED: usize = 2000;

/// Sets of more elements are not looked into: rules may be many.
const MAX_INTERVALS: usize = 64;

/// Every warning.
pub(super) fn warnings(checked: &Checked) -> Vec<Problem> {
    let mut found = Vec::new();
    for chain in &checked.chains {
        unreachable(chain, checked, &mut found);
        accept_all(chain, &mut found);
    }
    unused(checked, &mut found);
    ftp(checked, &mut found);
    if checked.chains.iter().all(|chain| chain.base.is_none())
        && let Some(table) = checked.tables.first()
    {
        let problem = Problem::warning(
            table.span,
            "no chain hangs on a hook: everything passes",
            "",
        );
        found.push(
            problem.hint("begin one with `type filter hook forward priority 0; policy drop;`"),
        );
    }
    found
}

/// The verdict with which a rule ends, if it has one.
fn verdict(rule: &Rule) -> Option<Verdict> {
    match rule.statements.last() {
        Some(Statement::Verdict(verdict)) => Some(*verdict),
        _ => None,
    }
}

fn matches(rule: &Rule) -> impl Iterator<Item = &Statement> {
    let conditions = rule.statements.iter();
    conditions.filter(|statement| {
        matches!(
            statement,
            Statement::Match { .. } | Statement::Limit(_) | Statement::Vmap { .. }
        )
    })
}

/// Rules behind one that takes every packet, or every packet that they could take.
fn unreachable(chain: &Chain, checked: &Checked, found: &mut Vec<Problem>) {
    let compared = chain.rules.len() <= MAX_RULES_COMPARED;
    let mut ending: Vec<&Rule> = Vec::new();
    let mut takes_all: Option<&Rule> = None;
    for rule in &chain.rules {
        if let Some(before) = takes_all {
            let problem = Problem::warning(rule.span, "this rule is never reached", "");
            found.push(problem.also(before.span, "this one takes every packet"));
            // One is enough: it is so for all that follow.
            return;
        }
        if compared && let Some(before) = ending.iter().find(|before| covers(before, rule, checked))
        {
            let problem = Problem::warning(rule.span, "this rule is never reached", "");
            found.push(problem.also(
                before.span,
                "this one takes every packet that it could match",
            ));
        }
        if verdict(rule).is_some_and(Verdict::ends_chain) {
            ending.push(rule);
            takes_all = takes_all.or(matches(rule).next().is_none().then_some(rule));
        }
    }
}

/// Whether each match of `wide` lets through all that some match of `narrow` does.
fn covers(wide: &Rule, narrow: &Rule, checked: &Checked) -> bool {
    matches(wide).all(|wide| {
        let Statement::Match { fields, test, .. } = wide else {
            return false;
        };
        let [field] = fields.as_slice() else {
            return false;
        };
        let Some(wide) = values(*test, checked) else {
            return false;
        };
        matches(narrow).any(|narrow| match narrow {
            Statement::Match {
                fields: narrow,
                test,
                ..
            } if narrow.as_slice() == [*field] => {
                values(*test, checked).is_some_and(|narrow| is_within(&narrow, &wide))
            }
            _ => false,
        })
    })
}

/// The values that a test lets through, if they can be told.
fn values(test: Test, checked: &Checked) -> Option<Vec<Interval>> {
    match test {
        Test::Range {
            interval,
            negated: false,
        } => Some(vec![interval]),
        Test::Set {
            set,
            negated: false,
        } => {
            let set = checked.sets.get(set)?;
            if set.rows.len() > MAX_INTERVALS {
                return None;
            }
            Some(set.rows.iter().map(|row| row.first).collect())
        }
        _ => None,
    }
}

fn is_within(narrow: &[Interval], wide: &[Interval]) -> bool {
    narrow
        .iter()
        .all(|(low, high)| wide.iter().any(|(from, to)| from <= low && high <= to))
}

/// A firewall that lets everything through.
fn accept_all(chain: &Chain, found: &mut Vec<Problem>) {
    let Some(base) = chain.base else { return };
    let all = chain
        .rules
        .iter()
        .find(|rule| verdict(rule) == Some(Verdict::Accept) && matches(rule).next().is_none());
    if let Some(rule) = all {
        let problem = Problem::warning(rule.span, "this rule accepts every packet", "");
        found.push(problem.hint("it is what `policy accept` does; maybe a match is missing"));
    } else if base.accept && chain.rules.iter().all(|rule| !is_drop(rule)) {
        let problem = Problem::warning(chain.span, "this chain accepts every packet", "");
        found.push(problem.hint("no rule of it drops anything and its policy is accept"));
    }
}

/// Whether a rule may drop, itself or by where it goes.
fn is_drop(rule: &Rule) -> bool {
    rule.statements.iter().any(|statement| {
        matches!(
            statement,
            Statement::Vmap { .. }
                | Statement::Verdict(
                    Verdict::Drop | Verdict::Reject(_) | Verdict::Jump(_) | Verdict::Goto(_)
                )
        )
    })
}

/// Sets, maps, chains, counters and helpers that no rule names.
fn unused(checked: &Checked, found: &mut Vec<Problem>) {
    let mut sets = vec![false; checked.sets.len()];
    let mut chains = vec![false; checked.chains.len()];
    let mut helpers = vec![false; checked.helpers.len()];
    let mut counters = vec![false; checked.counters.len()];
    let mark = |all: &mut Vec<bool>, at: usize| {
        if let Some(slot) = all.get_mut(at) {
            *slot = true;
        }
    };
    for rule in checked.chains.iter().flat_map(|chain| &chain.rules) {
        for statement in &rule.statements {
            match statement {
                Statement::Match {
                    test: Test::Set { set, .. },
                    ..
                }
                | Statement::Vmap { set, .. } => mark(&mut sets, *set),
                Statement::Count { id, .. } => mark(&mut counters, usize::from(id.0.get()) - 1),
                Statement::SetHelper { id, .. } => mark(&mut helpers, usize::from(id.0)),
                Statement::Verdict(Verdict::Jump(to) | Verdict::Goto(to)) => mark(&mut chains, *to),
                _ => {}
            }
        }
    }
    for (set, _) in checked.sets.iter().zip(&sets).filter(|(_, used)| **used) {
        for verdict in set.verdicts.iter().flatten() {
            if let Verdict::Jump(to) | Verdict::Goto(to) = verdict {
                mark(&mut chains, *to);
            }
        }
    }
    for (set, used) in checked.sets.iter().zip(&sets) {
        if let (Some(name), false) = (&set.name, used) {
            let what = if set.verdicts.is_some() { "map" } else { "set" };
            let message = format!("no rule uses the {what} `{name}`");
            found.push(Problem::warning(set.span, message, ""));
        }
    }
    for (chain, used) in checked.chains.iter().zip(&chains) {
        if chain.base.is_none() && !used {
            let message = format!("nothing jumps to the chain `{}`", chain.name);
            let problem = Problem::warning(chain.span, message, "");
            found.push(problem.hint(
                "it hangs on no hook: begin it with `type filter hook forward priority 0;`, or \
                 jump to it",
            ));
        }
    }
    for (counter, used) in checked.counters.iter().zip(&counters) {
        if let (Some(name), false) = (&counter.name, used) {
            let message = format!("no rule uses the counter `{name}`");
            found.push(Problem::warning(counter.span, message, ""));
        }
    }
    for helper in checked.tables.iter().flat_map(|table| &table.helpers) {
        if helpers.get(usize::from(helper.id.0)) == Some(&false) {
            let message = format!("no rule uses the helper `{}`", helper.name);
            let problem = Problem::warning(helper.span, message, "");
            found.push(problem.hint(format!(
                "write `tcp dport 21 ct state new ct helper set \"{}\" accept`",
                helper.name
            )));
        }
    }
}

/// FTP that is open without a helper, and ports that nobody needs to open.
fn ftp(checked: &Checked, found: &mut Vec<Problem>) {
    let sets_helper = |rule: &Rule| {
        let mut statements = rule.statements.iter();
        statements.any(|statement| matches!(statement, Statement::SetHelper { .. }))
    };
    let rules = || checked.chains.iter().flat_map(|chain| &chain.rules);
    let any_helper = rules().any(sets_helper);
    for rule in rules() {
        if verdict(rule) != Some(Verdict::Accept) || !may_be_new(rule, checked) {
            continue;
        }
        let Some(ports) = tcp_ports(rule, checked) else {
            continue;
        };
        let names_ftp = ports
            .iter()
            .any(|&(low, high)| low == FTP_PORT && high == FTP_PORT);
        if names_ftp && !sets_helper(rule) && !any_helper {
            let problem = Problem::warning(rule.span, "FTP without a helper", "");
            found.push(problem.hint(
                "without one no data connection passes: add `ct helper NAME { type \"ftp\" \
                 protocol tcp; }` to the table and `ct helper set \"NAME\"` to this rule",
            ));
        }
        let many = ports
            .iter()
            .any(|&(low, high)| low >= FIRST_HIGH_PORT && high - low >= MANY_PORTS);
        if many && any_helper {
            let problem = Problem::warning(rule.span, "a wide range of ports is open", "");
            found.push(problem.hint(
                "not needed for FTP: the helper opens the one port that each session agreed on \
                 (for FTPS name the server's range in a settings profile, `tls-ports`)",
            ));
        }
    }
}

/// Whether a rule can match packets of new connections.
fn may_be_new(rule: &Rule, checked: &Checked) -> bool {
    let new = crate::conntrack::CtState::New as u128;
    matches(rule).all(|statement| match statement {
        Statement::Match { fields, test, .. } if fields.as_slice() == [Field::CtState] => {
            values(*test, checked)
                .is_none_or(|states| states.iter().any(|&(low, high)| low <= new && new <= high))
        }
        _ => true,
    })
}

/// The TCP ports that a rule is about.
fn tcp_ports(rule: &Rule, checked: &Checked) -> Option<Vec<Interval>> {
    matches(rule).find_map(|statement| match statement {
        Statement::Match { fields, test, .. } => match fields.as_slice() {
            [Field::Port(Ports::Tcp | Ports::Any, End::Destination)] => values(*test, checked),
            _ => None,
        },
        _ => None,
    })
}
