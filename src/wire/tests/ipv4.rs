//! IPv4 headers, and what ends with them.

use super::*;

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
    for (at, value, reason, what) in [
        (14, 0x55, Reason::IpHeaderBad, "version 5"),
        (14, 0x44, Reason::IpHeaderBad, "16 bytes of header"),
        (17, 19, Reason::IpHeaderBad, "total below the header"),
        (17, 0, Reason::IpLengthZero, "no total"),
        (16, 1, Reason::FrameTruncated, "total beyond the frame"),
        (17, 39, Reason::TcpHeaderBad, "19 bytes of TCP"),
        (14, 0x4f, Reason::IpHeaderBad, "options beyond the total"),
    ] {
        let mut frame = good_tcp4();
        frame[at] = value;
        assert_eq!(refused(&frame), reason, "{what}");
    }
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
