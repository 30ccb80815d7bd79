//! What a million tracked flows cost: memory for each, and for how long the sweep locks any part
//! of the table. Run it with `cargo run --release --example memory [flows]`.
//!
//! The flows are TCP connections over IPv4 that went through the engine: SYN, SYN-ACK, ACK. The
//! memory is what the process has resident more than before, divided by the flows.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use lotus::conntrack::Time;
use lotus::engine::{Engine, Out, Settings, Shared, Verdict};
use lotus::observe::Counters;
use lotus::rules::{PortNames, Ruleset};
use lotus::wire::{Meta, Side, checksum};

/// As in lotus itself: what a flow costs is the allocator's matter, too.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const DEFAULT_FLOWS: u32 = 1_000_000;

const RULES: &str = r#"
table bridge memory {
  chain forward {
    type filter hook forward priority 0; policy drop;
    ct state invalid drop
    ct state established,related accept
    tcp dport 80 ct state new accept
  }
}
"#;

const SYN: u8 = 0x02;
const ACK: u8 = 0x10;
const RST: u8 = 0x04;

/// A segment of the connection with this number, from its client or from its server.
fn segment(flow: u32, from_client: bool, flags: u8) -> Vec<u8> {
    // 50,000 ports for each client.
    let client = Ipv4Addr::from_bits(Ipv4Addr::new(10, 0, 0, 1).to_bits() + flow / 50_000);
    let server = Ipv4Addr::new(192, 0, 2, 1);
    let ports = [(10_000 + flow % 50_000) as u16, 80];
    let (src, dst, [sport, dport]) = match from_client {
        true => (client, server, ports),
        false => (server, client, [ports[1], ports[0]]),
    };
    let is_syn = flags & SYN != 0;
    let seq: u32 = if is_syn { 1000 } else { 1001 };
    let ack: u32 = if flags & ACK != 0 { 1001 } else { 0 };
    let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0];
    frame.extend([0x45, 0, 0, 40, 0, 1, 0x40, 0, 64, 6, 0, 0]);
    frame.extend(src.octets());
    frame.extend(dst.octets());
    let sum = !checksum::fold(checksum::sum(&frame[14..34]));
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
    frame.extend(sport.to_be_bytes());
    frame.extend(dport.to_be_bytes());
    frame.extend(seq.to_be_bytes());
    frame.extend(ack.to_be_bytes());
    frame.extend([0x50, flags, 0xff, 0, 0, 0, 0, 0]);
    let pseudo = checksum::pseudo_header(src.into(), dst.into(), 6, 20);
    let sum = !checksum::fold(checksum::sum(&frame[34..]) + pseudo);
    frame[50..52].copy_from_slice(&sum.to_be_bytes());
    frame
}

struct Lab {
    shared: Arc<Shared>,
    engine: Engine,
    counters: Arc<Counters>,
    now: Time,
    out: Out,
}

impl Lab {
    fn new(capacity: usize) -> Lab {
        let names = PortNames {
            inside: "in".into(),
            outside: "out".into(),
        };
        let rules = Ruleset::parse("memory.nft", RULES, &names).expect("good rules");
        let mut settings = Settings::default();
        settings.conntrack.max_flows = capacity;
        let shared = Shared::new(rules, settings);
        let counters = Arc::new(Counters::default());
        Lab {
            engine: Engine::new(Arc::clone(&shared), Arc::clone(&counters)),
            shared,
            counters,
            now: Time::from_nanos(1),
            out: Out::default(),
        }
    }

    fn pass(&mut self, flow: u32, from_client: bool, flags: u8) {
        let side = match from_client {
            true => Side::Inside,
            false => Side::Outside,
        };
        let mut frame = segment(flow, from_client, flags);
        let meta = Meta::default();
        let verdict = self
            .engine
            .process(side, &mut frame, &meta, self.now, &mut self.out);
        assert_eq!(verdict, Verdict::Forward, "flow {flow}, flags {flags}");
    }

