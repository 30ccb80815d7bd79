//! "Destination unreachable" (RFC 792, RFC 4443 section 3.1), in the name of a packet's receiver.

use std::net::IpAddr;

use smoltcp::wire::{
    IPV4_HEADER_LEN, IPV6_HEADER_LEN, Icmpv4Message, Icmpv4Packet, Icmpv6Message, Icmpv6Packet,
    IpProtocol,
};

use super::own::{Own, To};
use super::{OwnedFrame, Packet};

/// An error quotes as much of its packet as fits in this: RFC 1812 section 4.3.2.3.
const MAX_IPV4_BYTES: usize = 576;
/// RFC 4443 section 2.4(c): the smallest MTU of IPv6.
const MAX_IPV6_BYTES: usize = 1280;

const ICMP_HEADER_BYTES: usize = 8;

/// The error with this code (of type 3 for IPv4, of type 1 for IPv6) that the packet's receiver
/// would send to its sender.
#[must_use]
pub fn to_sender(frame: &[u8], packet: &Packet, code: u8) -> Option<OwnedFrame> {
    let ip = packet.ip.as_ref()?;
    let (protocol, most) = match ip.src {
        IpAddr::V4(_) => (IpProtocol::Icmp, MAX_IPV4_BYTES - IPV4_HEADER_LEN),
        IpAddr::V6(_) => (IpProtocol::Icmpv6, MAX_IPV6_BYTES - IPV6_HEADER_LEN),
    };
    let datagram = frame.get(ip.datagram.clone())?;
    let quote = datagram.get(..most - ICMP_HEADER_BYTES).unwrap_or(datagram);
    let bytes = ICMP_HEADER_BYTES + quote.len();
    let mut own = Own::new(frame, ip, To::Sender, protocol, bytes)?;
    let (src, dst) = (own.src, own.dst);
    let message = own.payload_mut();
    message.get_mut(ICMP_HEADER_BYTES..)?.copy_from_slice(quote);
    match (src, dst) {
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            let mut icmp = Icmpv6Packet::new_unchecked(message);
            icmp.set_msg_type(Icmpv6Message::DstUnreachable);
            icmp.set_msg_code(code);
            icmp.fill_checksum(&src, &dst);
        }
        _ => {
            let mut icmp = Icmpv4Packet::new_unchecked(message);
            icmp.set_msg_type(Icmpv4Message::DstUnreachable);
            icmp.set_msg_code(code);
            icmp.fill_checksum();
        }
    }
    Some(own.frame)
}
