//! What lotus would have done with each packet of a capture, and why.
//!
//! [`Explainer`] gives the packets to an [`Engine`], the same that runs between two interfaces,
//! with the capture's own times as the time. It adds only what a capture lacks: from which side a
//! packet came (`sides`), checksums that the capturing host had not finished (`checksums`), the
//! part of a packet that was not captured. What it hands out is for people ([`Explained`],
//! [`Summary`]) and decides nothing.

#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod checksums;
mod flows;
mod record;
mod sides;
mod story;
mod summary;
mod view;

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

pub use record::{Explained, Judged, Told};
pub use story::{Ended, Line, Port, Refusal, Session};
pub use summary::{Dropped, Sender, Summary};

use self::checksums::{Checksums, Found};
use self::flows::Flows;
use self::record::put_lines_first;
use self::sides::{Placed, Sides};
use self::story::Story;
use self::view::View;
use crate::conntrack::{CtState, Link, Time};
use crate::engine::{Engine, Origin, Out, Settings, Shared, Trace, Verdict};
use crate::io::capture::Captured;
use crate::observe::{Counters, DropReason};
use crate::rules::Ruleset;
use crate::wire::{L4, Meta, Packet, Side, TcpFlags};

/// Time passes for flows and ports in steps of this, as long as the capture has no great gaps.
const TICK: Duration = Duration::from_secs(1);
/// In a gap between two packets, time passes in at most so many steps.
const MAX_TICKS_PER_GAP: u32 = 64;
/// A look at the whole flow table takes so many steps, because it is large and mostly empty. A flow
/// whose time is over is found to be so by its next packet, too.
const TICKS_PER_SWEEP: usize = 16;

/// The longest packet that is filled up when its end was not captured: the longest IP datagram
/// with headers of the link.
const MAX_FILLED_BYTES: usize = 65_535 + 64;

/// Held packets whose number is remembered, and their bytes: as many as lotus ever holds at once
/// and more.
const MAX_HELD: usize = 65_536;
const MAX_HELD_BYTES: usize = 80 << 20;

/// How a capture is to be seen.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// What is inside; empty: guess.
    pub inside: Vec<IpNet>,
    /// Addresses that are inside in any case.
    pub servers: Vec<IpAddr>,
    /// All checksums are taken as right.
    pub trust_checksums: bool,
}

/// Explains the packets of one capture, in their order.
#[derive(Debug)]
pub struct Explainer {
    shared: Arc<Shared>,
    engine: Engine,
    counters: Arc<Counters>,
    sides: Sides,
    checksums: Checksums,
    flows: Flows,
    story: Story,
    /// Packets that the engine holds, with their numbers.
    held: VecDeque<(u64, Vec<u8>)>,
    held_bytes: usize,
    number: u64,
    first_ns: Option<u64>,
    now: Time,
    next_tick: Time,
    cut: u64,
    never_met: u64,
    backward: u64,
}

/// A frame as the engine gets it.
struct Prepared {
    frame: Vec<u8>,
    meta: Meta,
    parsed: Result<Packet, DropReason>,
    /// Too much of it is missing.
    is_unusable: bool,
}

impl Explainer {
    /// One with these rules and limits.
    #[must_use]
    pub fn new(ruleset: Ruleset, settings: Settings, options: Options) -> Explainer {
        let shared = Shared::new(ruleset, settings);
        shared.events().ask_for_lines();
        let counters = Arc::new(Counters::default());
        Explainer {
            engine: Engine::new(Arc::clone(&shared), Arc::clone(&counters)).traced(),
            shared,
            counters,
            sides: Sides::new(options.inside, &options.servers),
            checksums: Checksums::new(options.trust_checksums),
            flows: Flows::default(),
            story: Story::default(),
            held: VecDeque::new(),
            held_bytes: 0,
            number: 0,
            first_ns: None,
            now: Time::default(),
            next_tick: Time::default(),
            cut: 0,
            never_met: 0,
            backward: 0,
        }
    }

    /// How sides are told apart, in one sentence.
    #[must_use]
    pub fn rule_of_sides(&self) -> String {
        self.sides.rule()
    }

    /// One of the first packets, before any is explained: who is an FTP server decides who is
    /// inside, if that must be guessed.
    pub fn look_ahead(&mut self, packet: &Captured) {
        let parsed = crate::wire::parse(&packet.frame).ok();
        self.sides
            .look_ahead(&View::of(&packet.frame, parsed.as_ref()));
    }

