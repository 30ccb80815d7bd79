//! Connection tracking as a whole: floods, errors, fragments, pick-up, protocols without ports.

use super::*;
use crate::rules::Builtin;
use crate::wire::proto;

const DNS: &str = "198.51.100.1:53";
const HOST: &str = "192.0.2.10:5353";

fn socket(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn policy_drop() -> Verdict {
    Verdict::Drop(DropReason::PolicyDrop)
}

fn lab_with(settings: &[(&str, &str)]) -> Lab {
    let mut made = Settings::default();
    for (name, value) in settings {
        made.set(name, value).unwrap();
    }
    Lab::with(made)
}

/// A lab with other rules.
fn lab_of(rules: &str) -> Lab {
    let mut lab = Lab::new();
    let names = PortNames {
        inside: "in".into(),
        outside: "out".into(),
    };
    let rules = Ruleset::parse("test.nft", rules, &names).expect("good rules");
    lab.shared = Shared::new(rules, Settings::default());
    lab.engine = Engine::new(Arc::clone(&lab.shared), Arc::clone(&lab.counters));
    lab
}

/// The table keeps each flow in a box with its key, of 46 bytes: together at most 184, which mimalloc
/// takes 192 for; of 192 it would make 224.
#[test]
fn a_flow_is_small() {
    use crate::conntrack::{Flow, Tcp};
    assert_eq!(
        [size_of::<Kept>(), size_of::<Tcp>(), size_of::<Flow<Kept>>()],
        [6, 72, 136]
    );
}

// ---- a table that is full

/// A SYN from an address that nobody has.
fn spoofed(random: &mut u64) -> Vec<u8> {
    *random = random
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1);
    let from = SocketAddr::new(
        std::net::Ipv4Addr::from_bits((*random >> 32) as u32).into(),
        (*random >> 16) as u16 | 1024,
    );
    testing::Tcp::new(from, socket("192.0.2.20:21"), SYN, *random as u32, 0).frame()
}

#[test]
fn a_flood_of_spoofed_syns_shuts_nobody_out() {
    let mut lab = lab_with(&[
        ("conntrack.max", "2000"),
        ("conntrack.source_halfopen", "20"),
    ]);
    let mut random = 1;
    let mut flood = |lab: &mut Lab, syns: usize| {
        for _ in 0..syns {
            let frame = spoofed(&mut random);
            let verdict = lab.pass(Side::Outside, frame).verdict;
            // A few meet counters that others have filled.
            let reason = Verdict::Drop(DropReason::SourceHalfOpen);
            assert!(verdict == Verdict::Forward || verdict == reason);
            assert!(lab.shared.totals().flows <= 2000);
        }
    };
    let mut old: Vec<_> = (0..100)
        .map(|n| {
            let client = format!("203.0.113.{n}:30000");
            let mut wire = Wire::new(&client, "192.0.2.20:21", Side::Outside);
            assert!(wire.connect(&mut lab));
            wire
        })
        .collect();
    flood(&mut lab, 10_000);
    assert_eq!(lab.shared.totals().flows, 2000);
    // Honest clients still get in, though 500 SYNs come between any two segments of theirs.
    for n in 0..100 {
        let client = format!("198.51.100.{n}:40000");
        let mut wire = Wire::new(&client, "192.0.2.20:21", Side::Outside);
        let mut syn = wire.segment(Client, SYN, b"");
        syn.ack = 0;
        assert!(lab.pass(Side::Outside, syn.frame()).is_forward());
        *wire.next(Client) += 1;
        flood(&mut lab, 500);
        let answer = wire.segment(Server, SYN | ACK, b"");
        assert!(lab.pass(Side::Inside, answer.frame()).is_forward());
        *wire.next(Server) = wire.next(Server).wrapping_add(1);
        flood(&mut lab, 500);
        let last = wire.segment(Client, ACK, b"").frame();
        assert!(lab.pass(Side::Outside, last).is_forward());
        old.push(wire);
    }
    // Everybody who was there still is.
    for wire in &mut old {
        assert!(wire.say(&mut lab, Server, b"220 ready\r\n").is_forward());
        assert!(wire.say(&mut lab, Client, b"USER joe\r\n").is_forward());
    }
    assert_eq!(lab.shared.totals().flows, 2000);
    assert_eq!(lab.dropped(DropReason::TableFull), 0);
    // Most of the flood passed: the cap is for those who flood from one address.
    assert!(lab.dropped(DropReason::SourceHalfOpen) < 1000);
    // When it is over, what it left goes by itself.
    lab.later(121);
    lab.tick();
    assert_eq!(lab.shared.totals().flows, 200);
}

