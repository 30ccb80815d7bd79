//! Link layers other than Ethernet, turned into Ethernet.

use std::fmt;

use super::{Captured, UnknownLink};
use crate::wire::{ETHERTYPE_IPV4, ETHERTYPE_IPV6};

const ETHERNET_BYTES: usize = 14;
const MAC_BYTES: usize = 6;

/// What stands before the network layer of a captured packet. The numbers are those of
/// tcpdump.org/linktypes.html.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkType {
    /// Ethernet.
    Ethernet,
    /// Nothing: the packet begins with an IP header.
    Raw,
    /// Loopback of BSD and macOS: an address family in the byte order of the machine.
    Null,
    /// Loopback of OpenBSD: the same in network byte order.
    Loop,
    /// Linux "cooked", of an interface without link layer or of "any".
    Sll,
    /// Its second version.
    Sll2,
}

impl LinkType {
    /// By number.
    pub(super) fn of(number: u16) -> Result<LinkType, UnknownLink> {
        match number {
            0 => Ok(LinkType::Null),
            1 => Ok(LinkType::Ethernet),
            // 12 and 14: what some systems write for 101; 228 and 229: one family only.
            12 | 14 | 101 | 228 | 229 => Ok(LinkType::Raw),
            108 => Ok(LinkType::Loop),
            113 => Ok(LinkType::Sll),
            276 => Ok(LinkType::Sll2),
            other => Err(UnknownLink(other)),
        }
    }

    /// The packet as an Ethernet frame. What is not known of the link layer is zero.
    pub(super) fn ethernet(self, bytes: Vec<u8>, wire_bytes: usize, at_ns: u64) -> Captured {
        let head_bytes = match self {
            LinkType::Ethernet => {
                return Captured {
                    at_ns,
                    frame: bytes,
                    wire_bytes,
                };
            }
            LinkType::Raw => 0,
            LinkType::Null | LinkType::Loop => 4,
            LinkType::Sll => 16,
            LinkType::Sll2 => 20,
        };
        let (head, packet) = bytes.split_at_checked(head_bytes).unwrap_or((&bytes, &[]));
        let address_bytes = match self {
            LinkType::Sll => u16_at(head, 4),
            LinkType::Sll2 => head.get(11).copied().map(u16::from),
            _ => None,
        };
        let address_at = if self == LinkType::Sll { 6 } else { 12 };
        let source = address_bytes
            .filter(|&bytes| usize::from(bytes) == MAC_BYTES)
            .and_then(|_| head.get(address_at..)?.first_chunk::<MAC_BYTES>());
        let ethertype = match self {
            LinkType::Sll => u16_at(head, 14),
            LinkType::Sll2 => u16_at(head, 0),
            _ => None,
        };
        let mut frame = vec![0; MAC_BYTES];
        frame.extend_from_slice(source.unwrap_or(&[0; MAC_BYTES]));
        let ethertype = ethertype.unwrap_or_else(|| ethertype_of(packet));
        frame.extend_from_slice(&ethertype.to_be_bytes());
        frame.extend_from_slice(packet);
        Captured {
            at_ns,
            frame,
            wire_bytes: (wire_bytes + ETHERNET_BYTES).saturating_sub(head_bytes),
        }
    }
}

/// By the version in the first byte: address families of loopbacks differ from system to system.
/// What is neither is called IPv4, and found bad as that.
fn ethertype_of(packet: &[u8]) -> u16 {
    match packet.first().map(|byte| byte >> 4) {
        Some(6) => ETHERTYPE_IPV6,
        _ => ETHERTYPE_IPV4,
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

impl fmt::Display for LinkType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            LinkType::Ethernet => "Ethernet",
            LinkType::Raw => "raw IP",
            LinkType::Null | LinkType::Loop => "loopback",
            LinkType::Sll => "Linux cooked",
            LinkType::Sll2 => "Linux cooked v2",
        })
    }
}

impl fmt::Display for UnknownLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.0 {
            3 => "AX.25",
            6 => "token ring",
            9 | 50 | 166 => "PPP",
            51 => "PPPoE",
            105 => "IEEE 802.11",
            119 | 127 | 163 => "IEEE 802.11 with radio data",
            147..=162 => "a private kind",
            187 | 201 => "Bluetooth",
            189 | 220 | 249 => "USB",
            195 | 230 => "IEEE 802.15.4",
            239 => "netfilter log",
            253 => "netlink",
            258 => "macOS pktap",
            _ => "an unknown kind",
        };
        write!(f, "{name} (link type {})", self.0)
    }
}
