//! Each timeout is used where Linux uses it: what a flow promises after each packet.

use std::net::{IpAddr, SocketAddr};

use super::*;
use crate::conntrack::{Direction, Flow, Judgement, Time};
use crate::wire::testing::{self, Tcp as Segment};
use crate::wire::{Side, TcpFlags, proto};
use Direction::{Original, Reply};

const SYN: u8 = TcpFlags::SYN;
const ACK: u8 = TcpFlags::ACK;
const FIN: u8 = TcpFlags::FIN | TcpFlags::ACK;
const RST: u8 = TcpFlags::RST;

const START: Time = Time::from_nanos(1_000_000_000);

/// Settings in which no two timeouts are the same, so that a mix-up is seen.
fn settings() -> Settings {
    let s = Duration::from_secs;
    Settings {
        tcp_syn_sent: s(1_001),
        tcp_syn_recv: s(1_002),
        tcp_established: s(1_003),
        tcp_fin_wait: s(1_004),
        tcp_close_wait: s(1_005),
        tcp_last_ack: s(1_006),
        tcp_time_wait: s(1_007),
        tcp_close: s(1_008),
        tcp_retrans: s(901),
        tcp_unacknowledged: s(902),
        udp: s(1_011),
        udp_stream: s(1_012),
        icmp: s(1_013),
        icmpv6: s(1_014),
        generic: s(1_015),
        ..Settings::default()
    }
}

/// A flow and the time.
struct Lab {
    settings: Settings,
    flow: Flow<u8>,
    now: Time,
}

impl Lab {
    fn new(frame: &[u8]) -> Lab {
        let settings = settings();
        let packet = crate::wire::parse(frame).unwrap();
        let flow = Flow::begin(
            packet.ip.as_ref().unwrap(),
            Side::Inside,
            true,
            &settings,
            START,
            true,
        )
        .unwrap();
        Lab {
            settings,
            flow,
            now: START,
        }
    }

    fn pass(&mut self, direction: Direction, frame: &[u8]) {
        self.now = self.now + Duration::from_millis(100);
        let packet = crate::wire::parse(frame).unwrap();
        let tracked = self.flow.update(
            direction,
            packet.ip.as_ref().unwrap(),
            &self.settings,
            self.now,
        );
        assert_eq!(tracked.invalid, None);
    }

    /// Seconds that the flow may stay silent from now on.
    fn left(&self) -> u64 {
        self.flow.expires.since(self.now).as_secs()
    }
}

fn ends(family: usize) -> (SocketAddr, SocketAddr) {
    let hosts: [[IpAddr; 2]; 2] = [
        [[192, 0, 2, 1].into(), [192, 0, 2, 2].into()],
        [
            [0x2001, 0xdb8, 0, 0, 0, 0, 0, 1].into(),
            [0x2001, 0xdb8, 0, 0, 0, 0, 0, 2].into(),
        ],
    ];
    let [client, server] = hosts[family];
    (
        SocketAddr::new(client, 40_000),
        SocketAddr::new(server, 8_000),
    )
}

/// From client or server, whose streams begin at 1000 and 5000.
fn segment(direction: Direction, flags: u8, seq: u32, ack: u32, payload: &[u8]) -> Segment {
    let (client, server) = ends(0);
    let segment = match direction {
        Original => Segment::new(client, server, flags, 1000 + seq, 5000 + ack),
        Reply => Segment::new(server, client, flags, 5000 + seq, 1000 + ack),
    };
    match payload {
        [] => segment,
        _ => segment.data(payload),
    }
}

fn tcp(direction: Direction, flags: u8, seq: u32, ack: u32, payload: &[u8]) -> Vec<u8> {
    segment(direction, flags, seq, ack, payload).frame()
}

fn established() -> Lab {
    let mut lab = Lab::new(&tcp(Original, SYN, 0, 0, b""));
    lab.pass(Reply, &tcp(Reply, SYN | ACK, 0, 1, b""));
    lab.pass(Original, &tcp(Original, ACK, 1, 1, b""));
    lab
}

