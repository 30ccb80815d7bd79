//! What the sender of a rejected packet is told. smoltcp reads the answers.

use smoltcp::wire::{
    Icmpv4Message, Icmpv4Packet, Icmpv6Message, Icmpv6Packet, IpAddress, IpProtocol, Ipv4Packet,
    Ipv6Packet, TcpPacket,
};

use super::super::reject::{answer, may_answer};
use super::*;
use crate::rules::Reject;
use crate::wire::{ETHERTYPE_ARP, OwnedFrame};

const UNTAGGED: &[u8] = b"";
const TAGGED: &[u8] = b"\x81\x00\x60\x07";
const QINQ: &[u8] = b"\x88\xa8\x00\x07\x81\x00\x20\x09";
const PORT_4: Reject = Reject::Icmp(3);
const PORT_6: Reject = Reject::Icmpv6(4);
const ALL: [Reject; 3] = [Reject::TcpReset, PORT_4, PORT_6];

/// NEEDS_CSUM and DATA_VALID of `struct virtio_net_hdr`.
const PARTIAL: Meta = Meta {
    vnet: [1, 0, 0, 0, 0, 0, 34, 0, 16, 0],
};
const VERIFIED: Meta = Meta {
    vnet: [2, 0, 0, 0, 0, 0, 0, 0, 0, 0],
};

/// What an answer says.
#[derive(Debug, PartialEq, Eq)]
enum Told {
    Reset {
        from: SocketAddr,
        to: SocketAddr,
        seq: u32,
        ack: Option<u32>,
    },
    Unreachable {
        from: IpAddr,
        to: IpAddr,
        code: u8,
        quote: Vec<u8>,
    },
}

fn answer_of(frame: &[u8], meta: &Meta, reject: Reject) -> Option<OwnedFrame> {
    let packet = crate::wire::parse(frame).expect("a good frame");
    may_answer(frame, &packet, meta, reject)
        .then(|| answer(frame, &packet, reject).expect("an answer"))
}

fn is_answered(frame: &[u8], reject: Reject) -> bool {
    answer_of(frame, &Meta::default(), reject).is_some()
}

/// Reads an answer, all of whose headers must be as the kernel makes them.
fn read(answer: &[u8]) -> Told {
    let (packet, _) = parsed(answer);
    let at = packet.ether.payload_offset;
    let datagram = &answer[at..];
    if datagram[0] >> 4 == 4 {
        let ip = Ipv4Packet::new_checked(datagram).unwrap();
        assert!(ip.verify_checksum());
        assert_eq!(usize::from(ip.total_len()), datagram.len());
        assert_eq!((ip.header_len(), ip.hop_limit(), ip.ident()), (20, 64, 0));
        assert!(ip.dont_frag() && !ip.more_frags() && ip.dscp() == 0 && ip.ecn() == 0);
        let (from, to) = (ip.src_addr(), ip.dst_addr());
        if ip.next_header() == IpProtocol::Tcp {
            return read_reset(ip.payload(), from.into(), to.into());
        }
        assert_eq!(ip.next_header(), IpProtocol::Icmp);
        let icmp = Icmpv4Packet::new_checked(ip.payload()).unwrap();
        assert!(icmp.verify_checksum());
        assert_eq!(icmp.msg_type(), Icmpv4Message::DstUnreachable);
        assert_eq!(ip.payload()[4..8], [0; 4]);
        Told::Unreachable {
            from: from.into(),
            to: to.into(),
            code: icmp.msg_code(),
            quote: icmp.data().to_vec(),
        }
    } else {
        let ip = Ipv6Packet::new_checked(datagram).unwrap();
        assert_eq!(ip.total_len(), datagram.len());
        assert_eq!(
            (ip.hop_limit(), ip.traffic_class(), ip.flow_label()),
            (64, 0, 0)
        );
        let (from, to) = (ip.src_addr(), ip.dst_addr());
        if ip.next_header() == IpProtocol::Tcp {
            return read_reset(ip.payload(), from.into(), to.into());
        }
        assert_eq!(ip.next_header(), IpProtocol::Icmpv6);
        let icmp = Icmpv6Packet::new_checked(ip.payload()).unwrap();
        assert!(icmp.verify_checksum(&from, &to));
        assert_eq!(icmp.msg_type(), Icmpv6Message::DstUnreachable);
        assert_eq!(ip.payload()[4..8], [0; 4]);
        Told::Unreachable {
            from: from.into(),
            to: to.into(),
            code: icmp.msg_code(),
            quote: icmp.payload().to_vec(),
        }
    }
}

