//! `lotus reload`

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anstream::adapter::strip_str;
use anyhow::anyhow;

use super::{EXIT_RUNTIME, Failure, print, status};
use crate::runtime::control;
use crate::runtime::reload::ReloadAnswer;
use crate::runtime::rules_file;

/// Give a running lotus new rules.
///
/// Reads the file that `lotus run --rules` named, or another one, and has the running lotus check it.
/// An error leaves the rules in force as they are. Without one, all packets from then on are judged by
/// the new rules, also those of connections that are open; FTP sessions and the ports they have opened
/// go on, and the counters of the rules begin at 0. SIGHUP does the same.
///
/// A file named here is not remembered: the next reload without --rules, SIGHUP and the next start take
/// the one that `lotus run` was given.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  lotus check rules.nft && lotus reload        after a change in the file that is in force
  lotus reload --rules tonight.nft             other rules, for now
  kill -HUP PID                                the same for a service manager; its log tells the result

Exit codes: 0 the new rules are in force, 1 they have errors or lotus cannot be asked, 2 the command \
line is wrong.")]
pub(super) struct Args {
    /// Another file than the one that `lotus run` was given
    #[arg(long, value_name = "FILE")]
    rules: Option<PathBuf>,
    /// Print one JSON object instead of text
    #[arg(long)]
    json: bool,
    /// Ask the lotus that has this interface, where several run
    #[arg(long, value_name = "IF")]
    port: Option<String>,
}

pub(super) fn reload(args: &Args) -> Result<ExitCode, Failure> {
    let runtime = |error: control::AskError| Failure::Runtime(error.into());
    let address = status::running(args.port.as_deref())?;
    // Read here and sent as text: the running lotus may not be able to read everything.
    let rules = match &args.rules {
        Some(path) => {
            rules_file::read(path).map_err(|error| Failure::Usage(anyhow!("--rules {error}")))?
        }
        None => {
            let file = control::ask_status(&address).map_err(runtime)?.rules_file;
            let file = file.ok_or_else(|| {
                Failure::Runtime(anyhow!(
                    "the lotus between {address} was started without --rules: the built-in rules are \
                     in force, and there is no file to read again; `lotus reload --rules FILE` puts a \
                     file in their place"
                ))
            })?;
            rules_file::read(Path::new(&file)).map_err(|error| Failure::Runtime(error.into()))?
        }
    };
    let answer = control::ask_reload(&address, &rules).map_err(runtime)?;
    tell(answer, args.json)
}

fn tell(mut answer: ReloadAnswer, json: bool) -> Result<ExitCode, Failure> {
    let code = match answer.ok {
        true => ExitCode::SUCCESS,
        false => ExitCode::from(EXIT_RUNTIME),
    };
    let ReloadAnswer {
        generation, rules, ..
    } = &answer;
    if json {
        answer.report = strip_str(&answer.report).to_string();
        let mut text = serde_json::to_string(&answer).map_err(|e| Failure::Runtime(e.into()))?;
        text.push('\n');
        print(&text)?;
    } else if answer.ok {
        print(&format!("reloaded: generation {generation}: {rules}\n"))?;
    } else {
        // Nobody can be told that nobody can be told.
        let _ = writeln!(
            anstream::stderr(),
            "{}\nnot reloaded: generation {generation} stays in force: {rules}",
            answer.report
        );
    }
    Ok(code)
}
