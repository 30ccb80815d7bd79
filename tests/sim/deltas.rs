//! Single frames made by hand: after each one, exactly these counters have moved.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use lotus::conntrack::Time;
use lotus::engine::{Settings, Verdict};
use lotus::observe::{DropReason, Snapshot};
use lotus::wire::Side::{self, Inside, Outside};

use crate::dialogue::{Plan, Scenario};
use crate::host::{Family, address};
use crate::link;
use crate::middle::{Firewall, Passed, Spread};
use crate::packet::{self, ACK, FIN, Frame, PSH, RST, SYN, Segment, Tag};
use crate::rng::Rng;

/// One engine with a server inside, and a clock that stands still until it is moved.
struct Bench {
    firewall: Firewall,
    now: Time,
    before: Snapshot,
    client: SocketAddr,
    server: SocketAddr,
    /// Next sequence numbers of the client and the server.
    seq: [u32; 2],
}

type Moved = BTreeMap<&'static str, u64>;

impl Bench {
    fn new(family: Family) -> Bench {
        let plan = Plan::new(Scenario::S2, family);
        let firewall = Firewall::new(
            &plan.rules(),
            Settings::default(),
            1,
            Spread::Hash,
            Rng::new(1),
        );
        let before = firewall.snapshot();
        Bench {
            firewall,
            now: Time::from_nanos(1_000_000_000),
            before,
            client: SocketAddr::new(address(Outside, family, false), 50_000),
            server: SocketAddr::new(address(Inside, family, false), 21),
            seq: [1_000, 9_000],
        }
    }

    /// A control connection that is established and logged in.
    fn logged_in(family: Family) -> Bench {
        let mut bench = Bench::new(family);
        bench.connect();
        for (from_client, line) in [
            (false, "220 ready\r\n"),
            (true, "USER u\r\n"),
            (false, "331 password\r\n"),
            (true, "PASS p\r\n"),
            (false, "230 in\r\n"),
        ] {
            assert_eq!(
                bench.line(from_client, line),
                forwarded(from_client),
                "{line}"
            );
        }
        bench
    }

    fn connect(&mut self) {
        let syn = self.control(true, SYN, b"");
        assert_eq!(self.send(Outside, syn), forwarded(true));
        self.seq[0] += 1;
        let answer = self.control(false, SYN | ACK, b"");
        assert_eq!(self.send(Inside, answer), forwarded(false));
        self.seq[1] += 1;
        let ack = self.control(true, ACK, b"");
        assert_eq!(self.send(Outside, ack), forwarded(true));
    }

    /// The next segment of the control connection.
    fn control(&self, from_client: bool, flags: u8, payload: &[u8]) -> Vec<u8> {
        let (src, dst) = if from_client {
            (self.client, self.server)
        } else {
            (self.server, self.client)
        };
        let mut segment = Segment::new(src, dst, flags);
        let [client, server] = self.seq;
        segment.seq = if from_client { client } else { server };
        if flags & ACK != 0 {
            segment.ack = if from_client { server } else { client };
        }
        segment.payload = payload.to_vec();
        segment.frame()
    }

    /// Sends a line over the control connection.
    fn line(&mut self, from_client: bool, line: &str) -> Moved {
        let frame = self.control(from_client, ACK | PSH, line.as_bytes());
        self.seq[usize::from(!from_client)] += line.len() as u32;
        self.send(if from_client { Outside } else { Inside }, frame)
    }

    /// A SYN of a data connection.
    fn data_syn(&mut self, from: SocketAddr, to: SocketAddr) -> Moved {
        let side = if from.ip() == self.client.ip() {
            Outside
        } else {
            Inside
        };
        self.send(side, Segment::new(from, to, SYN).frame())
    }

    fn send(&mut self, side: Side, frame: Vec<u8>) -> Moved {
        self.pass(side, frame);
        self.moved()
    }

    fn pass(&mut self, side: Side, frame: Vec<u8>) -> Passed {
        self.now = self.now + Duration::from_millis(1);
        self.firewall
            .pass(side, Frame::from(frame), self.now)
            .unwrap()
    }

