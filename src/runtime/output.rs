//! What lotus tells while it runs: lines for people, and the same events as JSON lines.
//!
//! A thread of its own writes, so that a terminal or a pipe that nobody reads never stops the
//! control thread, which expires flows.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anstyle::{AnsiColor, Style};
use crossbeam::channel::{self, Sender};
use serde::Serialize;

use super::clock::WallTime;
use crate::conntrack::Time;
use crate::observe::{Event, EventKind, Stamped};

/// Lines that wait for a slow reader; more are lost and counted.
const QUEUE_LINES: usize = 4096;
/// Most lines that an event makes: one for people, one for programs.
const LINES_PER_EVENT: usize = 2;
/// How long the end waits for a reader that does not read.
const LAST_WORDS_PATIENCE: Duration = Duration::from_secs(1);
/// Who may read a new events file: it names users and files.
const EVENTS_FILE_MODE: u32 = 0o640;

/// Where events go as JSON lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventsTo {
    /// Standard output; the lines for people go to standard error then.
    Stdout,
    /// A file; it is appended to.
    File(PathBuf),
}

/// How a line looks on a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// As the terminal has it.
    Plain,
    /// A milestone.
    Good,
    /// Worth a look.
    Warning,
    /// Something was refused or broke.
    Bad,
}

impl Tone {
    fn style(self) -> Style {
        match self {
            Tone::Plain => Style::new(),
            Tone::Good => AnsiColor::Green.on_default(),
            Tone::Warning => AnsiColor::Yellow.on_default(),
            Tone::Bad => AnsiColor::Red.on_default(),
        }
    }
}

/// The way to the writing thread.
#[derive(Debug)]
pub struct Output {
    lines: Sender<Line>,
    lost: Arc<Lost>,
    thread: JoinHandle<()>,
}

/// What nobody was quick enough to read.
#[derive(Debug, Default)]
pub struct Lost {
    lines: AtomicU64,
    events: AtomicU64,
}

impl Lost {
    /// Lines of any kind.
    #[must_use]
    pub fn lines(&self) -> u64 {
        self.lines.load(Relaxed)
    }

    /// Events that are missing for people, for programs or for both.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.events.load(Relaxed)
    }
}

#[derive(Debug)]
enum Line {
    Human(Tone, String),
    Json(String),
}

impl Output {
    /// Opens what is to be opened and starts the thread. An events file that cannot be opened is
    /// told about and done without: the firewall matters more than its log.
    ///
    /// # Errors
    ///
    /// There is no thread to be had.
    pub fn start(events: Option<&EventsTo>) -> io::Result<Output> {
        let (lines, queue) = channel::bounded(QUEUE_LINES);
        let mut writer = Writer::new(events);
        let thread = thread::Builder::new()
            .name("lotus-output".to_owned())
            .spawn(move || {
                for line in queue {
                    writer.write(&line);
                }
            })?;
        Ok(Output {
            lines,
            lost: Arc::default(),
            thread,
        })
    }

    /// A line for people.
    pub fn say(&self, tone: Tone, text: impl Into<String>) {
        // What is lost is counted.
        let _ = self.send(Line::Human(tone, text.into()));
    }

    /// A line for people about something that happened now.
    pub fn note(&self, tone: Tone, text: &str) {
        self.say(tone, format!("{} {text}", WallTime::now().time_of_day()));
    }

    /// An event: a line for people, and one for programs.
    pub fn event(&self, stamped: &Stamped) {
        let at = WallTime::of(Time::from_nanos(stamped.at_ns));
        let kind = &stamped.event.kind;
        let for_people = (!kind.is_for_records_only()).then(|| {
            let text = format!("{} {}", at.time_of_day(), stamped.event);
            Line::Human(tone_of(kind), text)
        });
        let for_programs = match json_line(at, &stamped.event) {
            Ok(line) => Line::Json(line),
            Err(error) => Line::Human(Tone::Bad, format!("an event cannot be written: {error}")),
        };
        // Both are tried, also if the first is lost.
        let sent = [for_people, Some(for_programs)].map(|line| line.map(|line| self.send(line)));
        if sent.contains(&Some(false)) {
            self.lost.events.fetch_add(1, Relaxed);
        }
    }

