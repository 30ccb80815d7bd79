//! What a match can look at: how nft spells it, what values it has, which packets have it, and
//! where it is in a packet.

use std::net::IpAddr;

use super::Query;
use super::datatype::Datatype;
use super::program::mac_number;
use crate::conntrack::{CtState, Direction};
use crate::wire::{ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6, Ip, L4, proto};

/// Which end of a packet's way a field names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum End {
    Source,
    Destination,
}

/// Protocols whose headers begin with ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Ports {
    Tcp,
    Udp,
    Sctp,
    /// `th`: whichever of them the packet has.
    Any,
}

/// IPv4 or IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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

    pub(super) fn ethertype(self) -> u16 {
        match self {
            Family::V4 => ETHERTYPE_IPV4,
            Family::V6 => ETHERTYPE_IPV6,
        }
    }

    fn icmp(self) -> u8 {
        match self {
            Family::V4 => proto::ICMP,
            Family::V6 => proto::ICMPV6,
        }
    }
}

/// What a match looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Field {
    IifName,
    OifName,
    EtherType,
    EtherAddr(End),
    VlanId,
    VlanPcp,
    VlanType,
    ArpOperation,
    ArpIp(End),
    ArpEther(End),
    IpAddr(End),
    IpProtocol,
    IpTtl,
    IpDscp,
    IpLength,
    Ip6Addr(End),
    Ip6NextHeader,
    Ip6HopLimit,
    Ip6Dscp,
    Ip6Length,
    L4Proto,
    NfProto,
    Protocol,
    /// Of the datagram.
    Length,
    /// Of all that is behind the Ethernet header and its tags: bridge tables see that.
    FrameLength,
    Port(Ports, End),
    TcpFlags,
    IcmpType(Family),
    IcmpCode(Family),
    CtState,
    CtDirection,
    CtHelper,
}

use End::{Destination, Source};
use Family::{V4, V6};

/// Every field with its words, in the order in which messages list them. Where a field has two
/// spellings the first is the one that is printed.
const FIELDS: &[(&[&str], Field)] = &[
    (&["iifname"], Field::IifName),
    (&["iif"], Field::IifName),
    (&["oifname"], Field::OifName),
    (&["oif"], Field::OifName),
    (&["meta", "iifname"], Field::IifName),
    (&["meta", "iif"], Field::IifName),
    (&["meta", "oifname"], Field::OifName),
    (&["meta", "oif"], Field::OifName),
    (&["meta", "l4proto"], Field::L4Proto),
    (&["meta", "nfproto"], Field::NfProto),
    (&["meta", "protocol"], Field::Protocol),
    (&["meta", "length"], Field::Length),
    (&["meta", "length"], Field::FrameLength),
    (&["ether", "type"], Field::EtherType),
    (&["ether", "saddr"], Field::EtherAddr(Source)),
    (&["ether", "daddr"], Field::EtherAddr(Destination)),
    (&["vlan", "id"], Field::VlanId),
    (&["vlan", "pcp"], Field::VlanPcp),
    (&["vlan", "type"], Field::VlanType),
    (&["arp", "operation"], Field::ArpOperation),
    (&["arp", "saddr", "ip"], Field::ArpIp(Source)),
    (&["arp", "daddr", "ip"], Field::ArpIp(Destination)),
    (&["arp", "saddr", "ether"], Field::ArpEther(Source)),
    (&["arp", "daddr", "ether"], Field::ArpEther(Destination)),
    (&["ip", "saddr"], Field::IpAddr(Source)),
    (&["ip", "daddr"], Field::IpAddr(Destination)),
    (&["ip", "protocol"], Field::IpProtocol),
    (&["ip", "ttl"], Field::IpTtl),
    (&["ip", "dscp"], Field::IpDscp),
    (&["ip", "length"], Field::IpLength),
    (&["ip6", "saddr"], Field::Ip6Addr(Source)),
    (&["ip6", "daddr"], Field::Ip6Addr(Destination)),
    (&["ip6", "nexthdr"], Field::Ip6NextHeader),
    (&["ip6", "hoplimit"], Field::Ip6HopLimit),
    (&["ip6", "dscp"], Field::Ip6Dscp),
    (&["ip6", "length"], Field::Ip6Length),
    (&["tcp", "sport"], Field::Port(Ports::Tcp, Source)),
    (&["tcp", "dport"], Field::Port(Ports::Tcp, Destination)),
    (&["tcp", "flags"], Field::TcpFlags),
    (&["udp", "sport"], Field::Port(Ports::Udp, Source)),
    (&["udp", "dport"], Field::Port(Ports::Udp, Destination)),
    (&["sctp", "sport"], Field::Port(Ports::Sctp, Source)),
    (&["sctp", "dport"], Field::Port(Ports::Sctp, Destination)),
    (&["th", "sport"], Field::Port(Ports::Any, Source)),
    (&["th", "dport"], Field::Port(Ports::Any, Destination)),
    (&["icmp", "type"], Field::IcmpType(V4)),
    (&["icmp", "code"], Field::IcmpCode(V4)),
    (&["icmpv6", "type"], Field::IcmpType(V6)),
    (&["icmpv6", "code"], Field::IcmpCode(V6)),
    (&["ct", "state"], Field::CtState),
    (&["ct", "direction"], Field::CtDirection),
    (&["ct", "helper"], Field::CtHelper),
];

