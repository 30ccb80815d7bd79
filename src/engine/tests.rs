mod ftp_audit;
mod ftp_replies;
mod ftp_settings;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::conntrack::Time;
use crate::observe::{Counters, DropReason, Event, EventKind, Snapshot};
use crate::rules::{PortNames, Ruleset};
use crate::wire::testing::{self, Tcp};
use crate::wire::{Ip, L4, Meta, Packet, Side, TcpFlags, checksum};

const SYN: u8 = TcpFlags::SYN;
const ACK: u8 = TcpFlags::ACK;
const FIN: u8 = TcpFlags::FIN | TcpFlags::ACK;
const RST: u8 = TcpFlags::RST;

/// Nothing passes but FTP to the server outside the rules' default, and what the helper opens.
const RULES: &str = r#"
table bridge test {
  ct helper ftp { type "ftp" protocol tcp; }
  chain forward {
    type filter hook forward priority 0; policy drop;
    ether type arp accept
    icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept
    ct state invalid drop
    ct state established,related accept
    tcp dport 21 ct state new ct helper set "ftp" accept
    udp dport 53 accept
    icmp type echo-request accept
  }
}
"#;

struct Lab {
    shared: Arc<Shared>,
    engine: Engine,
    counters: Arc<Counters>,
    now: Time,
}

/// What became of a frame: what left at the far side, in order.
#[derive(Debug)]
struct Passed {
    verdict: Verdict,
    frames: Vec<Vec<u8>>,
    /// What lotus made itself, and where it leaves.
    made: Vec<(Side, Vec<u8>)>,
}

impl Lab {
    fn new() -> Lab {
        Lab::with(Settings::default())
    }

    fn with(settings: Settings) -> Lab {
        let names = PortNames {
            inside: "in".into(),
            outside: "out".into(),
        };
        let rules = Ruleset::parse("test.nft", RULES, &names).expect("good rules");
        let shared = Shared::new(rules, settings);
        let counters = Arc::new(Counters::default());
        let engine = Engine::new(Arc::clone(&shared), Arc::clone(&counters));
        Lab {
            shared,
            engine,
            counters,
            now: Time::from_nanos(1_000_000),
        }
    }

    /// Sends a frame through and checks the law.
    fn pass(&mut self, side: Side, mut frame: Vec<u8>) -> Passed {
        let mut out = Out::default();
        let meta = Meta::default();
        let verdict = self
            .engine
            .process(side, &mut frame, &meta, self.now, &mut out);
        let mut frames = Vec::new();
        if verdict == Verdict::Forward {
            self.counters.forwarded(side.other().index(), frame.len());
            frames.push(frame);
        }
        let mut made = Vec::new();
        for sent in out.frames {
            if sent.origin == Origin::Generated {
                made.push((sent.to, sent.frame.frame().to_vec()));
                continue;
            }
            assert_eq!(sent.to, side.other());
            let bytes = sent.frame.frame().len();
            self.counters.unheld(bytes);
            self.counters.forwarded(side.other().index(), bytes);
            frames.push(sent.frame.frame().to_vec());
        }
        for frame in frames.iter().chain(made.iter().map(|(_, frame)| frame)) {
            assert!(is_right(frame), "a frame with a wrong checksum left");
        }
        assert_eq!(self.counts().unaccounted_frames(), 0);
        Passed {
            verdict,
            frames,
            made,
        }
    }

    fn counts(&self) -> Snapshot {
        Snapshot::of([&*self.counters])
    }

    fn dropped(&self, reason: DropReason) -> u64 {
        self.counts().dropped_for(reason)
    }

    fn later(&mut self, seconds: u64) {
        self.now = self.now + Duration::from_secs(seconds);
    }

    fn tick(&mut self) {
        self.shared
            .tick(self.now, self.shared.parts(), &self.counters);
        assert_eq!(self.counts().unaccounted_frames(), 0);
    }

    fn events(&self) -> Vec<Event> {
        std::iter::from_fn(|| self.shared.events().pop())
            .map(|stamped| stamped.event)
            .collect()
    }

    fn told(&self) -> Vec<String> {
        let events = self.events();
        let told = events.iter().filter(|e| !e.kind.is_for_records_only());
        told.map(ToString::to_string).collect()
    }
}

fn is_right(frame: &[u8]) -> bool {
    let packet = crate::wire::parse(frame).expect("a good frame");
    packet
        .ip
        .filter(|ip| ip.fragment.is_none() && ip.l4 != L4::Other)
        .is_none_or(|ip| checksum::transport_is_right(frame, &ip))
}

fn parsed(frame: &[u8]) -> (Packet, Ip) {
    let packet = crate::wire::parse(frame).expect("a good frame");
    let ip = packet.ip.clone().expect("IP");
    (packet, ip)
}

fn payload(frame: &[u8]) -> Vec<u8> {
    let (_, ip) = parsed(frame);
    frame[ip.payload()].to_vec()
}

impl Passed {
    fn is_forward(&self) -> bool {
        self.verdict == Verdict::Forward
    }

    /// All payloads that left, joined.
    fn bytes(&self) -> Vec<u8> {
        self.frames
            .iter()
            .flat_map(|frame| payload(frame))
            .collect()
    }
}

/// A TCP connection with hand-made segments.
#[derive(Clone)]
struct Wire {
    client: SocketAddr,
    server: SocketAddr,
    client_side: Side,
    /// Next sequence number of client and server.
    next: [u32; 2],
}

