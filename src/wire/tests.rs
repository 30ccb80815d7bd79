#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::net::IpAddr;

use etherparse::{NetSlice, SlicedPacket, TransportSlice};

use super::*;
use crate::observe::DropReason as Reason;

const SYN: u8 = TcpFlags::SYN;
const ACK: u8 = TcpFlags::ACK;
const SRC4: [u8; 4] = [192, 0, 2, 1];
const DST4: [u8; 4] = [198, 51, 100, 2];
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const ESP: u8 = 50;
const AUTH: u8 = 51;
const NO_NEXT: u8 = 59;
const DEST_OPTIONS: u8 = 60;

// ---- building frames

fn ethernet(tags: &[(u16, u16)], ethertype: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 9, 2, 0, 0, 0, 0, 8];
    for (tpid, tci) in tags {
        frame.extend(tpid.to_be_bytes());
        frame.extend(tci.to_be_bytes());
    }
    frame.extend(ethertype.to_be_bytes());
    frame.extend(payload);
    frame
}

/// An IPv4 datagram with a right header checksum.
fn v4(protocol: u8, options: &[u8], flags_and_offset: u16, payload: &[u8]) -> Vec<u8> {
    let header_bytes = 20 + options.len();
    let mut datagram = vec![0x40 | (header_bytes / 4) as u8, 0];
    datagram.extend(((header_bytes + payload.len()) as u16).to_be_bytes());
    datagram.extend([0xab, 0xcd]);
    datagram.extend(flags_and_offset.to_be_bytes());
    datagram.extend([61, protocol, 0, 0]);
    datagram.extend(SRC4);
    datagram.extend(DST4);
    datagram.extend(options);
    let sum = !checksum::fold(checksum::sum(&datagram));
    datagram[10..12].copy_from_slice(&sum.to_be_bytes());
    datagram.extend(payload);
    datagram
}

fn v6(next: u8, payload: &[u8]) -> Vec<u8> {
    let mut datagram = vec![0x60, 0, 0, 0];
    datagram.extend((payload.len() as u16).to_be_bytes());
    datagram.extend([next, 62]);
    datagram.extend(address6(1));
    datagram.extend(address6(2));
    datagram.extend(payload);
    datagram
}

fn address6(last: u8) -> [u8; 16] {
    [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]
}

fn tcp_header(flags: u8, options: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut segment = vec![0x9c, 0x40, 0, 21];
    segment.extend(0x0102_0304u32.to_be_bytes());
    segment.extend(0x0506_0708u32.to_be_bytes());
    segment.extend([
        (((20 + options.len()) / 4) << 4) as u8,
        flags,
        0x20,
        0,
        0,
        0,
        0,
        7,
    ]);
    segment.extend(options);
    segment.extend(payload);
    segment
}

fn udp_header(length: u16, payload: &[u8]) -> Vec<u8> {
    let mut datagram = vec![0x13, 0x88, 0, 53];
    datagram.extend(length.to_be_bytes());
    datagram.extend([0, 0]);
    datagram.extend(payload);
    datagram
}

fn frame4(protocol: u8, payload: &[u8]) -> Vec<u8> {
    ethernet(&[], ETHERTYPE_IPV4, &v4(protocol, &[], 0, payload))
}

fn frame6(next: u8, payload: &[u8]) -> Vec<u8> {
    ethernet(&[], ETHERTYPE_IPV6, &v6(next, payload))
}

/// An extension header of eight bytes.
fn extension(next: u8) -> [u8; 8] {
    [next, 0, 1, 4, 0, 0, 0, 0]
}

fn fragment_header(next: u8, offset_and_more: u16) -> Vec<u8> {
    let mut header = vec![next, 0];
    header.extend(offset_and_more.to_be_bytes());
    header.extend(0xdead_beefu32.to_be_bytes());
    header
}

fn good_tcp4() -> Vec<u8> {
    frame4(proto::TCP, &tcp_header(ACK, &[], b"USER x\r\n"))
}

fn ip_of(frame: &[u8]) -> Ip {
    parse(frame).unwrap().ip.unwrap()
}

fn tcp_of(frame: &[u8]) -> TcpSegment {
    match ip_of(frame).l4 {
        L4::Tcp(segment) => segment,
        other => panic!("{other:?}"),
    }
}

