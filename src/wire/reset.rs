//! TCP resets in the name of an end of a connection, made from a segment of it.

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{IpAddress, IpProtocol, TcpControl, TcpPacket, TcpRepr, TcpSeqNumber};

use super::own::{Own, To};
use super::{Ip, L4, OwnedFrame, Packet, TcpFlags, TcpSegment};

/// The reset that the segment's sender would send to its receiver, with this sequence number.
#[must_use]
pub fn to_receiver(frame: &[u8], packet: &Packet, seq: u32) -> Option<OwnedFrame> {
    let (ip, segment) = tcp_of(packet)?;
    let ports = (segment.src_port, segment.dst_port);
    let ack = segment.flags.has(TcpFlags::ACK).then_some(segment.ack);
    build(frame, ip, To::Receiver, ports, seq, ack)
}

/// The reset that the segment's receiver would send to its sender (RFC 9293 section 3.10.7.1): it
/// stands where the segment says that the next byte is expected; if the segment does not say that,
/// the reset acknowledges it.
#[must_use]
pub fn to_sender(frame: &[u8], packet: &Packet) -> Option<OwnedFrame> {
    let (ip, segment) = tcp_of(packet)?;
    let ports = (segment.dst_port, segment.src_port);
    let (seq, ack) = if segment.flags.has(TcpFlags::ACK) {
        (segment.ack, None)
    } else {
        (0, Some(segment.seq.wrapping_add(segment.seq_len())))
    };
    build(frame, ip, To::Sender, ports, seq, ack)
}

fn tcp_of(packet: &Packet) -> Option<(&Ip, &TcpSegment)> {
    let ip = packet.ip.as_ref()?;
    match &ip.l4 {
        L4::Tcp(segment) => Some((ip, segment)),
        _ => None,
    }
}

fn build(
    frame: &[u8],
    ip: &Ip,
    to: To,
    (src_port, dst_port): (u16, u16),
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
    let mut own = Own::new(frame, ip, to, IpProtocol::Tcp, tcp.buffer_len())?;
    let (src, dst) = (IpAddress::from(own.src), IpAddress::from(own.dst));
    tcp.emit(
        &mut TcpPacket::new_unchecked(own.payload_mut()),
        &src,
        &dst,
        &ChecksumCapabilities::default(),
    );
    Some(own.frame)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::super::testing::Tcp;
    use super::*;
    use crate::wire::{checksum, parse};

    /// `ack`: what it acknowledges, if anything.
    fn check(frame: &[u8], reset: &OwnedFrame, is_to_sender: bool, seq: u32, ack: Option<u32>) {
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
        let flags = ack.map_or(TcpFlags::RST, |_| TcpFlags::RST | TcpFlags::ACK);
        assert_eq!(new.flags, TcpFlags(flags));
        let numbers = (new.seq, new.ack, new.payload_bytes);
        assert_eq!(numbers, (seq, ack.unwrap_or(0), 0));
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
                check(&frame, &forward, false, 5, Some(77));
                check(&frame, &to_sender(&frame, &packet).unwrap(), true, 77, None);
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
        let reset = to_sender(&frame, &packet).unwrap();
        check(&frame, &reset, true, 0, Some(10));
    }
}
