//! The FTP helper: follows a control connection as a protocol and announces the data connections
//! that its two ends agreed on.
//!
//! Bytes arrive in segments, in any order and cut anywhere; `stream` puts them in order, holds
//! what is past a gap, and remembers what was read until it is acknowledged. `command` and
//! `reply` make lines of them, byte by byte, `announce` reads the addresses, and [`Session`]
//! is the state machine that decides.

mod announce;
mod command;
mod passive;
mod reply;
mod session;
mod settings;
mod stream;
mod tls;
mod transcript;

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dashmap::DashMap;

use crate::conntrack::{Expectations, Time};
use crate::observe::{Event, EventKind, EventQueue};

pub use session::{Control, Released, Session, Step};
pub use settings::{CommandPolicy, Expected, PortRange, Prefixes, Refusal, Settings};

/// What a session needs of the world while it works.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// Where it announces connections.
    pub expectations: &'a Expectations,
    /// Where it tells what happened.
    pub events: &'a EventQueue,
    /// Bytes that all sessions hold.
    pub held_bytes: &'a AtomicUsize,
    /// What time it is.
    pub now: Time,
}

impl Context<'_> {
    fn tell(&self, session: u64, kind: EventKind) {
        self.events
            .push(self.now.as_nanos(), Event { session, kind });
    }
}

/// A session that both directions, and its data connections, reach under one lock.
pub type SharedSession = Arc<Mutex<Session>>;

/// Locks a session. A thread that panicked while it held the lock leaves a session that is used
/// further: its state is a few plain values that any byte sequence could have led to.
pub fn lock(session: &SharedSession) -> MutexGuard<'_, Session> {
    session.lock().unwrap_or_else(PoisonError::into_inner)
}

/// All sessions, by number.
#[derive(Debug, Default)]
pub struct Sessions {
    map: DashMap<u64, SharedSession>,
    last: AtomicU64,
    begun: AtomicU64,
    refused: AtomicU64,
    held_bytes: AtomicUsize,
}

impl Sessions {
    /// A number for a session that may begin: a SYN costs no more than that.
    pub fn reserve(&self) -> u64 {
        self.last.fetch_add(1, Relaxed) + 1
    }

    /// Begins the session of this number: the server answered.
    pub fn begin(
        &self,
        id: u64,
        control: Control,
        settings: &Arc<Settings>,
        cx: &Context<'_>,
    ) -> SharedSession {
        self.begun.fetch_add(1, Relaxed);
        let session = Session::begin(id, control, Arc::clone(settings), cx);
        let session = Arc::new(Mutex::new(session));
        self.map.insert(id, Arc::clone(&session));
        session
    }

    /// Begins the session of this number in the middle, as `Session::begin_midstream` says.
    pub fn begin_midstream(
        &self,
        id: u64,
        control: Control,
        settings: &Arc<Settings>,
        cx: &Context<'_>,
    ) {
        self.begun.fetch_add(1, Relaxed);
        let session = Session::begin_midstream(id, control, Arc::clone(settings), cx);
        self.map.insert(id, Arc::new(Mutex::new(session)));
    }

    /// The bytes that all of them hold, for their [`Context`].
    pub fn held_bytes(&self) -> &AtomicUsize {
        &self.held_bytes
    }

    /// The session with this number.
    #[must_use]
    pub fn find(&self, id: u64) -> Option<SharedSession> {
        self.map.get(&id).map(|session| Arc::clone(&session))
    }

    /// Takes a session out that is over.
    pub fn remove(&self, id: u64) -> Option<SharedSession> {
        let session = self.map.remove(&id).map(|(_, session)| session)?;
        self.refused
            .fetch_add(u64::from(lock(&session).refused()), Relaxed);
        Some(session)
    }

    /// Sessions whose control connection lives. Those that ended stay known until their flow is
    /// forgotten, because data connections may outlive them.
    #[must_use]
    pub fn live(&self) -> usize {
        self.map
            .iter()
            .filter(|session| !lock(session.value()).is_over())
            .count()
    }

    /// Sessions that ever began.
    #[must_use]
    pub fn begun(&self) -> u64 {
        self.begun.load(Relaxed)
    }

    /// Commands refused, in sessions that are over and in those that live.
    #[must_use]
    pub fn refused(&self) -> u64 {
        let live: u64 = self
            .map
            .iter()
            .map(|s| u64::from(lock(s.value()).refused()))
            .sum();
        self.refused.load(Relaxed) + live
    }
}

#[cfg(test)]
mod tests;
