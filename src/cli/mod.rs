//! The command line: one file a subcommand. Parsing and printing only.

pub mod check;

mod explain;
mod reload;
mod rules;
mod run;
mod settings;
mod status;

use std::io::{self, Write};
use std::panic::PanicHookInfo;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, anyhow};
use clap::{Parser, Subcommand};

use crate::rules::{Builtin, FtpServer, PortNames, Ruleset};
use crate::runtime::Settings;
use crate::runtime::rules_file;

const EXIT_RUNTIME: u8 = 1;
const EXIT_USAGE: u8 = 2;

/// A transparent firewall that understands FTP.
///
/// lotus stands between two network interfaces like a cable, has no address of its own, and lets
/// through what its rules accept. It reads FTP control connections and opens exactly the data
/// port that each session agrees on: one port, one pair of hosts, once, for a short time.
#[derive(Debug, Parser)]
#[command(
    name = "lotus",
    version,
    max_term_width = 100,
    after_help = "\
Exit codes: 0 done or stopped cleanly, 1 it failed while running, 2 the command line, an interface \
name or the rule file is wrong."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(Box<run::Args>),
    Check(check::CheckArgs),
    Explain(explain::Args),
    Status(status::Args),
    Reload(reload::Args),
    Rules(rules::Args),
    Settings(settings::Args),
}

/// Why a command failed, by exit code.
#[derive(Debug)]
enum Failure {
    /// It failed while doing its work.
    Runtime(anyhow::Error),
    /// The user asked for something that cannot be.
    Usage(anyhow::Error),
    /// The same, and it was printed already.
    Told,
}

/// The whole program: reads the command line, runs the command, returns its exit code.
#[must_use]
pub fn main() -> ExitCode {
    std::panic::set_hook(Box::new(report_panic));
    let done = |()| ExitCode::SUCCESS;
    let outcome = match Cli::parse().command {
        Command::Run(args) => run::run(*args).map(done),
        Command::Check(args) => check::run(&args).map_err(Failure::Usage),
        Command::Explain(args) => explain::explain(&args).map(done),
        Command::Status(args) => status::status(&args).map(done),
        Command::Reload(args) => reload::reload(&args),
        Command::Rules(args) => rules::rules(&args).map(done),
        Command::Settings(args) => settings::settings(&args).map(done),
    };
    match outcome {
        Ok(code) => code,
        Err(Failure::Runtime(error)) => complain(&error, EXIT_RUNTIME),
        Err(Failure::Usage(error)) => complain(&error, EXIT_USAGE),
        Err(Failure::Told) => ExitCode::from(EXIT_USAGE),
    }
}

fn complain(error: &anyhow::Error, code: u8) -> ExitCode {
    let style = anstyle::AnsiColor::Red.on_default().bold();
    // Nobody can be told that nobody can be told.
    let _ = writeln!(anstream::stderr(), "{style}error:{style:#} {error:#}");
    ExitCode::from(code)
}

/// A panic is a bug in lotus: one line that can be reported, not a backtrace.
fn report_panic(panic: &PanicHookInfo<'_>) {
    let thread = std::thread::current();
    let place = panic
        .location()
        .map(ToString::to_string)
        .unwrap_or_default();
    let said = panic.payload_as_str().unwrap_or("no message");
    let _ = writeln!(
        io::stderr(),
        "lotus {}: bug at {place} in thread {}: {said}",
        env!("CARGO_PKG_VERSION"),
        thread.name().unwrap_or("without a name"),
    );
}

/// Prints to standard output. That nobody reads it (a pipe into `head`) is no error.
fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = anstream::stdout();
    match stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
    {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::Runtime(
            anyhow::Error::new(error).context("cannot print"),
        )),
        _ => Ok(()),
    }
}

/// What `--set` gives, and what stands behind the addresses of `--ftp-server`, for each server its
/// own.
fn settings(assignments: &[String], servers: &[FtpServer]) -> anyhow::Result<Settings> {
    let mut settings = Settings::default();
    for assignment in assignments {
        settings
            .assign(assignment)
            .with_context(|| format!("--set {assignment}"))?;
    }
    for (index, server) in servers.iter().enumerate() {
        for (name, value) in &server.options {
            settings
                .set(&format!("ftp.{}.{name}", Builtin::profile(index)), value)
                .with_context(|| format!("--ftp-server {server},{name}={value}"))?;
        }
    }
    Ok(settings)
}

/// The rules that the flags make.
fn built_in_rules(text: &str, ports: &PortNames) -> Result<Ruleset, Failure> {
    Ruleset::parse("built-in rules", text, ports).map_err(|problems| {
        Failure::Runtime(anyhow!(
            "the built-in rules have errors:\n{}",
            problems.render(false)
        ))
    })
}

/// The rules of a file that `--rules` names, and what they are in a few words.
fn rules_of_file(path: &Path, ports: &PortNames) -> Result<(Ruleset, String), Failure> {
    let rules =
        rules_file::read(path).map_err(|error| Failure::Usage(anyhow!("--rules {error}")))?;
    let name = &rules.name;
    match Ruleset::load(rules.source(), ports) {
        Ok(ruleset) => {
            // Nobody can be told that nobody can be told.
            if !ruleset.warnings().is_empty() {
                let _ = writeln!(anstream::stderr(), "{}", ruleset.warnings().render(true));
            }
            let summary = format!("{name}: {}", ruleset.summary());
            Ok((ruleset, summary))
        }
        Err(problems) => {
            // Nobody can be told that nobody can be told.
            let _ = writeln!(anstream::stderr(), "{}", problems.render(true));
            Err(Failure::Told)
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }
}