#[test]
fn the_defaults_are_linuxs() {
    let s = Settings::default();
    let seconds = [
        s.tcp_syn_sent,
        s.tcp_syn_recv,
        s.tcp_established,
        s.tcp_fin_wait,
        s.tcp_close_wait,
        s.tcp_last_ack,
        s.tcp_time_wait,
        s.tcp_close,
        s.tcp_retrans,
        s.tcp_unacknowledged,
        s.udp,
        s.udp_stream,
        s.icmp,
        s.icmpv6,
        s.generic,
    ]
    .map(|timeout| timeout.as_secs());
    // Documentation/networking/nf_conntrack-sysctl.rst
    assert_eq!(
        seconds,
        [
            120, 60, 432_000, 120, 60, 30, 120, 10, 300, 300, 30, 120, 30, 30, 600
        ]
    );
    assert_eq!(s.tcp_max_retrans, 3);
}

#[test]
fn each_tcp_state_has_its_own() {
    let mut lab = Lab::new(&tcp(Original, SYN, 0, 0, b""));
    assert_eq!(lab.left(), 1_001);
    lab.pass(Reply, &tcp(Reply, SYN | ACK, 0, 1, b""));
    assert_eq!(lab.left(), 1_002);
    lab.pass(Original, &tcp(Original, ACK, 1, 1, b""));
    assert_eq!(lab.left(), 1_003);
    // Each FIN is unacknowledged for a while, which has a timeout of its own, if that is less.
    lab.settings.tcp_unacknowledged = Duration::from_secs(2_000);
    lab.pass(Original, &tcp(Original, FIN, 1, 1, b""));
    assert_eq!(lab.left(), 1_004);
    lab.pass(Reply, &tcp(Reply, ACK, 1, 2, b""));
    assert_eq!(lab.left(), 1_005);
    lab.pass(Reply, &tcp(Reply, FIN, 1, 2, b""));
    assert_eq!(lab.left(), 1_006);
    lab.pass(Original, &tcp(Original, ACK, 2, 2, b""));
    assert_eq!(lab.left(), 1_007);
    let mut lab = established();
    lab.pass(Reply, &tcp(Reply, RST, 1, 0, b""));
    assert_eq!(lab.left(), 1_008);
}

#[test]
fn a_reset_that_may_be_forged_shortens_and_never_lengthens() {
    let mut lab = established();
    lab.settings.tcp_close = Duration::from_secs(10);
    lab.pass(Reply, &tcp(Reply, RST, 500, 0, b""));
    assert_eq!(lab.left(), 10);
    lab.settings.tcp_close = Duration::from_secs(9_000);
    lab.pass(Reply, &tcp(Reply, RST, 501, 0, b""));
    assert_eq!(lab.left(), 9);
    // The connection goes on: it was forged.
    lab.pass(Original, &tcp(Original, ACK, 1, 1, b""));
    assert_eq!(lab.left(), 1_003);
}

#[test]
fn what_is_not_acknowledged_has_tcp_timeout_unacknowledged() {
    let mut lab = established();
    lab.pass(Original, &tcp(Original, ACK, 1, 1, b"question"));
    assert_eq!(lab.left(), 902);
    lab.pass(Reply, &tcp(Reply, ACK, 1, 5, b""));
    assert_eq!(lab.left(), 902, "a part of it");
    lab.pass(Reply, &tcp(Reply, ACK, 1, 9, b""));
    assert_eq!(lab.left(), 1_003);
}

#[test]
fn three_repetitions_have_tcp_timeout_max_retrans() {
    let mut lab = established();
    let question = tcp(Original, ACK, 1, 1, b"question");
    lab.pass(Original, &question);
    for _ in 0..2 {
        lab.pass(Original, &question);
        assert_eq!(lab.left(), 902);
    }
    lab.pass(Original, &question);
    assert_eq!(lab.left(), 901, "the third repetition");
    lab.pass(Reply, &tcp(Reply, ACK, 1, 9, b""));
    assert_eq!(lab.left(), 1_003, "an answer ends it");
    // How many are too many is a setting.
    lab.settings.tcp_max_retrans = 1;
    let next = tcp(Original, ACK, 9, 1, b"question");
    lab.pass(Original, &next);
    assert_eq!(lab.left(), 902);
    lab.pass(Original, &next);
    assert_eq!(lab.left(), 901);
}

