//! IPv6 headers and the chain behind them.

use super::*;

const ROUTING: u8 = 43;
const ESP: u8 = 50;
const AUTH: u8 = 51;
const NO_NEXT: u8 = 59;

#[test]
fn ipv6_fields() {
    let frame = frame6(proto::TCP, &tcp_header(SYN, &[], b"hi"));
    let ip = ip_of(&frame);
    assert_eq!((ip.src, ip.dst), (address6(1).into(), address6(2).into()));
    assert_eq!(
        (ip.hop_limit, ip.protocol, ip.l4_offset),
        (62, proto::TCP, 54)
    );
    assert_eq!(&frame[ip.payload()], b"hi");
    let mut wrong = frame.clone();
    wrong[14] = 0x45;
    assert_eq!(refused(&wrong), Reason::IpHeaderBad);
    let mut wrong = frame;
    wrong[19] += 1;
    assert_eq!(refused(&wrong), Reason::FrameTruncated);
}

#[test]
fn ipv6_length_zero() {
    assert_eq!(
        refused(&frame6(HOP_BY_HOP, &[])),
        Reason::IpLengthZero,
        "a jumbogram"
    );
    assert_eq!(ip_of(&frame6(NO_NEXT, &[])).l4, L4::Other);
}

#[test]
fn ipv6_extension_chains() {
    // Hop-by-hop, destination options (one of 16 bytes), routing with nothing left,
    // authentication, destination options.
    let mut payload = extension(DEST_OPTIONS).to_vec();
    payload.extend([ROUTING, 1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    payload.extend([AUTH, 0, 2, 0, 0, 0, 0, 0]);
    payload.extend([DEST_OPTIONS, 2, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 0]);
    payload.extend(extension(proto::TCP));
    payload.extend(tcp_header(ACK, &[], b"deep"));
    let frame = frame6(HOP_BY_HOP, &payload);
    let ip = ip_of(&frame);
    assert_eq!(
        (ip.protocol, ip.l4_offset),
        (proto::TCP, 54 + 8 + 16 + 8 + 16 + 8)
    );
    assert_eq!(&frame[ip.payload()], b"deep");
}

#[test]
fn ipv6_chains_that_hide_something() {
    let tcp = tcp_header(ACK, &[], b"");
    let chain = |headers: &[[u8; 8]], first: u8| {
        let mut payload = headers.concat();
        payload.extend(&tcp);
        parse(&frame6(first, &payload))
    };
    let options = extension(DEST_OPTIONS);
    let last = extension(proto::TCP);
    let six = [options, options, options, options, options, last];
    assert!(chain(&six, DEST_OPTIONS).is_ok());
    let seven = [options, options, options, options, options, options, last];
    assert_eq!(
        chain(&seven, DEST_OPTIONS),
        Err(Reason::Ipv6ChainBad),
        "too many"
    );
    let late = [extension(HOP_BY_HOP), last];
    assert_eq!(
        chain(&late, DEST_OPTIONS),
        Err(Reason::Ipv6ChainBad),
        "hop-by-hop not first"
    );
    for unknown in [135, 139, 140, 253, 254] {
        assert_eq!(
            chain(&[last], unknown),
            Err(Reason::Ipv6ChainBad),
            "{unknown}"
        );
    }
    let mut long = last;
    long[1] = 255;
    assert_eq!(
        chain(&[long], DEST_OPTIONS),
        Err(Reason::Ipv6ChainBad),
        "beyond the datagram"
    );
    assert_eq!(
        refused(&frame6(DEST_OPTIONS, &[6])),
        Reason::Ipv6ChainBad,
        "cut"
    );
    assert_eq!(
        refused(&frame6(FRAGMENT, &[6, 0, 0, 1, 0, 0, 0])),
        Reason::Ipv6ChainBad,
        "cut"
    );
    // The header ends inside the padding, not inside the datagram.
    let mut padded = frame6(DEST_OPTIONS, &[6]);
    padded.extend([0; 60]);
    assert_eq!(refused(&padded), Reason::Ipv6ChainBad);
}

#[test]
fn ipv6_routing_headers() {
    let with = |kind: u8, left: u8| {
        let mut payload = vec![proto::TCP, 0, kind, left, 0, 0, 0, 0];
        payload.extend(tcp_header(ACK, &[], b""));
        parse(&frame6(ROUTING, &payload))
    };
    assert_eq!(
        with(0, 0),
        Err(Reason::IpSourceRoute),
        "type 0 is deprecated"
    );
    assert_eq!(with(0, 1), Err(Reason::IpSourceRoute));
    assert_eq!(
        with(4, 1),
        Err(Reason::IpSourceRoute),
        "it still goes elsewhere"
    );
    assert!(with(4, 0).is_ok());
}

#[test]
fn ipv6_headers_that_cannot_be_read_end_the_walk() {
    for next in [ESP, NO_NEXT] {
        let ip = ip_of(&frame6(next, &[0xff; 20]));
        assert_eq!((ip.protocol, ip.l4, ip.l4_offset), (next, L4::Other, 54));
    }
}

#[test]
fn ipv6_fragments() {
    let mut payload = fragment_header(proto::TCP, 0x0001);
    payload.extend(tcp_header(SYN, &[], b"data"));
    let ip = ip_of(&frame6(FRAGMENT, &payload));
    let fragment = ip.fragment.unwrap();
    assert_eq!(
        (fragment.id, fragment.offset_bytes, fragment.more),
        (0xdead_beef, 0, true)
    );
    assert_eq!((fragment.data_offset, fragment.next_header_at), (62, 20));
    assert_eq!((ip.protocol, ip.l4), (proto::TCP, L4::Unparsed));

    // Behind destination options, the byte that names the fragment header is theirs.
    let mut payload = extension(FRAGMENT).to_vec();
    payload.extend(fragment_header(proto::UDP, 0x0010 | 0x0006));
    payload.extend([1, 2, 3]);
    let ip = ip_of(&frame6(DEST_OPTIONS, &payload));
    let fragment = ip.fragment.unwrap();
    // The two reserved bits are no part of the offset.
    assert_eq!((fragment.offset_bytes, fragment.more), (16, false));
    assert_eq!((fragment.data_offset, fragment.next_header_at), (70, 54));
}

#[test]
fn an_atomic_fragment_is_a_whole_datagram() {
    let mut payload = fragment_header(proto::TCP, 0);
    payload.extend(tcp_header(SYN, &[], b"data"));
    let frame = frame6(FRAGMENT, &payload);
    let ip = ip_of(&frame);
    assert_eq!((ip.fragment, ip.l4_offset), (None, 62));
    assert_eq!(&frame[ip.payload()], b"data");
}
