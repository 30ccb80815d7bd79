//! Statements and verdicts of a rule.

use super::rule::set_of;
use super::{Checker, Jump, Scope, find, known_names};
use crate::rules::Log;
use crate::rules::ast::{self, Atom, Limit, Name, With};
use crate::rules::checked::{LimitStart, RejectWith, Statement, Test, Verdict};
use crate::rules::diagnostic::Problem;
use crate::rules::field::{Field, NFPROTO_IPV4, NFPROTO_IPV6};
use crate::rules::layers::Layers;
use crate::rules::lexer::Span;
use crate::rules::limit;
use crate::rules::values::{ICMP_CODE, ICMPV6_CODE, ICMPX_CODE, LOG_LEVEL, Value};
use crate::wire::proto;

/// What the kernel stores of a prefix (NF_LOG_PREFIXLEN, with the byte that ends it).
const MAX_PREFIX_BYTES: usize = 127;

/// The level of `log` without one (nft(8)).
const DEFAULT_LEVEL: u8 = 4;

/// The code of `reject` alone: icmpx port-unreachable.
const DEFAULT_REJECT: RejectWith = RejectWith::Icmpx(1);

impl<'t> Checker<'t, '_> {
    pub(super) fn limit(&mut self, limit: Limit, span: Span) -> Statement {
        let Limit {
            over,
            rate,
            bytes,
            per_secs,
            burst,
        } = limit;
        let burst = burst.unwrap_or(0);
        // A line that goes on is one all the same.
        let text = span
            .of(self.text)
            .split_whitespace()
            .filter(|word| *word != "\\");
        self.checked.limits.push(LimitStart {
            limit: limit::Limit::new(over, rate, bytes, per_secs, burst),
            text: text.collect::<Vec<_>>().join(" "),
        });
        Statement::Limit(self.checked.limits.len() - 1)
    }

    pub(super) fn log(
        &mut self,
        prefix: Option<Name<'t>>,
        level: Option<Name<'t>>,
    ) -> Option<Statement> {
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

    pub(super) fn set_helper(&mut self, name: &Atom<'t>, scope: &Scope<'t>) -> Option<Statement> {
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
    pub(super) fn ending(
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