#[test]
fn a_closed_window_has_tcp_timeout_max_retrans() {
    let mut lab = established();
    let mut full = segment(Reply, ACK, 1, 1, b"");
    full.window = 0;
    lab.pass(Reply, &full.frame());
    assert_eq!(lab.left(), 901);
    lab.pass(Reply, &tcp(Reply, ACK, 1, 1, b""));
    assert_eq!(lab.left(), 1_003);
}

#[test]
fn a_connection_taken_up_that_nobody_answers_has_tcp_timeout_unacknowledged() {
    let mut lab = Lab::new(&tcp(Original, ACK, 100, 100, b""));
    assert_eq!(lab.left(), 902);
    lab.pass(Original, &tcp(Original, ACK, 100, 100, b""));
    assert_eq!(lab.left(), 902);
    lab.pass(Reply, &tcp(Reply, ACK, 100, 100, b""));
    assert_eq!(lab.left(), 1_003);
}

#[test]
fn a_retransmitted_syn_renews_nothing() {
    let mut lab = Lab::new(&tcp(Original, SYN, 0, 0, b""));
    let expires = lab.flow.expires;
    for _ in 0..100 {
        lab.pass(Original, &tcp(Original, SYN, 0, 0, b""));
    }
    assert_eq!(lab.flow.expires, expires);
    assert_eq!(
        lab.flow.tcp().copied().unwrap().update(
            Original,
            &crate::wire::TcpSegment {
                flags: TcpFlags(SYN),
                seq: 1000,
                ..Default::default()
            }
        ),
        Judgement::ValidNoRenewal
    );
}

#[test]
fn udp_is_a_stream_when_it_was_answered_and_lasts() {
    let (client, server) = ends(0);
    let (question, answer) = (
        testing::udp(client, server, b"?"),
        testing::udp(server, client, b"!"),
    );
    let mut lab = Lab::new(&question);
    assert_eq!(lab.left(), 1_011);
    lab.pass(Reply, &answer);
    assert_eq!(lab.left(), 1_011, "a question and its answer");
    lab.now = lab.now + Duration::from_secs(2);
    lab.pass(Original, &question);
    assert_eq!(lab.left(), 1_012);
    // Without an answer it is none, however long it lasts.
    let mut lab = Lab::new(&question);
    lab.now = lab.now + Duration::from_secs(5);
    lab.pass(Original, &question);
    assert_eq!(lab.left(), 1_011);
    lab.pass(Reply, &answer);
    assert_eq!(lab.left(), 1_012);
}

#[test]
fn icmp_icmpv6_and_all_others() {
    for (family, kind, seconds) in [(0, 8, 1_013), (1, 128, 1_014)] {
        let (client, server) = ends(family);
        let ping = testing::icmp(client.ip(), server.ip(), kind, 0, 1, b"ping");
        let mut lab = Lab::new(&ping);
        assert_eq!(lab.left(), seconds);
        lab.pass(Original, &ping);
        assert_eq!(lab.left(), seconds);
    }
    let (client, server) = ends(0);
    // DCCP, GRE, SCTP, UDP-Lite.
    for protocol in [33, 47, 132, 136] {
        assert_ne!(protocol, proto::UDP);
        let frame = testing::ip_frame(client.ip(), server.ip(), protocol, &[0; 20]);
        let back = testing::ip_frame(server.ip(), client.ip(), protocol, &[0; 20]);
        let mut lab = Lab::new(&frame);
        assert_eq!(lab.left(), 1_015);
        lab.pass(Reply, &back);
        assert_eq!(lab.left(), 1_015);
    }
}
