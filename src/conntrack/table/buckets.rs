//! Where the flows lie: an array of buckets of one cache line, each with its own lock.
//!
//! A look-up touches the bucket's line and then the flow itself, and both can be fetched
//! beforehand ([`Buckets::fetch_bucket`], [`Buckets::fetch_entry`]), so that a worker with a batch
//! of packets waits for memory once and not once for each packet. That is what a general map does
//! not offer; ARCHITECTURE.md has the figures.
#![allow(unsafe_code)]

use std::ops::{Deref, DerefMut};
use std::ptr::{self, NonNull};
use std::sync::atomic::{
    AtomicPtr, AtomicU8, AtomicU32,
    Ordering::{Acquire, Relaxed, Release},
};

use crossbeam::utils::Backoff;

use crate::wire::prefetch;

/// What a bucket knows of an entry.
pub(super) trait Hashed {
    /// The keyed hash of its name.
    fn hash(&self) -> u64;
}

/// Entries in the line itself; what does not fit is beside it.
const PLACES: usize = 5;

/// A full table has two and a half entries in a bucket on the average, so that one bucket in
/// 24 has more than [`PLACES`] (Poisson), and 1.6 % of the entries lie beside their bucket.
const BUCKETS_FOR_FIVE: usize = 2;

const FREE: u32 = 0;
const HELD: u32 = 1;

/// Stands where no entry is; see [`tag`].
const NO_TAG: u8 = 0;

/// Entries by their hash. Whoever holds a bucket's lock must not ask for another's.
pub(super) struct Buckets<E> {
    all: Box<[Bucket<E>]>,
}

/// All fields are atomic because [`Buckets::fetch_entry`] looks without the lock. What it sees may
/// be old; it is only an address to fetch. Everybody else holds the lock, which orders the rest.
#[repr(C, align(64))]
struct Bucket<E> {
    lock: AtomicU32,
    /// A byte of the hash of each entry, [`NO_TAG`] where none is.
    tags: [AtomicU8; PLACES],
    /// Each is null or a box of this bucket's own.
    entries: [AtomicPtr<E>; PLACES],
    /// Null, or a box with the entries that have no place.
    beside: AtomicPtr<Vec<Box<E>>>,
}

impl<E: Hashed> Buckets<E> {
    /// Enough buckets for `capacity` entries. The memory is the system's until it is touched.
    pub(super) fn new(capacity: usize) -> Buckets<E> {
        const { assert!(size_of::<Bucket<E>>() == 64) };
        let count = (capacity * BUCKETS_FOR_FIVE).div_ceil(PLACES).max(1);
        // SAFETY: all bytes zero is a bucket: its lock is free, it has no tag, and its pointers
        // are null.
        let all = unsafe { Box::new_zeroed_slice(count).assume_init() };
        Buckets { all }
    }

    /// How many buckets there are.
    pub(super) fn count(&self) -> usize {
        self.all.len()
    }

    /// Has the line of a hash's bucket fetched.
    #[inline]
    pub(super) fn fetch_bucket(&self, hash: u64) {
        prefetch(ptr::from_ref(self.of(hash)), 1);
    }

    /// Has the entry with this hash fetched, if it is there, and is in its place.
    #[inline]
    pub(super) fn fetch_entry(&self, hash: u64) {
        let bucket = self.of(hash);
        for (tag_there, entry) in bucket.tags.iter().zip(&bucket.entries) {
            if tag_there.load(Relaxed) == tag(hash) {
                // It may begin inside a line. Another one with the same tag is rare.
                prefetch(entry.load(Relaxed), size_of::<E>() / 64 + 1);
                return;
            }
        }
    }

