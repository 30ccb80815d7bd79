use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use super::*;
use crate::conntrack::{Settings, Tuple};
use crate::wire::{Side, proto, testing};

type Outcome = u8;

const NOW: Time = Time::from_nanos(1_000);

fn tuple(port: u16) -> Tuple {
    let (src, dst): (IpAddr, IpAddr) = ([192, 0, 2, 1].into(), [192, 0, 2, 2].into());
    Tuple {
        src,
        dst,
        src_port: port,
        dst_port: 9,
        protocol: proto::UDP,
        vlan: [0; 2],
    }
}

fn flow(port: u16) -> Flow<Outcome> {
    let t = tuple(port);
    let frame = testing::udp((t.src, port).into(), (t.dst, 9).into(), b"x");
    let packet = crate::wire::parse(&frame).unwrap();
    Flow::begin(&packet, Side::Inside, true, &Settings::default(), NOW).unwrap()
}

fn insert(table: &Table<Outcome>, port: u16) -> Result<usize, InsertError> {
    let mut removed = Vec::new();
    table.insert(table.key(&tuple(port)).0, flow(port), &mut removed)?;
    Ok(removed.len())
}

#[test]
fn it_agrees_with_a_map_under_random_operations() {
    let table = Table::new(1000);
    let mut model = HashMap::new();
    let mut random = 7u64;
    for step in 0..20_000u64 {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let port = (random >> 40) as u16 % 300 + 1;
        let key = table.key(&tuple(port)).0;
        match (random >> 33) % 3 {
            0 => {
                let expected = if model.contains_key(&port) {
                    Err(InsertError::Exists)
                } else {
                    Ok(0)
                };
                assert_eq!(insert(&table, port), expected);
                model.entry(port).or_insert(0);
            }
            1 => {
                assert_eq!(table.remove(&key).is_some(), model.remove(&port).is_some());
            }
            _ => {
                let before = table.with(&key, |flow| {
                    let before = flow.bytes[1];
                    flow.bytes[1] = step;
                    before
                });
                assert_eq!(before, model.get(&port).copied());
                model.entry(port).and_modify(|value| *value = step);
            }
        }
        assert_eq!(table.len(), model.len());
    }
}

#[test]
fn capacity_is_exact_and_the_unanswered_make_room() {
    let table = Table::new(100);
    for port in 1..=100 {
        assert_eq!(insert(&table, port), Ok(0));
    }
    // The oldest goes.
    assert_eq!(insert(&table, 101), Ok(1));
    assert_eq!(table.len(), 100);
    assert!(table.with(&table.key(&tuple(1)).0, |_| ()).is_none());
    // Answered ones stay.
    for port in 2..=101 {
        table.with(&table.key(&tuple(port)).0, |flow| flow.replied = true);
    }
    assert_eq!(insert(&table, 102), Err(InsertError::Full));
    assert_eq!((table.len(), table.begun()), (100, 101));
}

#[test]
fn every_expired_flow_is_found_in_some_part() {
    let table = Table::new(1000);
    for port in 1..=500 {
        insert(&table, port).unwrap();
    }
    let expired_at = |now| {
        let mut keys = Vec::new();
        (0..table.parts()).for_each(|part| table.expired_in(part, now, &mut keys));
        keys
    };
    assert!(expired_at(NOW).is_empty());
    let all = expired_at(NOW + Duration::from_secs(30));
    assert_eq!(all.len(), 500);
    for key in all {
        assert!(table.remove_if(&key, |flow| flow.expires <= NOW).is_none());
    }
    assert_eq!(table.len(), 500);
}

#[test]
fn many_threads_never_pass_the_capacity() {
    let table = Table::new(64);
    std::thread::scope(|scope| {
        for thread in 0..4u16 {
            let table = &table;
            scope.spawn(move || {
                for round in 0..2_000u16 {
                    let port = thread * 2_000 + round + 1;
                    let _ = insert(table, port);
                    assert!(table.len() <= 64 + 4, "one in flight for each thread");
                    if round % 3 == 0 {
                        table.remove(&table.key(&tuple(port)).0);
                    }
                }
            });
        }
    });
    let mut keys = Vec::new();
    let end = NOW + Duration::from_secs(1000);
    (0..table.parts()).for_each(|part| table.expired_in(part, end, &mut keys));
    assert_eq!(keys.len(), table.len());
    assert!(table.len() <= 64);
}
