//! Checksums that the capturing host had not finished.
//!
//! A host that leaves checksums to its network card captures its own packets before they are
//! made. To a firewall such a packet is wrong; on the wire it was right.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::wire::{ETHERTYPE_IPV4, Ip, L4, Meta, Packet, checksum, proto};

/// Senders that are named.
const MAX_NAMED: usize = 64;

/// `virtio_net_hdr` flags: the transport checksum is partial; it is vouched for.
const NEEDS_CSUM: u8 = 1;
const DATA_VALID: u8 = 2;

/// What became of the capture's checksums.
#[derive(Debug, Default)]
pub(super) struct Checksums {
    /// The user vouches for all.
    trust: bool,
    pub(super) unfinished: u64,
    pub(super) trusted: u64,
    senders: BTreeMap<IpAddr, u64>,
}

/// What was found in one packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Nothing to say.
    Usual,
    /// The sender's network card was to finish it.
    Unfinished,
    /// Wrong, and nothing explains it.
    Wrong,
    /// Wrong, but the user vouches for it.
    Trusted,
}

impl Checksums {
    pub(super) fn new(trust: bool) -> Checksums {
        Checksums {
            trust,
            ..Checksums::default()
        }
    }

    /// Looks at a frame's checksums, as the engine will. What was left to a network card is made
    /// good: the IPv4 header's sum is written, the transport's is marked as partial. Of a frame
    /// whose end was not captured (`is_filled`), the transport's can't be judged.
    pub(super) fn look(
        &mut self,
        frame: &mut [u8],
        packet: &Packet,
        is_filled: bool,
    ) -> (Meta, Found) {
        let Some(ip) = &packet.ip else {
            return (Meta::default(), Found::Usual);
        };
        let header = header_sum(frame, packet, ip);
        let transport = if is_filled {
            Sum::Right
        } else {
            transport_sum(frame, ip)
        };
        let found = match (header, transport) {
            (Sum::Right, Sum::Right) => Found::Usual,
            _ if self.trust => Found::Trusted,
            (Sum::Wrong, _) | (_, Sum::Wrong) => Found::Wrong,
            _ => Found::Unfinished,
        };
        match found {
            Found::Trusted => self.trusted += 1,
            Found::Unfinished => {
                self.unfinished += 1;
                let is_known = self.senders.contains_key(&ip.src);
                if is_known || self.senders.len() < MAX_NAMED {
                    *self.senders.entry(ip.src).or_default() += 1;
                }
            }
            Found::Usual | Found::Wrong => {}
        }
        if header != Sum::Right && found != Found::Wrong {
            write_header_sum(frame, packet, ip);
        }
        let mut meta = Meta::default();
        let [flags, ..] = &mut meta.vnet;
        *flags = match (found, transport) {
            _ if is_filled => DATA_VALID,
            (Found::Trusted, _) => DATA_VALID,
            (Found::Unfinished, Sum::Unfinished) => NEEDS_CSUM,
            _ => 0,
        };
        (meta, found)
    }

