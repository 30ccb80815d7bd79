//! Which ports a session opens, for whom, and until when.

use super::*;

#[test]
fn four_scenarios_and_both_families() {
    for side in Side::BOTH {
        for (hosts, passive, active) in [
            (
                V4,
                ["PASV", "227 Entering (192,0,2,20,195,80)."],
                "PORT 192,0,2,10,195,80",
            ),
            (
                V4,
                ["EPSV", "229 Extended (|||50000|)"],
                "EPRT |1|192.0.2.10|50000|",
            ),
            (
                V6,
                ["EPSV", "229 Extended (|||50000|)"],
                "EPRT |2|2001:DB8::0:10|50000|",
            ),
        ] {
            let mut lab = Lab::new();
            let mut wire = control(hosts, side);
            let [client, server] = hosts;
            wire.login(&mut lab);
            // Passive: the client opens.
            let (from, to) = (at(client, 40_001), at(server, 50_000));
            assert!(!connects(&mut lab, &from, &to, side), "before");
            wire.dialogue(&mut lab, &[(Client, passive[0]), (Server, passive[1])]);
            assert!(
                !connects(&mut lab, &from, &at(server, 50_001), side),
                "another port"
            );
            assert!(
                !connects(&mut lab, &from, &to, side.other()),
                "the other side"
            );
            assert!(
                !connects(&mut lab, &at(server, 9000), &to, side),
                "another host"
            );
            assert!(connects(&mut lab, &from, &to, side), "once");
            assert!(
                !connects(&mut lab, &at(client, 40_002), &to, side),
                "not twice"
            );
            // Active: the server opens.
            let (from, to) = (at(server, 20), at(client, 50_000));
            assert!(!connects(&mut lab, &from, &to, side.other()), "before");
            wire.dialogue(&mut lab, &[(Client, active)]);
            assert!(
                connects(&mut lab, &from, &to, side.other()),
                "before the answer, even"
            );
            wire.dialogue(&mut lab, &[(Server, "200 fine"), (Client, "RETR x")]);
            assert!(
                !connects(&mut lab, &at(server, 21_000), &to, side.other()),
                "not twice"
            );
            let totals = lab.shared.totals();
            assert_eq!(
                (totals.ports_opened, totals.ports_used, totals.expectations),
                (2, 2, 0)
            );
        }
    }
}

#[test]
fn a_port_needs_a_login_and_a_greeting() {
    let mut lab = Lab::new();
    let mut wire = control(V4, Side::Outside);
    assert!(wire.connect(&mut lab));
    wire.dialogue(
        &mut lab,
        &[
            (Server, "220 ready"),
            (Client, "PASV"),
            (Server, "227 sure (192,0,2,20,195,80)"),
            (Client, "PORT 192,0,2,10,195,80"),
            (Server, "200 sure"),
        ],
    );
    assert_eq!(lab.shared.totals().ports_opened, 0);
    // A client that speaks first, or speaks HTTP, is none.
    for first in ["PORT 192,0,2,10,195,80", "POST / HTTP/1.1"] {
        let mut lab = Lab::new();
        let mut wire = control(V4, Side::Outside);
        assert!(wire.connect(&mut lab));
        if first.starts_with("POST") {
            wire.dialogue(&mut lab, &[(Server, "220 ready")]);
        }
        wire.dialogue(
            &mut lab,
            &[(Client, first), (Server, "230 you are logged in")],
        );
        wire.dialogue(
            &mut lab,
            &[(Client, "PORT 192,0,2,10,195,80"), (Server, "200 ok")],
        );
        assert_eq!(lab.shared.totals().ports_opened, 0);
        assert!(
            lab.events()
                .iter()
                .any(|e| matches!(e.kind, EventKind::NotFtp { .. }))
        );
    }
}

#[test]
fn text_that_looks_like_a_reply_opens_nothing() {
    let mut lab = Lab::new();
    let mut wire = session(&mut lab);
    wire.dialogue(
        &mut lab,
        &[
            (Server, "227 Entering Passive Mode (192,0,2,20,195,80)"), // unasked
            (Client, "NOOP"),
            (Server, "227 Entering Passive Mode (192,0,2,20,195,80)"), // another command's
            (Client, "STAT"),
            (Server, "211-status"),
            (Server, "227 Entering Passive Mode (192,0,2,20,195,80)"), // in a block
            (Server, "211 end"),
            (Client, "227 Entering Passive Mode (192,0,2,20,195,80)"), // from the client
            (Server, "500 what?"),
            (Client, "PASV"),
            (Server, "500 no 227 (192,0,2,20,195,80)"),
            (Client, "PASV"),
            (Server, "227 low (192,0,2,20,0,25)"),
            (Client, "EPSV"),
            (Server, "229 too far (|||70000|)"),
        ],
    );
    assert_eq!(lab.shared.totals().ports_opened, 0);
    assert!(!reaches(&mut lab, 40_001, 50_000));
}

