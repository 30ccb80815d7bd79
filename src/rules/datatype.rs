//! Kinds of values: how nft names them, how they are read, and how they are printed.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::PortNames;
use super::names::{self, name_of, nearest, number_of};
use super::values::{self, Fault, Numbers, Value};
use crate::wire::Side;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Datatype {
    IfName,
    EtherAddr,
    EtherType,
    VlanId,
    VlanPcp,
    ArpOp,
    Ipv4Addr,
    Ipv6Addr,
    InetProto,
    InetService,
    HopLimit,
    Dscp,
    Length,
    NfProto,
    TcpFlag,
    IcmpType,
    IcmpCode,
    Icmpv6Type,
    Icmpv6Code,
    CtState,
    CtDir,
    CtHelper,
}

/// The kinds that `type` of a set may name.
const NAMED: &[(&str, Datatype)] = &[
    ("ifname", Datatype::IfName),
    ("ether_addr", Datatype::EtherAddr),
    ("ether_type", Datatype::EtherType),
    ("arp_op", Datatype::ArpOp),
    ("ipv4_addr", Datatype::Ipv4Addr),
    ("ipv6_addr", Datatype::Ipv6Addr),
    ("inet_proto", Datatype::InetProto),
    ("inet_service", Datatype::InetService),
    ("dscp", Datatype::Dscp),
    ("nf_proto", Datatype::NfProto),
    ("tcp_flag", Datatype::TcpFlag),
    ("icmp_type", Datatype::IcmpType),
    ("icmp_code", Datatype::IcmpCode),
    ("icmpv6_type", Datatype::Icmpv6Type),
    ("icmpv6_code", Datatype::Icmpv6Code),
    ("ct_state", Datatype::CtState),
    ("ct_dir", Datatype::CtDir),
];

/// The kind of this name.
pub(super) fn named(name: &str) -> Result<Datatype, Fault> {
    if let Some(&(_, datatype)) = NAMED.iter().find(|&&(known, _)| known == name) {
        return Ok(datatype);
    }
    let all = NAMED.iter().map(|&(known, _)| known);
    let hint = match nearest(all.clone(), name) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("one of: {}", all.collect::<Vec<_>>().join(", ")),
    };
    Err(Fault {
        message: format!("`{}` is not a type of elements", name.escape_debug()),
        hint,
    })
}

