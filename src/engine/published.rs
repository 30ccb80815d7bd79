//! The ruleset in force, and those before it that a worker may still hold.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;

use super::Settings;
use crate::rules::{HelperId, HelperObject, Ruleset};

const FIRST_GENERATION: u32 = 1;

/// A ruleset with its number. A cached verdict is good for one generation.
#[derive(Debug)]
pub(super) struct Published {
    pub(super) generation: u32,
    pub(super) ruleset: Ruleset,
    /// For each helper object, the number of its settings. Sessions keep that number, which means the
    /// same in each generation, and not the object's.
    profiles: Box<[u8]>,
}

impl Published {
    fn new(generation: u32, ruleset: Ruleset, settings: &Settings) -> Published {
        let profile = |object: &HelperObject| settings.profile_index(object.profile.as_ref());
        Published {
            generation,
            profiles: ruleset.helpers().iter().map(profile).collect(),
            ruleset,
        }
    }

    /// The settings of the sessions that this helper object is for.
    pub(super) fn profile(&self, HelperId(id): HelperId) -> u8 {
        self.profiles.get(usize::from(id)).copied().unwrap_or(0)
    }
}

/// The place of the ruleset in force.
#[derive(Debug)]
pub(super) struct InForce {
    now: ArcSwap<Published>,
    /// Of `now`, or for a moment of the one before it: workers look at this before each batch.
    generation: AtomicU32,
    /// Those that were replaced and that somebody may still hold. A worker frees none: giving back a
    /// set of a hundred thousand addresses takes longer than a batch.
    replaced: Mutex<Vec<Arc<Published>>>,
}

impl InForce {
    pub(super) fn new(ruleset: Ruleset, settings: &Settings) -> InForce {
        InForce {
            now: ArcSwap::from_pointee(Published::new(FIRST_GENERATION, ruleset, settings)),
            generation: AtomicU32::new(FIRST_GENERATION),
            replaced: Mutex::default(),
        }
    }

    pub(super) fn generation(&self) -> u32 {
        self.generation.load(Ordering::Acquire)
    }

    pub(super) fn load(&self) -> Arc<Published> {
        self.now.load_full()
    }

    /// Takes the ruleset in force if another one is held.
    #[inline]
    pub(super) fn refresh(&self, held: &mut Arc<Published>) {
        if self.generation() != held.generation {
            *held = self.load();
        }
    }

    /// Puts a ruleset into force; returns its generation.
    pub(super) fn replace(&self, ruleset: Ruleset, settings: &Settings) -> u32 {
        let mut replaced = self.replaced.lock().unwrap_or_else(PoisonError::into_inner);
        // Nobody else moves it: the lock is held.
        let generation = self.generation().wrapping_add(1);
        let new = Arc::new(Published::new(generation, ruleset, settings));
        replaced.push(self.now.swap(new));
        self.generation.store(generation, Ordering::Release);
        generation
    }

    /// Frees those that nobody holds any more.
    pub(super) fn free_replaced(&self) {
        let mut replaced = self.replaced.lock().unwrap_or_else(PoisonError::into_inner);
        // Out of reach, so that a count of one stays so.
        let unheld: Vec<_> = replaced
            .extract_if(.., |ruleset| Arc::strong_count(ruleset) == 1)
            .collect();
        drop(replaced);
        drop(unheld);
    }

    /// How many were replaced and not freed yet.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.replaced
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .len()
    }
}
