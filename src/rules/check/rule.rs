//! Rules: matches with their values, statements, verdicts.

use super::{Checker, CounterStart, Jump, MapUse, Scope, find, known_names};
use crate::rules::Log;
use crate::rules::ast::{
    self, Atom, Expr, Key, Limit, Name, Relation, Right, Shape, Statement as Written, With,
};
use crate::rules::checked::{LimitStart, RejectWith, Rule, Statement, TableFamily, Test, Verdict};
use crate::rules::datatype::Datatype;
use crate::rules::diagnostic::Problem;
use crate::rules::field::{Field, NFPROTO_IPV4, NFPROTO_IPV6};
use crate::rules::intervals::IntervalSet;
use crate::rules::layers::Layers;
use crate::rules::lexer::Span;
use crate::rules::limit;
use crate::rules::lookup::{Interval, Row};
use crate::rules::names::{ETHERTYPE_SERVICE_TAG, ETHERTYPE_VLAN};
use crate::rules::values::{ICMP_CODE, ICMPV6_CODE, ICMPX_CODE, LOG_LEVEL, Value};
use crate::wire::proto;

/// What the kernel stores of a prefix (NF_LOG_PREFIXLEN, with the byte that ends it).
const MAX_PREFIX_BYTES: usize = 127;

/// The level of `log` without one (nft(8)).
const DEFAULT_LEVEL: u8 = 4;

/// The code of `reject` alone: icmpx port-unreachable.
const DEFAULT_REJECT: RejectWith = RejectWith::Icmpx(1);