    /// Lets time pass, with ticks as the control thread makes them.
    fn wait(&mut self, seconds: u64) {
        for _ in 0..seconds * 10 {
            self.now = self.now + Duration::from_millis(100);
            self.firewall.tick(self.now).unwrap();
        }
    }

    /// The counters that have moved since the last call, and how far.
    fn moved(&mut self) -> Moved {
        let now = self.firewall.snapshot();
        let (old, mut moved) = (
            std::mem::replace(&mut self.before, now.clone()),
            Moved::new(),
        );
        let pairs = [
            (
                "received.inside",
                old.received[0].frames,
                now.received[0].frames,
            ),
            (
                "received.outside",
                old.received[1].frames,
                now.received[1].frames,
            ),
            (
                "forwarded.inside",
                old.forwarded[0].frames,
                now.forwarded[0].frames,
            ),
            (
                "forwarded.outside",
                old.forwarded[1].frames,
                now.forwarded[1].frames,
            ),
            ("generated", old.generated.frames, now.generated.frames),
        ];
        let drops = DropReason::ALL.iter().map(|&reason| {
            (
                reason.name(),
                old.dropped_for(reason),
                now.dropped_for(reason),
            )
        });
        for (name, old, now) in pairs.into_iter().chain(drops) {
            if now != old {
                moved.insert(name, now - old);
            }
        }
        if now.held.frames > old.held.frames {
            moved.insert("held", now.held.frames - old.held.frames);
        }
        if now.held.frames < old.held.frames {
            moved.insert("let go", old.held.frames - now.held.frames);
        }
        moved
    }
}

fn forwarded(from_outside: bool) -> Moved {
    if from_outside {
        Moved::from([("received.outside", 1), ("forwarded.inside", 1)])
    } else {
        Moved::from([("received.inside", 1), ("forwarded.outside", 1)])
    }
}

fn dropped(from_outside: bool, reason: DropReason) -> Moved {
    let received = if from_outside {
        "received.outside"
    } else {
        "received.inside"
    };
    Moved::from([(received, 1), (reason.name(), 1)])
}

const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

#[test]
fn arp_passes_by_the_rules_in_both_directions() {
    let mut bench = Bench::new(Family::V4);
    assert_eq!(bench.send(Outside, packet::arp_request()), forwarded(true));
    assert_eq!(bench.send(Inside, packet::arp_request()), forwarded(false));
    let mut other = packet::arp_request();
    other[12..14].copy_from_slice(&[0x88, 0xcc]);
    assert_eq!(
        bench.send(Inside, other),
        dropped(false, DropReason::PolicyDrop)
    );
}

#[test]
fn neighbour_discovery_passes_and_an_echo_does_not() {
    let mut bench = Bench::new(Family::V6);
    let (client, server) = (bench.client.ip(), bench.server.ip());
    let mut solicit = vec![135, 0, 0, 0, 0, 0, 0, 0];
    if let IpAddr::V6(target) = server {
        solicit.extend(target.octets());
    }
    assert_eq!(
        bench.send(Outside, packet::icmp(client, server, &solicit)),
        forwarded(true)
    );
    let echo = packet::icmp(client, server, &[128, 0, 0, 0, 0, 1, 0, 1]);
    assert_eq!(
        bench.send(Outside, echo),
        dropped(true, DropReason::PolicyDrop)
    );
}

#[test]
fn segments_of_no_connection() {
    for family in FAMILIES {
        let mut bench = Bench::new(family);
        for flags in [ACK, ACK | PSH, ACK | FIN, SYN | ACK, RST, RST | ACK] {
            let frame = bench.control(true, flags, b"");
            assert_eq!(
                bench.send(Outside, frame),
                dropped(true, DropReason::TcpNotSyn),
                "{flags}"
            );
        }
    }
}

#[test]
fn what_no_rule_accepts_ends_at_the_policy() {
    for family in FAMILIES {
        let mut bench = Bench::new(family);
        let high = SocketAddr::new(bench.server.ip(), 45_000);
        let (client, server) = (bench.client, bench.server);
        let policy = DropReason::PolicyDrop;
        assert_eq!(bench.data_syn(client, high), dropped(true, policy));
        assert_eq!(
            bench.data_syn(high, client),
            dropped(false, policy),
            "outwards too"
        );
        assert_eq!(
            bench.send(Outside, packet::udp(client, server, b"x")),
            dropped(true, policy)
        );
        assert_eq!(
            bench.data_syn(server, client),
            dropped(false, policy),
            "the server calls"
        );
    }
}

