use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use super::*;
use crate::conntrack::{Direction, Settings, Tuple};
use crate::wire::{Side, proto, testing};

type Outcome = u8;

const NOW: Time = Time::from_nanos(1_000);

fn table(capacity: usize) -> Table<Outcome> {
    Table::new(&Settings {
        max_flows: capacity,
        ..Settings::default()
    })
}

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
    Flow::begin(
        packet.ip.as_ref().unwrap(),
        Side::Inside,
        true,
        &Settings::default(),
        NOW,
        false,
    )
    .unwrap()
}

fn insert(table: &Table<Outcome>, port: u16) -> Result<usize, InsertError> {
    let mut removed = Vec::new();
    table.insert(table.key(&tuple(port)).0, flow(port), NOW, &mut removed)?;
    Ok(removed.len())
}

#[test]
fn it_agrees_with_a_map_under_random_operations() {
    let table = table(1000);
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
    let table = table(100);
    for port in 1..=100 {
        assert_eq!(insert(&table, port), Ok(0));
    }
    // The oldest goes.
    assert_eq!(insert(&table, 101), Ok(1));
    assert_eq!(table.len(), 100);
    assert!(table.with(&table.key(&tuple(1)).0, |_| ()).is_none());
    // Of streams that go on the oldest begins again.
    for port in 2..=101 {
        table.with(&table.key(&tuple(port)).0, |flow| {
            (flow.replied, flow.expires) = (true, NOW + Duration::from_secs(120));
        });
    }
    assert_eq!(insert(&table, 102), Ok(1));
    assert_eq!((table.len(), table.begun()), (100, 102));
}

#[test]
fn every_expired_flow_is_found_in_some_part() {
    let table = table(1000);
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

/// A half-open TCP connection of this client.
fn half_open(table: &Table<Outcome>, client: IpAddr, port: u16) -> (FlowKey, Flow<Outcome>) {
    let server = "198.51.100.1:80".parse().unwrap();
    let syn = testing::Tcp::new((client, port).into(), server, 0x02, 1000, 0).frame();
    let packet = crate::wire::parse(&syn).unwrap();
    let (key, low) = table.key(&Tuple::of(&packet).unwrap());
    let settings = Settings::default();
    let flow = Flow::begin(
        packet.ip.as_ref().unwrap(),
        Side::Outside,
        low,
        &settings,
        NOW,
        false,
    )
    .unwrap();
    (key, flow)
}

/// Passes a segment of either end.
fn segment(
    table: &Table<Outcome>,
    key: &FlowKey,
    from_client: bool,
    flags: u8,
    seq: u32,
    ack: u32,
) {
    let packet = |(from, to)| {
        crate::wire::parse(&testing::Tcp::new(from, to, flags, seq, ack).frame()).unwrap()
    };
    let passed = table.with(key, |flow| {
        let (client, server) = flow.ends(key);
        let (direction, ends) = match from_client {
            true => (Direction::Original, (client, server)),
            false => (Direction::Reply, (server, client)),
        };
        flow.update(
            direction,
            packet(ends).ip.as_ref().unwrap(),
            &Settings::default(),
            NOW,
        )
        .invalid
    });
    assert_eq!(passed, Some(None));
}

fn answer(table: &Table<Outcome>, key: &FlowKey) {
    segment(table, key, false, 0x12, 5000, 1001);
    segment(table, key, true, 0x10, 1001, 5001);
}

const HOST: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(203, 0, 113, 1));

#[test]
fn the_order_in_which_flows_make_room() {
    let table = table(5);
    let mut removed = Vec::new();
    let mut tcp = |port| {
        let (key, flow) = half_open(&table, HOST, port);
        table.insert(key, flow, NOW, &mut removed).unwrap();
        key
    };
    let established = tcp(1);
    answer(&table, &established);
    let closed = tcp(2);
    answer(&table, &closed);
    segment(&table, &closed, false, 0x04, 5001, 0);
    let (first, second) = (tcp(3), tcp(4));
    // A question and its answer.
    insert(&table, 5).unwrap();
    let exchange = table.key(&tuple(5)).0;
    table.with(&exchange, |flow| flow.replied = true);
    assert_eq!((table.len(), table.half_open()), (5, 2));

    let later = NOW + Duration::from_secs(5);
    let next = |port| {
        let (key, flow) = half_open(&table, HOST, port);
        let mut removed = Vec::new();
        let outcome = table.insert(key, flow, later, &mut removed);
        // It is answered, and goes on: it makes no room.
        if outcome.is_ok() {
            answer(&table, &key);
        }
        outcome.map(|()| removed.pop().unwrap().key)
    };
    assert_eq!(next(11), Ok(closed));
    assert_eq!(next(12), Ok(first));
    assert_eq!(next(13), Ok(second));
    assert_eq!(next(14), Ok(exchange));
    assert_eq!(next(15), Err(InsertError::Full));
    assert_eq!((table.len(), table.half_open()), (5, 0));
    assert!(table.with(&established, |_| ()).is_some());
}

