//! What `lotus status` and the last summary show.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::engine::Totals;
use crate::observe::{DropReason, Snapshot};

/// Version of the control protocol and of this record.
pub const PROTOCOL_VERSION: u32 = 1;

/// Numbers as they stand at one moment. `received`, `forwarded`, `dropped`, `held` and `ring_lost`
/// count frames.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)] // the names say it, and they are the JSON keys
pub struct Status {
    pub v: u32,
    pub version: String,
    pub uptime_s: u64,
    pub mode: Mode,
    pub inside: String,
    pub outside: String,
    pub workers: usize,
    pub rules: String,
    /// Counts the rulesets that were in force from 1.
    pub generation: u32,
    pub rules_loaded: String,
    /// What a reload reads; none with the built-in rules.
    pub rules_file: Option<String>,
    pub flows: u64,
    pub flows_begun: u64,
    pub sessions: u64,
    pub sessions_begun: u64,
    pub expectations: u64,
    pub ports_opened: u64,
    pub ports_used: u64,
    pub refused: u64,
    pub events_lost: u64,
    /// How long the sweep of one twentieth of the flow table takes.
    pub sweep_us: Spread,
    /// How long the sweep looks at one part of the flow table, which has a few locks that it takes
    /// one after the other: no lock is held for longer by it.
    pub sweep_lock_us: Spread,
    pub received: u64,
    pub forwarded: u64,
    pub dropped: u64,
    pub held: u64,
    pub generated: u64,
    /// Rejected packets that got no answer, because there had been too many.
    pub answers_suppressed: u64,
    pub ring_lost: u64,
    pub received_bytes: u64,
    pub forwarded_bytes: u64,
    pub dropped_bytes: u64,
    pub held_bytes: u64,
    /// Frames by reason, only reasons that occurred.
    pub drops: BTreeMap<String, u64>,
    /// By the name of the interface.
    pub per_port: BTreeMap<String, PortStatus>,
}

/// Where the values of a histogram lie, in microseconds, rounded up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)] // the names say it, and they are the JSON keys
pub struct Spread {
    pub p50: u64,
    pub p99: u64,
    pub max: u64,
}

/// Durations, in a histogram of fixed size: from a nanosecond to ten seconds, to 1 %.
#[derive(Debug)]
pub struct Durations(Histogram<u64>);

impl Durations {
    /// Adds one. What is longer than ten seconds counts as ten.
    pub fn record(&mut self, duration: Duration) {
        self.0
            .saturating_record(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX));
    }

    /// Where they lie.
    #[must_use]
    pub fn spread(&self) -> Spread {
        let us = |nanos: u64| nanos.div_ceil(1000);
        Spread {
            p50: us(self.0.value_at_quantile(0.5)),
            p99: us(self.0.value_at_quantile(0.99)),
            max: us(self.0.max()),
        }
    }
}

impl Default for Durations {
    fn default() -> Self {
        const TEN_SECONDS_NS: u64 = 10_000_000_000;
        const DIGITS: u8 = 2;
        Durations(Histogram::new_with_max(TEN_SECONDS_NS, DIGITS).expect("constant bounds"))
    }
}

/// Whether packets are judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// They are.
    Firewall,
    /// They are not: a diagnostic.
    Passthrough,
}

/// One port's part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)] // the names say it, and they are the JSON keys
pub struct PortStatus {
    pub side: String,
    pub mtu: u32,
    pub link: LinkState,
    pub received: u64,
    pub received_bytes: u64,
    /// Sent out of this port.
    pub forwarded: u64,
    pub forwarded_bytes: u64,
}

/// Whether frames can go through a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LinkState {
    /// They can.
    Up,
    /// The interface is there, but it is set down or its cable is out.
    Down,
    /// There is no interface of that name, or it is another one than before.
    Gone,
}

impl fmt::Display for LinkState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            LinkState::Up => "up",
            LinkState::Down => "down",
            LinkState::Gone => "gone",
        })
    }
}

/// What a [`Status`] is about, apart from its numbers.
#[derive(Clone, Debug)]
pub struct Subject {
    /// Whether packets are judged.
    pub mode: Mode,
    /// Names of the inside and the outside interface.
    pub names: [String; 2],
    /// MTU and link of each.
    pub links: [(u32, LinkState); 2],
    /// How many workers.
    pub workers: usize,
}