#[derive(Clone, Copy, PartialEq)]
enum Speaker {
    Client,
    Server,
}
use Speaker::{Client, Server};

impl Wire {
    fn new(client: &str, server: &str, client_side: Side) -> Wire {
        let (client, server) = (client.parse().unwrap(), server.parse().unwrap());
        Wire {
            client,
            server,
            client_side,
            next: [1000, u32::MAX - 20],
        }
    }

    fn segment(&self, from: Speaker, flags: u8, payload: &[u8]) -> Tcp {
        let [client, server] = self.next;
        let tcp = match from {
            Client => Tcp::new(self.client, self.server, flags, client, server),
            Server => Tcp::new(self.server, self.client, flags, server, client),
        };
        if payload.is_empty() {
            tcp
        } else {
            tcp.data(payload)
        }
    }

    fn side(&self, from: Speaker) -> Side {
        if from == Client {
            self.client_side
        } else {
            self.client_side.other()
        }
    }

    fn next(&mut self, from: Speaker) -> &mut u32 {
        &mut self.next[if from == Client { 0 } else { 1 }]
    }

    fn connect(&mut self, lab: &mut Lab) -> bool {
        let mut syn = self.segment(Client, SYN, b"");
        syn.ack = 0;
        if !lab.pass(self.side(Client), syn.frame()).is_forward() {
            return false;
        }
        *self.next(Client) += 1;
        let answer = self.segment(Server, SYN | ACK, b"");
        if !lab.pass(self.side(Server), answer.frame()).is_forward() {
            return false;
        }
        *self.next(Server) = self.next(Server).wrapping_add(1);
        lab.pass(self.side(Client), self.segment(Client, ACK, b"").frame())
            .is_forward()
    }

    /// Sends bytes in one segment; they count as sent only if they were not dropped.
    fn say(&mut self, lab: &mut Lab, from: Speaker, bytes: &[u8]) -> Passed {
        let passed = lab.pass(self.side(from), self.segment(from, 0, bytes).frame());
        if !matches!(passed.verdict, Verdict::Drop(_)) {
            *self.next(from) = self.next(from).wrapping_add(bytes.len() as u32);
        }
        passed
    }

    fn dialogue(&mut self, lab: &mut Lab, lines: &[(Speaker, &str)]) {
        for (from, line) in lines {
            let bytes = [line.as_bytes(), b"\r\n"].concat();
            let passed = self.say(lab, *from, &bytes);
            assert_eq!(passed.bytes(), bytes, "{line}: {:?}", passed.verdict);
        }
    }

    fn login(&mut self, lab: &mut Lab) {
        assert!(self.connect(lab));
        self.log_in(lab);
    }

    /// On a connection that is open.
    fn log_in(&mut self, lab: &mut Lab) {
        self.dialogue(
            lab,
            &[
                (Server, "220 ready"),
                (Client, "USER joe"),
                (Server, "331 password?"),
                (Client, "PASS secret"),
                (Server, "230-welcome"),
                (Server, " 227 (192,0,2,20,200,200)"),
                (Server, "230 done"),
            ],
        );
    }

    fn close(&mut self, lab: &mut Lab) {
        for from in [Client, Server] {
            let fin = self.segment(from, FIN, b"").frame();
            assert!(lab.pass(self.side(from), fin).is_forward());
            *self.next(from) = self.next(from).wrapping_add(1);
        }
        assert!(
            lab.pass(self.side(Client), self.segment(Client, ACK, b"").frame())
                .is_forward()
        );
    }
}

const V4: [&str; 2] = ["192.0.2.10", "192.0.2.20"];
const V6: [&str; 2] = ["2001:db8::10", "2001:db8::20"];

fn at(host: &str, port: u16) -> String {
    SocketAddr::new(host.parse::<IpAddr>().unwrap(), port).to_string()
}

fn control(hosts: [&str; 2], client_side: Side) -> Wire {
    Wire::new(&at(hosts[0], 40_000), &at(hosts[1], 21), client_side)
}

/// A session that is logged in, client outside.
fn session(lab: &mut Lab) -> Wire {
    let mut wire = control(V4, Side::Outside);
    wire.login(lab);
    wire
}

/// Whether a connection can be made.
fn connects(lab: &mut Lab, from: &str, to: &str, side: Side) -> bool {
    Wire::new(from, to, side).connect(lab)
}

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
fn a_session_tells_what_happened() {
    let mut lab = Lab::new();
    let mut wire = session(&mut lab);
    wire.dialogue(
        &mut lab,
        &[(Client, "PASV"), (Server, "227 ok (192,0,2,20,195,80)")],
    );
    let mut data = Wire::new("192.0.2.10:40001", "192.0.2.20:50000", Side::Outside);
    assert!(data.connect(&mut lab));
    assert!(data.say(&mut lab, Server, b"a file").is_forward());
    data.close(&mut lab);
    wire.dialogue(
        &mut lab,
        &[(Client, "PASV"), (Server, "227 ok (192,0,2,20,195,81)")],
    );
    wire.close(&mut lab);
    assert_eq!(
        lab.told(),
        [
            "ftp[1] session: client 192.0.2.10:40000 to server 192.0.2.20:21 (server inside)",
            "ftp[1] logged in as 'joe'",
            "ftp[1] opened port 50000: 192.0.2.10 may connect to 192.0.2.20:50000 once within 60 s \
         (PASV)",
            "ftp[1] used port 50000: 192.0.2.10:40001 connected to 192.0.2.20:50000 (PASV)",
            "ftp[1] data connection 192.0.2.10:40001 to 192.0.2.20:50000 ended: 0 bytes sent, \
         6 bytes received by 192.0.2.10",
            "ftp[1] opened port 50001: 192.0.2.10 may connect to 192.0.2.20:50001 once within 60 s \
         (PASV)",
            "ftp[1] closed port 50001 of 192.0.2.20 unused: the control connection ended (PASV)",
            "ftp[1] closed: both ends said goodbye; ports opened 2, used 1; commands refused 0",
        ]
    );
}

