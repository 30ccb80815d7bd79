//! The four scenarios of the mission, under rules that drop both ways whatever the helper does
//! not open: S1 and S2 have the server inside, S3 and S4 the client; S1 and S3 are active.

use std::process::Stdio;
use std::time::Duration;

use crate::dut::{Config, Dut, lotus_only, stand_in, strict_rules};
use crate::ftp::{ABILITIES, Client, Mode, Server, Site, Transfer, Way};
use crate::ledger::Ledger;
use crate::net::{Family, Host, Lab};
use crate::tcp::{Bait, Knock};

/// A port that nobody negotiates: the servers' and clients' ephemeral ports lie above 32768.
const BAIT_PORT: u16 = 31_999;

#[test]
fn s1_s2_server_inside() {
    transfers(Host::Server, 1);
}

#[test]
fn s1_s2_server_inside_two_workers() {
    transfers(Host::Server, 2);
}

#[test]
fn s3_s4_client_inside() {
    transfers(Host::Client, 1);
}

#[test]
fn s3_s4_client_inside_two_workers() {
    transfers(Host::Client, 2);
}

#[test]
fn s1_s2_other_ports_stay_shut() {
    other_ports_stay_shut(Host::Server);
}

#[test]
fn s3_s4_other_ports_stay_shut() {
    other_ports_stay_shut(Host::Client);
}

#[test]
fn without_helper_s1_s2_fail() {
    without_helper(Host::Server);
}

#[test]
fn without_helper_s3_s4_fail() {
    without_helper(Host::Client);
}

/// Every client against every server, in every mode it has, both ways.
fn transfers(inside: Host, workers: usize) {
    let Some(lab) = Lab::new() else { return };
    let site = Site::start(&lab);
    let config = Config::new(inside, strict_rules(inside, true, "")).workers(workers);
    let mut dut = Dut::start(&lab, &config);
    let ledger = Ledger::open(&lab, &mut dut);
    let wanted = matrix();
    let mut failures = Vec::new();
    for &transfer in &wanted {
        if let Err(error) = site.transfer(transfer) {
            failures.push(error);
        }
    }
    assert!(
        failures.is_empty(),
        "{} of {} transfers failed:\n{}",
        failures.len(),
        wanted.len(),
        failures.join("\n")
    );
    ledger.close(&lab, &mut dut);
    if let Some(lotus) = dut.lotus() {
        for mode in [Mode::Port, Mode::Eprt, Mode::Pasv, Mode::Epsv] {
            let used = lotus.events("port_used");
            let count = used
                .iter()
                .filter(|event| event["mode"] == mode.name())
                .count();
            let expected = wanted
                .iter()
                .filter(|transfer| transfer.mode == mode)
                .count();
            assert!(
                count >= expected,
                "{mode:?}: {count} ports used by {expected} transfers"
            );
        }
    }
    dut.stop();
}

fn matrix() -> Vec<Transfer> {
    let mut all = Vec::new();
    for (client, family, mode) in ABILITIES {
        for server in Server::ALL {
            // The second vsftpd differs in active mode only.
            if server == Server::VsftpdAny && !(mode.is_active() && client == Client::Curl) {
                continue;
            }
            for way in [Way::Download, Way::Upload] {
                all.push(Transfer {
                    client,
                    server,
                    family,
                    mode,
                    way,
                });
            }
        }
    }
    all
}

