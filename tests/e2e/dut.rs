//! The device under test: lotus, or a kernel bridge in its place.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::net::{Host, Lab, Proc, lotus_program};

/// Ports that the tests' rules name as FTP: vsftpd with data from port 20, vsftpd with data from
/// any port, pyftpdlib.
pub(crate) const FTP_PORTS: &str = "{ 21, 2100, 2121 }";

/// The time from start to the `ready` line. A debug build on two busy cores needs some.
const READY_WITHIN: Duration = Duration::from_secs(30);
/// The time from Ctrl-C to its end: a fraction of a second, if there is a core for it.
const END_WITHIN: Duration = Duration::from_secs(10);

/// What stands between the hosts.
#[derive(Debug)]
pub(crate) enum Dut<'l> {
    Lotus(Lotus<'l>),
    KernelBridge(&'l Lab),
}

#[derive(Debug)]
pub(crate) struct Lotus<'l> {
    lab: &'l Lab,
    pub(crate) proc: Proc,
    events: PathBuf,
}

/// How to start lotus.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) inside: Host,
    pub(crate) rules: String,
    pub(crate) workers: usize,
    pub(crate) more: Vec<String>,
}

impl Config {
    pub(crate) fn new(inside: Host, rules: String) -> Config {
        Config {
            inside,
            rules,
            workers: 1,
            more: Vec::new(),
        }
    }

    /// `--set NAME=VALUE` for each.
    pub(crate) fn set(mut self, settings: &[&str]) -> Config {
        for setting in settings {
            self.more
                .extend(["--set".to_owned(), (*setting).to_owned()]);
        }
        self
    }

    pub(crate) fn workers(self, workers: usize) -> Config {
        Config { workers, ..self }
    }

    pub(crate) fn with(mut self, flag: impl Into<String>) -> Config {
        self.more.push(flag.into());
        self
    }

    /// The command line, for a run in the firewall's namespace.
    pub(crate) fn command(&self, lab: &Lab, events: &std::path::Path) -> Command {
        let rules = lab.dir().join("rules.nft");
        std::fs::write(&rules, &self.rules).expect("rules file");
        let mut command = lab.fw.command(&lotus_program());
        command.args(["run", "--inside", self.inside.port()]);
        command.args(["--outside", self.inside.other().port()]);
        command
            .arg("--rules")
            .arg(rules)
            .arg("--events")
            .arg(events);
        command
            .args(["--workers", &self.workers.to_string()])
            .args(&self.more);
        command
    }
}

/// Whether a kernel bridge stands in for lotus in this run.
pub(crate) fn stand_in() -> bool {
    std::env::var_os("LOTUS_E2E_DUT").is_some_and(|value| value == "bridge")
}

/// For tests that make no sense with the bridge.
pub(crate) fn lotus_only() -> bool {
    if stand_in() {
        let name = std::thread::current().name().unwrap_or("?").to_owned();
        crate::say(&format!(
            "SKIP {name}: it is about lotus, and a bridge stands in"
        ));
    }
    !stand_in()
}

