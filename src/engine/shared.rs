use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, LazyLock};

use super::published::InForce;
use super::{NoProfile, Settings, reject};
use crate::conntrack::{Expectations, FlowKey, FragmentStore, Link, Removed, Table, Time};
use crate::helper::ftp::{self, Context, Sessions};
use crate::observe::{Counters, DropReason, EventQueue};
use crate::rules::{Hits, Outcome, Ruleset};
use crate::wire::OwnedFrame;

/// A silent control connection whose data connections live is looked at again after this.
const NEEDED_AGAIN: std::time::Duration = std::time::Duration::from_secs(60);

/// What all workers share: flows, expectations, sessions, rules, events.
#[derive(Debug)]
pub struct Shared {
    pub(super) settings: Settings,
    /// The helper's, by number.
    profiles: Box<[Arc<ftp::Settings>]>,
    pub(super) rules: InForce,
    pub(super) table: Table<Kept>,
    pub(super) expectations: Expectations,
    pub(super) sessions: Sessions,
    pub(super) fragments: FragmentStore,
    /// Bounds the answers to rejected packets.
    pub(super) answers: reject::Limit,
    events: EventQueue,
    next_part: AtomicUsize,
    /// Nanoseconds of the first moment that anybody told of; 0 before.
    begun: AtomicU64,
}

/// What a flow keeps of the rules' outcome: what its later packets need, since each flow pays for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// As [`Outcome::drop`].
    pub drop: Option<DropReason>,
    /// As [`Outcome::hits`].
    pub hits: Hits,
}

impl From<Outcome> for Kept {
    fn from(Outcome { drop, hits, .. }: Outcome) -> Kept {
        Kept { drop, hits }
    }
}

/// Numbers for `lotus status`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Flows tracked now.
    pub flows: u64,
    /// Flows that ever began.
    pub flows_begun: u64,
    /// FTP control connections now.
    pub sessions: u64,
    /// FTP control connections that ever began.
    pub sessions_begun: u64,
    /// Expectations (open data ports) now.
    pub expectations: u64,
    /// Data ports ever opened.
    pub ports_opened: u64,
    /// Data ports that were used.
    pub ports_used: u64,
    /// Commands refused.
    pub refused: u64,
    /// Events that were lost because nobody took them.
    pub events_lost: u64,
}

impl Shared {
    /// Shared state for any number of engines.
    #[must_use]
    pub fn new(ruleset: Ruleset, settings: Settings) -> Arc<Shared> {
        Arc::new(Shared {
            table: Table::new(&settings.conntrack),
            rules: InForce::new(ruleset, &settings),
            expectations: Expectations::default(),
            sessions: Sessions::default(),
            fragments: FragmentStore::default(),
            answers: reject::Limit::new(settings.reject_rate, settings.reject_burst),
            events: EventQueue::new(settings.events),
            next_part: AtomicUsize::new(0),
            profiles: settings.ftp_profiles().into(),
            begun: AtomicU64::new(0),
            settings,
        })
    }

    /// Events that wait to be taken.
    #[must_use]
    pub fn events(&self) -> &EventQueue {
        &self.events
    }

    /// The number of the ruleset in force, which counts them from 1.
    #[must_use]
    pub fn generation(&self) -> u32 {
        self.rules.generation()
    }

    /// Works on the ruleset in force.
    pub fn with_rules<R>(&self, work: impl FnOnce(&Ruleset) -> R) -> R {
        work(&self.rules.load().ruleset)
    }

    /// Puts another ruleset into force and returns its generation. Engines judge by it from their next
    /// batch on. Flows, sessions and expectations stay; a flow's packets are judged anew, with the
    /// state that they have by now.
    ///
    /// # Errors
    ///
    /// It names a settings profile that is not set. The one in force stays.
    pub fn replace_rules(&self, ruleset: Ruleset) -> Result<u32, NoProfile> {
        self.settings.covers(&ruleset)?;
        Ok(self.rules.replace(ruleset, &self.settings))
    }

    /// Numbers as they stand.
    #[must_use]
    pub fn totals(&self) -> Totals {
        Totals {
            flows: self.table.len() as u64,
            flows_begun: self.table.begun(),
            sessions: self.sessions.live() as u64,
            sessions_begun: self.sessions.begun(),
            expectations: self.expectations.len() as u64,
            ports_opened: self.expectations.made() + self.expectations.ranges().used(),
            ports_used: self.expectations.used() + self.expectations.ranges().used(),
            refused: self.sessions.refused(),
            events_lost: self.events.lost(),
        }
    }

    /// How many parts the flow table has, for [`Shared::tick`].
    #[must_use]
    pub fn parts(&self) -> usize {
        self.table.parts()
    }

