use super::*;
use crate::conntrack::Tuple;
use crate::wire::proto;

const START: Time = Time::from_nanos(1);
const CLIENT: [u8; 4] = [192, 0, 2, 1];

fn tuple(port: u16) -> ExpectedTuple {
    ExpectedTuple {
        from: CLIENT.into(),
        to: [192, 0, 2, 2].into(),
        port,
        side: Side::Outside,
        vlan: [0; 2],
    }
}

fn flow(src_port: u16) -> FlowKey {
    let t = Tuple {
        src: CLIENT.into(),
        dst: [192, 0, 2, 2].into(),
        src_port,
        dst_port: 5000,
        protocol: proto::TCP,
        vlan: [0; 2],
    };
    FlowKey::new(&t, &ahash::RandomState::with_seeds(1, 2, 3, 4)).0
}

fn pair() -> Pair {
    Pair::from(&tuple(0))
}

fn open(session: u64, at_once: usize) -> Ranges {
    let all = Ranges::default();
    all.open(pair(), session, Some(5000..=5009), at_once, START)
        .unwrap();
    all
}

#[test]
fn a_place_is_for_the_pair_its_side_its_vlan_and_the_ports() {
    let all = open(1, 2);
    assert!(all.is_open(&tuple(5000)) && all.is_open(&tuple(5009)));
    for port in [4999, 5010] {
        assert!(!all.is_open(&tuple(port)), "{port}");
        assert_eq!(all.claim(&tuple(port), flow(1)), None);
    }
    let other = IpAddr::from([192, 0, 2, 3]);
    for wrong in [
        ExpectedTuple {
            from: other,
            ..tuple(5000)
        },
        ExpectedTuple {
            to: other,
            ..tuple(5000)
        },
        ExpectedTuple {
            side: Side::Inside,
            ..tuple(5000)
        },
        ExpectedTuple {
            vlan: [7, 0],
            ..tuple(5000)
        },
    ] {
        assert!(!all.is_open(&wrong), "{wrong:?}");
        assert_eq!(all.claim(&wrong, flow(1)), None);
    }
}

#[test]
fn so_many_at_once_and_the_place_of_one_that_ended_is_free() {
    let all = open(1, 2);
    for port in [1, 2] {
        assert_eq!(all.claim(&tuple(5000), flow(port)).unwrap().session, 1);
        assert!(all.confirm(&tuple(5000), flow(port)));
    }
    assert!(!all.is_open(&tuple(5001)));
    assert_eq!(all.claim(&tuple(5001), flow(3)), None);
    all.release(&tuple(5000), flow(1));
    assert!(all.claim(&tuple(5001), flow(3)).is_some());
    assert_eq!(all.used(), 2);
}

#[test]
fn a_newer_syn_takes_the_place_of_the_oldest_unanswered_one() {
    let all = open(1, 3);
    for port in [1, 2, 3] {
        all.claim(&tuple(5000), flow(port)).unwrap();
    }
    assert!(all.confirm(&tuple(5000), flow(1)));
    assert_eq!(
        all.claim(&tuple(5000), flow(4)).unwrap().replaced,
        Some(flow(2))
    );
    assert!(!all.confirm(&tuple(5000), flow(2)), "its place is gone");
    assert!(all.confirm(&tuple(5000), flow(4)));
    // The same SYN again takes no second place.
    assert_eq!(all.claim(&tuple(5000), flow(3)).unwrap().replaced, None);
    all.confirm(&tuple(5000), flow(3));
    assert!(!all.is_open(&tuple(5000)));
}