#[test]
fn of_exchanges_the_silent_one_makes_room() {
    let table = table(SECOND_CHANCES);
    let at = |seconds| NOW + Duration::from_secs(seconds);
    let ports = 1..=SECOND_CHANCES as u16;
    for port in ports.clone() {
        insert(&table, port).unwrap();
        // All but the last one have just spoken, at that time.
        let expires = if port == *ports.end() {
            at(120)
        } else {
            at(150)
        };
        let stream = table.with(&table.key(&tuple(port)).0, |flow| {
            (flow.replied, flow.expires) = (true, expires);
        });
        stream.unwrap();
    }
    let mut removed = Vec::new();
    let (key, flow) = half_open(&table, HOST, 1);
    table.insert(key, flow, at(30), &mut removed).unwrap();
    assert_eq!(removed[0].key, table.key(&tuple(*ports.end())).0);
}

/// A table full of what is over, or of questions and answers, lets handshakes come to their end.
#[test]
fn handshakes_under_way_do_not_push_each_other_out() {
    for is_answered in [false, true] {
        let table = table(80);
        let mut removed = Vec::new();
        for port in 1..=80 {
            if is_answered {
                insert(&table, port).unwrap();
                table.with(&table.key(&tuple(port)).0, |flow| flow.replied = true);
            } else {
                let (key, flow) = half_open(&table, HOST, port);
                table.insert(key, flow, NOW, &mut removed).unwrap();
                answer(&table, &key);
                segment(&table, &key, false, 0x04, 5001, 0);
            }
        }
        assert_eq!((table.len(), table.half_open()), (80, 0));
        let mut begin = |port| {
            let (key, flow) = half_open(&table, HOST, port);
            table.insert(key, flow, NOW, &mut removed).unwrap();
            key
        };
        let three = [begin(1001), begin(1002), begin(1003)];
        three.iter().for_each(|key| answer(&table, key));
    }
}

#[test]
fn one_source_can_not_have_the_last_fifth_of_the_table() {
    let table = Table::<Outcome>::new(&Settings {
        max_flows: 1000,
        source_half_open: 50,
        ..Settings::default()
    });
    let begin = |client: IpAddr, port| {
        let (key, flow) = half_open(&table, client, port);
        table.insert(key, flow, NOW, &mut Vec::new()).map(|()| key)
    };
    // Below 80 % there is room for everybody.
    let keys: Vec<_> = (1..=801).map(|port| begin(HOST, port).unwrap()).collect();
    assert_eq!(begin(HOST, 900), Err(InsertError::SourceLimit));
    let other: IpAddr = [203, 0, 113, 2].into();
    for port in 1..=50 {
        begin(other, port).unwrap();
    }
    assert_eq!(begin(other, 51), Err(InsertError::SourceLimit));
    // Whoever is answered no longer counts.
    (0..752).for_each(|at| answer(&table, &keys[at]));
    assert!(table.len() > 800);
    begin(HOST, 901).unwrap();
    assert_eq!(begin(HOST, 902), Err(InsertError::SourceLimit));
    // Nor does who left.
    table.remove(&keys[760]).unwrap();
    begin(HOST, 903).unwrap();
    // In IPv6 all of a /64 is one source.
    let v6 = |host: u16| IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, host]);
    let begin6 = |host: u16, port| {
        let frame = testing::Tcp::new(
            (v6(host), port).into(),
            "[2001:db8:9::1]:80".parse().unwrap(),
            0x02,
            1,
            0,
        )
        .frame();
        let packet = crate::wire::parse(&frame).unwrap();
        let (key, low) = table.key(&Tuple::of(&packet).unwrap());
        let flow = Flow::begin(
            packet.ip.as_ref().unwrap(),
            Side::Outside,
            low,
            &Settings::default(),
            NOW,
            false,
        )
        .unwrap();
        table.insert(key, flow, NOW, &mut Vec::new())
    };
    for host in 1..=50 {
        begin6(host, 1).unwrap();
    }
    assert_eq!(begin6(51, 1), Err(InsertError::SourceLimit));
}