/// The words that may follow these, each once, in the order of the list; a field ends where `""`
/// may follow.
pub(super) fn words_after(words: &[&str]) -> Vec<&'static str> {
    let mut after: Vec<&'static str> = Vec::new();
    for (name, _) in FIELDS {
        if name.len() >= words.len() && name.iter().zip(words).all(|(a, b)| a == b) {
            let next = name.get(words.len()).copied().unwrap_or_default();
            if !after.contains(&next) {
                after.push(next);
            }
        }
    }
    after
}

/// The field that is spelt with exactly these words.
pub(super) fn named(words: &[&str]) -> Option<Field> {
    let found = FIELDS.iter().find(|(name, _)| *name == words);
    found.map(|&(_, field)| field)
}

impl Field {
    /// As nft spells it.
    pub(super) fn name(self) -> String {
        let found = FIELDS.iter().find(|&&(_, field)| field == self);
        found.map_or_else(String::new, |(words, _)| words.join(" "))
    }

    /// What its values are.
    pub(super) fn datatype(self) -> Datatype {
        match self {
            Field::IifName | Field::OifName => Datatype::IfName,
            Field::EtherType | Field::VlanType | Field::Protocol => Datatype::EtherType,
            Field::EtherAddr(_) | Field::ArpEther(_) => Datatype::EtherAddr,
            Field::VlanId => Datatype::VlanId,
            Field::VlanPcp => Datatype::VlanPcp,
            Field::ArpOperation => Datatype::ArpOp,
            Field::ArpIp(_) | Field::IpAddr(_) => Datatype::Ipv4Addr,
            Field::Ip6Addr(_) => Datatype::Ipv6Addr,
            Field::IpProtocol | Field::Ip6NextHeader | Field::L4Proto => Datatype::InetProto,
            Field::IpTtl | Field::Ip6HopLimit => Datatype::HopLimit,
            Field::IpDscp | Field::Ip6Dscp => Datatype::Dscp,
            Field::IpLength | Field::Ip6Length | Field::Length | Field::FrameLength => {
                Datatype::Length
            }
            Field::NfProto => Datatype::NfProto,
            Field::Port(..) => Datatype::InetService,
            Field::TcpFlags => Datatype::TcpFlag,
            Field::IcmpType(V4) => Datatype::IcmpType,
            Field::IcmpType(V6) => Datatype::Icmpv6Type,
            Field::IcmpCode(V4) => Datatype::IcmpCode,
            Field::IcmpCode(V6) => Datatype::Icmpv6Code,
            Field::CtState => Datatype::CtState,
            Field::CtDirection => Datatype::CtDir,
            Field::CtHelper => Datatype::CtHelper,
        }
    }

