//! Sends a dialogue through an engine and compares what comes of it with the reference.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use lotus::conntrack::Time;
use lotus::engine::{Engine, Out, Settings, Shared, Verdict};
use lotus::observe::{Counters, EventKind};
use lotus::rules::{PortNames, Ruleset};
use lotus::wire::{Meta, Side};

use crate::grammar::{self, Dialogue};
use crate::packet::{self, ACK, PSH, SYN, Segment, View};
use crate::reference::{End, Opened, Reader, Turn};
use crate::rng::Rng;

/// Control connections, and nothing else that the helper does not open.
const RULES: &str = r#"
table bridge differential {
  ct helper ftp { type "ftp" protocol tcp; }
  chain forward {
    type filter hook forward priority 0; policy drop;
    ct state invalid drop
    ct state established,related accept
    tcp dport 21 ct state new ct helper set "ftp" accept
  }
}
"#;
const VERBS: [&str; 6] = ["PORT", "PASV", "EPRT", "EPSV", "LPRT", "LPSV"];
const CONTROL_PORT: u16 = 21;
const CLIENT_PORT: u16 = 50_123;
const MAX_FLOWS: usize = 64;
/// No port that is opened: else the answer to one probe would be another one.
const PROBES_FROM: u16 = 100;
/// As many segments at once as are held past a gap, with room to spare.
const SHUFFLED_SEGMENTS: usize = 16;
const STEP: Duration = Duration::from_millis(1);

/// What was compared.
#[derive(Clone, Copy, Debug, Default)]
pub struct Compared {
    pub client_bytes: u64,
    pub opened: u64,
    pub overwritten: u64,
    pub open_at_end: u64,
}

impl Compared {
    pub fn add(&mut self, other: Compared) {
        self.client_bytes += other.client_bytes;
        self.opened += other.opened;
        self.overwritten += other.overwritten;
        self.open_at_end += other.open_at_end;
    }
}

struct Driver {
    shared: Arc<Shared>,
    engine: Engine,
    now: Time,
    rng: Rng,
    client_side: Side,
    /// The client's and the server's control port.
    ends: [SocketAddr; 2],
    /// The number of each end's first byte.
    first: [u32; 2],
    sent: [Vec<u8>; 2],
    got: [Vec<Option<u8>>; 2],
    opened: Vec<Opened>,
}

/// Both readings of a dialogue, or how they differ.
pub fn compare(dialogue: &Dialogue) -> Result<Compared, String> {
    let mut driver = Driver::new(dialogue)?;
    let [client, server] = driver.ends.map(|end| end.ip());
    let mut reader = Reader::new(client, grammar::READS_LONG);
    for (number, (from, bytes)) in dialogue.turns(client, server).into_iter().enumerate() {
        let pieces = driver.cut(bytes, dialogue.longest_piece);
        driver.turn(from, &pieces, dialogue.shuffles)?;
        if !(dialogue.reference_hears_no_server && from == End::Server) {
            reader.turn(&Turn { from, pieces });
        }
        driver.listen();
        let where_ = || format!("after turn {number} ({from:?})");
        if driver.opened != reader.opened {
            return Err(format!(
                "opened {}: lotus {:?}, reference {:?}",
                where_(),
                driver.opened,
                reader.opened
            ));
        }
        let open = driver.shared.totals().expectations;
        if open != reader.open.iter().count() as u64 {
            let reference = reader.open;
            return Err(format!(
                "open {}: lotus {open}, reference {reference:?}",
                where_()
            ));
        }
        let got = driver.received(0);
        if got != reader.to_server {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            return Err(format!(
                "the server got {}: {:?}, reference {:?}",
                where_(),
                text(&got),
                text(&reader.to_server)
            ));
        }
        if driver.received(1) != driver.sent[1] {
            return Err(format!("{}: a reply was changed", where_()));
        }
    }
    driver.probe(reader.open)?;
    let overwritten = driver.sent[0].iter().zip(&reader.to_server);
    Ok(Compared {
        client_bytes: reader.to_server.len() as u64,
        opened: reader.opened.len() as u64,
        overwritten: overwritten.filter(|(a, b)| a != b).count() as u64,
        open_at_end: u64::from(reader.open.is_some()),
    })
}

