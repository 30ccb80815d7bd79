//! What stands between the hosts: engines that share one state, or a bare wire. Checks the
//! accounting law.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use lotus::conntrack::Time;
use lotus::engine::{Engine, Origin, Out, Settings, Shared, Verdict};
use lotus::observe::{Counters, Snapshot};
use lotus::rules::{PortNames, Ruleset};
use lotus::wire::{OwnedFrame, Side};

use crate::ftp::CONTROL_PORT;
use crate::packet::{FIN, Frame, IpView, RST, SYN, View};
use crate::rng::Rng;

pub const INSIDE: &str = "in0";
pub const OUTSIDE: &str = "out0";

/// More than what one dialogue leaves behind between two ticks.
const TICK_BUDGET: usize = 256;

/// What a wire holds of each direction, at most: as much as lotus.
const MAX_HELD: usize = 32;

/// How frames are given to engines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spread {
    /// Both directions of a flow to one engine, as symmetric fanout does.
    Hash,
    /// Anywhere: correctness must not depend on the fanout.
    Random,
}

/// What became of a frame.
#[derive(Debug)]
pub struct Passed {
    pub verdict: Verdict,
    /// All that leaves, in order, the frame itself first.
    pub leaving: Vec<Leaving>,
}

#[derive(Debug)]
pub struct Leaving {
    pub to: Side,
    pub generated: bool,
    pub frame: Frame,
}

pub enum Middle {
    /// Forwards everything: shows that the harness itself carries the dialogues.
    Wire,
    /// A wire on which control connections stay in order, and no more than that: what comes past
    /// a gap waits, so that its receiver does not ask for what is missing.
    OrderedWire(InOrder),
    Firewall(Box<Firewall>),
}

impl Middle {
    pub fn pass(&mut self, side: Side, frame: Frame, now: Time) -> Result<Passed, String> {
        match self {
            Middle::Wire => Ok(Passed {
                verdict: Verdict::Forward,
                leaving: vec![Leaving {
                    to: side.other(),
                    generated: false,
                    frame,
                }],
            }),
            Middle::OrderedWire(wire) => {
                let leaving = wire.pass(frame).into_iter().map(|frame| Leaving {
                    to: side.other(),
                    generated: false,
                    frame,
                });
                Ok(Passed {
                    verdict: Verdict::Forward,
                    leaving: leaving.collect(),
                })
            }
            Middle::Firewall(firewall) => firewall.pass(side, frame, now),
        }
    }

    pub fn tick(&mut self, now: Time) -> Result<(), String> {
        match self {
            Middle::Wire | Middle::OrderedWire(_) => Ok(()),
            Middle::Firewall(firewall) => firewall.tick(now),
        }
    }
}

/// Puts the segments of control connections in order.
#[derive(Default)]
pub struct InOrder {
    streams: HashMap<(SocketAddr, SocketAddr), Ordered>,
}

#[derive(Default)]
struct Ordered {
    next: u32,
    /// What came past a gap, by its first number.
    held: Vec<(u32, Frame)>,
}

impl InOrder {
    /// What leaves when this comes.
    fn pass(&mut self, frame: Frame) -> Vec<Frame> {
        let Some(ip) = View::of(&frame.bytes).and_then(|view| view.ip) else {
            return vec![frame];
        };
        let Some(tcp) = ip.tcp(&frame.bytes) else {
            return vec![frame];
        };
        let is_control = [tcp.src_port, tcp.dst_port].contains(&CONTROL_PORT);
        if !is_control || ip.fragment.is_some() || tcp.flags & RST != 0 {
            return vec![frame];
        }
        let ends = (
            SocketAddr::new(ip.src, tcp.src_port),
            SocketAddr::new(ip.dst, tcp.dst_port),
        );
        let stream = self.streams.entry(ends).or_default();
        let taken = u32::from(tcp.flags & (SYN | FIN) != 0);
        let end = tcp
            .seq
            .wrapping_add((ip.end - tcp.payload_at) as u32 + taken);
        if tcp.flags & SYN != 0 {
            stream.next = end;
        }
        if end != tcp.seq && stream.is_ahead(tcp.seq) {
            if stream.held.len() < MAX_HELD && stream.held.iter().all(|held| held.0 != tcp.seq) {
                stream.held.push((tcp.seq, frame));
            }
            return Vec::new();
        }
        if stream.is_ahead(end) {
            stream.next = end;
        }
        let mut leaving = vec![frame];
        let continues = stream.held.iter().position(|held| !stream.is_ahead(held.0));
        if let Some(at) = continues {
            let (_, frame) = stream.held.swap_remove(at);
            leaving.extend(self.pass(frame));
        }
        leaving
    }
}

impl Ordered {
    fn is_ahead(&self, seq: u32) -> bool {
        (seq.wrapping_sub(self.next) as i32) > 0
    }
}

