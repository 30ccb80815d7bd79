//! What all frames of lotus's own begin with: the link layer's header of the frame that they are
//! made from, and an IP header without options.

use std::net::IpAddr;

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{IpProtocol, Ipv4Packet, Ipv4Repr, Ipv6Packet, Ipv6Repr};

use super::{Ip, OwnedFrame};

/// What hosts give their packets (RFC 1700 recommends 64), as the kernel gives its answers to what
/// it rejects. They have no traffic class, id 0 and "don't fragment".
const HOP_LIMIT: u8 = 64;

const ETHERNET_ADDRESS_BYTES: usize = 6;

/// Where a frame goes, seen from the one that it is made from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum To {
    Receiver,
    Sender,
}

/// A frame in the making.
pub(super) struct Own {
    pub(super) frame: OwnedFrame,
    pub(super) src: IpAddr,
    pub(super) dst: IpAddr,
    payload_offset: usize,
}

impl Own {
    /// All headers up to IP's, VLAN tags included, and `payload_bytes` zeros behind them.
    pub(super) fn new(
        frame: &[u8],
        ip: &Ip,
        to: To,
        next_header: IpProtocol,
        payload_bytes: usize,
    ) -> Option<Own> {
        let link = frame.get(..ip.datagram.start)?;
        let (src, dst) = match to {
            To::Receiver => (ip.src, ip.dst),
            To::Sender => (ip.dst, ip.src),
        };
        let header_bytes = match src {
            IpAddr::V4(_) => smoltcp::wire::IPV4_HEADER_LEN,
            IpAddr::V6(_) => smoltcp::wire::IPV6_HEADER_LEN,
        };
        let payload_offset = link.len() + header_bytes;
        let mut own = OwnedFrame::zeroed(payload_offset + payload_bytes);
        let (own_link, datagram) = own.frame_mut().split_at_mut_checked(link.len())?;
        own_link.copy_from_slice(link);
        if to == To::Sender {
            let (dst_mac, rest) = own_link.split_at_mut_checked(ETHERNET_ADDRESS_BYTES)?;
            dst_mac.swap_with_slice(rest.get_mut(..ETHERNET_ADDRESS_BYTES)?);
        }
        match (src, dst) {
            (IpAddr::V4(src_addr), IpAddr::V4(dst_addr)) => Ipv4Repr {
                src_addr,
                dst_addr,
                next_header,
                payload_len: payload_bytes,
                hop_limit: HOP_LIMIT,
            }
            .emit(
                &mut Ipv4Packet::new_unchecked(datagram),
                &ChecksumCapabilities::default(),
            ),
            (IpAddr::V6(src_addr), IpAddr::V6(dst_addr)) => Ipv6Repr {
                src_addr,
                dst_addr,
                next_header,
                payload_len: payload_bytes,
                hop_limit: HOP_LIMIT,
            }
            .emit(&mut Ipv6Packet::new_unchecked(datagram)),
            _ => return None,
        }
        Some(Own {
            frame: own,
            src,
            dst,
            payload_offset,
        })
    }

    /// What is behind the IP header.
    pub(super) fn payload_mut(&mut self) -> &mut [u8] {
        let from = self.payload_offset;
        self.frame.frame_mut().get_mut(from..).unwrap_or_default()
    }
}