    /// Waits until there is room for one more event, but not beyond the deadline.
    pub fn wait_for_room(&self, deadline: Instant) {
        while self.lines.len() + LINES_PER_EVENT > QUEUE_LINES && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Counts what nobody was quick enough to read.
    #[must_use]
    pub fn lost(&self) -> &Arc<Lost> {
        &self.lost
    }

    /// Says the last lines, as one piece, and waits until everything is written, but not for
    /// long.
    pub fn finish(self, last_words: Vec<String>) {
        let Output { lines, thread, .. } = self;
        let deadline = Instant::now() + LAST_WORDS_PATIENCE;
        for text in last_words {
            if lines
                .send_deadline(Line::Human(Tone::Plain, text), deadline)
                .is_err()
            {
                break;
            }
        }
        drop(lines);
        while !thread.is_finished() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(1));
        }
        if thread.is_finished() {
            // A panic in it has been printed by the hook already.
            let _ = thread.join();
        }
    }

    /// Whether there was room for it.
    fn send(&self, line: Line) -> bool {
        let sent = self.lines.try_send(line).is_ok();
        if !sent {
            self.lost.lines.fetch_add(1, Relaxed);
        }
        sent
    }
}

/// An [`Output`] that more than one part speaks through.
pub type SharedOutput = Arc<Output>;

fn tone_of(kind: &EventKind) -> Tone {
    match kind {
        EventKind::Refused { .. } | EventKind::ReloadFailed { .. } => Tone::Bad,
        EventKind::NotOpened { .. }
        | EventKind::Encrypted { .. }
        | EventKind::RangeMissed { .. }
        | EventKind::Unreadable { .. }
        | EventKind::NotFtp { .. } => Tone::Warning,
        EventKind::Transfer(transfer) if !transfer.ok => Tone::Warning,
        EventKind::PortOpened(_)
        | EventKind::PortUsed { .. }
        | EventKind::RangeOpened { .. }
        | EventKind::RangeUsed { .. }
        | EventKind::RulesReloaded { .. }
        | EventKind::Transfer(_) => Tone::Good,
        _ => Tone::Plain,
    }
}

fn json_line(at: WallTime, event: &Event) -> serde_json::Result<String> {
    #[derive(Serialize)]
    struct Record<'a> {
        time: String,
        #[serde(flatten)]
        event: &'a Event,
    }
    let mut line = serde_json::to_string(&Record {
        time: at.to_string(),
        event,
    })?;
    line.push('\n');
    Ok(line)
}

struct Writer {
    human: Box<dyn Write + Send>,
    json: Option<JsonSink>,
}

impl Writer {
    fn new(events: Option<&EventsTo>) -> Writer {
        let mut human: Box<dyn Write + Send> = match events {
            Some(EventsTo::Stdout) => Box::new(anstream::stderr()),
            _ => Box::new(anstream::stdout()),
        };
        let json = match events {
            None => None,
            Some(EventsTo::Stdout) => Some(JsonSink::new("-".to_owned(), Box::new(io::stdout()))),
            Some(EventsTo::File(path)) => {
                let name = path.display().to_string();
                open_events(path)
                    .map(|file| JsonSink::new(name.clone(), Box::new(file)))
                    .inspect_err(|error| {
                        let text =
                            format!("cannot write events to {name}: {error}; going on without");
                        put(&mut human, Tone::Warning, &format!("warning: {text}"));
                    })
                    .ok()
            }
        };
        Writer { human, json }
    }

    fn write(&mut self, line: &Line) {
        match line {
            Line::Human(tone, text) => put(&mut self.human, *tone, text),
            Line::Json(text) => {
                let complaint = self.json.as_mut().and_then(|sink| sink.write(text));
                if let Some(complaint) = complaint {
                    put(
                        &mut self.human,
                        Tone::Warning,
                        &format!("warning: {complaint}"),
                    );
                }
            }
        }
    }
}

/// Nobody can be told about a terminal or pipe that is gone, so its errors end here.
fn put(human: &mut impl Write, tone: Tone, text: &str) {
    let style = tone.style();
    let _ = writeln!(human, "{style}{text}{style:#}").and_then(|()| human.flush());
}

/// Never waits: a named pipe that nobody reads is an error, as is one that is full.
fn open_events(path: &PathBuf) -> io::Result<File> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(EVENTS_FILE_MODE)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)
}

/// Writes whole lines and tells of trouble once, not for each line.
struct JsonSink {
    name: String,
    to: Box<dyn Write + Send>,
    failing: bool,
    missed: u64,
}

impl JsonSink {
    fn new(name: String, to: Box<dyn Write + Send>) -> JsonSink {
        JsonSink {
            name,
            to,
            failing: false,
            missed: 0,
        }
    }