/// A high port with a listener on the host that takes the data connection stays shut before,
/// during and after a transfer, and so does it on the other host.
fn other_ports_stay_shut(inside: Host) {
    let Some(lab) = Lab::new() else { return };
    let site = Site::start(&lab);
    let mut dut = Dut::start(&lab, &Config::new(inside, strict_rules(inside, true, "")));
    let ledger = Ledger::open(&lab, &mut dut);
    // A bridge shows that the probe itself can succeed.
    let expected = if stand_in() {
        Knock::Open
    } else {
        Knock::Silence
    };
    for family in Family::BOTH {
        let baits =
            [Host::Client, Host::Server].map(|host| Bait::lay(&lab, host, family, BAIT_PORT));
        let probe = |when: &str| {
            for bait in &baits {
                assert_eq!(bait.knock(&lab, expected), expected, "{when}: {bait:?}");
            }
        };
        for mode in [Mode::Eprt, Mode::Epsv] {
            probe("before");
            let mut download = site.slow_download(family, mode);
            assert!(
                crate::net::eventually(Duration::from_secs(15), || site.slow_download_begun()),
                "{family:?} {mode:?}: the slow download does not begin"
            );
            probe("during");
            assert!(
                download.alive(),
                "the transfer was over before the probe was"
            );
            let status = download.wait(Duration::from_secs(60));
            assert!(
                status.success(),
                "{family:?} {mode:?}: {}",
                download.output()
            );
            assert!(
                site.slow_download_arrived(),
                "{family:?} {mode:?}: other content"
            );
            std::fs::remove_file(lab.dir().join("got/big.bin")).expect("remove");
            probe("after");
        }
        assert_eq!(
            baits.iter().any(Bait::taken),
            stand_in(),
            "who came through?"
        );
    }
    ledger.close(&lab, &mut dut);
    dut.stop();
}

/// The same rules without `ct helper set`: login works, no file arrives.
fn without_helper(inside: Host) {
    let Some(lab) = Lab::new() else { return };
    let site = Site::start(&lab);
    let mut dut = Dut::start(&lab, &Config::new(inside, strict_rules(inside, false, "")));
    let ledger = Ledger::open(&lab, &mut dut);
    let attempts = [
        (Family::V4, Mode::Port),
        (Family::V6, Mode::Eprt),
        (Family::V4, Mode::Pasv),
        (Family::V6, Mode::Epsv),
    ];
    let running: Vec<_> = attempts
        .iter()
        .map(|&(family, mode)| {
            let mut command = site.curl_get(family, mode, &["--verbose", "--max-time", "8"]);
            command.stdout(Stdio::piped()).stderr(Stdio::piped());
            (family, mode, command.spawn().expect("curl"))
        })
        .collect();
    for (family, mode, child) in running {
        let output = child.wait_with_output().expect("curl");
        let log = crate::net::text(&output);
        assert!(log.contains("230 "), "{family:?} {mode:?}: no login: {log}");
        assert_eq!(
            output.status.success(),
            stand_in(),
            "{family:?} {mode:?}: {log}"
        );
    }
    ledger.close(&lab, &mut dut);
    if let Some(lotus) = dut.lotus() {
        assert!(
            lotus.status().drops("policy_drop") > 0,
            "{:?}",
            lotus.status()
        );
        assert!(
            lotus.events("port_opened").is_empty(),
            "a port was opened without the helper"
        );
    }
    dut.stop();
}

#[test]
fn a_port_opens_once() {
    if !lotus_only() {
        return;
    }
    let Some(lab) = Lab::new() else { return };
    let site = Site::start(&lab);
    let mut dut = Dut::start(
        &lab,
        &Config::new(Host::Server, strict_rules(Host::Server, true, "")),
    );
    let transfer = Transfer {
        client: Client::Curl,
        server: Server::Vsftpd20,
        family: Family::V4,
        mode: Mode::Epsv,
        way: Way::Download,
    };
    site.transfer(transfer).expect("transfer");
    let lotus = dut.lotus().expect("lotus");
    crate::net::eventually(Duration::from_secs(10), || {
        !lotus.events("port_used").is_empty()
    });
    let used = lotus.events("port_used");
    let to = used[0]["to"].as_str().expect("an address and port");
    let port = to
        .rsplit(':')
        .next()
        .and_then(|port| port.parse().ok())
        .expect("a port");
    let bait = Bait::lay(&lab, Host::Server, Family::V4, port);
    assert_eq!(
        bait.knock(&lab, Knock::Silence),
        Knock::Silence,
        "port {port} opened a second time"
    );
    dut.stop();
}
