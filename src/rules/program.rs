//! What the rules become: a flat list of steps, each with the place to go on at if it fails.

use std::net::IpAddr;

use super::checked::{self, Checked, RejectWith, Statement, TableFamily, Test};
use super::field::{End, Family, Field, Ports};
use super::limit::Limit;
use super::lookup::{Interval, Lookup};
use super::names::ETHERTYPE_VLAN;
use super::{CounterId, HelperId, Hits, Outcome, Query, Reject};
use crate::observe::DropReason;
use crate::wire::{L4, Packet, proto};

/// As the kernel (NFT_JUMP_STACK_SIZE): so deep may chains jump into each other.
pub(super) const MAX_JUMPS: usize = 16;

/// Parts of a concatenation. More are of no use in a packet's headers.
pub(super) const MAX_PARTS: usize = 5;

/// A checked program. Only made of a checked tree, so evaluation needs no checks of its own.
#[derive(Debug)]
pub(super) struct Program {
    steps: Box<[Step]>,
    /// In the order in which they run.
    base_chains: Box<[BaseChain]>,
    maps: Box<[Map]>,
    limits: Box<[Limit]>,
}

/// A base chain.
#[derive(Debug)]
struct BaseChain {
    family: TableFamily,
    first_step: u32,
    /// The policy.
    accept: bool,
    /// The number of the chain.
    chain: usize,
}

/// One instruction.
#[derive(Debug)]
struct Step {
    op: Op,
    /// Where the next rule begins.
    next_rule: u32,
    /// The rule that it is of.
    rule: u32,
}

#[derive(Debug)]
enum Op {
    // What rules ask most, in a few instructions each.
    /// Bit [`crate::wire::Side::index`] is set for each port at which the packet may come in.
    CameIn(u8),
    /// Bit [`crate::conntrack::CtState`] is set for each state that matches.
    State(u8),
    /// A bit is set for each protocol that matches, of either family.
    L4Proto(Box<[u64; 4]>),
    Type {
        range: (u16, u16),
        negated: bool,
    },
    Ip4 {
        end: End,
        range: (u32, u32),
        negated: bool,
    },
    /// Of TCP, UDP, or either.
    Port {
        ports: Ports,
        end: End,
        range: (u16, u16),
        negated: bool,
    },
    // All the others.
    /// One field is in a range.
    InRange {
        field: Field,
        interval: Interval,
        negated: bool,
    },
    /// One field is in a set.
    InSet {
        field: Field,
        set: u32,
        negated: bool,
    },
    /// The type of what is behind all tags is in a range or set; or `vlan` is, and there is a tag.
    TypeOrTag {
        set: u32,
        negated: bool,
    },
    /// Some fields together are in a set.
    Together {
        fields: Box<[Field]>,
        set: u32,
        negated: bool,
    },
    Bits {
        field: Field,
        mask: u128,
        value: u128,
        negated: bool,
    },
    /// A verdict for these fields.
    Vmap {
        fields: Box<[Field]>,
        set: u32,
    },
    Count(CounterId),
    Limit(u32),
    Log(u16),
    SetHelper(HelperId, Option<Family>),
    Verdict(Verdict),
    /// The chain is over.
    End,
}

#[derive(Clone, Copy, Debug)]
enum Verdict {
    Accept,
    Drop,
    Continue,
    Return,
    /// To a step.
    Jump(u32),
    Goto(u32),
    Reject(RejectWith),
}

#[derive(Debug)]
struct Map {
    lookup: Lookup,
    verdicts: Box<[Verdict]>,
}

