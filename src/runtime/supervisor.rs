//! The control thread.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::control::{Address, ControlServer, Desk};
use super::cores::{self, CoreList};
use super::crew::CrewError;
use super::hold::{Hold, Plan};
use super::output::{Lost, Output, Tone};
use super::reload::{Reading, ReloadAnswer, Reloader, RulesAnswer};
use super::rules_file::RulesText;
use super::signals::Signals;
use super::status::{Durations, LinkState, Mode, RulesInForce, Status, Subject, human_duration};
use super::worker;
use super::{Options, RunError};
use crate::engine::Shared;
use crate::io::link::{self, Link};
use crate::observe::{Counters, Snapshot};
use crate::rules::RuleCounter;
use crate::wire::Side;

/// How often events are taken: what a person calls at once.
const EVENTS_EVERY: Duration = Duration::from_millis(10);
/// Events taken at a time, so that a flood of them does not keep the sweep waiting.
const EVENTS_AT_A_TIME: usize = 4096;
/// How long the end waits for a reader of events that does not read.
const LAST_EVENTS_PATIENCE: Duration = Duration::from_secs(1);
/// How often flows are swept.
const TICK_EVERY: Duration = Duration::from_millis(50);
/// The whole flow table is swept in as many ticks, that is once a second.
const TICKS_PER_SWEEP: usize = 20;
/// How often the interfaces are looked at.
const LINKS_EVERY: Duration = Duration::from_millis(200);

pub(super) fn run(options: Options) -> Result<(), RunError> {
    let system = |what| move |error: io::Error| RunError::System { what, error };
    let signals = Signals::catch().map_err(system("catch signals"))?;
    let shared = Shared::new(options.ruleset, options.settings.engine);
    let plan = Plan {
        names: options.names,
        force: options.force,
        mode: options.mode,
        io: options.settings.io,
        counters: options.cores.iter().map(|_| Arc::default()).collect(),
        cores: options.cores,
        shared,
    };
    let mut hold = Hold::default();
    let warnings = hold.take(&plan)?;
    let output = Output::start(options.events.as_ref()).map_err(system("start a thread"))?;
    let lost = Arc::clone(output.lost());
    let reloader = Arc::new(Reloader::new(
        Arc::clone(&plan.shared),
        plan.mode,
        plan.names.clone(),
        options.rules_file.as_deref(),
        options.rules,
    ));
    let reading = Reading::start(Arc::clone(&reloader)).map_err(system("start a thread"))?;
    let board = Arc::new(Board::new(&plan, &hold, reloader, lost));
    let mut supervisor = Supervisor {
        signals,
        plan,
        hold,
        board,
        reading,
        output,
        obstacle: None,
    };
    let control = supervisor.greet(&warnings);
    let outcome = supervisor.watch();
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
    drop(control);
    supervisor.finish(outcome)
}

/// What the threads beside the workers know: the numbers, for whoever asks.
#[derive(Debug)]
struct Board {
    begun: Instant,
    subject: Mutex<Subject>,
    reloader: Arc<Reloader>,
    shared: Arc<Shared>,
    /// The workers', and last the control thread's own.
    counters: Vec<Arc<Counters>>,
    sweep: Mutex<Durations>,
    /// One look of the sweep at one part of the flow table.
    look: Mutex<Durations>,
    /// Of the output.
    lost: Arc<Lost>,
}

impl Board {
    fn new(plan: &Plan, hold: &Hold, reloader: Arc<Reloader>, lost: Arc<Lost>) -> Board {
        let link = |side| {
            let mtu = hold.link(side).map_or(0, |link| link.mtu);
            (
                u32::try_from(mtu).unwrap_or(u32::MAX),
                state_of(hold.link(side)),
            )
        };
        let subject = Subject {
            mode: plan.mode,
            names: plan.names.clone(),
            links: Side::BOTH.map(link),
            workers: plan.cores.len(),
        };
        let own = Arc::default();
        Board {
            begun: Instant::now(),
            subject: Mutex::new(subject),
            reloader,
            shared: Arc::clone(&plan.shared),
            counters: plan.counters.iter().cloned().chain([own]).collect(),
            sweep: Mutex::default(),
            look: Mutex::default(),
            lost,
        }
    }

