//! Frames as bytes and as facts: one bounded parse, from which everything else is decided.
//!
//! [`parse`] walks a frame once, checks each length against the bytes that are there, and returns
//! a [`Packet`]: plain values and offsets that are known to lie inside the frame. Nothing above
//! this module reads a header on its own, and padding beyond the IP total length is forwarded but
//! never parsed.

#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

pub mod checksum;
pub mod edit;
mod ether;
mod frame;
mod ipv4;
mod ipv6;
mod l4;
mod own;
mod prefetch;
pub mod reset;
pub mod unreachable;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;

pub use ether::{
    ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6, EtherHeader, MAX_VLAN_TAGS, NO_VLAN, SERVICE_TAG,
};
pub use frame::{ChecksumState, Meta, OwnedFrame, Side, VNET_HEADER_BYTES};
pub use l4::{Icmp, L4, TcpFlags, TcpSegment, Udp};
pub use prefetch::prefetch;

use crate::observe::DropReason;

/// IP protocol numbers (IANA "Assigned Internet Protocol Numbers").
pub mod proto {
    /// Internet Control Message Protocol, RFC 792.
    pub const ICMP: u8 = 1;
    /// Internet Group Management Protocol, RFC 3376.
    pub const IGMP: u8 = 2;
    /// Transmission Control Protocol, RFC 9293.
    pub const TCP: u8 = 6;
    /// User Datagram Protocol, RFC 768.
    pub const UDP: u8 = 17;
    /// ICMP for IPv6, RFC 4443.
    pub const ICMPV6: u8 = 58;
    /// Stream Control Transmission Protocol, RFC 9260.
    pub const SCTP: u8 = 132;
}

/// Everything that the rest of lotus knows of a frame.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Packet {
    /// Link layer: addresses, tags, the ethertype behind the tags.
    pub ether: EtherHeader,
    /// Network layer, absent for everything but IPv4 and IPv6.
    pub ip: Option<Ip>,
}

/// As `TCP 192.0.2.1:40000 -> 198.51.100.2:21`, for a person.
impl fmt::Display for Packet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.ip {
            Some(ip) => {
                let (name, ports) = match &ip.l4 {
                    L4::Tcp(tcp) => ("TCP", Some((tcp.src_port, tcp.dst_port))),
                    L4::Udp(udp) => ("UDP", Some((udp.src_port, udp.dst_port))),
                    L4::Icmp(_) if ip.protocol == proto::ICMP => ("ICMP", None),
                    L4::Icmp(_) => ("ICMPv6", None),
                    L4::Other | L4::Unparsed => ("", None),
                };
                match (name, &ip.l4) {
                    ("", _) => write!(f, "protocol {}", ip.protocol)?,
                    (_, L4::Icmp(icmp)) => {
                        write!(f, "{name} type {} code {}", icmp.kind, icmp.code)?
                    }
                    _ => f.write_str(name)?,
                }
                match ports {
                    Some((from, to)) => write!(
                        f,
                        " {} -> {}",
                        SocketAddr::new(ip.src, from),
                        SocketAddr::new(ip.dst, to)
                    )?,
                    None => write!(f, " {} -> {}", ip.src, ip.dst)?,
                }
            }
            None if self.ether.ethertype == ETHERTYPE_ARP => f.write_str("ARP")?,
            None => write!(f, "Ethernet type {:#06x}", self.ether.ethertype)?,
        }
        let tags = self
            .ether
            .vlan_tci
            .iter()
            .take(self.ether.vlan_count.into());
        tags.into_iter()
            .try_for_each(|tag| write!(f, ", VLAN {}", tag & 0x0fff))
    }
}

/// The network layer of a packet, IPv4 or IPv6, and what it carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ip {
    /// Source address.
    pub src: IpAddr,
    /// Destination address.
    pub dst: IpAddr,
    /// Time to live or hop limit.
    pub hop_limit: u8,
    /// The protocol behind all extension headers.
    pub protocol: u8,
    /// Bytes of the frame that hold the IP datagram: header to the end of its total length.
    pub datagram: Range<usize>,
    /// Where the transport header begins.
    pub l4_offset: usize,
    /// Present when this is one fragment of several. Then [`Ip::l4`] is [`L4::Unparsed`].
    pub fragment: Option<Fragment>,
    /// The transport header.
    pub l4: L4,
}

/// The fragment fields of RFC 791 section 3.1 and RFC 8200 section 4.5.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragment {
    /// Identification.
    pub id: u32,
    /// Offset of this fragment's bytes in the fragmentable part.
    pub offset_bytes: u32,
    /// More fragments follow.
    pub more: bool,
    /// Where in the frame the fragment's own bytes begin.
    pub data_offset: usize,
    /// IPv6: the offset in the frame of the "next header" byte that names the fragment header.
    pub next_header_at: usize,
}

impl Ip {
    /// For a first fragment: whether all headers that decide lie in it, extension headers and the
    /// fixed part of the transport's (RFC 8200 section 4.5, RFC 7112).
    #[must_use]
    pub fn has_whole_chain(&self, frame: &[u8]) -> bool {
        let bytes = frame.get(..self.datagram.end).unwrap_or_default();
        let (protocol, at) = match self.src {
            IpAddr::V4(_) => (self.protocol, self.l4_offset),
            IpAddr::V6(_) => match ipv6::behind_fragment_header(bytes, self) {
                Some(found) => found,
                None => return false,
            },
        };
        bytes.len() >= at + l4::min_header_bytes(protocol)
    }

    /// The transport payload as a range of the frame.
    #[must_use]
    pub fn payload(&self) -> Range<usize> {
        let start = match &self.l4 {
            L4::Tcp(tcp) => tcp.payload_offset,
            L4::Udp(udp) => udp.payload_offset,
            L4::Icmp(_) | L4::Other | L4::Unparsed => self.l4_offset,
        };
        start..self.datagram.end
    }
}

/// Parses one Ethernet frame.
///
/// # Errors
///
/// The reason for which a frame that cannot be judged must be dropped.
pub fn parse(frame: &[u8]) -> Result<Packet, DropReason> {
    let mut packet = Packet::default();
    parse_into(frame, &mut packet)?;
    Ok(packet)
}

/// As [`parse`], into a packet that is there already, which spares the moving of some 200 bytes.
/// After an error nothing in it means anything.
///
/// # Errors
///
/// As [`parse`].
#[inline]
pub fn parse_into(frame: &[u8], packet: &mut Packet) -> Result<(), DropReason> {
    packet.ip = None;
    ether::parse(frame, &mut packet.ether)?;
    let at = packet.ether.payload_offset;
    match packet.ether.ethertype {
        ETHERTYPE_IPV4 => ipv4::parse(frame, at, &mut packet.ip),
        ETHERTYPE_IPV6 => ipv6::parse(frame, at, &mut packet.ip),
        _ => Ok(()),
    }
}

/// Parses the packet that an ICMP error quotes: a header and at least eight bytes of transport.
///
/// Quotes are cut short by design (RFC 792, RFC 4443 section 2.4(c)), so lengths beyond the bytes
/// that are there are not an error.
#[must_use]
pub fn parse_quoted(quote: &[u8]) -> Option<Ip> {
    match quote.first()? >> 4 {
        4 => ipv4::parse_quoted(quote),
        6 => ipv6::parse_quoted(quote),
        _ => None,
    }
}

pub(crate) fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

pub(crate) fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, clippy::panic)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
