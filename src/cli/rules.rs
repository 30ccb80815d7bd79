//! `lotus rules`

use super::{Failure, print, status};
use crate::runtime::control;

/// Show the rules of a running lotus, with their counters.
///
/// As `nft list ruleset` prints rules: names and includes written out, in one form.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  lotus rules                                  what is in force now
  lotus rules --json | jq .counters            what the counters say, for a program")]
pub(super) struct Args {
    /// Print one JSON object instead of text
    #[arg(long)]
    json: bool,
    /// Ask the lotus that has this interface, where several run
    #[arg(long, value_name = "IF")]
    port: Option<String>,
}

pub(super) fn rules(args: &Args) -> Result<(), Failure> {
    let address = status::running(args.port.as_deref())?;
    let answer = control::ask_rules(&address).map_err(|error| Failure::Runtime(error.into()))?;
    if args.json {
        let mut text = serde_json::to_string(&answer).map_err(|e| Failure::Runtime(e.into()))?;
        text.push('\n');
        print(&text)
    } else {
        print(&format!(
            "# generation {}: {}\n{}",
            answer.generation, answer.rules, answer.listing
        ))
    }
}