    fn tick(&self) {
        let budget = self.shared.parts().div_ceil(TICKS_PER_SWEEP);
        let begun = Instant::now();
        let mut looks = lock(&self.look);
        let timed = |look: &mut dyn FnMut()| {
            let begun = Instant::now();
            look();
            looks.record(begun.elapsed());
        };
        self.shared
            .tick_watched(worker::clock(), budget, self.own_counters(), timed);
        drop(looks);
        lock(&self.sweep).record(begun.elapsed());
    }

    fn own_counters(&self) -> &Counters {
        &self.counters[self.counters.len() - 1]
    }

    fn status(&self) -> Status {
        let traffic = Snapshot::of(self.counters.iter().map(|block| &**block));
        let mut totals = self.shared.totals();
        // Those of the engine found no room on their way here, these none on their way out.
        totals.events_lost += self.lost.events();
        Status::new(
            &self.subject(),
            self.reloader.in_force(),
            self.begun.elapsed(),
            &totals,
            [lock(&self.sweep).spread(), lock(&self.look).spread()],
            &traffic,
        )
    }

    fn subject(&self) -> MutexGuard<'_, Subject> {
        lock(&self.subject)
    }

    /// Writes down a link's state.
    fn note_link(&self, side: Side, mtu: Option<usize>, state: LinkState) {
        let mut subject = self.subject();
        let link = &mut subject.links[side.index()];
        if let Some(mtu) = mtu {
            link.0 = u32::try_from(mtu).unwrap_or(u32::MAX);
        }
        link.1 = state;
    }
}

impl Desk for Arc<Board> {
    fn status(&self) -> Status {
        Board::status(self)
    }

    fn reload(&self, rules: RulesText) -> ReloadAnswer {
        self.reloader.take(rules)
    }

