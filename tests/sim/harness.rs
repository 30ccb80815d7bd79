//! The harness itself: over a bare wire every dialogue must work, and every check of the harness
//! must be able to fail.

use std::net::SocketAddr;
use std::time::Duration;

use lotus::conntrack::Time;
use lotus::wire::Side;

use crate::dialogue::{Between, Plan, Scenario, must_pass, run};
use crate::host::{Family, address};
use crate::hostile::LISTENER_PORT;
use crate::link::{self, LinkPlan};
use crate::middle::Middle;
use crate::oracle::{ControlPair, Oracle};
use crate::packet::{self, FIN, Frame, PSH, Segment, Tag, View};
use crate::rng::Rng;
use crate::world::World;

fn over_the_wire(link: LinkPlan, file_bytes: usize, retries: u32) {
    for family in [Family::V4, Family::V6] {
        for scenario in Scenario::ALL {
            let mut plan = Plan {
                between: Between::Wire,
                link: link.clone(),
                retries,
                ..Plan::new(scenario, family)
            };
            plan.limit_files(file_bytes);
            must_pass(&plan);
        }
    }
}

#[test]
fn a_clean_wire_carries_all_scenarios() {
    over_the_wire(LinkPlan::default(), 20_000, 0);
}

#[test]
fn a_bad_wire_carries_all_scenarios() {
    let link = LinkPlan {
        loss_percent: 20,
        duplicate_percent: 5,
        reorder_percent: 10,
        ..LinkPlan::default()
    };
    over_the_wire(link, 6_000, 8);
}

#[test]
fn tags_cuts_fragments_and_partial_checksums_come_through_a_wire() {
    let tags = vec![
        Tag {
            tpid: 0x88a8,
            vid: 7,
        },
        Tag {
            tpid: 0x8100,
            vid: 42,
        },
    ];
    over_the_wire(
        LinkPlan {
            tags,
            ..LinkPlan::default()
        },
        5_000,
        0,
    );
    over_the_wire(
        LinkPlan {
            cut: Some(1),
            ..LinkPlan::default()
        },
        300,
        0,
    );
    over_the_wire(
        LinkPlan {
            fragment: Some(256),
            ..LinkPlan::default()
        },
        5_000,
        0,
    );
    over_the_wire(
        LinkPlan {
            partial_checksums: true,
            ..LinkPlan::default()
        },
        5_000,
        0,
    );
}

#[test]
fn the_same_seed_gives_the_same_packets() {
    let plan = |seed| Plan {
        seed,
        between: Between::Wire,
        link: LinkPlan {
            loss_percent: 10,
            reorder_percent: 10,
            ..LinkPlan::default()
        },
        retries: 8,
        ..Plan::new(Scenario::S2, Family::V4)
    };
    let time = |seed| must_pass(&plan(seed)).virtual_time;
    assert_eq!(time(5), time(5));
    assert_ne!(time(5), time(6));
}

#[test]
fn a_wire_that_loses_everything_carries_nothing() {
    let link = LinkPlan {
        loss_percent: 200,
        ..LinkPlan::default()
    };
    let plan = Plan {
        between: Between::Wire,
        link,
        ..Plan::new(Scenario::S2, Family::V4)
    };
    assert!(run(&plan).is_err());
}

#[test]
fn the_oracle_sees_a_connection_that_nobody_agreed_on() {
    for family in [Family::V4, Family::V6] {
        let [inside, outside] = Side::BOTH.map(|side| address(side, family, false));
        let pair = ControlPair {
            client: outside,
            server: SocketAddr::new(inside, 21),
        };
        let oracle = Oracle::new(vec![pair], vec![inside], Vec::new());
        let mut world = World::new(LinkPlan::default(), Middle::Wire, Some(oracle), Rng::new(3));
        let to = SocketAddr::new(inside, LISTENER_PORT);
        world.host(Side::Inside).listen(to);
        world
            .host(Side::Outside)
            .connect(SocketAddr::new(outside, 5000), to);
        let limit = world.now + Duration::from_secs(5);
        let why = loop {
            match world.advance() {
                Ok(()) => assert!(world.now < limit, "the oracle slept"),
                Err(why) => break why,
            }
        };
        assert!(why.contains("nobody agreed"), "{why}");
    }
}

#[test]
fn changed_tags_are_noticed() {
    let link = LinkPlan {
        tags: vec![Tag {
            tpid: 0x8100,
            vid: 5,
        }],
        ..LinkPlan::default()
    };
    let mut dressed = link.dress(packet::arp_request(), &mut Rng::new(1));
    assert_eq!(
        link.undress(dressed[0].clone()).unwrap(),
        packet::arp_request()
    );
    dressed[0].bytes[15] = 6;
    assert!(link.undress(dressed.remove(0)).is_err());
}

#[test]
fn a_cut_segment_is_the_same_stream() {
    let mut segment = Segment::new(
        "192.0.2.1:1".parse().unwrap(),
        "192.0.2.2:2".parse().unwrap(),
        FIN | PSH,
    );
    segment.payload = b"PASV\r\n".to_vec();
    segment.seq = u32::MAX - 1;
    let pieces = link::cut(&segment.frame(), 1, &mut Rng::new(1));
    assert_eq!(pieces.len(), 6);
    let mut stream = Vec::<u8>::new();
    for (number, piece) in pieces.iter().enumerate() {
        let ip = View::of(piece).unwrap().ip.unwrap();
        let tcp = ip.tcp(piece).unwrap();
        assert_eq!(tcp.seq, segment.seq.wrapping_add(number as u32));
        assert_eq!(tcp.flags == FIN | PSH, number == 5);
        stream.extend(&piece[tcp.payload_at..ip.end]);
        let mut again = piece.clone();
        packet::fix_checksums(&mut again);
        assert_eq!(&again, piece);
    }
    assert_eq!(stream, segment.payload);
}

#[test]
fn a_partial_checksum_is_completed_to_the_full_one() {
    let link = LinkPlan {
        partial_checksums: true,
        ..LinkPlan::default()
    };
    let segment = Segment::new(
        "[2001:db8::1]:1".parse().unwrap(),
        "[2001:db8::2]:2".parse().unwrap(),
        2,
    );
    let dressed: Vec<Frame> = link.dress(segment.frame(), &mut Rng::new(1));
    assert_ne!(dressed[0].bytes, segment.frame());
    assert_eq!(link.undress(dressed[0].clone()).unwrap(), segment.frame());
}

#[test]
fn the_clock_moves_by_itself() {
    let mut world = World::new(LinkPlan::default(), Middle::Wire, None, Rng::new(1));
    let before: Time = world.now;
    world.advance().unwrap();
    assert!(world.now > before);
}