#[test]
fn a_range_that_was_shut_takes_nobody_and_is_forgotten_with_its_last_connection() {
    let all = open(1, 3);
    all.claim(&tuple(5000), flow(1)).unwrap();
    all.confirm(&tuple(5000), flow(1));
    all.claim(&tuple(5000), flow(2)).unwrap();
    all.close(&pair(), 1);
    assert!(!all.is_open(&tuple(5000)));
    assert_eq!(all.claim(&tuple(5000), flow(3)), None);
    assert!(!all.confirm(&tuple(5000), flow(2)), "answered too late");
    assert_eq!(all.len(), 1);
    // Open again: those that live still count.
    all.open(pair(), 1, Some(5000..=5009), 1, START).unwrap();
    assert!(!all.is_open(&tuple(5000)));
    all.close(&pair(), 1);
    all.release(&tuple(5000), flow(1));
    assert!(all.is_empty());
    assert!(all.by_pair.is_empty());
}

#[test]
fn two_sessions_of_a_pair_have_a_range_each() {
    let all = open(1, 2);
    all.open(pair(), 2, Some(5000..=5009), 1, START).unwrap();
    let session_of = |port| {
        all.claim(&tuple(5000), flow(port))
            .map(|claim| claim.session)
    };
    assert_eq!(session_of(1), Some(1));
    assert_eq!(session_of(2), Some(2), "the one with fewer connections");
    assert_eq!(session_of(1), Some(1), "the same SYN again");
    assert!(all.confirm(&tuple(5000), flow(1)) && all.confirm(&tuple(5000), flow(2)));
    assert_eq!(session_of(3), Some(1));
    assert!(all.confirm(&tuple(5000), flow(3)));
    assert_eq!(session_of(4), None);
    all.close(&pair(), 1);
    all.release(&tuple(5000), flow(2));
    assert_eq!(session_of(4), Some(2));
    assert_eq!(all.len(), 2, "two of the first session's connections live");
}

#[test]
fn a_syn_without_a_range_is_answered_so_often() {
    let all = Ranges::default();
    assert_eq!(all.missed(&tuple(6000), START), None);
    all.open(pair(), 1, None, 8, START).unwrap();
    assert!(!all.is_open(&tuple(6000)));
    assert_eq!(all.claim(&tuple(6000), flow(1)), None);
    let answered = |now| {
        (0..20)
            .filter(|_| all.missed(&tuple(6000), now).unwrap().may_answer)
            .count()
    };
    assert_eq!(answered(START), usize::from(RESETS_PER_SECOND));
    assert_eq!(answered(START + Duration::from_millis(999)), 0);
    let later = START + Duration::from_secs(1);
    assert_eq!(answered(later), usize::from(RESETS_PER_SECOND));
    assert_eq!(all.missed(&tuple(1023), later), None, "no data port");
    all.open(pair(), 2, Some(6000..=6000), 8, START).unwrap();
    assert_eq!(all.missed(&tuple(6000), later), None, "another session's");
    assert!(all.missed(&tuple(6001), later).is_some());
    all.close(&pair(), 1);
    all.close(&pair(), 2);
    assert_eq!(all.missed(&tuple(6001), later), None);
}

#[test]
fn ranges_are_bounded() {
    let all = Ranges::default();
    for session in 0..u64::from(MAX_PER_CLIENT) {
        all.open(pair(), session, None, 8, START).unwrap();
    }
    assert_eq!(
        all.open(pair(), 99, None, 8, START),
        Err(ExpectError::ClientFull)
    );
    all.open(pair(), 5, None, 8, START).unwrap();
    for n in MAX_PER_CLIENT..MAX_EXPECTATIONS as u32 {
        let from = IpAddr::from((0x0a00_0000 + n).to_be_bytes());
        all.open(Pair { from, ..pair() }, 7, None, 8, START)
            .unwrap();
    }
    let from = IpAddr::from([203, 0, 113, 1]);
    let one_more = Pair { from, ..pair() };
    assert_eq!(
        all.open(one_more, 8, None, 8, START),
        Err(ExpectError::Full)
    );
    assert_eq!(all.len(), MAX_EXPECTATIONS);
    assert!(!all.by_pair.contains_key(&one_more));
    all.close(&pair(), 5);
    all.open(one_more, 8, None, 8, START).unwrap();
}
