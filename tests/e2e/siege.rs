//! More connections than there is room for: floods of SYNs, and a table that is full.
//!
//! `scripts/flood` runs the long versions and shows the figures.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::dut::{Config, Dut, Lotus, lotus_only, strict_rules};
use crate::ftp::{Client, Mode, Server, Site, Transfer, Way};
use crate::generators::{self, report};
use crate::net::{Family, Host, Lab, Proc, SERVER_MAC, eventually};

/// Lets the generator's flows in.
const RULE: &str =
    "iifname \"fw-in\" meta l4proto { tcp, udp } th dport 5000-5999 ct state new accept";

/// Of the rate that lotus can bear: so that the table is tested, not the ring.
const SHARE: f64 = 0.7;

/// What a full table may need beyond what it had when it was full for the first time: events that
/// wait, and what the allocator keeps while flows come and go on several threads.
const SLACK_BYTES: u64 = 12 << 20;

/// What is in flight when the generator ends has arrived after this.
const SETTLE: Duration = Duration::from_millis(500);

/// SYNs of ever new spoofed sources to the FTP port itself, at 70 % of what lotus can bear: a
/// transfer goes on, new sessions begin, the table keeps its capacity, memory its cap.
#[test]
fn syn_flood_leaves_honest_sessions_alone() {
    if !lotus_only() {
        return;
    }
    let long = crate::full();
    let time = crate::seconds("LOTUS_E2E_FLOOD_SECS", if long { 20 } else { 5 });
    let capacity: u64 = if long { 262_144 } else { 65_536 };
    let Some(lab) = Lab::new() else { return };
    let site = Site::start(&lab);
    swallow(&lab);
    let config = Config::new(Host::Server, strict_rules(Host::Server, true, RULE))
        .workers(1)
        .set(&[&format!("conntrack.max={capacity}")]);
    let mut dut = Dut::start(&lab, &config);
    let lotus = dut.lotus().expect("lotus");
    let empty = lotus.proc.resident_bytes();
    let most_known = most(&lab, lotus, &["--kind", "udp"]);
    let most_new = most(&lab, lotus, &SPOOFED);
    let rate = most_new * SHARE;
    // The measurement filled the table: memory is at its cap now.
    let status = lotus.status();
    assert!(
        (capacity * 9 / 10..=capacity).contains(&status.number("flows")),
        "{}",
        status.json
    );
    let full = lotus.proc.resident_bytes();
    crate::say(&format!(
        "lotus bears {:.0} kframes/s of known flows, {:.0} kframes/s of SYNs that each begin a \
         session; memory {} kB empty, {} kB with {capacity} of them",
        most_known / 1e3,
        most_new / 1e3,
        empty >> 10,
        full >> 10
    ));

    let before = lotus.status();
    // It ends after the flood does.
    let pace = format!("{}", BIG_FILE_BYTES / (time.as_secs() + 4));
    let mut transfer = site.slow_download_at(&pace, Family::V4, Mode::Epsv);
    assert!(
        eventually(Duration::from_secs(20), || site.slow_download_begun()),
        "{}",
        transfer.output()
    );
    let begun = Instant::now();
    let [secs, pps] = [time.as_secs().to_string(), format!("{rate:.0}")];
    let mut flood = start(
        &lab,
        Host::Client,
        &[&SPOOFED[..], &["--secs", &secs, "--pps", &pps]].concat(),
    );
    let (mut flows, mut memory) = (0, 0);
    let flooding = AtomicBool::new(true);
    let honest = std::thread::scope(|scope| {
        let sessions = scope.spawn(|| {
            let mut results = Vec::new();
            while flooding.load(Ordering::Relaxed) {
                results.push(timed(&site, honest(results.len())));
            }
            results
        });
        while flood.alive() {
            flows = flows.max(lotus.status().number("flows"));
            memory = memory.max(lotus.proc.resident_bytes());
            std::thread::sleep(Duration::from_millis(200));
        }
        flooding.store(false, Ordering::Relaxed);
        sessions.join().expect("sessions")
    });
    assert!(begun.elapsed() >= time, "the flood was over early");
    assert!(
        transfer.alive() || site.slow_download_arrived(),
        "{}",
        transfer.output()
    );
    let status = transfer.wait(Duration::from_secs(90));
    assert!(status.success(), "{}", transfer.output());
    assert!(site.slow_download_arrived(), "the transfer's data differs");
    let sent = report(&mut flood);
    let after = lotus.status();
    let grown = |name: &str| after.number(name) - before.number(name);
    let slowest = honest
        .iter()
        .map(|(_, took)| *took)
        .max()
        .unwrap_or_default();
    crate::say(&format!(
        "SYN flood of {:.0} kframes/s for {} s: {} of {} honest sessions failed, slowest {slowest:.1?}; \
         {} flows at most, memory {} kB at most, {} frames lost before the ring, {} dropped: {}",
        number(&sent, "sent") / number(&sent, "secs") / 1e3,
        time.as_secs(),
        honest.iter().filter(|(result, _)| result.is_err()).count(),
        honest.len(),
        flows,
        memory >> 10,
        grown("ring_lost"),
        grown("dropped"),
        after.json["drops"]
    ));
    for (result, _) in &honest {
        assert!(result.is_ok(), "{result:?}");
    }
    assert!(honest.len() >= 3, "only {} sessions", honest.len());
    assert!(flows <= capacity, "{flows} flows of {capacity}");
    assert!(
        flows >= capacity * 9 / 10,
        "the table was never full: {flows} flows"
    );
    assert!(
        memory <= full + SLACK_BYTES,
        "memory grew from {full} to {memory} bytes"
    );
    dut.stop();
}

