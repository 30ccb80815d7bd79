//! lotus, a transparent firewall that understands FTP: a packet's walk.
//!
//! A frame comes in at one port of the bump in the wire and leaves at the other, or is dropped for
//! a reason that has a name. On its way it meets, in this order:
//!
//! 1. [`io`]: a port hands over a batch of frames that lie in a ring. [`runtime::worker`] takes
//!    each to the engine and sends what may leave.
//! 2. [`engine`]: [`engine::Engine::process`] joins all that follows. It does no I/O and reads no
//!    clock, so that the same engine runs behind rings, in a simulation and under a fuzzer.
//! 3. [`wire`]: one bounded parse makes a [`wire::Packet`] of the bytes.
//! 4. [`conntrack`]: which flow is it, is it valid there, which side may speak for it? Fragments
//!    wait here until their datagram is whole. A SYN that a helper announced is expected here.
//! 5. [`rules`]: nftables syntax, checked once, asked for the first packet of a flow in each
//!    direction and state; the verdict is kept in the flow.
//! 6. [`helper`]: bytes of an FTP control connection are read in stream order, and the one data
//!    connection that both ends agreed on is announced to [`conntrack`].
//!
//! Around that: [`observe`] has drop reasons, counters and events; [`runtime`] starts and watches
//! the workers; [`explain`] gives the engine a capture instead; [`cli`] is the command line. Modules
//! use only those below them: `cli`, (`runtime`, `explain`), (`io`, `engine`), `rules`, `helper`,
//! `conntrack`, `wire`, `observe`; a test holds that.

#![deny(unsafe_code)]

pub mod cli;
pub mod conntrack;
pub mod engine;
pub mod explain;
pub mod helper;
pub mod io;
pub mod observe;
pub mod rules;
pub mod runtime;
pub mod wire;
