//! Things that go wrong while lotus runs, as a person would meet them.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::dut::{Config, Lotus, lotus_only, open_rules, strict_rules};
use crate::ftp::{Mode, Site};
use crate::net::{Family, Host, Lab, eventually};

const SOON: Duration = Duration::from_secs(20);
/// Ctrl-C means at once. This much is allowed to a machine that has other work.
const AT_ONCE: Duration = Duration::from_secs(5);

fn config() -> Config {
    Config::new(Host::Server, open_rules())
}

fn ping(lab: &Lab, to: IpAddr) -> bool {
    lab.client
        .output(&format!("ping -c 1 -W 1 {to}"))
        .status
        .success()
}

/// Whether an answer comes at all.
fn reaches(lab: &Lab, to: IpAddr) -> bool {
    eventually(SOON, || ping(lab, to))
}

#[test]
fn a_second_lotus_is_refused() {
    if !lotus_only() {
        return;
    }
    let Some(lab) = Lab::new() else { return };
    let first = Lotus::start(&lab, &config());
    // The same pair, and a pair that shares one port.
    lab.fw.ip("link add other0 type veth peer name other1");
    let events = lab.dir().join("second.json");
    let mut second = lab.start(config().command(&lab, &events), "second");
    assert_refused(&mut second, "fw-");
    let mut command = lab.fw.command(&crate::net::lotus_program());
    command.args(["run", "--inside", "other0", "--outside", "fw-in"]);
    let mut third = lab.start(command, "third");
    assert_refused(&mut third, "fw-in");
    assert!(
        reaches(&lab, Host::Server.v4()),
        "the first one does not forward any more"
    );
    first.stop();
    // And with the first one gone the ports are free again.
    Lotus::start(&lab, &config()).stop();
}

fn assert_refused(proc: &mut crate::net::Proc, about: &str) {
    let status = proc.wait(SOON);
    let output = proc.output();
    assert_eq!(status.code(), Some(1), "{output}");
    assert!(
        output.contains(about),
        "the message does not name the port: {output}"
    );
    assert!(
        !output.contains("panicked") && !output.contains("backtrace"),
        "{output}"
    );
}

#[test]
fn an_interface_goes_and_comes_back() {
    if !lotus_only() {
        return;
    }
    let Some(lab) = Lab::new() else { return };
    let mut lotus = Lotus::start(&lab, &config().workers(2));
    assert!(
        reaches(&lab, Host::Server.v4()),
        "no way through at the start"
    );
    let before = lotus.proc.output().len();
    lab.fw.ip("link del fw-out");
    assert!(
        eventually(SOON, || lotus.proc.output()[before..].contains("fw-out")),
        "it does not say that fw-out is gone: {}",
        lotus.proc.output()
    );
    assert!(lotus.proc.alive(), "it ended: {}", lotus.proc.output());
    assert!(
        !ping(&lab, Host::Server.v4()),
        "a way through without a wire"
    );
    lab.wire(Host::Server);
    assert!(
        reaches(&lab, Host::Server.v4()),
        "no way through after fw-out came back: {}",
        lotus.proc.output()
    );
    assert!(
        reaches(&lab, Host::Server.v6()),
        "no IPv6 after fw-out came back"
    );
    lotus.stop();
}

#[test]
fn a_link_goes_down_and_up() {
    if !lotus_only() {
        return;
    }
    let Some(lab) = Lab::new() else { return };
    lab.settle();
    let mut lotus = Lotus::start(&lab, &config().workers(2));
    assert!(
        reaches(&lab, Host::Server.v4()),
        "no way through at the start"
    );
    for (ns, device, port) in [
        (&lab.fw, "fw-in", "fw-in"),
        (&lab.fw, "fw-out", "fw-out"),
        (&lab.server, "server0", "fw-out"),
    ] {
        let before = lotus.proc.output().len();
        let said = |lotus: &Lotus<'_>, word: &str| {
            let output = lotus.proc.output();
            output[before..]
                .lines()
                .any(|line| line.contains(port) && line.contains(word))
        };
        ns.ip(&format!("link set {device} down"));
        assert!(
            !ping(&lab, Host::Server.v4()),
            "a way through with {device} down"
        );
        assert!(
            eventually(SOON, || said(&lotus, "down")),
            "{port} is down, and it does not say so: {}",
            lotus.proc.output()
        );
        assert!(lotus.proc.alive(), "it ended: {}", lotus.proc.output());
        ns.ip(&format!("link set {device} up"));
        assert!(
            reaches(&lab, Host::Server.v4()),
            "no way through after {device} came up: {}",
            lotus.proc.output()
        );
        assert!(
            eventually(SOON, || said(&lotus, "up")),
            "{port} is up again, and it does not say so: {}",
            lotus.proc.output()
        );
    }
    lotus.stop();
}