fn read_reset(segment: &[u8], from: IpAddr, to: IpAddr) -> Told {
    let tcp = TcpPacket::new_checked(segment).unwrap();
    assert!(tcp.verify_checksum(&IpAddress::from(from), &IpAddress::from(to)));
    assert!(tcp.rst() && !tcp.syn() && !tcp.fin() && !tcp.psh() && !tcp.urg());
    assert_eq!(
        (tcp.header_len(), segment.len(), tcp.window_len()),
        (20, 20, 0)
    );
    Told::Reset {
        from: SocketAddr::new(from, tcp.src_port()),
        to: SocketAddr::new(to, tcp.dst_port()),
        seq: tcp.seq_number().0.cast_unsigned(),
        ack: tcp.ack().then(|| tcp.ack_number().0.cast_unsigned()),
    }
}

fn tagged(mut frame: Vec<u8>, tags: &[u8]) -> Vec<u8> {
    frame.splice(12..12, tags.iter().copied());
    frame
}

/// MAC addresses swapped, tags and type as they were.
fn assert_link_answers(answer: &[u8], frame: &[u8]) {
    assert_eq!(answer[..6], frame[6..12]);
    assert_eq!(answer[6..12], frame[..6]);
    let (packet, _) = parsed(frame);
    assert_eq!(
        answer[12..packet.ether.payload_offset],
        frame[12..packet.ether.payload_offset]
    );
}

fn ends(hosts: [&str; 2]) -> [SocketAddr; 2] {
    [at(hosts[0], 40_000), at(hosts[1], 7)].map(|end| end.parse().unwrap())
}

fn udp(hosts: [&str; 2], payload_bytes: usize) -> Vec<u8> {
    let [from, to] = ends(hosts);
    testing::udp(from, to, &vec![0x5a; payload_bytes])
}

fn syn(hosts: [&str; 2]) -> Vec<u8> {
    let [from, to] = ends(hosts);
    Tcp::new(from, to, SYN, 77, 0).frame()
}

fn unreachable_of(hosts: [&str; 2], code: u8, quote: &[u8]) -> Told {
    let [to, from] = ends(hosts).map(|end| end.ip());
    let quote = quote.to_vec();
    Told::Unreachable {
        from,
        to,
        code,
        quote,
    }
}

#[test]
fn a_reset_stands_where_rfc_9293_says() {
    const LAST: u32 = u32::MAX;
    for hosts in [V4, V6] {
        let [from, to] = ends(hosts);
        for (flags, payload, seq, ack) in [
            (SYN, &b""[..], 0, Some(0)),
            (SYN, b"early", 0, Some(5)),
            (ACK, b"", 900, None),
            (ACK, b"data", 900, None),
            (SYN | ACK, b"", 900, None),
            (FIN, b"", 900, None),
        ] {
            for tags in [UNTAGGED, TAGGED, QINQ] {
                let mut tcp = Tcp::new(from, to, flags, LAST, 900);
                tcp.payload = payload.to_vec();
                let frame = tagged(tcp.frame(), tags);
                let reset = answer_of(&frame, &Meta::default(), Reject::TcpReset).unwrap();
                assert_link_answers(reset.frame(), &frame);
                let expected = Told::Reset {
                    from: to,
                    to: from,
                    seq,
                    ack,
                };
                assert_eq!(read(reset.frame()), expected, "{flags} {payload:?}");
                assert_eq!(reset.meta(), Meta::default(), "its checksum is whole");
            }
        }
    }
}

