//! Other rules for a firewall that runs: they are checked first, and come into force as a whole or
//! not at all.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::{io, thread};

use anstream::adapter::strip_str;
use crossbeam::channel::{self, Sender};
use serde::{Deserialize, Serialize};

use super::clock::WallTime;
use super::rules_file::{self, RulesText};
use super::status::{Mode, PROTOCOL_VERSION, RulesInForce};
use super::worker;
use crate::engine::Shared;
use crate::observe::{Event, EventKind};
use crate::rules::{Diagnostics, PortNames, Ruleset};

/// What an answer has room for: of a file with errors everywhere, the first few hundred.
const REPORT_BYTES: usize = 128 << 10;

/// What became of a reload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReloadAnswer {
    /// Version of the control protocol.
    pub v: u32,
    /// The new rules are in force.
    pub ok: bool,
    /// The number of the rules that are in force now.
    pub generation: u32,
    /// What these are, in a few words.
    pub rules: String,
    /// What is wrong, as `lotus check` shows it, with colours. Empty if all is well.
    pub report: String,
    /// The errors of the file as data, as `lotus check --json` prints them.
    pub errors: Vec<serde_json::Value>,
}

/// The rules in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RulesAnswer {
    /// Version of the control protocol.
    pub v: u32,
    /// Their number.
    pub generation: u32,
    /// What they are, in a few words.
    pub rules: String,
    /// As `nft list ruleset` prints them, with the numbers of the counters.
    pub listing: String,
    /// The counters alone.
    pub counters: Vec<CounterAnswer>,
}

/// A counter of the rules in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CounterAnswer {
    /// The line of its file on which its rule begins, from 1.
    pub line: u32,
    /// The rule, or the name of the counter.
    pub rule: String,
    /// Packets.
    pub packets: u64,
    /// Bytes of those packets' frames.
    pub bytes: u64,
}

/// What is wrong with the new rules.
#[derive(Debug, Default)]
struct Report {
    text: String,
    errors: Vec<serde_json::Value>,
}

/// Puts other rules into force.
#[derive(Debug)]
pub(super) struct Reloader {
    shared: Arc<Shared>,
    mode: Mode,
    ports: PortNames,
    /// What `--rules` named at the start.
    file: Option<PathBuf>,
    in_force: Mutex<RulesInForce>,
    /// One reload at a time, so that the events tell them in the order in which they happened.
    turn: Mutex<()>,
}

impl Reloader {
    /// `rules` says in a few words what is in force from the start.
    pub(super) fn new(
        shared: Arc<Shared>,
        mode: Mode,
        [inside, outside]: [String; 2],
        file: Option<&Path>,
        rules: String,
    ) -> Reloader {
        // Whoever asks to have it read again may be in another folder.
        let file = file.map(|path| std::path::absolute(path).unwrap_or_else(|_| path.into()));
        Reloader {
            in_force: Mutex::new(RulesInForce {
                rules,
                generation: shared.generation(),
                loaded: WallTime::now().to_string(),
                file: file.as_ref().map(|path| path.display().to_string()),
            }),
            shared,
            mode,
            ports: PortNames { inside, outside },
            file,
            turn: Mutex::default(),
        }
    }

    /// What is in force now.
    pub(super) fn in_force(&self) -> RulesInForce {
        lock(&self.in_force).clone()
    }

    /// The rules in force, with the numbers of their counters.
    pub(super) fn rules(&self) -> RulesAnswer {
        let RulesInForce {
            generation, rules, ..
        } = self.in_force();
        self.shared.with_rules(|ruleset| RulesAnswer {
            v: PROTOCOL_VERSION,
            generation,
            rules,
            listing: ruleset.list(),
            counters: ruleset
                .counters()
                .map(|counter| CounterAnswer {
                    line: counter.line,
                    rule: counter.rule.to_owned(),
                    packets: counter.packets,
                    bytes: counter.bytes,
                })
                .collect(),
        })
    }

    /// Reads the file of the start again, by its name: it may have been replaced by another one.
    pub(super) fn read_again(&self) -> ReloadAnswer {
        let rules = match &self.file {
            Some(path) => rules_file::read(path).map_err(|error| error.to_string()),
            None => Err(NO_FILE.to_owned()),
        };
        self.finish(rules.map_err(Report::of_text))
    }

