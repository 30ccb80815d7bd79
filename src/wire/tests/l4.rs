//! TCP, UDP, ICMP and others.

use super::*;

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
