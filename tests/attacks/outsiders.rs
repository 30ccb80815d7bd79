//! Attacks by those who are no party to the session, or who speak something else than FTP.

use lotus::engine::Verdict;
use lotus::wire::{Side, TcpFlags};

use crate::assert_refused;
use crate::common::{
    CLIENT_PORT, Door, FTP, Hosts, Lab, OTHER_FTP, Segment, Speaker::Client, Speaker::Server, Talk,
    V4, at, datagram, everywhere, fragments_at, udp,
};

const SCTP: u8 = 132;
const UDP_LITE: u8 = 136;
const GRE: u8 = 47;
const DCCP: u8 = 33;
const TCP: u8 = 6;

/// A session with a passive port open.
fn with_passive_port(lab: &mut Lab, hosts: Hosts, side: Side, port: u16) -> Talk {
    let mut talk = Talk::logged_in(lab, hosts, side);
    let (command, answer) = hosts.passive(port);
    talk.dialogue(lab, &[(Client, command), (Server, &answer)]);
    talk
}

#[test]
fn a08_expected_connection_is_exact_but_for_its_source_port() {
    everywhere(|hosts, side| {
        let to = at(hosts.server, 51_400);
        let passive = Door {
            from: hosts.client,
            to,
            side,
        };
        let mut lab = Lab::new();
        with_passive_port(&mut lab, hosts, side, 51_400);
        lab.assert_open(hosts, &[passive]);
        for vlan in [&[1][..], &[100], &[100, 200]] {
            let verdict = lab.knock(hosts.client, to, side, vlan);
            assert_ne!(verdict, Verdict::Forward, "{vlan:?}");
        }
        // Any source port, once: the first that is answered has it.
        assert!(lab.connects(at(hosts.client, 1), to, side));
        for source in [2, 1024, 40_001, 65_535] {
            assert!(!lab.connects(at(hosts.client, source), to, side), "again");
        }

        let mut lab = Lab::new();
        let mut talk = Talk::logged_in(&mut lab, hosts, side);
        let active = hosts.active(hosts.client, 51_400);
        talk.dialogue(&mut lab, &[(Client, &active), (Server, "200 ok\r\n")]);
        let active = Door {
            from: hosts.server,
            to: at(hosts.client, 51_400),
            side: side.other(),
        };
        lab.assert_open(hosts, &[active]);
        // Servers that do not run as root do not use port 20.
        let from = at(hosts.server, 33_333);
        assert!(lab.connects(from, active.to, side.other()));
    });
}

#[test]
fn a08_expected_connection_is_of_the_vlan_of_its_session() {
    for vlan in [vec![100], vec![100, 200]] {
        for side in Side::BOTH {
            let mut lab = Lab::new();
            let mut talk = Talk::new(V4, side);
            talk.vlan.clone_from(&vlan);
            talk.login(&mut lab);
            let (command, answer) = V4.passive(51_400);
            talk.dialogue(&mut lab, &[(Client, command), (Server, &answer)]);
            let to = at(V4.server, 51_400);
            for other in [&[][..], &[101], &[200], &[200, 100], &[100, 201]] {
                let verdict = lab.knock(V4.client, to, side, other);
                assert_ne!(verdict, Verdict::Forward, "{other:?}");
            }
            lab.assert_open(V4, &[]); // untagged
            assert_eq!(lab.knock(V4.client, to, side, &vlan), Verdict::Forward);
        }
    }
}

#[test]
fn a08_expected_connection_may_come_for_a_minute_only() {
    everywhere(|hosts, side| {
        let mut lab = Lab::new();
        with_passive_port(&mut lab, hosts, side, 51_400);
        let to = at(hosts.server, 51_400);
        lab.later(59);
        assert_eq!(lab.knock(hosts.client, to, side, &[]), Verdict::Forward);
        // An attempt renews nothing.
        lab.later(2);
        assert_ne!(lab.knock(hosts.client, to, side, &[]), Verdict::Forward);
        lab.tick();
        lab.assert_told(&["closed port 51400", "nobody used it in time"]);
        lab.assert_open(hosts, &[]);
    });
}

#[test]
fn a08_expected_connection_has_eight_attempts() {
    let mut lab = Lab::new();
    with_passive_port(&mut lab, V4, Side::Outside, 51_400);
    let to = at(V4.server, 51_400);
    // Servers that listen late answer the first ones with a reset; a scan goes on.
    for attempt in 1..=20 {
        let passed = lab.knock(V4.client, to, Side::Outside, &[]) == Verdict::Forward;
        assert_eq!(passed, attempt <= 8, "attempt {attempt}");
    }
}

