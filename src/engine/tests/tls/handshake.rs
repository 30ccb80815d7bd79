//! How a connection goes TLS, and what is not TLS.

use super::*;

#[test]
fn what_is_said_behind_auth_and_before_234_opens_nothing() {
    for pipelined in [
        "PASV\r\n",
        "PORT 192,0,2,10,195,80\r\n",
        "PORT 192,0",
        "\r\n",
    ] {
        let mut lab = lab(Some(RANGE));
        let mut wire = session(&mut lab);
        wire.dialogue(&mut lab, &[(Client, "AUTH TLS")]);
        wire.tell(&mut lab, Client, pipelined.as_bytes());
        wire.dialogue(&mut lab, &[(Server, "234 go on")]);
        wire.tell(
            &mut lab,
            Server,
            b"227 ok (192,0,2,20,195,80)\r\n200 fine\r\n",
        );
        wire.tell(&mut lab, Client, &client_hello());
        wire.tell(&mut lab, Server, &server_hello(Tls12));
        assert_eq!(lab.shared.totals().ports_opened, 0, "{pipelined}");
        assert!(!reaches(&mut lab, 40_001, 50_000), "{pipelined}");
        assert!(!calls_back(&mut lab, 50_000));
        assert!(lab.is_told("the client said more before the server agreed to TLS"));
    }
}

#[test]
fn what_is_not_tls_opens_nothing() {
    let application = data(b"x");
    let certificate = record(22, &[11, 0, 0, 4, 1, 2, 3, 4]);
    let hello = client_hello();
    let server = server_hello(Tls13);
    let stories: &[&[(Speaker, &[u8])]] = &[
        // An SSLv2 hello, clear text, a record without a hello, from the client.
        &[(Client, b"\x80\x2e\x01\x03\x01"), (Server, &server)],
        &[(Client, b"PASV\r\n"), (Server, &server)],
        &[(Client, &application), (Server, &server)],
        &[(Client, &server), (Server, &server)],
        // The server spoke first, or no hello, or in clear.
        &[(Server, &server), (Client, &hello)],
        &[(Client, &hello), (Server, &application), (Server, &server)],
        &[(Client, &hello), (Server, &certificate), (Server, &server)],
        &[
            (Client, &hello),
            (Server, b"227 ok (192,0,2,20,195,80)\r\n"),
            (Server, &server),
        ],
        &[(Client, &hello), (Server, &hello), (Server, &server)],
    ];
    for (n, story) in stories.iter().enumerate() {
        let mut lab = lab(Some(RANGE));
        let mut wire = session(&mut lab);
        wire.dialogue(&mut lab, &[(Client, "AUTH TLS"), (Server, "234 go on")]);
        for (from, bytes) in *story {
            wire.tell(&mut lab, *from, bytes);
        }
        assert!(!reaches(&mut lab, 40_001, 50_000), "{n}");
        assert!(
            lab.is_told("nothing will be opened any more: what should be TLS is not"),
            "{n}"
        );
    }
}

#[test]
fn a_234_that_answers_no_auth_is_no_tls() {
    // In the greeting, as the answer to another command, in a text of many lines.
    let mut lab = lab(Some(RANGE));
    let mut wire = control(V4, Side::Outside);
    assert!(wire.connect(&mut lab));
    wire.dialogue(
        &mut lab,
        &[
            (Server, "220-hello"),
            (Server, "234 go on"),
            (Server, "220 ready"),
            (Client, "NOOP"),
            (Server, "234 go on"),
            (Client, "AUTH TLS"),
            (Server, "504-not"),
            (Server, "234 go on"),
            (Server, "504 here"),
            (Client, "USER joe"),
            (Server, "234 go on"),
        ],
    );
    wire.tell(&mut lab, Client, &client_hello());
    wire.tell(&mut lab, Server, &server_hello(Tls13));
    assert!(!reaches(&mut lab, 40_001, 50_000));
}

#[test]
fn a_session_protected_otherwise_opens_nothing_and_still_refuses() {
    let mut lab = lab(Some(RANGE));
    let mut wire = session(&mut lab);
    wire.dialogue(
        &mut lab,
        &[
            (Client, "AUTH GSSAPI"),
            (Server, "334 ADAT must follow"),
            (Client, "ADAT YIIB"),
            (Server, "235 ADAT=YGgG"),
            (Client, "PASV"),
            (Server, "227 ok (192,0,2,20,195,80)"),
        ],
    );
    assert_eq!(lab.shared.totals().ports_opened, 0);
    assert!(lab.is_told("other means than TLS"));
    let arrived = wire
        .say(&mut lab, Client, b"PORT 10,0,0,1,195,80\r\n")
        .bytes();
    assert!(arrived.starts_with(b"XXXX"), "{arrived:?}");
}