#[test]
fn nobody_speaks_from_the_wrong_side() {
    for family in FAMILIES {
        let mut bench = Bench::logged_in(family);
        let forged = bench.control(false, ACK | PSH, b"227 x\r\n");
        assert_eq!(
            bench.send(Outside, forged),
            dropped(true, DropReason::WrongSide)
        );
        let forged = bench.control(true, RST, b"");
        assert_eq!(
            bench.send(Inside, forged),
            dropped(false, DropReason::WrongSide)
        );
        assert_eq!(
            bench.line(true, "NOOP\r\n"),
            forwarded(true),
            "and the flow lives on"
        );
    }
}

#[test]
fn frames_that_cannot_be_judged() {
    let mut bench = Bench::new(Family::V4);
    let syn = bench.control(true, SYN, b"");
    assert_eq!(
        bench.send(Outside, syn[..40].to_vec()),
        dropped(true, DropReason::FrameTruncated)
    );
    let mut bad = syn.clone();
    bad[24] ^= 1;
    assert_eq!(
        bench.send(Outside, bad),
        dropped(true, DropReason::IpChecksumBad)
    );
    let mut bad = syn.clone();
    bad[50] ^= 1;
    assert_eq!(
        bench.send(Outside, bad),
        dropped(true, DropReason::ChecksumBad)
    );
    let plan = link::LinkPlan {
        tags: vec![
            Tag {
                tpid: 0x8100,
                vid: 1
            };
            3
        ],
        ..link::LinkPlan::default()
    };
    let tagged = plan.dress(syn.clone(), &mut Rng::new(1)).remove(0).bytes;
    assert_eq!(
        bench.send(Outside, tagged),
        dropped(true, DropReason::VlanTooManyTags)
    );
    let scan = bench.control(true, SYN | FIN, b"");
    assert_eq!(
        bench.send(Outside, scan),
        dropped(true, DropReason::TcpFlagsBad)
    );
    let early = bench.control(true, SYN, b"USER x\r\n");
    assert_eq!(
        bench.send(Outside, early),
        dropped(true, DropReason::SynPayload)
    );
    assert_eq!(
        bench.send(Outside, syn),
        forwarded(true),
        "nothing of this was remembered"
    );
}

#[test]
fn a_port_opens_at_the_reply_for_one_connection() {
    for family in FAMILIES {
        let mut bench = Bench::logged_in(family);
        let data = SocketAddr::new(bench.server.ip(), 40_000);
        let from = SocketAddr::new(bench.client.ip(), 50_001);
        let stranger = SocketAddr::new(address(Outside, family, true), 50_001);
        let policy = dropped(true, DropReason::PolicyDrop);
        assert_eq!(bench.data_syn(from, data), policy, "before");
        bench.line(true, "EPSV\r\n");
        assert_eq!(
            bench.data_syn(from, data),
            policy,
            "asked for, not answered"
        );
        bench.line(false, "229 Entering Extended Passive Mode (|||40000|)\r\n");
        let syn = Segment::new(stranger, data, SYN).frame();
        assert_eq!(bench.send(Outside, syn), policy, "another host");
        let beside = SocketAddr::new(data.ip(), 40_001);
        assert_eq!(bench.data_syn(from, beside), policy, "another port");

        assert_eq!(bench.data_syn(from, data), forwarded(true));
        let mut answer = Segment::new(data, from, SYN | ACK);
        answer.ack = 1001;
        assert_eq!(bench.send(Inside, answer.frame()), forwarded(false));
        let second = SocketAddr::new(from.ip(), 50_002);
        assert_eq!(bench.data_syn(second, data), policy, "used");
    }
}

