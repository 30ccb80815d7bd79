use std::cmp::Ordering;
use std::hash::{BuildHasher, Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::icmp;
use crate::wire::{L4, MAX_VLAN_TAGS, Packet, SERVICE_TAG, proto};

/// Who speaks to whom, as one packet says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tuple {
    /// Source address.
    pub src: IpAddr,
    /// Destination address.
    pub dst: IpAddr,
    /// Source port; for ICMP queries the identifier; else 0.
    pub src_port: u16,
    /// Destination port; for ICMP queries and answers the class of the query, with [`ICMP_ANSWER`] beside
    /// that of an answer; else 0.
    pub dst_port: u16,
    /// IP protocol.
    pub protocol: u8,
    /// VLANs, outermost first, as [`EtherHeader::vlan_ids`](crate::wire::EtherHeader::vlan_ids)
    /// has them.
    pub vlan: [u16; MAX_VLAN_TAGS],
}

impl Tuple {
    /// The tuple of a packet; `None` for what is not IP, for fragments, and for ICMP messages
    /// that are neither query nor answer.
    #[inline(always)] // so that the tuple of a packet need not be put together in memory
    #[must_use]
    pub fn of(packet: &Packet) -> Option<Tuple> {
        let ip = packet.ip.as_ref()?;
        Tuple::of_ip(ip, packet.ether.vlan_ids())
    }

    /// The tuple of an IP header, as it stands in a packet or quoted in an ICMP error.
    #[inline(always)]
    #[must_use]
    pub fn of_ip(ip: &crate::wire::Ip, vlan: [u16; MAX_VLAN_TAGS]) -> Option<Tuple> {
        let (src_port, dst_port) = match &ip.l4 {
            L4::Tcp(tcp) => (tcp.src_port, tcp.dst_port),
            L4::Udp(udp) => (udp.src_port, udp.dst_port),
            L4::Icmp(message) => {
                let class = icmp::query_class(ip.protocol, message.kind)?;
                let is_answer = icmp::role(ip.protocol, message.kind) == icmp::Role::Answer;
                (message.id, class | if is_answer { ICMP_ANSWER } else { 0 })
            }
            L4::Other => (0, 0),
            L4::Unparsed => return None,
        };
        Some(Tuple {
            src: ip.src,
            dst: ip.dst,
            src_port,
            dst_port,
            protocol: ip.protocol,
            vlan,
        })
    }
}

/// The name of a flow: the same for both directions, with the end points sorted.
///
/// Five words. IPv4 addresses stand in the first two with a mark that no sorted pair of IPv6
/// addresses can show; the last word holds ports, protocol and VLAN ids. Which of the tags are
/// service tags stands beside them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowKey {
    words: KeyWords,
    hash: u64,
    service_tags: u8,
}

/// The hash is a part of the key: it need not be made again.
impl Hash for FlowKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

/// The part of a key that does not fit into a byte.
pub(super) type KeyWords = [u64; 5];

/// Stands beside the class of an answer in [`Tuple::dst_port`].
pub const ICMP_ANSWER: u16 = 0x8000;

/// Stands beside the class of an ICMP query in a key: the lower end asks. Both ends may ask each other
/// with the same identifier (Windows always uses 1), and these are two flows.
const LOW_ASKS: u16 = 0x8000;

const VLAN_ID_MASK: u16 = 0x0fff;

const IPV4_MARK: u64 = 1 << 32;