/// The rules by which packets are judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RulesInForce {
    /// Where they come from, and what they are, in a few words.
    pub rules: String,
    /// Which ones: the first ruleset is 1.
    pub generation: u32,
    /// When they came into force, as RFC 3339 has it.
    pub loaded: String,
    /// The whole path of what `--rules` named at the start.
    pub file: Option<String>,
}

impl Status {
    /// Puts the parts together.
    #[must_use]
    pub fn new(
        subject: &Subject,
        rules: RulesInForce,
        uptime: Duration,
        totals: &Totals,
        [sweep_us, sweep_lock_us]: [Spread; 2],
        traffic: &Snapshot,
    ) -> Status {
        let [received, forwarded, dropped] = [
            traffic.received_total(),
            traffic.forwarded_total(),
            traffic.dropped_total(),
        ];
        let port = |index: usize, side: &str| {
            let (mtu, link) = subject.links[index];
            let port = PortStatus {
                side: side.to_owned(),
                mtu,
                link,
                received: traffic.received[index].frames,
                received_bytes: traffic.received[index].bytes,
                forwarded: traffic.forwarded[index].frames,
                forwarded_bytes: traffic.forwarded[index].bytes,
            };
            (subject.names[index].clone(), port)
        };
        let drops = traffic
            .drops()
            .map(|(reason, drops)| (reason.name().to_owned(), drops.frames));
        Status {
            v: PROTOCOL_VERSION,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_s: uptime.as_secs(),
            mode: subject.mode,
            inside: subject.names[0].clone(),
            outside: subject.names[1].clone(),
            workers: subject.workers,
            rules: rules.rules,
            generation: rules.generation,
            rules_loaded: rules.loaded,
            rules_file: rules.file,
            flows: totals.flows,
            flows_begun: totals.flows_begun,
            sessions: totals.sessions,
            sessions_begun: totals.sessions_begun,
            expectations: totals.expectations,
            ports_opened: totals.ports_opened,
            ports_used: totals.ports_used,
            refused: totals.refused,
            events_lost: totals.events_lost,
            sweep_us,
            sweep_lock_us,
            received: received.frames,
            forwarded: forwarded.frames,
            dropped: dropped.frames,
            held: traffic.held.frames,
            generated: traffic.generated.frames,
            answers_suppressed: traffic.answers_suppressed,
            ring_lost: traffic.ring_lost,
            received_bytes: received.bytes,
            forwarded_bytes: forwarded.bytes,
            dropped_bytes: dropped.bytes,
            held_bytes: traffic.held.bytes,
            drops: drops.collect(),
            per_port: [port(0, "inside"), port(1, "outside")]
                .into_iter()
                .collect(),
        }
    }

    /// Frames that are neither forwarded, dropped nor held: in flight, or an error in counting.
    #[must_use]
    pub fn unaccounted(&self) -> i128 {
        let out = i128::from(self.forwarded) + i128::from(self.dropped) + i128::from(self.held);
        i128::from(self.received) - out
    }

    /// The numbers as an aligned text, one line each.
    #[must_use]
    pub fn traffic_lines(&self) -> Vec<String> {
        let mut table = Table::default();
        table.traffic("received", self.received, self.received_bytes);
        table.traffic("forwarded", self.forwarded, self.forwarded_bytes);
        table.traffic("dropped", self.dropped, self.dropped_bytes);
        let mut drops: Vec<_> = self.drops.iter().collect();
        drops.sort_by_key(|&(name, frames)| (std::cmp::Reverse(*frames), name));
        for (name, frames) in drops {
            let reason = DropReason::ALL.iter().find(|reason| reason.name() == name);
            let why = reason.map_or("", |reason| reason.explanation());
            table.line(&format!("  {name}"), *frames, why);
        }
        table.traffic("held", self.held, self.held_bytes);
        if self.generated > 0 {
            table.line(
                "of lotus's own",
                self.generated,
                "frames that lotus made (resets, ICMP errors)",
            );
        }
        if self.answers_suppressed > 0 {
            table.line(
                "no answer",
                self.answers_suppressed,
                "rejected without an answer, because there had been too many (reject.rate)",
            );
        }
        let lost =
            "frames lost before lotus looked at them (its rings were full, or it was stopped)";
        table.line("lost before", self.ring_lost, lost);
        if self.mode == Mode::Firewall {
            table.line(
                "flows",
                self.flows,
                &format!("now; {} begun", self.flows_begun),
            );
            let sessions = format!("FTP control connections now; {} begun", self.sessions_begun);
            table.line("FTP sessions", self.sessions, &sessions);
            let ports = format!(
                "open now; {} opened, {} of them used, {} commands refused",
                self.ports_opened, self.ports_used, self.refused
            );
            table.line("data ports", self.expectations, &ports);
            let Spread { p50, p99, max } = self.sweep_us;
            let sweep =
                format!("us at most for the sweep of a 20th of the flows; p50 {p50}, p99 {p99}");
            table.line("sweep", max, &sweep);
            let Spread { p50, p99, max } = self.sweep_lock_us;
            let look = format!("us at most that it locks any of them; p50 {p50}, p99 {p99}");
            table.line("sweep lock", max, &look);
            if self.events_lost > 0 {
                table.line(
                    "events lost",
                    self.events_lost,
                    "more came than could be written",
                );
            }
        }
        table.lines()
    }
}