    /// Does what time does: expires flows, expectations and fragments, frees old rulesets. Call it every 50 ms or so
    /// from one thread; it looks at `budget` parts of the flow table, the next ones each time.
    /// `counters` is the caller's own block: what was held and is now dropped is counted there.
    pub fn tick(&self, now: Time, budget: usize, counters: &Counters) {
        self.tick_watched(now, budget, counters, |look| look());
    }

    /// As [`Shared::tick`]; each look at one part of the flow table, which locks it bit by bit, is
    /// handed to `watch`, which must run it once and may time it.
    pub fn tick_watched(
        &self,
        now: Time,
        budget: usize,
        counters: &Counters,
        mut watch: impl FnMut(&mut dyn FnMut()),
    ) {
        self.note_begin(now);
        self.rules.free_replaced();
        for frame in self.fragments.sweep(now) {
            discard(&frame, DropReason::FragmentTimeout, counters);
        }
        for (tuple, session) in self.expectations.sweep(now) {
            if let Some(session) = self.sessions.find(session) {
                ftp::lock(&session).expired(&tuple, &self.context(now));
            }
        }
        let mut expired = Vec::new();
        for _ in 0..budget.min(self.parts()) {
            let part = self.next_part.fetch_add(1, Relaxed) % self.parts();
            watch(&mut || self.table.expired_in(part, now, &mut expired));
        }
        for key in expired {
            self.expire(&key, now, counters);
        }
    }

    /// Whether connections whose beginning was not seen may be taken up.
    pub(super) fn may_pick_up(&self, now: Time) -> bool {
        let period = self.settings.conntrack.pickup;
        period.is_some_and(|period| now < self.note_begin(now) + period)
    }

    /// The first moment that anybody told of.
    fn note_begin(&self, now: Time) -> Time {
        let first = match self.begun.load(Relaxed) {
            0 => self
                .begun
                .compare_exchange(0, now.as_nanos().max(1), Relaxed, Relaxed)
                .err(),
            begun => Some(begun),
        };
        first.map_or(now, Time::from_nanos)
    }

    /// Forgets a flow whose time is over, unless somebody needs it.
    pub(super) fn expire(&self, key: &FlowKey, now: Time, counters: &Counters) {
        let link = self
            .table
            .with(key, |flow| (flow.expires <= now).then_some(flow.link));
        if let Some(Some(Link::Control(id, _))) = link
            && let Some(session) = self.sessions.find(id)
            && ftp::lock(&session).is_needed(now)
        {
            self.table
                .with(key, |flow| flow.expires = now + NEEDED_AGAIN);
            return;
        }
        if let Some(removed) = self.table.remove_if(key, |flow| flow.expires <= now) {
            self.flow_gone(&removed, "nothing was said for too long", now, counters);
        }
    }

    /// Whatever depended on a flow that left the table.
    pub(super) fn flow_gone(
        &self,
        removed: &Removed<Kept>,
        why: &'static str,
        now: Time,
        counters: &Counters,
    ) {
        let cx = self.context(now);
        match removed.flow.link {
            Link::None | Link::Ended(_) => {}
            Link::Control(id, _) => {
                if let Some(session) = self.sessions.remove(id) {
                    self.end_session(&session, why, now, counters);
                }
            }
            Link::Announced(_) => {
                let expected = removed.flow.expected(&removed.key);
                self.expectations.free(&expected, removed.key);
            }
            Link::Data(id) => {
                let expected = removed.flow.expected(&removed.key);
                self.expectations.ranges().release(&expected, removed.key);
                if let Some(session) = self.sessions.find(id) {
                    let (from, to) = removed.flow.ends(&removed.key);
                    ftp::lock(&session).data_ended(from, to, removed.flow.bytes, &cx);
                }
            }
        }
    }

    /// Ends a session and drops what it held.
    pub(super) fn end_session(
        &self,
        session: &ftp::SharedSession,
        why: &'static str,
        now: Time,
        counters: &Counters,
    ) {
        for frame in ftp::lock(session).end(why, &self.context(now)) {
            discard(&frame, DropReason::HelperHeld, counters);
        }
    }

    /// The helper's settings with this number.
    pub(super) fn profile(&self, number: u8) -> &Arc<ftp::Settings> {
        static DEFAULT: LazyLock<Arc<ftp::Settings>> = LazyLock::new(Arc::default);
        self.profiles.get(usize::from(number)).unwrap_or(&DEFAULT)
    }

    pub(super) fn context(&self, now: Time) -> Context<'_> {
        Context {
            expectations: &self.expectations,
            events: &self.events,
            held_bytes: self.sessions.held_bytes(),
            now,
        }
    }
}

/// A frame that was held ends here.
pub(super) fn discard(frame: &OwnedFrame, reason: DropReason, counters: &Counters) {
    let bytes = frame.frame().len();
    counters.unheld(bytes);
    counters.dropped(reason, bytes);
}