#[test]
fn a08_expected_connection_goes_with_its_session() {
    everywhere(|hosts, side| {
        for flags in [TcpFlags::FIN | TcpFlags::ACK, TcpFlags::RST] {
            for who in [Client, Server] {
                let mut lab = Lab::new();
                let mut talk = with_passive_port(&mut lab, hosts, side, 51_400);
                let last = talk.segment(who).with_flags(flags);
                assert_eq!(talk.send(&mut lab, who, &last).verdict, Verdict::Forward);
                lab.assert_told(&["closed port 51400", "the control connection ended"]);
                lab.assert_open(hosts, &[]);
            }
        }
    });
}

#[test]
fn a09_browser_that_posts_to_an_ftp_port_opens_nothing() {
    everywhere(|hosts, side| {
        let own = hosts.active(hosts.client, 51_400);
        let post =
            format!("POST / HTTP/1.1\r\nHost: evil.example\r\nContent-Length: 5000\r\n\r\n{own}");
        for port in [FTP, OTHER_FTP] {
            // The client speaks first, as with HTTP; later the accomplice plays an FTP server.
            let mut lab = Lab::new();
            let mut talk = Talk::on_port(hosts, side, port);
            talk.connect(&mut lab);
            talk.dialogue(
                &mut lab,
                &[
                    (Client, &post),
                    (Server, "220 ready\r\n"),
                    (Client, "USER joe\r\n"),
                    (Server, "230 in\r\n"),
                    (Client, &own),
                    (Server, "200 ok\r\n200 ok\r\n200 ok\r\n"),
                ],
            );
            lab.assert_told(&["not FTP", "before the server's greeting"]);
            lab.assert_open(hosts, &[]);

            // The accomplice greets first, and the body plays a whole session.
            let mut lab = Lab::new();
            let mut talk = Talk::on_port(hosts, side, port);
            talk.connect(&mut lab);
            talk.dialogue(
                &mut lab,
                &[
                    (Server, "220 ready\r\n"),
                    (Client, &post),
                    (Client, "USER joe\r\n"),
                    (Server, "331 go on\r\n"),
                    (Client, "PASS x\r\n"),
                    (Server, "230 in\r\n"),
                    (Client, &own),
                    (Server, "200 ok\r\n"),
                ],
            );
            lab.assert_told(&["not FTP", "first line is no FTP command"]);
            lab.assert_open(hosts, &[]);
        }
        // Anything but a greeting, and anything but a command.
        for (greeting, first) in [
            ("HTTP/1.1 200 OK\r\n", "USER joe\r\n"),
            ("SSH-2.0-OpenSSH\r\n", "USER joe\r\n"),
            ("200 ready\r\n", "USER joe\r\n"),
            ("230 in\r\n", "USER joe\r\n"),
            ("220 ready\r\n", "GET / HTTP/1.1\r\n"),
            ("220 ready\r\n", "HOST: evil.example\r\n"),
            ("220 ready\r\n", "OPTIONS * HTTP/1.1\r\n"),
            ("220 ready\r\n", "REGISTER sip:evil SIP/2.0\r\n"),
            ("220 ready\r\n", "NICK joe\r\n"),
            // A TURN message (RFC 8656): no text at all.
            ("220 ready\r\n", "\u{0}\u{3}\u{0}\u{5c}!\u{12}B\r\n"),
        ] {
            let mut lab = Lab::new();
            let mut talk = Talk::new(hosts, side);
            talk.connect(&mut lab);
            talk.dialogue(
                &mut lab,
                &[
                    (Server, greeting),
                    (Client, first),
                    (Server, "230 in\r\n"),
                    (Client, &own),
                    (Server, "200 ok\r\n"),
                ],
            );
            lab.assert_told(&["not FTP"]);
            lab.assert_open(hosts, &[]);
        }
    });
}

#[test]
fn a09_what_is_no_ftp_is_still_no_bounce() {
    // Version 2 of the attack names other hosts of the inner network.
    let mut lab = Lab::new();
    let mut talk = Talk::new(V4, Side::Inside);
    talk.connect(&mut lab);
    talk.dialogue(
        &mut lab,
        &[(Server, "220 ready\r\n"), (Client, "POST / HTTP/1.1\r\n")],
    );
    let line = V4.active(V4.neighbour, 51_400);
    assert_refused(&mut lab, &mut talk, &line, "FTP bounce");
    lab.assert_open(V4, &[]);
}

