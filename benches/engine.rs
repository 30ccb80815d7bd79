//! What the engine takes for one packet, in memory: no rings, no kernel.
//!
//! `cargo bench --bench engine`; times are for one batch of 64 packets, rates for packets.

use std::hint::black_box;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use lotus::conntrack::Time;
use lotus::engine::{Engine, Out, Settings, Shared, Verdict};
use lotus::observe::Counters;
use lotus::rules::{PortNames, Ruleset};
use lotus::wire::{Meta, Side};
use pnet::packet::ethernet::{EtherTypes, MutableEthernetPacket};
use pnet::packet::ip::IpNextHeaderProtocols;
use pnet::packet::ipv4::{self, MutableIpv4Packet};
use pnet::packet::udp::MutableUdpPacket;

const BATCH: usize = 64;
const FRAME_BYTES: usize = 60;

/// What a firewall in front of an FTP server says.
const RULES: &str = r#"
table bridge bench {
  ct helper ftp-std { type "ftp" protocol tcp; }
  chain forward {
    type filter hook forward priority 0; policy drop;
    ether type arp accept
    icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept
    ct state invalid drop
    ct state established,related accept
    iifname "out" ip daddr 192.0.2.20 tcp dport 21 ct state new ct helper set "ftp-std" accept
    iifname "out" meta l4proto { tcp, udp } th dport 5000-5999 ct state new accept
  }
}
"#;

fn udp(flow: usize) -> Vec<u8> {
    let mut frame = vec![0; FRAME_BYTES];
    let (from, to) = (Ipv4Addr::new(192, 0, 2, 100), Ipv4Addr::new(192, 0, 2, 200));
    if let Some(mut ether) = MutableEthernetPacket::new(&mut frame) {
        ether.set_ethertype(EtherTypes::Ipv4);
    }
    if let Some(mut ip) = MutableIpv4Packet::new(&mut frame[14..]) {
        ip.set_version(4);
        ip.set_header_length(5);
        ip.set_total_length((FRAME_BYTES - 14) as u16);
        ip.set_ttl(64);
        ip.set_next_level_protocol(IpNextHeaderProtocols::Udp);
        ip.set_source(from);
        ip.set_destination(to);
        ip.set_checksum(ipv4::checksum(&ip.to_immutable()));
    }
    if let Some(mut udp) = MutableUdpPacket::new(&mut frame[34..]) {
        udp.set_source((1024 + flow % 60_000) as u16);
        udp.set_destination((5000 + flow / 60_000) as u16);
        udp.set_length((FRAME_BYTES - 34) as u16);
    }
    frame
}

struct Lab {
    engine: Engine,
    frames: Vec<Vec<u8>>,
    next: usize,
    now: Time,
    out: Out,
}

impl Lab {
    fn new(flows: usize) -> Lab {
        let names = PortNames {
            inside: "in".into(),
            outside: "out".into(),
        };
        let rules = Ruleset::parse("bench.nft", RULES, &names).expect("good rules");
        let mut settings = Settings::default();
        settings.conntrack.max_flows = (flows * 2).max(10_000);
        let shared = Shared::new(rules, settings);
        let engine = Engine::new(shared, Arc::new(Counters::default()));
        let frames = (0..flows).map(udp).collect();
        Lab {
            engine,
            frames,
            next: 0,
            now: Time::from_nanos(1),
            out: Out::default(),
        }
    }

    fn batch(&mut self) {
        for _ in 0..BATCH {
            let frame = &mut self.frames[self.next];
            let meta = Meta::default();
            let verdict = self
                .engine
                .process(Side::Outside, frame, &meta, self.now, &mut self.out);
            assert_eq!(black_box(verdict), Verdict::Forward);
            self.next = (self.next + 1) % self.frames.len();
        }
        self.now = self.now + Duration::from_micros(64);
    }
}

fn established(c: &mut Criterion) {
    let mut group = c.benchmark_group("established_udp");
    group.throughput(Throughput::Elements(BATCH as u64));
    for flows in [1, 1_000, 100_000, 1_000_000] {
        group.bench_function(BenchmarkId::from_parameter(flows), |b| {
            let mut lab = Lab::new(flows);
            (0..flows.div_ceil(BATCH)).for_each(|_| lab.batch());
            lab.next = 0;
            b.iter(|| lab.batch());
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(3));
    targets = established
}
criterion_main!(benches);