fn refused(frame: &[u8]) -> Reason {
    parse(frame).expect_err("it was accepted")
}

// ---- Ethernet and tags

#[test]
fn tags_are_walked_up_to_two() {
    let arp = |tags: &[(u16, u16)]| parse(&ethernet(tags, ETHERTYPE_ARP, &[0; 28]));
    let none = arp(&[]).unwrap();
    assert_eq!(
        (none.ether.vlan_count, none.ether.vlan_ids(), none.ip),
        (0, [NO_VLAN; 2], None)
    );
    assert_eq!(
        (
            none.ether.dst[5],
            none.ether.src[5],
            none.ether.payload_offset
        ),
        (9, 8, 14)
    );

    // Priority bits are no part of the id.
    let one = arp(&[(0x8100, 0xe02a)]).unwrap().ether;
    assert_eq!(
        (one.vlan_count, one.vlan_ids(), one.vlan_tci[0]),
        (1, [42, NO_VLAN], 0xe02a)
    );
    let two = arp(&[(0x88a8, 7), (0x8100, 42)]).unwrap().ether;
    assert_eq!((two.vlan_count, two.vlan_ids()), (2, [7 | SERVICE_TAG, 42]));
    assert_eq!((two.ethertype, two.payload_offset), (ETHERTYPE_ARP, 22));
    let old = arp(&[(0x9100, 7), (0x8100, 42)]).unwrap().ether;
    assert_eq!(old.vlan_ids(), [7 | SERVICE_TAG, 42]);
    // Two customer tags are what many networks call QinQ.
    let inner = arp(&[(0x8100, 7), (0x88a8, 42)]).unwrap().ether;
    assert_eq!(inner.vlan_ids(), [7, 42 | SERVICE_TAG]);

    // A priority tag is not the same as no tag.
    assert_eq!(
        arp(&[(0x8100, 0xe000)]).unwrap().ether.vlan_ids(),
        [0, NO_VLAN]
    );
    assert_eq!(arp(&[(0x8100, 4095)]), Err(Reason::VlanReserved));

    let three = arp(&[(0x88a8, 1), (0x8100, 2), (0x8100, 3)]);
    assert_eq!(three, Err(Reason::VlanTooManyTags));
}

#[test]
fn offsets_behind_tags_point_at_the_same_bytes() {
    let datagram = v4(proto::TCP, &[], 0, &tcp_header(ACK, &[], b"data"));
    for tags in [&[][..], &[(0x8100, 5)], &[(0x88a8, 5), (0x8100, 6)]] {
        let frame = ethernet(tags, ETHERTYPE_IPV4, &datagram);
        let ip = ip_of(&frame);
        assert_eq!(&frame[ip.datagram.clone()], datagram);
        assert_eq!(&frame[ip.payload()], b"data");
    }
}

#[test]
fn a_frame_cut_anywhere_is_refused_or_has_nothing_to_judge() {
    let tagged = ethernet(&[(0x8100, 5)], ETHERTYPE_IPV4, &good_tcp4()[14..]);
    for whole in [
        good_tcp4(),
        tagged,
        frame6(proto::TCP, &tcp_header(SYN, &[], b"")),
    ] {
        assert!(parse(&whole).is_ok());
        for length in 0..whole.len() {
            assert_eq!(
                refused(&whole[..length]),
                Reason::FrameTruncated,
                "at {length}"
            );
        }
    }
}

#[test]
fn what_is_not_ip_has_no_ip() {
    for ethertype in [ETHERTYPE_ARP, 0x0026, 0x88cc, 0x8863] {
        assert_eq!(
            parse(&ethernet(&[], ethertype, &[0x45; 60])).unwrap().ip,
            None
        );
    }
}

// ---- IPv4

#[test]
fn ipv4_fields() {
    let frame = good_tcp4();
    let ip = ip_of(&frame);
    assert_eq!((ip.src, ip.dst), (IpAddr::from(SRC4), IpAddr::from(DST4)));
    assert_eq!(
        (ip.hop_limit, ip.protocol, ip.l4_offset),
        (61, proto::TCP, 34)
    );
    assert_eq!((ip.datagram.clone(), ip.fragment), (14..frame.len(), None));
    assert!(checksum::ipv4_header_is_right(&frame[14..34]));
}

