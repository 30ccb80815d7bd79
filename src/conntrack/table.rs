mod queue;
mod sources;

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crossbeam::utils::CachePadded;
use dashmap::DashMap;
use dashmap::mapref::entry::Entry as MapEntry;

use self::queue::{Place, Queue};
use self::sources::Sources;
use super::flow::Standing;
use super::tuple::{BuildKeptHash, KeyWords};
use super::{Flow, FlowKey, Link, Settings, Time, Tuple};

/// Flows behind one lock when the table is full. The sweep looks at all of them while it holds the
/// lock; and a map of 1,024 places is never more than half full, so that it is tidied up in place and
/// grows no more.
const FLOWS_PER_LOCK: usize = 400;

/// The table is an array of maps, so that the sweep can look at one small part at a time with
/// DashMap's safe interface; each map has this many locks (it wants a power of two above one).
const LOCKS_PER_MAP: usize = 4;

/// The least and the most maps. Fewer would make workers wait for each other; more would make an
/// empty table large.
const MAPS: std::ops::RangeInclusive<usize> = 64..=16_384;

/// More unanswered flows than one in so many of the table's places are a flood.
const FLOOD_SHARE: usize = 8;

/// How many flows in an exchange are looked at to find one that has gone silent.
const SECOND_CHANCES: usize = 8;

/// A map's keys are the keyed hashes of the flows' names, which the flows themselves hold in full.
/// 16 bytes for each place, most of which stay empty; the flow is in a box of its own, so that a
/// place of the map costs little and flows that are gone cost nothing. ARCHITECTURE.md has the
/// figures of the other ways.
///
/// Two flows whose hashes are the same in all 64 bits can't be in the table together: the second one
/// is refused. With a million flows that happens once in 30 million tables, and nobody can aim at
/// it, as the hash is keyed.
type Map<T> = DashMap<u64, Box<Entry<T>>, BuildKeptHash>;

struct Entry<T> {
    words: KeyWords,
    service_tags: u8,
    /// In which of the queues it stands, if in any, and where.
    filed: Standing,
    place: Place,
    flow: Flow<T>,
}

/// All tracked flows. Closures given to it run under one shard's lock: they must be short and must
/// not call the table.
pub struct Table<T> {
    maps: Box<[Map<T>]>,
    hasher: ahash::RandomState,
    /// Flows, and places promised to flows on their way in: never more than the limit.
    len: CachePadded<AtomicUsize>,
    begun: CachePadded<AtomicU64>,
    settings: Settings,
    /// Who makes room for others, in this order; see [`Standing`]. A queue's lock is taken under a
    /// map's, never the other way round.
    queues: [CachePadded<Mutex<Queue>>; 3],
    half_open_by_source: Sources,
}

/// Why a flow was not inserted.
#[derive(Debug, PartialEq, Eq)]
pub enum InsertError {
    /// The table is full and nothing in it may go.
    Full,
    /// The table is nearly full, and whoever began the flow has begun many that nobody answered.
    SourceLimit,
    /// Another worker was faster: look it up again.
    Exists,
}

/// A flow that left the table.
#[derive(Debug)]
pub struct Removed<T> {
    /// Its name.
    pub key: FlowKey,
    /// Its last state.
    pub flow: Flow<T>,
}

impl<T: Copy> Table<T> {
    /// An empty table.
    #[must_use]
    pub fn new(settings: &Settings) -> Table<T> {
        let capacity = settings.max_flows;
        let maps = capacity
            .div_ceil(FLOWS_PER_LOCK * LOCKS_PER_MAP)
            .clamp(*MAPS.start(), *MAPS.end());
        // Not sized beforehand: measured, what growing leaves behind is less than what maps of the
        // full size take, and an empty table takes next to nothing.
        let map = |_| {
            DashMap::with_capacity_and_hasher_and_shard_amount(
                0,
                BuildKeptHash::default(),
                LOCKS_PER_MAP,
            )
        };
        Table {
            maps: (0..maps).map(map).collect(),
            hasher: ahash::RandomState::new(),
            len: CachePadded::new(AtomicUsize::new(0)),
            begun: CachePadded::new(AtomicU64::new(0)),
            queues: Default::default(),
            half_open_by_source: Sources::new(capacity),
            settings: settings.clone(),
        }
    }

    /// The name of a tuple's flow, and whether the tuple's source is its lower end.
    #[inline]
    #[must_use]
    pub fn key(&self, tuple: &Tuple) -> (FlowKey, bool) {
        FlowKey::new(tuple, &self.hasher)
    }