    /// The Ethernet types of packets that have it; `None`: all.
    pub(super) fn ethertypes(self) -> Option<&'static [u16]> {
        Some(match self {
            Field::ArpOperation | Field::ArpIp(_) | Field::ArpEther(_) => &[ETHERTYPE_ARP],
            Field::IpAddr(_)
            | Field::IpProtocol
            | Field::IpTtl
            | Field::IpDscp
            | Field::IpLength
            | Field::IcmpType(V4)
            | Field::IcmpCode(V4) => &[ETHERTYPE_IPV4],
            Field::Ip6Addr(_)
            | Field::Ip6NextHeader
            | Field::Ip6HopLimit
            | Field::Ip6Dscp
            | Field::Ip6Length
            | Field::IcmpType(V6)
            | Field::IcmpCode(V6) => &[ETHERTYPE_IPV6],
            Field::L4Proto | Field::NfProto | Field::Port(..) | Field::TcpFlags => {
                &[ETHERTYPE_IPV4, ETHERTYPE_IPV6]
            }
            _ => return None,
        })
    }

    /// The protocols of packets that have it; `None`: all.
    pub(super) fn protocols(self) -> Option<&'static [u8]> {
        Some(match self {
            Field::Port(Ports::Tcp, _) | Field::TcpFlags => &[proto::TCP],
            Field::Port(Ports::Udp, _) => &[proto::UDP],
            Field::Port(Ports::Sctp, _) => &[proto::SCTP],
            Field::Port(Ports::Any, _) => &[proto::TCP, proto::UDP, proto::SCTP],
            Field::IcmpType(V4) | Field::IcmpCode(V4) => &[proto::ICMP],
            Field::IcmpType(V6) | Field::IcmpCode(V6) => &[proto::ICMPV6],
            _ => return None,
        })
    }

    /// The field's value in a packet, `None` if it has no such field. `volatile` is set if another
    /// packet of the same flow, in the same direction and state, may have another value.
    #[inline]
    pub(super) fn load(self, query: &Query<'_>, volatile: &mut bool) -> Option<u128> {
        let ether = &query.packet.ether;
        let ip = query.packet.ip.as_ref();
        let of_family = |family| ip.filter(|ip| Family::of(ip) == family);
        Some(match self {
            Field::IifName => query.side.index() as u128,
            Field::OifName => query.side.other().index() as u128,
            Field::CtState => query.state as u128,
            // Of no connection, no direction.
            Field::CtDirection if matches!(query.state, CtState::Invalid | CtState::Untracked) => {
                return None;
            }
            Field::CtDirection => u128::from(query.direction == Direction::Reply),
            Field::CtHelper => {
                if !query.is_expected {
                    return None;
                }
                0
            }
            Field::EtherType | Field::Protocol => ether.ethertype.into(),
            Field::EtherAddr(end) => {
                // The MAC addresses of a flow change when a router takes over from another.
                *volatile = true;
                let address = if end == Source { ether.src } else { ether.dst };
                mac_number(address).into()
            }
            Field::VlanId => {
                // Frames of one flow may have a priority tag (VLAN 0) or none.
                *volatile = true;
                u128::from(query.outer_tag()? & 0x0fff)
            }
            Field::VlanPcp => {
                *volatile = true;
                u128::from(query.outer_tag()? >> 13)
            }
            Field::VlanType => {
                *volatile = true;
                query.outer_tag()?;
                let behind_tag = query.frame.get(16..18)?;
                number(behind_tag)
            }
            Field::ArpOperation => number(query.arp(6, 2)?),
            Field::ArpEther(Source) => number(query.arp(8, 6)?),
            Field::ArpIp(Source) => number(query.arp(14, 4)?),
            Field::ArpEther(Destination) => number(query.arp(18, 6)?),
            Field::ArpIp(Destination) => number(query.arp(24, 4)?),
            Field::IpAddr(end) => match address(ip, end)? {
                IpAddr::V4(address) => address.to_bits().into(),
                IpAddr::V6(_) => return None,
            },
            Field::Ip6Addr(end) => match address(ip, end)? {
                IpAddr::V6(address) => address.to_bits(),
                IpAddr::V4(_) => return None,
            },
            Field::IpProtocol => of_family(V4)?.protocol.into(),
            Field::Ip6NextHeader => of_family(V6)?.protocol.into(),
            Field::L4Proto => ip?.protocol.into(),
            Field::NfProto => match Family::of(ip?) {
                V4 => NFPROTO_IPV4,
                V6 => NFPROTO_IPV6,
            },
            Field::IpTtl | Field::Ip6HopLimit => {
                let ip = of_family(if self == Field::IpTtl { V4 } else { V6 })?;
                *volatile = true;
                ip.hop_limit.into()
            }
            Field::IpDscp => {
                let start = of_family(V4)?.datagram.start;
                *volatile = true;
                u128::from(query.frame.get(start + 1)? >> 2)
            }
            Field::Ip6Dscp => {
                let start = of_family(V6)?.datagram.start;
                *volatile = true;
                number(query.frame.get(start..start + 2)?) >> 6 & 0x3f
            }
            Field::IpLength => {
                let start = of_family(V4)?.datagram.start;
                *volatile = true;
                number(query.frame.get(start + 2..start + 4)?)
            }
            Field::Ip6Length => {
                let start = of_family(V6)?.datagram.start;
                *volatile = true;
                number(query.frame.get(start + 4..start + 6)?)
            }
            Field::Length => {
                *volatile = true;
                ip?.datagram.len() as u128
            }
            Field::FrameLength => {
                *volatile = true;
                query.frame.len().saturating_sub(ether.payload_offset) as u128
            }
            Field::Port(ports, end) => port(query, ip?, ports, end, volatile)?.into(),
            Field::TcpFlags => match &ip?.l4 {
                L4::Tcp(tcp) => {
                    *volatile = true;
                    tcp.flags.0.into()
                }
                _ => return None,
            },
            Field::IcmpType(family) | Field::IcmpCode(family) => {
                let ip = of_family(family)?;
                match &ip.l4 {
                    L4::Icmp(icmp) if ip.protocol == family.icmp() => {
                        *volatile = true;
                        let is_type = matches!(self, Field::IcmpType(_));
                        if is_type { icmp.kind } else { icmp.code }.into()
                    }
                    _ => return None,
                }
            }
        })
    }
}