    fn connect(&mut self, flow: u32) {
        self.pass(flow, true, SYN);
        self.pass(flow, false, SYN | ACK);
        self.pass(flow, true, ACK);
    }

    /// One look at each part, as the control thread has it.
    fn sweep(&mut self, times_ns: &mut Histogram<u64>) {
        for _ in 0..self.shared.parts() {
            let begun = Instant::now();
            self.shared.tick(self.now, 1, &self.counters);
            let took = u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
            times_ns.saturating_record(took);
        }
    }
}

/// Resident bytes of this process (proc(5), statm).
fn resident_bytes() -> u64 {
    const PAGE_BYTES: u64 = 4096;
    let text = std::fs::read_to_string("/proc/self/statm").expect("/proc");
    let pages = text.split(' ').nth(1).expect("a second number");
    pages.parse::<u64>().expect("a number") * PAGE_BYTES
}

fn main() {
    let flows = std::env::args().nth(1).map_or(DEFAULT_FLOWS, |text| {
        text.parse().expect("a number of flows")
    });
    let at_start = resident_bytes();
    let mut lab = Lab::new(flows as usize);
    let empty = resident_bytes();
    let each = |bytes: u64| bytes.saturating_sub(at_start) as f64 / f64::from(flows);
    println!(
        "an empty table for {flows} flows: {:.1} MiB",
        (empty - at_start) as f64 / f64::from(1 << 20)
    );
    let begun = Instant::now();
    (0..flows).for_each(|flow| lab.connect(flow));
    let took = begun.elapsed();
    assert_eq!(lab.shared.totals().flows, u64::from(flows));
    println!(
        "{flows} connections: {:.1} bytes a flow, {:.0} ns a segment",
        each(resident_bytes()),
        took.as_nanos() as f64 / f64::from(flows) / 3.0
    );
    let begun = Instant::now();
    (0..flows).for_each(|at| {
        // In an order that no cache foresees.
        let flow = (u64::from(at) * 2_654_435_761 % u64::from(flows)) as u32;
        lab.pass(flow, true, ACK);
    });
    let took = begun.elapsed();
    println!(
        "one more segment of each, in no order: {:.0} ns a segment",
        took.as_nanos() as f64 / f64::from(flows)
    );
    let mut times_ns = Histogram::new_with_max(10_000_000_000, 2).expect("constant bounds");
    for _ in 0..5 {
        lab.sweep(&mut times_ns);
    }
    println!(
        "sweep of one of {} parts: p50 {:.1} us, p99 {:.1} us, max {:.1} us",
        lab.shared.parts(),
        times_ns.value_at_quantile(0.5) as f64 / 1e3,
        times_ns.value_at_quantile(0.99) as f64 / 1e3,
        times_ns.max() as f64 / 1e3
    );
    // Half of them go and others come, again and again.
    for round in 0..4 {
        for flow in (0..flows).filter(|flow| flow % 2 == round % 2) {
            lab.pass(flow, true, RST);
        }
        lab.now = lab.now + Duration::from_secs(11);
        let mut rest = Histogram::new_with_max(10_000_000_000, 2).expect("constant bounds");
        lab.sweep(&mut rest);
        assert_eq!(lab.shared.totals().flows, u64::from(flows) / 2);
        for flow in (0..flows).filter(|flow| flow % 2 == round % 2) {
            lab.connect(flow);
        }
    }
    println!(
        "after half of them went and came, four times: {:.1} bytes a flow",
        each(resident_bytes())
    );
    lab.now = lab.now + Duration::from_secs(500_000);
    lab.sweep(&mut times_ns);
    assert_eq!(lab.shared.totals().flows, 0);
    println!(
        "when all are gone: {:.1} MiB",
        resident_bytes().saturating_sub(at_start) as f64 / f64::from(1 << 20)
    );
}
