//! Hash tables of the same size as the flow table, with nothing around them: what a look-up costs
//! at least, on this machine, in this run.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use dashmap::DashMap;
use lotus::conntrack::{FlowKey, Tuple};
use lotus::wire::{NO_VLAN, proto};

use super::shuffled;
use super::traffic::{OPEN, SERVER, client};

/// As large as a flow with its name and what the table adds: 184 bytes.
type Entry = Box<[u64; 23]>;

/// Places between numbers that lie in different cache lines.
const LINE: usize = 8;

/// As many locks as keep threads out of each other's way.
const LOCKS: usize = 1024;

/// The keys are hashes already.
#[derive(Default)]
pub struct AsIs(u64);

impl Hasher for AsIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("keys are u64")
    }

    fn write_u64(&mut self, key: u64) {
        self.0 = key;
    }
}

type Build = BuildHasherDefault<AsIs>;

pub struct Dash(DashMap<u64, Entry, Build>);
pub struct Std(HashMap<u64, Entry, Build>);

pub trait Bare {
    fn of(keys: &[u64]) -> Self;
    /// Finds an entry and changes something in each of its cache lines.
    fn touch(&mut self, key: u64) -> bool;
}

impl Bare for Dash {
    fn of(keys: &[u64]) -> Dash {
        let map = DashMap::with_hasher_and_shard_amount(Build::default(), LOCKS);
        keys.iter().for_each(|&key| {
            map.insert(key, Entry::default());
        });
        Dash(map)
    }

    fn touch(&mut self, key: u64) -> bool {
        let found = self.0.get_mut(&key).map(|mut entry| change(&mut entry));
        found.is_some()
    }
}

impl Bare for Std {
    fn of(keys: &[u64]) -> Std {
        Std(keys.iter().map(|&key| (key, Entry::default())).collect())
    }

    fn touch(&mut self, key: u64) -> bool {
        self.0.get_mut(&key).map(change).is_some()
    }
}

fn change(entry: &mut Entry) {
    entry
        .iter_mut()
        .step_by(LINE)
        .for_each(|word| *word = word.wrapping_add(1));
}

/// The hashes of the first flows' names.
pub fn keys(flows: u32) -> Vec<u64> {
    let hasher = ahash::RandomState::new();
    let tuple = |flow| {
        let (address, src_port) = client(flow);
        Tuple {
            src: address.into(),
            dst: SERVER.into(),
            src_port,
            dst_port: OPEN,
            protocol: proto::TCP,
            vlan: [NO_VLAN; 2],
        }
    };
    (0..flows)
        .map(|flow| FlowKey::new(&tuple(flow), &hasher).0.hash_value())
        .collect()
}

/// The same in no order: that in which they are looked up.
pub fn in_no_order(keys: &[u64]) -> Vec<u64> {
    let order = shuffled(keys.len() as u32);
    order.into_iter().map(|at| keys[at as usize]).collect()
}
