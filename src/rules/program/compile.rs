//! From a checked tree to steps.

use super::{BaseChain, Map, Op, Program, Step, Verdict};
use crate::rules::checked::{self, Checked, Statement, TableFamily, Test};
use crate::rules::field::{Field, Ports};
use crate::rules::lookup::{Interval, Lookup, Row};
use crate::rules::names::ETHERTYPE_VLAN;

/// The program of a checked tree.
pub(super) fn program(checked: Checked) -> Program {
    Compiler::default().program(checked)
}

/// Writes the steps.
#[derive(Default)]
struct Compiler {
    steps: Vec<Step>,
    /// Sets that stand for a single range with `vlan` in it.
    extra: Vec<Map>,
}

impl Compiler {
    fn program(mut self, mut checked: Checked) -> Program {
        let mut starts = Vec::with_capacity(checked.chains.len());
        let chains = std::mem::take(&mut checked.chains);
        for chain in &chains {
            starts.push(self.next());
            for rule in &chain.rules {
                self.rule(rule, &checked);
            }
            let next = self.next() + 1;
            self.steps.push(Step {
                op: Op::End,
                next_rule: next,
                rule: u32::MAX,
            });
        }
        // Jumps know their chain by its number until all chains have a place.
        let place = |chain: usize| starts.get(chain).copied().unwrap_or(u32::MAX);
        for step in &mut self.steps {
            if let Op::Verdict(verdict) = &mut step.op {
                *verdict = verdict.placed(&place);
            }
        }
        let mut base_chains: Vec<((bool, i32), BaseChain)> = Vec::new();
        for table in &checked.tables {
            for &number in &table.chains {
                let Some(base) = chains.get(number).and_then(|chain| chain.base) else {
                    continue;
                };
                let order = (table.family != TableFamily::Bridge, base.priority);
                let chain = BaseChain {
                    family: table.family,
                    first_step: place(number),
                    accept: base.accept,
                    chain: number,
                };
                base_chains.push((order, chain));
            }
        }
        // Of equal priorities the last runs first, as the kernel puts a new hook before others.
        base_chains.reverse();
        base_chains.sort_by_key(|&(order, _)| order);
        let maps = checked.sets.into_iter().map(|set| Map {
            lookup: set.lookup,
            verdicts: set
                .verdicts
                .unwrap_or_default()
                .into_iter()
                .map(|verdict| Verdict::of(verdict).placed(&place))
                .collect(),
        });
        Program {
            steps: self.steps.into(),
            base_chains: base_chains.into_iter().map(|(_, chain)| chain).collect(),
            maps: maps.chain(self.extra).collect(),
            limits: checked
                .limits
                .into_iter()
                .map(|start| start.limit)
                .collect(),
        }
    }

    fn next(&self) -> u32 {
        u32::try_from(self.steps.len()).unwrap_or(u32::MAX)
    }

    fn rule(&mut self, rule: &checked::Rule, checked: &Checked) {
        let first = self.steps.len();
        for statement in &rule.statements {
            let op = self.op(statement, checked);
            self.steps.push(Step {
                op,
                next_rule: 0,
                rule: u32::try_from(rule.number).unwrap_or(u32::MAX),
            });
        }
        let next_rule = self.next();
        for step in self.steps.iter_mut().skip(first) {
            step.next_rule = next_rule;
        }
    }

    fn op(&mut self, statement: &Statement, checked: &Checked) -> Op {
        let small = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        match statement {
            Statement::Match { fields, test, .. } => match (fields.as_slice(), *test) {
                ([Field::EtherType], test) if has_vlan(test, checked) => {
                    self.type_or_tag(test, checked)
                }
                (&[field], test) if let Some(op) = short(field, test, checked) => op,
                (&[field], Test::Range { interval, negated }) => Op::InRange {
                    field,
                    interval,
                    negated,
                },
                (&[field], Test::Set { set, negated }) => Op::InSet {
                    field,
                    set: small(set),
                    negated,
                },
                (
                    &[field, ..],
                    Test::Bits {
                        mask,
                        value,
                        negated,
                    },
                ) => Op::Bits {
                    field,
                    mask,
                    value,
                    negated,
                },
                (fields, Test::Set { set, negated }) => Op::Together {
                    fields: fields.into(),
                    set: small(set),
                    negated,
                },
                // The checker makes no such match.
                (_, Test::Range { .. } | Test::Bits { .. }) => Op::Verdict(Verdict::Drop),
            },
            Statement::Vmap { fields, set } => Op::Vmap {
                fields: fields.as_slice().into(),
                set: small(*set),
            },
            Statement::Count { id, .. } => Op::Count(*id),
            Statement::Limit(limit) => Op::Limit(small(*limit)),
            Statement::Log(log) => Op::Log(u16::try_from(*log).unwrap_or(u16::MAX)),
            Statement::SetHelper { id, family, .. } => Op::SetHelper(*id, *family),
            Statement::Verdict(verdict) => Op::Verdict(Verdict::of(*verdict)),
        }
    }

