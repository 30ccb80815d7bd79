//! Plans as proptest draws and shrinks them: fewer and shorter sessions, a better link, one engine.

use lotus::wire::Side;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use crate::dialogue::{Between, Plan, SessionPlan, TransferPlan, Way};
use crate::ftp::{DataMode, Meanwhile};
use crate::host::Family;
use crate::link::LinkPlan;
use crate::middle::Spread;
use crate::packet::Tag;
use crate::server::Habits;

/// Each byte of a file may be a packet: so many packets of a file at most, and the time of a
/// campaign stays bearable.
const MAX_PIECES: usize = 150;
/// What a client on a bad link is patient for. A peer that gets nothing past a gap asks for nothing:
/// each loss on a control connection costs a timeout, and smoltcp's double to a minute and stay
/// there. A command in one-byte segments then takes longer than a port is open, more often than not.
const RETRIES: u32 = 60;

pub fn plan() -> impl Strategy<Value = Plan> {
    let session_count = prop_oneof![6 => 1..=1usize, 2 => 2..=2usize, 1 => 3..=3usize];
    let sessions = session_count.prop_flat_map(|count| vec(session(), count));
    (any::<u64>(), between(), link(), sessions).prop_map(|(seed, between, link, sessions)| {
        let retries = if link.loss_percent > 0 { RETRIES } else { 0 };
        let mut plan = Plan {
            seed,
            between,
            link,
            helper: true,
            hostile: true,
            sessions,
            retries,
        };
        let fragment = plan.link.fragment.unwrap_or(usize::MAX);
        let piece = plan.link.cut.unwrap_or(usize::MAX).min(fragment);
        plan.limit_files(piece.saturating_mul(MAX_PIECES));
        plan
    })
}

fn between() -> impl Strategy<Value = Between> {
    prop_oneof![
        Just(Between::Engines(1, Spread::Hash)),
        Just(Between::Engines(2, Spread::Hash)),
        Just(Between::Engines(2, Spread::Random)),
    ]
}

fn link() -> impl Strategy<Value = LinkPlan> {
    let loss = prop_oneof![4 => Just(0u8), 3 => 1..=5u8, 2 => 6..=20u8];
    let often = |most: u8| prop_oneof![2 => Just(0u8), 1 => 1..=most];
    let cut =
        prop_oneof![4 => Just(None), 1 => Just(Some(40)), 1 => Just(Some(3)), 1 => Just(Some(1))];
    let fragment = prop_oneof![4 => Just(None), 1 => Just(Some(700)), 1 => Just(Some(128))];
    let tag = |tpid| (1..4_000u16).prop_map(move |vid| Tag { tpid, vid });
    let tags = prop_oneof![
        2 => Just(Vec::new()),
        1 => tag(0x8100).prop_map(|tag| vec![tag]),
        1 => (tag(0x88a8), tag(0x8100)).prop_map(|(outer, inner)| vec![outer, inner]),
    ];
    let partial = prop::bool::weighted(0.25);
    (loss, often(20), often(30), cut, fragment, tags, partial).prop_map(
        |(loss_percent, duplicate_percent, reorder_percent, cut, fragment, tags, partial)| {
            LinkPlan {
                loss_percent,
                duplicate_percent,
                reorder_percent,
                cut,
                fragment,
                tags,
                partial_checksums: partial,
            }
        },
    )
}

fn session() -> impl Strategy<Value = SessionPlan> {
    let side = prop_oneof![Just(Side::Inside), Just(Side::Outside)];
    let family = prop_oneof![Just(Family::V4), Just(Family::V6)];
    (side, family, any::<bool>(), any::<bool>()).prop_flat_map(
        |(server_side, family, from_port_20, answers_noop_at_once)| {
            let parting = prop::option::weighted(0.3, select(modes_of(family)));
            (vec(transfer(family), 1..=4), parting).prop_map(move |(transfers, parting)| {
                SessionPlan {
                    server_side,
                    family,
                    habits: Habits {
                        from_port_20,
                        answers_noop_at_once,
                    },
                    transfers,
                    parting,
                }
            })
        },
    )
}

/// The simplest first: there shrinking ends.
fn modes_of(family: Family) -> Vec<DataMode> {
    match family {
        Family::V4 => vec![
            DataMode::Pasv,
            DataMode::Port,
            DataMode::Epsv,
            DataMode::Eprt,
        ],
        Family::V6 => vec![DataMode::Epsv, DataMode::Eprt],
    }
}

fn transfer(family: Family) -> impl Strategy<Value = TransferPlan> {
    let way = select(vec![Way::Download, Way::Upload, Way::Listing]);
    let bytes = prop_oneof![2 => 0..=1usize, 4 => 2..2_000usize, 2 => 2_000..8_000usize, 1 => 8_000..30_000usize];
    let meanwhile = prop_oneof![
        6 => Just(Meanwhile::Nothing),
        2 => (1..=3u8).prop_map(Meanwhile::Noop),
        1 => Just(Meanwhile::Abort),
    ];
    (select(modes_of(family)), way, bytes, meanwhile).prop_map(|(mode, way, bytes, meanwhile)| {
        TransferPlan {
            mode,
            way,
            bytes,
            meanwhile,
        }
    })
}
