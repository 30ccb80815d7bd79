//! A deterministic simulation: two hosts with real TCP, lotus between them, one virtual clock.
//!
//! Nothing here sleeps or reads a clock, and every random choice comes from the seed of a
//! [`dialogue::Plan`], so that a failure can be run again byte for byte. A packet's way:
//!
//! ```text
//! host -> link (cut, fragment, tag, checksum offload; loss, copies, order, delay)
//!      -> middle (one or more engines, or a bare wire) -> oracle
//!      -> link (loss, copies, order, delay; untag) -> host
//! ```
//!
//! On top, [`ftp`] has a small client and a small server. `LOTUS_SIM_SEED=n` runs one dialogue of
//! the campaign again, `LOTUS_SIM_DIALOGUES=n` makes the campaign longer.
#![allow(unreachable_pub, reason = "one binary: pub is for the modules beside")]

mod campaign;
mod deltas;
mod dialogue;
mod ftp;
mod harness;
mod host;
mod link;
mod middle;
mod oracle;
mod packet;
mod probe;
mod rng;
mod scenarios;
mod world;
