//! `lotus check`: errors of a rule file as a compiler would show them, and what its rules mean.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use serde::Serialize;

use crate::rules::{
    Builtin, Diagnostic, Diagnostics, Explained, Explanation, FlagError, FtpServer, Met, PortNames,
    Ruleset,
};
use crate::runtime::rules_file::{self, RulesText};

/// Check a file of rules, print it, or explain what it does with a packet.
///
/// Shows everything that is wrong with the file at once, each with its place and what to write
/// instead, and warns of what is odd: rules that no packet reaches, sets that nobody uses, FTP without
/// a helper, ports that need not be open.
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  lotus check rules.nft                        is it right?
  lotus check rules.nft --print                as nft list ruleset would print it
  lotus check rules.nft --explain \"iif inside ip saddr 10.0.0.1 tcp dport 22\"
  lotus check --print-default > rules.nft      a start for rules of your own

Exit codes: 0 the file may be loaded (with --explain whatever becomes of the packet), 1 it has errors, 2 \
the command line is wrong.")]
pub struct CheckArgs {
    /// The file of rules; `-` reads standard input.
    #[arg(value_name = "FILE", required_unless_present = "print_default")]
    pub file: Option<PathBuf>,
    /// Name of the inside interface, as `iifname` and `oifname` in the file compare it.
    #[arg(long, value_name = "NAME", default_value = "inside")]
    pub inside: String,
    /// Name of the outside interface.
    #[arg(long, value_name = "NAME", default_value = "outside")]
    pub outside: String,
    /// Print the rules as they were understood: names and includes written out.
    #[arg(long, conflicts_with = "explain")]
    pub print: bool,
    /// Say which rule decides about a packet, and why the ones before it did not. The packet is
    /// described by matches; what is not said: from inside, IPv4, TCP, new.
    #[arg(long, value_name = "PACKET")]
    pub explain: Option<String>,
    /// Print the rules that serve when no file is given.
    #[arg(long, conflicts_with = "file")]
    pub print_default: bool,
    /// With --print-default: an FTP server inside that outside may reach.
    #[arg(long, value_name = "ADDR[:PORT]", requires = "print_default")]
    pub ftp_server: Vec<FtpServer>,
    /// With --print-default: an Ethernet type that passes both ways, for example 0x88cc.
    #[arg(long, value_name = "TYPE", requires = "print_default", value_delimiter = ',',
          value_parser = parse_l2)]
    pub l2: Vec<u16>,
    /// Print the result as one JSON object.
    #[arg(long)]
    pub json: bool,
}

/// The result, as `--json` prints it.
#[derive(Serialize)]
struct Report<'r> {
    file: &'r str,
    ok: bool,
    /// Tables, rules and policies, if all is well.
    summary: Option<String>,
    errors: Vec<Diagnostic<'r>>,
    warnings: Vec<Diagnostic<'r>>,
    /// With `--print`.
    #[serde(skip_serializing_if = "Option::is_none")]
    listing: Option<String>,
    /// With `--explain`.
    #[serde(skip_serializing_if = "Option::is_none")]
    explanation: Option<Explanation>,
}

/// The result of `--print-default --json`.
#[derive(Serialize)]
struct Default {
    rules: String,
}

/// Runs the subcommand: 0 if the file may be loaded, 1 if not.
///
/// # Errors
///
/// If the file cannot be read.
pub fn run(args: &CheckArgs) -> anyhow::Result<ExitCode> {
    if args.print_default {
        let builtin = Builtin {
            ftp_servers: args.ftp_server.clone(),
            l2: args.l2.clone(),
        };
        let rules = builtin.text();
        return if args.json {
            print_json(&Default { rules }).map(|()| ExitCode::SUCCESS)
        } else {
            print(&mut io::stdout(), &rules).map(|()| ExitCode::SUCCESS)
        };
    }
    anyhow::ensure!(
        args.inside != args.outside,
        "--inside and --outside both name \"{}\": the two ports need different names",
        args.inside
    );
    let ports = PortNames {
        inside: args.inside.clone(),
        outside: args.outside.clone(),
    };
    let text = read(args)?;
    match Ruleset::load(text.source(), &ports) {
        Ok(rules) => tell(args, &text.name, &rules),
        Err(errors) => refuse(args, &text.name, &errors),
    }
}