/// For a person.
impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.workers == 1 {
            "worker"
        } else {
            "workers"
        };
        writeln!(
            f,
            "lotus {} between {} (inside) and {} (outside), {} {plural}, up {}",
            self.version,
            self.inside,
            self.outside,
            self.workers,
            human_duration(Duration::from_secs(self.uptime_s))
        )?;
        match self.mode {
            Mode::Firewall => writeln!(
                f,
                "rules: {} (generation {}, loaded {})",
                self.rules, self.generation, self.rules_loaded
            )?,
            Mode::Passthrough => writeln!(f, "PASSTHROUGH: nothing is judged, NOT a firewall")?,
        }
        let mut ports: Vec<_> = self.per_port.iter().collect();
        ports.sort_by_key(|(_, port)| port.side.clone());
        let width = ports
            .iter()
            .map(|(name, _)| name.len())
            .max()
            .unwrap_or_default();
        for (name, port) in ports {
            writeln!(
                f,
                "{:<7} {name:width$}  link {}, MTU {}, received {} frames ({}), sent {} frames ({})",
                port.side,
                port.link,
                port.mtu,
                grouped(port.received),
                human_bytes(port.received_bytes),
                grouped(port.forwarded),
                human_bytes(port.forwarded_bytes),
            )?;
        }
        for line in self.traffic_lines() {
            writeln!(f, "{line}")?;
        }
        Ok(())
    }
}

/// Rows of a name, a number and a remark.
#[derive(Debug, Default)]
struct Table {
    rows: Vec<(String, String, String)>,
}

impl Table {
    fn line(&mut self, name: &str, number: u64, remark: &str) {
        self.rows
            .push((name.to_owned(), grouped(number), remark.to_owned()));
    }

    fn traffic(&mut self, name: &str, frames: u64, bytes: u64) {
        self.line(name, frames, &format!("frames, {}", human_bytes(bytes)));
    }

    fn lines(&self) -> Vec<String> {
        let names = self
            .rows
            .iter()
            .map(|row| row.0.len())
            .max()
            .unwrap_or_default();
        let numbers = self
            .rows
            .iter()
            .map(|row| row.1.len())
            .max()
            .unwrap_or_default();
        self.rows
            .iter()
            .map(|(name, number, remark)| format!("{name:names$}  {number:>numbers$}  {remark}"))
            .map(|line| line.trim_end().to_owned())
            .collect()
    }
}

/// `1,234,567`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1.5 MB`: decimal units, as links are measured.
fn human_bytes(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["kB", "MB", "GB", "TB", "PB", "EB"];
    if bytes < 1000 {
        return format!("{bytes} bytes");
    }
    let mut scaled = bytes as f64 / 1000.0;
    let mut units = UNITS.iter();
    let mut unit = units.next();
    // 999.95 would be shown as 1000.0.
    while scaled >= 999.95 {
        let Some(next) = units.next() else { break };
        scaled /= 1000.0;
        unit = Some(next);
    }
    format!("{scaled:.1} {}", unit.unwrap_or(&""))
}

