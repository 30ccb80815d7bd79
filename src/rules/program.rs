//! What the rules become: a flat list of steps, each with the place to go on at if it fails.

use std::net::IpAddr;

use super::ast::{End, Ports};
use super::intervals::{IntervalSet, Number};
use super::names::ETHERTYPE_VLAN;
use super::{CounterId, HelperId, Hits, Outcome, Query};
use crate::observe::DropReason;
use crate::wire::{Ip, L4, Packet, proto};

/// A checked program. Only the checker makes one, so evaluation needs no checks of its own.
#[derive(Debug, Default)]
pub(super) struct Program {
    pub(super) steps: Vec<Step>,
    /// In the order in which they run.
    pub(super) chains: Vec<BaseChain>,
}

/// A base chain.
#[derive(Debug)]
pub(super) struct BaseChain {
    /// Inet chains see IPv4 and IPv6 only.
    pub(super) ip_only: bool,
    /// Its first step, and one past its last.
    pub(super) steps: (u32, u32),
    /// The policy.
    pub(super) accept: bool,
}

/// One instruction.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) op: Op,
    /// Where the next rule begins.
    pub(super) next_rule: u32,
}

/// IPv4 or IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
}

impl Family {
    pub(super) fn of(ip: &Ip) -> Family {
        if ip.src.is_ipv4() {
            Family::V4
        } else {
            Family::V6
        }
    }
}

/// A set to compare with. A value that the packet does not have is in no set and outside of none.
#[derive(Debug)]
pub(super) struct Test<T> {
    pub(super) set: IntervalSet<T>,
    pub(super) negated: bool,
}

impl<T: Number> Test<T> {
    fn holds(&self, value: T) -> bool {
        self.set.contains(value) != self.negated
    }
}

#[derive(Debug)]
pub(super) enum Op {
    /// Bit [`crate::wire::Side::index`] is set for each port at which the packet may come in.
    CameIn(u8),
    /// The type behind all tags. A tagged frame is also of type `vlan`.
    EtherType(Test<u16>),
    EtherAddr(End, Test<u64>),
    Ip4Addr(End, Test<u32>),
    Ip6Addr(End, Test<u128>),
    HopLimit6(Test<u16>),
    /// The protocol behind all extension headers; of one family, or of both.
    Protocol(Option<Family>, Test<u16>),
    Port(Ports, End, Test<u16>),
    IcmpType(Family, Test<u16>),
    /// Bit [`crate::conntrack::CtState`] is set for each state that matches.
    CtState(u8),
    Count(CounterId),
    /// Takes effect for TCP, and for one family only if it names one.
    SetHelper(HelperId, Option<Family>),
    Accept,
    Drop,
}

/// What an evaluation has found so far.
struct Walk {
    helper: Option<HelperId>,
    hits: Hits,
    /// Something was looked at that another packet of the flow may have otherwise.
    volatile: bool,
}

impl Program {
    /// Runs the chains. `count` is called for each counter on the way.
    pub(super) fn run(&self, query: &Query<'_>, mut count: impl FnMut(CounterId)) -> Outcome {
        let mut walk = Walk {
            helper: None,
            hits: Hits::default(),
            volatile: false,
        };
        let is_ip = query.packet.ip.is_some();
        let mut drop = None;
        for chain in &self.chains {
            if chain.ip_only && !is_ip {
                continue;
            }
            drop = self.run_chain(chain, query, &mut walk, &mut count);
            if drop.is_some() {
                break;
            }
        }
        let Walk {
            helper,
            hits,
            volatile,
        } = walk;
        Outcome {
            drop,
            reject: None,
            helper,
            cacheable: !volatile,
            hits,
        }
    }

    fn run_chain(
        &self,
        chain: &BaseChain,
        query: &Query<'_>,
        walk: &mut Walk,
        count: &mut impl FnMut(CounterId),
    ) -> Option<DropReason> {
        let (mut at, end) = chain.steps;
        while at < end {
            let Some(step) = self.steps.get(at as usize) else {
                break;
            };
            match &step.op {
                Op::Accept => return None,
                Op::Drop => return Some(DropReason::RuleDrop),
                Op::Count(id) => {
                    count(*id);
                    walk.hit(*id);
                    at += 1;
                }
                Op::SetHelper(id, family) => {
                    if takes_helper(query.packet, *family) {
                        walk.helper = Some(*id);
                    }
                    at += 1;
                }
                op => {
                    at = if op.matches(query, walk) {
                        at + 1
                    } else {
                        step.next_rule
                    }
                }
            }
        }
        if chain.accept {
            None
        } else {
            Some(DropReason::PolicyDrop)
        }
    }
}