#[test]
fn a09_command_that_begins_a_fragment_is_no_command() {
    everywhere(|hosts, side| {
        let own = hosts.active(hosts.client, 51_400);
        let mut lab = Lab::new();
        let mut talk = Talk::new(hosts, side);
        talk.connect(&mut lab);
        // First without a greeting, then as the middle of a file's name in a logged-in session.
        for (begin, fragment_id) in [("POST", 7), ("STOR", 8)] {
            if begin == "STOR" {
                lab = Lab::new();
                talk = Talk::logged_in(&mut lab, hosts, side);
            }
            let body = format!("{begin}{}{own}", "a".repeat(1_000));
            let frame = talk.segment(Client).data(&body).frame();
            let tcp_header_bytes = 20;
            let cut = tcp_header_bytes + body.len() - own.len();
            let pieces = fragments_at(&frame, fragment_id, &[cut]);
            assert!(
                pieces[1].ends_with(own.as_bytes()),
                "the second one is the command"
            );
            let passed: usize = pieces
                .into_iter()
                .map(|piece| lab.pass(side, piece).frames.len())
                .sum();
            assert_eq!(passed, 2, "both go once they were judged together");
            talk.sent(Client, body.len());
            talk.say(&mut lab, Server, "200 ok\r\n");
            lab.assert_open(hosts, &[]);
        }
        // A datagram of a media relay on the very port is no control connection.
        let turn = udp(
            at(hosts.client, CLIENT_PORT),
            at(hosts.server, FTP),
            own.as_bytes(),
        );
        assert_ne!(lab.pass(side, turn).verdict, Verdict::Forward);
        lab.assert_open(hosts, &[]);
    });
}

#[test]
fn a11_tls_opens_nothing() {
    everywhere(|hosts, side| {
        let (passive, answer) = hosts.passive(51_400);
        let active = hosts.active(hosts.client, 51_400);
        let mut lab = Lab::new();
        // A port that waits is shut, too.
        let mut talk = with_passive_port(&mut lab, hosts, side, 51_401);
        talk.dialogue(
            &mut lab,
            &[
                (Client, "AUTH TLS\r\n"),
                (Server, "234 go\r\n"),
                // What looks like commands and answers now is bytes of somebody's records.
                (Client, passive),
                (Server, &answer),
                (Client, &active),
                (Server, "200 ok\r\n"),
            ],
        );
        lab.assert_told(&["went TLS", "data ports can't be seen"]);
        lab.assert_told(&["closed port 51401", "went TLS"]);
        // Not one port of the pair, of all.
        for port in (1024..=u16::MAX).step_by(257) {
            for (from, to, side) in [
                (hosts.client, hosts.server, side),
                (hosts.server, hosts.client, side.other()),
            ] {
                let verdict = lab.knock(from, at(to, port), side, &[]);
                assert_ne!(verdict, Verdict::Forward, "{to} {port}");
            }
        }
        lab.assert_open(hosts, &[]);
    });
}

#[test]
fn a11_what_is_pipelined_before_234_opens_nothing() {
    everywhere(|hosts, side| {
        let (passive, answer) = hosts.passive(51_400);
        let mut lab = Lab::new();
        let mut talk = Talk::logged_in(&mut lab, hosts, side);
        let pipelined = format!("AUTH TLS\r\n{passive}");
        talk.dialogue(&mut lab, &[(Client, &pipelined)]);
        talk.dialogue(&mut lab, &[(Server, &format!("234 go\r\n{answer}"))]);
        lab.assert_open(hosts, &[]);
        assert!(lab.opened().is_empty());
    });
}

#[test]
fn a11_behind_234_nobody_gets_in_step_again() {
    everywhere(|hosts, side| {
        let (passive, answer) = hosts.passive(51_400);
        // Answers for whatever may be thought to wait for one.
        for extra in 0..3 {
            let mut lab = Lab::new();
            let mut talk = Talk::logged_in(&mut lab, hosts, side);
            talk.dialogue(
                &mut lab,
                &[(Client, "AUTH TLS\r\n"), (Server, "234 go\r\n")],
            );
            for _ in 0..extra {
                talk.dialogue(&mut lab, &[(Server, "200 ok\r\n")]);
            }
            talk.dialogue(&mut lab, &[(Client, passive), (Server, &answer)]);
            let active = hosts.active(hosts.client, 51_400);
            talk.dialogue(&mut lab, &[(Client, &active), (Server, "200 ok\r\n")]);
            assert!(lab.opened().is_empty());
            lab.assert_open(hosts, &[]);
        }
    });
}

#[test]
fn a11_any_word_of_the_client_for_tls_is_one() {
    for command in ["AUTH SSL\r\n", "AUTH TLS-C\r\n", "auth tls\r\n", "AUTH\r\n"] {
        let mut lab = Lab::new();
        let mut talk = Talk::logged_in(&mut lab, V4, Side::Inside);
        let (passive, answer) = V4.passive(51_400);
        talk.dialogue(
            &mut lab,
            &[
                (Client, command),
                (Server, "234 go\r\n"),
                (Client, passive),
                (Server, &answer),
            ],
        );
        lab.assert_told(&["went TLS"]);
        lab.assert_open(V4, &[]);
    }
    // A server that says so unasked is believed nothing: the client goes on in clear text.
    let mut lab = Lab::new();
    let mut talk = Talk::logged_in(&mut lab, V4, Side::Inside);
    let foreign = V4.active(V4.neighbour, 51_400);
    talk.dialogue(&mut lab, &[(Client, "NOOP\r\n"), (Server, "234 go\r\n")]);
    assert_refused(&mut lab, &mut talk, &foreign, "FTP bounce");
    lab.assert_open(V4, &[]);
}

