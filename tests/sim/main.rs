//! A deterministic simulation: two hosts with real TCP, lotus between them, one virtual clock.
//!
//! Nothing here sleeps or reads a clock, and every random choice comes from the seed of a
//! [`dialogue::Plan`], so that a failure can be run again byte for byte. A packet's way:
//!
//! ```text
//! host -> link (cut, urgent bytes, fragment, tag, checksum offload; loss, copies, order, delay)
//!      -> middle (one or more engines, or a bare wire) -> oracle
//!      -> link (loss, copies, order, delay; untag) -> host
//! ```
//!
//! On top there are a small FTP [`client`] and a small FTP [`server`], and beside them what is
//! [`hostile`]. [`plans`] draws a dialogue from a seed: `LOTUS_SIM_SEED=n` runs one of the
//! [`campaign`] again, `LOTUS_SIM_DIALOGUES=n` makes it longer or shorter.
#![allow(unreachable_pub, reason = "one binary: pub is for the modules beside")]

mod campaign;
mod client;
mod deltas;
mod dialogue;
mod ftp;
mod harness;
mod host;
mod hostile;
mod link;
mod middle;
mod oracle;
mod packet;
mod plans;
mod rng;
mod scenarios;
mod server;
mod world;
