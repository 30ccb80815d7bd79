//! The passive range: for whom it is open, how long, and for how many at once.

use super::*;

/// A11, CVE-2015-5361: a gateway that opened every port between the two once they spoke TLS.
#[test]
fn a11_tls_opens_the_named_range_and_no_other_port() {
    let mut lab = lab(Some(RANGE));
    let _wire = tls_session(&mut lab);
    for port in [22, 1024, 3306, 8080, 49_999, 50_010, 65_535] {
        let passed = to_port(40_001, port).begin(&mut lab);
        assert!(matches!(passed.verdict, Verdict::Drop(_)), "{port}");
        assert!(passed.frames.is_empty());
    }
    assert!(reaches(&mut lab, 40_002, 50_000));
    assert!(reaches(&mut lab, 40_002, 50_009));
    // And none with the default settings.
    let mut lab = Lab::new();
    let _wire = tls_session(&mut lab);
    for port in [22, 1024, 50_000, 65_535] {
        assert!(!reaches(&mut lab, 40_001, port), "{port}");
    }
}

#[test]
fn the_range_is_for_this_client_this_server_this_side_and_this_vlan() {
    let mut lab = lab(Some(RANGE));
    let _wire = tls_session(&mut lab);
    let to = at(V4[1], 50_000);
    assert!(!connects(&mut lab, "192.0.2.11:40001", &to, Side::Outside));
    assert!(!connects(&mut lab, "192.0.2.10:40001", &to, Side::Inside));
    assert!(!connects(
        &mut lab,
        "192.0.2.10:40001",
        "192.0.2.21:50000",
        Side::Outside
    ));
    // Active mode can't be seen: nothing is open to the server.
    assert!(!calls_back(&mut lab, 50_000));
    let tagged = to_port(40_001, 50_000).syn();
    let mut tagged = tagged.frame();
    tagged.splice(12..12, [0x81, 0, 0, 7]);
    let verdict = lab.pass(Side::Outside, tagged).verdict;
    assert!(matches!(verdict, Verdict::Drop(_)), "{verdict:?}");
    assert!(reaches(&mut lab, 40_001, 50_000));
}

#[test]
fn the_range_opens_with_the_servers_hello_and_not_before() {
    let mut lab = lab(Some(RANGE));
    let mut wire = control(V4, Side::Outside);
    assert!(wire.connect(&mut lab));
    wire.dialogue(&mut lab, &[(Server, "220 ready"), (Client, "AUTH TLS")]);
    assert!(!reaches(&mut lab, 40_001, 50_000), "asked for");
    wire.dialogue(&mut lab, &[(Server, "234 go on")]);
    assert!(!reaches(&mut lab, 40_001, 50_000), "agreed on");
    wire.tell(&mut lab, Client, &client_hello());
    assert!(!reaches(&mut lab, 40_001, 50_000), "the client alone");
    wire.tell(&mut lab, Client, &server_hello(Tls12));
    assert!(
        !reaches(&mut lab, 40_001, 50_000),
        "the client's idea of the server"
    );
    let hello = server_hello(Tls12);
    let (first, last) = hello.split_at(hello.len() - 1);
    wire.tell(&mut lab, Server, first);
    assert!(!reaches(&mut lab, 40_001, 50_000), "a part of it");
    wire.tell(&mut lab, Server, last);
    assert!(reaches(&mut lab, 40_001, 50_000));
    assert!(lab.is_told(
        "passive range 50000-50009 of 192.0.2.20 is open to 192.0.2.10 while the control \
         connection lives, 8 at a time"
    ));
}

#[test]
fn every_cut_of_the_handshake_opens_the_range() {
    let hello = server_hello(Tls13);
    for cut in 1..hello.len() {
        let mut lab = lab(Some(RANGE));
        let mut wire = control(V4, Side::Outside);
        assert!(wire.connect(&mut lab));
        wire.dialogue(&mut lab, &[(Server, "220 ready"), (Client, "AUTH TLS")]);
        // The 234 in two segments, too.
        wire.tell(&mut lab, Server, b"234 go");
        wire.tell(&mut lab, Server, b" on\r\n");
        wire.tell(&mut lab, Client, &client_hello());
        wire.tell(&mut lab, Server, &hello[..cut]);
        wire.tell(&mut lab, Server, &hello[cut..]);
        assert!(reaches(&mut lab, 40_001, 50_000), "{cut}");
    }
}