impl Driver {
    fn new(dialogue: &Dialogue) -> Result<Driver, String> {
        let mut settings = Settings::default();
        settings.conntrack.max_flows = MAX_FLOWS;
        let names = PortNames {
            inside: "in".into(),
            outside: "out".into(),
        };
        let rules = Ruleset::parse("differential.nft", RULES, &names).expect("good rules");
        let shared = Shared::new(rules, settings);
        let engine = Engine::new(Arc::clone(&shared), Arc::new(Counters::default()));
        let [client, server]: [IpAddr; 2] = if dialogue.is_v6 {
            ["2001:db8::1f:7", "2001:db8::20"].map(|ip| ip.parse().expect("an address"))
        } else {
            ["192.0.2.17", "198.51.100.20"].map(|ip| ip.parse().expect("an address"))
        };
        let mut rng = Rng::new(dialogue.seed);
        let mut driver = Driver {
            shared,
            engine,
            now: Time::from_nanos(1_000_000),
            client_side: if dialogue.client_is_inside {
                Side::Inside
            } else {
                Side::Outside
            },
            ends: [
                SocketAddr::new(client, CLIENT_PORT),
                SocketAddr::new(server, CONTROL_PORT),
            ],
            first: [rng.next() as u32, rng.next() as u32],
            rng,
            sent: Default::default(),
            got: Default::default(),
            opened: Vec::new(),
        };
        let [c, s] = driver.first;
        for (from, flags, seq, ack) in [
            (0, SYN, c.wrapping_sub(1), 0),
            (1, SYN | ACK, s.wrapping_sub(1), c),
            (0, ACK, c, s),
        ] {
            let segment = Segment {
                seq,
                ack,
                ..driver.segment(from, flags)
            };
            let (verdict, _) = driver.pass(from, &segment);
            if verdict != Verdict::Forward {
                return Err(format!("the handshake: {verdict:?}"));
            }
        }
        Ok(driver)
    }