#[test]
fn a_flood_from_one_address_does_not_push_out_others() {
    let mut lab = lab_with(&[
        ("conntrack.max", "1000"),
        ("conntrack.source_halfopen", "50"),
    ]);
    // An honest client that waits for its answer.
    let mut wire = Wire::new("198.51.100.7:40000", "192.0.2.20:21", Side::Outside);
    let mut syn = wire.segment(Client, SYN, b"");
    syn.ack = 0;
    assert!(lab.pass(Side::Outside, syn.frame()).is_forward());
    *wire.next(Client) += 1;
    for port in 1024..11_024 {
        let from = SocketAddr::new([203, 0, 113, 66].into(), port);
        let frame = testing::Tcp::new(from, socket("192.0.2.20:21"), SYN, 7, 0).frame();
        lab.pass(Side::Outside, frame);
    }
    assert_eq!(lab.shared.totals().flows, 801, "80 % and the first above");
    assert_eq!(lab.dropped(DropReason::SourceHalfOpen), 10_000 - 800);
    let answer = wire.segment(Server, SYN | ACK, b"");
    assert!(lab.pass(Side::Inside, answer.frame()).is_forward());
    assert!(connects(
        &mut lab,
        "198.51.100.8:40000",
        "192.0.2.20:21",
        Side::Outside
    ));
}

#[test]
fn only_a_table_full_of_connections_refuses_a_new_one() {
    let mut lab = lab_with(&[("conntrack.max", "3")]);
    let connect =
        |lab: &mut Lab, port: u16| connects(lab, &at(V4[0], port), &at(V4[1], 21), Side::Outside);
    assert!((1..=3).all(|port| connect(&mut lab, 1000 + port)));
    assert!(!connect(&mut lab, 2000));
    assert_eq!(lab.dropped(DropReason::TableFull), 1);
}

// ---- protocols without ports

/// CVE-2014-8160: a rule about a port must not let another protocol through, nor may a flow of one
/// protocol make another one's packets established.
#[test]
fn sctp_gre_dccp_and_udp_lite_never_match_a_rule_about_tcp_or_udp() {
    let builtin = Builtin {
        ftp_servers: vec!["192.0.2.20".parse().unwrap()],
        ..Builtin::default()
    };
    let text = format!(
        "define inside = \"in\"\ndefine outside = \"out\"\n{}",
        builtin.text()
    );
    let (client, server) = (socket("198.51.100.7:40000"), socket("192.0.2.20:21"));
    let mut lab = lab_of(&text);
    assert!(connects(
        &mut lab,
        &client.to_string(),
        &server.to_string(),
        Side::Outside
    ));
    // Bytes that are a good TCP (or UDP) header for port 21 in every one of them.
    let tcp = testing::Tcp::new(client, server, SYN, 1, 0).frame()[34..].to_vec();
    for protocol in [33, 47, 132, 136, 0xfc] {
        let frame = testing::ip_frame(client.ip(), server.ip(), protocol, &tcp);
        let verdict = lab.pass(Side::Outside, frame).verdict;
        assert_eq!(verdict, policy_drop(), "protocol {protocol}");
    }
    // From inside anything may go out, and its answers come back, but no one else's.
    let out = testing::ip_frame(server.ip(), client.ip(), 132, &tcp);
    assert!(lab.pass(Side::Inside, out).is_forward());
    let back = testing::ip_frame(client.ip(), server.ip(), 132, &tcp);
    assert!(lab.pass(Side::Outside, back).is_forward());
    for protocol in [33, 47, 136] {
        let frame = testing::ip_frame(client.ip(), server.ip(), protocol, &tcp);
        assert_eq!(lab.pass(Side::Outside, frame).verdict, policy_drop());
    }
}