#[test]
fn the_range_lives_as_long_as_the_control_connection() {
    // A FIN of either end, a reset, and silence.
    for end in ["client's FIN", "server's FIN", "reset", "silence"] {
        let mut lab = Lab::set(&[
            ("ftp.tls_ports", RANGE),
            ("conntrack.tcp_timeout_established", "100"),
        ]);
        let wire = tls_session(&mut lab);
        let waiting = to_port(40_001, 50_001);
        assert!(waiting.begin(&mut lab).is_forward());
        let mut live = to_port(40_002, 50_002);
        if end != "silence" {
            assert!(live.connect(&mut lab));
        }
        let (from, flags) = match end {
            "client's FIN" => (Client, FIN),
            "server's FIN" => (Server, FIN),
            _ => (Client, RST | ACK),
        };
        if end == "silence" {
            lab.later(101);
            lab.tick();
        } else {
            let last = wire.segment(from, flags, b"").frame();
            assert!(lab.pass(wire.side(from), last).is_forward());
        }
        assert!(!reaches(&mut lab, 40_003, 50_003), "{end}");
        if end != "silence" {
            // What is established goes on, what was not answered does not begin any more.
            assert!(live.say(&mut lab, Server, b"a file").is_forward(), "{end}");
            let mut late = waiting.segment(Server, SYN | ACK, b"");
            late.ack += 1;
            let verdict = lab.pass(Side::Inside, late.frame()).verdict;
            assert_eq!(verdict, Verdict::Drop(DropReason::ExpectationGone), "{end}");
        }
        assert!(
            lab.is_told("closed passive range 50000-50009 of 192.0.2.20"),
            "{end}"
        );
        if end != "silence" {
            live.close(&mut lab);
        }
        assert!(lab.shared.expectations.ranges().is_empty(), "{end}");
    }
}

#[test]
fn so_many_at_once_and_no_more() {
    let mut lab = Lab::set(&[("ftp.tls_ports", RANGE), ("ftp.tls_connections", "3")]);
    let _wire = tls_session(&mut lab);
    let mut live: Vec<_> = (1..=3).map(|n| to_port(40_000 + n, 50_000)).collect();
    for data in &mut live {
        assert!(data.connect(&mut lab));
    }
    assert!(!reaches(&mut lab, 40_004, 50_000));
    assert_eq!(lab.dropped(DropReason::PolicyDrop), 1);
    // One that ended, was refused, or was never answered gives its place back.
    live[0].close(&mut lab);
    let refused = to_port(40_005, 50_000);
    assert!(refused.begin(&mut lab).is_forward());
    let mut rst = refused.segment(Server, RST | ACK, b"");
    (rst.seq, rst.ack) = (0, rst.ack + 1);
    assert!(lab.pass(Side::Inside, rst.frame()).is_forward());
    for source in 40_006..40_020 {
        assert!(
            to_port(source, 50_000).begin(&mut lab).is_forward(),
            "{source}"
        );
    }
    assert!(reaches(&mut lab, 40_020, 50_000));
    assert!(!reaches(&mut lab, 40_021, 50_000));
    assert_eq!(lab.shared.totals().ports_used, 4);
}

#[test]
fn a_connection_that_is_forgotten_gives_its_place_back() {
    let mut lab = lab(Some(RANGE));
    let wire = tls_session(&mut lab);
    let mut live = to_port(40_002, 50_000);
    assert!(live.connect(&mut lab));
    let fin = wire.segment(Client, FIN, b"").frame();
    assert!(lab.pass(Side::Outside, fin).is_forward());
    assert_eq!(lab.shared.expectations.ranges().len(), 1);
    lab.later(5 * 24 * 3600 + 1);
    lab.tick();
    assert!(lab.shared.expectations.ranges().is_empty());
}

#[test]
fn a_data_connection_in_the_range_is_related_and_counted() {
    let mut lab = Lab::set(&[
        ("ftp.tls_ports", RANGE),
        ("conntrack.tcp_timeout_established", "100"),
    ]);
    let mut wire = tls_session(&mut lab);
    let mut file = to_port(40_001, 50_000);
    assert!(file.connect(&mut lab));
    // It keeps the silent control connection.
    for _ in 0..5 {
        lab.later(60);
        assert!(file.say(&mut lab, Server, b"slow").is_forward());
        lab.tick();
    }
    file.close(&mut lab);
    wire.tell(&mut lab, Server, &data(b"226 done"));
    wire.close(&mut lab);
    let told = lab.told();
    assert_eq!(
        told[1..],
        [
            "ftp[1] control connection went TLS: passive range 50000-50009 of 192.0.2.20 is open \
             to 192.0.2.10 while the control connection lives, 8 at a time; active mode can't be \
             seen and stays shut",
            "ftp[1] used port 50000: 192.0.2.10:40001 connected to 192.0.2.20:50000 (passive \
             range)",
            "ftp[1] data connection 192.0.2.10:40001 to 192.0.2.20:50000 ended: 0 bytes sent, 20 \
             bytes received by 192.0.2.10",
            "ftp[1] closed passive range 50000-50009 of 192.0.2.20: the control connection ended",
            "ftp[1] closed: both ends said goodbye; ports opened 1, used 1; commands refused 0",
        ]
    );
}

#[test]
fn a_new_connection_on_the_same_ports_has_no_range() {
    let mut lab = lab(Some(RANGE));
    let mut wire = tls_session(&mut lab);
    wire.next = [500_000, 900_000];
    let reopened = wire.begin(&mut lab);
    assert!(reopened.is_forward());
    *wire.next(Client) += 1;
    let answer = wire.segment(Server, SYN | ACK, b"").frame();
    assert!(lab.pass(Side::Inside, answer).is_forward());
    assert!(!reaches(&mut lab, 40_001, 50_000));
}