#[test]
fn a_line_with_two_readings_opens_only_at_its_answer() {
    for line in [
        &b"PORT 192,0,2,10,195,80\n"[..],
        b" PORT 192,0,2,10,195,80\r\n",
    ] {
        let mut lab = Lab::new();
        let mut wire = session(&mut lab);
        assert!(wire.say(&mut lab, Client, line).is_forward());
        assert_eq!(lab.shared.totals().expectations, 0);
        wire.dialogue(&mut lab, &[(Server, "200 ok")]);
        assert_eq!(lab.shared.totals().expectations, 1);
    }
    // Pipelined: the answers belong to the commands in order.
    let mut lab = Lab::new();
    let mut wire = session(&mut lab);
    let both = b"NOOP\r\nPORT 192,0,2,10,195,80\r\n";
    assert!(wire.say(&mut lab, Client, both).is_forward());
    wire.dialogue(&mut lab, &[(Server, "200 noop ok")]);
    assert_eq!(lab.shared.totals().expectations, 0);
    wire.dialogue(&mut lab, &[(Server, "200 port ok")]);
    assert_eq!(lab.shared.totals().expectations, 1);
}

#[test]
fn one_answer_for_a_transfer_and_its_abort() {
    let mut lab = Lab::new();
    let mut wire = session(&mut lab);
    wire.dialogue(
        &mut lab,
        &[
            (Client, "PASV"),
            (Server, "227 ok (192,0,2,20,195,80)"),
            (Client, "RETR x"),
            (Server, "150 here it comes"),
            (Client, "ABOR"),
            (Server, "225 nothing to abort"),
            (Client, "PASV"),
            (Server, "227 ok (192,0,2,20,195,81)"),
        ],
    );
    assert_eq!(lab.shared.totals().ports_opened, 2);
}

#[test]
fn after_epsv_all_nothing_else_counts() {
    let mut lab = Lab::new();
    let mut wire = session(&mut lab);
    wire.dialogue(
        &mut lab,
        &[
            (Client, "EPSV ALL"),
            (Server, "200 ok"),
            (Client, "PASV"),
            (Server, "227 ok (192,0,2,20,195,80)"),
            (Client, "PORT 192,0,2,10,195,80"),
            (Server, "200 ok"),
        ],
    );
    assert_eq!(lab.shared.totals().ports_opened, 0);
    wire.dialogue(
        &mut lab,
        &[(Client, "EPSV"), (Server, "229 ok (|||50000|)")],
    );
    assert_eq!(lab.shared.totals().ports_opened, 1);
}

#[test]
fn behind_tls_nothing_is_read() {
    let mut lab = Lab::new();
    let mut wire = session(&mut lab);
    wire.dialogue(
        &mut lab,
        &[
            (Client, "PASV"),
            (Server, "227 ok (192,0,2,20,195,80)"),
            (Client, "AUTH TLS"),
            (Client, "PASV"),
            (Server, "234 go"),
            (Server, "227 Entering Passive Mode (192,0,2,20,195,81)"),
        ],
    );
    assert_eq!(lab.shared.totals().expectations, 0);
    assert!(
        lab.events()
            .iter()
            .any(|e| matches!(e.kind, EventKind::Encrypted { .. }))
    );
}

#[test]
fn a_refusal_by_the_server_shuts_the_port() {
    let mut lab = Lab::new();
    let mut wire = session(&mut lab);
    wire.dialogue(&mut lab, &[(Client, "PORT 192,0,2,10,195,80")]);
    assert_eq!(lab.shared.totals().expectations, 1);
    wire.dialogue(&mut lab, &[(Server, "500 not here")]);
    assert_eq!(lab.shared.totals().expectations, 0);
    assert!(!calls_back(&mut lab, 50_000));
}

#[test]
fn a_port_is_shut_after_a_minute_and_with_the_session() {
    let mut lab = Lab::new();
    let mut wire = session(&mut lab);
    wire.dialogue(&mut lab, OPEN);
    lab.later(61);
    assert!(!reaches(&mut lab, 40_001, 50_000));
    lab.tick();
    assert_eq!(lab.shared.totals().expectations, 0);
    assert!(lab.is_told("nobody used it in time"));

    wire.dialogue(&mut lab, OPEN);
    let fin = wire.segment(Client, FIN, b"").frame();
    assert!(lab.pass(Side::Outside, fin).is_forward());
    assert_eq!(lab.shared.totals().expectations, 0);
}

#[test]
fn after_a_fin_or_a_reset_nothing_is_opened() {
    let pasv = b"227 ok (192,0,2,20,195,80)\r\n";
    // The answer to a PASV that came with the FIN.
    let mut lab = Lab::new();
    let mut wire = session(&mut lab);
    let mut last = wire.segment(Client, 0, b"PASV\r\n");
    last.flags |= FIN;
    assert!(lab.pass(Side::Outside, last.frame()).is_forward());
    *wire.next(Client) += 7;
    assert!(wire.say(&mut lab, Server, pasv).is_forward());
    assert_eq!(lab.shared.totals().ports_opened, 0);
    // Data behind the own FIN.
    let after = wire.segment(Client, 0, b"PASV\r\n").frame();
    let verdict = lab.pass(Side::Outside, after).verdict;
    assert!(matches!(verdict, Verdict::Drop(_)), "{verdict:?}");
    // After a reset.
    let mut lab = Lab::new();
    let mut wire = session(&mut lab);
    assert!(
        lab.pass(Side::Outside, wire.segment(Client, RST, b"").frame())
            .is_forward()
    );
    wire.say(&mut lab, Client, b"PASV\r\n");
    wire.say(&mut lab, Server, pasv);
    assert_eq!(lab.shared.totals().ports_opened, 0);
}

