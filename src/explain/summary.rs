//! What there is to say of a whole capture.

use std::net::IpAddr;

use serde::Serialize;

use super::record::seconds;
use super::{Explainer, Session};
use crate::observe::Snapshot;
use crate::wire::Side;

/// Addresses of each side that are named.
const MAX_NAMED: usize = 32;

/// A whole capture.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// Packets in the capture.
    pub packets: u64,
    /// When the first one was captured, in seconds since 1970.
    pub begins: Option<String>,
    /// From the first to the last one, in seconds.
    pub lasts: String,
    /// Packets that lotus would have forwarded.
    pub forwarded: u64,
    /// Packets that lotus would have dropped.
    pub dropped: u64,
    /// Those by reason.
    pub dropped_by_reason: Vec<Dropped>,
    /// Packets that are held when the capture ends.
    pub held: u64,
    /// Packets that do not cross the firewall.
    pub never_met: u64,
    /// Flows that began.
    pub flows: u64,
    /// FTP control connections that the server answered.
    pub control_connections: u64,
    /// Data ports that sessions opened.
    pub ports_opened: u64,
    /// Those that became a data connection.
    pub ports_used: u64,
    /// Those that are open when the capture ends.
    pub ports_open_at_end: u64,
    /// Beginnings of data connections that were let through because a session had announced them.
    pub data_syns_admitted: u64,
    /// Commands that were refused.
    pub refused_commands: u64,
    /// How sides were told apart.
    pub sides: String,
    /// Addresses taken as inside, if that was guessed; not more than some.
    pub inside: Vec<IpAddr>,
    /// The same for outside.
    pub outside: Vec<IpAddr>,
    /// Packets with unfinished checksums, which were taken as right.
    pub unfinished_checksums: u64,
    /// Who sent those.
    pub unfinished_from: Vec<Sender>,
    /// Packets with wrong checksums that the user vouched for.
    pub trusted_checksums: u64,
    /// Packets of which a part was not captured.
    pub cut_packets: u64,
    /// Packets with a time before that of the one before.
    pub backward_times: u64,
    /// TCP connections of which only one direction was captured.
    pub one_way_connections: u64,
    /// Events that were lost because one packet made too many.
    pub events_lost: u64,
    /// Sessions that are not told here, because there were too many.
    pub more_sessions: u64,
    /// The sessions.
    pub sessions: Vec<Session>,
}

/// Packets dropped for one reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Dropped {
    /// Its name.
    pub reason: &'static str,
    /// Packets.
    pub packets: u64,
    /// What it means.
    pub explanation: &'static str,
}

/// Who sent packets with unfinished checksums.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Sender {
    /// Its address.
    pub address: IpAddr,
    /// Packets.
    pub packets: u64,
}

impl Summary {
    pub(super) fn of(explainer: Explainer) -> Summary {
        let totals = explainer.shared.totals();
        let counts = Snapshot::of([&*explainer.counters]);
        let dropped = counts.drops().map(|(reason, traffic)| Dropped {
            reason: reason.name(),
            packets: traffic.frames,
            explanation: reason.explanation(),
        });
        let first_ns = explainer.first_ns;
        let last_ns = explainer.now.as_nanos();
        let senders = explainer.checksums.senders();
        Summary {
            packets: explainer.number,
            begins: first_ns.map(seconds),
            lasts: seconds(last_ns.saturating_sub(first_ns.unwrap_or_default())),
            forwarded: counts.forwarded_total().frames,
            dropped: counts.dropped_total().frames,
            dropped_by_reason: dropped.collect(),
            held: counts.held.frames,
            never_met: explainer.never_met,
            flows: totals.flows_begun,
            control_connections: totals.sessions_begun,
            ports_opened: totals.ports_opened,
            ports_used: totals.ports_used,
            ports_open_at_end: totals.expectations,
            data_syns_admitted: explainer.story.data_syns,
            refused_commands: totals.refused,
            sides: explainer.sides.rule(),
            inside: explainer.sides.on(Side::Inside, MAX_NAMED),
            outside: explainer.sides.on(Side::Outside, MAX_NAMED),
            unfinished_checksums: explainer.checksums.unfinished,
            unfinished_from: senders
                .map(|(address, packets)| Sender { address, packets })
                .collect(),
            trusted_checksums: explainer.checksums.trusted,
            cut_packets: explainer.cut,
            backward_times: explainer.backward,
            one_way_connections: explainer.flows.one_way(),
            events_lost: totals.events_lost,
            more_sessions: explainer.story.more_sessions,
            sessions: explainer.story.sessions,
        }
    }

    /// As one JSON object.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        #[derive(Serialize)]
        struct Json<'a> {
            r#type: &'static str,
            #[serde(flatten)]
            summary: &'a Summary,
        }
        let json = Json {
            r#type: "summary",
            summary: self,
        };
        serde_json::to_value(json).unwrap_or_default()
    }
}
