mod buckets;
mod queue;
mod sources;

use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crossbeam::utils::CachePadded;

use self::buckets::{Buckets, Hashed, HeldEntry};
use self::queue::{Place, Queue};
use self::sources::Sources;
use super::flow::Standing;
use super::tuple::KeyWords;
use super::{Flow, FlowKey, Link, Settings, Time, Tuple};

/// Buckets that the sweep looks at in one go, one lock at a time. Some 1,300 flows when the table is
/// full.
const BUCKETS_PER_PART: usize = 512;

/// More unanswered flows than one in so many of the table's places are a flood.
const FLOOD_SHARE: usize = 8;

/// How many flows in an exchange are looked at to find one that has gone silent.
const SECOND_CHANCES: usize = 8;

/// Two flows whose hashes are the same in all 64 bits can't be in the table together: the second one
/// is refused. With a million flows that happens once in 30 million tables, and nobody can aim at
/// it, as the hash is keyed.
///
/// Three cache lines long, in the order in which it is looked at. Not aligned to one: the allocator
/// would give 256 bytes then, measured, instead of 192.
#[repr(C)]
struct Entry<T> {
    hash: u64,
    words: KeyWords,
    flow: Flow<T>,
    place: Place,
    service_tags: u8,
    /// In which of the queues it stands, if in any, and where.
    filed: Standing,
}

/// All tracked flows. Whoever has one ([`Table::find`], closures given to the table) holds its bucket's
/// lock: it must be for a short time and without calling the table.
pub struct Table<T> {
    buckets: Buckets<Entry<T>>,
    hasher: ahash::RandomState,
    /// Flows, and places promised to flows on their way in: never more than the limit.
    len: CachePadded<AtomicUsize>,
    begun: CachePadded<AtomicU64>,
    settings: Settings,
    /// Who makes room for others, in this order; see [`Standing`]. A queue's lock is taken under a
    /// bucket's, never the other way round.
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
        Table {
            buckets: Buckets::new(capacity),
            hasher: ahash::RandomState::new(),
            len: CachePadded::new(AtomicUsize::new(0)),
            begun: CachePadded::new(AtomicU64::new(0)),
            queues: Default::default(),
            half_open_by_source: Sources::new(capacity),
            settings: settings.clone(),
        }
    }

    /// The name of a tuple's flow, and whether the tuple's source is its lower end.
    #[inline(always)]
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

    /// Has the processor fetch what [`Table::find`] looks at first.
    #[inline]
    pub fn fetch_bucket(&self, key: &FlowKey) {
        self.buckets.fetch_bucket(key.hash_value());
    }

    /// Has the processor fetch the flow; some time after [`Table::fetch_bucket`].
    #[inline]
    pub fn fetch_flow(&self, key: &FlowKey) {
        self.buckets.fetch_entry(key.hash_value());
    }

    /// Looks a flow up. Until it is dropped, nobody else gets at the flow or its bucket.
    #[inline(always)] // what a worker finds is not to go through memory
    pub fn find(&self, key: &FlowKey) -> Option<HeldFlow<'_, T>> {
        let hash = key.hash_value();
        let entry = self.buckets.hold(hash).into_entry(hash)?;
        if !entry.is(key) {
            return None;
        }
        Some(HeldFlow { entry, table: self })
    }

    /// Looks a flow up and works on it.
    #[inline]
    pub fn with<R>(&self, key: &FlowKey, work: impl FnOnce(&mut Flow<T>) -> R) -> Option<R> {
        let mut flow = self.find(key)?;
        Some(work(&mut flow))
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
            hash,
            words: *key.words(),
            flow,
            place: Place::NONE,
            service_tags: key.service_tags(),
            filed: Standing::Established,
        });
        let mut held = self.buckets.hold(hash);
        if held.find(hash).is_some() {
            self.len.fetch_sub(1, Relaxed);
            return Err(InsertError::Exists);
        }
        self.file(&mut entry, standing);
        held.insert(entry);
        self.begun.fetch_add(1, Relaxed);
        Ok(())
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
        self.buckets.count().div_ceil(BUCKETS_PER_PART)
    }

    /// Names the flows of one part that are over. It only looks, so that whoever decides may do so
    /// without a lock: see [`Table::remove_if`].
    pub fn expired_in(&self, part: usize, now: Time, expired: &mut Vec<FlowKey>) {
        let first = part * BUCKETS_PER_PART;
        for number in first..first + BUCKETS_PER_PART {
            let Some(held) = self.buckets.hold_number(number) else {
                return;
            };
            let over = held.iter().filter(|entry| entry.flow.expires <= now);
            expired.extend(over.map(Entry::key));
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
                    self.refile(entry, Standing::Exchange);
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
        let mut held = self.buckets.hold(hash);
        let entry = held.take_if(hash, |entry| {
            let goes = is(entry);
            if goes {
                self.unfile(entry);
            }
            goes
        })?;
        Some(Removed {
            key: entry.key(),
            flow: entry.flow,
        })
    }

    #[cold]
    fn refile(&self, entry: &mut Entry<T>, standing: Standing) {
        self.unfile(entry);
        self.file(entry, standing);
    }

    fn file(&self, entry: &mut Entry<T>, standing: Standing) {
        entry.filed = standing;
        if let Some(mut queue) = self.queue(standing) {
            entry.place = queue.push(entry.hash);
        }
        if standing == Standing::HalfOpen {
            let source = self.source(entry);
            self.half_open_by_source.add(source);
        }
    }

    fn unfile(&self, entry: &mut Entry<T>) {
        if let Some(mut queue) = self.queue(entry.filed) {
            queue.remove(entry.place, entry.hash);
        }
        if entry.filed == Standing::HalfOpen {
            let source = self.source(entry);
            self.half_open_by_source.sub(source);
        }
    }

    fn source(&self, entry: &Entry<T>) -> sources::Cells {
        let (source, _) = entry.flow.ends(&entry.key());
        self.half_open_by_source
            .cells(entry.flow.origin, source.ip())
    }

    /// The queue's lock is free again when it returns: a bucket's comes first.
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
}

/// A flow of the table, to be worked on for a short time and without calling the table.
pub struct HeldFlow<'a, T: Copy> {
    entry: HeldEntry<'a, Entry<T>>,
    table: &'a Table<T>,
}

impl<T: Copy> Deref for HeldFlow<'_, T> {
    type Target = Flow<T>;

    #[inline(always)]
    fn deref(&self) -> &Flow<T> {
        &self.entry.flow
    }
}

impl<T: Copy> DerefMut for HeldFlow<'_, T> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut Flow<T> {
        &mut self.entry.flow
    }
}

impl<T: Copy> Drop for HeldFlow<'_, T> {
    #[inline(always)]
    fn drop(&mut self) {
        let standing = self.entry.flow.standing();
        if standing != self.entry.filed {
            self.table.refile(&mut self.entry, standing);
        }
    }
}

impl<T> Entry<T> {
    #[inline]
    fn is(&self, key: &FlowKey) -> bool {
        // Word by word, as the compiler makes a call of it otherwise.
        let differ = |(a, b): (&u64, &u64)| a ^ b;
        let words = self.words.iter().zip(key.words()).map(differ);
        words.fold(0, std::ops::BitOr::bitor) == 0 && self.service_tags == key.service_tags()
    }

    fn key(&self) -> FlowKey {
        FlowKey::from_parts(self.words, self.service_tags, self.hash)
    }
}

impl<T> Hashed for Entry<T> {
    #[inline]
    fn hash(&self) -> u64 {
        self.hash
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
