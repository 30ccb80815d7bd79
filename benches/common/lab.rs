//! The engine as the benchmarks have it. [`Lab::judge`] is the one place where they call it.

use std::sync::Arc;
use std::time::Duration;

use lotus::conntrack::Time;
use lotus::engine::{Engine, Out, Parsed, Settings, Shared, Verdict};
use lotus::observe::Counters;
use lotus::rules::{PortNames, Ruleset};
use lotus::wire::Meta;

use super::BATCH;
use super::ring::Ring;

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

/// The time between two batches, at a million frames a second.
const BATCH_TIME: Duration = Duration::from_micros(64);

/// Longer than an unanswered flow lives.
const SILENCE: Duration = Duration::from_secs(130);

pub struct Lab {
    pub shared: Arc<Shared>,
    engine: Engine,
    counters: Arc<Counters>,
    now: Time,
    out: Out,
    parsed: [Parsed; BATCH],
}

pub fn ruleset() -> Ruleset {
    let names = PortNames {
        inside: "in".into(),
        outside: "out".into(),
    };
    Ruleset::parse("bench.nft", RULES, &names).expect("good rules")
}

/// What engines share whose table holds so many flows without being crowded.
pub fn shared_for(flows: u32) -> Arc<Shared> {
    let mut settings = Settings::default();
    settings.conntrack.max_flows = (flows as usize * 2).max(10_000);
    Shared::new(ruleset(), settings)
}

impl Lab {
    pub fn new(flows: u32) -> Lab {
        Lab::sharing(shared_for(flows))
    }

    /// One more worker's engine.
    pub fn sharing(shared: Arc<Shared>) -> Lab {
        let counters = Arc::new(Counters::default());
        Lab {
            engine: Engine::new(Arc::clone(&shared), Arc::clone(&counters)),
            shared,
            counters,
            now: Time::from_nanos(1),
            out: Out::default(),
            parsed: std::array::from_fn(|_| Parsed::default()),
        }
    }

    /// Has the engine judge a batch as a worker does; returns how many of its frames it lets through.
    pub fn judge(&mut self, ring: &mut Ring, batch: usize) -> usize {
        let (side, meta) = (ring.side(batch), Meta::default());
        let mut forwarded = 0;
        self.engine.begin_batch();
        for (frame, parsed) in ring.frames(batch).zip(&mut self.parsed) {
            self.engine.parse(frame, parsed);
        }
        for parsed in &self.parsed {
            self.engine.fetch(parsed);
        }
        for (frame, parsed) in ring.frames(batch).zip(&self.parsed) {
            let verdict = self
                .engine
                .judge(parsed, side, frame, &meta, self.now, &mut self.out);
            forwarded += usize::from(verdict == Verdict::Forward);
        }
        self.now = self.now + BATCH_TIME;
        forwarded
    }

    /// Time passes until no unanswered flow is left.
    pub fn forget(&mut self) {
        self.now = self.now + SILENCE;
        self.shared
            .tick(self.now, self.shared.parts(), &self.counters);
    }

    /// As a worker's thread would have it: the engine and its counters.
    pub fn into_engine(self) -> (Engine, Arc<Counters>, Time) {
        (self.engine, self.counters, self.now)
    }
}
