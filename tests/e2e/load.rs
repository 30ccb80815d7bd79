//! Many sessions, and more frames than fit.

use std::io::IoSlice;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use rustix::net::{MMsgHdr, SendFlags, SocketAddrAny, sendmmsg};
use rustix::process::Signal;

use crate::dut::{Config, Dut, lotus_only, strict_rules};
use crate::ftp::Site;
use crate::ledger::{Ledger, Totals};
use crate::net::{Host, Lab, text};

const ALL_SERVERS: &str = "21,2100,2121";
/// Without pyftpdlib: with this many sessions at once it loses a transfer now and then, behind a
/// kernel bridge as often as behind lotus.
const FORKING_SERVERS: &str = "21,2100";
/// Lets UDP of the flood pass.
const FLOOD_RULE: &str = "iifname \"fw-in\" udp dport 5000-5999 ct state new accept";
/// UDP flows of the flood, one for each port from [`FIRST_PORT`] on.
const FLOWS: u16 = 1000;
const FIRST_PORT: u16 = 5000;
/// Makes frames of 60 bytes, the least that Ethernet has.
const PAYLOAD_BYTES: usize = 18;
/// Datagrams for each system call.
const BURST: usize = 64;

#[test]
fn sessions_in_a_row() {
    let sessions = if crate::full() { "5000" } else { "500" };
    sessions_pass(Host::Server, ALL_SERVERS, sessions, "1");
}

#[test]
fn sessions_at_once() {
    for inside in [Host::Server, Host::Client] {
        sessions_pass(inside, FORKING_SERVERS, "50", "50");
    }
}

/// Active and passive, IPv4 and IPv6, several servers, all mixed, with two workers.
fn sessions_pass(inside: Host, ports: &str, sessions: &str, parallel: &str) {
    let Some(lab) = Lab::new() else { return };
    let site = Site::start(&lab);
    let config = Config::new(inside, strict_rules(inside, true, "")).workers(2);
    let mut dut = Dut::start(&lab, &config);
    let ledger = Ledger::open(&lab, &mut dut);
    let flags = ["--sessions", sessions, "--parallel", parallel];
    let output = site.load(ports, &flags).output().expect("ftp_load.py");
    let status = dut.lotus().map(|lotus| lotus.status().json);
    assert!(output.status.success(), "{}\n{status:?}", text(&output));
    crate::say(&format!(
        "sessions: {}",
        String::from_utf8_lossy(&output.stdout).trim()
    ));
    ledger.close(&lab, &mut dut);
    if let Some(lotus) = dut.lotus() {
        let opened = lotus.events("session_opened").len();
        assert!(
            opened >= sessions.parse().expect("a number"),
            "{opened} sessions were seen"
        );
    }
    dut.stop();
}

#[test]
fn flood_is_accounted_for() {
    let time = if crate::full() { 20 } else { 2 };
    let totals = flooded(Duration::from_secs(time), 1, |_| {});
    let Some(totals) = totals else { return };
    assert!(totals.entered > 10_000, "that was no flood: {totals:?}");
}

#[test]
fn flood_is_accounted_for_two_workers() {
    flooded(Duration::from_secs(1), 2, |_| {});
}

/// Stopped for a moment while frames pour in, lotus loses some for certain, and says how many.
#[test]
fn ring_losses_are_counted() {
    if !lotus_only() {
        return;
    }
    let totals = flooded(Duration::from_secs(1), 1, |dut| {
        let lotus = dut.lotus().expect("lotus");
        std::thread::sleep(Duration::from_millis(200));
        lotus.proc.signal(Signal::STOP);
        std::thread::sleep(Duration::from_millis(400));
        lotus.proc.signal(Signal::CONT);
    });
    let Some(totals) = totals else { return };
    assert!(totals.ring_lost > 0, "nothing was lost: {totals:?}");
}

/// Pours small UDP frames from client to server, and closes the books.
fn flooded(time: Duration, workers: usize, meanwhile: impl FnOnce(&mut Dut<'_>)) -> Option<Totals> {
    let lab = Lab::new()?;
    swallow(&lab);
    let config = Config::new(Host::Server, strict_rules(Host::Server, true, FLOOD_RULE));
    let mut dut = Dut::start(&lab, &config.workers(workers));
    let ledger = Ledger::open(&lab, &mut dut);
    let sent = std::thread::scope(|scope| {
        let flood = lab.client.spawn_in(scope, || flood(time));
        meanwhile(&mut dut);
        flood.join().expect("flood")
    });
    let totals = ledger.close(&lab, &mut dut);
    crate::say(&format!(
        "flood: {:.0} kpps offered, {:.0} kpps through, {workers} worker(s), {totals:?}",
        sent as f64 / time.as_secs_f64() / 1e3,
        totals.hosts_received as f64 / time.as_secs_f64() / 1e3
    ));
    dut.stop();
    Some(totals)
}

/// Has the server drop the flood as early as it can, but after its interface counted it: else it
/// is busy with refusals that nobody reads.
fn swallow(lab: &Lab) {
    let rules = "table netdev sink { chain in { type filter hook ingress device server0 priority 0; \
                 udp dport 5000-5999 drop; }; }";
    let file = lab.dir().join("sink.nft");
    std::fs::write(&file, rules).expect("rules file");
    lab.server.run(&format!("nft -f {}", file.display()));
}

/// Sends small UDP datagrams (60-byte frames) over many flows as fast as one thread can; returns
/// how many.
fn flood(time: Duration) -> u64 {
    let socket = UdpSocket::bind((Host::Client.v4(), 0)).expect("a UDP socket");
    let targets: Vec<SocketAddrAny> = (0..FLOWS)
        .map(|flow| SocketAddr::new(Host::Server.v4(), FIRST_PORT + flow).into())
        .collect();
    let (start, mut sent) = (Instant::now(), 0);
    for burst in targets.chunks(BURST).cycle() {
        if start.elapsed() >= time {
            break;
        }
        let payload = [IoSlice::new(&[0; PAYLOAD_BYTES])];
        let mut controls: Vec<_> = burst.iter().map(|_| Default::default()).collect();
        let mut messages: Vec<MMsgHdr<'_>> = burst
            .iter()
            .zip(&mut controls)
            .map(|(target, control)| MMsgHdr::new_with_addr(target, &payload, control))
            .collect();
        // A full queue is no error of the test.
        sent += sendmmsg(&socket, &mut messages, SendFlags::empty()).unwrap_or(0) as u64;
    }
    sent
}
