//! `lotus status`

use anyhow::anyhow;

use super::{Failure, print};
use crate::runtime::control::{self, Address};

/// Shows what a running lotus has done so far.
///
/// Finds the lotus that runs in this network namespace. Only root and the user that runs lotus
/// get an answer.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  lotus status                                 numbers for a person
  lotus status --json | jq .forwarded          the same for a program
  ip netns exec fw lotus status --port eth1    in another namespace, where several run")]
pub(super) struct Args {
    /// Print one JSON object instead of text
    #[arg(long)]
    json: bool,
    /// Ask the lotus that has this interface, where several run
    #[arg(long, value_name = "IF")]
    port: Option<String>,
}

pub(super) fn status(args: &Args) -> Result<(), Failure> {
    let address = running(args.port.as_deref())?;
    let status = control::ask_status(&address).map_err(|error| Failure::Runtime(error.into()))?;
    if args.json {
        let mut text = serde_json::to_string(&status).map_err(|e| Failure::Runtime(e.into()))?;
        text.push('\n');
        print(&text)
    } else {
        print(&status.to_string())
    }
}

/// The lotus that runs here, or of several the one with this port.
pub(super) fn running(port: Option<&str>) -> Result<Address, Failure> {
    let found = Address::all().map_err(|error| {
        Failure::Runtime(anyhow!(error).context("cannot read /proc/self/net/unix"))
    })?;
    choose(found, port)
}

fn choose(mut found: Vec<Address>, port: Option<&str>) -> Result<Address, Failure> {
    let names = |found: &[Address]| {
        let lines = found
            .iter()
            .map(|a| format!("\n  {} (inside), {} (outside)", a.inside, a.outside));
        lines.collect::<String>()
    };
    if found.is_empty() {
        return Err(Failure::Runtime(anyhow!(
            "no lotus runs in this network namespace"
        )));
    }
    let Some(port) = port else {
        let only = if found.len() == 1 { found.pop() } else { None };
        return only.ok_or_else(|| {
            let names = names(&found);
            Failure::Usage(anyhow!(
                "several run here; choose one with --port IF:{names}"
            ))
        });
    };
    let all = names(&found);
    found
        .into_iter()
        .find(|address| address.inside == port || address.outside == port)
        .ok_or_else(|| {
            Failure::Runtime(anyhow!(
                "no lotus in this network namespace has the port {port}; there is:{all}"
            ))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(inside: &str, outside: &str) -> Address {
        Address {
            inside: inside.to_owned(),
            outside: outside.to_owned(),
        }
    }

    #[test]
    fn the_only_one_is_taken_and_of_several_the_one_with_the_port() {
        let two = || vec![address("a", "b"), address("c", "d")];
        assert_eq!(
            choose(vec![address("a", "b")], None).unwrap(),
            address("a", "b")
        );
        assert_eq!(choose(two(), Some("d")).unwrap(), address("c", "d"));
        let complaint = |found, port| match choose(found, port).unwrap_err() {
            Failure::Usage(error) => format!("usage: {error}"),
            Failure::Runtime(error) => format!("runtime: {error}"),
            Failure::Told => String::new(),
        };
        let text = complaint(two(), None);
        assert!(
            text.starts_with("usage") && text.contains("a (inside), b (outside)"),
            "{text}"
        );
        assert!(complaint(two(), Some("e")).contains("has the port e"));
        assert!(complaint(Vec::new(), None).starts_with("runtime: no lotus runs"));
    }
}