#[test]
fn an_s_tag_is_another_network_than_a_c_tag_with_the_same_id() {
    let mut lab = Lab::new();
    let (host, resolver) = (socket(HOST), socket(DNS));
    let tagged = |mut frame: Vec<u8>, tpid: u16| {
        frame.splice(12..12, [&tpid.to_be_bytes()[..], &[0, 5]].concat());
        frame
    };
    let question = testing::udp(host, resolver, b"who?");
    let answer = testing::udp(resolver, host, b"me");
    assert!(
        lab.pass(Side::Inside, tagged(question.clone(), 0x8100))
            .is_forward()
    );
    let other = lab.pass(Side::Outside, tagged(answer.clone(), 0x88a8));
    assert_eq!(other.verdict, policy_drop());
    assert!(lab.pass(Side::Outside, tagged(answer, 0x8100)).is_forward());
}

// ---- ICMP errors

const ROUTER: &str = "203.0.113.1";

/// A connection with 100 bytes in flight from client (outside) to server.
fn in_flight(lab: &mut Lab, hosts: [&str; 2]) -> (Wire, Vec<u8>) {
    let mut wire = Wire::new(&at(hosts[0], 40_000), &at(hosts[1], 21), Side::Outside);
    assert!(wire.connect(lab));
    assert!(wire.say(lab, Server, b"220 ready\r\n").is_forward());
    let seen = wire.segment(Client, ACK, b"").frame();
    assert!(lab.pass(Side::Outside, seen).is_forward());
    let question = wire.segment(Client, 0, &[b'a'; 100]).frame();
    assert!(lab.pass(Side::Outside, question.clone()).is_forward());
    (wire, question)
}

fn error_v4(wire: &Wire, kind: u8, code: u8, quote: &[u8]) -> Vec<u8> {
    let router: IpAddr = ROUTER.parse().unwrap();
    testing::icmp(router, wire.client.ip(), kind, code, 0, quote)
}

#[test]
fn rfc5927_a_quoted_sequence_number_must_be_in_flight() {
    let mut lab = Lab::new();
    let (wire, question) = in_flight(&mut lab, V4);
    let unrelated = Verdict::Drop(DropReason::IcmpUnrelated);
    // "Fragmentation needed", "host unreachable", "time exceeded", "source quench"...
    for (kind, code) in [(3, 4), (3, 1), (11, 0), (12, 0)] {
        // The header and 8 bytes (RFC 792), and all of it (RFC 1812).
        for quoted in [28, question.len() - 14] {
            let quote = &question[14..14 + quoted];
            let error = error_v4(&wire, kind, code, quote);
            assert!(lab.pass(Side::Inside, error).is_forward(), "{kind}/{code}");
            // It does not come from where it says that the packet went.
            let error = error_v4(&wire, kind, code, quote);
            assert_eq!(lab.pass(Side::Outside, error).verdict, unrelated);
        }
    }
    let with_seq = |seq: u32| {
        let mut quote = question[14..].to_vec();
        quote[24..28].copy_from_slice(&seq.to_be_bytes());
        error_v4(&wire, 3, 4, &quote)
    };
    let first = 1001u32;
    for (seq, passes) in [
        (first, true),
        (first + 100, true),
        (first + 101, false),
        (first - 2, false),
        (first.wrapping_sub(100_000), false),
        (first.wrapping_add(1 << 31), false),
    ] {
        let verdict = lab.pass(Side::Inside, with_seq(seq)).verdict;
        assert_eq!(verdict == Verdict::Forward, passes, "{seq}");
    }
}

