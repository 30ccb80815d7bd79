//! The programs in `benches/gen`: how tests run them, and that what they print is true. Benchmarks
//! and tests stand on them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::dut::{Config, Dut, lotus_only, strict_rules};
use crate::net::{Host, Lab, Ns, Proc};

/// Starts one of the programs in a namespace.
pub(crate) fn start(lab: &Lab, ns: &Ns, name: &str, arguments: &[&str]) -> Proc {
    let mut command = ns.command(&generator(name).display().to_string());
    command.args(arguments);
    lab.start(command, name)
}

/// What it prints at its end, for which this waits.
pub(crate) fn report(run: &mut Proc) -> Value {
    let status = run.wait(Duration::from_secs(60));
    let output = run.output();
    assert!(status.success(), "{output}");
    let last = output.lines().last().unwrap_or_default();
    serde_json::from_str(last).unwrap_or_else(|error| panic!("{error}: {output}"))
}

/// Asks it to end, and returns what it prints then.
pub(crate) fn stop(run: &mut Proc) -> Value {
    if run.alive() {
        run.signal(Signal::TERM);
    }
    report(run)
}

/// One of the programs in `benches/gen`, built like lotus.
fn generator(name: &str) -> PathBuf {
    let beside = || {
        let lotus = Path::new(env!("CARGO_BIN_EXE_lotus"));
        lotus.parent().expect("a folder").join("examples")
    };
    let folder = std::env::var_os("LOTUS_E2E_GENERATORS").map_or_else(beside, PathBuf::from);
    let path = folder.join(name);
    assert!(
        path.is_file(),
        "{} is not there; build it: cargo build --examples",
        path.display()
    );
    path
}

/// Frames a second: so few that a machine that is busy elsewhere for 50 ms loses none.
const RATE: f64 = 4_000.0;

const TIME: f64 = 2.0;

/// The mean rate may be off by so much.
const RATE_ERROR: f64 = 0.01;

/// What is in flight when the sender ends has arrived after this.
const SETTLE: Duration = Duration::from_millis(300);

/// The sender keeps its rate; the receiver at the other end of the cable sees each frame, once, in
/// order, with a time that a cable can take.
#[test]
fn pktgen_counts_what_it_sends_and_receives() {
    let Some(lab) = Lab::new() else { return };
    let [sent, seen] = stamped(&lab, &lab.fw, Host::Client.port());
    let mean = sent["sent"].as_f64().expect("sent") / sent["secs"].as_f64().expect("secs");
    assert!((mean / RATE - 1.0).abs() < RATE_ERROR, "{sent}");
    assert_eq!(sent["refused"], 0, "{sent}");
    assert_eq!(seen["received"], sent["sent"], "{seen}");
    for nothing in ["lost", "reordered", "overrun"] {
        assert_eq!(seen[nothing], 0, "{seen}");
    }
    let latency = &seen["latency_us"];
    let [min, p50, p999, max] = ["min", "p50", "p999", "max"].map(|name| {
        let value = latency[name].as_f64();
        value.unwrap_or_else(|| panic!("{name}: {seen}"))
    });
    assert!(
        0.0 < min && min <= p50 && p50 <= p999 && p999 <= max,
        "{seen}"
    );
    assert!(p50 < 1_000.0, "{seen}");
}

/// What a bad wire did to frames, the receiver tells from their numbers and times.
#[test]
fn pktgen_sees_loss_order_and_delay() {
    let Some(lab) = Lab::new() else { return };
    let delay = ["--delay-us", "3000", "--late-us", "2000"];
    let fates = ["--loss", "10", "--duplicate", "0", "--reorder", "5"];
    let wire = lab.impair(&[&delay[..], &fates].concat());
    let [sent, seen] = stamped(&lab, &lab.fw, Host::Client.port());
    let fate = wire.stop();
    let number = |value: &Value, name: &str| value[name].as_i64().expect("a number");
    // The hosts themselves may say something (MLD, neighbours), and that may be lost, too.
    let others = number(&fate, "received") - number(&sent, "sent");
    let accounted = number(&seen, "received") + number(&fate, "lost");
    let beyond = accounted - number(&sent, "sent");
    assert!((0..=others).contains(&beyond), "{sent} {seen} {fate}");
    // Those behind the last that came can't be missed.
    let unseen = number(&fate, "lost") - number(&seen, "lost");
    assert!((0..20).contains(&unseen), "{seen} {fate}");
    // Late by less than the next frame's time, it is not overtaken.
    let late = number(&fate, "late");
    assert!(
        (late / 2..=late).contains(&number(&seen, "reordered")),
        "{seen} {fate}"
    );
    let latency = &seen["latency_us"];
    assert!(latency["min"].as_f64() > Some(3_000.0), "{seen}");
    assert!(latency["p99"].as_f64() > Some(4_000.0), "{seen}");
}