/// Who wants to know what an evaluation does.
pub(super) trait Watch {
    /// A counter counts this packet.
    fn count(&mut self, id: CounterId);
    /// The packet is to be logged.
    fn log(&mut self, id: u16);
    /// A base chain begins, by its number.
    fn base_chain(&mut self, _chain: usize) {}
    /// A match, limit or map of a rule did not hold; the how-manieth step of the rule.
    fn failed(&mut self, _rule: u32, _step: usize) {}
    /// A rule gave a verdict; the one of a map as well.
    fn decided(&mut self, _rule: u32, _verdict: &'static str) {}
    /// The end of a base chain gave its policy.
    fn policy(&mut self, _chain: usize, _accept: bool) {}
}

/// What an evaluation has found so far.
struct Walk {
    helper: Option<HelperId>,
    hits: Hits,
    /// Something was looked at that another packet of the flow may have otherwise.
    volatile: bool,
    /// Steps to return to.
    jumps: [u32; MAX_JUMPS],
    depth: usize,
}

/// How a base chain ended.
enum Ended {
    Accepted,
    Dropped(DropReason, Option<Reject>),
}

impl Program {
    /// The program of a checked tree.
    pub(super) fn of(checked: Checked) -> Program {
        Compiler::default().program(checked)
    }

    /// Runs the chains.
    pub(super) fn run(&self, query: &Query<'_>, watch: &mut impl Watch) -> Outcome {
        let mut walk = Walk {
            helper: None,
            hits: Hits::default(),
            volatile: false,
            jumps: [0; MAX_JUMPS],
            depth: 0,
        };
        let family = query.packet.ip.as_ref().map(Family::of);
        let mut ended = Ended::Accepted;
        for chain in &self.base_chains {
            if !chain.family.sees(family) {
                continue;
            }
            watch.base_chain(chain.chain);
            ended = self.run_chain(chain, query, &mut walk, watch);
            if matches!(ended, Ended::Dropped(..)) {
                break;
            }
        }
        let (drop, reject) = match ended {
            Ended::Accepted => (None, None),
            Ended::Dropped(reason, reject) => (Some(reason), reject),
        };
        Outcome {
            drop,
            reject,
            helper: walk.helper,
            cacheable: !walk.volatile,
            hits: walk.hits,
        }
    }

    fn run_chain(
        &self,
        chain: &BaseChain,
        query: &Query<'_>,
        walk: &mut Walk,
        watch: &mut impl Watch,
    ) -> Ended {
        let mut at = chain.first_step;
        walk.depth = 0;
        while let Some(step) = self.steps.get(at as usize) {
            let verdict = match &step.op {
                Op::Verdict(verdict) => *verdict,
                Op::Vmap { fields, set } => match self.verdict_of(fields, *set, query, walk) {
                    Some(verdict) => verdict,
                    None => {
                        watch.failed(step.rule, self.place_in_rule(at));
                        at = step.next_rule;
                        continue;
                    }
                },
                Op::End => match walk.pop() {
                    Some(back) => {
                        at = back;
                        continue;
                    }
                    None => break,
                },
                Op::Count(id) => {
                    watch.count(*id);
                    walk.hit(*id);
                    at += 1;
                    continue;
                }
                Op::Log(id) => {
                    watch.log(*id);
                    walk.volatile = true;
                    at += 1;
                    continue;
                }
                Op::SetHelper(id, family) => {
                    if takes_helper(query.packet, *family) {
                        walk.helper = Some(*id);
                    }
                    at += 1;
                    continue;
                }
                op => {
                    if self.matches(op, query, walk) {
                        at += 1;
                    } else {
                        watch.failed(step.rule, self.place_in_rule(at));
                        at = step.next_rule;
                    }
                    continue;
                }
            };
            watch.decided(step.rule, verdict.name());
            match verdict {
                Verdict::Accept => return Ended::Accepted,
                Verdict::Drop => return Ended::Dropped(DropReason::RuleDrop, None),
                Verdict::Reject(with) => {
                    walk.volatile = true;
                    return Ended::Dropped(DropReason::RuleReject, with.answer(query.packet));
                }
                Verdict::Continue => at = step.next_rule,
                Verdict::Goto(to) => at = to,
                Verdict::Jump(to) => {
                    walk.push(step.next_rule);
                    at = to;
                }
                Verdict::Return => match walk.pop() {
                    Some(back) => at = back,
                    None => break,
                },
            }
        }
        watch.policy(chain.chain, chain.accept);
        if chain.accept {
            Ended::Accepted
        } else {
            Ended::Dropped(DropReason::PolicyDrop, None)
        }
    }

