//! Joins the parts: one packet in, one verdict out. No sockets, no files, no clock.
//!
//! [`Engine::process`] is a packet's way; [`Shared`] is what all workers have in common and what
//! time does to it.

#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod process;
mod published;
mod reject;
mod settings;
mod shared;
mod trace;

pub use process::{Engine, Parsed};
pub use settings::{NoProfile, SettingError, SettingHelp, Settings};
pub use shared::{Kept, Shared, Totals};
pub use trace::Trace;

use crate::observe::DropReason;
use crate::wire::{OwnedFrame, Side};

/// What becomes of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes out at the other port.
    Forward,
    /// It ends here.
    Drop(DropReason),
    /// The engine keeps a copy; it comes out of [`Out`] later, or is dropped with a reason.
    Held,
}

/// Where a frame in [`Out`] comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// It was received earlier and held.
    Released,
    /// lotus made it.
    Generated,
}

/// A frame that leaves beside the one being processed.
#[derive(Debug)]
pub struct OutFrame {
    /// The port at which it leaves.
    pub to: Side,
    /// Where it comes from.
    pub origin: Origin,
    /// The frame.
    pub frame: OwnedFrame,
}

/// Frames that leave after the one being processed, in this order.
#[derive(Debug, Default)]
pub struct Out {
    /// The frames; the caller takes them out after each call.
    pub frames: Vec<OutFrame>,
}

#[cfg(test)]
mod tests;
