//! Packets that ICMP errors quote.

use super::*;

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
