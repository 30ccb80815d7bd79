//! Asking the rules, and telling who is rejected or to be logged.

use super::{Engine, Passing};
use crate::conntrack::{CachedVerdict, CtState, Direction, FlowKey, Link, Tracked};
use crate::engine::{Origin, OutFrame, reject};
use crate::observe::{DropReason, Escaped, Event, EventKind, EventQueue};
use crate::rules::{Log, Outcome, Query, Reject};
use crate::wire::Packet;

/// What connection tracking says of a packet that the rules are asked about.
#[derive(Clone, Copy)]
pub(super) struct Asked {
    pub(super) state: CtState,
    pub(super) direction: Direction,
    /// Its flow is a data connection that an FTP session announced, from its beginning to its end.
    pub(super) is_expected: bool,
}

impl Asked {
    /// Of a packet that is of no flow, or begins one.
    pub(super) fn alone(state: CtState) -> Asked {
        Asked {
            state,
            direction: Direction::Original,
            is_expected: false,
        }
    }
}

impl Engine {
    #[inline(never)]
    pub(super) fn ask_and_keep(
        &mut self,
        key: &FlowKey,
        tracked: &Tracked,
        link: Link,
        packet: &Packet,
        passing: &mut Passing<'_>,
    ) -> Option<DropReason> {
        let asked = Asked {
            state: tracked.state,
            direction: tracked.direction,
            is_expected: is_expected(link),
        };
        let outcome = self.ask(packet, passing, asked);
        if outcome.cacheable {
            let generation = self.rules.generation;
            let kept = CachedVerdict {
                generation,
                state: tracked.state,
                outcome: outcome.into(),
            };
            self.shared
                .table
                .with(key, |flow| flow.cache(tracked.direction, kept));
        }
        outcome.drop
    }

    /// Asks the rules. If they reject the packet, its sender is told.
    pub(super) fn ask(
        &mut self,
        packet: &Packet,
        passing: &mut Passing<'_>,
        asked: Asked,
    ) -> Outcome {
        let Asked {
            state,
            direction,
            is_expected,
        } = asked;
        self.note(|trace| trace.state = Some(state));
        let query = Query {
            packet,
            side: passing.side,
            frame: passing.frame,
            state,
            direction,
            is_expected,
            now: passing.now,
        };
        let events = self.shared.events();
        let outcome = self
            .rules
            .ruleset
            .evaluate_and_log(&query, |log| log_packet(log, &query, events));
        if let Some(reject) = outcome.reject {
            self.tell(reject, packet, passing);
        }
        outcome
    }

    #[cold]
    #[inline(never)]
    fn tell(&self, reject: Reject, packet: &Packet, passing: &mut Passing<'_>) {
        if !reject::may_answer(passing.frame, packet, passing.meta, reject) {
            return;
        }
        if !self.shared.answers.take(passing.now) {
            return self.counters.answer_suppressed();
        }
        if let Some(frame) = reject::answer(passing.frame, packet, reject) {
            let (to, origin) = (passing.side, Origin::Generated);
            passing.out.frames.push(OutFrame { to, origin, frame });
        }
    }
}

pub(super) fn is_expected(link: Link) -> bool {
    matches!(link, Link::Announced(_) | Link::Data(_) | Link::Ended(_))
}

/// Tells of a packet that a `log` statement was met by.
#[cold]
fn log_packet(log: &Log, query: &Query<'_>, events: &EventQueue) {
    let event = Event {
        session: 0,
        kind: EventKind::Logged {
            prefix: Escaped::new(log.prefix.as_bytes()),
            level: log.level_name(),
            from: query.side.name(),
            packet: query.packet.to_string(),
            bytes: query.frame.len(),
        },
    };
    events.push(query.now.as_nanos(), event);
}