#[test]
fn a_port_that_nobody_uses_shuts_by_itself() {
    let mut bench = Bench::logged_in(Family::V4);
    let data = SocketAddr::new(bench.server.ip(), 40_000);
    let from = SocketAddr::new(bench.client.ip(), 50_001);
    bench.line(true, "EPSV\r\n");
    bench.line(false, "229 Entering Extended Passive Mode (|||40000|)\r\n");
    bench.wait(61);
    assert_eq!(
        bench.moved(),
        Moved::new(),
        "time alone moves no counter here"
    );
    bench.moved();
    assert_eq!(
        bench.data_syn(from, data),
        dropped(true, DropReason::PolicyDrop)
    );
}

/// The control thread may be late: a port is shut when its time is over, swept or not.
#[test]
fn a_port_shuts_in_time_also_without_a_tick() {
    let mut bench = Bench::logged_in(Family::V6);
    let data = SocketAddr::new(bench.server.ip(), 40_000);
    let from = SocketAddr::new(bench.client.ip(), 50_001);
    bench.line(true, "EPSV\r\n");
    bench.line(false, "229 Entering Extended Passive Mode (|||40000|)\r\n");
    bench.now = bench.now + Duration::from_secs(61);
    assert_eq!(
        bench.data_syn(from, data),
        dropped(true, DropReason::PolicyDrop)
    );
}

#[test]
fn a_segment_past_a_gap_is_held_until_the_gap_is_filled() {
    for family in FAMILIES {
        let mut bench = Bench::logged_in(family);
        let first = bench.control(true, ACK | PSH, b"TYPE I\r\n");
        bench.seq[0] += 8;
        let second = bench.control(true, ACK | PSH, b"SYST\r\n");
        let held = Moved::from([("received.outside", 1), ("held", 1)]);
        assert_eq!(bench.send(Outside, second.clone()), held);
        let passed = bench.pass(Outside, first.clone());
        assert_eq!(passed.verdict, Verdict::Forward);
        let left: Vec<_> = passed
            .leaving
            .iter()
            .map(|leaving| &leaving.frame.bytes)
            .collect();
        assert_eq!(left, [&first, &second], "in stream order");
        let both = Moved::from([
            ("received.outside", 1),
            ("forwarded.inside", 2),
            ("let go", 1),
        ]);
        assert_eq!(bench.moved(), both);
    }
}

#[test]
fn fragments_leave_as_they_came_when_all_are_there() {
    let mut bench = Bench::logged_in(Family::V4);
    let line = format!("STOR {}\r\n", "a".repeat(150));
    let frame = bench.control(true, ACK | PSH, line.as_bytes());
    let pieces = link::fragment(&frame, 64, 7);
    assert_eq!(pieces.len(), 3);
    let held = Moved::from([("received.outside", 1), ("held", 1)]);
    assert_eq!(bench.send(Outside, pieces[2].clone()), held);
    assert_eq!(bench.send(Outside, pieces[0].clone()), held);
    let passed = bench.pass(Outside, pieces[1].clone());
    let mut left: Vec<_> = passed.leaving.into_iter().map(|l| l.frame.bytes).collect();
    left.sort();
    let mut came = pieces.clone();
    came.sort();
    assert_eq!(left, came);
    let all = Moved::from([
        ("received.outside", 1),
        ("forwarded.inside", 3),
        ("let go", 2),
    ]);
    assert_eq!(bench.moved(), all);
}

/// A datagram in fragments that belongs behind a gap of the control stream: whatever becomes of
/// it, the law holds and the peer gets fragments or nothing, never a frame that nobody sent.
#[test]
fn fragments_past_a_gap_keep_the_law() {
    let mut bench = Bench::logged_in(Family::V4);
    let first = bench.control(true, ACK | PSH, b"NOOP\r\n");
    bench.seq[0] += 6;
    let line = format!("STOR {}\r\n", "a".repeat(150));
    let frame = bench.control(true, ACK | PSH, line.as_bytes());
    let pieces = link::fragment(&frame, 64, 7);
    let mut known = pieces.clone();
    known.push(first.clone());
    for piece in pieces {
        bench.pass(Outside, piece);
    }
    for leaving in bench.pass(Outside, first).leaving {
        assert!(
            known.contains(&leaving.frame.bytes),
            "{}",
            packet::Brief(&leaving.frame.bytes)
        );
    }
}