/// The generator's own words for it.
const SPOOFED: [&str; 7] = [
    "--kind",
    "syn",
    "--spoof",
    "--to",
    "192.0.2.20:21",
    "--mac",
    SERVER_MAC,
];
/// See `ftp.rs`.
const BIG_FILE_BYTES: u64 = 16 << 20;

/// A full table keeps what is established, and has room for exactly as many as was said.
#[test]
fn capacity_is_exact() {
    if !lotus_only() {
        return;
    }
    let capacity: u32 = if crate::full() { 1_000_000 } else { 50_000 };
    let surplus = capacity / 20;
    // Udp: each flow is unreplied, so the oldest make room. Handshakes: nothing may go.
    for kind in ["udp", "syn", "handshake"] {
        let Some(lab) = Lab::new() else { return };
        lab.settle();
        for host in [Host::Client, Host::Server] {
            swallow_all(&lab, host);
        }
        let config = |most: u32| {
            Config::new(Host::Server, strict_rules(Host::Server, true, RULE))
                .workers(1)
                .set(&[
                    &format!("conntrack.max={most}"),
                    // On a busy machine a worker may have no core for a moment.
                    "ring.slots=65536",
                    // Nothing leaves by itself.
                    "conntrack.udp_timeout=600",
                    "conntrack.tcp_timeout_syn_sent=600",
                    "conntrack.tcp_timeout_syn_recv=600",
                ])
        };
        // What a table takes before it has a flow is the flows' cost, too.
        let mut without = Dut::start(&lab, &config(1));
        let empty = without.lotus().expect("lotus").proc.resident_bytes();
        without.stop();
        let mut dut = Dut::start(&lab, &config(capacity));
        let lotus = dut.lotus().expect("lotus");
        let begin = if kind == "udp" { "udp" } else { "syn" };
        fill(&lab, lotus, Host::Client, begin, capacity);
        if kind == "handshake" {
            fill(&lab, lotus, Host::Server, "syn-ack", capacity);
            fill(&lab, lotus, Host::Client, "ack", capacity);
        }
        // The sweep visits each part once a second.
        std::thread::sleep(Duration::from_secs(2));
        let filled = lotus.status();
        let memory = lotus.proc.resident_bytes();
        let lost = each_once(&lab, lotus, Host::Client, begin, capacity, surplus);
        let over = lotus.status();
        let turned_away = over.drops("table_full") - filled.drops("table_full");
        crate::say(&format!(
            "{kind}: {} flows, {:.0} bytes each (memory {} kB without a table, {} kB then), in us: \
             {}; after {surplus} more: {} flows, {turned_away} turned away",
            filled.number("flows"),
            (memory - empty) as f64 / filled.number("flows") as f64,
            empty >> 10,
            memory >> 10,
            json!({"sweep": over.json["sweep_us"], "lock": over.json["sweep_lock_us"]}),
            over.number("flows"),
        ));
        for status in [&filled, &over] {
            assert_eq!(
                status.number("flows"),
                u64::from(capacity),
                "{}",
                status.json
            );
        }
        let arrived = u64::from(surplus) - lost;
        let begun = over.number("flows_begun") - filled.number("flows_begun");
        let expected = match kind {
            "handshake" => (0, arrived),
            _ => (arrived, 0),
        };
        assert_eq!((begun, turned_away), expected, "{}", over.json);
        assert!(arrived > 0, "nothing arrived");
        dut.stop();
    }
}

