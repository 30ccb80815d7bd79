//! Real TCP and UDP between two hosts, for how many connections a second there can be and how long
//! an answer takes. `serve` runs at one end, `connect` and `ask` at the other.

#[path = "../latency.rs"]
mod latency;

mod ask;
mod connect;
mod serve;
mod socket;

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::Result;
use clap::Parser;
use serde::Serialize;
use signal_hook::consts::{SIGINT, SIGTERM};

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
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
    }
    match command {
        Command::Serve(arguments) => serve::run(&arguments, &stop),
        Command::Connect(arguments) => print(&connect::run(&arguments, &stop)?),
        Command::Ask(arguments) => print(&ask::run(&arguments, &stop)?),
    }
}

fn print(report: &impl Serialize) -> Result<()> {
    println!("{}", serde_json::to_string(report)?);
    Ok(())
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
