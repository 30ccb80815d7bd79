//! lotus's side: an engine, and time that is moved by hand.

use std::sync::Arc;
use std::time::Duration;

use lotus::conntrack::{CtState, Time};
use lotus::engine::{Engine, Origin, Out, Settings, Shared, Verdict};
use lotus::observe::{Counters, DropReason};
use lotus::rules::{Diagnostics, PortNames, Ruleset};
use lotus::wire::{Meta, Side};

use crate::bed::PORTS;

/// Between two packets, about as on the kernel's side: nothing times out on either.
const STEP: Duration = Duration::from_micros(50);

/// More than a sequence has.
const FLOWS: usize = 10_000;

pub struct Lotus {
    engine: Engine,
    now: Time,
}

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Passed {
    /// It came out at the other side, or a datagram that it completes.
    pub through: bool,
    pub reason: Option<DropReason>,
    /// The state that the rules saw.
    pub state: Option<CtState>,
}

pub fn ports() -> PortNames {
    let [inside, outside] = PORTS.map(str::to_owned);
    PortNames { inside, outside }
}

impl Lotus {
    pub fn new(text: &str) -> Result<Lotus, Diagnostics> {
        let rules = Ruleset::parse("rules", text, &ports())?;
        let mut settings = Settings::default();
        settings.conntrack.max_flows = FLOWS;
        let shared = Shared::new(rules, settings);
        Ok(Lotus {
            engine: Engine::new(shared, Arc::new(Counters::default())).traced(),
            now: Time::from_nanos(1_000_000),
        })
    }

    pub fn pass(&mut self, side: Side, frame: &[u8]) -> Passed {
        self.now = self.now + STEP;
        let mut out = Out::default();
        let mut frame = frame.to_vec();
        let verdict = self
            .engine
            .process(side, &mut frame, &Meta::default(), self.now, &mut out);
        let is_released = out
            .frames
            .iter()
            .any(|frame| frame.origin == Origin::Released && frame.to == side.other());
        Passed {
            through: verdict == Verdict::Forward || is_released,
            reason: match verdict {
                Verdict::Drop(reason) => Some(reason),
                _ => None,
            },
            state: self.engine.last_trace().and_then(|trace| trace.state),
        }
    }
}