#[test]
fn a_bounce_is_made_unreadable_and_stays_so_when_sent_again() {
    let mut lab = Lab::new();
    let mut wire = session(&mut lab);
    let line = b"PORT 10,0,0,1,195,80\r\n";
    let again = wire.segment(Client, 0, line);
    let expected = b"XXXXXXXXXXXXXXXXXXXX\r\n".to_vec();
    assert_eq!(wire.say(&mut lab, Client, line).bytes(), expected);
    assert_eq!(lab.pass(Side::Outside, again.frame()).bytes(), expected);
    // Cut otherwise, too.
    let mut part = again.clone();
    part.seq += 3;
    part.payload = line[3..9].to_vec();
    assert_eq!(lab.pass(Side::Outside, part.frame()).bytes(), b"XXXXXX");
    wire.dialogue(
        &mut lab,
        &[(Server, "500 what?"), (Client, "NOOP"), (Server, "200 ok")],
    );
    assert_eq!(lab.shared.totals().refused, 1);
    assert!(!connects(
        &mut lab,
        "192.0.2.20:20",
        "10.0.0.1:50000",
        Side::Inside
    ));
}

#[test]
fn every_cut_of_a_line_is_the_same_line() {
    let line = b"PORT 192,0,2,10,195,80\r\n";
    for cut in 1..line.len() {
        let mut lab = Lab::new();
        let mut wire = session(&mut lab);
        wire.say(&mut lab, Client, &line[..cut]);
        assert_eq!(lab.shared.totals().expectations, 0);
        wire.say(&mut lab, Client, &line[cut..]);
        assert!(
            connects(&mut lab, "192.0.2.20:20", "192.0.2.10:50000", Side::Inside),
            "{cut}"
        );
    }
    let bounce = b"PORT 192,0,2,11,195,80\r\n";
    for cut in 1..bounce.len() {
        let mut lab = Lab::new();
        let mut wire = session(&mut lab);
        let mut arrived = wire.say(&mut lab, Client, &bounce[..cut]).bytes();
        arrived.extend(wire.say(&mut lab, Client, &bounce[cut..]).bytes());
        assert!(
            !arrived.windows(3).any(|w| w == b",11"),
            "{cut}: {arrived:?}"
        );
        assert!(arrived.ends_with(b"XXXX\r\n"), "{cut}: {arrived:?}");
        assert_eq!(lab.shared.totals().expectations, 0);
    }
}

#[test]
fn what_is_past_a_gap_is_held_and_leaves_in_order() {
    let mut lab = Lab::new();
    let mut wire = session(&mut lab);
    let first = wire.segment(Client, 0, b"PORT 192,0,2,").frame();
    *wire.next(Client) += 13;
    let second = wire.segment(Client, 0, b"10,195,80\r\n").frame();
    assert_eq!(
        lab.pass(Side::Outside, second.clone()).verdict,
        Verdict::Held
    );
    assert_eq!(lab.counts().held.frames, 1);
    assert!(
        matches!(lab.pass(Side::Outside, second).verdict, Verdict::Drop(_)),
        "held already"
    );
    let passed = lab.pass(Side::Outside, first);
    assert_eq!(passed.bytes(), b"PORT 192,0,2,10,195,80\r\n");
    assert_eq!((passed.frames.len(), lab.counts().held.frames), (2, 0));
    assert_eq!(lab.shared.totals().expectations, 1);
}

#[test]
fn what_is_held_at_the_end_is_dropped_and_counted() {
    let mut lab = Lab::new();
    let mut wire = session(&mut lab);
    *wire.next(Client) += 5;
    let ahead = wire.segment(Client, 0, b"x\r\n").frame();
    assert_eq!(lab.pass(Side::Outside, ahead).verdict, Verdict::Held);
    wire.next[0] -= 5;
    assert!(
        lab.pass(Side::Inside, wire.segment(Server, RST, b"").frame())
            .is_forward()
    );
    assert_eq!(lab.counts().held.frames, 0);
    assert_eq!(lab.dropped(DropReason::HelperHeld), 1);
}

