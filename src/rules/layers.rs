//! Which packets a rule can still match, by Ethernet type and protocol: a rule that asks for two
//! things that no packet has together is a mistake.

use super::ast::{Field, Ports};
use super::diagnostic::Problem;
use super::intervals::IntervalSet;
use super::lexer::Span;
use super::names::ETHERTYPE_VLAN;
use super::program::{Family, Op, Test};
use crate::wire::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, proto};

#[derive(Debug)]
pub(super) struct Layers {
    inet: bool,
    ethertypes: Narrowed,
    protocols: Narrowed,
}

#[derive(Debug)]
struct Narrowed {
    set: IntervalSet<u16>,
    /// The match that narrowed it last, if one did.
    by: Option<Span>,
}

impl Narrowed {
    fn narrow(&mut self, to: &IntervalSet<u16>, by: Span) -> Result<(), Option<Span>> {
        let both = self.set.intersection(to);
        if both.is_empty() {
            return Err(self.by);
        }
        if both != self.set {
            *self = Narrowed {
                set: both,
                by: Some(by),
            };
        }
        Ok(())
    }
}

impl Layers {
    pub(super) fn new(inet: bool) -> Layers {
        let set = if inet {
            ip_types()
        } else {
            IntervalSet::full()
        };
        Layers {
            inet,
            ethertypes: Narrowed { set, by: None },
            protocols: Narrowed {
                set: IntervalSet::of(vec![(0, 255)]),
                by: None,
            },
        }
    }

    /// Takes a match into account; a problem if no packet is left.
    pub(super) fn narrow(&mut self, op: &Op, field: Field, span: Span) -> Option<Problem> {
        let ethertypes = match op {
            // A tagged frame answers to `vlan` whatever it carries.
            Op::EtherType(test) if test.set.contains(ETHERTYPE_VLAN) => None,
            Op::EtherType(test) => Some(matched(test)),
            Op::Ip4Addr(..) | Op::IcmpType(Family::V4, _) | Op::Protocol(Some(Family::V4), _) => {
                Some(only(ETHERTYPE_IPV4))
            }
            Op::Ip6Addr(..)
            | Op::HopLimit6(_)
            | Op::IcmpType(Family::V6, _)
            | Op::Protocol(Some(Family::V6), _) => Some(only(ETHERTYPE_IPV6)),
            Op::Protocol(None, _) | Op::Port(..) => Some(ip_types()),
            _ => None,
        };
        let protocols = match op {
            Op::Protocol(_, test) => Some(matched(test)),
            Op::Port(Ports::Tcp, ..) => Some(only(proto::TCP.into())),
            Op::Port(Ports::Udp, ..) => Some(only(proto::UDP.into())),
            Op::Port(Ports::Any, ..) => {
                let (tcp, udp) = (proto::TCP.into(), proto::UDP.into());
                Some(IntervalSet::of(vec![(tcp, tcp), (udp, udp)]))
            }
            Op::IcmpType(Family::V4, _) => Some(only(proto::ICMP.into())),
            Op::IcmpType(Family::V6, _) => Some(only(proto::ICMPV6.into())),
            _ => None,
        };
        let inet = self.inet;
        let contradiction = |by: Option<Span>| {
            let message = format!("`{}` can never match here", field.name());
            let problem = Problem::new(span, message, "");
            match by {
                Some(by) => problem.also(by, "no packet is both this and that"),
                None if inet => problem
                    .hint("inet tables see only IPv4 and IPv6: write a `table bridge` for it"),
                None => problem,
            }
        };
        let layers = [
            (&mut self.ethertypes, ethertypes),
            (&mut self.protocols, protocols),
        ];
        for (layer, to) in layers {
            if let Some(to) = to
                && let Err(by) = layer.narrow(&to, span)
            {
                return Some(contradiction(by));
            }
        }
        None
    }
}

fn matched(test: &Test<u16>) -> IntervalSet<u16> {
    if test.negated {
        test.set.complement()
    } else {
        test.set.clone()
    }
}

fn only(number: u16) -> IntervalSet<u16> {
    IntervalSet::of(vec![(number, number)])
}

fn ip_types() -> IntervalSet<u16> {
    let (v4, v6) = (ETHERTYPE_IPV4, ETHERTYPE_IPV6);
    IntervalSet::of(vec![(v4, v4), (v6, v6)])
}
