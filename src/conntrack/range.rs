//! Port ranges that are open for a session whose announcements can't be read (FTP over TLS): from
//! one host to one other host, for a few connections at a time.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;

use super::{Claim, ExpectError, ExpectedTuple, FlowKey, MAX_EXPECTATIONS, MAX_PER_CLIENT, Time};
use crate::wire::{MAX_VLAN_TAGS, Side};

/// SYNs to no named port that are answered by a reset, for each session and second. An honest
/// client sends one for each transfer that it tries; more would serve whoever forges them.
const RESETS_PER_SECOND: u8 = 4;

/// Ports below this are the system's (RFC 6335 section 6): data never goes there (RFC 2577
/// section 3).
pub const FIRST_DATA_PORT: u16 = 1024;

/// Who may connect to whom, in at which port of the firewall, in which VLAN.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Pair {
    /// Who may connect.
    pub from: IpAddr,
    /// Where to.
    pub to: IpAddr,
    /// At which port of the firewall the SYN must come in.
    pub side: Side,
    /// In which VLAN.
    pub vlan: [u16; MAX_VLAN_TAGS],
}

impl From<&ExpectedTuple> for Pair {
    fn from(tuple: &ExpectedTuple) -> Pair {
        let ExpectedTuple {
            from,
            to,
            side,
            vlan,
            ..
        } = *tuple;
        Pair {
            from,
            to,
            side,
            vlan,
        }
    }
}

/// A SYN of a session that opened no range with its port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missed {
    /// The session.
    pub session: u64,
    /// A reset may answer it.
    pub may_answer: bool,
}

#[derive(Debug)]
struct Range {
    session: u64,
    /// `None`: nobody named a range.
    ports: Option<RangeInclusive<u16>>,
    at_once: usize,
    /// New connections may begin. Once it is shut, it is kept until those that live have ended.
    is_open: bool,
    places: Vec<Place>,
    /// Resets sent since then.
    resets: (Time, u8),
}

/// A connection in a range.
#[derive(Clone, Copy, Debug)]
struct Place {
    flow: FlowKey,
    is_answered: bool,
}

/// All ranges.
#[derive(Debug, Default)]
pub struct Ranges {
    by_pair: DashMap<Pair, Vec<Range>>,
    len: AtomicUsize,
    used: AtomicU64,
}

