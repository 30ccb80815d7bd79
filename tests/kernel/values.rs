//! Values of fields, from pools that the traffic is drawn from, too, so that rules often match.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::frame::Mac;
use crate::rng::Rng;

pub const INSIDE_V4: [[u8; 4]; 3] = [[192, 0, 2, 10], [192, 0, 2, 11], [192, 0, 2, 130]];
pub const OUTSIDE_V4: [[u8; 4]; 3] = [[198, 51, 100, 20], [198, 51, 100, 21], [203, 0, 113, 5]];
pub const INSIDE_V6: [u128; 3] = [
    0x2001_0db8_0001_0000_0000_0000_0000_0010,
    0x2001_0db8_0001_0000_0000_0000_0000_0011,
    0x2001_0db8_0001_0002_0000_0000_0000_0010,
];
pub const OUTSIDE_V6: [u128; 3] = [
    0x2001_0db8_0002_0000_0000_0000_0000_0020,
    0x2001_0db8_0002_0000_0000_0000_0000_0021,
    0x2001_0db8_00ff_0000_0000_0000_0000_0005,
];
pub const MACS: [Mac; 6] = [
    [2, 0, 0, 0, 1, 0x10],
    [2, 0, 0, 0, 1, 0x11],
    [2, 0, 0, 0, 1, 0x12],
    [2, 0, 0, 0, 2, 0x20],
    [2, 0, 0, 0, 2, 0x21],
    [2, 0, 0, 0, 2, 0x22],
];
pub const PORTS: [u16; 12] = [
    20, 21, 22, 53, 80, 1023, 1024, 5000, 5001, 40000, 40001, 65535,
];
pub const HOP_LIMITS: [u8; 6] = [0, 1, 2, 63, 64, 255];
/// Best effort, CS1, AF11, EF, CS6.
pub const DSCPS: [u8; 5] = [0, 8, 10, 46, 48];
pub const LENGTHS: [u16; 10] = [0, 8, 20, 28, 40, 44, 60, 84, 100, 1500];
pub const ETHERTYPES: [u16; 6] = [0x0800, 0x86dd, 0x0806, 0x88cc, 0x9000, 0x22f0];
pub const VLANS: [u16; 5] = [0, 5, 6, 7, 4094];
pub const PROTOCOLS: [u8; 8] = [1, 6, 17, 58, 132, 47, 2, 89];
pub const WINDOWS: [u16; 4] = [0, 100, 1000, 65535];

/// Kinds of values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    V4,
    V6,
    Mac,
    Port,
    Protocol,
    HopLimit,
    Dscp,
    Ecn,
    Length,
    Id,
    HeaderWords,
    EtherType,
    VlanId,
    VlanPriority,
    ArpOperation,
    IcmpType,
    IcmpCode,
    Icmpv6Type,
    Window,
}

impl Kind {
    /// Values can be less or greater.
    pub fn is_ordered(self) -> bool {
        use Kind::{HeaderWords, HopLimit, Id, Length, Port, VlanId, VlanPriority, Window};
        matches!(
            self,
            Port | HopLimit | Length | Id | HeaderWords | VlanId | VlanPriority | Window
        )
    }

