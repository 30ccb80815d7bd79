use crate::wire::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, proto};

// enum of linux/virtio_net.h
const GSO_TCPV4: u8 = 1;
const GSO_UDP_FRAGMENTS: u8 = 3;
const GSO_TCPV6: u8 = 4;
const GSO_UDP_SEGMENTS: u8 = 5;
const GSO_ECN: u8 = 0x80;
const NEEDS_CSUM: u8 = 1;

const TAGS: [u16; 3] = [0x8100, 0x88a8, 0x9100];
const MAX_TAGS: usize = 2;
const MAX_EXTENSIONS: usize = 8;

/// Whether a frame can be handed to the other port's socket as it came. A plain frame always; a
/// super-frame only if the kernel there will cut it as this one's would have: the header has no
/// word for tunnels, so one that carries the segments in a tunnel looks like a plain one whose
/// checksum begins too far inside.
#[must_use]
pub(super) fn passable(vnet: &[u8; 10], frame: &[u8]) -> bool {
    let [flags, gso_type, _, _, _, _, start_0, start_1, _, _] = *vnet;
    if gso_type == 0 {
        return true;
    }
    let (version, protocol) = match gso_type & !GSO_ECN {
        GSO_TCPV4 => (Some(4), proto::TCP),
        GSO_TCPV6 => (Some(6), proto::TCP),
        GSO_UDP_SEGMENTS | GSO_UDP_FRAGMENTS => (None, proto::UDP),
        _ => return false,
    };
    let Some(outer) = outer_transport(frame) else {
        return false;
    };
    let csum_start = usize::from(u16::from_ne_bytes([start_0, start_1]));
    outer.protocol == protocol
        && version.is_none_or(|version| version == outer.ip_version)
        && (flags & NEEDS_CSUM == 0 || csum_start == outer.offset)
}

struct Transport {
    ip_version: u8,
    protocol: u8,
    offset: usize,
}

fn outer_transport(frame: &[u8]) -> Option<Transport> {
    let word = |at: usize| Some(u16::from_be_bytes(*frame.get(at..)?.first_chunk()?));
    let byte = |at: usize| frame.get(at).copied();
    let mut at = 12;
    let mut ethertype = word(at)?;
    for _ in 0..MAX_TAGS {
        if TAGS.contains(&ethertype) {
            at += 4;
            ethertype = word(at)?;
        }
    }
    let ip = at + 2;
    match ethertype {
        ETHERTYPE_IPV4 => Some(Transport {
            ip_version: 4,
            protocol: byte(ip + 9)?,
            offset: ip + usize::from(byte(ip)? & 15) * 4,
        }),
        ETHERTYPE_IPV6 => {
            let (mut protocol, mut offset) = (byte(ip + 6)?, ip + 40);
            for _ in 0..MAX_EXTENSIONS {
                // Hop-by-hop, routing, destination options: all of one form (RFC 8200 section 4).
                if !matches!(protocol, 0 | 43 | 60) {
                    break;
                }
                protocol = byte(offset)?;
                offset += usize::from(byte(offset + 1)?) * 8 + 8;
            }
            Some(Transport {
                ip_version: 6,
                protocol,
                offset,
            })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vnet(flags: u8, gso: u8, csum_start: u16) -> [u8; 10] {
        let [a, b] = csum_start.to_ne_bytes();
        [flags, gso, 66, 0, 0, 5, a, b, 16, 0]
    }

    fn ipv4(protocol: u8, tags: &[u8]) -> Vec<u8> {
        let mut frame = vec![2; 12];
        frame.extend_from_slice(tags);
        frame.extend_from_slice(&[8, 0, 0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, protocol, 0, 0]);
        frame.resize(120, 0);
        frame
    }

    fn ipv6(next: u8, extension: &[u8]) -> Vec<u8> {
        let mut frame = vec![2; 12];
        frame.extend_from_slice(&[0x86, 0xdd, 0x60, 0, 0, 0, 0, 40, next, 64]);
        frame.resize(14 + 40, 0);
        frame.extend_from_slice(extension);
        frame.resize(140, 0);
        frame
    }

    #[test]
    fn plain_frames_always_pass() {
        assert!(passable(&vnet(1, 0, 84), &ipv4(47, &[])));
        assert!(passable(&[0; 10], &[]));
    }

    #[test]
    fn tcp_and_udp_super_frames_pass() {
        assert!(passable(&vnet(1, GSO_TCPV4, 34), &ipv4(6, &[])));
        assert!(passable(&vnet(1, GSO_TCPV4 | GSO_ECN, 34), &ipv4(6, &[])));
        assert!(passable(
            &vnet(1, GSO_TCPV4, 38),
            &ipv4(6, &[0x81, 0, 0, 7])
        ));
        assert!(passable(&vnet(1, GSO_UDP_SEGMENTS, 34), &ipv4(17, &[])));
        assert!(passable(&vnet(1, GSO_TCPV6, 54), &ipv6(6, &[])));
        assert!(passable(&vnet(1, GSO_TCPV6, 62), &ipv6(0, &[6, 0])));
    }

    #[test]
    fn tunnels_and_unknown_kinds_do_not_pass() {
        // TCP inside VXLAN, GRE, IP in IP; UDP inside VXLAN; TCP over IPv6 inside IPv4.
        assert!(!passable(&vnet(1, GSO_TCPV4, 84), &ipv4(17, &[])));
        assert!(!passable(&vnet(1, GSO_TCPV4, 58), &ipv4(47, &[])));
        assert!(!passable(&vnet(1, GSO_TCPV4, 54), &ipv4(4, &[])));
        assert!(!passable(&vnet(1, GSO_UDP_SEGMENTS, 84), &ipv4(17, &[])));
        assert!(!passable(&vnet(1, GSO_TCPV6, 74), &ipv4(41, &[])));
        assert!(!passable(&vnet(1, GSO_TCPV4, 84), &ipv4(6, &[])));
        assert!(!passable(&vnet(1, 2, 34), &ipv4(6, &[])));
        assert!(!passable(&vnet(1, 0x40, 34), &ipv4(6, &[])));
        assert!(!passable(&vnet(1, GSO_TCPV4, 34), &[2; 12]));
    }
}