    /// Takes rules that somebody has read.
    pub(super) fn take(&self, rules: RulesText) -> ReloadAnswer {
        self.finish(Ok(rules))
    }

    fn finish(&self, rules: Result<RulesText, Report>) -> ReloadAnswer {
        let _turn = lock(&self.turn);
        let outcome = rules.and_then(|rules| self.put_into_force(&rules));
        let RulesInForce {
            generation, rules, ..
        } = self.in_force();
        let kind = match &outcome {
            Ok(()) => EventKind::RulesReloaded {
                generation,
                rules: rules.clone(),
            },
            Err(report) => EventKind::ReloadFailed {
                generation,
                why: strip_str(&report.text).to_string(),
            },
        };
        let event = Event { session: 0, kind };
        self.shared.events().push(worker::clock().as_nanos(), event);
        let ok = outcome.is_ok();
        let Report { text, errors } = outcome.err().unwrap_or_default();
        ReloadAnswer {
            v: PROTOCOL_VERSION,
            ok,
            generation,
            rules,
            report: text,
            errors,
        }
    }

    fn put_into_force(&self, text: &RulesText) -> Result<(), Report> {
        let name = &text.name;
        if self.mode == Mode::Passthrough {
            return Err(Report::of_text(PASSTHROUGH.to_owned()));
        }
        // It would be a good file that lets everything pass.
        if text.text.trim().is_empty() {
            return Err(Report::of_text(format!(
                "{name}: the file is empty, perhaps because it is just being written; if everything \
                 is to pass, say so with a chain whose policy is accept"
            )));
        }
        let ruleset = Ruleset::load(text.source(), &self.ports)
            .map_err(|problems| Report::of_problems(&problems))?;
        let rules = format!("{name}: {}", ruleset.summary());
        let generation = self
            .shared
            .replace_rules(ruleset)
            .map_err(|error| Report::of_text(format!("{name}: {error}")))?;
        let mut in_force = lock(&self.in_force);
        in_force.rules = rules;
        in_force.generation = generation;
        in_force.loaded = WallTime::now().to_string();
        Ok(())
    }
}

const NO_FILE: &str = "there is no file to read again: the built-in rules are in force, as lotus was \
     started without --rules; `lotus reload --rules FILE` puts a file in their place";
const PASSTHROUGH: &str = "there are no rules to reload: lotus was started with --passthrough and \
     judges nothing";

impl Report {
    fn of_text(text: String) -> Report {
        Report {
            text,
            errors: Vec::new(),
        }
    }

    fn of_problems(problems: &Diagnostics) -> Report {
        let mut room = REPORT_BYTES;
        let errors = problems
            .iter()
            .map_while(|problem| {
                let size = serde_json::to_vec(&problem).ok()?.len();
                room = room.checked_sub(size)?;
                serde_json::to_value(&problem).ok()
            })
            .collect();
        let mut text = problems.render(true);
        if text.len() > REPORT_BYTES {
            text.truncate(text.floor_char_boundary(REPORT_BYTES));
            text.push_str(&format!(
                "\x1b[0m\n...\nmore does not fit here: `lotus check` shows all {} errors",
                problems.len()
            ));
        }
        Report { text, errors }
    }
}

/// The thread that reads the file again, so that the control thread goes on meanwhile. It ends with
/// this.
#[derive(Debug)]
pub(super) struct Reading(Sender<()>);

impl Reading {
    pub(super) fn start(reloader: Arc<Reloader>) -> io::Result<Reading> {
        // One request may wait: it sees whatever was written before it.
        let (ask, asked) = channel::bounded(1);
        thread::Builder::new()
            .name("lotus-reload".to_owned())
            .spawn(move || {
                for () in asked {
                    // The event tells what became of it.
                    let _ = reloader.read_again();
                }
            })?;
        Ok(Reading(ask))
    }

