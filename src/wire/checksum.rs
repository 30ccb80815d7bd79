//! The Internet checksum (RFC 1071), its incremental update (RFC 1624), and the transport
//! checksum over a pseudo header.

use std::net::IpAddr;

use super::{ChecksumState, Ip, Meta, proto};

/// One's complement sum of 16-bit words, not yet folded.
#[must_use]
#[inline]
pub fn sum(bytes: &[u8]) -> u64 {
    let mut total = 0u64;
    let mut chunks = bytes.chunks_exact(4);
    for chunk in &mut chunks {
        if let Ok(word) = <[u8; 4]>::try_from(chunk) {
            total += u64::from(u32::from_be_bytes(word));
        }
    }
    let mut tail = [0u8; 4];
    for (to, from) in tail.iter_mut().zip(chunks.remainder()) {
        *to = *from;
    }
    total + u64::from(u32::from_be_bytes(tail))
}

/// Folds a sum to 16 bits.
#[must_use]
pub fn fold(mut total: u64) -> u16 {
    while total > 0xffff {
        total = (total >> 16) + (total & 0xffff);
    }
    total as u16
}

/// The sum of the pseudo header of RFC 9293 section 3.1 and RFC 8200 section 8.1.
#[must_use]
pub fn pseudo_header(src: IpAddr, dst: IpAddr, protocol: u8, l4_bytes: usize) -> u64 {
    let address = |a: IpAddr| match a {
        IpAddr::V4(a) => sum(&a.octets()),
        IpAddr::V6(a) => sum(&a.octets()),
    };
    address(src) + address(dst) + u64::from(protocol) + l4_bytes as u64
}

/// Whether the transport checksum is right, as far as anybody must look: the kernel vouches for
/// some, and those of a veth were never made.
#[must_use]
#[inline]
pub fn holds(frame: &[u8], meta: &Meta, ip: &Ip) -> bool {
    meta.checksum() != ChecksumState::Unknown
        || !matches!(
            ip.protocol,
            proto::TCP | proto::UDP | proto::ICMP | proto::ICMPV6
        )
        || transport_is_right(frame, ip)
}

/// Whether the TCP, UDP or ICMPv6 checksum of a whole datagram is right.
#[must_use]
pub fn transport_is_right(frame: &[u8], ip: &Ip) -> bool {
    let Some(mut l4) = frame.get(ip.l4_offset..ip.datagram.end) else {
        return false;
    };
    let pseudo = match (ip.protocol, ip.src) {
        (proto::ICMP, _) => 0,
        // RFC 768: zero means that the sender made none.
        (proto::UDP, IpAddr::V4(_)) if super::be16(l4, 6) == Some(0) => return true,
        (proto::UDP, _) => {
            // The datagram may be longer than the UDP length, which is what the sum covers.
            let length = super::be16(l4, 4).map_or(0, usize::from);
            if length != 0 {
                l4 = l4.get(..length).unwrap_or(l4);
            }
            pseudo_header(ip.src, ip.dst, ip.protocol, l4.len())
        }
        _ => pseudo_header(ip.src, ip.dst, ip.protocol, l4.len()),
    };
    fold(sum(l4) + pseudo) == 0xffff
}

/// Whether an IPv4 header's checksum is right.
#[must_use]
#[inline]
pub fn ipv4_header_is_right(header: &[u8]) -> bool {
    // Most have no options: a sum of known length needs no loop.
    let total = match <&[u8; 20]>::try_from(header) {
        Ok(all) => {
            let (words, _) = all.as_chunks();
            // In either order of bytes, as both differ by a factor (RFC 1071 section 2).
            words
                .iter()
                .map(|&word| u64::from(u32::from_ne_bytes(word)))
                .sum()
        }
        Err(_) => sum(header),
    };
    // Folding keeps the remainder, and leaves zero of zero alone.
    total != 0 && total.is_multiple_of(0xffff)
}

/// The checksum after 16 aligned bits of what it covers changed, RFC 1624 equation 3.
#[must_use]
pub fn updated(checksum: u16, old: u16, new: u16) -> u16 {
    !fold(u64::from(!checksum) + u64::from(!old) + u64::from(new))
}