#[test]
fn a_reset_answers_tcp_only_and_no_reset() {
    for hosts in [V4, V6] {
        let [from, to] = ends(hosts);
        for flags in [RST, RST | ACK] {
            let frame = Tcp::new(from, to, flags, 1, 1).frame();
            assert!(!is_answered(&frame, Reject::TcpReset));
        }
        assert!(!is_answered(&udp(hosts, 10), Reject::TcpReset));
    }
    let mut arp = udp(V4, 30);
    arp[12..14].copy_from_slice(&ETHERTYPE_ARP.to_be_bytes());
    for reject in ALL {
        assert!(!is_answered(&arp, reject));
    }
}

#[test]
fn an_error_quotes_as_much_as_fits() {
    for (hosts, reject, most, headers) in [(V4, PORT_4, 576, 20 + 8), (V6, PORT_6, 1280, 40 + 8)] {
        let code = if hosts == V4 { 3 } else { 4 };
        for payload_bytes in [0, 1, 11, 400, most - 2 * headers, 1231, 1400, 9000] {
            for tags in [UNTAGGED, TAGGED, QINQ] {
                let mut frame = tagged(udp(hosts, payload_bytes), tags);
                let quote = frame[14 + tags.len()..].to_vec();
                let quote = &quote[..quote.len().min(most - headers)];
                // Padding of a short frame is no part of the datagram.
                frame.resize(frame.len().max(60), 0xee);
                let error = answer_of(&frame, &Meta::default(), reject).unwrap();
                assert_link_answers(error.frame(), &frame);
                let told = read(error.frame());
                assert_eq!(told, unreachable_of(hosts, code, quote), "{payload_bytes}");
                assert!(error.frame().len() <= 14 + tags.len() + most);
            }
        }
        let longest = answer_of(&udp(hosts, 1400), &Meta::default(), reject).unwrap();
        assert_eq!(longest.frame().len(), 14 + most);
    }
}

#[test]
fn an_error_is_of_the_packets_family() {
    assert!(is_answered(&udp(V4, 4), PORT_4) && is_answered(&udp(V6, 4), PORT_6));
    assert!(!is_answered(&udp(V6, 4), PORT_4) && !is_answered(&udp(V4, 4), PORT_6));
    // TCP, resets too, and protocols without ports.
    for flags in [SYN, ACK, RST] {
        let [from, to] = ends(V4);
        assert!(is_answered(
            &Tcp::new(from, to, flags, 1, 1).frame(),
            PORT_4
        ));
    }
    let [from, to] = ends(V6).map(|end| end.ip());
    for protocol in [47, 50, 132] {
        let frame = testing::ip_frame(from, to, protocol, &[0; 24]);
        assert!(is_answered(&frame, PORT_6), "{protocol}");
    }
}

#[test]
fn errors_are_answered_by_no_error() {
    let echo = |hosts: [&str; 2], kind| {
        let [from, to] = ends(hosts).map(|end| end.ip());
        testing::icmp(from, to, kind, 0, 7, &[0; 40])
    };
    for kind in 0..=255 {
        let v4 = matches!(kind, 0 | 8 | 13..=18);
        assert_eq!(is_answered(&echo(V4, kind), PORT_4), v4, "ICMP {kind}");
        let v6 = kind >= 128 && kind != 137;
        assert_eq!(is_answered(&echo(V6, kind), PORT_6), v6, "ICMPv6 {kind}");
    }
    let request = echo(V4, 8);
    let prohibited = answer_of(&request, &Meta::default(), Reject::Icmp(13)).unwrap();
    let expected = unreachable_of(V4, 13, &request[14..]);
    assert_eq!(read(prohibited.frame()), expected);
}

