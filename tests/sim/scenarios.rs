//! The four scenarios, both families, over good and bad links, through one engine and two.

use crate::dialogue::{Between, Plan, Scenario, must_pass, run};
use crate::host::Family;
use crate::link::LinkPlan;
use crate::middle::Spread;
use crate::packet::Tag;

/// On a link that loses packets a client may have to ask for a data port again.
const RETRIES: u32 = 8;

fn all(change: impl Fn(&mut Plan)) {
    for family in [Family::V4, Family::V6] {
        for scenario in Scenario::ALL {
            let mut plan = Plan::new(scenario, family);
            change(&mut plan);
            let done = must_pass(&plan);
            let attacks: u64 = done.attacks.values().sum();
            assert!(done.transfers == 4 && attacks >= 20, "{done:?}");
        }
    }
}

fn bad(loss_percent: u8, duplicate_percent: u8, reorder_percent: u8) -> LinkPlan {
    LinkPlan {
        loss_percent,
        duplicate_percent,
        reorder_percent,
        ..LinkPlan::default()
    }
}

#[test]
fn clean_link() {
    all(|_| {});
}

#[test]
fn active_data_from_a_port_that_is_not_20() {
    all(|plan| plan.sessions[0].habits.from_port_20 = false);
}

/// Without the helper each of the eight must fail at its first data connection, and nowhere else.
#[test]
fn without_the_helper_each_fails() {
    for family in [Family::V4, Family::V6] {
        for scenario in Scenario::ALL {
            let plan = Plan {
                helper: false,
                hostile: false,
                ..Plan::new(scenario, family)
            };
            match run(&plan) {
                Ok(done) => panic!("{scenario:?} {family:?} worked without the helper: {done:?}"),
                Err(failure) => assert!(
                    failure.why.contains("data connection failed: 425"),
                    "{scenario:?} {family:?} failed for another reason\n{}",
                    failure.report(&plan)
                ),
            }
        }
    }
}

#[test]
fn loss_5_percent() {
    all(|plan| (plan.link, plan.retries) = (bad(5, 0, 0), RETRIES));
}

#[test]
fn loss_10_percent() {
    all(|plan| (plan.link, plan.retries) = (bad(10, 0, 0), RETRIES));
}

#[test]
fn loss_20_percent() {
    all(|plan| {
        (plan.link, plan.retries) = (bad(20, 0, 0), RETRIES);
        plan.limit_files(8_000);
    });
}

#[test]
fn copies() {
    all(|plan| plan.link = bad(0, 30, 0));
}

#[test]
fn reordering() {
    all(|plan| plan.link = bad(0, 0, 30));
}

#[test]
fn loss_copies_and_reordering_together() {
    all(|plan| (plan.link, plan.retries) = (bad(10, 10, 20), RETRIES));
}

#[test]
fn in_a_vlan() {
    all(|plan| {
        plan.link.tags = vec![Tag {
            tpid: 0x8100,
            vid: 42,
        }]
    });
}

#[test]
fn in_a_vlan_within_a_vlan() {
    all(|plan| {
        plan.link.tags = vec![
            Tag {
                tpid: 0x88a8,
                vid: 7,
            },
            Tag {
                tpid: 0x8100,
                vid: 42,
            },
        ];
    });
}

#[test]
fn one_byte_a_segment() {
    all(|plan| {
        plan.link.cut = Some(1);
        plan.limit_files(1_000);
    });
}

#[test]
fn one_byte_a_segment_lost_and_reordered() {
    all(|plan| {
        (plan.link, plan.retries) = (bad(5, 5, 10), RETRIES);
        plan.limit_files(200);
        plan.link.cut = Some(1);
    });
}

#[test]
fn fragments() {
    all(|plan| plan.link.fragment = Some(256));
}

#[test]
fn checksums_that_the_sender_left_to_hardware() {
    all(|plan| plan.link.partial_checksums = true);
}

#[test]
fn two_engines_by_hash() {
    all(|plan| plan.between = Between::Engines(2, Spread::Hash));
}

#[test]
fn two_engines_at_random() {
    all(|plan| {
        plan.between = Between::Engines(2, Spread::Random);
        (plan.link, plan.retries) = (bad(5, 5, 10), RETRIES);
    });
}