    /// Whose packets had unfinished checksums, and how many.
    pub(super) fn senders(&self) -> impl Iterator<Item = (IpAddr, u64)> + '_ {
        self.senders
            .iter()
            .map(|(&sender, &packets)| (sender, packets))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sum {
    Right,
    Unfinished,
    Wrong,
}

fn header_sum(frame: &[u8], packet: &Packet, ip: &Ip) -> Sum {
    let header = frame
        .get(ip.datagram.start..ip.l4_offset)
        .unwrap_or_default();
    if packet.ether.ethertype != ETHERTYPE_IPV4 || checksum::ipv4_header_is_right(header) {
        Sum::Right
    } else if header.get(10..12) == Some(&[0, 0]) {
        Sum::Unfinished
    } else {
        Sum::Wrong
    }
}

/// Partial are: the sum of the pseudo header (Linux, Windows), the same without the length (where
/// the card also cuts large segments), and zero.
fn transport_sum(frame: &[u8], ip: &Ip) -> Sum {
    let checksum_at = match &ip.l4 {
        L4::Tcp(_) => 16,
        L4::Udp(_) => 6,
        L4::Icmp(_) => 2,
        L4::Other | L4::Unparsed => return Sum::Right,
    };
    if checksum::transport_is_right(frame, ip) {
        return Sum::Right;
    }
    let l4_bytes = ip.datagram.end.saturating_sub(ip.l4_offset);
    let there = frame
        .get(ip.l4_offset + checksum_at..)
        .and_then(<[u8]>::first_chunk)
        .map_or(0, |&bytes| u16::from_be_bytes(bytes));
    let pseudo = |bytes| match ip.protocol {
        proto::ICMP => 0,
        protocol => checksum::fold(checksum::pseudo_header(ip.src, ip.dst, protocol, bytes)),
    };
    if [0, pseudo(l4_bytes), pseudo(0)].contains(&there) {
        Sum::Unfinished
    } else {
        Sum::Wrong
    }
}

fn write_header_sum(frame: &mut [u8], packet: &Packet, ip: &Ip) {
    if packet.ether.ethertype != ETHERTYPE_IPV4 {
        return;
    }
    let Some(header) = frame.get_mut(ip.datagram.start..ip.l4_offset) else {
        return;
    };
    if let Some(field) = header.get_mut(10..12) {
        field.copy_from_slice(&[0, 0]);
    }
    let sum = !checksum::fold(checksum::sum(header));
    if let Some(field) = header.get_mut(10..12) {
        field.copy_from_slice(&sum.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::testing::{self, Tcp};

    fn segment() -> Vec<u8> {
        let (from, to) = (([192, 0, 2, 1], 5000).into(), ([192, 0, 2, 2], 21).into());
        Tcp::new(from, to, 0x18, 1, 1).data(b"NOOP\r\n").frame()
    }

    fn look(frame: &mut [u8], trust: bool) -> (u8, Found) {
        let packet = crate::wire::parse(frame).unwrap();
        let (meta, found) = Checksums::new(trust).look(frame, &packet, false);
        (meta.vnet[0], found)
    }

    /// Where the checksum of an IPv4 header and of a TCP header without options stand.
    const IP_SUM: usize = 14 + 10;
    const TCP_SUM: usize = 14 + 20 + 16;

    #[test]
    fn what_is_right_is_left_to_the_engine() {
        assert_eq!(look(&mut segment(), false), (0, Found::Usual));
        assert_eq!(look(&mut segment(), true), (0, Found::Usual));
    }

    #[test]
    fn unfinished_sums_are_known_by_what_stands_there() {
        let good = segment();
        let packet = crate::wire::parse(&good).unwrap();
        let ip = packet.ip.unwrap();
        for bytes in [20 + 6, 0] {
            let pseudo = checksum::fold(checksum::pseudo_header(ip.src, ip.dst, 6, bytes));
            let mut frame = good.clone();
            frame[TCP_SUM..TCP_SUM + 2].copy_from_slice(&pseudo.to_be_bytes());
            assert_eq!(look(&mut frame, false), (NEEDS_CSUM, Found::Unfinished));
        }
        let mut frame = good.clone();
        frame[TCP_SUM..TCP_SUM + 2].copy_from_slice(&[0, 0]);
        assert_eq!(look(&mut frame, false), (NEEDS_CSUM, Found::Unfinished));
        frame = good.clone();
        frame[IP_SUM..IP_SUM + 2].copy_from_slice(&[0, 0]);
        assert_eq!(look(&mut frame, false), (0, Found::Unfinished));
        assert_eq!(frame, good, "the header's sum was made");
    }

    #[test]
    fn wrong_sums_stay_wrong_unless_the_user_vouches() {
        for at in [IP_SUM, TCP_SUM] {
            let mut frame = segment();
            frame[at] ^= 0x55;
            let mut untouched = frame.clone();
            assert_eq!(look(&mut untouched, false), (0, Found::Wrong));
            assert_eq!(untouched, frame);
            assert_eq!(look(&mut frame, true), (DATA_VALID, Found::Trusted));
        }
    }

    #[test]
    fn senders_are_counted() {
        let mut sums = Checksums::new(false);
        let mut frame = segment();
        frame[TCP_SUM..TCP_SUM + 2].copy_from_slice(&[0, 0]);
        let packet = crate::wire::parse(&frame).unwrap();
        for _ in 0..3 {
            sums.look(&mut frame, &packet, false);
        }
        let mut icmp = testing::icmp([192, 0, 2, 1].into(), [192, 0, 2, 2].into(), 8, 0, 7, b"");
        let packet = crate::wire::parse(&icmp).unwrap();
        assert_eq!(sums.look(&mut icmp, &packet, false).1, Found::Usual);
        assert_eq!(
            sums.senders().collect::<Vec<_>>(),
            [([192, 0, 2, 1].into(), 3)]
        );
    }
}
