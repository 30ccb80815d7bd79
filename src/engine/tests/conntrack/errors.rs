//! ICMP errors, and what they quote.

use super::*;

const UNRELATED: Verdict = Verdict::Drop(DropReason::IcmpUnrelated);
const ROUTER: &str = "203.0.113.1";

/// A connection with 100 bytes in flight from client (outside) to server.
fn in_flight(lab: &mut Lab, hosts: [&str; 2]) -> (Wire, Vec<u8>) {
    let mut wire = control(hosts, Side::Outside);
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
fn udp_and_icmp_answers_pass_and_errors_must_quote_a_flow() {
    let mut lab = Lab::new();
    let (host, resolver) = (socket(HOST), socket(DNS));
    let question = testing::udp(host, resolver, b"who?");
    assert!(lab.pass(Side::Inside, question.clone()).is_forward());
    assert!(
        lab.pass(Side::Outside, testing::udp(resolver, host, b"me"))
            .is_forward()
    );
    let stranger = socket("198.51.100.2:53");
    let unasked = lab
        .pass(Side::Outside, testing::udp(stranger, host, b"me"))
        .verdict;
    assert_eq!(unasked, POLICY_DROP);

    let router: IpAddr = ROUTER.parse().unwrap();
    let error = |quote: &[u8]| testing::icmp(router, host.ip(), 3, 3, 0, quote);
    assert!(lab.pass(Side::Outside, error(&question[14..])).is_forward());
    let forged = testing::udp(host, stranger, b"who?");
    assert_eq!(
        lab.pass(Side::Outside, error(&forged[14..])).verdict,
        UNRELATED
    );
    assert_eq!(
        lab.pass(Side::Inside, error(&question[14..])).verdict,
        UNRELATED
    );

    let ping = |from, to, kind| testing::icmp(from, to, kind, 0, 7, b"ping");
    let (a, b) = (host.ip(), resolver.ip());
    assert_eq!(lab.pass(Side::Outside, ping(b, a, 0)).verdict, UNRELATED);
    assert!(lab.pass(Side::Inside, ping(a, b, 8)).is_forward());
    assert!(lab.pass(Side::Outside, ping(b, a, 0)).is_forward());
}

#[test]
fn rfc5927_a_quoted_sequence_number_must_be_in_flight() {
    let mut lab = Lab::new();
    let (wire, question) = in_flight(&mut lab, V4);
    // "Fragmentation needed", "host unreachable", "time exceeded", "source quench"...
    for (kind, code) in [(3, 4), (3, 1), (11, 0), (12, 0)] {
        // The header and 8 bytes (RFC 792), and all of it (RFC 1812).
        for quoted in [28, question.len() - 14] {
            let quote = &question[14..14 + quoted];
            let error = error_v4(&wire, kind, code, quote);
            assert!(lab.pass(Side::Inside, error).is_forward(), "{kind}/{code}");
            // It does not come from where it says that the packet went.
            let error = error_v4(&wire, kind, code, quote);
            assert_eq!(lab.pass(Side::Outside, error).verdict, UNRELATED);
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
    for quoted in [0, 1, 19, 20, 27] {
        let error = error_v4(&wire, 3, 1, &question[14..14 + quoted]);
        assert_eq!(lab.pass(Side::Inside, error).verdict, UNRELATED, "{quoted}");
    }
    // A fragment that is not the first has no ports: it is not judged.
    let mut later = question[14..].to_vec();
    later[6..8].copy_from_slice(&[0x20, 0x05]);
    assert_eq!(
        lab.pass(Side::Inside, error_v4(&wire, 11, 1, &later))
            .verdict,
        UNRELATED
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
    assert_eq!(lab.pass(Side::Outside, error).verdict, UNRELATED);
    // About what the server sent, from outside, to the server.
    let mut server = wire.clone();
    *server.next(Server) = server.next(Server).wrapping_sub(11);
    let banner = server.segment(Server, 0, b"220 ready\r\n").frame();
    let error = testing::icmp(router, wire.server.ip(), 3, 4, 0, &banner[14..]);
    let late = lab.pass(Side::Outside, error).verdict;
    assert_eq!(late, UNRELATED, "all of it was acknowledged");
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
    let rules = parse(
        "table bridge test { chain forward {
           type filter hook forward priority 0; policy drop;
           ct state invalid drop
           ct state established,related accept
           iifname \"in\" accept
         } }",
    );
    let mut lab = Lab::of(rules, Settings::default());
    let (host, far) = (socket(HOST), socket(DNS));
    let ping = testing::icmp(host.ip(), far.ip(), 8, 0, 77, b"ping");
    let gre = testing::ip_frame(host.ip(), far.ip(), 47, &[0; 20]);
    let router: IpAddr = ROUTER.parse().unwrap();
    for frame in [testing::udp(host, far, b"who?"), ping.clone(), gre] {
        let error = testing::icmp(router, host.ip(), 11, 0, 0, &frame[14..42]);
        let early = lab.pass(Side::Outside, error.clone()).verdict;
        assert_eq!(early, UNRELATED);
        assert!(lab.pass(Side::Inside, frame).is_forward());
        assert!(lab.pass(Side::Outside, error).is_forward());
    }
    // An error about an error is about nothing (RFC 1122 section 3.2.2).
    let error = testing::icmp(router, host.ip(), 11, 0, 0, &ping[14..]);
    let twice = testing::icmp(router, host.ip(), 3, 1, 0, &error[14..]);
    assert_eq!(lab.pass(Side::Outside, twice).verdict, UNRELATED);
    // An error does not keep a flow alive.
    lab.later(31);
    let error = testing::icmp(router, host.ip(), 11, 0, 0, &ping[14..]);
    assert_eq!(lab.pass(Side::Outside, error).verdict, UNRELATED);
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
        assert_eq!(verdict, UNRELATED, "{quoted}");
    }
    let mut other_port = quote;
    other_port[41] ^= 1;
    assert_eq!(
        lab.pass(Side::Inside, error(&other_port)).verdict,
        UNRELATED
    );
}