    /// Holds the bucket of a hash.
    #[inline]
    pub(super) fn hold(&self, hash: u64) -> Held<'_, E> {
        self.of(hash).hold()
    }

    /// Holds the bucket with this number.
    pub(super) fn hold_number(&self, number: usize) -> Option<Held<'_, E>> {
        Some(self.all.get(number)?.hold())
    }

    /// The tag has the upper bits.
    #[inline]
    fn of(&self, hash: u64) -> &Bucket<E> {
        let middle = u64::from((hash >> 16) as u32);
        let number = (middle * self.all.len() as u64) >> 32;
        // SAFETY: `middle` is below 2^32, so that the product shifted is below the length.
        unsafe { self.all.get_unchecked(number as usize) }
    }
}

#[inline]
fn tag(hash: u64) -> u8 {
    (hash >> 56) as u8 | 1
}

impl<E> Bucket<E> {
    #[inline(always)]
    fn hold(&self) -> Held<'_, E> {
        let take = || {
            self.lock
                .compare_exchange(FREE, HELD, Acquire, Relaxed)
                .is_ok()
        };
        if !take() {
            wait_until(take);
        }
        Held { bucket: self }
    }
}

/// It is held for some hundred instructions, unless its holder lost its core.
#[cold]
fn wait_until(take: impl Fn() -> bool) {
    let backoff = Backoff::new();
    while !take() {
        backoff.snooze();
    }
}

/// A bucket whose lock is held until this is dropped.
pub(super) struct Held<'a, E> {
    bucket: &'a Bucket<E>,
}

impl<E> Drop for Held<'_, E> {
    #[inline]
    fn drop(&mut self) {
        self.bucket.lock.store(FREE, Release);
    }
}

impl<'a, E: Hashed> Held<'a, E> {
    /// The entry with this hash.
    #[inline]
    pub(super) fn find(&mut self, hash: u64) -> Option<&mut E> {
        if let Some((_, mut entry)) = self.in_place(hash) {
            // SAFETY: as in `in_place`; `&mut self` makes this the only reference of the thread.
            return Some(unsafe { entry.as_mut() });
        }
        let mut beside = self.beside_mut()?.iter_mut().map(|entry| &mut **entry);
        beside.find(|entry| entry.hash() == hash)
    }

