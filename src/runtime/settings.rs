//! Every limit and time that can be set, in one place: `--set name=value`.

use std::time::Duration;

use super::worker::Polling;
use crate::engine;
use crate::io::BATCH_FRAMES;
use crate::io::afpacket::{self, Geometry};
use crate::io::quiet::QuietMethod;

/// The settings of the whole program.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Connection tracking and the FTP helper.
    pub engine: engine::Settings,
    /// Rings and polling.
    pub io: IoSettings,
}

/// Settings of packet input and output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IoSettings {
    /// Slots of each receive ring; each worker has one for each port.
    pub ring_slots: usize,
    /// How a worker waits for frames.
    pub polling: Polling,
    /// How the host's own network stack is kept silent on the ports.
    pub quiet: QuietMethod,
}

impl Default for IoSettings {
    fn default() -> Self {
        IoSettings {
            ring_slots: Geometry::default().slots,
            polling: Polling::default(),
            quiet: QuietMethod::Auto,
        }
    }
}

/// One row of the table of settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingInfo {
    /// As in `--set name=value`.
    pub name: &'static str,
    /// What the number counts; empty for words and plain numbers.
    pub unit: &'static str,
    /// The value that it has.
    pub value: String,
    /// What it does.
    pub help: &'static str,
}

/// A setting that cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingError {
    /// Not of the form name=value.
    #[error("'{0}' is not of the form name=value; `lotus settings` lists all names")]
    Form(String),
    /// There is no such setting.
    #[error("there is no setting '{name}'{}; `lotus settings` lists all", hint(.nearest))]
    Unknown {
        /// What was given.
        name: String,
        /// What may have been meant.
        nearest: Option<&'static str>,
    },
    /// The value does not fit.
    #[error("{name}={value}: {why}")]
    Value {
        /// The setting.
        name: String,
        /// What was given.
        value: String,
        /// What is allowed.
        why: String,
    },
}

fn hint(nearest: &Option<&'static str>) -> String {
    nearest
        .map(|name| format!(", do you mean '{name}'?"))
        .unwrap_or_default()
}

impl Settings {
    /// Makes one setting, given as `name=value`.
    ///
    /// # Errors
    ///
    /// See [`SettingError`].
    pub fn assign(&mut self, assignment: &str) -> Result<(), SettingError> {
        let (name, value) = assignment
            .split_once('=')
            .ok_or_else(|| SettingError::Form(assignment.to_owned()))?;
        self.set(name.trim(), value.trim())
    }

    /// Makes one setting.
    ///
    /// # Errors
    ///
    /// See [`SettingError`].
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), SettingError> {
        let refused = |why| SettingError::Value {
            name: name.to_owned(),
            value: value.to_owned(),
            why,
        };
        if let Some(entry) = IO_TABLE.iter().find(|entry| entry.name == name) {
            return (entry.parse)(&mut self.io, value).map_err(refused);
        }
        self.engine.set(name, value).map_err(|error| match error {
            engine::SettingError::Unknown(ref name) => {
                let nearest = nearest(name);
                let name = name.clone();
                SettingError::Unknown { name, nearest }
            }
            engine::SettingError::Value { expected, .. } => {
                refused(format!("it must be {expected}"))
            }
            engine::SettingError::Profiles => refused(error.to_string()),
        })
    }

    /// All settings with these values.
    #[must_use]
    pub fn list(&self) -> Vec<SettingInfo> {
        let io = IO_TABLE.iter().map(|entry| SettingInfo {
            name: entry.name,
            unit: entry.unit,
            value: (entry.show)(&self.io),
            help: entry.help,
        });
        let engine = self.engine.list().into_iter().map(|entry| {
            // The engine shows values with their unit behind them.
            let (value, unit) = entry.value.split_once(' ').unwrap_or((&entry.value, ""));
            let unit = if unit == "s" { "s" } else { "" };
            SettingInfo {
                name: entry.name,
                unit,
                value: value.to_owned(),
                help: entry.help,
            }
        });
        io.chain(engine).collect()
    }
}

struct Entry {
    name: &'static str,
    unit: &'static str,
    help: &'static str,
    parse: fn(&mut IoSettings, &str) -> Result<(), String>,
    show: fn(&IoSettings) -> String,
}

/// Fewer slots than a batch would stall the ring.
const RING_SLOTS: std::ops::RangeInclusive<usize> = BATCH_FRAMES..=afpacket::SLOTS_MAX;
const SPIN_MAX_US: u64 = 1_000_000;

