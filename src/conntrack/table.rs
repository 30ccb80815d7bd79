use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use crossbeam::queue::SegQueue;
use crossbeam::utils::CachePadded;
use dashmap::DashMap;
use dashmap::mapref::entry::Entry;

use super::tuple::BuildKeptHash;
use super::{Flow, FlowKey, Time, Tuple};

/// The table is an array of maps, so that the sweep can look at one small part at a time with
/// DashMap's safe interface; each map has a few locks of its own.
const MAPS: usize = 256;
const LOCKS_PER_MAP: usize = 4;

/// How many half-open flows are looked at to make room for one new flow.
const EVICTION_TRIES: usize = 8;

type Map<T> = DashMap<FlowKey, Flow<T>, BuildKeptHash>;

/// All tracked flows. Closures given to it run under one shard's lock: they must be short and must
/// not call the table.
pub struct Table<T> {
    maps: Box<[Map<T>]>,
    hasher: ahash::RandomState,
    len: CachePadded<AtomicUsize>,
    begun: CachePadded<AtomicU64>,
    capacity: usize,
    /// Keys of flows in the order in which they began, so that unreplied ones can make room in
    /// constant time. Flows that were answered meanwhile are skipped.
    half_open: SegQueue<FlowKey>,
    half_open_len: AtomicUsize,
}

/// Why a flow was not inserted.
#[derive(Debug, PartialEq, Eq)]
pub enum InsertError {
    /// The table is full and nothing in it may go.
    Full,
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
    /// A table for at most this many flows.
    #[must_use]
    pub fn new(capacity: usize) -> Table<T> {
        // A quarter more than the limit: no shard is ever so far from the mean that it must grow,
        // which would hold its lock for long.
        let each = (capacity + capacity / 4).div_ceil(MAPS);
        let map = |_| {
            DashMap::with_capacity_and_hasher_and_shard_amount(
                each,
                BuildKeptHash::default(),
                LOCKS_PER_MAP,
            )
        };
        Table {
            maps: (0..MAPS).map(map).collect(),
            hasher: ahash::RandomState::new(),
            len: CachePadded::new(AtomicUsize::new(0)),
            begun: CachePadded::new(AtomicU64::new(0)),
            capacity,
            half_open: SegQueue::new(),
            half_open_len: AtomicUsize::new(0),
        }
    }

    /// The name of a tuple's flow, and whether the tuple's source is its lower end.
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

    /// Looks a flow up and works on it.
    pub fn with<R>(&self, key: &FlowKey, work: impl FnOnce(&mut Flow<T>) -> R) -> Option<R> {
        self.map(key)?
            .get_mut(key)
            .map(|mut flow| work(flow.value_mut()))
    }

    /// Inserts a flow. When the table is full, flows that nobody answered make room first; what
    /// left is pushed to `removed`.
    ///
    /// # Errors
    ///
    /// The table is full, or the flow is there already.
    pub fn insert(
        &self,
        key: FlowKey,
        flow: Flow<T>,
        removed: &mut Vec<Removed<T>>,
    ) -> Result<(), InsertError> {
        if self.len.fetch_add(1, Relaxed) >= self.capacity && !self.evict_one(removed) {
            self.len.fetch_sub(1, Relaxed);
            return Err(InsertError::Full);
        }
        let inserted = match self.map(&key).map(|map| map.entry(key)) {
            Some(Entry::Vacant(vacant)) => {
                vacant.insert(flow);
                true
            }
            _ => false,
        };
        if !inserted {
            self.len.fetch_sub(1, Relaxed);
            return Err(InsertError::Exists);
        }
        self.begun.fetch_add(1, Relaxed);
        self.half_open.push(key);
        // The queue is as long as the table at most: who is pushed out of it is old and, by now,
        // answered or expired.
        if self.half_open_len.fetch_add(1, Relaxed) >= self.capacity {
            self.half_open.pop();
            self.half_open_len.fetch_sub(1, Relaxed);
        }
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
        let (key, flow) = self.map(key)?.remove_if(key, |_, flow| is(flow))?;
        self.len.fetch_sub(1, Relaxed);
        Some(Removed { key, flow })
    }

    /// How many parts [`Table::expired_in`] knows.
    #[must_use]
    pub fn parts(&self) -> usize {
        MAPS
    }

    /// Names the flows of one part that are over. It only looks, so that whoever decides may do so
    /// without a lock: see [`Table::remove_if`].
    pub fn expired_in(&self, part: usize, now: Time, expired: &mut Vec<FlowKey>) {
        if let Some(map) = self.maps.get(part) {
            expired.extend(
                map.iter()
                    .filter(|e| e.value().expires <= now)
                    .map(|e| *e.key()),
            );
        }
    }

    fn evict_one(&self, removed: &mut Vec<Removed<T>>) -> bool {
        for _ in 0..EVICTION_TRIES {
            let Some(key) = self.half_open.pop() else {
                return false;
            };
            self.half_open_len.fetch_sub(1, Relaxed);
            if let Some(gone) = self.remove_if(&key, Flow::is_half_open) {
                removed.push(gone);
                return true;
            }
        }
        false
    }

    /// Bits of the hash that neither DashMap's choice of a lock nor hashbrown's choice of a bucket
    /// uses.
    fn map(&self, key: &FlowKey) -> Option<&Map<T>> {
        self.maps.get((key.hash_value() >> 40) as usize % MAPS)
    }
}

impl<T> std::fmt::Debug for Table<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Table({} of {} flows)",
            self.len.load(Relaxed),
            self.capacity
        )
    }
}

#[cfg(test)]
mod tests;