#[test]
fn groups_and_nobody_are_not_answered() {
    for (hosts, reject) in [(V4, PORT_4), (V6, PORT_6)] {
        for how in [reject, Reject::TcpReset] {
            let frame = syn(hosts);
            assert!(is_answered(&frame, how));
            for mac in [0, 6] {
                let mut to_group = frame.clone();
                to_group[mac] |= 1;
                assert!(!is_answered(&to_group, how), "MAC address at {mac}");
            }
        }
    }
    for group in [
        "255.255.255.255",
        "224.0.0.1",
        "0.0.0.0",
        "240.0.0.1",
        "127.0.0.1",
    ] {
        for hosts in [[V4[0], group], [group, V4[1]]] {
            for frame in [udp(hosts, 4), syn(hosts)] {
                assert!(
                    ALL.iter().all(|how| !is_answered(&frame, *how)),
                    "{hosts:?}"
                );
            }
        }
    }
    for group in ["ff02::1", "::", "::1"] {
        for hosts in [[V6[0], group], [group, V6[1]]] {
            for frame in [udp(hosts, 4), syn(hosts)] {
                assert!(
                    ALL.iter().all(|how| !is_answered(&frame, *how)),
                    "{hosts:?}"
                );
            }
        }
    }
}

#[test]
fn what_is_wrong_is_not_answered_and_what_was_never_made_is_not_wrong() {
    for (hosts, reject) in [(V4, PORT_4), (V6, PORT_6)] {
        let [from, to] = ends(hosts);
        let segment = Tcp::new(from, to, 0, 1, 1).data(b"abc").frame();
        for (mut frame, how) in [
            (segment.clone(), Reject::TcpReset),
            (segment, reject),
            (udp(hosts, 9), reject),
        ] {
            *frame.last_mut().unwrap() ^= 1;
            assert!(!is_answered(&frame, how));
            for meta in [PARTIAL, VERIFIED] {
                let made = answer_of(&frame, &meta, how).expect("an answer");
                read(made.frame());
                assert_eq!(made.meta(), Meta::default(), "its checksum is whole");
            }
        }
    }
    // UDP over IPv4 may go without.
    let mut without = udp(V4, 9);
    without[40..42].fill(0);
    assert!(is_answered(&without, PORT_4));
}

/// Also where the kernel vouches for checksums: a fragment's own would hardly ever be right.
#[test]
fn a_fragment_alone_is_not_answered() {
    let v4 = fragments(&udp(V4, 400), 80);
    let v6 = fragments_v6(&udp(V6, 400), &[80]);
    for fragment in v4.iter().chain(&v6) {
        for how in ALL {
            for meta in [Meta::default(), VERIFIED, PARTIAL] {
                assert_eq!(answer_of(fragment, &meta, how), None);
            }
        }
    }
}

/// Frames with bytes changed and cut: no panic, and what is made is right and bounded.
#[test]
fn hostile_frames_get_right_answers_or_none() {
    let [from, to] = ends(V6).map(|end| end.ip());
    let mut options = syn(V4);
    options[14] = 0x46;
    options.splice(34..34, [1, 1, 1, 0]);
    let frames = [
        syn(V4),
        tagged(syn(V6), QINQ),
        udp(V4, 700),
        tagged(udp(V6, 1300), TAGGED),
        testing::icmp(from, to, 128, 0, 7, b"ping"),
        options,
    ];
    let mut random = 1u64;
    let mut next = |below: usize| {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) as usize % below
    };
    let mut made = 0;
    for round in 0..40_000 {
        let mut frame = frames[round % frames.len()].clone();
        for _ in 0..next(4) {
            let at = next(frame.len().min(80));
            frame[at] = next(256) as u8;
        }
        if next(4) == 0 {
            frame.truncate(next(frame.len()));
        }
        let Ok(packet) = crate::wire::parse(&frame) else {
            continue;
        };
        for how in ALL {
            for meta in [Meta::default(), VERIFIED] {
                // Also where none is due.
                let forced = answer(&frame, &packet, how);
                if may_answer(&frame, &packet, &meta, how) {
                    let own = forced.expect("an answer");
                    read(own.frame());
                    assert!(own.frame().len() <= packet.ether.payload_offset + 1280);
                    made += 1;
                }
            }
        }
    }
    assert!(made > 10_000, "{made}");
}

// ---- through the engine

/// TCP is rejected with a reset, the rest with an error.
const REJECT: &str = "meta l4proto tcp reject with tcp reset\nreject";