impl Datatype {
    /// As `type` of a set names it; the kinds that have no name there, by what their field is.
    pub(super) fn name(self) -> &'static str {
        let found = NAMED.iter().find(|&&(_, datatype)| datatype == self);
        match (found, self) {
            (Some((name, _)), _) => name,
            (None, Datatype::VlanId) => "vlan id",
            (None, Datatype::VlanPcp) => "vlan pcp",
            (None, Datatype::HopLimit) => "ip ttl",
            (None, Datatype::Length) => "ip length",
            (None, _) => "ct helper",
        }
    }

    /// Whether a value is a mask of bits.
    pub(super) fn is_mask(self) -> bool {
        self == Datatype::TcpFlag
    }

    /// Whether values have an order that ranges and `<` can go by.
    pub(super) fn is_ordered(self) -> bool {
        !matches!(
            self,
            Datatype::IfName
                | Datatype::TcpFlag
                | Datatype::CtState
                | Datatype::CtDir
                | Datatype::CtHelper
                | Datatype::NfProto
        )
    }

    /// The largest value.
    pub(super) fn max(self) -> u128 {
        match self {
            Datatype::EtherAddr => (1 << 48) - 1,
            Datatype::Ipv4Addr => u32::MAX.into(),
            Datatype::Ipv6Addr => u128::MAX,
            Datatype::IfName => 1,
            Datatype::TcpFlag => 0xff,
            Datatype::CtState => 4,
            Datatype::CtHelper => 0,
            Datatype::NfProto => 255,
            _ => self.numbers().map_or(0, |numbers| numbers.max.into()),
        }
    }

    fn numbers(self) -> Option<Numbers> {
        Some(match self {
            Datatype::EtherType => values::ETHERTYPE,
            Datatype::VlanId => values::VLAN_ID,
            Datatype::VlanPcp => values::VLAN_PCP,
            Datatype::ArpOp => values::ARP_OPERATION,
            Datatype::InetProto => values::PROTOCOL,
            Datatype::InetService => values::PORT,
            Datatype::HopLimit => values::HOP_LIMIT,
            Datatype::Dscp => values::DSCP,
            Datatype::Length => values::LENGTH,
            Datatype::NfProto => values::NFPROTO,
            Datatype::IcmpType => values::ICMP_TYPE,
            Datatype::IcmpCode => values::ICMP_CODE,
            Datatype::Icmpv6Type => values::ICMPV6_TYPE,
            Datatype::Icmpv6Code => values::ICMPV6_CODE,
            Datatype::CtState => values::CT_STATE,
            Datatype::CtDir => values::CT_DIRECTION,
            _ => return None,
        })
    }

    /// Reads a word.
    pub(super) fn value(self, word: &str, ports: &PortNames) -> Value<u128> {
        let wide = |(low, high): (u16, u16)| (low.into(), high.into());
        match self {
            Datatype::IfName => port(word, ports),
            Datatype::EtherAddr => values::mac(word).map(|(a, b)| (a.into(), b.into())),
            Datatype::Ipv4Addr => values::ipv4(word).map(|(a, b)| (a.into(), b.into())),
            Datatype::Ipv6Addr => values::ipv6(word),
            Datatype::TcpFlag => tcp_flags(word),
            Datatype::CtHelper => match number_of(names::HELPERS, word) {
                Some(number) => Ok(wide((number, number))),
                None => Err(Fault {
                    message: format!("lotus has no helper `{}`", word.escape_debug()),
                    hint: "lotus reads FTP: \"ftp\"".to_owned(),
                }),
            },
            _ => match self.numbers() {
                Some(numbers) => numbers.value(word).map(wide),
                None => Ok((0, 0)),
            },
        }
    }

    /// One value, or a range, as `nft list` prints it.
    pub(super) fn print(self, low: u128, high: u128, ports: &PortNames) -> String {
        if low == high {
            return self.print_one(low, ports);
        }
        if let Some(bits) = self.prefix_bits(low, high) {
            return format!("{}/{bits}", self.print_one(low, ports));
        }
        if self == Datatype::IfName {
            return "\"*\"".to_owned();
        }
        format!("{}-{}", self.plain(low), self.plain(high))
    }

    fn print_one(self, value: u128, ports: &PortNames) -> String {
        match self {
            Datatype::IfName => {
                let name = if value == Side::Inside.index() as u128 {
                    &ports.inside
                } else {
                    &ports.outside
                };
                format!("\"{name}\"")
            }
            Datatype::CtHelper => "\"ftp\"".to_owned(),
            Datatype::TcpFlag => print_flags(value),
            // Numbers, as nft prints services.
            Datatype::InetService => value.to_string(),
            _ => match self.numbers() {
                Some(numbers) => match name_of(numbers.names, value) {
                    Some(name) => name.to_owned(),
                    None => self.plain(value),
                },
                None => self.plain(value),
            },
        }
    }

    /// Without names.
    fn plain(self, value: u128) -> String {
        match self {
            Datatype::Ipv4Addr => {
                let bits = u32::try_from(value).unwrap_or_default();
                Ipv4Addr::from_bits(bits).to_string()
            }
            Datatype::Ipv6Addr => Ipv6Addr::from_bits(value).to_string(),
            Datatype::EtherAddr => {
                let [_, _, bytes @ ..] = u64::try_from(value).unwrap_or_default().to_be_bytes();
                bytes.map(|byte| format!("{byte:02x}")).join(":")
            }
            Datatype::EtherType if value >= 1536 => format!("{value:#06x}"),
            _ => value.to_string(),
        }
    }

    /// The length of the prefix that these two are the ends of.
    fn prefix_bits(self, low: u128, high: u128) -> Option<u32> {
        let width = match self {
            Datatype::Ipv4Addr => 32,
            Datatype::Ipv6Addr => 128,
            _ => return None,
        };
        let differing = low ^ high;
        let host_bits = 128 - differing.leading_zeros();
        let is_prefix = differing.count_ones() == host_bits && low & differing == 0;
        is_prefix.then_some(width - host_bits)
    }
}

/// The port, or the ports, that a name or a pattern such as `eth*` means.
fn port(word: &str, ports: &PortNames) -> Value<u128> {
    let PortNames { inside, outside } = ports;
    let matches = |name: &str| match word.strip_suffix('*') {
        Some(prefix) => name.starts_with(prefix),
        None => name == word,
    };
    let (first, last) = (Side::Inside.index() as u128, Side::Outside.index() as u128);
    match (matches(inside), matches(outside)) {
        (true, true) => Ok((first.min(last), first.max(last))),
        (true, false) => Ok((first, first)),
        (false, true) => Ok((last, last)),
        (false, false) => Err(Fault {
            message: format!("no port is called \"{}\"", word.escape_debug()),
            hint: format!(
                "the two ports are \"{inside}\" (inside) and \"{outside}\" (outside), as --inside \
                 and --outside name them; `$inside` and `$outside` fit any names"
            ),
        }),
    }
}

/// `syn`, or `syn | ack`, or a number.
fn tcp_flags(word: &str) -> Value<u128> {
    let mut mask = 0u16;
    for flag in word.split(['|', ',']).map(str::trim) {
        mask |= values::TCP_FLAG.value(flag)?.0;
    }
    Ok((mask.into(), mask.into()))
}

fn print_flags(mask: u128) -> String {
    if mask == 0 {
        return "0x0".to_owned();
    }
    let set = names::TCP_FLAGS
        .iter()
        .filter(|&&(_, bit)| mask & u128::from(bit) != 0);
    set.map(|&(name, _)| name).collect::<Vec<_>>().join(" | ")
}