/// Threads insert, answer, look up, remove and expire flows of their own, at random, while their
/// flows make room for each other's. What each of them knows of its own must hold; in the end
/// counters, queues and maps must agree.
#[test]
fn it_agrees_with_models_under_concurrent_random_operations() {
    const THREADS: u16 = 4;
    const PORTS: u16 = 200;
    // A table with room for all of them and one without.
    for capacity in [usize::from(THREADS * PORTS), 300] {
        let table = table(capacity);
        let has_room = capacity == usize::from(THREADS * PORTS);
        let left = std::thread::scope(|scope| {
            let run = |thread: u16| {
                let table = &table;
                move || random_operations(table, thread, PORTS, has_room)
            };
            let threads: Vec<_> = (0..THREADS).map(|t| scope.spawn(run(t))).collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .sum::<usize>()
        });
        if has_room {
            assert_eq!(table.len(), left);
        }
        check_books(&table);
    }
}

fn random_operations(table: &Table<Outcome>, thread: u16, ports: u16, has_room: bool) -> usize {
    let client: IpAddr = [10, 0, 0, thread as u8].into();
    // By port: whether it was answered.
    let mut model: HashMap<u16, bool> = HashMap::new();
    let mut random = u64::from(thread) + 1;
    let mut removed = Vec::new();
    for _ in 0..30_000 {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let port = (random >> 40) as u16 % ports + 1;
        let (key, flow) = half_open(table, client, port);
        match (random >> 33) % 5 {
            0 | 1 => {
                let outcome = table.insert(key, flow, NOW, &mut removed);
                let is_known = model.contains_key(&port);
                match outcome {
                    Ok(()) => {
                        assert!(!is_known || !has_room);
                        model.insert(port, false);
                    }
                    Err(InsertError::Exists) => assert!(is_known),
                    // The source limit is far off, and somebody is half-open or not.
                    Err(error) => assert!(!has_room && error == InsertError::Full),
                }
                assert!(has_room == removed.is_empty() || removed.len() <= 1);
                removed.clear();
            }
            2 => {
                let known = model.remove(&port);
                let gone = table.remove(&key);
                match (known, &gone) {
                    (Some(false), None) => assert!(!has_room, "nobody needed its place"),
                    (known, gone) => assert_eq!(known.is_some(), gone.is_some()),
                }
                assert!(gone.is_none_or(|gone| gone.key == key));
            }
            3 if model.get(&port) == Some(&false) => {
                if table.with(&key, |_| ()).is_some() {
                    // It may make room in between: then it was not answered.
                    let answered = table.with(&key, |flow| {
                        let (from, to) = flow.ends(&key);
                        for (direction, frame) in [
                            (
                                Direction::Reply,
                                testing::Tcp::new(to, from, 0x12, 5000, 1001).frame(),
                            ),
                            (
                                Direction::Original,
                                testing::Tcp::new(from, to, 0x10, 1001, 5001).frame(),
                            ),
                        ] {
                            let packet = crate::wire::parse(&frame).unwrap();
                            flow.update(
                                direction,
                                packet.ip.as_ref().unwrap(),
                                &Settings::default(),
                                NOW,
                            );
                        }
                    });
                    if answered.is_some() {
                        model.insert(port, true);
                    } else {
                        model.remove(&port);
                    }
                } else {
                    assert!(!has_room);
                    model.remove(&port);
                }
            }
            _ => {
                let found = table.with(&key, |flow| flow.ends(&key).0.ip());
                match model.get(&port) {
                    Some(true) => assert_eq!(found, Some(client), "answered flows stay"),
                    Some(false) => assert!(found.is_some() || !has_room),
                    None => assert_eq!(found, None),
                }
            }
        }
        assert!(table.len() <= table.settings.max_flows);
    }
    model.len()
}

/// Whether the counters and queues say what the maps hold.
fn check_books(table: &Table<Outcome>) {
    let mut keys = Vec::new();
    let end = NOW + Duration::from_secs(1_000_000);
    (0..table.parts()).for_each(|part| table.expired_in(part, end, &mut keys));
    assert_eq!(keys.len(), table.len());
    let standing = |key: &FlowKey| table.with(key, |flow| flow.standing()).unwrap();
    let half_open = keys
        .iter()
        .filter(|key| standing(key) == Standing::HalfOpen)
        .count();
    assert_eq!(table.half_open(), half_open);
    assert_eq!(table.half_open_by_source.total(), half_open as u64);
    for key in &keys {
        assert!(table.remove(key).is_some());
    }
    let queued = |queue: &CachePadded<Mutex<Queue>>| queue.lock().unwrap().len();
    assert_eq!(table.queues.iter().map(queued).sum::<usize>(), 0);
    assert_eq!((table.len(), table.half_open_by_source.total()), (0, 0));
}

#[test]
fn many_threads_never_pass_the_capacity() {
    let table = table(64);
    std::thread::scope(|scope| {
        for thread in 0..4u16 {
            let table = &table;
            scope.spawn(move || {
                for round in 0..2_000u16 {
                    let port = thread * 2_000 + round + 1;
                    let _ = insert(table, port);
                    assert!(table.len() <= 64);
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
    check_books(&table);
}
