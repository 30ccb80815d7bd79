//! `lotus run`

use std::num::NonZeroUsize;
use std::path::PathBuf;

use anyhow::{Context, anyhow};

use super::Failure;
use crate::rules::{Builtin, FtpServer, PortNames, Ruleset};
use crate::runtime::cores::{Core, Placement, parse_core_list};
use crate::runtime::output::EventsTo;
use crate::runtime::worker::Polling;
use crate::runtime::{self, Mode, Options, RunError, Settings};

/// Run the firewall between two interfaces.
///
/// Stands between --inside and --outside until it is stopped with Ctrl-C or SIGTERM; SIGHUP and `lotus
/// reload` have it read its rules again. Without
/// --rules a built-in ruleset serves: hosts inside may open anything outwards; inwards pass only
/// answers, what the FTP helper has opened, the servers named with --ftp-server, and what hosts
/// behind a bridge need to live (ARP, neighbour discovery, DHCP answers).
///
/// Both interfaces must be up and have no IP address. Needs root, or the capabilities CAP_NET_RAW,
/// CAP_NET_ADMIN and CAP_BPF.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  An FTP server 192.0.2.10 is behind eth1, the world behind eth2:
    ip link set dev eth1 up; ip link set dev eth2 up
    lotus run --inside eth1 --outside eth2 --ftp-server 192.0.2.10

  Rules of your own, two workers, and a log of events for other programs:
    lotus check rules.nft
    lotus run --inside eth1 --outside eth2 --rules rules.nft --workers 2 --events /var/log/lotus.json

  What it does meanwhile, and other rules for it:
    lotus status
    lotus reload")]
pub(super) struct Args {
    /// The interface towards the hosts to protect
    #[arg(long, value_name = "IF")]
    inside: String,

    /// The interface towards everybody else
    #[arg(long, value_name = "IF")]
    outside: String,

    /// Rules in nftables syntax; `lotus check FILE` tells what is wrong with a file
    #[arg(long, value_name = "FILE", help_heading = "Rules")]
    rules: Option<PathBuf>,

    /// An FTP server inside that everybody may use, in the built-in rules (can be repeated)
    ///
    /// An IPv4 or IPv6 address and its control port, 21 if none is named: 192.0.2.10,
    /// 192.0.2.10:2121, 2001:db8::10, [2001:db8::10]:2121. No data ports are to be opened for it:
    /// the FTP helper does that, one at a time. Settings of the helper for this server alone follow
    /// after commas, with the names of `lotus settings` without their `ftp.`:
    /// 192.0.2.10,tls-ports=40000-40100,refuse=reset
    #[arg(long, value_name = "ADDR[:PORT][,NAME=VALUE]", help_heading = "Rules")]
    ftp_server: Vec<FtpServer>,

    /// One more Ethernet type to let pass in the built-in rules, such as lldp or 0x88cc (can be repeated)
    #[arg(long, value_name = "TYPE", help_heading = "Rules", value_delimiter = ',',
          value_parser = Builtin::parse_l2)]
    l2: Vec<u16>,

    /// How many workers, each on a core of its own
    ///
    /// Half of the cores that this process may use if it is not given, at least one: the kernel
    /// does its receive work for both ports on the other half. lotus takes the last cores, as
    /// interrupts gather on the first.
    #[arg(long, value_name = "N", help_heading = "Workers", conflicts_with = "cores",
          value_parser = parse_workers)]
    workers: Option<NonZeroUsize>,

    /// One worker on each of these cores, such as 2-5,8
    #[arg(long, value_name = "LIST", help_heading = "Workers", value_parser = parse_cores)]
    cores: Option<Cores>,

    /// Slots of each worker's receive rings, short for --set ring.slots=N
    #[arg(long, value_name = "N", help_heading = "Workers")]
    ring_slots: Option<String>,

    /// Workers never sleep: lowest latency, one whole core each
    #[arg(long, help_heading = "Workers")]
    spin: bool,

    /// Write events as JSON lines to a file (appended), or '-' for standard output
    ///
    /// With '-' the lines for people go to standard error.
    #[arg(long, value_name = "FILE|-", help_heading = "Other")]
    events: Option<PathBuf>,

    /// For so long after the start, let connections go on whose beginning was not seen, such as 60s
    ///
    /// For putting lotus into a network that is in use: without it, connections that are older than
    /// lotus stand still and end. The rules judge their packets as those of new connections. An FTP
    /// session taken up this way has no data ports opened until it has logged in anew.
    #[arg(long, value_name = "TIME", help_heading = "Rules")]
    pickup: Option<String>,

    /// Change a limit or a time (can be repeated); `lotus settings` lists all
    #[arg(long, value_name = "NAME=VALUE", help_heading = "Other")]
    set: Vec<String>,

    /// Start although an interface has an IP address (nobody will reach it)
    ///
    /// IPv4 addresses work again when lotus has stopped. IPv6 is switched off while it runs, which
    /// makes the kernel delete the interface's IPv6 addresses: they do not come back by themselves.
    /// Nor does large receive offload, which lotus switches off on every port (it says so).
    #[arg(long, help_heading = "Other")]
    force: bool,

    /// Forward everything and judge nothing: a diagnostic, NOT a firewall
    #[arg(long, help_heading = "Other")]
    passthrough: bool,
}

