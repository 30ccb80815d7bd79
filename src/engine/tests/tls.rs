//! Control connections that go TLS: the passive range, and what comes without one.

use super::*;

const RANGE: &str = "50000-50009";

fn lab(range: Option<&str>) -> Lab {
    let mut settings = Settings::default();
    if let Some(range) = range {
        settings.set("ftp.tls_ports", range).unwrap();
    }
    Lab::with(settings)
}

fn record(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = (body.len() as u16).to_be_bytes();
    [&[kind, 3, 3], length.as_slice(), body].concat()
}

fn client_hello() -> Vec<u8> {
    record(22, &[[1, 0, 0, 60].as_slice(), &[7; 60]].concat())
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Version {
    Tls12,
    Tls13,
}
use Version::{Tls12, Tls13};

fn server_hello(version: Version) -> Vec<u8> {
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.extend([0, 0x13, 1, 0]);
    match version {
        Tls12 => body.extend([0, 5, 0xff, 1, 0, 1, 0]),
        Tls13 => body.extend([0, 6, 0, 43, 0, 2, 3, 4]),
    }
    record(
        22,
        &[[2, 0, 0, body.len() as u8].as_slice(), &body].concat(),
    )
}

fn data(body: &[u8]) -> Vec<u8> {
    record(23, body)
}

/// An alert as an observer sees it.
fn close_notify(version: Version) -> Vec<u8> {
    match version {
        Tls12 => record(21, &[9; 24]),
        Tls13 => record(23, &[9; 19]),
    }
}

impl Wire {
    /// Bytes that must arrive as they are.
    fn tell(&mut self, lab: &mut Lab, from: Speaker, bytes: &[u8]) {
        let passed = self.say(lab, from, bytes);
        assert_eq!(passed.bytes(), bytes, "{:?}", passed.verdict);
    }

    /// From the greeting to both hellos, and an encrypted login.
    fn goes_tls(&mut self, lab: &mut Lab, version: Version) {
        assert!(self.connect(lab));
        self.dialogue(lab, &[(Server, "220 ready")]);
        self.auth(lab, version);
    }

    fn auth(&mut self, lab: &mut Lab, version: Version) {
        self.dialogue(lab, &[(Client, "AUTH TLS"), (Server, "234 go on")]);
        self.handshake(lab, version);
    }

    fn handshake(&mut self, lab: &mut Lab, version: Version) {
        self.tell(lab, Client, &client_hello());
        self.tell(lab, Server, &server_hello(version));
        for from in [Client, Server, Client, Server] {
            self.tell(lab, from, &data(b"user, password, welcome"));
        }
    }

    /// CCC, and TLS shut down by both ends.
    fn leaves_tls(&mut self, lab: &mut Lab, version: Version) {
        self.tell(lab, Client, &data(b"CCC"));
        self.tell(lab, Server, &data(b"200 clear"));
        self.tell(lab, Server, &close_notify(version));
        self.tell(lab, Client, &close_notify(version));
    }
}

fn tls_session(lab: &mut Lab) -> Wire {
    let mut wire = control(V4, Side::Outside);
    wire.goes_tls(lab, Tls13);
    wire
}

/// The data connection of V4's client to a port of its server.
fn to_port(source: u16, port: u16) -> Wire {
    Wire::new(&at(V4[0], source), &at(V4[1], port), Side::Outside)
}

fn reaches(lab: &mut Lab, source: u16, port: u16) -> bool {
    to_port(source, port).connect(lab)
}

/// Passes a SYN.
fn syn(lab: &mut Lab, wire: &Wire) -> Passed {
    let mut syn = wire.segment(Client, SYN, b"");
    syn.ack = 0;
    lab.pass(wire.side(Client), syn.frame())
}

fn is_told(lab: &Lab, words: &str) -> bool {
    lab.told().iter().any(|line| line.contains(words))
}

/// A11, CVE-2015-5361: a gateway that opened every port between the two once they spoke TLS.
#[test]
fn a11_tls_opens_the_named_range_and_no_other_port() {
    let mut lab = lab(Some(RANGE));
    let _wire = tls_session(&mut lab);
    for port in [22, 1024, 3306, 8080, 49_999, 50_010, 65_535] {
        let passed = syn(&mut lab, &to_port(40_001, port));
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
    assert!(!connects(
        &mut lab,
        "192.0.2.20:20",
        "192.0.2.10:50000",
        Side::Inside
    ));
    let mut tagged = to_port(40_001, 50_000).segment(Client, SYN, b"");
    tagged.ack = 0;
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
    assert!(is_told(
        &lab,
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
        let mut settings = Settings::default();
        settings.set("ftp.tls_ports", RANGE).unwrap();
        settings
            .set("conntrack.tcp_timeout_established", "100")
            .unwrap();
        let mut lab = Lab::with(settings);
        let wire = tls_session(&mut lab);
        let waiting = to_port(40_001, 50_001);
        assert!(syn(&mut lab, &waiting).is_forward());
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
            let late = waiting.segment(Server, SYN | ACK, b"");
            let late = Tcp {
                ack: late.ack + 1,
                ..late
            };
            let verdict = lab.pass(Side::Inside, late.frame()).verdict;
            assert_eq!(verdict, Verdict::Drop(DropReason::ExpectationGone), "{end}");
        }
        assert!(
            is_told(&lab, "closed passive range 50000-50009 of 192.0.2.20"),
            "{end}"
        );
        live.close_if(&mut lab, end != "silence");
        assert!(lab.shared.expectations.ranges().is_empty(), "{end}");
    }
}

impl Wire {
    fn close_if(&mut self, lab: &mut Lab, really: bool) {
        if really {
            self.close(lab);
        }
    }
}

#[test]
fn so_many_at_once_and_no_more() {
    let mut settings = Settings::default();
    settings.set("ftp.tls_ports", RANGE).unwrap();
    settings.set("ftp.tls_connections", "3").unwrap();
    let mut lab = Lab::with(settings);
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
    assert!(syn(&mut lab, &refused).is_forward());
    let mut rst = refused.segment(Server, RST | ACK, b"");
    (rst.seq, rst.ack) = (0, rst.ack + 1);
    assert!(lab.pass(Side::Inside, rst.frame()).is_forward());
    for source in 40_006..40_020 {
        assert!(
            syn(&mut lab, &to_port(source, 50_000)).is_forward(),
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
    let mut settings = Settings::default();
    settings.set("ftp.tls_ports", RANGE).unwrap();
    settings
        .set("conntrack.tcp_timeout_established", "100")
        .unwrap();
    let mut lab = Lab::with(settings);
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
fn without_a_range_the_client_learns_at_once_and_the_event_names_the_setting() {
    let mut lab = lab(None);
    let _wire = tls_session(&mut lab);
    let refused = to_port(40_001, 50_000);
    let passed = syn(&mut lab, &refused);
    assert_eq!(passed.verdict, Verdict::Drop(DropReason::TlsNoRange));
    let [(side, frame)] = passed.made.as_slice() else {
        panic!("{passed:?}");
    };
    assert_eq!(*side, Side::Outside);
    let (_, ip) = parsed(frame);
    let L4::Tcp(rst) = &ip.l4 else { panic!() };
    assert_eq!(rst.flags.0, RST | ACK);
    assert_eq!(SocketAddr::new(ip.src, rst.src_port), refused.server);
    assert_eq!(SocketAddr::new(ip.dst, rst.dst_port), refused.client);
    assert_eq!((rst.seq, rst.ack), (0, refused.next[0] + 1));
    let told = lab.told();
    let named = told.iter().filter(|line| {
        line.contains("set ftp.tls_ports=A-B (the server's passive range) or --ftp-server ADDR,")
    });
    assert_eq!(named.count(), 2, "{told:#?}");
    assert!(told.iter().any(|line| line.contains(
        "refused data connection 192.0.2.10:40001 to 192.0.2.20:50000: the session is TLS"
    )));
    // Told once; answered a few times a second.
    let answered = (0..50).filter(|n| !syn(&mut lab, &to_port(41_000 + n, 50_000)).made.is_empty());
    assert_eq!(answered.count(), 3);
    assert!(lab.events().is_empty());
    assert_eq!(lab.dropped(DropReason::TlsNoRange), 51);
}

#[test]
fn only_a_syn_of_a_tls_session_to_a_high_port_is_answered() {
    let mut lab = lab(None);
    let mut clear = control(V4, Side::Outside);
    clear.login(&mut lab);
    assert!(
        syn(&mut lab, &to_port(40_001, 50_000)).made.is_empty(),
        "in clear"
    );
    clear.close(&mut lab);
    let wire = tls_session(&mut lab);
    let is_answered = |lab: &mut Lab, from: &str, to: &str, side| {
        !syn(lab, &Wire::new(from, to, side)).made.is_empty()
    };
    assert!(!is_answered(
        &mut lab,
        "192.0.2.10:40001",
        "192.0.2.20:22",
        Side::Outside
    ));
    assert!(!is_answered(
        &mut lab,
        "192.0.2.11:40001",
        "192.0.2.20:50000",
        Side::Outside
    ));
    assert!(!is_answered(
        &mut lab,
        "192.0.2.10:40001",
        "192.0.2.20:50000",
        Side::Inside
    ));
    assert!(!is_answered(
        &mut lab,
        "192.0.2.20:20",
        "192.0.2.10:50000",
        Side::Inside
    ));
    for flags in [ACK, FIN, RST, SYN | ACK] {
        let segment = to_port(40_001, 50_000).segment(Client, flags, b"").frame();
        assert!(lab.pass(Side::Outside, segment).made.is_empty(), "{flags}");
    }
    assert!(is_answered(
        &mut lab,
        "192.0.2.10:40001",
        "192.0.2.20:50000",
        Side::Outside
    ));
    let fin = wire.segment(Client, FIN, b"").frame();
    assert!(lab.pass(Side::Outside, fin).is_forward());
    assert!(!is_answered(
        &mut lab,
        "192.0.2.10:40001",
        "192.0.2.20:50000",
        Side::Outside
    ));
}

#[test]
fn a_port_outside_the_range_is_refused_at_once_too() {
    let mut lab = lab(Some(RANGE));
    let _wire = tls_session(&mut lab);
    let passed = syn(&mut lab, &to_port(40_001, 50_010));
    assert_eq!(passed.verdict, Verdict::Drop(DropReason::TlsNoRange));
    assert_eq!(passed.made.len(), 1);
    assert!(is_told(&lab, "the port is outside ftp.tls_ports"));
}

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
        assert!(!connects(
            &mut lab,
            "192.0.2.20:20",
            "192.0.2.10:50000",
            Side::Inside
        ));
        assert!(is_told(
            &lab,
            "the client said more before the server agreed to TLS"
        ));
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
            is_told(
                &lab,
                "nothing will be opened any more: what should be TLS is not"
            ),
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
    assert!(is_told(&lab, "other means than TLS"));
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
fn after_ccc_ports_are_read_again_and_the_range_is_shut() {
    for version in [Tls12, Tls13] {
        let mut lab = lab(Some(RANGE));
        let mut wire = control(V4, Side::Outside);
        wire.goes_tls(&mut lab, version);
        wire.leaves_tls(&mut lab, version);
        wire.dialogue(&mut lab, &[(Client, "PASV")]);
        assert!(!reaches(&mut lab, 40_001, 50_001), "the range");
        wire.dialogue(&mut lab, &[(Server, "227 ok (192,0,2,20,195,80)")]);
        assert!(reaches(&mut lab, 40_001, 50_000), "{version:?}");
        assert!(!reaches(&mut lab, 40_001, 50_001), "the range");
        assert!(is_told(&lab, "back in clear text (CCC)"));
        // Active mode, at the server's answer: the login was not seen.
        wire.dialogue(&mut lab, &[(Client, "PORT 192,0,2,10,195,81")]);
        let (from, to) = ("192.0.2.20:20", "192.0.2.10:50001");
        assert!(
            !connects(&mut lab, from, to, Side::Inside),
            "not accepted yet"
        );
        wire.dialogue(&mut lab, &[(Server, "200 fine")]);
        assert!(connects(&mut lab, from, to, Side::Inside));
        // Bounces are refused again.
        let arrived = wire
            .say(&mut lab, Client, b"PORT 10,0,0,1,195,80\r\n")
            .bytes();
        assert!(arrived.starts_with(b"XXXX"), "{arrived:?}");
        // And it may go TLS again.
        wire.dialogue(&mut lab, &[(Server, "500 what?")]);
        wire.auth(&mut lab, version);
        assert!(reaches(&mut lab, 40_009, 50_005), "TLS again");
    }
}

#[test]
fn one_byte_in_each_segment_is_the_same_session() {
    for version in [Tls12, Tls13] {
        let mut lab = lab(Some(RANGE));
        let mut wire = control(V4, Side::Outside);
        assert!(wire.connect(&mut lab));
        let slowly = |wire: &mut Wire, lab: &mut Lab, from, bytes: &[u8]| {
            for byte in bytes {
                wire.tell(lab, from, &[*byte]);
            }
        };
        let line = b"227 Entering Passive Mode (192,0,2,20,195,90).\r\n";
        slowly(&mut wire, &mut lab, Server, b"220 ready\r\n");
        slowly(&mut wire, &mut lab, Client, b"AUTH TLS\r\n");
        slowly(&mut wire, &mut lab, Server, b"234 go on\r\n");
        slowly(&mut wire, &mut lab, Client, &client_hello());
        slowly(&mut wire, &mut lab, Server, &server_hello(version));
        assert!(reaches(&mut lab, 40_001, 50_000), "{version:?}");
        slowly(&mut wire, &mut lab, Client, &data(b"PASV\r\n"));
        slowly(&mut wire, &mut lab, Server, &data(line));
        assert!(!reaches(&mut lab, 40_001, 50_010), "{version:?}");
        slowly(&mut wire, &mut lab, Server, &close_notify(version));
        slowly(&mut wire, &mut lab, Client, &close_notify(version));
        slowly(&mut wire, &mut lab, Client, b"PASV\r\n");
        slowly(&mut wire, &mut lab, Server, line);
        assert!(reaches(&mut lab, 40_002, 50_010), "{version:?}");
    }
}

#[test]
fn text_right_behind_the_last_record_is_read_from_its_first_byte() {
    let mut lab = lab(None);
    let mut wire = control(V4, Side::Outside);
    wire.goes_tls(&mut lab, Tls12);
    wire.tell(&mut lab, Server, &close_notify(Tls12));
    let joined = [
        close_notify(Tls12).as_slice(),
        b"PORT 10,0,0,1,195,80\r\nPASV\r\n",
    ]
    .concat();
    let arrived = wire.say(&mut lab, Client, &joined).bytes();
    assert_eq!(arrived[..29], close_notify(Tls12));
    assert_eq!(&arrived[29..], b"XXXXXXXXXXXXXXXXXXXX\r\nPASV\r\n");
    wire.dialogue(
        &mut lab,
        &[
            (Server, "500 what?"),
            (Server, "227 ok (192,0,2,20,195,80)"),
        ],
    );
    assert!(reaches(&mut lab, 40_001, 50_000));
}

#[test]
fn a_227_inside_tls_opens_nothing() {
    let line = b"227 Entering Passive Mode (192,0,2,20,195,80).\r\n";
    for version in [Tls12, Tls13] {
        let mut lab = lab(None);
        let mut wire = control(V4, Side::Outside);
        wire.goes_tls(&mut lab, version);
        wire.tell(&mut lab, Client, &data(b"PASV\r\n"));
        wire.tell(&mut lab, Server, &data(line));
        // Alone in a segment, but in the middle of a record.
        let mut long = data(&[b'\n'; 100]);
        long.truncate(50);
        wire.tell(&mut lab, Server, &long);
        wire.tell(&mut lab, Server, line);
        wire.tell(&mut lab, Client, &data(b"PASV\r\n"));
        assert_eq!(lab.shared.totals().ports_opened, 0);
        assert!(!reaches(&mut lab, 40_001, 50_000));
    }
}

#[test]
fn clear_text_that_is_not_ccc_opens_nothing() {
    let pasv = b"PASV\r\n".as_slice();
    let reply = b"227 ok (192,0,2,20,195,80)\r\n".as_slice();
    let notify = close_notify(Tls12);
    let more = data(&[b'x'; 100]);
    let half = &more[..6];
    let stories: &[&[(Speaker, &[u8])]] = &[
        // TLS 1.2 without any close_notify.
        &[(Client, pasv), (Server, reply)],
        // Inside a record; bytes that begin neither a record nor a line.
        &[
            (Server, &notify),
            (Client, half),
            (Client, pasv),
            (Server, reply),
        ],
        &[
            (Server, &notify),
            (Client, b"\r\nPASV\r\n"),
            (Server, reply),
        ],
        &[
            (Server, &notify),
            (Client, b"\xff\xf4PASV\r\n"),
            (Server, reply),
        ],
        &[
            (Server, &notify),
            (Client, pasv),
            (Server, b" 227 x\r\n"),
            (Server, reply),
        ],
        // One end goes on in TLS.
        &[
            (Server, &notify),
            (Client, pasv),
            (Server, &more),
            (Server, &more),
            (Server, reply),
        ],
        &[
            (Server, &notify),
            (Client, pasv),
            (Server, half),
            (Server, reply),
        ],
        &[
            (Client, &notify),
            (Server, reply),
            (Client, &more),
            (Client, &more),
            (Client, pasv),
        ],
    ];
    for (n, story) in stories.iter().enumerate() {
        let mut lab = lab(None);
        let mut wire = control(V4, Side::Outside);
        wire.goes_tls(&mut lab, Tls12);
        for (from, bytes) in *story {
            wire.tell(&mut lab, *from, bytes);
        }
        wire.say(&mut lab, Server, reply);
        assert_eq!(lab.shared.totals().ports_opened, 0, "{n}");
        assert!(!reaches(&mut lab, 40_001, 50_000), "{n}");
    }
}

#[test]
fn a_client_that_does_not_answer_close_notify_is_read() {
    let mut lab = lab(None);
    let mut wire = control(V4, Side::Outside);
    wire.goes_tls(&mut lab, Tls12);
    wire.tell(&mut lab, Server, &close_notify(Tls12));
    wire.dialogue(
        &mut lab,
        &[(Client, "EPSV"), (Server, "229 ok (|||50000|)")],
    );
    assert!(reaches(&mut lab, 40_001, 50_000));
}

#[test]
fn a_close_notify_on_its_way_is_no_contradiction() {
    let mut lab = lab(None);
    let mut wire = control(V4, Side::Outside);
    wire.goes_tls(&mut lab, Tls12);
    wire.tell(&mut lab, Client, &close_notify(Tls12));
    wire.tell(&mut lab, Client, b"PASV\r\n");
    wire.tell(&mut lab, Server, &close_notify(Tls12));
    wire.dialogue(&mut lab, &[(Server, "227 ok (192,0,2,20,195,80)")]);
    assert!(reaches(&mut lab, 40_001, 50_000));
}

#[test]
fn implicit_tls_begins_with_the_clients_hello() {
    let mut settings = Settings::default();
    settings.set("ftp.tls_ports", RANGE).unwrap();
    settings.set("ftp.implicit_tls", "yes").unwrap();
    let mut lab = Lab::with(settings.clone());
    let mut wire = control(V4, Side::Outside);
    assert!(wire.connect(&mut lab));
    assert!(!reaches(&mut lab, 40_001, 50_000), "before");
    wire.handshake(&mut lab, Tls13);
    assert!(reaches(&mut lab, 40_001, 50_000));
    // A greeting in clear, a client in clear.
    for (from, line) in [(Server, "220 ready"), (Client, "USER joe")] {
        let mut lab = Lab::with(settings.clone());
        let mut wire = control(V4, Side::Outside);
        assert!(wire.connect(&mut lab));
        wire.dialogue(&mut lab, &[(from, line)]);
        wire.tell(&mut lab, Client, &client_hello());
        wire.tell(&mut lab, Server, &server_hello(Tls13));
        assert!(!reaches(&mut lab, 40_001, 50_000));
        assert!(is_told(&lab, "what should be TLS is not"));
    }
    // Without a range it says so.
    let mut settings = Settings::default();
    settings.set("ftp.implicit_tls", "yes").unwrap();
    let mut lab = Lab::with(settings);
    let mut wire = control(V4, Side::Outside);
    assert!(wire.connect(&mut lab));
    wire.handshake(&mut lab, Tls12);
    assert!(is_told(&lab, "set ftp.tls_ports=A-B"));
}

#[test]
fn without_the_setting_a_hello_in_place_of_a_greeting_is_not_ftp() {
    let mut lab = lab(Some(RANGE));
    let mut wire = control(V4, Side::Outside);
    assert!(wire.connect(&mut lab));
    wire.handshake(&mut lab, Tls13);
    assert!(!reaches(&mut lab, 40_001, 50_000));
    assert!(is_told(&lab, "not FTP"));
}

#[test]
fn a_new_connection_on_the_same_ports_has_no_range() {
    let mut lab = lab(Some(RANGE));
    let mut wire = tls_session(&mut lab);
    wire.next = [500_000, 900_000];
    let reopened = syn(&mut lab, &wire);
    assert!(reopened.is_forward());
    *wire.next(Client) += 1;
    let answer = wire.segment(Server, SYN | ACK, b"").frame();
    assert!(lab.pass(Side::Inside, answer).is_forward());
    assert!(!reaches(&mut lab, 40_001, 50_000));
}