/// `2 d 3 h`, `4 min 5 s`, `6 s`: the two largest units.
#[must_use]
pub fn human_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let parts = [
        (seconds / 86_400, "d"),
        (seconds / 3600 % 24, "h"),
        (seconds / 60 % 60, "min"),
        (seconds % 60, "s"),
    ];
    let first = parts
        .iter()
        .position(|&(count, _)| count > 0)
        .unwrap_or(parts.len() - 1);
    let mut text = String::new();
    for (count, unit) in parts.iter().skip(first).take(2) {
        let gap = if text.is_empty() { "" } else { " " };
        let _ = write!(text, "{gap}{count} {unit}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::Counters;

    fn status() -> Status {
        let counters = Counters::default();
        counters.received(0, 1000);
        counters.received(0, 500);
        counters.received(1, 60);
        counters.forwarded(1, 1000);
        counters.dropped(DropReason::PolicyDrop, 500);
        counters.held(60);
        counters.ring_lost(4);
        counters.answer_suppressed();
        let subject = Subject {
            mode: Mode::Firewall,
            names: ["eth1".to_owned(), "eth2".to_owned()],
            links: [(1500, LinkState::Up), (9000, LinkState::Down)],
            workers: 2,
        };
        let rules = RulesInForce {
            rules: "3 rules".to_owned(),
            generation: 7,
            loaded: "2026-11-28T22:58:00.000Z".to_owned(),
            file: None,
        };
        let totals = Totals {
            flows: 5,
            ports_opened: 8,
            ..Totals::default()
        };
        Status::new(
            &subject,
            rules,
            Duration::from_secs(3725),
            &totals,
            [Spread::default(); 2],
            &Snapshot::of([&counters]),
        )
    }

    #[test]
    fn json_has_plain_numbers_under_the_promised_names() {
        let json = serde_json::to_value(status()).unwrap();
        for (key, number) in [
            ("v", 1),
            ("uptime_s", 3725),
            ("workers", 2),
            ("generation", 7),
            ("flows", 5),
            ("ports_opened", 8),
            ("received", 3),
            ("forwarded", 1),
            ("dropped", 1),
            ("held", 1),
            ("ring_lost", 4),
            ("answers_suppressed", 1),
            ("received_bytes", 1560),
            ("dropped_bytes", 500),
        ] {
            assert_eq!(json[key], number, "{key}");
        }
        assert_eq!(json["drops"], serde_json::json!({"policy_drop": 1}));
        assert_eq!(json["per_port"]["eth1"]["received"], 2);
        assert_eq!(json["per_port"]["eth1"]["link"], "up");
        assert_eq!(json["per_port"]["eth2"]["link"], "down");
        assert_eq!(json["per_port"]["eth2"]["forwarded_bytes"], 1000);
        let back: Status = serde_json::from_value(json).unwrap();
        assert_eq!(back, status());
        assert_eq!(back.unaccounted(), 0);
    }

    #[test]
    fn a_person_sees_aligned_columns_and_why_frames_were_dropped() {
        let text = status().to_string();
        assert!(text.contains("2 workers, up 1 h 2 min"), "{text}");
        let rules = "rules: 3 rules (generation 7, loaded 2026-11-28T22:58:00.000Z)";
        assert!(text.contains(rules), "{text}");
        assert!(
            text.contains("inside  eth1  link up, MTU 1500, received 2 frames"),
            "{text}"
        );
        let dropped = text
            .lines()
            .find(|line| line.contains("policy_drop"))
            .unwrap();
        assert!(
            dropped.ends_with(DropReason::PolicyDrop.explanation()),
            "{dropped}"
        );
        let lines = status().traffic_lines();
        let ends: Vec<_> = lines
            .iter()
            .map(|line| line.find(|c: char| c.is_ascii_digit()).unwrap())
            .collect();
        assert!(ends.windows(2).all(|pair| pair[0] == pair[1]), "{lines:?}");
    }

    #[test]
    fn durations_are_told_as_a_spread() {
        let mut sweep = Durations::default();
        assert_eq!(sweep.spread(), Spread::default());
        (0..99).for_each(|_| sweep.record(Duration::from_micros(10)));
        sweep.record(Duration::from_secs(3600));
        let Spread { p50, p99, max } = sweep.spread();
        assert!(
            (10..=11).contains(&p50) && (10..=11).contains(&p99),
            "{p50} {p99}"
        );
        assert!((10_000_000..=10_100_000).contains(&max), "{max}");
    }

    #[test]
    fn numbers_as_people_read_them() {
        assert_eq!(
            [grouped(0), grouped(999), grouped(1_234_567)],
            ["0", "999", "1,234,567"]
        );
        let bytes = [999, 1000, 999_949, 999_950, 2_500_000_000].map(human_bytes);
        assert_eq!(
            bytes,
            ["999 bytes", "1.0 kB", "999.9 kB", "1.0 MB", "2.5 GB"]
        );
        assert_eq!(human_bytes(u64::MAX), "18.4 EB");
        let spans = [0, 59, 60, 90_061].map(|s| human_duration(Duration::from_secs(s)));
        assert_eq!(spans, ["0 s", "59 s", "1 min 0 s", "1 d 1 h"]);
    }
}