impl Ranges {
    /// Ranges now, and sessions for which none was named.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len.load(Relaxed)
    }

    /// Whether there is none, so that a new flow need not be looked up.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Connections that were ever answered in a range.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.used.load(Relaxed)
    }

    /// Opens a range for a session, for so many connections at once. With no ports it opens
    /// nothing, and the session's SYNs are known by [`Ranges::missed`].
    ///
    /// # Errors
    ///
    /// There are too many.
    pub fn open(
        &self,
        pair: Pair,
        session: u64,
        ports: Option<RangeInclusive<u16>>,
        at_once: usize,
        now: Time,
    ) -> Result<(), ExpectError> {
        let mut ranges = self.by_pair.entry(pair).or_default();
        if let Some(known) = ranges.iter_mut().find(|range| range.session == session) {
            (known.ports, known.at_once, known.is_open) = (ports, at_once, true);
            return Ok(());
        }
        let error = if ranges.len() >= MAX_PER_CLIENT as usize {
            Some(ExpectError::ClientFull)
        } else if self.len.fetch_add(1, Relaxed) >= MAX_EXPECTATIONS {
            self.len.fetch_sub(1, Relaxed);
            Some(ExpectError::Full)
        } else {
            None
        };
        if let Some(error) = error {
            let is_empty = ranges.is_empty();
            drop(ranges);
            if is_empty {
                self.by_pair.remove_if(&pair, |_, ranges| ranges.is_empty());
            }
            return Err(error);
        }
        ranges.push(Range {
            session,
            ports,
            at_once,
            is_open: true,
            places: Vec::new(),
            resets: (now, 0),
        });
        Ok(())
    }

    /// Lets no new connection of this session begin. Those that were not answered are forgotten.
    pub fn close(&self, pair: &Pair, session: u64) {
        self.work(pair, |range| {
            if range.session == session {
                range.is_open = false;
                range.places.retain(|place| place.is_answered);
            }
        });
    }

    /// Whether this SYN would find a place.
    #[must_use]
    pub fn is_open(&self, tuple: &ExpectedTuple) -> bool {
        !self.is_empty()
            && self
                .by_pair
                .get(&Pair::from(tuple))
                .is_some_and(|ranges| ranges.iter().any(|range| range.has_place(tuple.port)))
    }

    /// A SYN with this tuple begins the flow `flow`: takes a place, if need be that of the oldest
    /// SYN which nobody has answered. Of several sessions the one with the fewest connections gets
    /// it: whose it is can't be known, and most have one.
    pub fn claim(&self, tuple: &ExpectedTuple, flow: FlowKey) -> Option<Claim> {
        if self.is_empty() {
            return None;
        }
        let mut ranges = self.by_pair.get_mut(&Pair::from(tuple))?;
        let has_it = |range: &&Range| range.places.iter().any(|place| place.flow == flow);
        if let Some(known) = ranges.iter().find(has_it) {
            return Some(Claim {
                session: known.session,
                replaced: None,
            });
        }
        let range = ranges
            .iter_mut()
            .filter(|range| range.has_place(tuple.port))
            .min_by_key(|range| range.places.len())?;
        let session = range.session;
        let is_waiting = |place: &Place| !place.is_answered;
        let replaced = (range.places.len() >= range.at_once)
            .then(|| range.places.iter().position(is_waiting))
            .flatten()
            .map(|oldest| range.places.remove(oldest).flow);
        range.places.push(Place {
            flow,
            is_answered: false,
        });
        Some(Claim { session, replaced })
    }

    /// The flow that took a place was answered by a SYN-ACK. Returns whether it still has it.
    pub fn confirm(&self, tuple: &ExpectedTuple, flow: FlowKey) -> bool {
        if self.is_empty() {
            return false;
        }
        let Some(mut ranges) = self.by_pair.get_mut(&Pair::from(tuple)) else {
            return false;
        };
        let mut places = ranges.iter_mut().flat_map(|range| &mut range.places);
        let Some(place) = places.find(|place| place.flow == flow) else {
            return false;
        };
        if !std::mem::replace(&mut place.is_answered, true) {
            self.used.fetch_add(1, Relaxed);
        }
        true
    }

    /// The flow ended, was refused, or never began: gives its place back.
    pub fn release(&self, tuple: &ExpectedTuple, flow: FlowKey) {
        if !self.is_empty() {
            self.work(&Pair::from(tuple), |range| {
                range.places.retain(|place| place.flow != flow);
            });
        }
    }

    /// Whether this SYN is of a session that named no range with its port.
    #[must_use]
    pub fn missed(&self, tuple: &ExpectedTuple, now: Time) -> Option<Missed> {
        if self.is_empty() || tuple.port < FIRST_DATA_PORT {
            return None;
        }
        let mut ranges = self.by_pair.get_mut(&Pair::from(tuple))?;
        if ranges.iter().any(|range| range.contains(tuple.port)) {
            return None;
        }
        let range = ranges.iter_mut().find(|range| range.is_open)?;
        let (since, sent) = &mut range.resets;
        if now.since(*since) >= Duration::from_secs(1) {
            (*since, *sent) = (now, 0);
        }
        let may_answer = *sent < RESETS_PER_SECOND;
        *sent += u8::from(may_answer);
        Some(Missed {
            session: range.session,
            may_answer,
        })
    }

    /// Works on the ranges of a pair, and removes those that nobody needs any more.
    fn work(&self, pair: &Pair, work: impl FnMut(&mut Range)) {
        let Entry::Occupied(mut there) = self.by_pair.entry(*pair) else {
            return;
        };
        let ranges = there.get_mut();
        ranges.iter_mut().for_each(work);
        let before = ranges.len();
        ranges.retain(|range| range.is_open || !range.places.is_empty());
        self.len.fetch_sub(before - ranges.len(), Relaxed);
        if ranges.is_empty() {
            there.remove();
        }
    }
}

impl Range {
    fn contains(&self, port: u16) -> bool {
        self.is_open
            && self
                .ports
                .as_ref()
                .is_some_and(|ports| ports.contains(&port))
    }

    fn has_place(&self, port: u16) -> bool {
        let answered = self.places.iter().filter(|place| place.is_answered);
        self.contains(port) && answered.count() < self.at_once
    }
}

#[cfg(test)]
mod tests;
