//! Rules: matches with their values, statements, verdicts.

use super::set::never;
use super::{Checker, CounterStart, MapUse, Scope, SetUse, find, known_names};
use crate::rules::ast::{self, Expr, Key, Relation, Right, Shape, Statement as Written};
use crate::rules::checked::{Rule, Statement, TableFamily, Test};
use crate::rules::datatype::Datatype;
use crate::rules::diagnostic::Problem;
use crate::rules::field::Field;
use crate::rules::intervals::IntervalSet;
use crate::rules::layers::Layers;
use crate::rules::lexer::Span;
use crate::rules::lookup::{Interval, Row};

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
                one(set.map(|set| self.vmap(key, set, *span)))
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
                    self.vmap(key, set, *span)
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
        if let Test::Set { set, .. } = test {
            self.set_uses.push(SetUse {
                fields: key.fields.clone(),
                set,
                span,
                is_match: true,
            });
        }
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

    fn vmap(&mut self, key: &Key, set: usize, span: Span) -> Statement {
        self.set_uses.push(SetUse {
            fields: key.fields.clone(),
            set,
            span,
            is_match: false,
        });
        Statement::Vmap {
            fields: key.fields.clone(),
            set,
        }
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
        let takes_list = datatype == Datatype::CtState && relation == Relation::Implied;
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
        if let Some(hint) = never(field, row.first, true) {
            let word = values.span.of(self.text);
            let message = match field {
                Field::Ip6NextHeader => format!("`{word}` is an extension header"),
                _ => format!("the type `{word}` can never match here"),
            };
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

    fn list_problem(&self, values: &Expr<'t>) -> Problem {
        let inner = values.span.of(self.text);
        let problem = Problem::new(values.span, "a list without braces", "");
        problem.hint(format!("write a set: `{{ {inner} }}`"))
    }
}

pub(super) fn set_of(intervals: Vec<Interval>, negated: bool) -> IntervalSet<u128> {
    let set = IntervalSet::of(intervals);
    if negated { set.complement() } else { set }
}

fn mask_problem(span: Span) -> Problem {
    let problem = Problem::new(span, "masks are for `tcp flags` alone", "");
    problem.hint("write a prefix, a range or a set")
}