#[test]
fn a11_tls_that_the_server_refuses_changes_nothing() {
    let mut lab = Lab::new();
    let mut talk = Talk::logged_in(&mut lab, V4, Side::Outside);
    let (passive, answer) = V4.passive(51_400);
    talk.dialogue(
        &mut lab,
        &[
            (Client, "AUTH TLS\r\n"),
            (Server, "502 no\r\n"),
            (Client, passive),
            (Server, &answer),
        ],
    );
    let door = Door {
        from: V4.client,
        to: at(V4.server, 51_400),
        side: Side::Outside,
    };
    lab.assert_open(V4, &[door]);
}

#[test]
fn a15_pizza_thief_finds_the_port_shut() {
    everywhere(|hosts, side| {
        let mut lab = Lab::new();
        with_passive_port(&mut lab, hosts, side, 51_400);
        let to = at(hosts.server, 51_400);
        // Faster than the client, from everywhere, again and again, also with the client's address
        // from the wrong side: it never gets in, and uses up nothing.
        for round in 0..20 {
            for (from, from_side) in [
                (hosts.stranger, side),
                (hosts.stranger, side.other()),
                (hosts.neighbour, side),
                (hosts.neighbour, side.other()),
                (hosts.client, side.other()),
            ] {
                let verdict = lab.knock(from, to, from_side, &[]);
                assert_ne!(verdict, Verdict::Forward, "{from} round {round}");
            }
        }
        assert!(lab.connects(at(hosts.client, 40_001), to, side));
        lab.assert_told(&["used port 51400"]);
        // Nor can he speak in the connection that was made.
        let data = Segment::new(at(hosts.stranger, 40_001), to, TcpFlags::ACK, 5_002, 9_002);
        assert_ne!(
            lab.pass(side, data.data("x").frame()).verdict,
            Verdict::Forward
        );
    });
}

#[test]
fn a15_thief_behind_the_client_own_address_can_not_use_the_port_twice() {
    let mut lab = Lab::new();
    with_passive_port(&mut lab, V4, Side::Inside, 51_400);
    let to = at(V4.server, 51_400);
    assert!(lab.connects(at(V4.client, 40_001), to, Side::Inside));
    assert!(!lab.connects(at(V4.client, 40_002), to, Side::Inside));
    lab.assert_open(V4, &[]);
}

#[test]
fn a21_other_protocols_match_no_tcp_rule_and_no_expectation() {
    everywhere(|hosts, side| {
        let mut lab = Lab::new();
        with_passive_port(&mut lab, hosts, side, 51_400);
        for port in [FTP, OTHER_FTP, 53, 51_400] {
            // What a tracker of unknown protocols would take for ports, then a plausible rest.
            let mut bytes = Vec::new();
            bytes.extend(40_001_u16.to_be_bytes());
            bytes.extend(port.to_be_bytes());
            bytes.extend([0, 0, 0x10, 0, 0, 0, 0, 0, 0x50, TcpFlags::SYN, 0xff, 0xff]);
            bytes.extend([0; 24]);
            for protocol in [SCTP, UDP_LITE, GRE, DCCP, 253, 254, 0xfe] {
                let frame = datagram(hosts.client, hosts.server, protocol, &bytes);
                let verdict = lab.pass(side, frame).verdict;
                assert_ne!(verdict, Verdict::Forward, "protocol {protocol} port {port}");
            }
            if port != 53 {
                let frame = udp(at(hosts.client, 40_001), at(hosts.server, port), b"x");
                assert_ne!(lab.pass(side, frame).verdict, Verdict::Forward, "UDP");
            }
        }
        // An unknown protocol that was not let in is let in no more once TCP is.
        assert!(lab.connects(at(hosts.client, 40_001), at(hosts.server, 51_400), side));
        let same = datagram(hosts.client, hosts.server, SCTP, &[0x9c, 0x41, 0xc8, 0xc8]);
        assert_ne!(lab.pass(side, same).verdict, Verdict::Forward);
        // A cut TCP header is no TCP either.
        let cut = datagram(
            hosts.client,
            hosts.server,
            TCP,
            &[0x9c, 0x41, 0, 21, 0, 0, 0, 0],
        );
        assert_ne!(lab.pass(side, cut).verdict, Verdict::Forward);
    });
}