    /// Whether a match holds. Each one brings its own conditions: a TCP port matches nothing but
    /// TCP, an IPv4 address nothing but IPv4, whether it is negated or not.
    #[inline]
    fn matches(&self, op: &Op, query: &Query<'_>, walk: &mut Walk) -> bool {
        let ip = query.packet.ip.as_ref();
        match op {
            Op::CameIn(sides) => sides & (1 << query.side.index()) != 0,
            Op::State(states) => states & (1 << query.state as u8) != 0,
            Op::L4Proto(protocols) => ip.is_some_and(|ip| {
                let word = protocols.get(usize::from(ip.protocol / 64)).copied();
                word.unwrap_or_default() >> (ip.protocol % 64) & 1 != 0
            }),
            Op::Type {
                range: (low, high),
                negated,
            } => {
                let found = query.packet.ether.ethertype;
                (*low <= found && found <= *high) != *negated
            }
            Op::Ip4 {
                end,
                range: (low, high),
                negated,
            } => match ip.map(|ip| if *end == End::Source { ip.src } else { ip.dst }) {
                Some(IpAddr::V4(found)) => {
                    let found = found.to_bits();
                    (*low <= found && found <= *high) != *negated
                }
                _ => false,
            },
            Op::Port {
                ports,
                end,
                range: (low, high),
                negated,
            } => {
                let both = match ip.map(|ip| &ip.l4) {
                    Some(L4::Tcp(tcp)) if *ports != Ports::Udp => [tcp.src_port, tcp.dst_port],
                    Some(L4::Udp(udp)) if *ports != Ports::Tcp => [udp.src_port, udp.dst_port],
                    // `th` of the others.
                    _ if *ports == Ports::Any => {
                        let field = Field::Port(Ports::Any, *end);
                        let found = field.load(query, &mut walk.volatile);
                        return found.is_some_and(|found| {
                            (u128::from(*low) <= found && found <= u128::from(*high)) != *negated
                        });
                    }
                    _ => return false,
                };
                let [source, destination] = both;
                let found = if *end == End::Source {
                    source
                } else {
                    destination
                };
                (*low <= found && found <= *high) != *negated
            }
            Op::InRange {
                field,
                interval: (low, high),
                negated,
            } => match field.load(query, &mut walk.volatile) {
                Some(value) => (*low <= value && value <= *high) != *negated,
                None => false,
            },
            Op::InSet {
                field,
                set,
                negated,
            } => match field.load(query, &mut walk.volatile) {
                Some(value) => self.find(*set, &[value]).is_some() != *negated,
                None => false,
            },
            Op::TypeOrTag { set, negated } => {
                let ether = &query.packet.ether;
                // Frames of one flow may have a priority tag (VLAN 0) or none.
                walk.volatile = true;
                let has_tag = ether.vlan_count != 0;
                let found = has_tag || self.find(*set, &[ether.ethertype.into()]).is_some();
                found != *negated
            }
            Op::Together {
                fields,
                set,
                negated,
            } => match self.find_together(fields, *set, query, walk) {
                Some(found) => found.is_some() != *negated,
                None => false,
            },
            Op::Bits {
                field,
                mask,
                value,
                negated,
            } => match field.load(query, &mut walk.volatile) {
                Some(found) => (found & mask == *value) != *negated,
                None => false,
            },
            Op::Limit(limit) => {
                walk.volatile = true;
                let limit = self.limits.get(*limit as usize);
                limit.is_some_and(|limit| limit.matches(query.now, query.frame.len()))
            }
            Op::Vmap { .. }
            | Op::Count(_)
            | Op::Log(_)
            | Op::SetHelper(..)
            | Op::Verdict(_)
            | Op::End => true,
        }
    }

    #[inline]
    fn find(&self, set: u32, values: &[u128]) -> Option<u32> {
        self.maps.get(set as usize)?.lookup.find(values)
    }

