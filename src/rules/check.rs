//! Tree to program: names are resolved, values read, and what cannot be meant is refused.

use super::ast::{
    Atom, Chain, Expr, Field, Helper, Hook, Item, Name, Rule, Shape, Statement, Table, TableItem,
};
use super::define::{Definitions, Piece};
use super::diagnostic::{Problem, line_starts};
use super::intervals::{IntervalSet, Number};
use super::layers::Layers;
use super::lexer::Span;
use super::program::{BaseChain, Family, Op, Program, Step, Test};
use super::values::{self, Numbers, Value};
use super::{CounterId, HelperId, HelperObject, PortNames};
use crate::conntrack::CtState;
use crate::wire::Side;

/// What `filter` stands for as a priority: NF_IP_PRI_FILTER and NF_BR_PRI_FILTER_BRIDGED of
/// the kernel.
const FILTER_PRIORITY_INET: i32 = 0;
const FILTER_PRIORITY_BRIDGE: i32 = -200;

/// A program and what belongs to it.
#[derive(Debug, Default)]
pub(super) struct Checked {
    pub(super) program: Program,
    pub(super) helpers: Vec<HelperObject>,
    pub(super) counters: Vec<CounterStart>,
    /// One for each base chain, in the order in which they run.
    pub(super) chains: Vec<ChainSummary>,
}

/// A counter as it begins.
#[derive(Debug)]
pub(super) struct CounterStart {
    pub(super) line: u32,
    pub(super) rule: String,
    pub(super) packets: u64,
    pub(super) bytes: u64,
}

#[derive(Debug)]
pub(super) struct ChainSummary {
    pub(super) table: String,
    pub(super) rules: usize,
    pub(super) accept: bool,
}

/// Checks a whole file. The program counts only if no problem was noted.
pub(super) fn check<'t>(
    items: &[Item<'t>],
    text: &'t str,
    ports: &'t PortNames,
    problems: &mut Vec<Problem>,
) -> Checked {
    let mut checker = Checker {
        text,
        lines: line_starts(text),
        ports,
        names: Definitions::new(ports),
        problems,
        checked: Checked::default(),
        placed: Vec::new(),
    };
    let mut tables: Vec<&Table<'t>> = Vec::new();
    for item in items {
        match item {
            Item::Define(define) => checker.names.define(define, checker.problems),
            Item::Table(table) => {
                let same = |other: &&&Table<'t>| {
                    other.family.text == table.family.text && other.name.text == table.name.text
                };
                if let Some(first) = tables.iter().find(same) {
                    let problem = Problem::new(
                        table.name.span,
                        format!("a second table `{} {}`", table.family.text, table.name.text),
                        "",
                    );
                    checker.note(problem.also(first.name.span, "the first one"));
                }
                tables.push(table);
                checker.table(table);
            }
        }
    }
    if tables.is_empty() && checker.problems.is_empty() {
        let end = Span {
            start: text.len(),
            end: text.len(),
        };
        checker.note(Problem::new(end, "the file has no table", "").hint(
            "without rules everything would pass; `lotus check --print-default` shows a start",
        ));
    }
    checker.finish()
}

struct Checker<'t, 'p> {
    text: &'t str,
    /// Where each line begins.
    lines: Vec<usize>,
    ports: &'t PortNames,
    names: Definitions<'t>,
    problems: &'p mut Vec<Problem>,
    checked: Checked,
    /// Chains with what orders them: the bridge family first, then by priority.
    placed: Vec<((bool, i32), BaseChain, ChainSummary)>,
}

/// What a rule needs to know of the table it stands in.
struct Scope<'t> {
    inet: bool,
    /// The helper objects of the table.
    helpers: Vec<(Name<'t>, Option<HelperId>, Option<Family>)>,
}

