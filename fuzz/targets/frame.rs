//! The frame parser and the edits in place: no offset outside the frame, no change outside the
//! range.

use lotus::conntrack::{ExpectedTuple, Tuple};
use lotus::wire::{self, ChecksumState, Ip, L4, Packet, Side, TcpFlags, checksum, edit, proto};

use super::lab::Input;

/// The offset of the checksum in a TCP header, RFC 9293 section 3.1.
const TCP_CHECKSUM_AT: usize = 16;

/// Input: where to overwrite (2 bytes), how much (1), with what (1), then the frame.
pub fn check(data: &[u8]) {
    let mut input = Input::new(data);
    let (start, len, with) = (
        usize::from(input.u16()),
        usize::from(input.u8()),
        input.u8(),
    );
    let frame = input.rest();
    let _ = wire::parse_quoted(frame);
    let Ok(packet) = wire::parse(frame) else {
        return;
    };
    in_range(&packet, frame.len());
    if let Some(tuple) = Tuple::of(&packet) {
        let _ = ExpectedTuple::of(&tuple, Side::Inside);
    }
    let Some(ip) = &packet.ip else { return };
    let quote = wire::parse_quoted(&frame[ip.datagram.clone()]);
    if let Some(quote) = quote {
        assert_eq!((quote.src, quote.dst), (ip.src, ip.dst));
    }
    if matches!(ip.l4, L4::Tcp(_)) {
        rewrite(frame, ip, start..start.saturating_add(len), with);
        clear_urgent(frame, ip);
    }
}

fn in_range(packet: &Packet, len: usize) {
    assert!(packet.ether.payload_offset <= len);
    let Some(ip) = &packet.ip else { return };
    assert!(packet.ether.payload_offset <= ip.datagram.start);
    assert!(ip.datagram.start <= ip.l4_offset && ip.l4_offset <= ip.datagram.end);
    assert!(ip.datagram.end <= len);
    let payload = ip.payload();
    assert!(ip.l4_offset <= payload.start && payload.start <= payload.end);
    if let L4::Tcp(segment) = &ip.l4 {
        assert_eq!(ip.protocol, proto::TCP);
        assert_eq!(payload.len(), segment.payload_bytes as usize);
    }
    if let Some(fragment) = ip.fragment {
        assert_eq!(ip.l4, L4::Unparsed);
        assert!(ip.datagram.contains(&fragment.next_header_at));
        assert!(ip.datagram.start < fragment.data_offset);
        assert!(fragment.data_offset <= ip.datagram.end);
    }
}

/// Overwrites a range of the payload, wherever the input puts it.
fn rewrite(frame: &[u8], ip: &Ip, range: std::ops::Range<usize>, with: u8) {
    let payload = ip.payload();
    let range = payload.start.saturating_add(range.start)..payload.start.saturating_add(range.end);
    for state in [
        ChecksumState::Unknown,
        ChecksumState::Verified,
        ChecksumState::Partial,
    ] {
        let mut changed = frame.to_vec();
        edit::overwrite(&mut changed, ip, state, range.clone(), with);
        let is_sum = |at: usize| {
            let sum_at = ip.l4_offset + TCP_CHECKSUM_AT;
            (sum_at..sum_at + 2).contains(&at) && state != ChecksumState::Partial
        };
        for (at, (&before, &after)) in frame.iter().zip(&changed).enumerate() {
            if range.contains(&at) && payload.contains(&at) {
                assert_eq!(after, with, "byte {at} was to be overwritten");
            } else {
                assert!(before == after || is_sum(at), "byte {at} changed");
            }
        }
        keeps_its_sum(frame, &changed, ip, state);
        assert_eq!(
            wire::parse(&changed).ok().and_then(|p| p.ip).as_ref(),
            Some(ip)
        );
    }
}

fn clear_urgent(frame: &[u8], ip: &Ip) {
    let mut changed = frame.to_vec();
    edit::clear_urgent(&mut changed, ip, ChecksumState::Unknown);
    keeps_its_sum(frame, &changed, ip, ChecksumState::Unknown);
    let L4::Tcp(was) = &ip.l4 else { return };
    if TcpFlags(was.flags.0 & !TcpFlags::URG).is_sane() {
        let packet = wire::parse(&changed).expect("still a good frame");
        let Some(Ip {
            l4: L4::Tcp(is), ..
        }) = packet.ip
        else {
            panic!("no longer TCP")
        };
        assert!(!is.flags.has(TcpFlags::URG) && is.urgent == 0);
    }
}

fn keeps_its_sum(before: &[u8], after: &[u8], ip: &Ip, state: ChecksumState) {
    if state != ChecksumState::Partial && checksum::transport_is_right(before, ip) {
        assert!(
            checksum::transport_is_right(after, ip),
            "a right checksum became wrong"
        );
    }
}
