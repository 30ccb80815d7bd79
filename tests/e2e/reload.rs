//! The rules change again and again under load.

use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::process::Signal;

use crate::dut::{Config, Dut, lotus_only, strict_rules};
use crate::ftp::Site;
use crate::ledger::Ledger;
use crate::net::{Family, Host, Lab, lotus_program, text};
use crate::tcp;

/// vsftpd twice; see `load` for the third.
const FTP_PORTS: &str = "21,2100";
const SESSIONS: &str = "200";
const AT_ONCE: &str = "4";
/// The stream is renewed after this: what it carried is compared at its end.
const STREAM: Duration = Duration::from_secs(5);
const STREAM_PORT: u16 = 5001;
/// Both rulesets drop it, each in another table.
const PROBE_PORT: u16 = 5009;
/// Both rulesets let it pass.
const OPEN_PORT: u16 = 5010;
/// Between two probes. More of them only take cores away from the rest.
const PAUSE: Duration = Duration::from_micros(300);
const RELOADS: usize = 1000;
/// Every so many reloads one is a SIGHUP, after the file was replaced.
const SIGHUP_EVERY: usize = 10;

/// A first table that drops what comes to a port, and a second one with the rules of these tests.
fn ruleset(first_drops: u16, second_drops: u16, objects: &str) -> String {
    let more = format!(
        "udp dport {second_drops} counter drop
    iifname \"fw-in\" udp dport {{ {PROBE_PORT}, {OPEN_PORT} }} ct state new counter accept
    iifname \"fw-in\" tcp dport {STREAM_PORT} ct state new accept"
    );
    let second = strict_rules(Host::Server, true, &more);
    let second = second.replace("  ct helper", &format!("{objects}  ct helper"));
    format!(
        "table bridge guard {{
  chain forward {{
    type filter hook forward priority -10; policy accept;
    udp dport {first_drops} counter drop
  }}
}}
{second}"
    )
}

/// The first table of the second and the second table of the first would let the probe pass. Their
/// helper objects are numbered differently.
fn rulesets() -> [String; 2] {
    let nothing = 9;
    [
        ruleset(PROBE_PORT, nothing, ""),
        ruleset(
            nothing,
            PROBE_PORT,
            "  ct helper other { type \"ftp\" protocol tcp; }\n",
        ),
    ]
}

#[test]
fn reloads_under_load_disturb_nothing() {
    if !lotus_only() {
        return;
    }
    let Some(lab) = Lab::new() else { return };
    let site = Site::start(&lab);
    let texts = rulesets();
    let mut dut = Dut::start(
        &lab,
        &Config::new(Host::Server, texts[0].clone()).workers(2),
    );
    let files: Vec<PathBuf> = (0..2)
        .map(|number| lab.dir().join(format!("rules-{number}.nft")))
        .collect();
    for (file, text) in files.iter().zip(&texts) {
        std::fs::write(file, text).expect("rules file");
    }
    let receivers = lab.server.enter(|| {
        [PROBE_PORT, OPEN_PORT].map(|port| {
            let socket = UdpSocket::bind((Host::Server.v4(), port)).expect("a UDP socket");
            socket.set_nonblocking(true).expect("nonblocking");
            socket
        })
    });
    let ledger = Ledger::open(&lab, &mut dut);
    let over = AtomicBool::new(false);
    let going = || !over.load(Ordering::Relaxed);
    let (sent, rounds, streams) = std::thread::scope(|scope| {
        let probes = lab.client.spawn_in(scope, || probe(going));
        let sessions = scope.spawn(|| {
            let mut rounds = 0;
            while going() {
                let flags = ["--sessions", SESSIONS, "--parallel", AT_ONCE];
                let output = site.load(FTP_PORTS, &flags).output().expect("ftp_load.py");
                assert!(output.status.success(), "{}", text(&output));
                rounds += 1;
            }
            rounds
        });
        let stream = scope.spawn(|| {
            let mut streams = 0;
            while going() {
                tcp::bulk(&lab, Host::Client, Family::V4, STREAM_PORT, STREAM);
                streams += 1;
            }
            streams
        });
        // A failure here must end the others, too.
        let reloaded = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for number in 0..RELOADS {
                reload(&lab, &mut dut, number, &files[(number + 1) % 2]);
            }
        }));
        over.store(true, Ordering::Relaxed);
        let done = (
            probes.join().expect("probes"),
            sessions.join().expect("sessions"),
            stream.join().expect("stream"),
        );
        reloaded.expect("reloads");
        done
    });
    ledger.close(&lab, &mut dut);
    let [probes, others] =
        receivers.map(|socket| std::iter::from_fn(|| socket.recv(&mut [0; 64]).ok()).count());
    assert_eq!(probes, 0, "of {sent} probes, some passed");
    assert!(others > 0, "what may pass does not");
    let lotus = dut.lotus().expect("lotus");
    let status = lotus.status();
    let told = lotus.events("rules_reloaded").len();
    crate::say(&format!(
        "reload: generation {} after {rounds} x {SESSIONS} sessions, {streams} streams, {sent} \
         probes; sweep at most {} us",
        status.number("generation"),
        status.json["sweep_us"]["max"],
    ));
    // A SIGHUP while one is waiting is that one.
    let least = RELOADS - RELOADS / SIGHUP_EVERY;
    assert!(told >= least && told <= RELOADS, "{told} reloads");
    assert_eq!(status.number("generation"), told as u64 + 1);
    assert!(lotus.events("reload_failed").is_empty());
    dut.stop();
}

/// By one of both ways.
fn reload(lab: &Lab, dut: &mut Dut<'_>, number: usize, file: &Path) {
    if number % SIGHUP_EVERY == SIGHUP_EVERY - 1 {
        let (new, own) = (lab.dir().join("new.nft"), lab.dir().join("rules.nft"));
        std::fs::copy(file, &new).expect("rules file");
        std::fs::rename(&new, &own).expect("rules file");
        dut.lotus().expect("lotus").proc.signal(Signal::HUP);
        return;
    }
    let mut command = lab.fw.command(&lotus_program());
    command.args(["reload", "--rules"]).arg(file);
    let output = command.output().expect("lotus reload");
    assert!(output.status.success(), "lotus reload: {}", text(&output));
}

/// Sends to both ports, from a socket that stays and from new ones; returns how many pairs.
fn probe(going: impl Fn() -> bool) -> u64 {
    let socket = || UdpSocket::bind((Host::Client.v4(), 0)).expect("a UDP socket");
    let (same, mut pairs) = (socket(), 0);
    while going() {
        for socket in [&same, &socket()] {
            for port in [PROBE_PORT, OPEN_PORT] {
                // A full queue is no error of the test.
                let _ = socket.send_to(b"probe", SocketAddr::new(Host::Server.v4(), port));
            }
            pairs += 1;
        }
        std::thread::sleep(PAUSE);
    }
    pairs
}