#[test]
fn an_icmp_error_quotes_enough_and_speaks_to_who_sent_it() {
    let mut lab = Lab::new();
    let (wire, question) = in_flight(&mut lab, V4);
    let unrelated = Verdict::Drop(DropReason::IcmpUnrelated);
    for quoted in [0, 1, 19, 20, 27] {
        let error = error_v4(&wire, 3, 1, &question[14..14 + quoted]);
        assert_eq!(lab.pass(Side::Inside, error).verdict, unrelated, "{quoted}");
    }
    // A fragment that is not the first has no ports: it is not judged.
    let mut later = question[14..].to_vec();
    later[6..8].copy_from_slice(&[0x20, 0x05]);
    assert_eq!(
        lab.pass(Side::Inside, error_v4(&wire, 11, 1, &later))
            .verdict,
        unrelated
    );
    // The first fragment of it has them.
    let mut first = question[14..].to_vec();
    first[6..8].copy_from_slice(&[0x20, 0x00]);
    assert!(
        lab.pass(Side::Inside, error_v4(&wire, 11, 1, &first))
            .is_forward()
    );
    // To the server about what the client sent: the wrong one.
    let router: IpAddr = ROUTER.parse().unwrap();
    let error = testing::icmp(router, wire.server.ip(), 3, 1, 0, &question[14..]);
    assert_eq!(lab.pass(Side::Outside, error).verdict, unrelated);
    // About what the server sent, from outside, to the server.
    let mut server = wire.clone();
    *server.next(Server) = server.next(Server).wrapping_sub(11);
    let banner = server.segment(Server, 0, b"220 ready\r\n").frame();
    let error = testing::icmp(router, wire.server.ip(), 3, 4, 0, &banner[14..]);
    let late = lab.pass(Side::Outside, error).verdict;
    assert_eq!(late, unrelated, "all of it was acknowledged");
    let mut more = wire.clone();
    assert!(
        more.say(&mut lab, Server, b"331 password?\r\n")
            .is_forward()
    );
    let said = wire.segment(Server, 0, b"331 password?\r\n").frame();
    let error = testing::icmp(router, wire.server.ip(), 3, 4, 0, &said[14..]);
    assert!(lab.pass(Side::Outside, error).is_forward());
}

#[test]
fn icmp_errors_about_udp_pings_and_other_protocols() {
    let mut lab = lab_of(
        r#"
table bridge test {
  chain forward {
    type filter hook forward priority 0; policy drop;
    ct state invalid drop
    ct state established,related accept
    iifname "in" accept
  }
}
"#,
    );
    let (host, far) = (socket(HOST), socket(DNS));
    let ping = testing::icmp(host.ip(), far.ip(), 8, 0, 77, b"ping");
    let gre = testing::ip_frame(host.ip(), far.ip(), 47, &[0; 20]);
    let router: IpAddr = ROUTER.parse().unwrap();
    for frame in [testing::udp(host, far, b"who?"), ping.clone(), gre] {
        let error = testing::icmp(router, host.ip(), 11, 0, 0, &frame[14..42]);
        let early = lab.pass(Side::Outside, error.clone()).verdict;
        assert_eq!(early, Verdict::Drop(DropReason::IcmpUnrelated));
        assert!(lab.pass(Side::Inside, frame).is_forward());
        assert!(lab.pass(Side::Outside, error).is_forward());
    }
    // An error about an error is about nothing (RFC 1122 section 3.2.2).
    let error = testing::icmp(router, host.ip(), 11, 0, 0, &ping[14..]);
    let twice = testing::icmp(router, host.ip(), 3, 1, 0, &error[14..]);
    assert_eq!(
        lab.pass(Side::Outside, twice).verdict,
        Verdict::Drop(DropReason::IcmpUnrelated)
    );
    // An error does not keep a flow alive.
    lab.later(31);
    let error = testing::icmp(router, host.ip(), 11, 0, 0, &ping[14..]);
    assert_eq!(
        lab.pass(Side::Outside, error).verdict,
        Verdict::Drop(DropReason::IcmpUnrelated)
    );
}