#[test]
fn ipv4_headers_that_do_not_add_up() {
    let with = |at: usize, value: u8| {
        let mut frame = good_tcp4();
        frame[at] = value;
        frame
    };
    assert_eq!(refused(&with(14, 0x55)), Reason::IpHeaderBad, "version 5");
    assert_eq!(
        refused(&with(14, 0x44)),
        Reason::IpHeaderBad,
        "16 bytes of header"
    );
    assert_eq!(
        refused(&with(17, 19)),
        Reason::IpHeaderBad,
        "total below the header"
    );
    assert_eq!(refused(&with(17, 0)), Reason::IpLengthZero);
    assert_eq!(
        refused(&with(16, 1)),
        Reason::FrameTruncated,
        "total beyond the frame"
    );
    assert_eq!(
        refused(&with(17, 39)),
        Reason::TcpHeaderBad,
        "19 bytes of TCP"
    );
    // All 60 header bytes, of which only some are inside the total length.
    assert_eq!(refused(&with(14, 0x4f)), Reason::IpHeaderBad);
}

#[test]
fn ipv4_options() {
    let with = |options: &[u8]| {
        let datagram = v4(proto::TCP, options, 0, &tcp_header(ACK, &[], b"x"));
        parse(&ethernet(&[], ETHERTYPE_IPV4, &datagram))
    };
    let good: [&[u8]; 4] = [
        &[1, 1, 1, 0],
        &[148, 4, 0, 0],           // router alert
        &[7, 7, 4, 0, 0, 0, 0, 0], // record route, then the end
        &[0, 131, 3, 4],           // behind the end of options nobody reads
    ];
    for options in good {
        let ip = with(options).unwrap().ip.unwrap();
        assert_eq!(ip.l4_offset, 34 + options.len(), "{options:?}");
        assert!(matches!(ip.l4, L4::Tcp(_)));
    }
    for route in [131, 137] {
        assert_eq!(
            with(&[route, 7, 4, 192, 0, 2, 9, 0]),
            Err(Reason::IpSourceRoute)
        );
        assert_eq!(
            with(&[1, 1, 7, 3, 4, route, 3, 4]),
            Err(Reason::IpSourceRoute)
        );
    }
    for bad in [&[7, 1, 0, 0], &[7, 0, 0, 0], &[7, 5, 0, 0], &[1, 1, 1, 7]] {
        assert_eq!(with(bad), Err(Reason::IpHeaderBad), "{bad:?}");
    }
}

#[test]
fn ipv4_fragments() {
    let of = |bits: u16| {
        ip_of(&ethernet(
            &[],
            ETHERTYPE_IPV4,
            &v4(proto::TCP, &[], bits, &[0; 16]),
        ))
    };
    let first = of(0x2000);
    let fragment = first.fragment.unwrap();
    assert_eq!(
        (fragment.id, fragment.offset_bytes, fragment.more),
        (0xabcd, 0, true)
    );
    assert_eq!((fragment.data_offset, first.l4), (34, L4::Unparsed));
    let last = of(0x0003).fragment.unwrap();
    assert_eq!((last.offset_bytes, last.more), (24, false));
    let farthest = of(0x3fff).fragment.unwrap();
    assert_eq!((farthest.offset_bytes, farthest.more), (65_528, true));
    // "Do not fragment" alone is no fragment.
    assert_eq!(ip_of(&good_tcp4()).fragment, None);
    let whole = v4(proto::TCP, &[], 0x4000, &tcp_header(ACK, &[], b""));
    assert_eq!(ip_of(&ethernet(&[], ETHERTYPE_IPV4, &whole)).fragment, None);
}

#[test]
fn padding_is_never_parsed() {
    let mut frame = frame4(proto::TCP, &tcp_header(ACK, &[], b""));
    frame.extend(b"PORT 1,2,3,4,5,6\r\n");
    assert_eq!(tcp_of(&frame).payload_bytes, 0);
    assert!(ip_of(&frame).payload().is_empty());
    let mut frame = frame6(proto::TCP, &tcp_header(ACK, &[], b"ab"));
    frame.extend([0xff; 30]);
    assert_eq!(&frame[ip_of(&frame).payload()], b"ab");
    // A header that reaches into the padding is cut.
    let mut frame = frame4(proto::TCP, &tcp_header(ACK, &[], b"")[..12]);
    frame.extend([0x50; 40]);
    assert_eq!(refused(&frame), Reason::TcpHeaderBad);
}