    pub(super) fn ask(&self) {
        // One that waits already serves as well.
        let _ = self.0.try_send(());
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::engine::Settings;

    fn reloader(mode: Mode, file: Option<&Path>) -> Reloader {
        let names = ["in".to_owned(), "out".to_owned()];
        let ports = PortNames {
            inside: "in".to_owned(),
            outside: "out".to_owned(),
        };
        let ruleset = Ruleset::parse("test", GOOD, &ports).unwrap();
        let shared = Shared::new(ruleset, Settings::default());
        Reloader::new(shared, mode, names, file, "the first".to_owned())
    }

    const GOOD: &str =
        "table inet t { chain c { type filter hook forward priority 0; policy drop; } }";

    fn text(text: impl Into<String>) -> RulesText {
        RulesText {
            name: "f.nft".to_owned(),
            text: text.into(),
            includes: Vec::new(),
        }
    }

    fn told(reloader: &Reloader) -> String {
        let event = reloader.shared.events().pop().unwrap().event;
        event.to_string()
    }

    #[test]
    fn good_rules_are_in_force_and_told() {
        let reloader = reloader(Mode::Firewall, None);
        assert_eq!(reloader.in_force().rules, "the first");
        let answer = reloader.take(text(GOOD));
        assert!(answer.ok && answer.report.is_empty(), "{answer:?}");
        let RulesInForce {
            rules, generation, ..
        } = reloader.in_force();
        assert_eq!((generation, reloader.shared.generation()), (2, 2));
        assert_eq!((answer.generation, &answer.rules), (2, &rules));
        assert_eq!(rules, "f.nft: table inet t: 0 rules, policy drop");
        assert_eq!(
            told(&reloader),
            format!("rules reloaded: generation 2: {rules}")
        );
    }

    #[test]
    fn what_is_refused_leaves_the_rules_in_force() {
        let missing = Path::new("/nonexistent/rules.nft");
        for (answer, part) in [
            (
                reloader(Mode::Firewall, None).take(text("table")),
                "f.nft:1:",
            ),
            (
                reloader(Mode::Firewall, None).take(text(" \n")),
                "the file is empty",
            ),
            (
                reloader(Mode::Passthrough, None).take(text(GOOD)),
                "--passthrough",
            ),
            (
                reloader(Mode::Firewall, None).read_again(),
                "started without --rules",
            ),
            (
                reloader(Mode::Firewall, Some(missing)).read_again(),
                "no such file",
            ),
        ] {
            assert!(!answer.ok && answer.report.contains(part), "{answer:?}");
            assert_eq!((answer.generation, &*answer.rules), (1, "the first"));
        }
        let reloader = reloader(Mode::Firewall, None);
        reloader.take(text("table"));
        let told = told(&reloader);
        assert!(told.starts_with("rules not reloaded, generation 1 stays in force"));
        assert!(
            told.contains("f.nft:1:") && !told.contains('\u{1b}'),
            "{told}"
        );
    }

    #[test]
    fn an_answer_is_bounded_whatever_is_wrong() {
        let reloader = reloader(Mode::Firewall, None);
        let wrong = "table inet t { chain c { type filter hook forward priority 0;\n".to_owned()
            + &"tcp dport ftpü drop\n".repeat(5000)
            + "} }";
        let answer = reloader.take(text(wrong));
        assert!(answer.errors.len() > 100);
        assert!(answer.report.ends_with("all 5000 errors"));
        let json = serde_json::to_vec(&answer).unwrap().len();
        assert!(json < 4 * REPORT_BYTES, "{json}");
    }

    #[test]
    fn whoever_asks_for_a_reading_gets_what_was_written_before() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rules.nft");
        let reloader = Arc::new(reloader(Mode::Firewall, Some(&path)));
        let reading = Reading::start(Arc::clone(&reloader)).unwrap();
        let write = |table: &str| {
            let new = folder.path().join("new");
            std::fs::write(&new, GOOD.replace("inet t", &format!("inet {table}"))).unwrap();
            std::fs::rename(&new, &path).unwrap();
        };
        let turn = lock(&reloader.turn);
        write("early");
        reading.ask();
        // By then it was read, but waits for its turn.
        thread::sleep(Duration::from_millis(50));
        for table in ["later", "last"] {
            write(table);
            reading.ask();
        }
        drop(turn);
        let deadline = Instant::now() + Duration::from_secs(10);
        while !reloader.in_force().rules.contains("table inet last:") {
            assert!(Instant::now() < deadline, "{:?}", reloader.in_force());
            thread::yield_now();
        }
    }
}