#[test]
fn icmpv6_packet_too_big_passes_with_extension_headers_in_the_quote() {
    let mut lab = Lab::new();
    let (wire, question) = in_flight(&mut lab, V6);
    let router: IpAddr = "2001:db8:ffff::1".parse().unwrap();
    let error = |quote: &[u8]| testing::icmp(router, wire.client.ip(), 2, 0, 0, quote);
    let quote = question[14..].to_vec();
    assert!(lab.pass(Side::Inside, error(&quote)).is_forward());
    // Destination options in front of TCP.
    let mut with_options = quote.clone();
    with_options[6] = 60;
    with_options.splice(40..40, [proto::TCP, 0, 1, 4, 0, 0, 0, 0]);
    assert!(lab.pass(Side::Inside, error(&with_options)).is_forward());
    // The same with a fragment header: the first fragment, and one behind it.
    for (offset, passes) in [(0u16, true), (1480, false)] {
        let mut fragment = quote.clone();
        fragment[6] = 44;
        let bits = (offset | 1).to_be_bytes();
        fragment.splice(40..40, [proto::TCP, 0, bits[0], bits[1], 0, 0, 0, 9]);
        let verdict = lab.pass(Side::Inside, error(&fragment)).verdict;
        assert_eq!(verdict == Verdict::Forward, passes, "{offset}");
    }
    // Cut in the options, or in the ports.
    for quoted in [40, 44, 48, 52, 55] {
        let verdict = lab
            .pass(Side::Inside, error(&with_options[..quoted]))
            .verdict;
        assert_eq!(
            verdict,
            Verdict::Drop(DropReason::IcmpUnrelated),
            "{quoted}"
        );
    }
    let mut other_port = quote;
    other_port[41] ^= 1;
    assert_eq!(
        lab.pass(Side::Inside, error(&other_port)).verdict,
        Verdict::Drop(DropReason::IcmpUnrelated)
    );
}

// ---- fragments

/// The fragments of an IPv6 frame; the bits of each are its offset and whether more follow.
pub(super) fn fragments_v6(frame: &[u8], cuts: &[usize]) -> Vec<Vec<u8>> {
    let (head, data) = frame.split_at(54);
    let ends = cuts.iter().copied().chain([data.len()]);
    let mut start = 0;
    ends.map(|end| {
        let mut piece = head.to_vec();
        let bits = start as u16 | u16::from(end != data.len());
        piece[18..20].copy_from_slice(&(8 + (end - start) as u16).to_be_bytes());
        let next = std::mem::replace(&mut piece[20], 44);
        piece.extend([next, 0]);
        piece.extend(bits.to_be_bytes());
        piece.extend([0, 0, 0, 9]);
        piece.extend(&data[start..end]);
        start = end;
        piece
    })
    .collect()
}

fn question_v6(bytes: usize) -> Vec<u8> {
    let (host, far) = (socket("[2001:db8::10]:5353"), socket("[2001:db8:9::1]:53"));
    testing::udp(host, far, &vec![7; bytes])
}

#[test]
fn rfc5722_any_overlap_drops_the_datagram_in_both_families() {
    let v4 = testing::udp(socket(HOST), socket(DNS), &[7; 200]);
    let pieces_v4 = |size| fragments(&v4, size);
    let v6 = question_v6(200);
    // Each case: a fragment, then one that overlaps it.
    let cases = [
        (pieces_v4(80)[0].clone(), pieces_v4(40)[1].clone()),
        (pieces_v4(80)[1].clone(), pieces_v4(40)[3].clone()),
        (
            fragments_v6(&v6, &[80])[0].clone(),
            fragments_v6(&v6, &[40, 120])[1].clone(),
        ),
        (
            fragments_v6(&v6, &[40, 120])[1].clone(),
            fragments_v6(&v6, &[80])[1].clone(),
        ),
    ];
    for (at, (first, second)) in cases.into_iter().enumerate() {
        let mut lab = Lab::new();
        let held = lab.pass(Side::Inside, first.clone()).verdict;
        assert_eq!(held, Verdict::Held, "case {at}");
        let overlap = Verdict::Drop(DropReason::FragmentOverlap);
        assert_eq!(lab.pass(Side::Inside, second).verdict, overlap, "case {at}");
        // And all that still comes of it.
        assert_eq!(lab.pass(Side::Inside, first).verdict, overlap);
        assert_eq!(lab.counts().held.frames, 0);
    }
}