const IO_TABLE: [Entry; 3] = [
    Entry {
        name: "ring.slots",
        unit: "frames",
        help: "Slots of each receive ring (one for each worker and port). More slots bear longer \
               bursts and cost about 2 KiB of kernel memory each.",
        parse: |io, value| {
            io.ring_slots = number(value, RING_SLOTS)?;
            Ok(())
        },
        show: |io| io.ring_slots.to_string(),
    },
    Entry {
        name: "poll.spin_us",
        unit: "us",
        help: "How long a worker goes on looking for frames before it sleeps, and up to eight times \
               as long while they come soon after it fell asleep; 'always' never sleeps (lowest \
               latency, one whole core for each worker, as --spin).",
        parse: |io, value| {
            io.polling = match value {
                "always" => Polling::Spin,
                _ => Polling::Adaptive {
                    spin: Duration::from_micros(number(value, 0..=SPIN_MAX_US)?),
                },
            };
            Ok(())
        },
        show: |io| match io.polling {
            Polling::Spin => "always".to_owned(),
            Polling::Adaptive { spin } => spin.as_micros().to_string(),
        },
    },
    Entry {
        name: "quiet.method",
        unit: "",
        help: "How the host's own network stack is kept silent on the two ports: 'tcx' is a BPF \
               program that vanishes with lotus (Linux 6.6), 'nft' an nftables chain at ingress, \
               'auto' the first of them that the kernel has.",
        parse: |io, value| {
            io.quiet = match value {
                "auto" => QuietMethod::Auto,
                "tcx" => QuietMethod::Tcx,
                "nft" => QuietMethod::Nft,
                _ => return Err("it must be auto, tcx or nft".to_owned()),
            };
            Ok(())
        },
        show: |io| method_name(io.quiet).to_owned(),
    },
];

/// The word for a method, as in `quiet.method=tcx`.
#[must_use]
pub(super) fn method_name(method: QuietMethod) -> &'static str {
    match method {
        QuietMethod::Auto => "auto",
        QuietMethod::Tcx => "tcx",
        QuietMethod::Nft => "nft",
    }
}

fn number<N>(text: &str, range: std::ops::RangeInclusive<N>) -> Result<N, String>
where
    N: std::str::FromStr + PartialOrd + std::fmt::Display,
{
    text.parse()
        .ok()
        .filter(|number| range.contains(number))
        .ok_or_else(|| {
            format!(
                "it must be a whole number from {} to {}",
                range.start(),
                range.end()
            )
        })
}

/// The setting whose name is least different from what was typed, if that is near enough.
fn nearest(typed: &str) -> Option<&'static str> {
    /// More slips than this make another word.
    const SLIPS: usize = 3;
    let last_part = |name: &str| name.rsplit('.').next().unwrap_or_default().to_owned();
    Settings::default()
        .list()
        .into_iter()
        .map(|info| {
            let whole = distance(typed, info.name);
            // The group was left out.
            let part = distance(typed, &last_part(info.name));
            (whole.min(part), info.name)
        })
        .filter(|&(distance, _)| distance <= SLIPS && distance < typed.chars().count())
        .min()
        .map(|(_, name)| name)
}

/// How many letters must be put in, left out or changed to make one word of another (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, to) in b.chars().enumerate() {
            let change = diagonal + usize::from(from != to);
            diagonal = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[row.len() - 1]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_can_be_set_again() {
        for info in Settings::default().list() {
            let mut settings = Settings::default();
            settings.set(info.name, &info.value).unwrap();
            let after = settings
                .list()
                .into_iter()
                .find(|other| other.name == info.name)
                .unwrap();
            assert_eq!(after, info);
            assert!(!info.help.is_empty());
        }
    }

    #[test]
    fn values_are_taken_and_bounded() {
        let mut settings = Settings::default();
        settings.assign("ring.slots = 512").unwrap();
        settings.assign("poll.spin_us=always").unwrap();
        settings.assign("quiet.method=nft").unwrap();
        let expected = IoSettings {
            ring_slots: 512,
            polling: Polling::Spin,
            quiet: QuietMethod::Nft,
        };
        assert_eq!(settings.io, expected);
        for (wrong, part) in [
            ("ring.slots=63", "from 64 to 65536"),
            ("ring.slots=-1", "from 64"),
            ("ring.slots=", "ring.slots=: it must be a whole number"),
            ("poll.spin_us=2000000", "from 0 to 1000000"),
            ("quiet.method=nope", "auto, tcx or nft"),
            (
                "conntrack.udp_timeout=soon",
                "it must be a number of seconds",
            ),
            (
                "conntrack.udp_timeou=5",
                "do you mean 'conntrack.udp_timeout'?",
            ),
            ("slots=5", "do you mean 'ring.slots'?"),
            ("spin_us=5", "do you mean 'poll.spin_us'?"),
            ("xyz=5", "no setting 'xyz'; "),
            ("ring.slots", "not of the form name=value"),
        ] {
            let message = settings.assign(wrong).unwrap_err().to_string();
            assert!(message.contains(part), "{wrong}: {message}");
        }
        assert_eq!(settings.io, expected);
    }
}
