//! TCP resets in the name of an end of a connection, made from a segment of it.

use std::net::IpAddr;

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    IpAddress, IpProtocol, Ipv4Packet, Ipv4Repr, Ipv6Packet, Ipv6Repr, TcpControl, TcpPacket,
    TcpRepr, TcpSeqNumber,
};

use super::{Ip, L4, Meta, OwnedFrame, Packet, TcpFlags, TcpSegment};

/// What hosts give their packets (RFC 1700 recommends 64).
const HOP_LIMIT: u8 = 64;

const ETHERNET_ADDRESS_BYTES: usize = 6;

/// The reset that the segment's sender would send to its receiver, with this sequence number.
#[must_use]
pub fn to_receiver(frame: &[u8], packet: &Packet, seq: u32) -> Option<OwnedFrame> {
    let (ip, segment) = tcp_of(packet)?;
    let ends = [(ip.src, segment.src_port), (ip.dst, segment.dst_port)];
    let link = frame.get(..ip.datagram.start)?.to_vec();
    let ack = segment.flags.has(TcpFlags::ACK).then_some(segment.ack);
    build(link, ends, seq, ack)
}

/// The reset that the segment's receiver would send to its sender (RFC 9293 section 3.10.7.1): it
/// stands where the segment says that the next byte is expected, and acknowledges the segment.
#[must_use]
pub fn to_sender(frame: &[u8], packet: &Packet) -> Option<OwnedFrame> {
    let (ip, segment) = tcp_of(packet)?;
    let ends = [(ip.dst, segment.dst_port), (ip.src, segment.src_port)];
    let mut link = frame.get(..ip.datagram.start)?.to_vec();
    let (to, from) = link
        .get_mut(..2 * ETHERNET_ADDRESS_BYTES)?
        .split_at_mut(ETHERNET_ADDRESS_BYTES);
    to.swap_with_slice(from);
    let seq = if segment.flags.has(TcpFlags::ACK) {
        segment.ack
    } else {
        0
    };
    let ack = segment.seq.wrapping_add(segment.seq_len());
    build(link, ends, seq, Some(ack))
}

fn tcp_of(packet: &Packet) -> Option<(&Ip, &TcpSegment)> {
    let ip = packet.ip.as_ref()?;
    match &ip.l4 {
        L4::Tcp(segment) => Some((ip, segment)),
        _ => None,
    }
}

/// `link` is the link layer's header with its tags, `ends` are the source and the destination.
fn build(
    link: Vec<u8>,
    [(src, src_port), (dst, dst_port)]: [(IpAddr, u16); 2],
    seq: u32,
    ack: Option<u32>,
) -> Option<OwnedFrame> {
    let number = |n: u32| TcpSeqNumber(n.cast_signed());
    let tcp = TcpRepr {
        src_port,
        dst_port,
        control: TcpControl::Rst,
        seq_number: number(seq),
        ack_number: ack.map(number),
        window_len: 0,
        window_scale: None,
        max_seg_size: None,
        sack_permitted: false,
        sack_ranges: [None; 3],
        timestamp: None,
        payload: &[],
    };
    let sums = ChecksumCapabilities::default();
    let payload_len = tcp.buffer_len();
    let at = link.len();
    let mut frame = link;
    let l4 = match (src, dst) {
        (IpAddr::V4(src_addr), IpAddr::V4(dst_addr)) => {
            let ip = Ipv4Repr {
                src_addr,
                dst_addr,
                next_header: IpProtocol::Tcp,
                payload_len,
                hop_limit: HOP_LIMIT,
            };
            frame.resize(at + ip.buffer_len() + payload_len, 0);
            ip.emit(&mut Ipv4Packet::new_unchecked(frame.get_mut(at..)?), &sums);
            at + ip.buffer_len()
        }
        (IpAddr::V6(src_addr), IpAddr::V6(dst_addr)) => {
            let ip = Ipv6Repr {
                src_addr,
                dst_addr,
                next_header: IpProtocol::Tcp,
                payload_len,
                hop_limit: HOP_LIMIT,
            };
            frame.resize(at + ip.buffer_len() + payload_len, 0);
            ip.emit(&mut Ipv6Packet::new_unchecked(frame.get_mut(at..)?));
            at + ip.buffer_len()
        }
        _ => return None,
    };
    tcp.emit(
        &mut TcpPacket::new_unchecked(frame.get_mut(l4..)?),
        &IpAddress::from(src),
        &IpAddress::from(dst),
        &sums,
    );
    Some(OwnedFrame::copy_of(&frame, &Meta::default()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::super::testing::Tcp;
    use super::*;
    use crate::wire::{checksum, parse};

    fn check(frame: &[u8], reset: &OwnedFrame, is_to_sender: bool, seq: u32, ack: u32) {
        let (before, after) = (parse(frame).unwrap(), parse(reset.frame()).unwrap());
        assert_eq!(before.ether.vlan_ids(), after.ether.vlan_ids());
        let (before, after) = (before.ip.unwrap(), after.ip.unwrap());
        let (L4::Tcp(old), L4::Tcp(new)) = (&before.l4, &after.l4) else {
            panic!("no TCP");
        };
        let ends = |ip: &Ip, tcp: &TcpSegment| [(ip.src, tcp.src_port), (ip.dst, tcp.dst_port)];
        let mut expected = ends(&before, old);
        let mut macs = [&frame[..6], &frame[6..12]];
        if is_to_sender {
            expected.reverse();
            macs.reverse();
        }
        assert_eq!(ends(&after, new), expected);
        assert_eq!([&reset.frame()[..6], &reset.frame()[6..12]], macs);
        assert_eq!(new.flags, TcpFlags(TcpFlags::RST | TcpFlags::ACK));
        assert_eq!((new.seq, new.ack, new.payload_bytes), (seq, ack, 0));
        assert!(checksum::transport_is_right(reset.frame(), &after));
        if after.src.is_ipv4() {
            let header = &reset.frame()[after.datagram.start..after.l4_offset];
            assert!(checksum::ipv4_header_is_right(header));
        }
    }

    #[test]
    fn resets_for_both_ends() {
        let ends = [
            ("192.0.2.1:4000", "192.0.2.2:21"),
            ("[2001:db8::1]:4000", "[2001:db8::2]:21"),
        ];
        for (from, to) in ends.map(|(from, to)| (from.parse().unwrap(), to.parse().unwrap())) {
            for tags in [
                &b""[..],
                b"\x81\x00\x00\x07",
                b"\x88\xa8\x00\x07\x81\x00\x00\x09",
            ] {
                let mut frame = Tcp::new(from, to, 0, u32::MAX, 77).data(b"PORT").frame();
                frame.splice(12..12, tags.iter().copied());
                let packet = parse(&frame).unwrap();
                let forward = to_receiver(&frame, &packet, 5).unwrap();
                check(&frame, &forward, false, 5, 77);
                check(&frame, &to_sender(&frame, &packet).unwrap(), true, 77, 3);
            }
        }
    }

    #[test]
    fn what_answers_a_syn_acknowledges_it() {
        let (from, to) = ("192.0.2.1:4000", "192.0.2.2:5000");
        let frame = Tcp::new(
            from.parse().unwrap(),
            to.parse().unwrap(),
            TcpFlags::SYN,
            9,
            0,
        )
        .frame();
        let packet = parse(&frame).unwrap();
        check(&frame, &to_sender(&frame, &packet).unwrap(), true, 0, 10);
    }
}