#[test]
fn a_refused_data_connection_may_be_tried_again() {
    let mut lab = Lab::new();
    let mut wire = session(&mut lab);
    wire.dialogue(&mut lab, OPEN);
    for port in [40_001, 40_002] {
        let data = to_port(port, 50_000);
        assert!(data.begin(&mut lab).is_forward());
        assert!(data.begin(&mut lab).is_forward(), "sent again");
        let mut rst = data.segment(Server, RST | ACK, b"");
        (rst.seq, rst.ack) = (0, 1001);
        assert!(lab.pass(Side::Inside, rst.frame()).is_forward());
    }
    assert!(reaches(&mut lab, 40_002, 50_000));
}

#[test]
fn a_newer_syn_takes_the_place_of_an_unanswered_one() {
    let mut lab = Lab::new();
    let mut wire = session(&mut lab);
    wire.dialogue(&mut lab, OPEN);
    let old = to_port(40_001, 50_000);
    assert!(old.begin(&mut lab).is_forward());
    assert!(reaches(&mut lab, 40_002, 50_000));
    let mut late = old.segment(Server, SYN | ACK, b"");
    late.ack = 1001;
    assert!(!lab.pass(Side::Inside, late.frame()).is_forward());
}

#[test]
fn a_reset_that_the_server_ignores_leaves_no_port_open() {
    for (flags, ack, passes) in [(RST, 0, true), (RST | ACK, 0, true), (RST | ACK, 77, false)] {
        let mut lab = Lab::new();
        let mut wire = session(&mut lab);
        wire.dialogue(&mut lab, OPEN);
        let mut data = to_port(40_001, 50_000);
        assert!(data.begin(&mut lab).is_forward());
        *data.next(Client) += 1;
        let mut reset = data.segment(Client, flags, b"");
        reset.ack = ack;
        let verdict = lab.pass(Side::Outside, reset.frame()).verdict;
        assert_eq!(verdict == Verdict::Forward, passes);
        let answer = data.segment(Server, SYN | ACK, b"").frame();
        assert!(lab.pass(Side::Inside, answer).is_forward());
        let totals = lab.shared.totals();
        assert_eq!((totals.expectations, totals.ports_used), (0, 1));
        assert_eq!(lab.dropped(DropReason::TcpRst), u64::from(!passes));
    }
}

#[test]
fn a_connection_that_was_reset_before_its_answer_says_nothing() {
    // A hostile client has two SYNs out, and resets the one that the server never took.
    let mut lab = Lab::new();
    let mut wire = session(&mut lab);
    wire.dialogue(&mut lab, OPEN);
    let data = to_port(40_001, 50_000);
    let numbered = |from, flags, seq, ack, payload: &[u8]| {
        let mut segment = data.segment(from, flags, payload);
        (segment.seq, segment.ack) = (seq, ack);
        (data.side(from), segment.frame())
    };
    let (a, b, s) = (1000, 1000 + 65_700, 900_000);
    for (side, frame) in [
        numbered(Client, SYN, a, 0, b""),
        numbered(Client, SYN, b, 0, b""),
        numbered(Server, SYN | ACK, s, a + 1, b""),
        numbered(Server, ACK, s + 1, a + 1, b""),
        numbered(Client, RST, b + 1, 0, b""),
    ] {
        assert!(lab.pass(side, frame).is_forward());
    }
    for (side, frame) in [
        numbered(Client, ACK, a + 1, s + 1, b""),
        numbered(Server, ACK, s + 1, a + 1, b"data"),
        numbered(Server, SYN | ACK, s, a + 1, b""),
    ] {
        let verdict = lab.pass(side, frame).verdict;
        assert_eq!(verdict, Verdict::Drop(DropReason::ExpectationGone));
    }
    assert_eq!(lab.shared.totals().ports_used, 0);
}

#[test]
fn a_connection_that_was_reset_carries_nothing_more() {
    let mut lab = Lab::new();
    let mut wire = session(&mut lab);
    wire.dialogue(&mut lab, OPEN);
    let mut data = to_port(40_001, 50_000);
    assert!(data.connect(&mut lab));
    let reset = data.segment(Client, RST, b"").frame();
    assert!(lab.pass(Side::Outside, reset).is_forward());
    for from in [Client, Server] {
        let more = data.segment(from, ACK, b"more").frame();
        let verdict = lab.pass(data.side(from), more).verdict;
        assert_eq!(verdict, Verdict::Drop(DropReason::TcpState));
        let acknowledgment = data.segment(from, ACK, b"").frame();
        assert!(lab.pass(data.side(from), acknowledgment).is_forward());
    }
}