impl FlowKey {
    /// The key, and whether the tuple's source is the lower end point.
    #[must_use]
    #[inline(always)] // so that its parts need not go through memory
    pub fn new(tuple: &Tuple, hasher: &impl BuildHasher) -> (FlowKey, bool) {
        let (from_low, mut words) = match (tuple.src, tuple.dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                let (src, dst) = (u64::from(src.to_bits()), u64::from(dst.to_bits()));
                let from_low = is_low(tuple, src, dst);
                let (low, high) = if from_low { (src, dst) } else { (dst, src) };
                (from_low, [low | IPV4_MARK, high, 0, u64::MAX, 0])
            }
            (src, dst) => {
                let (src, dst) = (bits(src), bits(dst));
                let from_low = is_low(tuple, src, dst);
                let (low, high) = if from_low { (src, dst) } else { (dst, src) };
                let halves = |address: u128| ((address >> 64) as u64, address as u64);
                let ((a, b), (c, d)) = (halves(low), halves(high));
                (from_low, [a, b, c, d, 0])
            }
        };
        let (port_a, port_b) = if is_icmp(tuple) {
            let low_asks = from_low != (tuple.dst_port & ICMP_ANSWER != 0);
            let class = tuple.dst_port & !ICMP_ANSWER;
            (tuple.src_port, class | if low_asks { LOW_ASKS } else { 0 })
        } else if from_low {
            (tuple.src_port, tuple.dst_port)
        } else {
            (tuple.dst_port, tuple.src_port)
        };
        let [outer, inner] = tuple.vlan;
        words[4] = u64::from(port_a) << 48
            | u64::from(port_b) << 32
            | u64::from(tuple.protocol) << 24
            | u64::from(outer & VLAN_ID_MASK) << 12
            | u64::from(inner & VLAN_ID_MASK);
        let bit = |id: u16| u8::from(id & SERVICE_TAG != 0);
        let service_tags = bit(outer) << 1 | bit(inner);
        let mut state = hasher.build_hasher();
        let [a, b, c, d, last] = words;
        if c == 0 && d == u64::MAX {
            state.write_u64(a << 32 | b);
        } else {
            [a, b, c, d]
                .into_iter()
                .for_each(|word| state.write_u64(word));
        }
        state.write_u64(last);
        if service_tags != 0 {
            state.write_u8(service_tags);
        }
        let key = FlowKey {
            words,
            hash: state.finish(),
            service_tags,
        };
        (key, from_low)
    }

    /// A key from what [`FlowKey::words`], [`FlowKey::service_tags`] and [`FlowKey::hash_value`]
    /// told.
    pub(super) fn from_parts(words: KeyWords, service_tags: u8, hash: u64) -> FlowKey {
        FlowKey {
            words,
            hash,
            service_tags,
        }
    }

    pub(super) fn words(&self) -> &KeyWords {
        &self.words
    }

    pub(super) fn service_tags(&self) -> u8 {
        self.service_tags
    }

    /// The keyed hash, computed once.
    #[must_use]
    pub fn hash_value(&self) -> u64 {
        self.hash
    }

    /// IP protocol of the flow.
    #[must_use]
    pub fn protocol(&self) -> u8 {
        let [.., last] = self.words;
        (last >> 24) as u8
    }

    /// The VLANs, as [`EtherHeader::vlan_ids`](crate::wire::EtherHeader::vlan_ids) has them.
    #[must_use]
    pub fn vlan(&self) -> [u16; MAX_VLAN_TAGS] {
        let [.., last] = self.words;
        let [outer, inner] = [self.service_tags >> 1, self.service_tags & 1]
            .map(|bit| if bit != 0 { SERVICE_TAG } else { 0 });
        [
            (last >> 12) as u16 & VLAN_ID_MASK | outer,
            last as u16 & VLAN_ID_MASK | inner,
        ]
    }

    /// The end points, lower first, as (address, port); of an ICMP query the identifier and the class.
    #[must_use]
    pub fn ends(&self) -> [(IpAddr, u16); 2] {
        let [a, b, c, d, last] = self.words;
        let mut ports = ((last >> 48) as u16, (last >> 32) as u16);
        if matches!(self.protocol(), proto::ICMP | proto::ICMPV6) {
            ports.1 &= !LOW_ASKS;
        }
        if c == 0 && d == u64::MAX && a >> 32 == 1 {
            let address = |word: u64| IpAddr::V4(Ipv4Addr::from_bits(word as u32));
            return [(address(a), ports.0), (address(b), ports.1)];
        }
        let address = |hi: u64, lo: u64| {
            IpAddr::V6(Ipv6Addr::from_bits(u128::from(hi) << 64 | u128::from(lo)))
        };
        [(address(a, b), ports.0), (address(c, d), ports.1)]
    }
}

fn is_icmp(tuple: &Tuple) -> bool {
    matches!(tuple.protocol, proto::ICMP | proto::ICMPV6)
}