    /// The entry with this hash, as long as its bucket is held.
    #[inline(always)]
    pub(super) fn into_entry(mut self, hash: u64) -> Option<HeldEntry<'a, E>> {
        let entry = NonNull::from(self.find(hash)?);
        Some(HeldEntry { entry, _held: self })
    }

    /// Puts an entry in. The caller has seen that none with its hash is there.
    pub(super) fn insert(&mut self, entry: Box<E>) {
        let free = |tag: &AtomicU8| tag.load(Relaxed) == NO_TAG;
        match self.bucket.tags.iter().position(free) {
            Some(place) => self.set(place, Some(entry)),
            None => match self.beside_mut() {
                Some(beside) => beside.push(entry),
                None => {
                    let beside = Box::into_raw(Box::new(vec![entry]));
                    self.bucket.beside.store(beside, Relaxed);
                }
            },
        }
    }

    /// Takes an entry out if it is the right one.
    pub(super) fn take_if(&mut self, hash: u64, is: impl FnOnce(&mut E) -> bool) -> Option<Box<E>> {
        if !is(self.find(hash)?) {
            return None;
        }
        let Some((place, taken)) = self.in_place(hash) else {
            let beside = self.beside_mut()?;
            let index = beside.iter().position(|entry| entry.hash() == hash)?;
            return self.take_beside(index);
        };
        // One that lies beside takes the place, as places can be fetched beforehand.
        let other = self.take_beside(0);
        self.set(place, other);
        // SAFETY: it came from `Box::into_raw`, and its place, the only owner, has just forgotten
        // it.
        Some(unsafe { Box::from_raw(taken.as_ptr()) })
    }

    /// An entry that has a place, and which.
    #[inline]
    fn in_place(&self, hash: u64) -> Option<(usize, NonNull<E>)> {
        let places = self.bucket.tags.iter().zip(&self.bucket.entries);
        for (place, (tag_there, entry)) in places.enumerate() {
            if tag_there.load(Relaxed) == tag(hash)
                && let Some(entry) = NonNull::new(entry.load(Relaxed))
                // SAFETY: what is in a place is a box that belongs to the bucket, and the lock
                // makes this thread the only one that looks into it.
                && unsafe { entry.as_ref() }.hash() == hash
            {
                return Some((place, entry));
            }
        }
        None
    }

    /// Fills a place or empties it. Who was there must have been taken care of.
    fn set(&mut self, place: usize, entry: Option<Box<E>>) {
        let tag = entry.as_ref().map_or(NO_TAG, |entry| tag(entry.hash()));
        let entry = entry.map_or(ptr::null_mut(), Box::into_raw);
        let Bucket { tags, entries, .. } = self.bucket;
        if let (Some(tag_there), Some(entry_there)) = (tags.get(place), entries.get(place)) {
            tag_there.store(tag, Relaxed);
            entry_there.store(entry, Relaxed);
        }
    }

    /// All entries.
    pub(super) fn iter(&self) -> impl Iterator<Item = &E> {
        let in_places = self.bucket.entries.iter().filter_map(|entry| {
            // SAFETY: as in `find`; `&self` allows no `&mut` beside it.
            NonNull::new(entry.load(Relaxed)).map(|entry| unsafe { entry.as_ref() })
        });
        // SAFETY: null, or a box of this bucket's own, under its lock.
        let beside = unsafe { self.bucket.beside.load(Relaxed).as_ref() };
        in_places.chain(beside.into_iter().flatten().map(|entry| &**entry))
    }

    fn beside_mut(&mut self) -> Option<&mut Vec<Box<E>>> {
        // SAFETY: null, or a box of this bucket's own; the lock and `&mut self` make this the only
        // reference.
        unsafe { self.bucket.beside.load(Relaxed).as_mut() }
    }

    /// Takes one of those that have no place. The last one takes the vector along.
    fn take_beside(&mut self, index: usize) -> Option<Box<E>> {
        let beside = self.beside_mut()?;
        let taken = beside.swap_remove(index);
        if beside.is_empty() {
            let beside = self.bucket.beside.swap(ptr::null_mut(), Relaxed);
            // SAFETY: it came from `Box::into_raw`, and the bucket has just forgotten it.
            drop(unsafe { Box::from_raw(beside) });
        }
        Some(taken)
    }
}

/// An entry of a bucket that is held until this is dropped.
pub(super) struct HeldEntry<'a, E> {
    entry: NonNull<E>,
    _held: Held<'a, E>,
}

impl<E> Deref for HeldEntry<'_, E> {
    type Target = E;

    #[inline(always)]
    fn deref(&self) -> &E {
        // SAFETY: it came from `Held::find`, whose `Held` is here, so that nobody else has the entry
        // or takes it out; `&self` allows no `&mut` beside it.
        unsafe { self.entry.as_ref() }
    }
}

impl<E> DerefMut for HeldEntry<'_, E> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut E {
        // SAFETY: as above; `&mut self` makes this the only reference.
        unsafe { self.entry.as_mut() }
    }
}

impl<E> Drop for Bucket<E> {
    fn drop(&mut self) {
        for entry in &mut self.entries {
            let entry = *entry.get_mut();
            if !entry.is_null() {
                // SAFETY: a box of this bucket's own, and nobody else has the bucket any more.
                drop(unsafe { Box::from_raw(entry) });
            }
        }
        let beside = *self.beside.get_mut();
        if !beside.is_null() {
            // SAFETY: as above.
            drop(unsafe { Box::from_raw(beside) });
        }
    }
}

// SAFETY: a bucket owns its entries as boxes do, and gives references to them only to the thread
// that holds its lock: as with a mutex, sending the entries must be allowed.
unsafe impl<E: Send> Send for Bucket<E> {}
// SAFETY: as above; whoever holds a bucket may show its entries to other threads.
unsafe impl<E: Send + Sync> Sync for Bucket<E> {}

#[cfg(test)]
mod tests;