    /// Flows now.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len.load(Relaxed)
    }

    /// Whether there is no flow.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Flows that were ever inserted.
    #[must_use]
    pub fn begun(&self) -> u64 {
        self.begun.load(Relaxed)
    }

    /// Flows that nobody has answered yet.
    #[must_use]
    pub fn half_open(&self) -> usize {
        self.queue(Standing::HalfOpen)
            .map_or(0, |queue| queue.len())
    }

    /// Looks a flow up and works on it.
    #[inline]
    pub fn with<R>(&self, key: &FlowKey, work: impl FnOnce(&mut Flow<T>) -> R) -> Option<R> {
        let hash = key.hash_value();
        let mut guard = self.map(hash)?.get_mut(&hash)?;
        let entry = &mut **guard.value_mut();
        if !entry.is(key) {
            return None;
        }
        let result = work(&mut entry.flow);
        let standing = entry.flow.standing();
        if standing != entry.filed {
            self.refile(hash, entry, standing);
        }
        Some(result)
    }

    /// Inserts a flow. When the table is full, another flow makes room for it, if one may go: that
    /// is pushed to `removed`.
    ///
    /// # Errors
    ///
    /// There is no room, or the flow is there already.
    pub fn insert(
        &self,
        key: FlowKey,
        flow: Flow<T>,
        now: Time,
        removed: &mut Vec<Removed<T>>,
    ) -> Result<(), InsertError> {
        let hash = key.hash_value();
        let standing = flow.standing();
        // What a helper expects was agreed on by both ends.
        let is_expected = matches!(flow.link, Link::Announced(_));
        if standing == Standing::HalfOpen && !is_expected && self.is_crowded() {
            let source = self
                .half_open_by_source
                .cells(flow.origin, flow.ends(&key).0.ip());
            if self.half_open_by_source.count(source) >= self.settings.source_half_open {
                return Err(InsertError::SourceLimit);
            }
        }
        self.take_place(now, removed)?;
        let mut entry = Box::new(Entry {
            words: *key.words(),
            service_tags: key.service_tags(),
            filed: Standing::Established,
            place: Place::NONE,
            flow,
        });
        match self.map(hash).map(|map| map.entry(hash)) {
            Some(MapEntry::Vacant(vacant)) => {
                self.file(hash, &mut entry, standing);
                vacant.insert(entry);
                self.begun.fetch_add(1, Relaxed);
                Ok(())
            }
            _ => {
                self.len.fetch_sub(1, Relaxed);
                Err(InsertError::Exists)
            }
        }
    }

    /// Removes a flow.
    pub fn remove(&self, key: &FlowKey) -> Option<Removed<T>> {
        self.remove_if(key, |_| true)
    }

    /// Removes a flow if it is still what the caller thinks.
    pub fn remove_if(
        &self,
        key: &FlowKey,
        is: impl FnOnce(&Flow<T>) -> bool,
    ) -> Option<Removed<T>> {
        let removed = self.take_if(key.hash_value(), |entry| entry.is(key) && is(&entry.flow))?;
        self.len.fetch_sub(1, Relaxed);
        Some(removed)
    }

    /// How many parts [`Table::expired_in`] knows.
    #[must_use]
    pub fn parts(&self) -> usize {
        self.maps.len()
    }

    /// Names the flows of one part that are over. It only looks, so that whoever decides may do so
    /// without a lock: see [`Table::remove_if`].
    pub fn expired_in(&self, part: usize, now: Time, expired: &mut Vec<FlowKey>) {
        if let Some(map) = self.maps.get(part) {
            expired.extend(
                map.iter()
                    .filter(|e| e.value().flow.expires <= now)
                    .map(|e| e.value().key(*e.key())),
            );
        }
    }

    /// Promises a place, for which another flow goes if it must.
    fn take_place(&self, now: Time, removed: &mut Vec<Removed<T>>) -> Result<(), InsertError> {
        let capacity = self.settings.max_flows;
        let one_more = |len: usize| (len < capacity).then_some(len + 1);
        if self.len.fetch_update(Relaxed, Relaxed, one_more).is_ok() {
            return Ok(());
        }
        // The place of the one that goes is the new one's: `len` stays as it is.
        let gone = self.evict(now).ok_or(InsertError::Full)?;
        removed.push(gone);
        Ok(())
    }

    /// Takes out the flow that is missed least. Unanswered flows go before exchanges only if there
    /// are many: a few of them are handshakes under way, and each would be pushed out by the next.
    fn evict(&self, now: Time) -> Option<Removed<T>> {
        let is_flooded = || self.half_open() > self.settings.max_flows / FLOOD_SHARE;
        let is_silent = |flow: &Flow<T>| flow.is_silent(&self.settings, now);
        // Datagrams begin a flow again, a connection does not.
        let can_begin_again = |flow: &Flow<T>| flow.tcp().is_none();
        self.evict_first(Standing::Ending)
            .or_else(|| is_flooded().then(|| self.evict_first(Standing::HalfOpen))?)
            .or_else(|| self.evict_exchange(is_silent))
            .or_else(|| self.evict_first(Standing::HalfOpen))
            .or_else(|| self.evict_exchange(can_begin_again))
    }

    /// Takes out the oldest of a queue.
    fn evict_first(&self, standing: Standing) -> Option<Removed<T>> {
        // Who is popped goes, unless it has moved on in this very moment: no long search.
        loop {
            let hash = self.pop(standing)?;
            let gone = self.take_if(hash, |entry| entry.filed == standing);
            if gone.is_some() {
                return gone;
            }
        }
    }

    /// Takes out one of the oldest exchanges, if it is such a one.
    fn evict_exchange(&self, is: impl Fn(&Flow<T>) -> bool) -> Option<Removed<T>> {
        for _ in 0..SECOND_CHANCES {
            let hash = self.pop(Standing::Exchange)?;
            let gone = self.take_if(hash, |entry| {
                if entry.filed != Standing::Exchange {
                    return false;
                }
                let goes = is(&entry.flow);
                if !goes {
                    self.refile(hash, entry, Standing::Exchange);
                }
                goes
            });
            if gone.is_some() {
                return gone;
            }
        }
        None
    }

    /// Takes a flow out; its place is still counted.
    fn take_if(&self, hash: u64, is: impl FnOnce(&mut Entry<T>) -> bool) -> Option<Removed<T>> {
        let goes = |_: &u64, entry: &mut Box<Entry<T>>| {
            let goes = is(entry);
            if goes {
                self.unfile(hash, entry);
            }
            goes
        };
        let (hash, entry) = self.map(hash)?.remove_if_mut(&hash, goes)?;
        Some(Removed {
            key: entry.key(hash),
            flow: entry.flow,
        })
    }

    #[cold]
    fn refile(&self, hash: u64, entry: &mut Entry<T>, standing: Standing) {
        self.unfile(hash, entry);
        self.file(hash, entry, standing);
    }

    fn file(&self, hash: u64, entry: &mut Entry<T>, standing: Standing) {
        entry.filed = standing;
        if let Some(mut queue) = self.queue(standing) {
            entry.place = queue.push(hash);
        }
        if standing == Standing::HalfOpen {
            let source = self.source(hash, entry);
            self.half_open_by_source.add(source);
        }
    }

    fn unfile(&self, hash: u64, entry: &mut Entry<T>) {
        if let Some(mut queue) = self.queue(entry.filed) {
            queue.remove(entry.place, hash);
        }
        if entry.filed == Standing::HalfOpen {
            let source = self.source(hash, entry);
            self.half_open_by_source.sub(source);
        }
    }

    fn source(&self, hash: u64, entry: &Entry<T>) -> sources::Cells {
        let (source, _) = entry.flow.ends(&entry.key(hash));
        self.half_open_by_source
            .cells(entry.flow.origin, source.ip())
    }

    /// The queue's lock is free again when it returns: a map's comes first.
    fn pop(&self, standing: Standing) -> Option<u64> {
        self.queue(standing)?.pop()
    }

    fn queue(&self, standing: Standing) -> Option<MutexGuard<'_, Queue>> {
        let queue = self.queues.get(standing as usize)?;
        Some(queue.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Over 80 % full.
    fn is_crowded(&self) -> bool {
        self.len() * 5 > self.settings.max_flows * 4
    }

    /// Spreads the middle bits of the hash over the maps: DashMap's choice of a lock and hashbrown's
    /// choice of a place use the bits at both ends.
    #[inline]
    fn map(&self, hash: u64) -> Option<&Map<T>> {
        let middle = u64::from((hash >> 16) as u32);
        self.maps
            .get(((middle * self.maps.len() as u64) >> 32) as usize)
    }
}

impl<T> Entry<T> {
    #[inline]
    fn is(&self, key: &FlowKey) -> bool {
        self.words == *key.words() && self.service_tags == key.service_tags()
    }

    fn key(&self, hash: u64) -> FlowKey {
        FlowKey::from_parts(self.words, self.service_tags, hash)
    }
}

impl<T> std::fmt::Debug for Table<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Table({} of {} flows)",
            self.len.load(Relaxed),
            self.settings.max_flows
        )
    }
}

#[cfg(test)]
mod tests;