/// The rules of the lab, and all that they do not accept is rejected.
fn reject_the_rest() -> Ruleset {
    let end = "icmp type echo-request accept\n";
    parse(&RULES.replace(end, &format!("{end}{REJECT}\n")))
}

/// Everything is rejected.
fn rejected() -> Ruleset {
    parse(&format!(
        "table bridge t {{ chain c {{ type filter hook forward priority 0; policy drop;\n{REJECT}\n}} }}"
    ))
}

fn put_into_force(lab: &Lab, rules: Ruleset) {
    lab.shared.replace_rules(rules).unwrap();
}

fn lab() -> Lab {
    let lab = Lab::new();
    put_into_force(&lab, reject_the_rest());
    lab
}

const REJECTED: Verdict = Verdict::Drop(DropReason::RuleReject);

#[test]
fn a_rejected_packet_is_dropped_and_answered_where_it_came_from() {
    for side in Side::BOTH {
        for hosts in [V4, V6] {
            let mut lab = lab();
            let [from, to] = ends(hosts);
            let frame = tagged(syn(hosts), QINQ);
            let passed = lab.pass(side, frame.clone());
            assert_eq!(passed.verdict, REJECTED);
            let [(at, reset)] = &passed.made[..] else {
                panic!("one answer: {passed:?}");
            };
            assert_eq!(*at, side);
            let expected = Told::Reset {
                from: to,
                to: from,
                seq: 0,
                ack: Some(78),
            };
            assert_eq!(read(reset), expected);
            // Each counter that moved.
            let mut expected = Snapshot::of([]);
            let bytes = frame.len() as u64;
            expected.received[side.index()].frames = 1;
            expected.received[side.index()].bytes = bytes;
            let dropped = &mut expected.dropped[DropReason::RuleReject.index()];
            (dropped.frames, dropped.bytes) = (1, bytes);
            assert_eq!(lab.counts(), expected);
            assert_eq!(lab.shared.totals().flows, 0);

            let question = udp(hosts, 20);
            let passed = lab.pass(side, question.clone());
            assert_eq!(passed.verdict, REJECTED);
            let code = if hosts == V4 { 3 } else { 4 };
            let [(at, error)] = &passed.made[..] else {
                panic!("one answer: {passed:?}");
            };
            assert_eq!(*at, side);
            assert_eq!(read(error), unreachable_of(hosts, code, &question[14..]));
        }
    }
}

#[test]
fn every_way_to_the_rules_leads_to_an_answer() {
    let mut lab = lab();
    let [from, to] = ends(V6);
    // Untracked: a router solicitation.
    let solicit = testing::icmp(from.ip(), to.ip(), 133, 0, 0, &[]);
    let passed = lab.pass(Side::Inside, solicit);
    assert_eq!((passed.verdict, passed.made.len()), (REJECTED, 1));
    // No flow's: the reason is what connection tracking found.
    put_into_force(&lab, rejected());
    let passed = lab.pass(Side::Inside, Tcp::new(from, to, ACK, 5, 900).frame());
    assert_eq!(passed.verdict, Verdict::Drop(DropReason::TcpNotSyn));
    let expected = Told::Reset {
        from: to,
        to: from,
        seq: 900,
        ack: None,
    };
    assert_eq!(read(&passed.made[0].1), expected);
    // An error, about nothing or about a flow: none.
    put_into_force(&lab, parse(RULES));
    let question = testing::udp(from, at(V6[1], 53).parse().unwrap(), b"where is it?");
    assert!(lab.pass(Side::Inside, question.clone()).is_forward());
    put_into_force(&lab, rejected());
    let quotes = [
        (question, DropReason::RuleReject),
        (udp(V6, 20), DropReason::IcmpUnrelated),
    ];
    for (quoted, reason) in quotes {
        let error = testing::icmp(to.ip(), from.ip(), 1, 4, 0, &quoted[14..]);
        let passed = lab.pass(Side::Outside, error);
        assert_eq!(passed.verdict, Verdict::Drop(reason));
        assert_eq!(passed.made.len(), 0);
    }
    // Not IP: nobody can be told.
    let mut strange = udp(V4, 30);
    strange[12..14].copy_from_slice(&[0x12, 0x34]);
    let passed = lab.pass(Side::Inside, strange);
    assert_eq!((passed.verdict, passed.made.len()), (REJECTED, 0));
}