    /// Explains the next packet.
    pub fn packet(&mut self, captured: Captured) -> Explained {
        self.number += 1;
        let number = self.number;
        let mut remarks = Vec::new();
        let first_ns = *self.first_ns.get_or_insert(captured.at_ns);
        let before = self.pass_time(captured.at_ns, &mut remarks);
        let (bytes, captured_bytes) = (captured.wire_bytes, captured.frame.len());
        let at_ns = captured.at_ns;
        let mut prepared = self.prepare(captured, &mut remarks);
        let view = View::of(&prepared.frame, prepared.parsed.as_ref().ok());
        let base = prepared.parsed.as_ref().ok();
        let base = base.and_then(|packet| self.flows.base(packet));
        let wanted = wanted_by_syn(&prepared.parsed);
        let expected = wanted.and_then(|to| self.story.expected_side(to.ip(), to));
        let placed = self.sides.place(&view, expected);
        remarks.extend(self.sides.news());
        let mut explained = Explained {
            number,
            at_ns,
            since_first_ns: self.now.as_nanos().saturating_sub(first_ns),
            bytes,
            captured_bytes,
            side: None,
            what: view::line(&prepared.frame, &prepared.parsed, base),
            flow: None,
            state: None,
            direction: None,
            session: None,
            verdict: Judged::NeverMet,
            overwritten: false,
            releases: Vec::new(),
            remarks,
            before,
            events: Vec::new(),
        };
        match placed {
            Placed::At(side) => {
                explained.side = Some(side);
                self.judge(side, &mut prepared, bytes, &mut explained);
            }
            Placed::NeverMet(side) => {
                self.never_met += 1;
                let remark = format!("both ends are {side}: lotus would never see this packet");
                explained.remarks.push(remark);
            }
        }
        explained
    }

    /// The end of the capture: what there is to say of all of it.
    #[must_use]
    pub fn finish(self) -> Summary {
        Summary::of(self)
    }

    /// Gives a frame to the engine, as a worker does.
    fn judge(&mut self, side: Side, prepared: &mut Prepared, bytes: usize, to: &mut Explained) {
        if prepared.is_unusable {
            self.counters.received(side.index(), bytes);
            self.counters.dropped(DropReason::RxCut, bytes);
            to.verdict = Judged::Drop(DropReason::RxCut);
            return;
        }
        let before = prepared.frame.clone();
        let mut out = Out::default();
        let verdict = self.engine.process(
            side,
            &mut prepared.frame,
            &prepared.meta,
            self.now,
            &mut out,
        );
        let trace = self.engine.last_trace().copied().unwrap_or_default();
        to.verdict = match verdict {
            Verdict::Forward => {
                let bytes = prepared.frame.len();
                self.counters.forwarded(side.other().index(), bytes);
                to.overwritten = prepared.frame != before;
                Judged::Forward
            }
            Verdict::Drop(reason) => Judged::Drop(reason),
            Verdict::Held => {
                self.held_bytes += before.len();
                self.held.push_back((to.number, before));
                while self.held.len() > MAX_HELD || self.held_bytes > MAX_HELD_BYTES {
                    let Some((_, oldest)) = self.held.pop_front() else {
                        break;
                    };
                    self.held_bytes -= oldest.len();
                }
                Judged::Held
            }
        };
        for sent in out.frames {
            let frame = sent.frame.frame();
            match sent.origin {
                Origin::Released => {
                    self.counters.unheld(frame.len());
                    self.counters.forwarded(sent.to.index(), frame.len());
                    to.releases.extend(self.release(frame));
                }
                Origin::Generated => {
                    self.counters.generated(frame.len());
                    let line = view::line(frame, &crate::wire::parse(frame), None);
                    to.remarks
                        .push(format!("lotus sends towards {}: {line}", sent.to));
                }
            }
        }
        if to.releases.contains(&to.number) {
            // The last fragment of a datagram: it was held no longer than all of this took.
            to.releases.retain(|&number| number != to.number);
            to.verdict = Judged::Forward;
        }
        self.follow(&trace, &prepared.parsed, to);
    }

    /// Tells what the engine noted, and what happened meanwhile.
    fn follow(&mut self, trace: &Trace, parsed: &Result<Packet, DropReason>, to: &mut Explained) {
        to.state = trace.state;
        to.direction = trace.direction;
        if let Some(tuple) = trace.tuple.filter(|_| trace.direction.is_some()) {
            to.flow = self.flows.number(&tuple, trace.begun);
        }
        match (trace.link, trace.begun) {
            (Link::Control(id, _), true) => self.story.control_syn(id, to.number),
            (Link::Announced(id), true) => {
                let tuple = trace.tuple.as_ref();
                let remark = tuple.and_then(|tuple| self.story.data_syn(id, tuple, to.number));
                to.remarks.extend(remark);
            }
            _ => {}
        }
        to.session = match trace.link {
            Link::None => None,
            Link::Control(id, _) | Link::Announced(id) | Link::Data(id) | Link::Ended(id) => {
                Some(id)
            }
        };
        if matches!(to.verdict, Judged::Drop(_))
            && trace.state == Some(CtState::New)
            && let Some(wanted) = wanted_by_syn(parsed)
        {
            to.remarks.extend(self.story.history(wanted));
        }
        to.events = self.events(Some(to.number));
    }

    /// What has happened since the last call, because of a packet or of time.
    fn events(&mut self, packet: Option<u64>) -> Vec<Told> {
        let events = self.shared.events();
        let mut told: Vec<_> = std::iter::from_fn(|| events.pop()).collect();
        put_lines_first(&mut told);
        for stamped in &told {
            self.story.tell(&stamped.event, packet);
        }
        let first_ns = self.first_ns.unwrap_or_default();
        let since_first = |stamped: crate::observe::Stamped| Told {
            since_first_ns: stamped.at_ns.saturating_sub(first_ns),
            event: stamped.event,
        };
        told.into_iter().map(since_first).collect()
    }