pub struct Firewall {
    pub shared: Arc<Shared>,
    engines: Vec<Engine>,
    /// One block for each engine, and the last one for the tick.
    counters: Vec<Arc<Counters>>,
    spread: Spread,
    rng: Rng,
    out: Out,
    frames_in: u64,
    /// The accounting law is checked after each so many frames, and at each tick.
    pub law_every: u64,
}

impl Firewall {
    /// # Panics
    ///
    /// When the ruleset is not right.
    pub fn new(
        rules: &str,
        settings: Settings,
        engines: usize,
        spread: Spread,
        rng: Rng,
    ) -> Firewall {
        let names = PortNames {
            inside: INSIDE.into(),
            outside: OUTSIDE.into(),
        };
        let ruleset = Ruleset::parse("sim.nft", rules, &names)
            .unwrap_or_else(|wrong| panic!("the ruleset of the test: {wrong:?}\n{rules}"));
        let shared = Shared::new(ruleset, settings);
        let counters: Vec<_> = (0..=engines)
            .map(|_| Arc::new(Counters::default()))
            .collect();
        let engines = counters[..engines]
            .iter()
            .map(|counters| Engine::new(Arc::clone(&shared), Arc::clone(counters)))
            .collect();
        Firewall {
            shared,
            engines,
            counters,
            spread,
            rng,
            out: Out::default(),
            frames_in: 0,
            law_every: 1,
        }
    }

    pub fn pass(&mut self, side: Side, mut frame: Frame, now: Time) -> Result<Passed, String> {
        let which = match self.spread {
            Spread::Hash => fanout(&frame.bytes) % self.engines.len(),
            Spread::Random => self.rng.below(self.engines.len() as u64) as usize,
        };
        let (engine, counters) = (&mut self.engines[which], &self.counters[which]);
        let (out, length) = (&mut self.out, frame.bytes.len());
        let verdict = catch_unwind(AssertUnwindSafe(|| {
            engine.process(side, &mut frame.bytes, &frame.meta, now, out)
        }))
        .map_err(|_| "the engine panicked (see the output above)".to_owned())?;
        self.frames_in += 1;

        let mut leaving = Vec::new();
        if verdict == Verdict::Forward {
            counters.forwarded(side.other().index(), length);
            leaving.push(Leaving {
                to: side.other(),
                generated: false,
                frame,
            });
        }
        for released in self.out.frames.drain(..) {
            let generated = released.origin == Origin::Generated;
            let length = released.frame.frame().len();
            if generated {
                counters.generated(length);
            } else {
                // Whoever sends a released frame says so: the engine does not know if it was sent.
                counters.unheld(length);
                counters.forwarded(released.to.index(), length);
            }
            leaving.push(Leaving {
                to: released.to,
                generated,
                frame: owned(&released.frame),
            });
        }
        if self.frames_in.is_multiple_of(self.law_every) {
            self.law()?;
        }
        Ok(Passed { verdict, leaving })
    }

    pub fn tick(&mut self, now: Time) -> Result<(), String> {
        let (shared, counters) = (&self.shared, &self.counters[self.engines.len()]);
        catch_unwind(AssertUnwindSafe(|| shared.tick(now, TICK_BUDGET, counters)))
            .map_err(|_| "the tick panicked (see the output above)".to_owned())?;
        self.law()
    }

    pub fn snapshot(&self) -> Snapshot {
        Snapshot::of(self.counters.iter().map(Arc::as_ref))
    }

    /// received = forwarded + dropped + held, in frames and in bytes, and received is what the
    /// harness itself has counted.
    fn law(&self) -> Result<(), String> {
        let snapshot = self.snapshot();
        let bytes_out =
            snapshot.forwarded_total().bytes + snapshot.dropped_total().bytes + snapshot.held.bytes;
        if snapshot.unaccounted_frames() != 0
            || snapshot.received_total().frames != self.frames_in
            || snapshot.received_total().bytes != bytes_out
        {
            let drops: Vec<_> = snapshot.drops().collect();
            return Err(format!(
                "the accounting law is broken after frame {}: received {:?}, forwarded {:?}, \
                 held {:?}, dropped {drops:?}",
                self.frames_in, snapshot.received, snapshot.forwarded, snapshot.held
            ));
        }
        Ok(())
    }
}

fn owned(frame: &OwnedFrame) -> Frame {
    Frame {
        bytes: frame.frame().to_vec(),
        meta: frame.meta(),
    }
}

/// The same for both directions of a flow.
fn fanout(frame: &[u8]) -> usize {
    let Some(ip) = View::of(frame).and_then(|view| view.ip) else {
        return 0;
    };
    let ports = match ip.tcp(frame) {
        Some(tcp) => usize::from(tcp.src_port) + usize::from(tcp.dst_port),
        None => 0,
    };
    address_sum(&ip) + ports
}

fn address_sum(ip: &IpView) -> usize {
    let last = |address: std::net::IpAddr| match address {
        std::net::IpAddr::V4(a) => usize::from(a.octets()[3]),
        std::net::IpAddr::V6(a) => usize::from(a.octets()[15]),
    };
    last(ip.src) + last(ip.dst)
}