#[test]
fn a_gap_and_a_retransmission_behind_tls() {
    let mut lab = lab(Some(RANGE));
    let mut wire = control(V4, Side::Outside);
    assert!(wire.connect(&mut lab));
    wire.dialogue(
        &mut lab,
        &[
            (Server, "220 ready"),
            (Client, "AUTH TLS"),
            (Server, "234 go on"),
        ],
    );
    wire.tell(&mut lab, Client, &client_hello());
    let hello = server_hello(Tls13);
    let (first, second) = hello.split_at(20);
    let early = wire.segment(Server, 0, first);
    *wire.next(Server) = wire.next[1].wrapping_add(20);
    assert_eq!(wire.say(&mut lab, Server, second).verdict, Verdict::Held);
    assert!(!reaches(&mut lab, 40_001, 50_000));
    assert_eq!(lab.pass(Side::Inside, early.frame()).bytes(), hello);
    assert!(reaches(&mut lab, 40_001, 50_000));
    // The same again passes, other bytes in its place do not.
    assert_eq!(lab.pass(Side::Inside, early.frame()).bytes(), first);
    let forged = Tcp {
        payload: vec![b'2'; 20],
        ..early
    };
    let verdict = lab.pass(Side::Inside, forged.frame()).verdict;
    assert_eq!(verdict, Verdict::Drop(DropReason::HelperRewrite));
}

#[test]
fn a_long_tls_session_keeps_no_bytes() {
    let mut lab = lab(Some(RANGE));
    let mut wire = tls_session(&mut lab);
    // 1.6 MB each way, acknowledged as it goes: nothing is dropped for want of room.
    for _ in 0..1200 {
        wire.tell(&mut lab, Server, &data(&[9; 1400]));
        wire.tell(&mut lab, Client, &data(&[9; 1400]));
    }
    assert!(reaches(&mut lab, 40_001, 50_000));
}

#[test]
fn an_urgent_byte_is_none_behind_tls() {
    let mut lab = lab(Some(RANGE));
    let wire = tls_session(&mut lab);
    let mut segment = wire.segment(Client, TcpFlags::URG, &data(&[0xff, 0xf4, 0xff, 0xf2]));
    segment.urgent = 9;
    let passed = lab.pass(Side::Outside, segment.frame());
    let (_, ip) = parsed(&passed.frames[0]);
    assert!(matches!(ip.l4, L4::Tcp(s) if !s.flags.has(TcpFlags::URG)));
}

#[test]
fn implicit_tls_begins_with_the_clients_hello() {
    let settings = [("ftp.tls_ports", RANGE), ("ftp.implicit_tls", "yes")];
    let mut lab = Lab::set(&settings);
    let mut wire = control(V4, Side::Outside);
    assert!(wire.connect(&mut lab));
    assert!(!reaches(&mut lab, 40_001, 50_000), "before");
    wire.handshake(&mut lab, Tls13);
    assert!(reaches(&mut lab, 40_001, 50_000));
    // A greeting in clear, a client in clear.
    for (from, line) in [(Server, "220 ready"), (Client, "USER joe")] {
        let mut lab = Lab::set(&settings);
        let mut wire = control(V4, Side::Outside);
        assert!(wire.connect(&mut lab));
        wire.dialogue(&mut lab, &[(from, line)]);
        wire.tell(&mut lab, Client, &client_hello());
        wire.tell(&mut lab, Server, &server_hello(Tls13));
        assert!(!reaches(&mut lab, 40_001, 50_000));
        assert!(lab.is_told("what should be TLS is not"));
    }
    // Without a range it says so.
    let mut lab = Lab::set(&[("ftp.implicit_tls", "yes")]);
    let mut wire = control(V4, Side::Outside);
    assert!(wire.connect(&mut lab));
    wire.handshake(&mut lab, Tls12);
    assert!(lab.is_told("set ftp.tls_ports=A-B"));
}

#[test]
fn without_the_setting_a_hello_in_place_of_a_greeting_is_not_ftp() {
    let mut lab = lab(Some(RANGE));
    let mut wire = control(V4, Side::Outside);
    assert!(wire.connect(&mut lab));
    wire.handshake(&mut lab, Tls13);
    assert!(!reaches(&mut lab, 40_001, 50_000));
    assert!(lab.is_told("not FTP"));
}