// ---- IPv6

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

// ---- TCP

#[test]
fn tcp_fields() {
    let frame = frame4(
        proto::TCP,
        &tcp_header(ACK | TcpFlags::PSH, &[], b"QUIT\r\n"),
    );
    let segment = tcp_of(&frame);
    assert_eq!((segment.src_port, segment.dst_port), (40_000, 21));
    assert_eq!((segment.seq, segment.ack), (0x0102_0304, 0x0506_0708));
    assert_eq!((segment.window, segment.urgent), (0x2000, 7));
    assert_eq!((segment.payload_offset, segment.payload_bytes), (54, 6));
    assert_eq!(
        (segment.flags.0, segment.seq_len()),
        (ACK | TcpFlags::PSH, 6)
    );
    let fin = tcp_of(&frame4(
        proto::TCP,
        &tcp_header(ACK | TcpFlags::FIN, &[], b"x"),
    ));
    assert_eq!(fin.seq_len(), 2);
}

#[test]
fn tcp_headers_that_do_not_add_up() {
    let bad = |header: Vec<u8>| refused(&frame4(proto::TCP, &header));
    for length in 0..20 {
        let header = tcp_header(ACK, &[], b"")[..length].to_vec();
        assert_eq!(bad(header), Reason::TcpHeaderBad, "{length} bytes");
    }
    let change = |at: usize, value: u8| {
        let mut header = tcp_header(ACK, &[], b"");
        header[at] = value;
        header
    };
    assert_eq!(
        bad(change(12, 0x40)),
        Reason::TcpHeaderBad,
        "16 bytes of header"
    );
    assert_eq!(
        bad(change(12, 0x60)),
        Reason::TcpHeaderBad,
        "options beyond the datagram"
    );
    assert_eq!(bad(change(3, 0)), Reason::TcpHeaderBad, "port 0");
    let mut from_zero = change(0, 0);
    from_zero[1] = 0;
    assert_eq!(bad(from_zero), Reason::TcpHeaderBad, "port 0");
}

#[test]
fn tcp_flag_combinations() {
    let (fin, rst, psh, urg) = (TcpFlags::FIN, TcpFlags::RST, TcpFlags::PSH, TcpFlags::URG);
    let ece_cwr = 0xc0;
    for sane in [
        SYN,
        SYN | ACK,
        SYN | ece_cwr,
        SYN | ACK | 0x40,
        ACK,
        ACK | psh,
        ACK | urg,
        ACK | fin,
        ACK | fin | psh | urg,
        rst,
        rst | ACK,
        rst | psh | ACK,
    ] {
        assert!(TcpFlags(sane).is_sane(), "{sane:#x}");
    }
    for scan in [
        0,
        fin,
        psh,
        urg,
        fin | psh | urg,
        SYN | fin,
        SYN | rst,
        SYN | fin | ACK,
        rst | fin,
        SYN | rst | ACK,
        0xff,
        ece_cwr,
    ] {
        assert_eq!(
            refused(&frame4(proto::TCP, &tcp_header(scan, &[], b""))),
            Reason::TcpFlagsBad,
            "{scan:#x}"
        );
    }
}