/// Whether the source is the lower end. The identifier of an ICMP query belongs to both ends: only
/// addresses are sorted then.
#[inline]
fn is_low<A: Ord>(tuple: &Tuple, src: A, dst: A) -> bool {
    match src.cmp(&dst) {
        Ordering::Less => true,
        Ordering::Greater => false,
        Ordering::Equal => is_icmp(tuple) || tuple.src_port <= tuple.dst_port,
    }
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(a) => u128::from(a.to_bits()),
        IpAddr::V6(a) => a.to_bits(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tuple(src: &str, sport: u16, dst: &str, dport: u16) -> Tuple {
        Tuple {
            src: src.parse().unwrap(),
            dst: dst.parse().unwrap(),
            src_port: sport,
            dst_port: dport,
            protocol: proto::TCP,
            vlan: [7, 0],
        }
    }

    #[test]
    fn both_directions_have_one_key() {
        let hasher = ahash::RandomState::new();
        for (a, b) in [("192.0.2.1", "192.0.2.2"), ("2001:db8::1", "2001:db8::2")] {
            let (there, from_low) = FlowKey::new(&tuple(a, 1000, b, 21), &hasher);
            let (back, back_from_low) = FlowKey::new(&tuple(b, 21, a, 1000), &hasher);
            assert_eq!(there, back);
            assert!(from_low && !back_from_low);
            assert_eq!(
                there.ends(),
                [(a.parse().unwrap(), 1000), (b.parse().unwrap(), 21)]
            );
            assert_eq!(there.protocol(), proto::TCP);
        }
    }

    #[test]
    fn who_asks_is_a_part_of_an_icmp_key() {
        let hasher = ahash::RandomState::new();
        let (a, b) = ("192.0.2.1", "192.0.2.2");
        let key = |src, dst, class| {
            let mut query = tuple(src, 1, dst, class);
            query.protocol = proto::ICMP;
            FlowKey::new(&query, &hasher)
        };
        for (a, b) in [(a, b), (b, a)] {
            let (asked, from_low) = key(a, b, 8);
            let (answered, back_from_low) = key(b, a, 8 | ICMP_ANSWER);
            assert_eq!(asked, answered);
            assert_ne!(from_low, back_from_low);
            assert_ne!(asked, key(b, a, 8).0, "the other one asks, too");
            assert_eq!(asked.ends().map(|(_, port)| port), [1, 8]);
        }
    }

    #[test]
    fn what_differs_has_another_key() {
        let hasher = ahash::RandomState::new();
        let key = |t: &Tuple| FlowKey::new(t, &hasher).0;
        let base = tuple("192.0.2.1", 1000, "192.0.2.2", 21);
        let other = [
            Tuple {
                vlan: [8, 0],
                ..base
            },
            Tuple {
                vlan: [0, 7],
                ..base
            },
            Tuple {
                protocol: proto::UDP,
                ..base
            },
            Tuple {
                src_port: 1001,
                ..base
            },
            Tuple {
                dst: [192, 0, 2, 3].into(),
                ..base
            },
            // An S-tag is another network than a C-tag with the same id.
            Tuple {
                vlan: [7 | SERVICE_TAG, 0],
                ..base
            },
            Tuple {
                vlan: [7, SERVICE_TAG],
                ..base
            },
            tuple("::ffff:192.0.2.1", 1000, "::ffff:192.0.2.2", 21),
            tuple("::192.0.2.1", 1000, "::192.0.2.2", 21),
        ];
        for t in other {
            assert_ne!(key(&base), key(&t), "{t:?}");
            assert_ne!(key(&base).hash_value(), key(&t).hash_value(), "{t:?}");
            assert_eq!(key(&t).vlan(), t.vlan);
        }
    }

    #[test]
    fn two_tables_hash_differently() {
        let base = tuple("192.0.2.1", 1000, "192.0.2.2", 21);
        let (a, b) = (ahash::RandomState::new(), ahash::RandomState::new());
        assert_ne!(
            FlowKey::new(&base, &a).0.hash,
            FlowKey::new(&base, &b).0.hash
        );
    }
}
