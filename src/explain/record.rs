//! One packet, explained.

use serde::Serialize;

use crate::conntrack::{CtState, Direction};
use crate::observe::{DropReason, Event, EventKind, Speaker, Stamped};
use crate::wire::Side;

/// What became of a packet, and why.
#[derive(Clone, Debug)]
pub struct Explained {
    /// Its number in the capture, from 1.
    pub number: u64,
    /// When it was captured, in nanoseconds since 1970.
    pub at_ns: u64,
    /// The engine's time: nanoseconds since the first packet.
    pub since_first_ns: u64,
    /// Length of the frame.
    pub bytes: usize,
    /// As much of it as was captured.
    pub captured_bytes: usize,
    /// The side at which it came in.
    pub side: Option<Side>,
    /// Who to whom, and what, in one line.
    pub what: String,
    /// The number of its flow, if it has one.
    pub flow: Option<u64>,
    /// Its state, as the rules see it; none if it was decided before they were asked.
    pub state: Option<CtState>,
    /// Which way it goes in its flow.
    pub direction: Option<Direction>,
    /// The FTP session it belongs to.
    pub session: Option<u64>,
    /// What becomes of it.
    pub verdict: Judged,
    /// It was changed on the way.
    pub overwritten: bool,
    /// The packets that were held and now go on with it, in their order.
    pub releases: Vec<u64>,
    /// What is odd about it, or about its part in a session.
    pub remarks: Vec<String>,
    /// What happened before it came, because time was over.
    pub before: Vec<Told>,
    /// What it made happen.
    pub events: Vec<Told>,
}

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judged {
    /// It goes out at the other side.
    Forward,
    /// It ends here.
    Drop(DropReason),
    /// It waits for what is missing before it.
    Held,
    /// It does not cross the firewall.
    NeverMet,
}

/// An event and when it happened.
#[derive(Clone, Debug)]
pub struct Told {
    /// Nanoseconds since the first packet.
    pub since_first_ns: u64,
    /// What happened.
    pub event: Event,
}

impl Judged {
    /// One word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Judged::Forward => "forward",
            Judged::Drop(_) => "drop",
            Judged::Held => "held",
            Judged::NeverMet => "never met",
        }
    }

    /// Why it was dropped, if it was.
    #[must_use]
    pub fn reason(self) -> Option<DropReason> {
        match self {
            Judged::Drop(reason) => Some(reason),
            _ => None,
        }
    }
}

/// The state of a packet as rules name it.
#[must_use]
pub(super) fn state_name(state: CtState) -> &'static str {
    match state {
        CtState::Invalid => "invalid",
        CtState::New => "new",
        CtState::Established => "established",
        CtState::Related => "related",
        CtState::Untracked => "untracked",
    }
}

impl Explained {
    /// The name of its state, as rules have it.
    #[must_use]
    pub fn state_name(&self) -> Option<&'static str> {
        self.state.map(state_name)
    }

    /// As one JSON object.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        let direction = |direction| match direction {
            Direction::Original => "original",
            Direction::Reply => "reply",
        };
        let reason = self.verdict.reason();
        serde_json::json!({
            "type": "packet",
            "number": self.number,
            "time": seconds(self.at_ns),
            "since_first": seconds(self.since_first_ns),
            "bytes": self.bytes,
            "captured_bytes": self.captured_bytes,
            "side": self.side.map(|side| side.to_string()),
            "what": self.what,
            "flow": self.flow,
            "state": self.state_name(),
            "direction": self.direction.map(direction),
            "session": self.session,
            "verdict": self.verdict.word(),
            "reason": reason.map(DropReason::name),
            "explanation": reason.map(DropReason::explanation),
            "overwritten": self.overwritten,
            "releases": self.releases,
            "remarks": self.remarks,
            "before": self.before.iter().map(Told::json).collect::<Vec<_>>(),
            "events": self.events.iter().map(Told::json).collect::<Vec<_>>(),
        })
    }
}

impl Told {
    fn json(&self) -> serde_json::Value {
        #[derive(Serialize)]
        struct Json<'a> {
            since_first: String,
            #[serde(flatten)]
            event: &'a Event,
        }
        let json = Json {
            since_first: seconds(self.since_first_ns),
            event: &self.event,
        };
        serde_json::to_value(json).unwrap_or_default()
    }
}

/// Seconds with nine digits: text, because JSON numbers are not exact enough.
pub(super) fn seconds(nanos: u64) -> String {
    const NANOS: u64 = 1_000_000_000;
    format!("{}.{:09}", nanos / NANOS, nanos % NANOS)
}

/// A command is refused at the byte that makes it refusable, before its line is whole; a client
/// that speaks too early is found at its first byte. People want to read the line first.
pub(super) fn put_lines_first(told: &mut [Stamped]) {
    let is_line_of = |stamped: &Stamped, session: u64| {
        let from_client = matches!(
            stamped.event.kind,
            EventKind::Line {
                from: Speaker::Client,
                ..
            }
        );
        from_client && stamped.event.session == session
    };
    let mut at = 0;
    while let Some(rest) = told.get_mut(at..)
        && let Some(first) = rest.first()
    {
        let session = first.event.session;
        let is_early = matches!(
            first.event.kind,
            EventKind::Refused { .. } | EventKind::NotFtp { .. }
        );
        let line = || rest.iter().position(|other| is_line_of(other, session));
        match is_early.then(line).flatten() {
            Some(line) => {
                if let Some(until) = rest.get_mut(..=line) {
                    until.rotate_right(1);
                }
                // What stood before the line stands behind it now, and stays there.
                at += line + 1;
            }
            None => at += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::Escaped;

    fn told(kind: EventKind) -> Stamped {
        Stamped {
            at_ns: 0,
            event: Event { session: 1, kind },
        }
    }

    fn line(text: &str) -> Stamped {
        told(EventKind::Line {
            from: Speaker::Client,
            text: Escaped::new(text.as_bytes()),
        })
    }

    fn refused(what: &str) -> Stamped {
        told(EventKind::Refused {
            what: Escaped::new(what.as_bytes()),
            why: "why",
        })
    }

    #[test]
    fn the_line_comes_before_its_refusal() {
        let mut events = vec![
            line("NOOP"),
            refused("PORT 1"),
            line("PORT 1,2"),
            refused("PORT 3"),
            line("PORT 3,4"),
            refused("early"),
            refused("again"),
            line("PORT 5,6"),
            refused("unfinished"),
        ];
        put_lines_first(&mut events);
        let said: Vec<_> = events.iter().map(|e| e.event.to_string()).collect();
        assert_eq!(
            said,
            [
                "ftp[1] client: NOOP",
                "ftp[1] client: PORT 1,2",
                "ftp[1] refused PORT 1: why",
                "ftp[1] client: PORT 3,4",
                "ftp[1] refused PORT 3: why",
                "ftp[1] client: PORT 5,6",
                "ftp[1] refused early: why",
                "ftp[1] refused again: why",
                "ftp[1] refused unfinished: why",
            ]
        );
    }

    #[test]
    fn seconds_are_exact() {
        assert_eq!(seconds(1_700_000_000_123_456_789), "1700000000.123456789");
        assert_eq!(seconds(5), "0.000000005");
    }
}