#[test]
fn rfc1858_and_rfc3128_tiny_fragments() {
    let syn = testing::Tcp::new(socket("192.0.2.10:999"), socket("192.0.2.20:21"), SYN, 1, 0)
        .data(&[1; 100])
        .frame();
    let tiny = Verdict::Drop(DropReason::FragmentTiny);
    let mut lab = Lab::new();
    // The flags in the second fragment (RFC 1858 section 3).
    let pieces = fragments(&syn, 8);
    assert_eq!(lab.pass(Side::Inside, pieces[0].clone()).verdict, tiny);
    assert_eq!(lab.pass(Side::Inside, pieces[1].clone()).verdict, tiny);
    // Ports in one fragment and flags in another inside it, with a good one before: both are gone
    // (RFC 3128 section 2).
    let good = fragments(&syn, 24);
    assert_eq!(
        lab.pass(Side::Inside, good[0].clone()).verdict,
        Verdict::Held
    );
    let overlap = Verdict::Drop(DropReason::FragmentOverlap);
    assert_eq!(lab.pass(Side::Inside, pieces[2].clone()).verdict, overlap);
    assert_eq!(lab.pass(Side::Inside, good[1].clone()).verdict, overlap);
    assert_eq!(lab.counts().held.frames, 0);
    assert!(lab.counts().forwarded_total().frames == 0);
}

#[test]
fn rfc8200_the_first_fragment_has_all_headers() {
    let question = question_v6(200);
    // Destination options of 32 bytes behind the fragment header, then UDP.
    let mut with_options = question.clone();
    with_options[20] = 60;
    let mut options = vec![proto::UDP, 3, 1, 28];
    options.resize(32, 0);
    with_options.splice(54..54, options);
    for (cut, is_whole) in [(24, false), (32, false), (40, true), (80, true)] {
        let mut lab = Lab::new();
        let pieces = fragments_v6(&with_options, &[cut]);
        let verdict = lab.pass(Side::Inside, pieces[0].clone()).verdict;
        if is_whole {
            assert_eq!(verdict, Verdict::Held, "{cut}");
            let passed = lab.pass(Side::Inside, pieces[1].clone());
            assert_eq!(passed.frames, pieces, "{cut}");
        } else {
            assert_eq!(verdict, Verdict::Drop(DropReason::FragmentTiny), "{cut}");
        }
    }
    // A hop-by-hop header or a second fragment header behind the fragment header.
    for next in [0, 44] {
        let mut pieces = fragments_v6(&question, &[80]);
        pieces[0][54] = next;
        let mut lab = Lab::new();
        let verdict = lab.pass(Side::Inside, pieces[0].clone()).verdict;
        assert_eq!(verdict, Verdict::Drop(DropReason::FragmentTiny));
    }
    // Only the first one's next header counts.
    let mut pieces = fragments_v6(&question, &[80]);
    pieces[1][54] = proto::TCP;
    let mut lab = Lab::new();
    assert_eq!(
        lab.pass(Side::Inside, pieces[1].clone()).verdict,
        Verdict::Held
    );
    let passed = lab.pass(Side::Inside, pieces[0].clone());
    assert_eq!(passed.frames.len(), 2);
}

#[test]
fn rfc6946_an_atomic_fragment_is_a_whole_datagram() {
    let question = question_v6(200);
    let mut lab = Lab::new();
    // Others of the same id wait; it does not touch them.
    let pieces = fragments_v6(&question, &[80]);
    assert_eq!(
        lab.pass(Side::Inside, pieces[0].clone()).verdict,
        Verdict::Held
    );
    let atomic = fragments_v6(&question, &[]).remove(0);
    let passed = lab.pass(Side::Inside, atomic.clone());
    assert_eq!(
        (passed.verdict, passed.frames),
        (Verdict::Forward, vec![atomic])
    );
    assert_eq!(lab.pass(Side::Inside, pieces[1].clone()).frames, pieces);
}

