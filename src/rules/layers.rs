//! Which packets a rule can still match, by Ethernet type and protocol: a rule that asks for two
//! things that no packet has together is a mistake.

use super::checked::TableFamily;
use super::diagnostic::Problem;
use super::field::Field;
use super::intervals::IntervalSet;
use super::lexer::Span;
use super::names::ETHERTYPE_VLAN;
use crate::wire::{ETHERTYPE_IPV4, ETHERTYPE_IPV6};

#[derive(Debug)]
pub(super) struct Layers {
    family: TableFamily,
    ethertypes: Narrowed,
    protocols: Narrowed,
}

#[derive(Debug)]
struct Narrowed {
    set: IntervalSet<u128>,
    /// The match that narrowed it last, if one did.
    by: Option<Span>,
}

impl Narrowed {
    fn narrow(&mut self, to: &IntervalSet<u128>, by: Span) -> Result<(), Option<Span>> {
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
    pub(super) fn new(family: TableFamily) -> Layers {
        let set = match family {
            TableFamily::Bridge => IntervalSet::full(),
            TableFamily::Inet => these(&[ETHERTYPE_IPV4, ETHERTYPE_IPV6]),
            TableFamily::Ip => these(&[ETHERTYPE_IPV4]),
            TableFamily::Ip6 => these(&[ETHERTYPE_IPV6]),
        };
        Layers {
            family,
            ethertypes: Narrowed { set, by: None },
            protocols: Narrowed {
                set: IntervalSet::of(vec![(0, 255)]),
                by: None,
            },
        }
    }

    /// Takes a match into account; a problem if no packet is left. `values` are those of the field
    /// that match, where they are known.
    pub(super) fn narrow(
        &mut self,
        field: Field,
        values: Option<&IntervalSet<u128>>,
        span: Span,
    ) -> Option<Problem> {
        let vlan = u128::from(ETHERTYPE_VLAN);
        let ethertypes = match field {
            // A tagged frame answers to `vlan` whatever it carries.
            Field::EtherType => values.filter(|values| !values.contains(vlan)).cloned(),
            Field::Protocol => values.cloned(),
            _ => field.ethertypes().map(these),
        };
        let protocols = match field {
            Field::L4Proto | Field::IpProtocol | Field::Ip6NextHeader => values.cloned(),
            _ => field.protocols().map(these),
        };
        let layers = [
            (&mut self.ethertypes, ethertypes),
            (&mut self.protocols, protocols),
        ];
        for (layer, to) in layers {
            let Some(to) = to else { continue };
            let Err(by) = layer.narrow(&to, span) else {
                continue;
            };
            let message = format!("`{}` can never match here", field.name());
            let problem = Problem::new(span, message, "");
            return Some(match (by, self.family) {
                (Some(by), _) => problem.also(by, "no packet is both this and that"),
                (None, TableFamily::Inet) => problem
                    .hint("inet tables see only IPv4 and IPv6: write a `table bridge` for it"),
                (None, TableFamily::Ip) => problem
                    .hint("ip tables see only IPv4: write a `table inet` or `table bridge` for it"),
                (None, TableFamily::Ip6) => problem.hint(
                    "ip6 tables see only IPv6: write a `table inet` or `table bridge` for it",
                ),
                (None, TableFamily::Bridge) => problem,
            });
        }
        None
    }
}

fn these<T: Into<u128> + Copy>(numbers: &[T]) -> IntervalSet<u128> {
    let one = |&number: &T| (number.into(), number.into());
    IntervalSet::of(numbers.iter().map(one).collect())
}
