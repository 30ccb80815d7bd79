//! The traffic generator of `scripts/pktgen`, `scripts/bench` and the end-to-end tests, and the
//! receiver that goes with it. Both use raw frames, so the addresses in them belong to no host,
//! unless `--to` names one.
//!
//! * `flow` says which flows there are, `frame` what their frames look like, `stamp` what is
//!   written into a frame so that the receiver can tell loss, order and age;
//! * `send` and `sink` are the two subcommands, on the packet sockets of `socket`; `ring` is where
//!   the receiver reads, `clock` the time of both.

#[path = "../latency.rs"]
mod latency;
#[path = "../program.rs"]
mod program;

mod clock;
mod flow;
mod frame;
mod ring;
mod send;
mod sink;
mod socket;
mod stamp;

use anyhow::Result;
use clap::Parser;

use self::program::{print, stop_flag};

/// Sends frames out of an interface, or receives what another one of its kind sends. Prints what it
/// did as one line of JSON; Ctrl-C ends it early.
#[derive(Parser)]
#[command(name = "pktgen")]
enum Command {
    Send(send::Arguments),
    Sink(sink::Arguments),
}

fn main() -> Result<()> {
    let command = Command::parse();
    let stop = stop_flag()?;
    match command {
        Command::Send(arguments) => print(&send::run(&arguments, &stop)?),
        Command::Sink(arguments) => print(&sink::run(&arguments, &stop)?),
    }
}