/// The cores of `--cores`; a type of its own, as clap takes a bare `Vec` for repetition.
#[derive(Clone, Debug)]
struct Cores(Vec<Core>);

pub(super) fn run(args: Args) -> Result<(), Failure> {
    runtime::run(options(args)?).map_err(failure)
}

fn failure(error: RunError) -> Failure {
    if error.is_usage() {
        Failure::Usage(error.into())
    } else {
        Failure::Runtime(error.into())
    }
}

fn options(mut args: Args) -> Result<Options, Failure> {
    // Rules, messages and `lotus status` are to know an interface by one name only.
    for name in [&mut args.inside, &mut args.outside] {
        *name = runtime::canonical_name(name);
    }
    // What needs no privileges first, so that a wrong word is told before "you are not root".
    let settings = settings(&args).map_err(Failure::Usage)?;
    let cores = placement(&args)
        .resolve()
        .map_err(|error| Failure::Usage(error.into()))?;
    let names = [args.inside.clone(), args.outside.clone()];
    let (ruleset, rules) = ruleset(&args)?;
    settings
        .engine
        .covers(&ruleset)
        .map_err(|error| Failure::Usage(error.into()))?;
    runtime::check_names(&names).map_err(failure)?;
    Ok(Options {
        names,
        ruleset,
        rules,
        rules_file: args.rules,
        cores,
        mode: if args.passthrough {
            Mode::Passthrough
        } else {
            Mode::Firewall
        },
        force: args.force,
        events: args.events.map(|path| match path.to_str() {
            Some("-") => EventsTo::Stdout,
            _ => EventsTo::File(path),
        }),
        settings,
    })
}

fn settings(args: &Args) -> anyhow::Result<Settings> {
    let mut settings = super::settings(&args.set, &args.ftp_server)?;
    if let Some(slots) = &args.ring_slots {
        settings
            .set("ring.slots", slots)
            .with_context(|| format!("--ring-slots {slots}"))?;
    }
    if let Some(time) = &args.pickup {
        settings
            .set("conntrack.pickup", time)
            .with_context(|| format!("--pickup {time}"))?;
    }
    if args.spin {
        settings.io.polling = Polling::Spin;
    }
    Ok(settings)
}

fn placement(args: &Args) -> Placement {
    match (args.workers, &args.cores) {
        (Some(count), _) => Placement::Count(count),
        (None, Some(Cores(cores))) => Placement::Cores(cores.clone()),
        (None, None) => Placement::Half,
    }
}

/// The rules, and what they are in a few words.
fn ruleset(args: &Args) -> Result<(Ruleset, String), Failure> {
    let ports = PortNames {
        inside: args.inside.clone(),
        outside: args.outside.clone(),
    };
    let Some(path) = &args.rules else {
        return built_in(args, &ports);
    };
    if !args.ftp_server.is_empty() || !args.l2.is_empty() {
        return Err(Failure::Usage(anyhow!(
            "--ftp-server and --l2 are parts of the built-in rules, which --rules replaces; say \
             in {} what they were to say: `lotus check --print-default` shows how the built-in \
             rules do it",
            path.display()
        )));
    }
    super::rules_of_file(path, &ports)
}

/// The rules that the flags make, in the language of files, so that there is one way only.
fn built_in(args: &Args, ports: &PortNames) -> Result<(Ruleset, String), Failure> {
    let flags = Builtin {
        ftp_servers: args.ftp_server.clone(),
        l2: args.l2.clone(),
    };
    let ruleset = super::built_in_rules(&flags.text(), ports)?;
    let servers: Vec<_> = args.ftp_server.iter().map(ToString::to_string).collect();
    let servers = match servers.as_slice() {
        [] => "no FTP server inside is open to the outside (--ftp-server)".to_owned(),
        names => format!("FTP servers open to the outside: {}", names.join(", ")),
    };
    let summary = format!("built-in; {servers}; {}", ruleset.summary());
    Ok((ruleset, summary))
}

fn parse_workers(text: &str) -> Result<NonZeroUsize, String> {
    text.parse::<NonZeroUsize>().map_err(|_| {
        format!(
            "'{text}' is not a number of workers: it must be 1 or more; without --workers \
                 lotus takes half of the cores"
        )
    })
}

fn parse_cores(text: &str) -> Result<Cores, String> {
    parse_core_list(text).map(Cores)
}