#[test]
fn one_source_can_not_have_all_room_for_fragments() {
    let (greedy, honest) = (socket(HOST), socket("192.0.2.77:5353"));
    let first = |from: SocketAddr, id: u16| {
        let mut piece = fragments(&testing::udp(from, socket(DNS), &[7; 200]), 80).swap_remove(0);
        piece[18..20].copy_from_slice(&id.to_be_bytes());
        piece[24..26].fill(0);
        let sum = !checksum::fold(checksum::sum(&piece[14..34]));
        piece[24..26].copy_from_slice(&sum.to_be_bytes());
        piece
    };
    let mut lab = Lab::new();
    assert_eq!(
        lab.pass(Side::Inside, first(honest, 1)).verdict,
        Verdict::Held
    );
    for id in 0..5000 {
        lab.pass(Side::Inside, first(greedy, id));
    }
    assert_eq!(lab.counts().held.frames, 256);
    // The honest one's first fragment is still there.
    let last = fragments(&testing::udp(honest, socket(DNS), &[7; 200]), 160).swap_remove(1);
    let second = fragments(&testing::udp(honest, socket(DNS), &[7; 200]), 80).swap_remove(1);
    assert_eq!(lab.pass(Side::Inside, second).verdict, Verdict::Held);
    assert_eq!(lab.pass(Side::Inside, last).frames.len(), 3);
}

// ---- connections whose beginning was not seen

#[test]
fn a_connection_in_the_middle_is_refused_unless_pick_up_is_on() {
    let wire = || Wire::new(&at(V4[0], 40_000), &at(V4[1], 21), Side::Outside);
    let not_syn = Verdict::Drop(DropReason::TcpNotSyn);
    let mut lab = Lab::new();
    assert_eq!(wire().say(&mut lab, Client, b"NOOP\r\n").verdict, not_syn);

    let mut lab = lab_with(&[("conntrack.pickup", "60s")]);
    lab.tick();
    lab.later(59);
    let mut old = wire();
    assert!(old.say(&mut lab, Client, b"NOOP\r\n").is_forward());
    assert!(old.say(&mut lab, Server, b"200 yes\r\n").is_forward());
    // What is no beginning of a part of a connection is not taken up.
    for flags in [SYN | ACK, RST, RST | ACK, FIN] {
        let other = Wire::new(&at(V4[0], 41_000), &at(V4[1], 21), Side::Outside);
        let frame = other.segment(Client, flags, b"").frame();
        assert_eq!(lab.pass(Side::Outside, frame).verdict, not_syn, "{flags}");
    }
    // The rules decide, as of any new connection.
    let mut other = Wire::new(&at(V4[0], 42_000), &at(V4[1], 22), Side::Outside);
    assert_eq!(other.say(&mut lab, Client, b"ssh").verdict, policy_drop());
    lab.later(1);
    let mut late = Wire::new(&at(V4[0], 43_000), &at(V4[1], 21), Side::Outside);
    assert_eq!(late.say(&mut lab, Client, b"NOOP\r\n").verdict, not_syn);
    // Those that were taken up go on.
    assert!(old.say(&mut lab, Client, b"NOOP\r\n").is_forward());
    old.close(&mut lab);
}

const ASK: &[u8] = b"PASV\r\n";
const ANSWER: &[u8] = b"227 Entering (192,0,2,20,195,80)\r\n";

/// Says a login and asks for a port; returns how many ports are open.
fn asks_for_a_port(lab: &mut Lab, wire: &mut Wire) -> u64 {
    assert!(wire.say(lab, Client, ASK).is_forward());
    assert!(wire.say(lab, Server, ANSWER).is_forward());
    lab.shared.totals().expectations
}