#[test]
fn tcp_options() {
    let of = |flags: u8, options: &[u8]| {
        tcp_of(&frame4(proto::TCP, &tcp_header(flags, options, b"payload")))
    };
    // As Linux sends them: MSS, SACK permitted, timestamps, no-operation, window scale.
    let linux: Vec<u8> = [&[2, 4, 5, 0xb4, 4, 2, 8, 10][..], &[1; 8], &[1, 3, 3, 7]].concat();
    let syn = of(SYN, &linux);
    assert_eq!(
        (syn.window_scale, syn.sack_permitted, syn.payload_bytes),
        (Some(7), true, 7)
    );
    let later = of(ACK, &linux);
    assert_eq!(
        (later.window_scale, later.sack_permitted),
        (None, false),
        "only a SYN says so"
    );
    assert_eq!(
        of(SYN, &[3, 3, 15, 0]).window_scale,
        Some(14),
        "RFC 7323 section 2.3"
    );
    // Wrong lengths: the option does not count.
    assert_eq!(of(SYN, &[3, 4, 7, 0]).window_scale, None);
    assert!(!of(SYN, &[4, 3, 0, 0]).sack_permitted);
    // Behind the end nothing counts; behind a broken length neither.
    assert_eq!(of(SYN, &[0, 3, 3, 7]).window_scale, None);
    for broken in [0, 1, 9] {
        assert_eq!(
            of(SYN, &[8, broken, 3, 3, 7, 1, 1, 1]).window_scale,
            None,
            "{broken}"
        );
    }
    assert_eq!(
        of(SYN, &[1, 1, 1, 3]).window_scale,
        None,
        "a kind without a length"
    );
}

#[test]
fn tcp_sack_blocks() {
    let sack = |blocks: &[(u32, u32)]| {
        let mut options = vec![1, 1, 5, 2 + 8 * blocks.len() as u8];
        for (left, right) in blocks {
            options.extend(left.to_be_bytes());
            options.extend(right.to_be_bytes());
        }
        tcp_of(&frame4(proto::TCP, &tcp_header(ACK, &options, b""))).sack_end
    };
    assert_eq!(sack(&[]), None);
    assert_eq!(sack(&[(10, 20)]), Some(20));
    assert_eq!(sack(&[(10, 20), (50, 60), (30, 40)]), Some(60));
    // Sequence numbers wrap: 5 is later than 0xffff_fff0.
    assert_eq!(sack(&[(0xffff_ff00, 0xffff_fff0), (0, 5)]), Some(5));
    assert_eq!(sack(&[(0, 5), (0xffff_ff00, 0xffff_fff0)]), Some(5));
}

// ---- UDP, ICMP, others

#[test]
fn udp_lengths() {
    let of = |length: u16| parse(&frame4(proto::UDP, &udp_header(length, b"abcd")));
    let L4::Udp(udp) = of(12).unwrap().ip.unwrap().l4 else {
        panic!("not UDP")
    };
    assert_eq!(
        (udp.src_port, udp.dst_port, udp.payload_offset),
        (5000, 53, 42)
    );
    assert!(of(8).is_ok(), "shorter than the datagram");
    assert!(of(0).is_ok(), "super-frames");
    for length in [1, 7, 13, 0xffff] {
        assert_eq!(of(length), Err(Reason::UdpHeaderBad), "{length}");
    }
    assert_eq!(refused(&frame4(proto::UDP, &[0; 7])), Reason::UdpHeaderBad);
}

#[test]
fn icmp_fields() {
    let message = [8, 3, 0, 0, 0x12, 0x34, 0, 1];
    for frame in [
        frame4(proto::ICMP, &message),
        frame6(proto::ICMPV6, &message),
    ] {
        assert_eq!(
            ip_of(&frame).l4,
            L4::Icmp(Icmp {
                kind: 8,
                code: 3,
                id: 0x1234
            })
        );
    }
    assert_eq!(
        refused(&frame4(proto::ICMP, &message[..7])),
        Reason::IcmpHeaderBad
    );
    assert_eq!(
        refused(&frame6(proto::ICMPV6, &message[..7])),
        Reason::IcmpHeaderBad
    );
}

#[test]
fn other_protocols_are_told_by_their_number() {
    for protocol in [2, 47, 50, 89, 132] {
        let ip = ip_of(&frame4(protocol, b""));
        assert_eq!((ip.protocol, ip.l4), (protocol, L4::Other));
    }
}

// ---- quoted packets

