//! `lotus check`: errors of a rule file as a compiler would show them.

use std::io::{self, Read as _, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use serde::Serialize;

use crate::rules::{Builtin, Diagnostic, FlagError, FtpServer, PortNames, Ruleset};

/// Check a file of rules, or print the built-in ones.
#[derive(clap::Args, Clone, Debug)]
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
    let (name, text) = read(args)?;
    let ports = PortNames {
        inside: args.inside.clone(),
        outside: args.outside.clone(),
    };
    match Ruleset::parse(&name, &text, &ports) {
        Ok(rules) if args.json => {
            let summary = Some(rules.summary());
            print_json(&Report {
                file: &name,
                ok: true,
                summary,
                errors: Vec::new(),
            })?;
        }
        Ok(rules) => print(
            &mut io::stdout(),
            &format!("{name}: ok; {}\n", rules.summary()),
        )?,
        Err(diagnostics) => {
            if args.json {
                let errors = diagnostics.iter().collect();
                print_json(&Report {
                    file: &name,
                    ok: false,
                    summary: None,
                    errors,
                })?;
            } else {
                // The stream takes the colours out again where nobody would see them.
                let shown = diagnostics.render(true);
                print(&mut anstream::stderr(), &format!("{shown}\n"))?;
            }
            return Ok(ExitCode::FAILURE);
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The file's name for messages, and its text.
fn read(args: &CheckArgs) -> anyhow::Result<(String, String)> {
    let mut bytes = Vec::new();
    let name = match &args.file {
        Some(path) if path.as_os_str() != "-" => {
            let name = path.display().to_string();
            bytes = std::fs::read(path).with_context(|| format!("cannot read {name}"))?;
            name
        }
        _ => {
            io::stdin()
                .read_to_end(&mut bytes)
                .context("cannot read standard input")?;
            "<stdin>".to_owned()
        }
    };
    let text = String::from_utf8(bytes).map_err(|error| {
        let good = error.utf8_error().valid_up_to();
        let line = error
            .as_bytes()
            .iter()
            .take(good)
            .filter(|&&b| b == b'\n')
            .count()
            + 1;
        anyhow::anyhow!("{name}:{line}: not UTF-8 text: is this a file of rules?")
    })?;
    Ok((name, text))
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