#[test]
fn ctrl_c_in_a_transfer_leaves_nothing() {
    if !lotus_only() {
        return;
    }
    for signal in [Signal::INT, Signal::TERM] {
        let Some(lab) = Lab::new() else { return };
        let site = Site::start(&lab);
        let before = traces(&lab);
        let config = Config::new(Host::Server, strict_rules(Host::Server, true, "")).workers(2);
        let mut lotus = Lotus::start(&lab, &config);
        let mut download = site.slow_download(Family::V4, Mode::Epsv);
        assert!(
            eventually(SOON, || site.slow_download_begun()),
            "it does not begin: {}",
            download.output()
        );
        assert!(
            download.alive(),
            "the transfer is over already: {}",
            download.output()
        );
        let start = Instant::now();
        lotus.proc.signal(signal);
        let status = lotus.proc.wait(AT_ONCE);
        let output = lotus.proc.output();
        assert_eq!(status.code(), Some(0), "{signal:?}: {output}");
        assert!(start.elapsed() < AT_ONCE);
        for word in ["received", "forwarded", "dropped"] {
            assert!(
                output.to_lowercase().contains(word),
                "no summary with '{word}': {output}"
            );
        }
        assert!(!output.contains("panicked"), "{output}");
        assert!(
            eventually(SOON, || traces(&lab) == before),
            "left behind: {:#?}, before: {before:#?}",
            traces(&lab)
        );
        assert_eq!(
            lab.fw.processes(),
            [0; 0],
            "processes in the firewall's namespace"
        );
    }
}

/// What a firewall might leave in its namespace. The promiscuity and flags of links are part.
fn traces(lab: &Lab) -> Vec<String> {
    let mut all = vec![
        lab.fw.run("nft list ruleset"),
        lab.fw
            .run("sysctl net.ipv6.conf.fw-in.disable_ipv6 net.ipv6.conf.fw-out.disable_ipv6"),
        lab.fw.run("cat /proc/net/packet"),
    ];
    for port in [Host::Client.port(), Host::Server.port()] {
        all.push(lab.fw.run(&format!("tc qdisc show dev {port}")));
        all.push(lab.fw.run(&format!("ip -o -d link show {port}")));
        for hook in ["ingress", "egress"] {
            let filters = lab.fw.output(&format!("tc filter show dev {port} {hook}"));
            all.push(String::from_utf8_lossy(&filters.stdout).into_owned());
        }
    }
    all
}

/// What no clean-up code can do after SIGKILL must vanish by itself.
#[test]
fn after_a_kill_it_starts_again() {
    if !lotus_only() {
        return;
    }
    let Some(lab) = Lab::new() else { return };
    let mut lotus = Lotus::start(&lab, &config());
    lotus.proc.signal(Signal::KILL);
    lotus.proc.wait(SOON);
    drop(lotus);
    let again = Lotus::start(&lab, &config());
    assert!(reaches(&lab, Host::Server.v4()), "no way through");
    again.stop();
}

#[test]
fn a_port_with_an_address_is_refused() {
    if !lotus_only() {
        return;
    }
    let Some(lab) = Lab::new() else { return };
    for address in ["198.51.100.1/24", "2001:db8:1::1/64"] {
        lab.fw.ip(&format!("addr add {address} dev fw-in nodad"));
        let mut refused = lab.start(
            config().command(&lab, &lab.dir().join("no.json")),
            "refused",
        );
        assert_refused(&mut refused, "--force");
        assert!(refused.output().contains("fw-in"), "{}", refused.output());
        assert!(
            refused
                .output()
                .contains(address.split('/').next().expect("an address"))
        );
        let forced = Lotus::start(&lab, &config().with("--force"));
        assert!(
            reaches(&lab, Host::Server.v4()),
            "no way through with --force"
        );
        forced.stop();
        lab.fw.ip("addr flush dev fw-in scope global");
    }
}