#[test]
fn a_quote_may_be_cut_behind_eight_bytes() {
    let whole = v4(
        proto::TCP,
        &[1, 1, 1, 0],
        0,
        &tcp_header(ACK, &[], &[0; 500]),
    );
    let quoted = parse_quoted(&whole[..32]).unwrap();
    assert_eq!((quoted.src, quoted.dst), (SRC4.into(), DST4.into()));
    let L4::Tcp(tcp) = quoted.l4 else {
        panic!("not TCP")
    };
    assert_eq!(
        (tcp.src_port, tcp.dst_port, tcp.seq),
        (40_000, 21, 0x0102_0304)
    );
    for length in 0..32 {
        assert_eq!(parse_quoted(&whole[..length]), None, "{length} bytes");
    }

    let whole = v6(proto::UDP, &udp_header(508, &[0; 500]));
    let L4::Udp(udp) = parse_quoted(&whole[..48]).unwrap().l4 else {
        panic!("not UDP")
    };
    assert_eq!((udp.src_port, udp.dst_port), (5000, 53));
    for length in 0..48 {
        assert_eq!(parse_quoted(&whole[..length]), None, "{length} bytes");
    }
}

#[test]
fn quotes_of_other_kinds() {
    let echo = v4(proto::ICMP, &[], 0, &[8, 0, 0, 0, 0, 77, 0, 1]);
    let L4::Icmp(icmp) = parse_quoted(&echo).unwrap().l4 else {
        panic!("not ICMP")
    };
    assert_eq!((icmp.kind, icmp.id), (8, 77));
    assert_eq!(
        parse_quoted(&v4(47, &[], 0, &[0; 8])).unwrap().l4,
        L4::Other
    );
    let mut behind_options = extension(proto::TCP).to_vec();
    behind_options.extend(&tcp_header(ACK, &[], b"")[..8]);
    let quoted = parse_quoted(&v6(DEST_OPTIONS, &behind_options)).unwrap();
    assert!(matches!(quoted.l4, L4::Tcp(_)));
    assert_eq!(parse_quoted(&[]), None);
    assert_eq!(parse_quoted(&[0x55; 60]), None);
}

#[test]
fn a_quoted_fragment_counts_only_when_it_is_the_first() {
    let ports = &tcp_header(ACK, &[], b"")[..8];
    assert!(parse_quoted(&v4(proto::TCP, &[], 0x2000, ports)).is_some());
    assert!(parse_quoted(&v4(proto::TCP, &[], 0x0001, ports)).is_none());
    for (bits, is_first) in [(0x0001, true), (0x0008, false)] {
        let mut payload = fragment_header(proto::TCP, bits);
        payload.extend(ports);
        assert_eq!(parse_quoted(&v6(FRAGMENT, &payload)).is_some(), is_first);
    }
}

// ---- checksums

/// The plainest sum there is, to compare with.
fn plain_sum(bytes: &[u8]) -> u16 {
    let mut sum = 0u32;
    for pair in bytes.chunks(2) {
        sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// Numbers that look random and are the same on every run (SplitMix64).
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.next() as u8).collect()
    }
}

#[test]
fn sums_of_any_length() {
    let mut rng = Rng(1);
    for length in 0..300 {
        let bytes = rng.bytes(length);
        assert_eq!(
            checksum::fold(checksum::sum(&bytes)),
            plain_sum(&bytes),
            "{length} bytes"
        );
    }
    assert_eq!(checksum::fold(checksum::sum(&[0xff; 65_536])), 0xffff);
    // The example of RFC 1071 section 3.
    let example = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
    assert_eq!(checksum::fold(checksum::sum(&example)), 0xddf2);
}

#[test]
fn an_updated_checksum_is_the_recomputed_one() {
    // RFC 1624 section 4: the case that RFC 1141 gets wrong.
    assert_eq!(checksum::updated(0xdd2f, 0x5555, 0x3285), 0x0000);
    let mut rng = Rng(2);
    for _ in 0..20_000 {
        let length = 2 * (2 + rng.below(30));
        let mut bytes = rng.bytes(length);
        // A checksum of zero words only never stands in a packet: something is always set.
        bytes[0] |= 1;
        let before = !plain_sum(&bytes);
        let at = 2 + 2 * rng.below(length / 2 - 1);
        let old = be16(&bytes, at).unwrap();
        let new = if rng.below(4) == 0 {
            [0xff, 0xff]
        } else {
            (rng.next() as u16).to_be_bytes()
        };
        bytes[at..at + 2].copy_from_slice(&new);
        let updated = checksum::updated(before, old, u16::from_be_bytes(new));
        assert_eq!(
            updated,
            !plain_sum(&bytes),
            "{before:04x} {old:04x} {new:?}"
        );
    }
}