    /// The type of named sets of such values.
    pub fn set_type(self) -> Option<&'static str> {
        Some(match self {
            Kind::V4 => "ipv4_addr",
            Kind::V6 => "ipv6_addr",
            Kind::Mac => "ether_addr",
            Kind::Port => "inet_service",
            Kind::Protocol => "inet_proto",
            Kind::IcmpType => "icmp_type",
            Kind::Icmpv6Type => "icmpv6_type",
            Kind::EtherType => "ether_type",
            _ => return None,
        })
    }

    fn pool(self) -> Vec<u128> {
        let numbers = |numbers: &[u16]| numbers.iter().map(|&n| n.into()).collect();
        let bytes = |numbers: &[u8]| numbers.iter().map(|&n| n.into()).collect();
        match self {
            Kind::V4 => INSIDE_V4
                .into_iter()
                .chain(OUTSIDE_V4)
                .map(|a| u32::from_be_bytes(a).into())
                .collect(),
            Kind::V6 => INSIDE_V6.into_iter().chain(OUTSIDE_V6).collect(),
            Kind::Mac => MACS
                .into_iter()
                .map(|[a, b, c, d, e, f]| u64::from_be_bytes([0, 0, a, b, c, d, e, f]).into())
                .collect(),
            Kind::Port => numbers(&PORTS),
            Kind::Protocol => bytes(&PROTOCOLS),
            Kind::HopLimit => bytes(&HOP_LIMITS),
            Kind::Dscp => bytes(&DSCPS),
            Kind::Ecn => bytes(&[0, 1, 2, 3]),
            Kind::Length => numbers(&LENGTHS),
            Kind::Id => numbers(&[1, 2, 3, 1000]),
            Kind::HeaderWords => numbers(&[5, 6, 8]),
            Kind::EtherType => numbers(&ETHERTYPES),
            Kind::VlanId => numbers(&VLANS),
            Kind::VlanPriority => numbers(&[0, 3, 7]),
            Kind::ArpOperation => numbers(&[1, 2, 8]),
            Kind::IcmpType => bytes(&[0, 3, 5, 8, 11, 13, 14]),
            Kind::Icmpv6Type => bytes(&[1, 2, 3, 128, 129, 133, 135, 136]),
            Kind::IcmpCode => bytes(&[0, 1, 3, 4]),
            Kind::Window => numbers(&WINDOWS),
        }
    }

    /// Without names: nft reads `tcp-udp` as one.
    fn range(self, low: u128, high: u128) -> String {
        let write = |value: u128| match self {
            Kind::V4 => Ipv4Addr::from_bits(value as u32).to_string(),
            Kind::V6 => Ipv6Addr::from_bits(value).to_string(),
            Kind::Mac => mac(value),
            _ => value.to_string(),
        };
        format!("{}-{}", write(low), write(high))
    }

    fn write(self, value: u128, rng: &mut Rng) -> String {
        let named = |names: &[(u128, &str)]| {
            names
                .iter()
                .find(|(number, _)| *number == value)
                .map(|(_, name)| (*name).to_owned())
        };
        let name = match self {
            Kind::V4 => return Ipv4Addr::from_bits(value as u32).to_string(),
            Kind::V6 => return Ipv6Addr::from_bits(value).to_string(),
            Kind::Mac => return mac(value),
            Kind::EtherType => named(&[(0x0800, "ip"), (0x86dd, "ip6"), (0x0806, "arp")])
                .or_else(|| Some(format!("{value:#x}"))),
            Kind::Protocol => named(&[
                (1, "icmp"),
                (6, "tcp"),
                (17, "udp"),
                (58, "icmpv6"),
                (132, "sctp"),
            ]),
            Kind::IcmpType => named(&[
                (0, "echo-reply"),
                (3, "destination-unreachable"),
                (8, "echo-request"),
                (11, "time-exceeded"),
            ]),
            Kind::Icmpv6Type => named(&[
                (1, "destination-unreachable"),
                (128, "echo-request"),
                (129, "echo-reply"),
                (135, "nd-neighbor-solicit"),
            ]),
            Kind::ArpOperation => named(&[(1, "request"), (2, "reply")]),
            Kind::Dscp => named(&[(8, "cs1"), (10, "af11"), (46, "ef"), (48, "cs6")]),
            _ => None,
        };
        match name {
            Some(name) if rng.percent(70) || self == Kind::EtherType => name,
            _ => value.to_string(),
        }
    }
}

fn mac(value: u128) -> String {
    let bytes = (value as u64).to_be_bytes();
    let words: Vec<_> = bytes[2..]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    words.join(":")
}

/// A single value.
pub fn plain(rng: &mut Rng, kind: Kind) -> String {
    let value = *rng.pick(&kind.pool());
    kind.write(value, rng)
}

/// A value, a range, or a prefix.
pub fn element(rng: &mut Rng, kind: Kind) -> String {
    let pool = kind.pool();
    let value = *rng.pick(&pool);
    match (kind, rng.below(10)) {
        (Kind::V4, 0..=3) => {
            let bits = *rng.pick(&[0, 8, 16, 24, 25, 28, 31, 32]);
            format!("{}/{bits}", Ipv4Addr::from_bits(value as u32))
        }
        (Kind::V6, 0..=3) => {
            let bits = *rng.pick(&[0, 16, 32, 48, 64, 120, 127, 128]);
            format!("{}/{bits}", Ipv6Addr::from_bits(value))
        }
        (_, 4..=5) => {
            let other = *rng.pick(&pool);
            let (low, high) = (value.min(other), value.max(other));
            match low == high {
                true => kind.write(low, rng),
                false => kind.range(low, high),
            }
        }
        _ => kind.write(value, rng),
    }
}

/// What stands in a set's braces; the same value may come twice.
pub fn set(rng: &mut Rng, kind: Kind, count: u64) -> String {
    let elements: Vec<_> = (0..count).map(|_| element(rng, kind)).collect();
    elements.join(", ")
}

/// Values and ranges of which no two overlap, as named sets and maps ask.
pub fn disjoint(rng: &mut Rng, kind: Kind, count: u64) -> Vec<String> {
    let mut pool = kind.pool();
    pool.sort_unstable();
    let mut elements = Vec::new();
    let mut at = 0;
    while at < pool.len() && (elements.len() as u64) < count {
        at += rng.below(2) as usize;
        let Some(&low) = pool.get(at) else { break };
        match pool.get(at + 1) {
            Some(&high) if rng.percent(30) => {
                elements.push(kind.range(low, high));
                at += 2;
            }
            _ => {
                elements.push(kind.write(low, rng));
                at += 1;
            }
        }
    }
    if elements.is_empty() {
        elements.push(kind.write(pool[0], rng));
    }
    elements
}

/// The hosts of a side.
pub fn hosts(is_v6: bool, inside: bool) -> [IpAddr; 3] {
    match (is_v6, inside) {
        (false, true) => INSIDE_V4.map(|a| Ipv4Addr::from(a).into()),
        (false, false) => OUTSIDE_V4.map(|a| Ipv4Addr::from(a).into()),
        (true, true) => INSIDE_V6.map(|a| Ipv6Addr::from_bits(a).into()),
        (true, false) => OUTSIDE_V6.map(|a| Ipv6Addr::from_bits(a).into()),
    }
}
