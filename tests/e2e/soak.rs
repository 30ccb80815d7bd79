//! All kinds of FTP at once over a bad wire, and what is left afterwards.
//!
//! `scripts/soak` runs this for ten minutes.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::dut::{Config, Dut, Lotus, Status, strict_rules};
use crate::ftp::{ABILITIES, Client, Server, Site, Transfer, Way};
use crate::net::{Host, Lab, eventually};

/// Clients at any moment. More would only wait for each other on a small machine.
const CLIENTS: usize = 8;

/// Loss as a bad radio link has it; enough of the rest that every transfer meets some.
const BAD_WIRE: [&str; 8] = [
    "--loss",
    "2",
    "--duplicate",
    "1",
    "--reorder",
    "3",
    "--seed",
    "7",
];

/// Without pyftpdlib: over this wire it leaves a transfer hanging now and then, behind a kernel bridge
/// as well as behind lotus.
const SERVERS: [Server; 2] = [Server::Vsftpd20, Server::VsftpdAny];

/// So that what is over leaves within seconds. Only of connections that are over: a live one on a
/// bad wire needs the usual times.
const SHORT: [&str; 6] = [
    "conntrack.tcp_timeout_time_wait=3",
    "conntrack.tcp_timeout_close=3",
    "conntrack.tcp_timeout_last_ack=5",
    "conntrack.icmp_timeout=3",
    "conntrack.udp_timeout=3",
    "conntrack.generic_timeout=3",
];

/// A table's memory comes and goes in pages, and the allocator keeps some for later.
const SLACK_BYTES: u64 = 3 << 20;

#[test]
fn bad_wire_soak() {
    let time = crate::seconds("LOTUS_E2E_SOAK_SECS", if crate::full() { 120 } else { 20 });
    let Some(lab) = Lab::new() else { return };
    let wire = lab.impair(&BAD_WIRE);
    let site = Site::start(&lab);
    let config = Config::new(Host::Server, strict_rules(Host::Server, true, ""))
        .workers(2)
        .set(&SHORT);
    let mut dut = Dut::start(&lab, &config);
    let start = dut.lotus().map(|lotus| lotus.status());
    // The first third warms up: what has been allocated once may stay.
    let mut done = load(&site, time / 3);
    let warm = dut.lotus().map(|lotus| calm(lotus, &start));
    done.extend(load(&site, time - time / 3));
    let end = dut.lotus().map(|lotus| calm(lotus, &start));
    let report = wire.stop();
    let failures: Vec<_> = done.iter().filter_map(|done| done.as_ref().err()).collect();
    crate::say(&format!(
        "soak: {} transfers in {} s, {} failed; wire: {report}",
        done.len(),
        time.as_secs(),
        failures.len()
    ));
    let status = end.as_ref().map(|end| &end.status.json);
    assert!(failures.is_empty(), "{failures:#?}\n{status:?}");
    assert!(done.len() > 10, "hardly anything was transferred");
    for fate in ["lost", "duplicated", "late"] {
        assert!(
            report[fate].as_u64() > Some(0),
            "that wire is not bad: {report}"
        );
    }
    assert_eq!(
        report["refused"], 0,
        "frames that can't be on a wire: {report}"
    );
    if let (Some(warm), Some(end)) = (warm, end) {
        crate::say(&format!(
            "soak: memory {} kB when calm for the first time, {} kB at the end; {}",
            warm.memory >> 10,
            end.memory >> 10,
            end.status.json
        ));
        assert!(
            end.memory <= warm.memory + SLACK_BYTES,
            "memory grows: {} bytes, then {}",
            warm.memory,
            end.memory
        );
        for (name, more) in [
            ("sessions_begun", done.len() / 2),
            ("ports_used", done.len() / 2),
        ] {
            let number = end.status.number(name);
            assert!(number >= more as u64, "only {number} {name}");
        }
        assert_eq!(end.status.number("events_lost"), 0);
    }
    dut.stop();
}

/// lotus with nothing to do.
struct Calm {
    memory: u64,
    status: Status,
}

/// Waits until all that belonged to connections is gone, and says what is left in memory.
fn calm(lotus: &Lotus<'_>, start: &Option<Status>) -> Calm {
    let flows = start.as_ref().map_or(0, |status| status.number("flows"));
    let mut status = lotus.status();
    let gone = eventually(Duration::from_secs(180), || {
        status = lotus.status();
        status.number("flows") <= flows
            && ["sessions", "expectations", "held"]
                .iter()
                .all(|name| status.number(name) == 0)
    });
    assert!(gone, "something stays: {}", status.json);
    let sum = ["forwarded", "dropped", "held"].map(|name| status.number(name));
    assert_eq!(
        status.number("received"),
        sum.iter().sum::<u64>(),
        "accounting"
    );
    Calm {
        memory: lotus.proc.resident_bytes(),
        status,
    }
}

/// Every client against every server, in every mode it has, both ways and listings, several at a
/// time, until the time is over.
fn load(site: &Site<'_>, time: Duration) -> Vec<Result<(), String>> {
    let mixes = mixes();
    let (next, done) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let start = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                while start.elapsed() < time {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let result = site.transfer(mixes[number % mixes.len()]);
                    done.lock().expect("results").push(result);
                }
            });
        }
    });
    done.into_inner().expect("results")
}

/// All but curl in active mode: curl takes it for an error (8, weird server reply) when the server's
/// 150 is there before the data connection is, and that is so whenever the last segment of the data
/// connection's handshake was lost. The other clients wait.
fn mixes() -> Vec<Transfer> {
    let mut all = Vec::new();
    for way in [Way::Download, Way::Upload, Way::Listing] {
        for server in SERVERS {
            for (client, family, mode) in ABILITIES {
                if client == Client::Curl && mode.is_active() {
                    continue;
                }
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
    // So that a short run has something of everything: a step that has no factor in common with
    // the number of mixes visits each once.
    let step = 55;
    (0..all.len()).map(|i| all[i * step % all.len()]).collect()
}