/// Sends frames of these flows until each has arrived: what the ring lost is sent again, with all
/// others, which changes nothing for those.
fn fill(lab: &Lab, lotus: &Lotus<'_>, host: Host, kind: &str, flows: u32) {
    const ROUNDS: usize = 8;
    let whole = (0..ROUNDS).any(|_| each_once(lab, lotus, host, kind, 0, flows) == 0);
    assert!(
        whole,
        "the machine is too busy for this test: frames get lost before lotus"
    );
}

/// Sends one frame for each of these flows, at a rate that even a debug build bears, and waits until
/// lotus has seen them all. Returns how many were lost before it.
fn each_once(lab: &Lab, lotus: &Lotus<'_>, host: Host, kind: &str, first: u32, flows: u32) -> u64 {
    let before = lotus.status();
    let (received, lost) = (before.number("received"), before.number("ring_lost"));
    let [first, count] = [first.to_string(), flows.to_string()];
    let rate = RATE.to_string();
    let flags = [
        "--kind", kind, "--count", "--first", &first, "--flows", &count, "--pps", &rate,
    ];
    let mut run = start(lab, host, &flags);
    run.wait(Duration::from_secs(120));
    assert_eq!(number(&report(&mut run), "sent") as u32, flows);
    let mut status = lotus.status();
    let arrived = eventually(Duration::from_secs(20), || {
        status = lotus.status();
        let all = status.number("received") + status.number("ring_lost");
        all >= received + lost + u64::from(flows)
    });
    assert!(arrived, "frames are missing: {}", status.json);
    status.number("ring_lost") - lost
}

/// Frames a second at which nothing is lost in a ring of the usual size.
const RATE: u32 = 60_000;

/// The highest rate at which lotus takes frames of this kind, in frames a second.
fn most(lab: &Lab, lotus: &Lotus<'_>, flags: &[&str]) -> f64 {
    const TIME: &str = "3";
    let before = lotus.status();
    let mut run = start(lab, Host::Client, &[flags, &["--secs", TIME]].concat());
    run.wait(Duration::from_secs(60));
    std::thread::sleep(SETTLE);
    let after = lotus.status();
    let taken = after.number("received") - before.number("received");
    taken as f64 / number(&report(&mut run), "secs")
}

fn start(lab: &Lab, host: Host, flags: &[&str]) -> Proc {
    let arguments = [&["send", host.interface()], flags].concat();
    generators::start(lab, lab.ns(host), "pktgen", &arguments)
}

fn number(json: &Value, name: &str) -> f64 {
    json[name]
        .as_f64()
        .unwrap_or_else(|| panic!("no {name}: {json}"))
}

/// Has the server's kernel drop what comes from spoofed sources: it is not what is tested.
fn swallow(lab: &Lab) {
    ingress(
        lab,
        Host::Server,
        "ip saddr { 198.18.0.0/15, 192.0.2.100 } drop;",
    );
}

/// Has a host drop what comes from or goes to the generator's addresses.
fn swallow_all(lab: &Lab, host: Host) {
    ingress(
        lab,
        host,
        "ip saddr { 198.18.0.0/15, 192.0.2.100 } drop; ip daddr { 198.18.0.0/15, 192.0.2.100 } drop;",
    );
}

fn ingress(lab: &Lab, host: Host, rules: &str) {
    let device = host.interface();
    let rules = format!(
        "table netdev sink {{ chain in {{ type filter hook ingress device {device} priority 0; {rules} }}; }}"
    );
    let file = lab.dir().join(format!("sink-{device}.nft"));
    std::fs::write(&file, rules).expect("rules file");
    lab.ns(host).run(&format!("nft -f {}", file.display()));
}

/// The modes and families in turn.
fn honest(number: usize) -> Transfer {
    let (family, mode) = [
        (Family::V4, Mode::Epsv),
        (Family::V6, Mode::Eprt),
        (Family::V4, Mode::Port),
        (Family::V6, Mode::Epsv),
    ][number % 4];
    Transfer {
        client: Client::Curl,
        server: Server::Vsftpd20,
        family,
        mode,
        way: Way::Download,
    }
}

fn timed(site: &Site<'_>, transfer: Transfer) -> (Result<(), String>, Duration) {
    let start = Instant::now();
    (site.transfer(transfer), start.elapsed())
}