/// `--reply` is the other direction of the very flows that were sent: a firewall that lets nobody
/// in lets it in, and no other.
#[test]
fn pktgen_answers_its_own_flows() {
    if !lotus_only() {
        return;
    }
    const FLOWS: u64 = 200;
    let Some(lab) = Lab::new() else { return };
    let rule = "iifname \"fw-in\" meta l4proto { tcp, udp } th dport 5000 ct state new accept";
    let mut dut = Dut::start(
        &lab,
        &Config::new(Host::Server, strict_rules(Host::Server, true, rule)),
    );
    let lotus = dut.lotus().expect("lotus");
    let send = |host: Host, more: &[&str]| {
        let before = lotus.status();
        let flags = [
            "send",
            host.interface(),
            "--count",
            "--flows",
            "200",
            "--pps",
            "20000",
        ];
        let mut run = start(&lab, lab.ns(host), "pktgen", &[&flags, more].concat());
        assert_eq!(report(&mut run)["sent"], FLOWS);
        std::thread::sleep(SETTLE);
        let after = lotus.status();
        assert!(after.number("received") - before.number("received") >= FLOWS);
        after.number("forwarded") - before.number("forwarded")
    };
    assert_eq!(send(Host::Client, &[]), FLOWS);
    assert_eq!(send(Host::Server, &["--reply"]), FLOWS);
    assert_eq!(send(Host::Server, &["--reply", "--first", "200"]), 0);
    let [syn, ack] = [["--kind", "syn"], ["--kind", "ack"]];
    assert_eq!(send(Host::Client, &syn), FLOWS);
    assert_eq!(send(Host::Server, &["--kind", "syn-ack"]), FLOWS);
    assert_eq!(send(Host::Client, &ack), FLOWS);
    assert_eq!(
        send(Host::Server, &[&ack[..], &["--reply"]].concat()),
        FLOWS
    );
    dut.stop();
}

/// Connections and questions over a cable: all come to their end, over IPv4 and IPv6.
#[test]
fn talk_connects_and_asks() {
    let Some(lab) = Lab::new() else { return };
    let dut = Dut::bridge(&lab);
    lab.settle();
    let mut unfinished = 0;
    for address in [Host::Server.v4(), Host::Server.v6()] {
        let address = &address.to_string();
        let mut server = start(&lab, &lab.server, "talk", &["serve", address]);
        server.wait_for("ready", Duration::from_secs(10));
        let ask = |arguments: &[&str]| {
            report(&mut start(
                &lab,
                &lab.client,
                "talk",
                &[arguments, &["--secs", "1"]].concat(),
            ))
        };
        let made = ask(&["connect", address]);
        assert_eq!(made["failed"], 0, "{made}");
        assert!(made["connections"].as_u64() > Some(100), "{made}");
        // The server has closed first: its end remembers them, and this one is free of them, but
        // for those that were open when time was over.
        unfinished += made["unfinished"].as_u64().expect("a number");
        let waiting = |ns: &Ns| ns.run("ss -Htan state time-wait").lines().count() as u64;
        assert!(waiting(&lab.server) > 100, "{made}");
        let here = waiting(&lab.client);
        assert!(here <= unfinished, "{here} wait here: {made}");
        let place = match address.contains(':') {
            true => format!("[{address}]:5100"),
            false => format!("{address}:5100"),
        };
        for kind in ["udp", "tcp"] {
            let told = ask(&["ask", &place, "--kind", kind]);
            assert_eq!(told["lost"], 0, "{told}");
            assert!(told["answers"].as_u64() > Some(100), "{told}");
            assert!(told["p50_us"].as_f64() > Some(1.0), "{told}");
        }
        server.signal(Signal::TERM);
        assert!(
            server.wait(Duration::from_secs(5)).success(),
            "{}",
            server.output()
        );
    }
    dut.stop();
}

/// Sends stamped frames from the client to this interface. What the sender says, and the receiver.
fn stamped(lab: &Lab, at: &Ns, interface: &str) -> [Value; 2] {
    let mut sink = start(lab, at, "pktgen", &["sink", interface]);
    sink.wait_for("ready", Duration::from_secs(10));
    let [rate, time] = [RATE.to_string(), TIME.to_string()];
    let flags = [
        "send", "client0", "--stamp", "--pps", &rate, "--secs", &time,
    ];
    let sent = report(&mut start(lab, &lab.client, "pktgen", &flags));
    std::thread::sleep(SETTLE);
    [sent, stop(&mut sink)]
}
