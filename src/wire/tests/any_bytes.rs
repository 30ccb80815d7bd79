//! Frames with anything in them: nothing panics, and etherparse sees the same.

use etherparse::{NetSlice, SlicedPacket, TransportSlice};

use super::*;

/// One frame of each kind that the parser knows.
fn good_frames() -> Vec<Vec<u8>> {
    let tcp = tcp_header(SYN, &[2, 4, 5, 0xb4, 4, 2, 1, 0], b"payload");
    let mut chain = extension(DEST_OPTIONS).to_vec();
    chain.extend(extension(FRAGMENT));
    chain.extend(fragment_header(proto::TCP, 0));
    chain.extend(&tcp);
    let mut fragment = fragment_header(proto::UDP, 0x11);
    fragment.extend([7; 24]);
    let mut quote = vec![3, 1, 0, 0, 0, 0, 0, 0];
    quote.extend(v4(proto::TCP, &[], 0, &tcp));
    let timestamp = [1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2];
    vec![
        frame4(proto::TCP, &tcp_header(ACK, &timestamp, b"payload")),
        frame4(proto::TCP, &tcp),
        frame6(proto::TCP, &tcp),
        frame4(proto::UDP, &udp_header(12, b"abcd")),
        frame6(proto::UDP, &udp_header(12, b"abcd")),
        frame4(proto::ICMP, &quote),
        frame6(proto::ICMPV6, &[135, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3]),
        frame6(HOP_BY_HOP, &chain),
        frame6(FRAGMENT, &fragment),
        ethernet(
            &[(0x8100, 42)],
            ETHERTYPE_IPV4,
            &v4(proto::TCP, &[7, 3, 4, 0], 0, &tcp),
        ),
        ethernet(
            &[(0x88a8, 4), (0x8100, 42)],
            ETHERTYPE_IPV6,
            &v6(proto::TCP, &tcp),
        ),
        ethernet(&[], ETHERTYPE_IPV4, &v4(proto::TCP, &[], 0x2001, &[1; 40])),
        ethernet(&[], ETHERTYPE_ARP, &[0; 28]),
    ]
}

fn mutated(rng: &mut Rng, seeds: &[Vec<u8>]) -> Vec<u8> {
    let mut frame = seeds[rng.below(seeds.len())].clone();
    for _ in 0..rng.below(5) {
        let at = rng.below(frame.len());
        frame[at] = rng.next() as u8;
    }
    match rng.below(4) {
        0 => frame.truncate(rng.below(frame.len() + 1)),
        1 => {
            let count = rng.below(40);
            frame.extend(rng.bytes(count));
        }
        _ => {}
    }
    frame
}

/// What the rest of lotus relies on: every offset of a parsed packet lies inside the frame.
fn assert_offsets_inside(frame: &[u8], packet: &Packet) {
    let Some(ip) = &packet.ip else { return };
    let inside = |range: Range<usize>| {
        assert!(
            frame.get(range.clone()).is_some(),
            "{range:?} of {} in {ip:?}",
            frame.len()
        );
    };
    inside(ip.datagram.clone());
    inside(ip.payload());
    inside(ip.l4_offset..ip.datagram.end);
    if let Some(fragment) = &ip.fragment {
        inside(fragment.data_offset..ip.datagram.end);
        inside(fragment.next_header_at..fragment.next_header_at + 1);
        assert_eq!(ip.l4, L4::Unparsed);
    }
    if let L4::Tcp(tcp) = &ip.l4 {
        assert_eq!(ip.payload().len(), tcp.payload_bytes as usize);
    }
    let _ = checksum::transport_is_right(frame, ip);
}

#[test]
fn no_bytes_make_it_panic() {
    let (mut rng, seeds) = (Rng(3), good_frames());
    let mut parsed = 0;
    let mut used = Packet::default();
    for round in 0..200_000 {
        let frame = if round % 4 == 0 {
            let length = rng.below(120);
            rng.bytes(length)
        } else {
            mutated(&mut rng, &seeds)
        };
        let into_used = parse_into(&frame, &mut used);
        let alone = parse(&frame);
        assert_eq!(into_used, alone.as_ref().map(|_| ()).map_err(|&why| why));
        if let Ok(packet) = alone {
            assert_eq!(packet, used, "nothing of the frame before it stays");
            assert_offsets_inside(&frame, &packet);
            parsed += usize::from(packet.ip.is_some());
        }
        for start in [0, 14, 34, 42] {
            let quote = frame.get(start..).unwrap_or_default();
            if let Some(quoted) = parse_quoted(quote) {
                assert!(quote.get(quoted.payload()).is_some(), "{quoted:?}");
            }
        }
    }
    assert!(
        parsed > 30_000,
        "most frames must get past the first checks: {parsed}"
    );
}

/// Addresses, protocol, ports and where the payload is, as etherparse sees them.
type Facts = (IpAddr, IpAddr, Option<(u16, u16, usize)>);

fn opinion_of_etherparse(frame: &[u8]) -> Option<Facts> {
    let sliced = SlicedPacket::from_ethernet(frame).ok()?;
    let (src, dst): (IpAddr, IpAddr) = match sliced.net? {
        NetSlice::Ipv4(ip) => (
            ip.header().source_addr().into(),
            ip.header().destination_addr().into(),
        ),
        NetSlice::Ipv6(ip) => (
            ip.header().source_addr().into(),
            ip.header().destination_addr().into(),
        ),
        NetSlice::Arp(_) => return None,
    };
    let offset = |payload: &[u8]| payload.as_ptr() as usize - frame.as_ptr() as usize;
    let ports = match sliced.transport {
        Some(TransportSlice::Tcp(tcp)) => Some((
            tcp.source_port(),
            tcp.destination_port(),
            offset(tcp.payload()),
        )),
        Some(TransportSlice::Udp(udp)) => Some((
            udp.source_port(),
            udp.destination_port(),
            offset(udp.payload()),
        )),
        _ => None,
    };
    Some((src, dst, ports))
}

fn opinion_of_lotus(frame: &[u8]) -> Option<Facts> {
    let ip = parse(frame).ok()?.ip?;
    let ports = match &ip.l4 {
        L4::Tcp(tcp) => Some((tcp.src_port, tcp.dst_port, tcp.payload_offset)),
        L4::Udp(udp) => Some((udp.src_port, udp.dst_port, udp.payload_offset)),
        _ => None,
    };
    Some((ip.src, ip.dst, ports))
}

#[test]
fn etherparse_sees_the_same() {
    let seeds = good_frames();
    for frame in &seeds {
        assert_eq!(
            opinion_of_lotus(frame),
            opinion_of_etherparse(frame),
            "{frame:02x?}"
        );
    }
    let (mut rng, mut agreed) = (Rng(4), 0);
    for _ in 0..100_000 {
        let frame = mutated(&mut rng, &seeds);
        let (Some(ours), Some(theirs)) = (opinion_of_lotus(&frame), opinion_of_etherparse(&frame))
        else {
            continue;
        };
        assert_eq!(ours, theirs, "{frame:02x?}");
        agreed += 1;
    }
    assert!(
        agreed > 20_000,
        "too few frames were parsed by both: {agreed}"
    );
}