impl<'t> Checker<'t, '_> {
    pub(super) fn rule(&mut self, rule: &ast::Rule<'t>, scope: &Scope<'t>) -> Rule {
        let mut checked = Rule {
            number: self.rules,
            span: rule.span,
            statements: Vec::with_capacity(rule.statements.len()),
            comment: None,
        };
        let mut layers = Layers::new(scope.family);
        let mut over: Option<Span> = None;
        for statement in &rule.statements {
            if let Written::Comment(comment) = statement {
                checked.comment = Some(comment.text.to_owned());
                continue;
            }
            if let Some(verdict) = over {
                let message = "a rule ends with its verdict";
                let problem = Problem::new(verdict, message, "something follows it");
                self.note(problem.hint("put the verdict last; after it only a comment may stand"));
                break;
            }
            over = match statement {
                Written::Verdict(_, span)
                | Written::Vmap { span, .. }
                | Written::VmapNamed { span, .. } => Some(*span),
                _ => None,
            };
            let found = self.statement(statement, rule, scope, &mut layers);
            checked.statements.extend(found.into_iter().flatten());
        }
        self.rules += 1;
        checked
    }

    /// A `reject` may need a match before it, so there may be two.
    fn statement(
        &mut self,
        statement: &Written<'t>,
        rule: &ast::Rule<'t>,
        scope: &Scope<'t>,
        layers: &mut Layers,
    ) -> [Option<Statement>; 2] {
        let one = |statement| [statement, None];
        let as_seen = |key: &Key| {
            // What the length of a packet is depends on who looks at it.
            let mut key = key.clone();
            for field in &mut key.fields {
                if *field == Field::Length && scope.family == TableFamily::Bridge {
                    *field = Field::FrameLength;
                }
            }
            key
        };
        match statement {
            Written::Comment(_) => [None, None],
            Written::Match {
                key,
                mask,
                relation,
                right,
                span,
            } => one(self.matching(
                &as_seen(key),
                mask.as_ref(),
                *relation,
                right,
                *span,
                scope,
                layers,
            )),
            Written::Vmap {
                key,
                mappings,
                span,
            } => {
                let key = &as_seen(key);
                let types = key.fields.iter().map(|field| field.datatype()).collect();
                let set = self.anonymous_map(mappings, types, scope);
                self.narrow_all(key, *span, layers);
                one(set.map(|set| Statement::Vmap {
                    fields: key.fields.clone(),
                    set,
                }))
            }
            Written::VmapNamed { key, name, span } => {
                let key = &as_seen(key);
                self.narrow_all(key, *span, layers);
                let set = self.set_named(*name, key, true, scope);
                one(set.map(|set| {
                    self.map_uses.push(MapUse {
                        chain: 0,
                        set,
                        span: name.span,
                        rule: self.rules,
                    });
                    Statement::Vmap {
                        fields: key.fields.clone(),
                        set,
                    }
                }))
            }
            Written::Counter { packets, bytes } => {
                let id = self.new_counter(CounterStart {
                    rule: Some(self.rules),
                    name: None,
                    packets: *packets,
                    bytes: *bytes,
                    span: rule.span,
                });
                one(id.map(|id| Statement::Count { id, name: None }))
            }
            Written::CounterNamed(name) => match find(&scope.counters, name.text) {
                Some((_, id)) => one(Some(Statement::Count {
                    id,
                    name: Some(name.text.to_owned()),
                })),
                None => {
                    let message = format!("the table has no counter `{}`", name.text);
                    let all = scope.counters.iter().map(|(name, _)| name.text);
                    let mut hint = known_names("counter", all, name.text);
                    if scope.counters.is_empty() {
                        hint = format!("add `counter {} {{ }}` to the table", name.text);
                    }
                    self.note(Problem::new(name.span, message, "").hint(hint));
                    [None, None]
                }
            },
            Written::Limit(limit, span) => one(Some(self.limit(*limit, *span))),
            Written::Log { prefix, level } => one(self.log(*prefix, *level)),
            Written::SetHelper(name) => one(self.set_helper(name, scope)),
            Written::Verdict(verdict, span) => self.ending(*verdict, *span, scope, layers),
        }
    }

    #[allow(clippy::too_many_arguments)] // a match as it was written
    fn matching(
        &mut self,
        key: &Key,
        mask: Option<&Expr<'t>>,
        relation: Relation,
        right: &Right<'t>,
        span: Span,
        scope: &Scope<'t>,
        layers: &mut Layers,
    ) -> Option<Statement> {
        if key.fields.contains(&Field::NfProto)
            && scope.family == TableFamily::Bridge
            && !scope.name.is_empty()
        {
            let problem = Problem::new(
                key.span,
                "in a bridge table every packet is of `bridge`",
                "",
            );
            self.note(problem.hint("write `ether type ip` or `ether type ip6`"));
            return None;
        }
        let negated = relation == Relation::NotEqual;
        let is_ordering = !matches!(
            relation,
            Relation::Implied | Relation::Equal | Relation::NotEqual
        );
        let several = key.fields.len() > 1;
        if is_ordering && (several || matches!(right, Right::Set(_))) {
            let problem = Problem::new(span, "`<` and `>` compare one field with one number", "");
            self.note(problem.hint("write `==` or `!=`, or nothing"));
            return None;
        }
        let test = match right {
            Right::Set(name) => {
                if let Some(mask) = mask {
                    self.note(mask_problem(mask.span));
                    return None;
                }
                let set = self.set_named(*name, key, false, scope)?;
                Test::Set { set, negated }
            }
            Right::Values(values) if several => {
                if let Some(mask) = mask {
                    self.note(mask_problem(mask.span));
                    return None;
                }
                if values.shape == Shape::List {
                    self.note(self.list_problem(values));
                    return None;
                }
                let types = key.fields.iter().map(|field| field.datatype()).collect();
                let set = self.anonymous_set(values, types)?;
                Test::Set { set, negated }
            }
            Right::Values(values) => {
                let field = *key.fields.first()?;
                self.test(field, mask, relation, values)?
            }
        };
        let known = match (key.fields.as_slice(), test) {
            ([_], Test::Range { interval, negated }) => Some(set_of(vec![interval], negated)),
            ([_], Test::Set { set, negated }) => {
                let set = self.checked.sets.get(set).filter(|set| set.name.is_none());
                set.map(|set| set_of(set.rows.iter().map(|row| row.first).collect(), negated))
            }
            _ => None,
        };
        for &field in &key.fields {
            let known = known.as_ref().filter(|_| key.fields.len() == 1);
            if let Some(problem) = layers.narrow(field, known, span) {
                self.note(problem);
                break;
            }
        }
        Some(Statement::Match {
            fields: key.fields.clone(),
            test,
            span,
            implied: false,
        })
    }

    fn narrow_all(&mut self, key: &Key, span: Span, layers: &mut Layers) {
        for &field in &key.fields {
            if let Some(problem) = layers.narrow(field, None, span) {
                self.note(problem);
                break;
            }
        }
    }

    /// One field against values.
    fn test(
        &mut self,
        field: Field,
        mask: Option<&Expr<'t>>,
        relation: Relation,
        values: &Expr<'t>,
    ) -> Option<Test> {
        let datatype = field.datatype();
        if datatype.is_mask() {
            return self.bits(datatype, mask, relation, values);
        }
        if let Some(mask) = mask {
            self.note(mask_problem(mask.span));
            return None;
        }
        let negated = relation == Relation::NotEqual;
        // `ct state` is a mask in nft, where one packet has one state.
        let takes_list = datatype == Datatype::CtState && !negated;
        if values.shape == Shape::List && !takes_list {
            self.note(self.list_problem(values));
            return None;
        }
        if values.shape != Shape::Single {
            let set = self.anonymous_set(values, vec![datatype])?;
            let found = self.checked.sets.get(set);
            if let Some(row) = found
                .filter(|set| set.rows.len() == 1)
                .and_then(|set| set.rows.first())
                && values.shape == Shape::List
            {
                return Some(Test::Range {
                    interval: row.first,
                    negated,
                });
            }
            return Some(Test::Set { set, negated });
        }
        let rows = self.rows(values, &[datatype])?;
        let [row] = rows.as_slice() else {
            // A name that stands for several values.
            let set = self.anonymous_set(values, vec![datatype])?;
            if relation != Relation::Implied && relation != Relation::Equal && !negated {
                let problem = Problem::new(values.span, "`<` and `>` compare with one number", "");
                self.note(problem);
                return None;
            }
            return Some(Test::Set { set, negated });
        };
        if field == Field::Ip6NextHeader && !self.is_upper_layer(row.first, values.span) {
            return None;
        }
        let (only, _) = row.first;
        let is_tag = |tag: u16| row.first == (tag.into(), tag.into());
        let tag = match field {
            Field::EtherType if is_tag(ETHERTYPE_SERVICE_TAG) => {
                Some("lotus does not tell kinds of outer tags apart: write `vlan`")
            }
            Field::Protocol if is_tag(ETHERTYPE_SERVICE_TAG) || is_tag(ETHERTYPE_VLAN) => {
                Some("`meta protocol` is what is behind the tag: write `ether type vlan`")
            }
            _ => None,
        };
        if let Some(hint) = tag {
            let message = format!("the type {only:#06x} can never match here");
            self.note(Problem::new(values.span, message, "").hint(hint));
            return None;
        }
        let interval = self.ordered(datatype, relation, row.first, values.span)?;
        Some(Test::Range { interval, negated })
    }

    /// The values that `<`, `>` and the like let through.
    fn ordered(
        &mut self,
        datatype: Datatype,
        relation: Relation,
        (low, high): Interval,
        span: Span,
    ) -> Option<Interval> {
        let interval = match relation {
            Relation::Implied | Relation::Equal | Relation::NotEqual => return Some((low, high)),
            _ if low != high || !datatype.is_ordered() => {
                let problem = Problem::new(span, "`<` and `>` compare with one number", "");
                self.note(problem);
                return None;
            }
            Relation::Less => low.checked_sub(1).map(|below| (0, below)),
            Relation::LessOrEqual => Some((0, low)),
            Relation::Greater => (low < datatype.max()).then(|| (low + 1, datatype.max())),
            Relation::GreaterOrEqual => Some((low, datatype.max())),
        };
        if interval.is_none() {
            let problem = Problem::new(
                span,
                "no value is beyond this one: it can never match here",
                "",
            );
            self.note(problem.hint("the rule would match nothing"));
        }
        interval
    }

    /// A field that is a mask of bits, as `tcp flags`.
    fn bits(
        &mut self,
        datatype: Datatype,
        mask: Option<&Expr<'t>>,
        relation: Relation,
        values: &Expr<'t>,
    ) -> Option<Test> {
        let negated = relation == Relation::NotEqual;
        if !matches!(
            relation,
            Relation::Implied | Relation::Equal | Relation::NotEqual
        ) {
            let problem = Problem::new(values.span, "flags are neither more nor less", "");
            self.note(problem.hint("write `tcp flags & (syn | ack) == syn`"));
            return None;
        }
        if values.shape == Shape::Set {
            if let Some(mask) = mask {
                self.note(mask_problem(mask.span));
                return None;
            }
            // Each element is all the flags.
            let set = self.anonymous_set(values, vec![datatype])?;
            return Some(Test::Set { set, negated });
        }
        let value = self.bits_of(datatype, values)?;
        if let Some(mask) = mask {
            let mask_bits = self.bits_of(datatype, mask)?;
            if value & !mask_bits != 0 {
                let problem = Problem::new(values.span, "flags that the mask leaves out", "");
                self.note(
                    problem
                        .also(mask.span, "the mask")
                        .hint("the rule would match nothing: name them in the mask, too"),
                );
                return None;
            }
            return Some(Test::Bits {
                mask: mask_bits,
                value,
                negated,
            });
        }
        Some(match relation {
            // Any of them.
            Relation::Implied => Test::Bits {
                mask: value,
                value: 0,
                negated: true,
            },
            _ => Test::Range {
                interval: (value, value),
                negated,
            },
        })
    }

    /// All bits of `a`, of `a | b` or of `a,b`.
    fn bits_of(&mut self, datatype: Datatype, values: &Expr<'t>) -> Option<u128> {
        let rows = self.rows(values, &[datatype])?;
        Some(rows.iter().fold(0, |bits, row| bits | row.first.0))
    }

    /// What the rows of an expression are; a problem was noted if there are none.
    pub(super) fn rows(&mut self, values: &Expr<'t>, types: &[Datatype]) -> Option<Vec<Row>> {
        let written = self.names.resolve(values, self.problems)?;
        let mut rows = Vec::with_capacity(written.len());
        for element in &written {
            if let Some(row) = self.row(element, types) {
                rows.push(row);
            }
        }
        (rows.len() == written.len()).then_some(rows)
    }

    /// What a packet's protocol stands behind is never its protocol.
    fn is_upper_layer(&mut self, (low, high): Interval, span: Span) -> bool {
        /// Hop-by-hop, routing, fragment, authentication, destination options (RFC 8200 section 4).
        const WALKED: [u128; 5] = [0, 43, 44, 51, 60];
        let found = WALKED.iter().any(|&number| low == high && low == number);
        if found {
            let word = span.of(self.text);
            let problem = Problem::new(span, format!("`{word}` is an extension header"), "");
            self.note(problem.hint("lotus looks behind extension headers, as `meta l4proto` does"));
        }
        !found
    }

    fn list_problem(&self, values: &Expr<'t>) -> Problem {
        let inner = values.span.of(self.text);
        let problem = Problem::new(values.span, "a list without braces", "");
        problem.hint(format!("write a set: `{{ {inner} }}`"))
    }

    fn limit(&mut self, limit: Limit, span: Span) -> Statement {
        let Limit {
            over,
            rate,
            bytes,
            per_secs,
            burst,
        } = limit;
        let burst = burst.unwrap_or(0);
        let text = span.of(self.text).split_whitespace();
        self.checked.limits.push(LimitStart {
            limit: limit::Limit::new(over, rate, bytes, per_secs, burst),
            text: text.collect::<Vec<_>>().join(" "),
        });
        Statement::Limit(self.checked.limits.len() - 1)
    }

    fn log(&mut self, prefix: Option<Name<'t>>, level: Option<Name<'t>>) -> Option<Statement> {
        if let Some(prefix) = prefix.filter(|prefix| prefix.text.len() > MAX_PREFIX_BYTES) {
            let message = format!("a prefix of more than {MAX_PREFIX_BYTES} bytes");
            self.note(Problem::new(prefix.span, message, ""));
            return None;
        }
        let level = match level {
            None => DEFAULT_LEVEL,
            Some(level) => {
                let read = LOG_LEVEL.value(level.text);
                u8::try_from(self.number(read, level.span)?).ok()?
            }
        };
        if self.checked.logs.len() >= usize::from(u16::MAX) {
            let span = prefix.map_or(Span { start: 0, end: 0 }, |prefix| prefix.span);
            self.note(Problem::new(span, "more than 65535 log statements", ""));
            return None;
        }
        self.checked.logs.push(Log {
            prefix: prefix.map_or("", |prefix| prefix.text).to_owned(),
            level,
        });
        Some(Statement::Log(self.checked.logs.len() - 1))
    }

    fn set_helper(&mut self, name: &Atom<'t>, scope: &Scope<'t>) -> Option<Statement> {
        let piece = self.names.single(name, self.problems)?;
        if let Some(helper) = scope.helpers.iter().find(|helper| helper.name == piece.low) {
            return Some(Statement::SetHelper {
                id: helper.id,
                name: helper.name.clone(),
                family: helper.family,
            });
        }
        let wanted = piece.low.escape_debug();
        let known: Vec<_> = scope
            .helpers
            .iter()
            .map(|helper| format!("{:?}", helper.name))
            .collect();
        let hint = if known.is_empty() {
            format!("add `ct helper {wanted} {{ type \"ftp\" protocol tcp; }}` to the table")
        } else {
            format!("the table has: {}", known.join(", "))
        };
        let message = format!("the table has no helper \"{wanted}\"");
        self.note(piece.problem(message).hint(hint));
        None
    }

    /// A rule's verdict, with the match that a `reject` brings.
    fn ending(
        &mut self,
        verdict: ast::Verdict<'t>,
        span: Span,
        scope: &Scope<'t>,
        layers: &mut Layers,
    ) -> [Option<Statement>; 2] {
        let ast::Verdict::Reject(with) = verdict else {
            let verdict = self.verdict(verdict, scope);
            return [verdict.map(Statement::Verdict), None];
        };
        let Some(with) = self.reject(with) else {
            return [None, None];
        };
        let only = match with {
            RejectWith::TcpReset => Some((Field::L4Proto, u128::from(proto::TCP))),
            RejectWith::Icmp(_) => Some((Field::NfProto, NFPROTO_IPV4)),
            RejectWith::Icmpv6(_) => Some((Field::NfProto, NFPROTO_IPV6)),
            RejectWith::Icmpx(_) => None,
        };
        let guard = only.map(|(field, value)| {
            let found = match with {
                RejectWith::TcpReset => {
                    layers.narrow(field, Some(&set_of(vec![(value, value)], false)), span)
                }
                RejectWith::Icmp(_) => layers.narrow(Field::IpProtocol, None, span),
                _ => layers.narrow(Field::Ip6NextHeader, None, span),
            };
            if let Some(problem) = found {
                let problem = problem.renamed("this `reject` can never answer here");
                self.note(match with {
                    RejectWith::TcpReset => problem.hint("a reset answers TCP: write `reject`"),
                    _ => problem.hint("for both families write `reject with icmpx type ...`"),
                });
            }
            Statement::Match {
                fields: vec![field],
                test: Test::Range {
                    interval: (value, value),
                    negated: false,
                },
                span,
                implied: true,
            }
        });
        let verdict = Some(Statement::Verdict(Verdict::Reject(with)));
        match guard {
            Some(guard) => [Some(guard), verdict],
            None => [verdict, None],
        }
    }

    fn reject(&mut self, with: With<'t>) -> Option<RejectWith> {
        let (family, kind) = match with {
            With::Default => return Some(DEFAULT_REJECT),
            With::TcpReset(_) => return Some(RejectWith::TcpReset),
            With::Icmp { family, kind } => (family.text, kind),
        };
        let numbers = match family {
            "icmp" => ICMP_CODE,
            "icmpv6" => ICMPV6_CODE,
            _ => ICMPX_CODE,
        };
        let code = u8::try_from(self.number(numbers.value(kind.text), kind.span)?).ok()?;
        Some(match family {
            "icmp" => RejectWith::Icmp(code),
            "icmpv6" => RejectWith::Icmpv6(code),
            _ => RejectWith::Icmpx(code),
        })
    }

    /// Every verdict but `reject`.
    pub(super) fn verdict(
        &mut self,
        verdict: ast::Verdict<'t>,
        scope: &Scope<'t>,
    ) -> Option<Verdict> {
        Some(match verdict {
            ast::Verdict::Accept => Verdict::Accept,
            ast::Verdict::Drop => Verdict::Drop,
            ast::Verdict::Continue => Verdict::Continue,
            ast::Verdict::Return => Verdict::Return,
            ast::Verdict::Jump(name) => Verdict::Jump(self.jump(name, scope)?),
            ast::Verdict::Goto(name) => Verdict::Goto(self.jump(name, scope)?),
            ast::Verdict::Reject(_) => return None,
        })
    }

    fn jump(&mut self, name: Name<'t>, scope: &Scope<'t>) -> Option<usize> {
        let Some((declared, chain)) = find(&scope.chains, name.text) else {
            let message = format!("the table has no chain `{}`", name.text);
            let all = scope.chains.iter().map(|(name, _)| name.text);
            let hint = known_names("chain", all, name.text);
            self.note(Problem::new(name.span, message, "").hint(hint));
            return None;
        };
        let is_base = |chain: &crate::rules::checked::Chain| chain.base.is_some();
        if self.checked.chains.get(chain).is_some_and(is_base) {
            let message = format!("`{}` hangs on a hook: nothing may jump to it", name.text);
            let problem = Problem::new(name.span, message, "").also(declared.span, "this chain");
            self.note(problem.hint("put the common rules into a chain without a `type` line"));
            return None;
        }
        self.jumps.push(Jump {
            from: 0,
            to: chain,
            span: name.span,
            rule: self.rules,
        });
        Some(chain)
    }

    fn number(&mut self, value: Value<u16>, span: Span) -> Option<u16> {
        match value {
            Ok((number, _)) => Some(number),
            Err(fault) => {
                self.note(Problem::new(span, fault.message, "").hint(fault.hint));
                None
            }
        }
    }
}

fn set_of(intervals: Vec<Interval>, negated: bool) -> IntervalSet<u128> {
    let set = IntervalSet::of(intervals);
    if negated { set.complement() } else { set }
}

fn mask_problem(span: Span) -> Problem {
    let problem = Problem::new(span, "masks are for `tcp flags` alone", "");
    problem.hint("write a prefix, a range or a set")
}