#[test]
fn a_session_taken_up_in_the_middle_opens_nothing_until_it_is_in_step() {
    let mut lab = lab_with(&[("conntrack.pickup", "60"), ("ftp.demand_login", "no")]);
    let mut wire = control(V4, Side::Outside);
    // The rest of a command, with more behind it that looks like one.
    assert!(
        wire.say(&mut lab, Client, b"R /tmp PORT 192,0,2,10,195,80")
            .is_forward()
    );
    assert_eq!(lab.shared.totals().sessions, 1);
    // The server is in the middle of something: a 227 that answers nobody knows what.
    assert!(
        wire.say(&mut lab, Client, b" and more\r\nPASV\r\n")
            .is_forward()
    );
    let middle = b"227 Entering (192,0,2,20,195,80)";
    assert!(wire.say(&mut lab, Server, middle).is_forward());
    assert_eq!(
        lab.shared.totals().expectations,
        0,
        "its beginning was not seen"
    );
    assert!(wire.say(&mut lab, Server, b"\r\n").is_forward());
    assert_eq!(lab.shared.totals().expectations, 0);
    // The client's PORT while the server's side is not known would open at once.
    let mut lab = lab_with(&[("conntrack.pickup", "60"), ("ftp.demand_login", "no")]);
    let mut wire = control(V4, Side::Outside);
    for line in ["NOOP\r\n", "NOOP\r\n", "PORT 192,0,2,10,195,80\r\n"] {
        assert!(wire.say(&mut lab, Client, line.as_bytes()).is_forward());
    }
    assert_eq!(lab.shared.totals().expectations, 0);
    // When both sides are known, it opens.
    assert!(wire.say(&mut lab, Server, b"200 yes\r\n").is_forward());
    for reply in ["200 yes\r\n", "200 PORT\r\n"] {
        assert!(wire.say(&mut lab, Server, reply.as_bytes()).is_forward());
    }
    assert!(wire.say(&mut lab, Client, b"NOOP\r\n").is_forward());
    assert!(wire.say(&mut lab, Server, b"200 yes\r\n").is_forward());
    assert_eq!(asks_for_a_port(&mut lab, &mut wire), 1);
}

#[test]
fn a_session_taken_up_in_the_middle_needs_a_new_login() {
    let mut lab = lab_with(&[("conntrack.pickup", "60")]);
    let mut wire = control(V4, Side::Outside);
    for _ in 0..2 {
        wire.dialogue(&mut lab, &[(Client, "NOOP"), (Server, "200 yes")]);
    }
    assert_eq!(asks_for_a_port(&mut lab, &mut wire), 0);
    wire.dialogue(
        &mut lab,
        &[
            (Client, "USER joe"),
            (Server, "331 password?"),
            (Client, "PASS secret"),
            (Server, "230 welcome"),
        ],
    );
    assert_eq!(asks_for_a_port(&mut lab, &mut wire), 1);
    // A bounce is refused as ever.
    let refused = wire.say(&mut lab, Client, b"PORT 192,0,2,11,195,80\r\n");
    assert_eq!(&refused.bytes()[..4], b"XXXX");
}

#[test]
fn a_session_taken_up_behind_tls_opens_nothing() {
    let mut lab = lab_with(&[("conntrack.pickup", "60"), ("ftp.demand_login", "no")]);
    let mut wire = control(V4, Side::Outside);
    let record = [&[23, 3, 3, 0, 4, 1, 2, b'\n', 9][..], b"\r\n"].concat();
    for _ in 0..3 {
        assert!(wire.say(&mut lab, Client, &record).is_forward());
        assert!(wire.say(&mut lab, Server, &record).is_forward());
    }
    assert_eq!(asks_for_a_port(&mut lab, &mut wire), 0);
}

/// Two hosts that ask each other with the same identifier, as Windows does, which always uses 1: each
/// question is its own flow, and is judged as one that begins, not as an answer.
#[test]
fn a_question_in_the_answers_place_is_a_question() {
    let mut lab = Lab::new();
    let (host, far): (IpAddr, IpAddr) = ([192, 0, 2, 10].into(), [198, 51, 100, 1].into());
    let message = |from, to, kind| testing::icmp(from, to, kind, 0, 7, b"x");
    assert!(lab.pass(Side::Inside, message(host, far, 8)).is_forward());
    assert_eq!(lab.shared.totals().flows, 1);
    assert!(lab.pass(Side::Outside, message(far, host, 8)).is_forward());
    assert_eq!(lab.shared.totals().flows, 2);
    assert!(lab.pass(Side::Outside, message(far, host, 0)).is_forward());
    assert!(lab.pass(Side::Inside, message(host, far, 0)).is_forward());
    assert_eq!(lab.shared.totals().flows, 2);
}