impl<'l> Dut<'l> {
    /// Starts lotus, or its stand-in if the environment asks for one, and waits until frames flow.
    pub(crate) fn start(lab: &'l Lab, config: &Config) -> Dut<'l> {
        if stand_in() {
            Dut::bridge(lab)
        } else {
            Dut::Lotus(Lotus::start(lab, config))
        }
    }

    /// The kernel's bridge without any filter.
    pub(crate) fn bridge(lab: &'l Lab) -> Dut<'l> {
        lab.fw
            .ip("link add br0 type bridge forward_delay 0 stp_state 0 mcast_snooping 0");
        for device in ["br0", "fw-in", "fw-out"] {
            lab.fw
                .sysctl(&format!("net.ipv6.conf.{device}.disable_ipv6=1"));
        }
        for port in ["fw-in", "fw-out"] {
            lab.fw.ip(&format!("link set {port} master br0"));
        }
        for family in ["iptables", "ip6tables", "arptables"] {
            // Only where br_netfilter is loaded.
            let _ = lab
                .fw
                .output(&format!("sysctl -qw net.bridge.bridge-nf-call-{family}=0"));
        }
        lab.fw.ip("link set br0 up");
        Dut::KernelBridge(lab)
    }

    pub(crate) fn lotus(&mut self) -> Option<&mut Lotus<'l>> {
        match self {
            Dut::Lotus(lotus) => Some(lotus),
            Dut::KernelBridge(_) => None,
        }
    }

    /// Stops it and checks that it went cleanly.
    pub(crate) fn stop(self) {
        match self {
            Dut::Lotus(lotus) => {
                lotus.stop();
            }
            Dut::KernelBridge(lab) => {
                lab.fw.ip("link del br0");
            }
        }
    }
}

impl<'l> Lotus<'l> {
    pub(crate) fn start(lab: &'l Lab, config: &Config) -> Lotus<'l> {
        let events = lab.dir().join("events.json");
        let _ = std::fs::remove_file(&events);
        let mut proc = lab.start(config.command(lab, &events), "lotus");
        proc.wait_for("ready", READY_WITHIN);
        Lotus { lab, proc, events }
    }

    /// Interrupts it as Ctrl-C does; returns all that it printed.
    pub(crate) fn stop(mut self) -> String {
        self.proc.signal(Signal::INT);
        let status = self.proc.wait(END_WITHIN);
        let output = self.proc.output();
        assert_eq!(
            status.code(),
            Some(0),
            "lotus ended with {status}:\n{output}"
        );
        assert!(!output.contains("panicked"), "{output}");
        output
    }

    /// `lotus status --json`.
    pub(crate) fn status(&self) -> Status {
        let mut command = self.lab.fw.command(&lotus_program());
        let output = command
            .args(["status", "--json"])
            .output()
            .expect("lotus status");
        assert!(
            output.status.success(),
            "lotus status: {}",
            crate::net::text(&output)
        );
        let json: Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|e| panic!("lotus status: {e}: {}", crate::net::text(&output)));
        Status { json }
    }

    /// The events so far, of one kind.
    pub(crate) fn events(&self, kind: &str) -> Vec<Value> {
        let text = std::fs::read_to_string(&self.events).unwrap_or_default();
        text.lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .filter(|event| event["event"] == kind)
            .collect()
    }
}

/// What `lotus status --json` says.
#[derive(Clone, Debug)]
pub(crate) struct Status {
    pub(crate) json: Value,
}

impl Status {
    pub(crate) fn number(&self, name: &str) -> u64 {
        self.json[name]
            .as_u64()
            .unwrap_or_else(|| panic!("no number '{name}': {}", self.json))
    }

    /// Counters that move with every frame.
    pub(crate) fn frames(&self) -> [u64; 5] {
        ["received", "forwarded", "dropped", "held", "ring_lost"].map(|name| self.number(name))
    }

    /// Frames dropped for a reason.
    pub(crate) fn drops(&self, reason: &str) -> u64 {
        let drops = &self.json["drops"];
        assert!(drops.is_object(), "no drops by reason: {}", self.json);
        drops[reason].as_u64().unwrap_or(0)
    }

    /// The sum over all reasons.
    pub(crate) fn drops_sum(&self) -> u64 {
        let drops = self.json["drops"].as_object();
        drops.map_or(0, |by_reason| {
            by_reason.values().filter_map(Value::as_u64).sum()
        })
    }
}

/// Rules that drop both ways whatever the helper does not open; FTP servers are inside or
/// outside. Without `helper` the control connections are let through and not read.
pub(crate) fn strict_rules(inside: Host, helper: bool, more: &str) -> String {
    let (outside, set) = (
        inside.other(),
        if helper {
            "ct helper set \"ftp-std\""
        } else {
            ""
        },
    );
    // The client opens control connections: it is outside if the server is inside.
    let from = Host::Client.port();
    let (v4, v6) = (Host::Server.v4(), Host::Server.v6());
    format!(
        "# inside {inside:?}, outside {outside:?}
table bridge e2e {{
  ct helper ftp-std {{ type \"ftp\" protocol tcp; }}
  chain forward {{
    type filter hook forward priority 0; policy drop;
    ether type arp accept
    icmpv6 type {{ nd-neighbor-solicit, nd-neighbor-advert }} accept
    ct state invalid drop
    ct state established,related accept
    iifname \"{from}\" ip daddr {v4} tcp dport {FTP_PORTS} ct state new {set} accept
    iifname \"{from}\" ip6 daddr {v6} tcp dport {FTP_PORTS} ct state new {set} accept
    {more}
  }}
}}
"
    )
}

/// Rules that let everything pass.
pub(crate) fn open_rules() -> String {
    "table bridge e2e {
  chain forward {
    type filter hook forward priority 0; policy accept;
  }
}
"
    .to_owned()
}
