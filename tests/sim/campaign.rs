//! Many dialogues with everything about them drawn from a seed.

use crate::dialogue::{Between, Plan, Scenario, run};
use crate::host::Family;
use crate::link::LinkPlan;
use crate::middle::Spread;
use crate::packet::Tag;
use crate::rng::Rng;

const DIALOGUES: u64 = 300;
const WIRE_DIALOGUES: u64 = 60;
/// Seeds begin here; a longer campaign contains the shorter one.
const FIRST_SEED: u64 = 1_000;
const RETRIES: u32 = 12;

fn plan_of(seed: u64, between: Option<Between>) -> Plan {
    let mut rng = Rng::new(seed ^ 0x10705);
    let mut plan = Plan::new(
        *rng.pick(&Scenario::ALL),
        *rng.pick(&[Family::V4, Family::V6]),
    );
    plan.seed = seed;
    plan.from_port_20 = rng.percent(50);
    plan.file_bytes = *rng.pick(&[0, 1, 500, 4_000, 20_000]);
    plan.between = *rng.pick(&[
        Between::Engines(1, Spread::Hash),
        Between::Engines(2, Spread::Hash),
        Between::Engines(3, Spread::Random),
    ]);
    plan.link = LinkPlan {
        loss_percent: *rng.pick(&[0, 0, 2, 5, 10, 20]),
        duplicate_percent: *rng.pick(&[0, 0, 5, 20]),
        reorder_percent: *rng.pick(&[0, 0, 5, 30]),
        cut: *rng.pick(&[None, None, Some(1), Some(3), Some(40)]),
        fragment: *rng.pick(&[None, None, None, Some(128), Some(700)]),
        tags: match rng.below(4) {
            0 => vec![Tag {
                tpid: 0x8100,
                vid: 1 + rng.below(4_000) as u16,
            }],
            1 => vec![
                Tag {
                    tpid: 0x88a8,
                    vid: 5,
                },
                Tag {
                    tpid: 0x8100,
                    vid: 6,
                },
            ],
            _ => Vec::new(),
        },
        partial_checksums: rng.percent(25),
    };
    if plan.link.cut == Some(1) {
        // Each byte is a packet.
        plan.file_bytes = plan.file_bytes.min(500);
    }
    if plan.link.cut.is_some_and(|piece| piece <= 3) {
        // A command in one-byte segments that get lost takes minutes, longer than a port is open.
        plan.link.loss_percent = plan.link.loss_percent.min(5);
    }
    if plan.link.fragment.is_some() {
        // A datagram of many fragments needs all of them: beyond this it hardly ever arrives.
        plan.link.loss_percent = plan.link.loss_percent.min(2);
    }
    if plan.link.cut == Some(3) {
        plan.file_bytes = plan.file_bytes.min(2_000);
    }
    if plan.link.loss_percent > 0 {
        plan.retries = RETRIES;
    }
    if let Some(between) = between {
        plan.between = between;
    }
    plan
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name}={text} is not a number")),
    )
}

fn campaign(seeds: impl Iterator<Item = u64>, between: Option<Between>) {
    let (mut transfers, mut retried, mut frames) = (0, 0, 0);
    for seed in seeds {
        let plan = plan_of(seed, between);
        match run(&plan) {
            Ok(done) => {
                transfers += done.data_connections;
                retried += done.retried;
                frames += done.frames;
            }
            Err(failure) => panic!(
                "{}\nrun it again: LOTUS_SIM_SEED={seed} cargo test --test sim campaign",
                failure.report(&plan)
            ),
        }
    }
    println!("{transfers} data connections, {retried} asked for again, {frames} frames");
    // A lossy link explains a few; more would be lotus shutting ports that it opened.
    assert!(
        u64::from(retried) * 20 <= transfers as u64 + 20,
        "{retried} of {transfers}"
    );
}

#[test]
fn random_dialogues() {
    if let Some(seed) = number("LOTUS_SIM_SEED") {
        return campaign(std::iter::once(seed), None);
    }
    let dialogues = number("LOTUS_SIM_DIALOGUES").unwrap_or(DIALOGUES);
    campaign(FIRST_SEED..FIRST_SEED + dialogues, None);
}

/// The same plans without lotus: what fails here is the harness.
#[test]
fn random_dialogues_over_a_wire() {
    let dialogues = number("LOTUS_SIM_DIALOGUES").unwrap_or(WIRE_DIALOGUES);
    campaign(FIRST_SEED..FIRST_SEED + dialogues, Some(Between::Wire));
}