    fn cut(&mut self, bytes: Vec<u8>, longest: usize) -> Vec<Vec<u8>> {
        let mut pieces = Vec::new();
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let count = 1 + self.rng.below(longest as u64) as usize;
            let (piece, after) = rest.split_at(count.min(rest.len()));
            pieces.push(piece.to_vec());
            rest = after;
        }
        pieces
    }

    /// Sends the pieces, each at least once, some of them late or again.
    fn turn(&mut self, from: End, pieces: &[Vec<u8>], shuffles: bool) -> Result<(), String> {
        let sender = index(from);
        let mut segments = Vec::new();
        for piece in pieces {
            let mut segment = self.segment(sender, ACK | PSH);
            segment.payload = piece.clone();
            segments.push(segment);
            self.sent[sender].extend(piece);
            self.got[sender].resize(self.sent[sender].len(), None);
        }
        for group in segments.chunks_mut(SHUFFLED_SEGMENTS) {
            let mut order: Vec<usize> = (0..group.len()).collect();
            if shuffles {
                for at in (1..order.len()).rev() {
                    order.swap(at, self.rng.below(at as u64 + 1) as usize);
                }
                // Some again, before or after their turn.
                for _ in 0..self.rng.below(3) {
                    let again = *self.rng.pick(&order);
                    let at = self.rng.below(order.len() as u64 + 1) as usize;
                    order.insert(at, again);
                }
            }
            for at in order {
                let (verdict, frames) = self.pass(sender, &group[at]);
                if let Verdict::Drop(reason) = verdict
                    && reason.name() != "helper_gap"
                {
                    return Err(format!("a segment was dropped: {reason}"));
                }
                for frame in frames {
                    self.receive(sender, &frame)?;
                }
            }
        }
        // The other end has read all of it.
        let acknowledgment = self.segment(1 - sender, ACK);
        self.pass(1 - sender, &acknowledgment);
        Ok(())
    }

    /// The next segment of an end.
    fn segment(&self, sender: usize, flags: u8) -> Segment {
        let mut segment = Segment::new(self.ends[sender], self.ends[1 - sender], flags);
        segment.seq = self.first[sender].wrapping_add(self.sent[sender].len() as u32);
        segment.ack = self.first[1 - sender].wrapping_add(self.sent[1 - sender].len() as u32);
        segment
    }

    fn pass(&mut self, sender: usize, segment: &Segment) -> (Verdict, Vec<Vec<u8>>) {
        let side = match sender {
            0 => self.client_side,
            _ => self.client_side.other(),
        };
        self.now = self.now + STEP;
        let (mut frame, mut out) = (segment.frame(), Out::default());
        let verdict = self
            .engine
            .process(side, &mut frame, &Meta::default(), self.now, &mut out);
        let mut frames = Vec::new();
        if verdict == Verdict::Forward {
            frames.push(frame);
        }
        frames.extend(out.frames.iter().map(|left| left.frame.frame().to_vec()));
        (verdict, frames)
    }

    fn receive(&mut self, sender: usize, frame: &[u8]) -> Result<(), String> {
        let mut again = frame.to_vec();
        packet::fix_checksums(&mut again);
        if again != frame {
            return Err("what leaves has a wrong checksum".to_owned());
        }
        let ip = View::of(frame).and_then(|view| view.ip).ok_or("no IP")?;
        let tcp = ip.tcp(frame).ok_or("no TCP")?;
        let offset = tcp.seq.wrapping_sub(self.first[sender]) as usize;
        for (at, &byte) in (offset..).zip(&frame[tcp.payload_at..ip.end]) {
            let slot = self.got[sender].get_mut(at).ok_or("bytes nobody sent")?;
            if slot.replace(byte).is_some_and(|had| had != byte) {
                return Err(format!("byte {at} arrived as two different ones"));
            }
        }
        Ok(())
    }

    /// What has arrived without a gap.
    fn received(&self, sender: usize) -> Vec<u8> {
        self.got[sender].iter().map_while(|byte| *byte).collect()
    }

    fn listen(&mut self) {
        while let Some(stamped) = self.shared.events().pop() {
            let EventKind::PortOpened(opened) = stamped.event.kind else {
                continue;
            };
            let mode = opened.mode.to_string();
            self.opened.push(Opened {
                verb: VERBS.into_iter().find(|verb| *verb == mode).unwrap_or("?"),
                at: if opened.to.ip() == self.ends[0].ip() {
                    End::Client
                } else {
                    End::Server
                },
                port: opened.to.port(),
            });
        }
    }

    /// Nobody gets in but by the port that is open, and by that one they do.
    fn probe(&mut self, open: Option<Opened>) -> Result<(), String> {
        let mut ports = vec![20, 22, 1_023, 1_024, 5_000, 65_535];
        for opened in &self.opened {
            ports.extend([opened.port - 1, opened.port, opened.port.saturating_add(1)]);
        }
        ports.retain(|&port| port != CONTROL_PORT);
        ports.sort_unstable();
        ports.dedup();
        for (number, port) in ports.into_iter().enumerate() {
            for to in [0, 1] {
                let from = 1 - to;
                let source = SocketAddr::new(self.ends[from].ip(), PROBES_FROM + number as u16);
                let target = SocketAddr::new(self.ends[to].ip(), port);
                let is_open = open.is_some_and(|open| (index(open.at), open.port) == (to, port));
                let (verdict, _) = self.pass(from, &Segment::new(source, target, SYN));
                if (verdict == Verdict::Forward) != is_open {
                    return Err(format!(
                        "a SYN from {source} to {target}: {verdict:?}, reference open: {open:?}"
                    ));
                }
            }
        }
        Ok(())
    }
}

fn index(end: End) -> usize {
    match end {
        End::Client => 0,
        End::Server => 1,
    }
}