impl<'t> Checker<'t, '_> {
    fn finish(mut self) -> Checked {
        // Of equal priorities the last runs first, as the kernel puts a new hook before others.
        self.placed.reverse();
        self.placed.sort_by_key(|&(order, ..)| order);
        for (_, chain, summary) in self.placed {
            self.checked.program.chains.push(chain);
            self.checked.chains.push(summary);
        }
        self.checked
    }

    fn table(&mut self, table: &Table<'t>) {
        let inet = match table.family.text {
            "inet" => true,
            "bridge" => false,
            other => {
                let known = matches!(other, "ip" | "ip6" | "arp" | "netdev");
                let problem = Problem::new(
                    table.family.span,
                    if known {
                        format!("tables of the family `{other}` are not supported")
                    } else {
                        format!("`{other}` is not a family of tables")
                    },
                    "",
                );
                self.note(problem.hint(match other {
                    "ip" => "write `table inet`, and `ip saddr` or `ether type ip` in its rules",
                    "ip6" => "write `table inet`, and `ip6 saddr` or `ether type ip6` in its rules",
                    _ => "write `table inet` (IPv4 and IPv6) or `table bridge` (every frame)",
                }));
                other != "arp" && other != "netdev"
            }
        };
        let mut scope = Scope {
            inet,
            helpers: Vec::new(),
        };
        // Rules may name a helper object that stands below them.
        for item in &table.items {
            if let TableItem::Helper(helper) = item {
                self.helper(helper, &mut scope);
            }
        }
        self.names.enter();
        let mut first: Option<&Chain<'t>> = None;
        for item in &table.items {
            match item {
                TableItem::Define(define) => self.names.define(define, self.problems),
                TableItem::Helper(_) => {}
                TableItem::Chain(chain) => {
                    if let Some(first) = first {
                        let problem =
                            Problem::new(chain.name.span, "a second chain in a table", "")
                                .also(first.name.span, "the first one");
                        self.note(
                            problem
                                .hint("write its rules into the first one, or make another table"),
                        );
                    }
                    first.get_or_insert(chain);
                    self.chain(chain, table, &scope);
                }
            }
        }
        self.names.leave();
    }

    fn helper(&mut self, helper: &Helper<'t>, scope: &mut Scope<'t>) {
        let Name { text: name, span } = helper.name;
        if let Some((first, ..)) = scope.helpers.iter().find(|(first, ..)| first.text == name) {
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
        if let Some(protocol) = helper.protocol.filter(|protocol| protocol.text != "tcp") {
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
        let id = u8::try_from(self.checked.helpers.len()).ok().map(HelperId);
        if id.is_none() {
            let problem = Problem::new(span, "more than 256 helper objects", "");
            self.note(problem.hint("many rules can share one"));
        }
        scope.helpers.push((helper.name, id, family));
        self.checked.helpers.push(HelperObject {
            name: name.to_owned(),
            profile,
        });
    }

    fn chain(&mut self, chain: &Chain<'t>, table: &Table<'t>, scope: &Scope<'t>) {
        let priority = match &chain.hook {
            Some(hook) => self.hook(hook, scope),
            None if chain.damaged => 0,
            None => {
                let message = format!("chain `{}` hangs on no hook", chain.name.text);
                self.note(Problem::new(chain.name.span, message, "").hint(
                    "begin it with `type filter hook forward priority 0; policy drop;` (chains \
                     to jump to are not supported)",
                ));
                0
            }
        };
        let first_step = self.next_step();
        for rule in &chain.rules {
            self.rule(rule, scope);
        }
        let accept = chain.policy.is_none_or(|(accept, _)| accept);
        let summary = ChainSummary {
            table: format!("{} {}", table.family.text, table.name.text),
            rules: chain.rules.len(),
            accept,
        };
        let steps = (first_step, self.next_step());
        let base = BaseChain {
            ip_only: scope.inet,
            steps,
            accept,
        };
        self.placed.push(((scope.inet, priority), base, summary));
    }

    fn hook(&mut self, hook: &Hook<'t>, scope: &Scope<'t>) -> i32 {
        if hook.kind.text != "filter" {
            let message = format!("chains of the type `{}` are not supported", hook.kind.text);
            self.note(Problem::new(hook.kind.span, message, "").hint("write `type filter`"));
        }
        if hook.hook.text != "forward" {
            let message = format!("the hook `{}` is not supported", hook.hook.text);
            self.note(Problem::new(hook.hook.span, message, "").hint(
                "write `hook forward`: what lotus sees passes between its two ports, nothing \
                 begins or ends in it",
            ));
        }
        let base = match hook.base {
            None => 0,
            Some(base) => {
                if base.text != "filter" {
                    let message = format!("the priority `{}` is not supported", base.text);
                    let problem = Problem::new(base.span, message, "");
                    self.note(problem.hint("write `filter` or a number"));
                }
                if scope.inet {
                    FILTER_PRIORITY_INET
                } else {
                    FILTER_PRIORITY_BRIDGE
                }
            }
        };
        base.saturating_add(hook.offset)
    }

    fn rule(&mut self, rule: &Rule<'t>, scope: &Scope<'t>) {
        let first = self.checked.program.steps.len();
        let mut layers = Layers::new(scope.inet);
        let mut verdict: Option<bool> = None;
        for statement in &rule.statements {
            if verdict.is_some() && *statement != Statement::Comment {
                let message = "a rule ends with its verdict";
                let problem = Problem::new(rule.span, message, "something follows a verdict here");
                self.note(problem.hint("put the verdict last; after it only a comment may stand"));
                break;
            }
            let op = match statement {
                Statement::Comment => None,
                Statement::Match {
                    field,
                    negated,
                    value,
                    span,
                } => self.matching(*field, *negated, value, *span, &mut layers),
                Statement::Counter { packets, bytes } => self.counter(rule, *packets, *bytes),
                Statement::SetHelper(name) => self.set_helper(name, scope),
                Statement::Verdict { accept } => {
                    verdict = Some(*accept);
                    Some(if *accept { Op::Accept } else { Op::Drop })
                }
            };
            if let Some(op) = op {
                self.checked.program.steps.push(Step { op, next_rule: 0 });
            }
        }
        let next_rule = self.next_step();
        for step in self.checked.program.steps.iter_mut().skip(first) {
            step.next_rule = next_rule;
        }
    }

    fn matching(
        &mut self,
        field: Field,
        negated: bool,
        value: &Expr<'t>,
        span: Span,
        layers: &mut Layers,
    ) -> Option<Op> {
        if value.shape == Shape::List && (field != Field::CtState || negated) {
            let inner = value.span.of(self.text);
            let problem = Problem::new(value.span, "a list without braces", "");
            self.note(problem.hint(format!("write a set: `{{ {inner} }}`")));
            return None;
        }
        let pieces = self.names.resolve(value, self.problems)?;
        let op = match field {
            Field::IifName => Op::CameIn(self.sides(&pieces, negated, Side::index)?),
            Field::OifName => {
                Op::CameIn(self.sides(&pieces, negated, |side| side.other().index())?)
            }
            Field::CtState => Op::CtState(self.states(&pieces, negated)?),
            Field::EtherType => {
                let test = self.numbers(values::ETHERTYPE, &pieces, negated)?;
                Op::EtherType(test)
            }
            Field::EtherAddr(end) => Op::EtherAddr(end, self.test(&pieces, negated, values::mac)?),
            Field::IpAddr(end) => Op::Ip4Addr(end, self.test(&pieces, negated, values::ipv4)?),
            Field::Ip6Addr(end) => Op::Ip6Addr(end, self.test(&pieces, negated, values::ipv6)?),
            Field::Ip6HopLimit => {
                Op::HopLimit6(self.numbers(values::HOP_LIMIT, &pieces, negated)?)
            }
            Field::L4Proto => Op::Protocol(None, self.numbers(values::PROTOCOL, &pieces, negated)?),
            Field::IpProtocol => Op::Protocol(
                Some(Family::V4),
                self.numbers(values::PROTOCOL, &pieces, negated)?,
            ),
            Field::Ip6NextHeader => {
                let test = self.test(&pieces, negated, next_header)?;
                Op::Protocol(Some(Family::V6), test)
            }
            Field::Port(ports, end) => {
                Op::Port(ports, end, self.numbers(values::PORT, &pieces, negated)?)
            }
            Field::IcmpType => Op::IcmpType(
                Family::V4,
                self.numbers(values::ICMP_TYPE, &pieces, negated)?,
            ),
            Field::Icmpv6Type => Op::IcmpType(
                Family::V6,
                self.numbers(values::ICMPV6_TYPE, &pieces, negated)?,
            ),
        };
        if let Some(problem) = layers.narrow(&op, field, span) {
            self.note(problem);
        }
        Some(op)
    }

    fn numbers(
        &mut self,
        numbers: Numbers,
        pieces: &[Piece<'t>],
        negated: bool,
    ) -> Option<Test<u16>> {
        self.test(pieces, negated, |word| numbers.value(word))
    }

    fn test<T: Number>(
        &mut self,
        pieces: &[Piece<'t>],
        negated: bool,
        value: impl Fn(&str) -> Value<T>,
    ) -> Option<Test<T>> {
        let mut intervals = Vec::with_capacity(pieces.len());
        for piece in pieces {
            if let Some(interval) = self.interval(piece, &value) {
                intervals.push(interval);
            }
        }
        // With a value missing the program will not be used; a problem was noted.
        let whole = intervals.len() == pieces.len();
        whole.then(|| Test {
            set: IntervalSet::of(intervals),
            negated,
        })
    }

    fn interval<T: Number>(
        &mut self,
        piece: &Piece<'t>,
        value: impl Fn(&str) -> Value<T>,
    ) -> Option<(T, T)> {
        let mut read = |word: &str| match value(word) {
            Ok(interval) => Some(interval),
            Err(fault) => {
                let problem = piece.problem(fault.message).hint(fault.hint);
                self.problems.push(problem);
                None
            }
        };
        let low = read(piece.low);
        let Some(high) = piece.high else { return low };
        let (low, high) = (low?, read(high)?);
        let problem = if low.0 != low.1 || high.0 != high.1 {
            piece
                .problem("a range from or to a prefix")
                .hint("write the two addresses")
        } else if low > high {
            piece
                .problem("the range ends before it begins")
                .hint("the smaller end comes first")
        } else {
            return Some((low.0, high.1));
        };
        self.note(problem);
        None
    }

    /// One bit for each port, placed by `index`.
    fn sides(
        &mut self,
        pieces: &[Piece<'t>],
        negated: bool,
        index: impl Fn(Side) -> usize,
    ) -> Option<u8> {
        let (mut bits, mut known) = (0u8, true);
        for piece in pieces {
            let side = match piece.low {
                _ if piece.high.is_some() => None,
                name if name == self.ports.inside => Some(Side::Inside),
                name if name == self.ports.outside => Some(Side::Outside),
                _ => None,
            };
            match side {
                Some(side) => bits |= 1 << index(side),
                None => {
                    known = false;
                    self.unknown_port(piece);
                }
            }
        }
        let all = 0b11;
        known.then_some(if negated { all & !bits } else { bits })
    }

    fn unknown_port(&mut self, piece: &Piece<'t>) {
        let PortNames { inside, outside } = self.ports;
        let name = piece.low.escape_debug();
        let mut hint = format!(
            "the two ports are \"{inside}\" (inside) and \"{outside}\" (outside), as --inside and \
             --outside name them; `$inside` and `$outside` fit any names"
        );
        if piece.low.contains('*') {
            hint = format!("patterns are not supported; {hint}");
        }
        self.note(
            piece
                .problem(format!("no port is called \"{name}\""))
                .hint(hint),
        );
    }

    /// One bit for each state.
    fn states(&mut self, pieces: &[Piece<'t>], negated: bool) -> Option<u8> {
        let mut bits = 0u8;
        let mut known = true;
        for piece in pieces {
            let state = match piece.low {
                _ if piece.high.is_some() => None,
                "invalid" => Some(CtState::Invalid),
                "new" => Some(CtState::New),
                "established" => Some(CtState::Established),
                "related" => Some(CtState::Related),
                "untracked" => Some(CtState::Untracked),
                _ => None,
            };
            match state {
                Some(state) => bits |= 1 << state as u8,
                None => {
                    known = false;
                    let message = format!("`{}` is not a state", piece.low.escape_debug());
                    self.note(
                        piece
                            .problem(message)
                            .hint("the states: new, established, related, invalid, untracked"),
                    );
                }
            }
        }
        known.then_some(if negated { !bits } else { bits })
    }

    fn counter(&mut self, rule: &Rule<'t>, packets: u64, bytes: u64) -> Option<Op> {
        let line = self
            .lines
            .partition_point(|&start| start <= rule.span.start);
        self.checked.counters.push(CounterStart {
            line: u32::try_from(line).unwrap_or(u32::MAX),
            rule: rule
                .span
                .of(self.text)
                .split_whitespace()
                .collect::<Vec<_>>()
                .join(" "),
            packets,
            bytes,
        });
        // The first one has number 1.
        let number = u16::try_from(self.checked.counters.len()).ok();
        let Some(id) = number.and_then(std::num::NonZeroU16::new) else {
            self.note(Problem::new(
                rule.span,
                "more than 65535 counters",
                "this one is too many",
            ));
            return None;
        };
        Some(Op::Count(CounterId(id)))
    }

    fn set_helper(&mut self, name: &Atom<'t>, scope: &Scope<'t>) -> Option<Op> {
        let piece = self.names.single(name, self.problems)?;
        if let Some((_, id, family)) = scope.helpers.iter().find(|(n, ..)| n.text == piece.low) {
            return id.map(|id| Op::SetHelper(id, *family));
        }
        let wanted = piece.low.escape_debug();
        let known: Vec<_> = scope
            .helpers
            .iter()
            .map(|(n, ..)| format!("{:?}", n.text))
            .collect();
        let hint = if known.is_empty() {
            format!("add `ct helper {wanted} {{ type \"ftp\" protocol tcp; }}` to the table")
        } else {
            format!("the table has: {}", known.join(", "))
        };
        self.note(
            piece
                .problem(format!("the table has no helper \"{wanted}\""))
                .hint(hint),
        );
        None
    }

    fn next_step(&self) -> u32 {
        u32::try_from(self.checked.program.steps.len()).unwrap_or(u32::MAX)
    }

    fn note(&mut self, problem: Problem) {
        self.problems.push(problem);
    }
}

/// The headers that a packet's protocol stands behind, so that it never is one of them.
fn next_header(word: &str) -> Value<u16> {
    /// Hop-by-hop, routing, fragment, authentication, destination options (RFC 8200 section 4).
    const WALKED: [u16; 5] = [0, 43, 44, 51, 60];
    match values::PROTOCOL.value(word) {
        Ok((number, _)) if WALKED.contains(&number) => Err(values::Fault {
            message: format!("`{word}` is an extension header"),
            hint: "lotus looks behind extension headers, as `meta l4proto` does".to_owned(),
        }),
        value => value,
    }
}