    fn rules(&self) -> RulesAnswer {
        self.reloader.rules()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The ports of an interface that is gone failed, of course.
fn forgive_ports(stopped: Result<(), CrewError>) -> Result<(), CrewError> {
    match stopped {
        Err(CrewError::Failed { .. }) => Ok(()),
        other => other,
    }
}

fn state_of(link: Option<&Link>) -> LinkState {
    match link {
        Some(link) if link.up && link.running => LinkState::Up,
        Some(_) => LinkState::Down,
        None => LinkState::Gone,
    }
}

struct Supervisor {
    signals: Signals,
    plan: Plan,
    hold: Hold,
    board: Arc<Board>,
    reading: Reading,
    output: Output,
    /// Why the interfaces could not be taken again, if that was told.
    obstacle: Option<String>,
}

impl Supervisor {
    /// Says what runs, and opens the door for `lotus status`.
    fn greet(&self, warnings: &[String]) -> Option<ControlServer> {
        let say = |text: String| self.output.say(Tone::Plain, text);
        say(format!(
            "lotus {}: a transparent firewall that understands FTP",
            env!("CARGO_PKG_VERSION")
        ));
        for side in Side::BOTH {
            if let Some(link) = self.hold.link(side) {
                let name = if side == Side::Inside {
                    "inside"
                } else {
                    "outside"
                };
                let state = state_of(Some(link));
                say(format!(
                    "  {name:<8} {}, MTU {}, link {state}",
                    link.name, link.mtu
                ));
            }
        }
        let chosen = &self.plan.cores;
        let allowed = cores::allowed().map(|all| format!(" of {}", cores::describe(&all)));
        say(format!(
            "  workers  {} on core{} {}{}",
            chosen.len(),
            if chosen.len() == 1 { "" } else { "s" },
            CoreList(chosen),
            allowed.unwrap_or_default()
        ));
        match self.plan.mode {
            Mode::Firewall => say(format!(
                "  rules    {}",
                self.board.reloader.in_force().rules
            )),
            Mode::Passthrough => say("  rules    none: passthrough".to_owned()),
        }
        say(format!(
            "  host     its own network stack is silent: {}",
            self.hold.silence()
        ));
        self.warn(warnings);
        if self.plan.mode == Mode::Passthrough {
            self.output.say(
                Tone::Bad,
                "WARNING: --passthrough: EVERY frame is forwarded, nothing is judged or tracked. \
                 This is a diagnostic, NOT A FIREWALL.",
            );
        }
        let control = self.open_control();
        let [inside, outside] = &self.plan.names;
        self.output.say(
            Tone::Good,
            format!("ready: forwarding between {inside} and {outside}"),
        );
        // Without systemd there is nobody to tell.
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
        control
    }

    fn warn(&self, warnings: &[String]) {
        for warning in warnings {
            self.output
                .say(Tone::Warning, format!("warning: {warning}"));
        }
    }

    /// A firewall that cannot be asked still is one.
    fn open_control(&self) -> Option<ControlServer> {
        let [inside, outside] = self.plan.names.clone();
        ControlServer::start(&Address { inside, outside }, Arc::clone(&self.board))
            .inspect_err(|error| {
                self.warn(&[format!(
                    "`lotus status` and `lotus reload` will not work: control socket: {error}"
                )]);
            })
            .ok()
    }

    /// Until a signal comes or a worker fails.
    fn watch(&mut self) -> Result<(), RunError> {
        let now = Instant::now();
        let (mut next_tick, mut next_look) = (now + TICK_EVERY, now + LINKS_EVERY);
        while !self.signals.stop_wanted() {
            if self.signals.reload_wanted() {
                self.reading.ask();
            }
            self.tell_events();
            let now = Instant::now();
            if now >= next_tick {
                next_tick = now + TICK_EVERY;
                self.board.tick();
            }
            if now >= next_look {
                next_look = now + LINKS_EVERY;
                self.look()?;
            }
            self.signals.wait(EVENTS_EVERY);
        }
        Ok(())
    }

    /// At the end: all that are left, as fast as they are written, but not for long.
    fn tell_last_events(&self) {
        let deadline = Instant::now() + LAST_EVENTS_PATIENCE;
        while let Some(stamped) = self.plan.shared.events().pop() {
            self.output.wait_for_room(deadline);
            self.output.event(&stamped);
        }
    }

    fn tell_events(&self) {
        let events = self.plan.shared.events();
        for _ in 0..EVENTS_AT_A_TIME {
            let Some(stamped) = events.pop() else { return };
            self.output.event(&stamped);
        }
    }

    /// At the workers and the interfaces.
    fn look(&mut self) -> Result<(), RunError> {
        let worker = self.hold.check();
        let mut somebody_gone = false;
        for side in Side::BOTH {
            somebody_gone |= self.look_at(side)? == LinkState::Gone;
        }
        match worker {
            // The interface vanished under the worker: it will be back.
            Err(CrewError::Failed { .. }) if somebody_gone => {}
            // It is back already, with the index that it had (as after a visit in another network
            // namespace); the sockets are cut off from it for good, and so is what kept the host
            // silent.
            Err(CrewError::Failed { error, .. }) if error.kind() == io::ErrorKind::NotFound => {
                let text = format!("{error}; it is back already");
                self.output.note(Tone::Bad, &text);
                let signals = &self.signals;
                forgive_ports(self.hold.let_go_of_all(|| signals.hurry_wanted()))?;
                for side in Side::BOTH {
                    self.board.note_link(side, None, LinkState::Gone);
                }
            }
            other => other?,
        }
        // An interface that is held does not work by that alone: the workers may be missing.
        if somebody_gone || !self.hold.works() {
            self.come_back()
        } else {
            Ok(())
        }
    }

    fn look_at(&mut self, side: Side) -> Result<LinkState, RunError> {
        let name = self.plan.names[side.index()].clone();
        let found = match Link::find(&name) {
            Ok(link) => Some(link),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            // Out of descriptors, perhaps; that says nothing about the link.
            Err(_) => return Ok(self.board.subject().links[side.index()].1),
        };
        let held = self.hold.link(side).map(|link| link.index);
        let found = found.filter(|link| held == Some(link.index));
        let before = self.board.subject().links[side.index()].1;
        // Until the workers are back it is as good as gone.
        if before == LinkState::Gone && !self.hold.works() {
            return Ok(before);
        }
        let state = state_of(found.as_ref());
        self.board
            .note_link(side, found.map(|link| link.mtu), state);
        let news = match (before, state) {
            (before, after) if before == after => return Ok(state),
            (LinkState::Gone, _) => return Ok(state),
            (_, LinkState::Up) => (Tone::Plain, "link up again"),
            (_, LinkState::Down) => (Tone::Warning, "link down, waiting"),
            (_, LinkState::Gone) => (Tone::Bad, "the interface is gone, waiting for its return"),
        };
        self.output.note(news.0, &format!("{name}: {}", news.1));
        if state == LinkState::Gone {
            let signals = &self.signals;
            forgive_ports(self.hold.let_go(side, || signals.hurry_wanted()))?;
        }
        Ok(state)
    }

    /// Tries to take hold of both interfaces again.
    fn come_back(&mut self) -> Result<(), RunError> {
        // Without the name there is nothing to try.
        if self
            .plan
            .names
            .iter()
            .any(|name| link::index(name).is_err())
        {
            return Ok(());
        }
        match self.hold.take(&self.plan) {
            Ok(warnings) => {
                self.obstacle = None;
                for side in Side::BOTH {
                    let link = self.hold.link(side);
                    self.board
                        .note_link(side, link.map(|link| link.mtu), state_of(link));
                }
                self.warn(&warnings);
                let [inside, outside] = &self.plan.names;
                let text = format!("ready again: forwarding between {inside} and {outside}");
                self.output.note(Tone::Good, &text);
                Ok(())
            }
            // A bug does not go away by trying again.
            Err(RunError::Crew(error)) if error.is_bug() => Err(error.into()),
            Err(error) => {
                // It may well take a while until somebody has set the interface up: told once.
                let obstacle = error.to_string();
                if self.obstacle.as_ref() != Some(&obstacle) {
                    self.output
                        .note(Tone::Warning, &format!("still waiting: {obstacle}"));
                    self.obstacle = Some(obstacle);
                }
                Ok(())
            }
        }
    }

    /// Takes everything down, in order, and tells what it all came to.
    fn finish(mut self, outcome: Result<(), RunError>) -> Result<(), RunError> {
        let stopped = self.hold.stop(|| self.signals.hurry_wanted());
        // The host may speak again, and others may have the interfaces.
        drop(std::mem::take(&mut self.hold));
        self.tell_last_events();
        let mut last_words = vec![String::new()];
        last_words.extend(self.summary());
        self.output.finish(last_words);
        outcome.and(stopped.map_err(RunError::from))
    }

    fn summary(&self) -> Vec<String> {
        let status = self.board.status();
        let ran = human_duration(Duration::from_secs(status.uptime_s));
        let mut lines = vec![format!("lotus ran for {ran}")];
        lines.extend(
            status
                .traffic_lines()
                .into_iter()
                .map(|line| format!("  {line}")),
        );
        lines.extend(self.rule_counters());
        let lost = self.output.lost().lines();
        if lost > 0 {
            lines.push(format!("  {lost} lines were not read in time and lost"));
        }
        lines.push(match status.unaccounted() {
            0 => "  every frame is accounted for: received = forwarded + dropped + held".to_owned(),
            left => format!(
                "  NOT every frame is accounted for: received - forwarded - dropped - held = \
                 {left}; a bug in lotus, please report it"
            ),
        });
        lines
    }

    /// What the `counter` statements of the rules counted, if there are any.
    fn rule_counters(&self) -> Vec<String> {
        let line = |counter: RuleCounter<'_>| {
            let RuleCounter {
                line,
                rule,
                packets,
                bytes,
            } = counter;
            format!("    line {line}: {packets} packets, {bytes} bytes: {rule}")
        };
        let mut lines: Vec<_> = self
            .plan
            .shared
            .with_rules(|rules| rules.counters().map(line).collect());
        if !lines.is_empty() {
            let RulesInForce {
                generation, loaded, ..
            } = self.board.reloader.in_force();
            let since = match generation {
                1 => String::new(),
                _ => format!(" since the reload at {loaded}"),
            };
            lines.insert(0, format!("  rule counters{since}"));
        }
        lines
    }
}