/// Puts the right transport checksum in; `at` is its offset in the transport header.
fn seal(frame: &mut [u8], at: usize) {
    let ip = ip_of(frame);
    let range = ip.l4_offset..ip.datagram.end;
    frame[range.start + at..range.start + at + 2].fill(0);
    let pseudo = match ip.protocol {
        proto::ICMP => 0,
        protocol => checksum::pseudo_header(ip.src, ip.dst, protocol, range.len()),
    };
    let sum = !checksum::fold(checksum::sum(&frame[range.clone()]) + pseudo);
    frame[range.start + at..range.start + at + 2].copy_from_slice(&sum.to_be_bytes());
}

#[test]
fn every_flipped_bit_is_seen_by_the_transport_checksum() {
    let tcp = tcp_header(ACK, &[], b"odd");
    let icmp = [8, 0, 0, 0, 0, 1, 0, 1, 9, 9, 9];
    let frames = [
        (frame4(proto::TCP, &tcp), 16),
        (frame6(proto::TCP, &tcp), 16),
        (frame4(proto::UDP, &udp_header(11, b"odd")), 6),
        (frame6(proto::UDP, &udp_header(11, b"odd")), 6),
        (frame4(proto::ICMP, &icmp), 2),
        (frame6(proto::ICMPV6, &icmp), 2),
    ];
    for (mut frame, at) in frames {
        seal(&mut frame, at);
        let ip = ip_of(&frame);
        assert!(checksum::transport_is_right(&frame, &ip), "{ip:?}");
        for bit in ip.l4_offset * 8..ip.datagram.end * 8 {
            let mut wrong = frame.clone();
            wrong[bit / 8] ^= 1 << (bit % 8);
            assert!(
                !checksum::transport_is_right(&wrong, &ip),
                "bit {bit} of {ip:?}"
            );
        }
        // Padding is not summed.
        frame.extend([0xff; 7]);
        assert!(checksum::transport_is_right(&frame, &ip));
    }
}

#[test]
fn a_known_checksum_from_the_field() {
    // A DNS query as captured elsewhere: independent of the functions above.
    let mut frame = ethernet(
        &[],
        ETHERTYPE_IPV4,
        &[
            0x45, 0x00, 0x00, 0x73, 0x00, 0x00, 0x40, 0x00, 0x40, 0x11, 0xb8, 0x61, 0xc0, 0xa8,
            0x00, 0x01, 0xc0, 0xa8, 0x00, 0xc7,
        ],
    );
    assert!(checksum::ipv4_header_is_right(&frame[14..34]));
    frame[30] ^= 1;
    assert!(!checksum::ipv4_header_is_right(&frame[14..34]));
}

#[test]
fn udp_without_a_checksum() {
    let frame = frame4(proto::UDP, &udp_header(12, b"abcd"));
    assert!(
        checksum::transport_is_right(&frame, &ip_of(&frame)),
        "RFC 768: none was made"
    );
    let frame = frame6(proto::UDP, &udp_header(12, b"abcd"));
    assert!(
        !checksum::transport_is_right(&frame, &ip_of(&frame)),
        "RFC 8200: IPv6 needs one"
    );
}

/// The datagram may be longer than the UDP length says; the checksum covers the UDP length.
#[test]
fn a_udp_checksum_ends_with_its_length() {
    for build in [frame4 as fn(u8, &[u8]) -> Vec<u8>, frame6] {
        let mut short = build(proto::UDP, &udp_header(12, b"abcd"));
        seal(&mut short, 6);
        let sum = ip_of(&short).l4_offset + 6;
        let mut long = build(proto::UDP, &udp_header(12, b"abcdsurplus"));
        let at = ip_of(&long).l4_offset + 6;
        long[at..at + 2].copy_from_slice(&short[sum..sum + 2]);
        assert!(checksum::transport_is_right(&long, &ip_of(&long)));
        long[at + 3] ^= 1;
        assert!(!checksum::transport_is_right(&long, &ip_of(&long)));
    }
}

// ---- changes in place

