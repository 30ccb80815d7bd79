//! `lotus explain`

mod text;

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use ipnet::IpNet;

use self::text::Text;
use super::Failure;
use crate::explain::{Explained, Explainer, Options, Summary};
use crate::io::capture::{Capture, CaptureError, Captured};
use crate::rules::{Builtin, FtpServer, PortNames, Ruleset};

/// Packets that are looked at before the first one is explained, to find FTP servers: who is
/// inside may have to be guessed.
const LOOK_AHEAD: usize = 1_000;

/// How often the progress of a long capture is shown.
const PROGRESS_EVERY: Duration = Duration::from_millis(500);
/// Asking the clock costs more than a packet.
const PROGRESS_PACKETS: u64 = 4_096;

/// Explain a capture: what lotus does with each packet, and why.
///
/// Reads a pcap or pcapng file and gives its packets, with their own times, to the same engine
/// that `lotus run` has. For each packet: its number, time (seconds since the first), side, flow,
/// state, verdict and reason, and beneath it what it did: the lines of FTP dialogues (passwords
/// masked), ports opened, used and closed, commands refused. At the end a summary.
///
/// A capture shows what happened without lotus. So it may go on after a packet that lotus would
/// have dropped, or as if a refused command had been answered; each packet is explained as if all
/// before it had come just so.
#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub(super) struct Args {
    /// The capture, pcap or pcapng; `-` reads standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// Rules in nftables syntax, as for `lotus run`
    ///
    /// Without it the built-in rules serve, and with them FTP (port 21) may be opened from both
    /// sides.
    #[arg(long, short = 'c', value_name = "RULES", help_heading = "Rules")]
    rules: Option<PathBuf>,

    /// The built-in rules as `lotus run --ftp-server` has them: only these servers are open to the
    /// outside (can be repeated)
    #[arg(
        long,
        value_name = "ADDR[:PORT]",
        help_heading = "Rules",
        conflicts_with = "rules"
    )]
    ftp_server: Vec<FtpServer>,

    /// What RULES calls the inside interface
    #[arg(
        long,
        value_name = "IF",
        default_value = "inside",
        help_heading = "Rules"
    )]
    inside_if: String,

    /// What RULES calls the outside interface
    #[arg(
        long,
        value_name = "IF",
        default_value = "outside",
        help_heading = "Rules"
    )]
    outside_if: String,

    /// Addresses that are inside, such as 192.0.2.0/24 or 2001:db8::10 (can be repeated)
    ///
    /// All others are outside; packets between two hosts of one side never meet lotus. Without it,
    /// sides are guessed: a private address is inside when the other one is public; else an FTP
    /// server is inside; else who speaks first is outside.
    #[arg(long, value_name = "CIDR", value_parser = parse_net)]
    inside: Vec<IpNet>,

    /// Change a limit or a time, as for `lotus run` (can be repeated); `lotus settings` lists all
    #[arg(long, value_name = "NAME=VALUE")]
    set: Vec<String>,

    /// Take all checksums as right
    ///
    /// Without it, only those are that look as if the network card of the capturing host was to
    /// finish them (the summary says so); a packet with any other wrong checksum is judged as on
    /// the wire.
    #[arg(long)]
    trust_checksums: bool,

    /// Print JSON: a line for each packet, and one for the summary
    #[arg(long)]
    json: bool,
}

const HELP: &str = "\
Examples:
  lotus explain customer.pcap | less
  lotus explain customer.pcap -c rules.nft --inside 192.0.2.0/24
  lotus explain customer.pcap --json | jq 'select(.verdict == \"drop\")'

A packet of which only a part was captured (tcpdump -s) is judged with zeros in place of the rest,
if its headers are whole, and dropped as rx_cut if not; a remark says so. Commands of FTP that were
cut can't be read: capture with -s 0.