/// As `meta nfproto` names the families (NFPROTO_IPV4 and NFPROTO_IPV6 of the kernel).
pub(super) const NFPROTO_IPV4: u128 = 2;
pub(super) const NFPROTO_IPV6: u128 = 10;

impl<'a> Query<'a> {
    /// Tag control information of the outermost tag. A service tag (802.1ad) is none: its VLANs are
    /// other networks.
    fn outer_tag(&self) -> Option<u16> {
        let ether = &self.packet.ether;
        let [outer, _] = ether.vlan_tci;
        (ether.vlan_count != 0 && ether.service_tags & 1 == 0).then_some(outer)
    }

    /// Bytes of an ARP packet for IPv4 over Ethernet (RFC 826).
    fn arp(&self, at: usize, bytes: usize) -> Option<&'a [u8]> {
        let ether = &self.packet.ether;
        if ether.ethertype != ETHERTYPE_ARP {
            return None;
        }
        let start = ether.payload_offset + at;
        self.frame.get(start..start + bytes)
    }
}

fn number(bytes: &[u8]) -> u128 {
    bytes
        .iter()
        .fold(0, |number, &byte| number << 8 | u128::from(byte))
}

fn address(ip: Option<&Ip>, end: End) -> Option<IpAddr> {
    ip.map(|ip| if end == Source { ip.src } else { ip.dst })
}

#[inline]
fn port(query: &Query<'_>, ip: &Ip, ports: Ports, end: End, volatile: &mut bool) -> Option<u16> {
    let (source, destination) = match (&ip.l4, ports) {
        (L4::Tcp(tcp), Ports::Tcp | Ports::Any) => (tcp.src_port, tcp.dst_port),
        (L4::Udp(udp), Ports::Udp | Ports::Any) => (udp.src_port, udp.dst_port),
        (L4::Other, Ports::Sctp | Ports::Any) if ip.protocol == proto::SCTP => {
            // Flows of SCTP are told apart by their addresses alone.
            *volatile = true;
            let at = ip.l4_offset + if end == Source { 0 } else { 2 };
            let bytes = query
                .frame
                .get(at..at + 2)
                .filter(|_| at + 2 <= ip.datagram.end)?;
            return u16::try_from(number(bytes)).ok();
        }
        _ => return None,
    };
    Some(if end == Source { source } else { destination })
}