#[test]
fn overwritten_bytes_keep_the_checksum_right() {
    let mut rng = Rng(5);
    for round in 0..5_000 {
        let length = 1 + rng.below(40);
        let header = tcp_header(ACK | TcpFlags::PSH, &[], &rng.bytes(length));
        let build = if round % 2 == 0 { frame4 } else { frame6 };
        let mut frame = build(proto::TCP, &header);
        seal(&mut frame, 16);
        frame.extend([9; 5]);
        let (before, ip) = (frame.clone(), ip_of(&frame));
        let payload = ip.payload();
        let start = payload.start + rng.below(length);
        let range = start..start + rng.below(payload.end - start + 1);
        edit::overwrite(&mut frame, &ip, ChecksumState::Unknown, range.clone(), b'X');
        assert!(
            checksum::transport_is_right(&frame, &ip),
            "{range:?} of {payload:?}"
        );

        let mut expected = before.clone();
        expected[range.clone()].fill(b'X');
        let mut partial = before.clone();
        edit::overwrite(&mut partial, &ip, ChecksumState::Partial, range, b'X');
        assert_eq!(partial, expected, "a partial checksum stays");
        let field = ip.l4_offset + 16..ip.l4_offset + 18;
        expected[field.clone()].copy_from_slice(&frame[field]);
        assert_eq!(frame, expected, "nothing else changes, padding neither");
    }
}

#[test]
fn an_overwritten_range_ends_with_the_datagram() {
    let mut frame = frame4(proto::TCP, &tcp_header(ACK, &[], b"abc"));
    seal(&mut frame, 16);
    frame.extend([9; 5]);
    let ip = ip_of(&frame);
    let all = ip.payload().start..frame.len();
    edit::overwrite(&mut frame, &ip, ChecksumState::Verified, all, b'X');
    assert_eq!(&frame[ip.payload()], b"XXX");
    assert_eq!(frame[ip.datagram.end..], [9; 5]);
    assert!(checksum::transport_is_right(&frame, &ip));
}

#[test]
fn urgent_data_becomes_plain_data() {
    for build in [frame4 as fn(u8, &[u8]) -> Vec<u8>, frame6] {
        let mut frame = build(proto::TCP, &tcp_header(ACK | TcpFlags::URG, &[], b"abc"));
        seal(&mut frame, 16);
        let ip = ip_of(&frame);
        edit::clear_urgent(&mut frame, &ip, ChecksumState::Unknown);
        let after = tcp_of(&frame);
        assert_eq!((after.flags.0, after.urgent), (ACK, 0));
        assert!(checksum::transport_is_right(&frame, &ip));
    }
    let udp = frame4(proto::UDP, &udp_header(12, b"abcd"));
    let mut same = udp.clone();
    edit::clear_urgent(&mut same, &ip_of(&udp), ChecksumState::Unknown);
    assert_eq!(same, udp);
}

// ---- what came with a frame

#[test]
fn the_virtio_header_says_who_vouches() {
    let with = |flags: u8, gso: u8| Meta {
        vnet: [flags, gso, 0, 0, 0, 0, 0, 0, 0, 0],
    };
    assert_eq!(with(0, 0).checksum(), ChecksumState::Unknown);
    assert_eq!(with(1, 0).checksum(), ChecksumState::Partial);
    assert_eq!(with(2, 0).checksum(), ChecksumState::Verified);
    assert_eq!(
        with(3, 0).checksum(),
        ChecksumState::Partial,
        "the stricter one"
    );
    assert!(with(0, 1).is_super_frame() && !with(1, 0).is_super_frame());
}

#[test]
fn an_owned_frame_keeps_bytes_and_header() {
    let meta = Meta {
        vnet: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10],
    };
    let mut owned = OwnedFrame::copy_of(b"frame", &meta);
    assert_eq!((owned.frame(), owned.meta()), (&b"frame"[..], meta));
    assert_eq!(owned.with_header(), [&meta.vnet[..], b"frame"].concat());
    owned.frame_mut()[0] = b'F';
    assert_eq!(owned.frame(), b"Frame");
}

// ---- any bytes

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
    vec![
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
    for round in 0..200_000 {
        let frame = if round % 4 == 0 {
            let length = rng.below(120);
            rng.bytes(length)
        } else {
            mutated(&mut rng, &seeds)
        };
        if let Ok(packet) = parse(&frame) {
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

// ---- a second opinion

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