/// What a file that may be loaded says.
fn tell(args: &CheckArgs, name: &str, rules: &Ruleset) -> anyhow::Result<ExitCode> {
    let explanation = match &args.explain {
        None => None,
        Some(packet) => match rules.explain(packet) {
            Ok(explanation) => Some(explanation),
            Err(errors) => return refuse(args, "<packet>", &errors),
        },
    };
    let listing = args.print.then(|| rules.list());
    if args.json {
        return print_json(&Report {
            file: name,
            ok: true,
            summary: Some(rules.summary()),
            errors: Vec::new(),
            warnings: rules.warnings().iter().collect(),
            listing,
            explanation,
        })
        .map(|()| ExitCode::SUCCESS);
    }
    if !rules.warnings().is_empty() {
        let shown = rules.warnings().render(true);
        print(&mut anstream::stderr(), &format!("{shown}\n"))?;
    }
    let shown = match (listing, explanation) {
        (Some(listing), _) => listing,
        (None, Some(explanation)) => in_words(&explanation, name),
        (None, None) => format!("{name}: ok; {}\n", rules.summary()),
    };
    print(&mut io::stdout(), &shown)?;
    Ok(ExitCode::SUCCESS)
}

/// What is wrong.
fn refuse(args: &CheckArgs, name: &str, errors: &Diagnostics) -> anyhow::Result<ExitCode> {
    if args.json {
        print_json(&Report {
            file: name,
            ok: false,
            summary: None,
            errors: errors.iter().collect(),
            warnings: Vec::new(),
            listing: None,
            explanation: None,
        })?;
    } else {
        // The stream takes the colours out again where nobody would see them.
        let shown = errors.render(true);
        print(&mut anstream::stderr(), &format!("{shown}\n"))?;
    }
    Ok(ExitCode::FAILURE)
}

/// Rules that were passed by without a word beyond so many are only counted.
const MET_SHOWN: usize = 20;

/// The rules that a packet met, for a person: those that it passed by in short.
fn in_words(explanation: &Explanation, name: &str) -> String {
    let Explanation {
        packet,
        met,
        verdict,
        helper,
    } = explanation;
    let mut text = format!("{packet}\n");
    let left_out = met.len().saturating_sub(MET_SHOWN);
    if left_out > 0 {
        let _ = writeln!(text, "  {left_out} rules before these do not match");
    }
    for Met {
        chain,
        file,
        line,
        rule,
        explained,
    } in met.iter().skip(left_out)
    {
        let place = match (file, line, chain) {
            (Some(file), Some(line), _) if file == name => format!("line {line}"),
            (Some(file), Some(line), _) => format!("{file}:{line}"),
            (_, _, Some(chain)) => format!("chain {chain}"),
            _ => String::new(),
        };
        let _ = match explained {
            Explained::Failed(part) if part == rule => writeln!(text, "  {place}: not `{rule}`"),
            Explained::Failed(part) => {
                writeln!(text, "  {place}: `{rule}`: not `{part}`")
            }
            Explained::Decided(verdict) if rule.ends_with(verdict) => {
                writeln!(text, "  {place}: `{rule}`")
            }
            Explained::Decided(verdict) => writeln!(text, "  {place}: `{rule}`: {verdict}"),
        };
    }
    let _ = match helper {
        Some(helper) => writeln!(text, "{verdict}, with the helper \"{helper}\""),
        None => writeln!(text, "{verdict}"),
    };
    text
}

fn read(args: &CheckArgs) -> anyhow::Result<RulesText> {
    match &args.file {
        Some(path) if path.as_os_str() != "-" => Ok(rules_file::read(path)?),
        _ => Ok(rules_file::read_from("<stdin>", io::stdin())?),
    }
}

fn print_json(value: &impl Serialize) -> anyhow::Result<()> {
    let mut line = serde_json::to_string(value)?;
    line.push('\n');
    print(&mut io::stdout(), &line)
}

/// A reader that has gone away (`| head`) is no error.
fn print(to: &mut dyn Write, text: &str) -> anyhow::Result<()> {
    match to.write_all(text.as_bytes()).and_then(|()| to.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(error).context("cannot write the result")
        }
        _ => Ok(()),
    }
}

fn parse_l2(text: &str) -> Result<u16, FlagError> {
    Builtin::parse_l2(text)
}