impl Op {
    /// Whether a match holds. Each one brings its own conditions: a TCP port matches nothing but
    /// TCP, an IPv4 address nothing but IPv4, whether it is negated or not.
    fn matches(&self, query: &Query<'_>, walk: &mut Walk) -> bool {
        let Packet { ether, ip } = query.packet;
        let ip = ip.as_ref();
        match self {
            Op::CameIn(sides) => sides & (1 << query.side.index()) != 0,
            Op::CtState(states) => states & (1 << query.state as u8) != 0,
            Op::EtherType(test) => {
                let has_vlan = test.set.contains(ETHERTYPE_VLAN);
                // Frames of one flow may have a priority tag (VLAN 0) or none.
                walk.volatile |= has_vlan;
                let found =
                    test.set.contains(ether.ethertype) || (has_vlan && ether.vlan_count != 0);
                found != test.negated
            }
            Op::EtherAddr(end, test) => {
                // The MAC addresses of a flow change when a router takes over from another.
                walk.volatile = true;
                let address = if *end == End::Source {
                    ether.src
                } else {
                    ether.dst
                };
                test.holds(mac_number(address))
            }
            Op::Ip4Addr(end, test) => match address(ip, *end) {
                Some(IpAddr::V4(address)) => test.holds(address.to_bits()),
                _ => false,
            },
            Op::Ip6Addr(end, test) => match address(ip, *end) {
                Some(IpAddr::V6(address)) => test.holds(address.to_bits()),
                _ => false,
            },
            Op::HopLimit6(test) => match ip {
                Some(ip) if Family::of(ip) == Family::V6 => {
                    walk.volatile = true;
                    test.holds(ip.hop_limit.into())
                }
                _ => false,
            },
            Op::Protocol(family, test) => ip.is_some_and(|ip| {
                family.is_none_or(|family| family == Family::of(ip))
                    && test.holds(ip.protocol.into())
            }),
            Op::Port(ports, end, test) => ip
                .and_then(|ip| port(&ip.l4, *ports, *end))
                .is_some_and(|port| test.holds(port)),
            Op::IcmpType(family, test) => match ip {
                Some(ip) if Family::of(ip) == *family && ip.protocol == icmp_of(*family) => {
                    match &ip.l4 {
                        L4::Icmp(icmp) => {
                            walk.volatile = true;
                            test.holds(icmp.kind.into())
                        }
                        _ => false,
                    }
                }
                _ => false,
            },
            Op::Count(_) | Op::SetHelper(..) | Op::Accept | Op::Drop => true,
        }
    }
}

impl Walk {
    fn hit(&mut self, id: CounterId) {
        match self.hits.0.iter_mut().find(|slot| slot.is_none()) {
            Some(slot) => *slot = Some(id),
            None => self.volatile = true,
        }
    }
}

/// A MAC address as a number, so that sets and ranges of them work as for other addresses.
pub(super) fn mac_number([a, b, c, d, e, f]: [u8; 6]) -> u64 {
    u64::from_be_bytes([0, 0, a, b, c, d, e, f])
}

fn address(ip: Option<&Ip>, end: End) -> Option<IpAddr> {
    ip.map(|ip| if end == End::Source { ip.src } else { ip.dst })
}

fn port(l4: &L4, ports: Ports, end: End) -> Option<u16> {
    let (source, destination) = match (l4, ports) {
        (L4::Tcp(tcp), Ports::Tcp | Ports::Any) => (tcp.src_port, tcp.dst_port),
        (L4::Udp(udp), Ports::Udp | Ports::Any) => (udp.src_port, udp.dst_port),
        _ => return None,
    };
    Some(if end == End::Source {
        source
    } else {
        destination
    })
}

fn icmp_of(family: Family) -> u8 {
    match family {
        Family::V4 => proto::ICMP,
        Family::V6 => proto::ICMPV6,
    }
}

fn takes_helper(packet: &Packet, family: Option<Family>) -> bool {
    packet.ip.as_ref().is_some_and(|ip| {
        ip.protocol == proto::TCP && family.is_none_or(|family| family == Family::of(ip))
    })
}