JSON, one object a line, times in seconds as text:
  type \"packet\": number, time (since 1970), since_first, bytes, captured_bytes,
    side (\"inside\", \"outside\", null), what (one line for people),
    flow (its number or null), state (\"new\", \"established\", \"related\", \"invalid\",
    \"untracked\"; null if it was decided before the rules), direction (\"original\", \"reply\",
    null), session (the FTP session or null),
    verdict (\"forward\", \"drop\", \"held\", \"never met\": it does not cross lotus),
    reason and explanation (of a drop), overwritten (changed on its way),
    releases (numbers of held packets that go on with it), remarks (for people),
    events (what it caused: since_first, session, event, and the fields of that event, as in
    `lotus run --events`; and event \"line\": from \"client\" or \"server\", text),
    before (events that time alone caused before it)
  type \"summary\", the last line: packets, begins, lasts, forwarded, dropped, dropped_by_reason,
    held, never_met, flows, control_connections, ports_opened, ports_used, ports_open_at_end,
    data_syns_admitted, refused_commands, sides, inside, outside, unfinished_checksums,
    unfinished_from, trusted_checksums, cut_packets, backward_times, one_way_connections,
    events_lost, more_sessions, sessions (each with client, server, user, first_lines, last_lines,
    ports with opened_by, line, syn, used_by, closed, data_ended and bytes, and refusals; numbers
    are those of packets), and file, format, rules

Exit codes: 0 all was read, 1 the capture can't be read, or not to its end, 2 the command line is
wrong.";

pub(super) fn explain(args: &Args) -> Result<(), Failure> {
    let settings = super::settings(&args.set, &args.ftp_server).map_err(Failure::Usage)?;
    let (ruleset, rules) = ruleset(args)?;
    settings
        .engine
        .covers(&ruleset)
        .map_err(|error| Failure::Usage(error.into()))?;
    let (input, bytes) = open(&args.file)?;
    let name = args.file.display().to_string();
    let unreadable =
        |error: CaptureError| Failure::Runtime(anyhow::Error::new(error).context(name.clone()));
    let mut capture = Capture::new(BufReader::new(input)).map_err(unreadable)?;
    let options = Options {
        inside: args.inside.clone(),
        servers: args.ftp_server.iter().map(|server| server.addr).collect(),
        trust_checksums: args.trust_checksums,
    };
    let mut explainer = Explainer::new(ruleset, settings.engine, options);
    let mut first = VecDeque::new();
    let mut ended = None;
    while ended.is_none() && first.len() < LOOK_AHEAD {
        match capture.next_packet() {
            Ok(Some(packet)) => {
                explainer.look_ahead(&packet);
                first.push_back(packet);
            }
            Ok(None) => ended = Some(Ok(())),
            Err(error) => ended = Some(Err(error)),
        }
    }
    let head = Head {
        file: name.clone(),
        format: capture.to_string(),
        rules,
        sides: explainer.rule_of_sides(),
    };
    let mut report = Report::new(args.json, head, bytes);
    let explained = report.all(&mut explainer, &mut capture, first, ended);
    let outcome = match explained {
        Ok(outcome) => outcome,
        Err(error) => return written(Err(error)),
    };
    written(report.end(&explainer.finish()))?;
    outcome.map_err(unreadable)
}

/// What stands before everything else.
struct Head {
    file: String,
    format: String,
    rules: String,
    sides: String,
}

/// Where explanations go.
struct Report {
    to: BufWriter<anstream::Stdout>,
    form: Form,
    head: Head,
    progress: Option<Progress>,
}

enum Form {
    Text(Text),
    Json,
}

/// What is shown on a terminal while a long capture is read into a file.
struct Progress {
    of_bytes: Option<u64>,
    shown: Instant,
    is_on_screen: bool,
}

impl Report {
    fn new(json: bool, head: Head, of_bytes: Option<u64>) -> Report {
        let is_wanted = io::stderr().is_terminal() && !io::stdout().is_terminal();
        Report {
            to: BufWriter::new(anstream::stdout()),
            form: if json {
                Form::Json
            } else {
                Form::Text(Text::default())
            },
            head,
            progress: is_wanted.then(|| Progress {
                of_bytes,
                shown: Instant::now(),
                is_on_screen: false,
            }),
        }
    }

    /// Explains the packets that were read already and all that follow. How reading ended is in
    /// the result, if all could be written.
    fn all<R: Read>(
        &mut self,
        explainer: &mut Explainer,
        capture: &mut Capture<R>,
        mut first: VecDeque<Captured>,
        mut ended: Option<Result<(), CaptureError>>,
    ) -> io::Result<Result<(), CaptureError>> {
        if let Form::Text(text) = &self.form {
            let Head {
                file,
                format,
                rules,
                sides,
            } = &self.head;
            text.head(&mut self.to, [file, format, rules, sides])?;
        }
        loop {
            let packet = match (first.pop_front(), ended.take()) {
                (Some(packet), end) => {
                    ended = end;
                    packet
                }
                (None, Some(end)) => return Ok(end),
                (None, None) => match capture.next_packet() {
                    Ok(Some(packet)) => packet,
                    Ok(None) => return Ok(Ok(())),
                    Err(error) => return Ok(Err(error)),
                },
            };
            let explained = explainer.packet(packet);
            self.packet(&explained)?;
            if explained.number.is_multiple_of(PROGRESS_PACKETS)
                && let Some(progress) = &mut self.progress
            {
                progress.show(explained.number, capture.read_bytes());
            }
        }
    }

    fn packet(&mut self, explained: &Explained) -> io::Result<()> {
        match &mut self.form {
            Form::Text(text) => text.packet(&mut self.to, explained),
            Form::Json => {
                serde_json::to_writer(&mut self.to, &explained.json())?;
                self.to.write_all(b"\n")
            }
        }
    }

    fn end(mut self, summary: &Summary) -> io::Result<()> {
        if let Some(progress) = &mut self.progress {
            progress.clear();
        }
        match &self.form {
            Form::Text(text) => text.summary(&mut self.to, summary)?,
            Form::Json => {
                let mut json = summary.json();
                let Head {
                    file,
                    format,
                    rules,
                    ..
                } = self.head;
                for (name, value) in [("file", file), ("format", format), ("rules", rules)] {
                    json[name] = value.into();
                }
                serde_json::to_writer(&mut self.to, &json)?;
                self.to.write_all(b"\n")?;
            }
        }
        self.to.flush()
    }
}

impl Progress {
    /// Nobody can be told that nobody can be told.
    fn show(&mut self, packets: u64, read_bytes: u64) {
        if self.shown.elapsed() < PROGRESS_EVERY {
            return;
        }
        self.shown = Instant::now();
        self.is_on_screen = true;
        let share = match self.of_bytes {
            Some(all) if all > 0 => format!(", {} %", read_bytes.min(all) * 100 / all),
            _ => String::new(),
        };
        let _ = write!(io::stderr(), "\r{packets} packets{share} ");
    }

    fn clear(&mut self) {
        if std::mem::take(&mut self.is_on_screen) {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

/// That nobody reads on (a pipe into `head`) is no error.
fn written(result: io::Result<()>) -> Result<(), Failure> {
    match result {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::Runtime(
            anyhow::Error::new(error).context("cannot print"),
        )),
        _ => Ok(()),
    }
}

/// The file and its length, if it has one.
fn open(path: &Path) -> Result<(Box<dyn Read>, Option<u64>), Failure> {
    if path.as_os_str() == "-" {
        let stdin = io::stdin();
        if stdin.is_terminal() {
            return Err(Failure::Usage(anyhow!(
                "standard input is a terminal: pipe a capture into it, such as \
                 `tcpdump -w - ... | lotus explain -`"
            )));
        }
        return Ok((Box::new(stdin), None));
    }
    let name = path.display();
    let file = File::open(path).map_err(|error| {
        let what = match error.kind() {
            io::ErrorKind::NotFound => "there is no such file",
            _ => "cannot open it",
        };
        Failure::Usage(anyhow!("{name}: {what} ({error})"))
    })?;
    let facts = file
        .metadata()
        .with_context(|| name.to_string())
        .map_err(Failure::Runtime)?;
    if facts.is_dir() {
        return Err(Failure::Usage(anyhow!(
            "{name} is a directory: name a capture in it"
        )));
    }
    let bytes = facts.is_file().then_some(facts.len());
    Ok((Box::new(file), bytes))
}

/// The rules, and what they are in a few words.
fn ruleset(args: &Args) -> Result<(Ruleset, String), Failure> {
    if args.inside_if == args.outside_if {
        return Err(Failure::Usage(anyhow!(
            "--inside-if and --outside-if both name {}: the two ports need different names",
            args.inside_if
        )));
    }
    let ports = PortNames {
        inside: args.inside_if.clone(),
        outside: args.outside_if.clone(),
    };
    if let Some(path) = &args.rules {
        return super::rules_of_file(path, &ports);
    }
    let builtin = Builtin {
        ftp_servers: args.ftp_server.clone(),
        ..Builtin::default()
    };
    let (text, what) = match args.ftp_server.as_slice() {
        [] => (
            builtin.text_with_ftp_both_ways(),
            "built-in, and FTP (port 21) may be opened from both sides; -c RULES takes yours"
                .to_owned(),
        ),
        servers => {
            let servers: Vec<_> = servers.iter().map(ToString::to_string).collect();
            let what = format!(
                "built-in; FTP servers open to the outside: {}",
                servers.join(", ")
            );
            (builtin.text(), what)
        }
    };
    let ruleset = super::built_in_rules(&text, &ports)?;
    Ok((ruleset, what))
}

/// A prefix, or an address.
fn parse_net(text: &str) -> Result<IpNet, String> {
    text.parse::<IpNet>()
        .or_else(|_| text.parse::<std::net::IpAddr>().map(IpNet::from))
        .map_err(|_| {
            format!(
                "'{text}' is neither a prefix nor an address: write 192.0.2.0/24, 2001:db8::/64 or \
                 192.0.2.10"
            )
        })
}