    /// Moves the engine's clock to when the next packet was captured. A capture's clock may jump
    /// backwards; the engine's does not.
    fn pass_time(&mut self, at_ns: u64, remarks: &mut Vec<String>) -> Vec<Told> {
        let at = Time::from_nanos(at_ns);
        if self.number == 1 {
            (self.now, self.next_tick) = (at, at + TICK);
            return Vec::new();
        }
        if at < self.now {
            self.backward += 1;
            let back = self.now.since(at);
            let remark = format!("the clock went back by {back:?}: taken as the time before");
            remarks.push(remark);
            return Vec::new();
        }
        let step = TICK.max(at.since(self.next_tick) / MAX_TICKS_PER_GAP);
        // Not more often than that: at the end of all time the clock stands still.
        for _ in 0..=MAX_TICKS_PER_GAP {
            if self.next_tick > at {
                break;
            }
            let parts = self.shared.parts().div_ceil(TICKS_PER_SWEEP);
            self.shared.tick(self.next_tick, parts, &self.counters);
            self.next_tick = self.next_tick + step;
        }
        self.now = at;
        self.events(None)
    }

    /// Makes a frame ready for the engine: fills up what was not captured, looks at checksums.
    fn prepare(&mut self, captured: Captured, remarks: &mut Vec<String>) -> Prepared {
        let Captured {
            mut frame,
            wire_bytes,
            ..
        } = captured;
        let captured_bytes = frame.len();
        let is_cut = captured_bytes < wire_bytes;
        if is_cut && wire_bytes <= MAX_FILLED_BYTES {
            frame.resize(wire_bytes, 0);
        }
        let mut parsed = crate::wire::parse(&frame);
        let mut is_unusable = false;
        if is_cut {
            self.cut += 1;
            // Headers that were cut are no headers: what stands there is what was filled in.
            let headers_end = parsed.as_ref().map(headers_end);
            is_unusable = wire_bytes > MAX_FILLED_BYTES
                || headers_end.map_or(true, |end| end > captured_bytes);
            let missing = wire_bytes - captured_bytes;
            remarks.push(if is_unusable {
                frame.truncate(captured_bytes);
                parsed = crate::wire::parse(&frame);
                format!("{missing} of its {wire_bytes} bytes were not captured: it can't be judged")
            } else {
                format!(
                    "{missing} of its {wire_bytes} bytes were not captured and are taken as zeros"
                )
            });
        }
        let mut meta = Meta::default();
        if let Ok(packet) = &parsed {
            let (found_meta, found) = self.checksums.look(&mut frame, packet, is_cut);
            meta = found_meta;
            match found {
                Found::Usual | Found::Unfinished => {}
                Found::Trusted => remarks.push("its checksum is wrong, and trusted".to_owned()),
                Found::Wrong => remarks.push("its checksum is wrong".to_owned()),
            }
        }
        Prepared {
            frame,
            meta,
            parsed,
            is_unusable,
        }
    }

    /// The number of a packet that was held and now goes on.
    fn release(&mut self, frame: &[u8]) -> Option<u64> {
        // The newest one, if there are more: an older one may have been dropped meanwhile.
        let at = self
            .held
            .iter()
            .rposition(|(_, held)| is_same(held, frame))?;
        let (number, held) = self.held.remove(at)?;
        self.held_bytes -= held.len();
        Some(number)
    }
}

/// Whether a frame is another one, perhaps overwritten on the way.
fn is_same(held: &[u8], released: &[u8]) -> bool {
    if held.len() != released.len() {
        return false;
    }
    let tcp = |frame| {
        let ip = crate::wire::parse(frame).ok()?.ip?;
        match ip.l4 {
            L4::Tcp(tcp) => Some((ip.src, ip.dst, tcp.src_port, tcp.dst_port, tcp.seq)),
            _ => None,
        }
    };
    match (tcp(held), tcp(released)) {
        (Some(one), Some(other)) => one == other,
        _ => held == released,
    }
}

/// Where a packet's headers end in its frame.
fn headers_end(packet: &Packet) -> usize {
    const ARP_BYTES: usize = 28;
    match &packet.ip {
        Some(ip) => match (&ip.l4, &ip.fragment) {
            (_, Some(fragment)) => fragment.data_offset,
            (L4::Icmp(_), None) => ip.l4_offset + 8,
            _ => ip.payload().start,
        },
        None => packet.ether.payload_offset + ARP_BYTES,
    }
}

/// Where a packet wants to connect to, if it is a SYN.
fn wanted_by_syn(parsed: &Result<Packet, DropReason>) -> Option<SocketAddr> {
    let ip = parsed.as_ref().ok()?.ip.as_ref()?;
    match &ip.l4 {
        L4::Tcp(tcp) if tcp.flags.has(TcpFlags::SYN) && !tcp.flags.has(TcpFlags::ACK) => {
            Some(SocketAddr::new(ip.dst, tcp.dst_port))
        }
        _ => None,
    }
}