    fn type_or_tag(&mut self, test: Test, checked: &Checked) -> Op {
        let set = match test {
            Test::Set { set, .. } => set,
            Test::Range { interval, .. } => {
                let row = Row {
                    first: interval,
                    rest: Box::default(),
                    value: 0,
                };
                // One row is never too large.
                if let Ok(lookup) = Lookup::new(&[row], 1, &mut 16) {
                    self.extra.push(Map {
                        lookup,
                        verdicts: Box::default(),
                    });
                }
                checked.sets.len() + self.extra.len() - 1
            }
            Test::Bits { .. } => 0,
        };
        Op::TypeOrTag {
            set: u32::try_from(set).unwrap_or(u32::MAX),
            negated: test.negated(),
        }
    }
}

/// The short form of a test, if it has one.
fn short(field: Field, test: Test, checked: &Checked) -> Option<Op> {
    let holds = |value: u8| test.holds(value.into(), checked);
    let mask = |values: std::ops::Range<u8>| {
        let held = values.filter(|&value| holds(value));
        held.fold(0u8, |mask, value| mask | 1 << value)
    };
    match (field, test) {
        (_, Test::Bits { .. }) => None,
        (Field::CtState, _) => Some(Op::State(mask(0..5))),
        (Field::IifName, _) => Some(Op::CameIn(mask(0..2))),
        (Field::OifName, _) => {
            let leaves = mask(0..2);
            Some(Op::CameIn((leaves & 1) << 1 | leaves >> 1))
        }
        (Field::L4Proto, _) => {
            let mut words = [0u64; 4];
            for value in 0..=u8::MAX {
                if let Some(word) = words.get_mut(usize::from(value / 64)) {
                    *word |= u64::from(holds(value)) << (value % 64);
                }
            }
            Some(Op::L4Proto(Box::new(words)))
        }
        (_, Test::Set { .. }) => None,
        (Field::EtherType | Field::Protocol, Test::Range { interval, negated }) => Some(Op::Type {
            range: narrow(interval)?,
            negated,
        }),
        (Field::IpAddr(end), Test::Range { interval, negated }) => Some(Op::Ip4 {
            end,
            range: narrow(interval)?,
            negated,
        }),
        (
            Field::Port(ports @ (Ports::Tcp | Ports::Udp | Ports::Any), end),
            Test::Range { interval, negated },
        ) => Some(Op::Port {
            ports,
            end,
            range: narrow(interval)?,
            negated,
        }),
        _ => None,
    }
}

fn narrow<T: TryFrom<u128>>((low, high): Interval) -> Option<(T, T)> {
    Some((low.try_into().ok()?, high.try_into().ok()?))
}

impl Test {
    /// Whether a value of its one field passes.
    fn holds(self, value: u128, checked: &Checked) -> bool {
        match self {
            Test::Range {
                interval: (low, high),
                negated,
            } => (low <= value && value <= high) != negated,
            Test::Set { set, negated } => {
                let set = checked.sets.get(set);
                set.is_some_and(|set| set.lookup.find(&[value]).is_some()) != negated
            }
            Test::Bits {
                mask,
                value: wanted,
                negated,
            } => (value & mask == wanted) != negated,
        }
    }
}

/// Whether a test of an Ethernet type asks for `vlan`.
fn has_vlan(test: Test, checked: &Checked) -> bool {
    let vlan = u128::from(ETHERTYPE_VLAN);
    match test {
        Test::Range {
            interval: (low, high),
            ..
        } => low <= vlan && vlan <= high,
        Test::Set { set, .. } => checked
            .sets
            .get(set)
            .is_some_and(|set| set.lookup.find(&[vlan]).is_some()),
        Test::Bits { .. } => false,
    }
}

impl Verdict {
    /// Jumps still name their chains by number.
    fn of(verdict: checked::Verdict) -> Verdict {
        let small = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        match verdict {
            checked::Verdict::Accept => Verdict::Accept,
            checked::Verdict::Drop => Verdict::Drop,
            checked::Verdict::Continue => Verdict::Continue,
            checked::Verdict::Return => Verdict::Return,
            checked::Verdict::Jump(chain) => Verdict::Jump(small(chain)),
            checked::Verdict::Goto(chain) => Verdict::Goto(small(chain)),
            checked::Verdict::Reject(with) => Verdict::Reject(with),
        }
    }

    fn placed(self, place: &impl Fn(usize) -> u32) -> Verdict {
        match self {
            Verdict::Jump(chain) => Verdict::Jump(place(chain as usize)),
            Verdict::Goto(chain) => Verdict::Goto(place(chain as usize)),
            other => other,
        }
    }
}