    /// `None` if the packet does not have all the fields.
    fn find_together(
        &self,
        fields: &[Field],
        set: u32,
        query: &Query<'_>,
        walk: &mut Walk,
    ) -> Option<Option<u32>> {
        let mut values = [0; MAX_PARTS];
        for (value, field) in values.iter_mut().zip(fields) {
            *value = field.load(query, &mut walk.volatile)?;
        }
        let values = values.get(..fields.len())?;
        Some(self.find(set, values))
    }

    fn verdict_of(
        &self,
        fields: &[Field],
        set: u32,
        query: &Query<'_>,
        walk: &mut Walk,
    ) -> Option<Verdict> {
        let number = self.find_together(fields, set, query, walk)??;
        let map = self.maps.get(set as usize)?;
        map.verdicts.get(number as usize).copied()
    }

    /// The how-manieth step of its rule a step is.
    fn place_in_rule(&self, at: u32) -> usize {
        let of = |at: u32| self.steps.get(at as usize).map(|step| step.rule);
        let rule = of(at);
        (0..at)
            .rev()
            .take_while(|&before| of(before) == rule)
            .count()
    }
}

impl Walk {
    fn hit(&mut self, id: CounterId) {
        match self.hits.0.iter_mut().find(|slot| slot.is_none()) {
            Some(slot) => *slot = Some(id),
            None => self.volatile = true,
        }
    }

    /// The checker sees to it that no chain jumps deeper.
    fn push(&mut self, back: u32) {
        if let Some(slot) = self.jumps.get_mut(self.depth) {
            *slot = back;
            self.depth += 1;
        }
    }

    fn pop(&mut self) -> Option<u32> {
        self.depth = self.depth.checked_sub(1)?;
        self.jumps.get(self.depth).copied()
    }
}

impl Verdict {
    fn name(self) -> &'static str {
        match self {
            Verdict::Accept => "accept",
            Verdict::Drop => "drop",
            Verdict::Continue => "continue",
            Verdict::Return => "return",
            Verdict::Jump(_) => "jump",
            Verdict::Goto(_) => "goto",
            Verdict::Reject(_) => "reject",
        }
    }
}

impl RejectWith {
    /// The answer for a packet's family (net/netfilter/nft_reject.c, icmp_code_v4 and
    /// icmp_code_v6); none for a packet that it is not for.
    fn answer(self, packet: &Packet) -> Option<Reject> {
        let ip = packet.ip.as_ref()?;
        Some(match (self, Family::of(ip)) {
            (RejectWith::TcpReset, _) if ip.protocol == proto::TCP => Reject::TcpReset,
            (RejectWith::Icmp(code), Family::V4) => Reject::Icmp(code),
            (RejectWith::Icmpv6(code), Family::V6) => Reject::Icmpv6(code),
            (RejectWith::Icmpx(code), Family::V4) => Reject::Icmp(match code {
                0 => 0,
                1 => 3,
                2 => 1,
                _ => 13,
            }),
            (RejectWith::Icmpx(code), Family::V6) => Reject::Icmpv6(match code {
                0 => 0,
                1 => 4,
                2 => 3,
                _ => 1,
            }),
            _ => return None,
        })
    }
}

/// A MAC address as a number, so that sets and ranges of them work as for other addresses.
pub(super) fn mac_number([a, b, c, d, e, f]: [u8; 6]) -> u64 {
    u64::from_be_bytes([0, 0, a, b, c, d, e, f])
}

fn takes_helper(packet: &Packet, family: Option<Family>) -> bool {
    packet.ip.as_ref().is_some_and(|ip| {
        ip.protocol == proto::TCP && family.is_none_or(|family| family == Family::of(ip))
    })
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
                let row = super::lookup::Row {
                    first: interval,
                    rest: Box::default(),
                    value: 0,
                };
                // One row is never too large.
                if let Ok(lookup) = Lookup::new(&[row], 1) {
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
