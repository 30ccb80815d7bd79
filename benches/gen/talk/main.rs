//! Real TCP and UDP between two hosts, for how many connections a second there can be and how long
//! an answer takes. `serve` runs at one end, `connect` and `ask` at the other.

#[path = "../latency.rs"]
mod latency;
#[path = "../program.rs"]
mod program;

mod ask;
mod connect;
mod serve;
mod socket;

use std::ops::RangeInclusive;

use anyhow::Result;
use clap::Parser;

use self::program::{print, stop_flag};

/// Makes connections and asks questions, or answers them. `connect` and `ask` print what they did as
/// one line of JSON; Ctrl-C ends them early.
#[derive(Parser)]
#[command(name = "talk")]
enum Command {
    Serve(serve::Arguments),
    Connect(connect::Arguments),
    Ask(ask::Arguments),
}

fn main() -> Result<()> {
    let command = Command::parse();
    let stop = stop_flag()?;
    match command {
        Command::Serve(arguments) => serve::run(&arguments, &stop),
        Command::Connect(arguments) => print(&connect::run(&arguments, &stop)?),
        Command::Ask(arguments) => print(&ask::run(&arguments, &stop)?),
    }
}

/// `5000-5015`, or one port.
fn ports(text: &str) -> Result<RangeInclusive<u16>, String> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    match (first.parse(), last.parse()) {
        (Ok(first), Ok(last)) if 0 < first && first <= last => Ok(first..=last),
        _ => Err("ports are written as 5000-5015, or 5000".to_owned()),
    }
}

/// A time in seconds.
fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(secs) if secs > 0.0 && secs < 1e9 => Ok(secs),
        _ => Err("give a positive number of seconds".to_owned()),
    }
}