    /// What there is to complain about, if it is news.
    fn write(&mut self, line: &str) -> Option<String> {
        // After a failure the file may end within a line.
        let fresh = if self.failing { "\n" } else { "" };
        let written = self
            .to
            .write_all(fresh.as_bytes())
            .and_then(|()| self.to.write_all(line.as_bytes()))
            .and_then(|()| self.to.flush());
        match written {
            Ok(()) if self.failing => {
                self.failing = false;
                let missed = std::mem::take(&mut self.missed);
                Some(format!(
                    "events go to {} again; {missed} are missing there",
                    self.name
                ))
            }
            Ok(()) => None,
            Err(error) => {
                self.missed += 1;
                let news = !std::mem::replace(&mut self.failing, true);
                // A pipe whose reader left is no trouble.
                let broken_pipe = error.kind() == io::ErrorKind::BrokenPipe;
                (news && !broken_pipe)
                    .then(|| format!("cannot write events to {}: {error}; going on", self.name))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::observe::Escaped;

    fn login(name: &[u8]) -> Event {
        Event {
            session: 7,
            kind: EventKind::LoggedIn {
                user: Escaped::new(name),
            },
        }
    }

    #[test]
    fn an_event_is_one_json_line_with_its_time() {
        let at = WallTime::now();
        let line = json_line(at, &login(b"an\"n\na")).unwrap();
        assert!(
            line.ends_with('\n') && line.matches('\n').count() == 1,
            "{line}"
        );
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["time"], at.to_string());
        assert_eq!(value["session"], 7);
        assert_eq!(value["event"], "logged_in");
        assert_eq!(value["user"], "an\"n\\u{a}a");
    }

    #[test]
    fn a_file_that_fails_is_told_about_once_and_again_when_it_is_back() {
        #[derive(Clone, Default)]
        struct Disk {
            full: Arc<Mutex<bool>>,
            holds: Arc<Mutex<Vec<u8>>>,
        }
        impl Write for Disk {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                if *self.full.lock().unwrap() {
                    return Err(io::ErrorKind::StorageFull.into());
                }
                self.holds.lock().unwrap().extend_from_slice(bytes);
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let disk = Disk::default();
        let mut sink = JsonSink::new("e.json".to_owned(), Box::new(disk.clone()));
        assert_eq!(sink.write("1\n"), None);
        *disk.full.lock().unwrap() = true;
        assert!(
            sink.write("2\n")
                .unwrap()
                .contains("cannot write events to e.json")
        );
        assert_eq!(sink.write("3\n"), None);
        *disk.full.lock().unwrap() = false;
        assert!(sink.write("4\n").unwrap().contains("2 are missing"));
        assert_eq!(sink.write("5\n"), None);
        assert_eq!(*disk.holds.lock().unwrap(), b"1\n\n4\n5\n");
    }

    #[test]
    fn a_named_pipe_that_nobody_reads_does_not_stop_the_start() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pipe");
        let made = std::process::Command::new("mkfifo")
            .arg(&path)
            .status()
            .unwrap();
        assert!(made.success());
        let error = open_events(&path).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENXIO));
    }

    #[test]
    fn events_that_find_no_room_are_counted_once_each() {
        let (lines, queue) = channel::bounded(3);
        let output = Output {
            lines,
            lost: Arc::default(),
            thread: thread::spawn(|| {}),
        };
        let event = Stamped {
            at_ns: 1,
            event: login(b"anna"),
        };
        (0..4).for_each(|_| output.event(&event));
        assert_eq!((output.lost().lines(), output.lost().events()), (5, 3));
        drop(queue);
        output.finish(Vec::new());
    }

    #[test]
    fn commands_are_for_the_record_and_not_for_people() {
        let (lines, queue) = channel::bounded(10);
        let output = Output {
            lines,
            lost: Arc::default(),
            thread: thread::spawn(|| {}),
        };
        let kind = EventKind::Command {
            command: Escaped::new(b"NOOP"),
            code: Some(200),
        };
        let event = Event { session: 7, kind };
        output.event(&Stamped { at_ns: 1, event });
        output.event(&Stamped {
            at_ns: 1,
            event: login(b"anna"),
        });
        let human: Vec<bool> = queue
            .try_iter()
            .map(|l| matches!(l, Line::Human(..)))
            .collect();
        assert_eq!(human, [false, true, false]);
        output.finish(Vec::new());
    }

    #[test]
    fn more_events_than_the_queue_holds_are_written_if_one_waits_for_room() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.json");
        let output = Output::start(Some(&EventsTo::File(path.clone()))).unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        let events = 2 * QUEUE_LINES as u64;
        for number in 0..events {
            output.wait_for_room(deadline);
            output.event(&Stamped {
                at_ns: number,
                event: login(b"anna"),
            });
        }
        assert_eq!(output.lost().events(), 0);
        output.wait_for_room(deadline);
        while !output.lines.is_empty() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(1));
        }
        output.finish(Vec::new());
        let written = std::fs::read_to_string(path).unwrap().lines().count();
        assert_eq!(written as u64, events);
    }

    #[test]
    fn events_reach_the_file_before_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.json");
        let output = Output::start(Some(&EventsTo::File(path.clone()))).unwrap();
        for number in 0..100 {
            output.event(&Stamped {
                at_ns: number,
                event: login(b"anna"),
            });
        }
        output.finish(Vec::new());
        assert_eq!(std::fs::read_to_string(path).unwrap().lines().count(), 100);
    }
}