#[test]
fn a_changed_retransmission_is_dropped() {
    let mut lab = Lab::new();
    let mut wire = session(&mut lab);
    let mut other = wire.segment(Client, 0, b"PORT 192,0,2,10,195,81\r\n");
    wire.say(&mut lab, Client, b"PORT 192,0,2,10,195,80\r\n");
    let verdict = lab.pass(Side::Outside, other.frame()).verdict;
    assert_eq!(verdict, Verdict::Drop(DropReason::HelperRewrite));
    // Also when it brings something new behind.
    other.payload = b"PORT 192,0,2,10,195,81\r\nNOOP\r\n".to_vec();
    let verdict = lab.pass(Side::Outside, other.frame()).verdict;
    assert_eq!(verdict, Verdict::Drop(DropReason::HelperRewrite));
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
    assert!(!connects(
        &mut lab,
        "192.0.2.10:40001",
        "192.0.2.20:50000",
        Side::Outside
    ));
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
fn a_refusal_by_the_server_shuts_the_port() {
    let mut lab = Lab::new();
    let mut wire = session(&mut lab);
    wire.dialogue(&mut lab, &[(Client, "PORT 192,0,2,10,195,80")]);
    assert_eq!(lab.shared.totals().expectations, 1);
    wire.dialogue(&mut lab, &[(Server, "500 not here")]);
    assert_eq!(lab.shared.totals().expectations, 0);
    assert!(!connects(
        &mut lab,
        "192.0.2.20:20",
        "192.0.2.10:50000",
        Side::Inside
    ));
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
fn a_port_is_shut_after_a_minute_and_with_the_session() {
    let mut lab = Lab::new();
    let mut wire = session(&mut lab);
    wire.dialogue(
        &mut lab,
        &[(Client, "PASV"), (Server, "227 ok (192,0,2,20,195,80)")],
    );
    lab.later(61);
    assert!(!connects(
        &mut lab,
        "192.0.2.10:40001",
        "192.0.2.20:50000",
        Side::Outside
    ));
    lab.tick();
    assert_eq!(lab.shared.totals().expectations, 0);
    assert!(
        lab.told()
            .iter()
            .any(|line| line.contains("nobody used it in time"))
    );

    wire.dialogue(
        &mut lab,
        &[(Client, "PASV"), (Server, "227 ok (192,0,2,20,195,80)")],
    );
    let fin = wire.segment(Client, FIN, b"").frame();
    assert!(lab.pass(Side::Outside, fin).is_forward());
    assert_eq!(lab.shared.totals().expectations, 0);
}

#[test]
fn a_refused_data_connection_may_be_tried_again() {
    let mut lab = Lab::new();
    let mut wire = session(&mut lab);
    wire.dialogue(
        &mut lab,
        &[(Client, "PASV"), (Server, "227 ok (192,0,2,20,195,80)")],
    );
    for port in [40_001, 40_002] {
        let data = Wire::new(&at(V4[0], port), "192.0.2.20:50000", Side::Outside);
        let mut syn = data.segment(Client, SYN, b"");
        syn.ack = 0;
        assert!(lab.pass(Side::Outside, syn.frame()).is_forward());
        assert!(
            lab.pass(Side::Outside, syn.frame()).is_forward(),
            "sent again"
        );
        let mut rst = data.segment(Server, RST | ACK, b"");
        (rst.seq, rst.ack) = (0, 1001);
        assert!(lab.pass(Side::Inside, rst.frame()).is_forward());
    }
    assert!(connects(
        &mut lab,
        "192.0.2.10:40002",
        "192.0.2.20:50000",
        Side::Outside
    ));
}

#[test]
fn a_newer_syn_takes_the_place_of_an_unanswered_one() {
    let mut lab = Lab::new();
    let mut wire = session(&mut lab);
    wire.dialogue(
        &mut lab,
        &[(Client, "PASV"), (Server, "227 ok (192,0,2,20,195,80)")],
    );
    let old = Wire::new("192.0.2.10:40001", "192.0.2.20:50000", Side::Outside);
    assert!(
        lab.pass(Side::Outside, old.segment(Client, SYN, b"").frame())
            .is_forward()
    );
    assert!(connects(
        &mut lab,
        "192.0.2.10:40002",
        "192.0.2.20:50000",
        Side::Outside
    ));
    let mut late = old.segment(Server, SYN | ACK, b"");
    late.ack = 1001;
    assert!(!lab.pass(Side::Inside, late.frame()).is_forward());
}

#[test]
fn a_reset_that_the_server_ignores_leaves_no_port_open() {
    for (flags, ack, passes) in [(RST, 0, true), (RST | ACK, 0, true), (RST | ACK, 77, false)] {
        let mut lab = Lab::new();
        let mut wire = session(&mut lab);
        wire.dialogue(
            &mut lab,
            &[(Client, "PASV"), (Server, "227 ok (192,0,2,20,195,80)")],
        );
        let mut data = Wire::new("192.0.2.10:40001", "192.0.2.20:50000", Side::Outside);
        let mut syn = data.segment(Client, SYN, b"");
        syn.ack = 0;
        assert!(lab.pass(Side::Outside, syn.frame()).is_forward());
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
fn a_flow_belongs_to_its_sides() {
    let mut lab = Lab::new();
    let wire = session(&mut lab);
    let stolen = wire.segment(Client, 0, b"QUIT\r\n").frame();
    let verdict = lab.pass(Side::Inside, stolen).verdict;
    assert_eq!(verdict, Verdict::Drop(DropReason::WrongSide));
}

#[test]
fn a_wrong_checksum_moves_nothing() {
    let mut lab = Lab::new();
    let mut wire = session(&mut lab);
    let mut frame = wire
        .segment(Client, 0, b"PORT 192,0,2,10,195,80\r\n")
        .frame();
    let last = frame.len() - 5;
    frame[last] ^= 1;
    let verdict = lab.pass_unchecked(Side::Outside, frame);
    assert_eq!(verdict, Verdict::Drop(DropReason::ChecksumBad));
    wire.dialogue(&mut lab, &[(Client, "PORT 192,0,2,10,195,80")]);
}

impl Lab {
    fn pass_unchecked(&mut self, side: Side, mut frame: Vec<u8>) -> Verdict {
        let (meta, now) = (Meta::default(), self.now);
        self.engine
            .process(side, &mut frame, &meta, now, &mut Out::default())
    }
}

#[test]
fn an_urgent_byte_that_is_no_telnet_command_is_made_ordinary() {
    let mut lab = Lab::new();
    let mut wire = session(&mut lab);
    let mut abor = wire.segment(Client, 0, b"\xff\xf4\xff\xf2ABOR\r\n");
    (abor.flags, abor.urgent) = (abor.flags | TcpFlags::URG, 4);
    let passed = lab.pass(Side::Outside, abor.frame());
    assert_eq!(
        passed.frames,
        [abor.frame()],
        "TELNET interrupt and synch pass as they are"
    );
    *wire.next(Client) += 10;
    let mut hidden = wire.segment(Client, 0, b"NOxOP\r\n");
    (hidden.flags, hidden.urgent) = (hidden.flags | TcpFlags::URG, 3);
    let passed = lab.pass(Side::Outside, hidden.frame());
    let (_, ip) = parsed(&passed.frames[0]);
    assert!(matches!(ip.l4, L4::Tcp(s) if !s.flags.has(TcpFlags::URG) && s.urgent == 0));
}

#[test]
fn a_syn_with_payload_towards_ftp_is_dropped() {
    let mut lab = Lab::new();
    let wire = control(V4, Side::Outside);
    let mut syn = wire.segment(Client, SYN, b"USER x\r\n");
    syn.flags = SYN;
    let verdict = lab.pass(Side::Outside, syn.frame()).verdict;
    assert_eq!(verdict, Verdict::Drop(DropReason::SynPayload));
}

#[test]
fn a_long_transfer_keeps_the_control_connection() {
    let mut settings = Settings::default();
    settings
        .set("conntrack.tcp_timeout_established", "100")
        .unwrap();
    let mut lab = Lab::with(settings);
    let mut wire = session(&mut lab);
    wire.dialogue(
        &mut lab,
        &[(Client, "PASV"), (Server, "227 ok (192,0,2,20,195,80)")],
    );
    let mut data = Wire::new("192.0.2.10:40001", "192.0.2.20:50000", Side::Outside);
    assert!(data.connect(&mut lab));
    for _ in 0..20 {
        lab.later(50);
        lab.tick();
        assert!(data.say(&mut lab, Server, b"more of it").is_forward());
    }
    data.close(&mut lab);
    wire.dialogue(&mut lab, &[(Server, "226 done")]);
    // With nobody who needs it, it ends.
    lab.later(1000);
    lab.tick();
    lab.later(1000);
    lab.tick();
    assert_eq!(
        (lab.shared.totals().sessions, lab.shared.totals().flows),
        (0, 0)
    );
}

#[test]
fn udp_and_icmp_answers_pass_and_errors_must_quote_a_flow() {
    let mut lab = Lab::new();
    let (host, resolver): (SocketAddr, SocketAddr) = (
        "192.0.2.10:5353".parse().unwrap(),
        "198.51.100.1:53".parse().unwrap(),
    );
    let question = testing::udp(host, resolver, b"who?");
    assert!(lab.pass(Side::Inside, question.clone()).is_forward());
    assert!(
        lab.pass(Side::Outside, testing::udp(resolver, host, b"me"))
            .is_forward()
    );
    let stranger = "198.51.100.2:53".parse().unwrap();
    let unasked = lab
        .pass(Side::Outside, testing::udp(stranger, host, b"me"))
        .verdict;
    assert_eq!(unasked, Verdict::Drop(DropReason::PolicyDrop));

    let router: IpAddr = [203, 0, 113, 1].into();
    let error = |quote: &[u8]| testing::icmp(router, host.ip(), 3, 3, 0, quote);
    assert!(lab.pass(Side::Outside, error(&question[14..])).is_forward());
    let forged = testing::udp(host, stranger, b"who?");
    let unrelated = Verdict::Drop(DropReason::IcmpUnrelated);
    assert_eq!(
        lab.pass(Side::Outside, error(&forged[14..])).verdict,
        unrelated
    );
    assert_eq!(
        lab.pass(Side::Inside, error(&question[14..])).verdict,
        unrelated
    );

    let ping = |from, to, kind| testing::icmp(from, to, kind, 0, 7, b"ping");
    let (a, b) = (host.ip(), resolver.ip());
    assert_eq!(lab.pass(Side::Outside, ping(b, a, 0)).verdict, unrelated);
    assert!(lab.pass(Side::Inside, ping(a, b, 8)).is_forward());
    assert!(lab.pass(Side::Outside, ping(b, a, 0)).is_forward());
}

/// The fragments of an IPv4 frame, with at most this many bytes of data each.
fn fragments(frame: &[u8], data_bytes: usize) -> Vec<Vec<u8>> {
    let (head, data) = frame.split_at(34);
    let chunks: Vec<_> = data.chunks(data_bytes).collect();
    let last = chunks.len() - 1;
    chunks
        .iter()
        .enumerate()
        .map(|(at, chunk)| {
            let mut piece = head.to_vec();
            let bits = (at * data_bytes / 8) as u16 | if at == last { 0 } else { 0x2000 };
            piece[16..18].copy_from_slice(&(20 + chunk.len() as u16).to_be_bytes());
            piece[20..22].copy_from_slice(&bits.to_be_bytes());
            piece[24..26].fill(0);
            let sum = !checksum::fold(checksum::sum(&piece[14..34]));
            piece[24..26].copy_from_slice(&sum.to_be_bytes());
            piece.extend_from_slice(chunk);
            piece
        })
        .collect()
}

#[test]
fn fragments_are_judged_whole_and_leave_as_they_came() {
    let (host, resolver) = (
        "192.0.2.10:5353".parse().unwrap(),
        "198.51.100.1:53".parse().unwrap(),
    );
    let mut lab = Lab::new();
    let mut pieces = fragments(&testing::udp(host, resolver, &[7; 4000]), 1480);
    pieces.reverse();
    for piece in &pieces[..2] {
        assert_eq!(lab.pass(Side::Inside, piece.clone()).verdict, Verdict::Held);
    }
    let passed = lab.pass(Side::Inside, pieces[2].clone());
    assert_eq!(passed.frames, pieces);
    // What the rules drop, they drop whole.
    let refused = fragments(
        &testing::udp(host, "198.51.100.1:54".parse().unwrap(), &[7; 99]),
        56,
    );
    assert_eq!(
        lab.pass(Side::Inside, refused[0].clone()).verdict,
        Verdict::Held
    );
    let verdict = lab.pass(Side::Inside, refused[1].clone()).verdict;
    assert_eq!(verdict, Verdict::Drop(DropReason::PolicyDrop));
    assert_eq!(lab.dropped(DropReason::PolicyDrop), 2);
}

#[test]
fn overlapping_lone_and_tiny_fragments_never_pass() {
    let (host, resolver) = (
        "192.0.2.10:5353".parse().unwrap(),
        "198.51.100.1:53".parse().unwrap(),
    );
    let pieces = fragments(&testing::udp(host, resolver, &[7; 200]), 80);
    let mut lab = Lab::new();
    for piece in [&pieces[0], &pieces[1]] {
        assert_eq!(lab.pass(Side::Inside, piece.clone()).verdict, Verdict::Held);
    }
    // Networks duplicate; that does no harm. Other bytes in the same place do.
    let same = Verdict::Drop(DropReason::FragmentDuplicate);
    assert_eq!(lab.pass(Side::Inside, pieces[1].clone()).verdict, same);
    let overlap = Verdict::Drop(DropReason::FragmentOverlap);
    let mut other = pieces[1].clone();
    *other.last_mut().unwrap() ^= 1;
    assert_eq!(lab.pass(Side::Inside, other).verdict, overlap);
    assert_eq!(lab.pass(Side::Inside, pieces[2].clone()).verdict, overlap);
    assert_eq!(
        (
            lab.dropped(DropReason::FragmentOverlap),
            lab.counts().held.frames
        ),
        (4, 0)
    );

    let mut lab = Lab::new();
    assert_eq!(
        lab.pass(Side::Inside, pieces[0].clone()).verdict,
        Verdict::Held
    );
    lab.later(31);
    lab.tick();
    assert_eq!(
        (
            lab.dropped(DropReason::FragmentTimeout),
            lab.counts().held.frames
        ),
        (1, 0)
    );
    let tiny = fragments(&testing::udp(host, resolver, &[7; 200]), 16);
    let verdict = lab.pass(Side::Inside, tiny[0].clone()).verdict;
    assert_eq!(verdict, Verdict::Drop(DropReason::FragmentTiny));
}

#[test]
fn a_fragmented_command_is_read_but_never_changed() {
    let mut lab = Lab::new();
    let mut wire = session(&mut lab);
    let good = wire
        .segment(Client, 0, b"PORT 192,0,2,10,195,80\r\n")
        .frame();
    let pieces = fragments(&good, 24);
    assert_eq!(
        lab.pass(Side::Outside, pieces[0].clone()).verdict,
        Verdict::Held
    );
    assert_eq!(lab.pass(Side::Outside, pieces[1].clone()).frames, pieces);
    assert_eq!(lab.shared.totals().expectations, 1);
    *wire.next(Client) += 24;
    let bounce = wire
        .segment(Client, 0, b"PORT 192,0,2,11,195,80\r\n")
        .frame();
    for piece in fragments(&bounce, 24) {
        assert!(lab.pass(Side::Outside, piece).frames.is_empty());
    }
    // It can't be made unreadable: both ends learn by a reset.
    assert_eq!(lab.dropped(DropReason::HelperReset), 2);
}

#[test]
fn the_table_is_never_fuller_than_told() {
    let mut settings = Settings::default();
    settings.set("conntrack.max", "50").unwrap();
    let mut lab = Lab::with(settings);
    let mut wire = session(&mut lab);
    for port in 0..200 {
        let frame = testing::udp(
            ([192, 0, 2, 10], 10_000 + port).into(),
            ([198, 51, 100, 1], 53).into(),
            b"x",
        );
        assert!(lab.pass(Side::Inside, frame).is_forward());
        assert!(lab.shared.totals().flows <= 50);
    }
    wire.dialogue(&mut lab, &[(Client, "NOOP"), (Server, "200 still here")]);
}

#[test]
fn a_session_that_opens_nothing_still_refuses_a_bounce() {
    let bounce = b"PORT 10,0,0,1,0,22\r\n";
    let is_refused = |lab: &mut Lab, wire: &mut Wire| {
        let arrived = wire.say(lab, Client, bounce).bytes();
        assert!(
            arrived.starts_with(b"XXXX") && arrived.ends_with(b"\r\n"),
            "{arrived:?}"
        );
    };
    // Too many commands in flight.
    let mut lab = Lab::new();
    let mut wire = session(&mut lab);
    assert!(
        wire.say(&mut lab, Client, &b"NOOP\r\n".repeat(70))
            .is_forward()
    );
    is_refused(&mut lab, &mut wire);
    wire.dialogue(
        &mut lab,
        &[(Client, "PORT 192,0,2,10,195,80"), (Server, "200 ok")],
    );
    assert_eq!(lab.shared.totals().ports_opened, 0);
    // An odd first line; a client that speaks before the greeting.
    for (greeting, first) in [(true, "FOO"), (false, "USER joe")] {
        let mut lab = Lab::new();
        let mut wire = control(V4, Side::Outside);
        assert!(wire.connect(&mut lab));
        if greeting {
            wire.dialogue(&mut lab, &[(Server, "220 ready")]);
        }
        wire.dialogue(&mut lab, &[(Client, first)]);
        is_refused(&mut lab, &mut wire);
    }
    // A server that speaks something else is left alone.
    let mut lab = Lab::new();
    let mut wire = control(V4, Side::Outside);
    assert!(wire.connect(&mut lab));
    wire.dialogue(
        &mut lab,
        &[(Server, "SSH-2.0-x"), (Client, "PORT 10,0,0,1,0,22")],
    );
}

#[test]
fn an_urgent_pointer_without_payload_reaches_nobody() {
    let mut lab = Lab::new();
    let wire = session(&mut lab);
    let mut ack = wire.segment(Client, ACK | TcpFlags::URG, b"");
    ack.urgent = 1;
    let passed = lab.pass(Side::Outside, ack.frame());
    let (_, ip) = parsed(&passed.frames[0]);
    assert!(matches!(ip.l4, L4::Tcp(s) if !s.flags.has(TcpFlags::URG)));
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
fn a_needed_control_connection_is_not_forgotten_before_the_sweep_either() {
    let mut settings = Settings::default();
    settings
        .set("conntrack.tcp_timeout_established", "100")
        .unwrap();
    let mut lab = Lab::with(settings);
    let mut wire = session(&mut lab);
    wire.dialogue(
        &mut lab,
        &[(Client, "PASV"), (Server, "227 ok (192,0,2,20,195,80)")],
    );
    let mut data = Wire::new("192.0.2.10:40001", "192.0.2.20:50000", Side::Outside);
    assert!(data.connect(&mut lab));
    lab.later(60);
    assert!(data.say(&mut lab, Server, b"slow").is_forward());
    lab.later(60);
    wire.dialogue(&mut lab, &[(Server, "226 done")]);
}

#[test]
fn a_spoofed_syn_makes_no_session() {
    let mut lab = Lab::new();
    let wire = control(V4, Side::Outside);
    let syn = wire.segment(Client, SYN, b"").frame();
    assert!(lab.pass(Side::Outside, syn).is_forward());
    assert_eq!(lab.shared.totals().sessions_begun, 0);
    assert!(lab.events().is_empty());
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
fn a_client_that_reconnects_on_the_same_ports_has_a_new_session() {
    let mut lab = Lab::new();
    let mut wire = session(&mut lab);
    wire.next = [500_000, 900_000];
    let mut syn = wire.segment(Client, SYN, b"");
    syn.ack = 0;
    assert!(lab.pass(Side::Outside, syn.frame()).is_forward());
    *wire.next(Client) += 1;
    assert!(
        lab.pass(Side::Inside, wire.segment(Server, SYN | ACK, b"").frame())
            .is_forward()
    );
    *wire.next(Server) += 1;
    assert!(
        lab.pass(Side::Outside, wire.segment(Client, ACK, b"").frame())
            .is_forward()
    );
    // The login was the old one's.
    wire.dialogue(
        &mut lab,
        &[
            (Server, "220 ready"),
            (Client, "PASV"),
            (Server, "227 ok (192,0,2,20,195,80)"),
        ],
    );
    assert_eq!(lab.shared.totals().ports_opened, 0);
    wire.dialogue(
        &mut lab,
        &[
            (Client, "USER joe"),
            (Server, "230 welcome"),
            (Client, "PASV"),
            (Server, "227 ok (192,0,2,20,195,80)"),
        ],
    );
    assert_eq!(lab.shared.totals().ports_opened, 1);
}

#[test]
fn what_all_sessions_hold_is_bounded() {
    let mut lab = Lab::new();
    let mut held = 0;
    'fill: for client in 0..4000 {
        let host = format!("10.{}.{}.1", client / 256, client % 256);
        let mut wire = control([&host, V4[1]], Side::Outside);
        wire.login(&mut lab);
        for ahead in 1..=32 {
            let mut segment = wire.segment(Client, 0, &[b'x'; 900]);
            segment.seq += ahead * 900;
            match lab.pass(Side::Outside, segment.frame()).verdict {
                Verdict::Held => held += 1,
                _ => break 'fill,
            }
        }
    }
    assert!(held * 900 <= 64 << 20, "{held}");
    assert!(held * 954 >= 60 << 20, "{held}");
    let before = lab
        .shared
        .sessions
        .held_bytes()
        .load(std::sync::atomic::Ordering::Relaxed);
    assert_eq!(lab.counts().held.bytes, before as u64);
}

#[test]
fn fragments_that_take_another_way_poison_their_datagram() {
    let (host, resolver) = (
        "192.0.2.10:5353".parse().unwrap(),
        "198.51.100.1:53".parse().unwrap(),
    );
    let pieces = fragments(&testing::udp(host, resolver, &[7; 200]), 80);
    let resummed = |mut piece: Vec<u8>, ttl: u8| {
        piece[22] = ttl;
        piece[24..26].fill(0);
        let sum = !checksum::fold(checksum::sum(&piece[14..34]));
        piece[24..26].copy_from_slice(&sum.to_be_bytes());
        piece
    };
    let mut bad_sum = pieces[1].clone();
    bad_sum[24] ^= 1;
    let mut other_mac = pieces[1].clone();
    other_mac[5] ^= 1;
    for (piece, reason) in [
        (bad_sum, DropReason::IpChecksumBad),
        (resummed(pieces[1].clone(), 3), DropReason::FragmentBad),
        (other_mac, DropReason::FragmentBad),
    ] {
        let mut lab = Lab::new();
        assert_eq!(
            lab.pass(Side::Inside, pieces[0].clone()).verdict,
            Verdict::Held
        );
        assert_eq!(lab.pass(Side::Inside, piece).verdict, Verdict::Drop(reason));
    }
}

/// Another fragment with this one's header: where it begins, in units of 8 bytes, and its data. There
/// are more.
fn fragment_like(like: &[u8], offset: u16, data: &[u8]) -> Vec<u8> {
    let mut piece = [&like[..34], data].concat();
    piece[16..18].copy_from_slice(&(20 + data.len() as u16).to_be_bytes());
    piece[20..22].copy_from_slice(&(offset | 0x2000).to_be_bytes());
    piece[24..26].fill(0);
    let sum = !checksum::fold(checksum::sum(&piece[14..34]));
    piece[24..26].copy_from_slice(&sum.to_be_bytes());
    piece
}

#[test]
fn a_fragment_that_cannot_be_right_spoils_the_datagram_that_it_overlaps() {
    let (host, resolver) = (
        "192.0.2.10:5353".parse().unwrap(),
        "198.51.100.1:53".parse().unwrap(),
    );
    let pieces = fragments(&testing::udp(host, resolver, &[7; 200]), 80);
    let overlap = Verdict::Drop(DropReason::FragmentOverlap);
    for bad in [
        fragment_like(&pieces[0], 1, &[7; 8]),  // tiny
        fragment_like(&pieces[0], 0, &[7; 8]),  // a tiny first one
        fragment_like(&pieces[0], 10, &[7; 5]), // not in units of 8 bytes
    ] {
        let mut lab = Lab::new();
        for piece in &pieces[..2] {
            assert_eq!(lab.pass(Side::Inside, piece.clone()).verdict, Verdict::Held);
        }
        assert_eq!(lab.pass(Side::Inside, bad).verdict, overlap);
        let last = lab.pass(Side::Inside, pieces[2].clone());
        assert_eq!(last.verdict, overlap);
        assert_eq!(lab.dropped(DropReason::FragmentOverlap), 4);
        assert_eq!(lab.counts().held.frames, 0);
    }
}

#[test]
fn a_fragment_that_cannot_be_right_spoils_nothing_else() {
    let (host, resolver) = (
        "192.0.2.10:5353".parse().unwrap(),
        "198.51.100.1:53".parse().unwrap(),
    );
    let pieces = fragments(&testing::udp(host, resolver, &[7; 200]), 80);
    let tiny = fragment_like(&pieces[0], 1, &[7; 8]);
    let empty = fragment_like(&pieces[0], 2, b"");
    let of_another = {
        let mut like = tiny.clone();
        like[18] ^= 1; // its identification
        fragment_like(&like, 1, &[7; 8])
    };
    let mut lab = Lab::new();
    let mut passed = Vec::new();
    // The tiny one is gone before anything is there that it overlaps; its receiver never sees it.
    for (piece, side) in [
        (&pieces[2], Side::Inside),
        (&tiny, Side::Inside),
        (&pieces[0], Side::Inside),
        (&of_another, Side::Inside),
        (&empty, Side::Inside),
        (&tiny, Side::Outside),
        (&pieces[1], Side::Inside),
    ] {
        passed = lab.pass(side, piece.clone()).frames;
    }
    assert_eq!(passed.len(), 3);
    assert_eq!(lab.dropped(DropReason::FragmentTiny), 3);
    assert_eq!(lab.dropped(DropReason::FragmentBad), 1);
}

#[test]
fn first_fragments_without_end_shut_nobody_out() {
    let (host, resolver) = (
        "192.0.2.10:5353".parse().unwrap(),
        "198.51.100.1:53".parse().unwrap(),
    );
    let mut lab = Lab::new();
    for n in 0..5000u16 {
        let from = SocketAddr::new([10, 0, (n >> 8) as u8, n as u8].into(), 53);
        let first = fragments(&testing::udp(from, host, &[7; 200]), 80).swap_remove(0);
        assert_eq!(lab.pass(Side::Outside, first).verdict, Verdict::Held);
    }
    assert!(lab.counts().held.frames <= 512);
    assert!(lab.dropped(DropReason::FragmentLimit) >= 4000);
    let pieces = fragments(&testing::udp(host, resolver, &[7; 200]), 80);
    let last = pieces
        .iter()
        .map(|p| lab.pass(Side::Inside, p.clone()))
        .last()
        .unwrap();
    assert_eq!(last.frames, pieces);
}

mod conntrack;
mod refusal;
mod reject;
mod reload;
mod rules;
mod tls;
