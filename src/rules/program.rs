//! What the rules become: a flat list of steps, each with the place to go on at if it fails.

mod compile;

use std::net::IpAddr;

use super::checked::{Checked, RejectWith, TableFamily};
use super::field::{End, Family, Field, Ports};
use super::limit::Limit;
use super::lookup::{Interval, Lookup};
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
        compile::program(checked)
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
                let bytes = query
                    .frame
                    .len()
                    .saturating_sub(query.packet.ether.payload_offset);
                limit.is_some_and(|limit| limit.matches(query.now, bytes))
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