#[test]
fn a_datagram_in_fragments_is_answered_once_and_quoted_whole() {
    let mut lab = lab();
    let whole = udp(V4, 400);
    let fragments = fragments(&whole, 80);
    let (last, others) = fragments.split_last().unwrap();
    for fragment in others {
        let passed = lab.pass(Side::Inside, fragment.clone());
        assert_eq!((passed.verdict, passed.made.len()), (Verdict::Held, 0));
    }
    let passed = lab.pass(Side::Inside, last.clone());
    assert_eq!(passed.verdict, REJECTED);
    let [(Side::Inside, error)] = &passed.made[..] else {
        panic!("one answer: {passed:?}");
    };
    let Told::Unreachable { code, quote, .. } = read(error) else {
        panic!("an error");
    };
    assert_eq!(code, 3);
    assert_eq!(quote[20..], whole[34..], "what the fragments carried");
    let all = fragments.len() as u64;
    assert_eq!(lab.dropped(DropReason::RuleReject), all);
    assert_eq!(lab.counts().held.frames, 0);
}

#[test]
fn a_control_connection_survives_a_rejected_segment() {
    let mut lab = Lab::new();
    let mut wire = control(V4, Side::Outside);
    assert!(wire.begin(&mut lab).is_forward());
    *wire.next(Client) += 1;
    let syn_ack = wire.segment(Server, SYN | ACK, b"").frame();
    assert!(lab.pass(Side::Inside, syn_ack).is_forward());
    *wire.next(Server) = wire.next(Server).wrapping_add(1);
    put_into_force(&lab, rejected());
    let passed = lab.pass(Side::Outside, wire.segment(Client, ACK, b"").frame());
    assert_eq!(passed.verdict, REJECTED);
    let [(Side::Outside, reset)] = &passed.made[..] else {
        panic!("one answer: {passed:?}");
    };
    let expected = Told::Reset {
        from: wire.server,
        to: wire.client,
        seq: *wire.next(Server),
        ack: None,
    };
    assert_eq!(read(reset), expected);
    // It was not kept in the flow.
    put_into_force(&lab, parse(RULES));
    wire.dialogue(
        &mut lab,
        &[
            (Server, "220 ready"),
            (Client, "USER joe"),
            (Server, "230 welcome"),
            (Client, "PASV"),
            (Server, "227 ok (192,0,2,20,195,80)"),
        ],
    );
    assert_eq!(lab.shared.totals().expectations, 1);
}

#[test]
fn answers_are_bounded_and_the_rest_is_counted() {
    let mut lab = Lab::set(&[("reject.rate", "10"), ("reject.burst", "3")]);
    put_into_force(&lab, reject_the_rest());
    let answered = |lab: &mut Lab, frames: usize| -> usize {
        let pass = |_| {
            let passed = lab.pass(Side::Outside, syn(V4));
            assert_eq!(passed.verdict, REJECTED);
            passed.made.len()
        };
        (0..frames).map(pass).sum()
    };
    assert_eq!(answered(&mut lab, 10), 3);
    assert_eq!(lab.counts().answers_suppressed, 7);
    lab.now = lab.now + Duration::from_millis(100);
    assert_eq!(answered(&mut lab, 5), 1);
    lab.later(60);
    assert_eq!(answered(&mut lab, 5), 3);
    assert_eq!(lab.counts().answers_suppressed, 13);
    // What gets no answer anyway takes none away.
    lab.later(60);
    let [from, to] = ends(V4);
    for _ in 0..10 {
        lab.pass(Side::Outside, Tcp::new(from, to, RST, 1, 1).frame());
    }
    assert_eq!(answered(&mut lab, 3), 3);
    assert_eq!(lab.counts().answers_suppressed, 13);
    assert_eq!(lab.dropped(DropReason::RuleReject), 23);
}
