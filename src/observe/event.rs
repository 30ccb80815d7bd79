use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};

use crossbeam::queue::SegQueue;
use serde::Serialize;

use super::Escaped;

/// Events that may wait for the control thread. A burst beyond this is lost and counted: a worker
/// never waits for a reader.
pub const QUEUE_EVENTS: usize = 16_384;

/// Records may take one part in so many of the queue: a client that sends many commands must not
/// push out what tells of refusals.
const RECORDS_SHARE: usize = 2;

/// How a data port was agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Mode {
    /// Active, RFC 959.
    Port,
    /// Passive, RFC 959.
    Pasv,
    /// Active, RFC 2428.
    Eprt,
    /// Active, RFC 1639.
    Lprt,
    /// Passive, RFC 2428.
    Epsv,
    /// Passive, RFC 1639.
    Lpsv,
}

impl Mode {
    /// Whether the server opens the data connection.
    #[must_use]
    pub fn is_active(self) -> bool {
        matches!(self, Mode::Port | Mode::Eprt | Mode::Lprt)
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Mode::Port => "PORT",
            Mode::Pasv => "PASV",
            Mode::Eprt => "EPRT",
            Mode::Epsv => "EPSV",
            Mode::Lprt => "LPRT",
            Mode::Lpsv => "LPSV",
        })
    }
}

/// Who said a line of an FTP dialogue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Speaker {
    /// The one who opened the control connection.
    Client,
    /// The other one.
    Server,
}

impl fmt::Display for Speaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Speaker::Client => "client",
            Speaker::Server => "server",
        })
    }
}

/// A data port that is open for one connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PortOpened {
    /// How it was agreed on.
    pub mode: Mode,
    /// Who may connect.
    pub from: IpAddr,
    /// A third party that `ftp.fxp` lists may connect instead.
    pub fxp: bool,
    /// Where to.
    pub to: SocketAddr,
    /// For how long.
    pub seconds: u64,
}

/// A file or listing that a client asked for or sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Transfer {
    /// The command, with the file's name.
    pub command: Escaped,
    /// `download`, `upload` or `listing`.
    pub direction: &'static str,
    /// How the data connection was agreed on, if there was one.
    pub mode: Option<Mode>,
    /// Bytes on the data connection, if lotus saw its end.
    pub bytes: Option<u64>,
    /// The server said that all went well.
    pub ok: bool,
    /// The reply that said so, or said not; none if there was no answer.
    pub code: Option<u16>,
}

/// Something that a person wants to know. Everything from the wire in it is escaped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Event {
    /// The FTP session it belongs to, 0 for none.
    pub session: u64,
    /// What happened.
    #[serde(flatten)]
    pub kind: EventKind,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[allow(missing_docs)] // the fields say what they are
pub enum EventKind {
    /// A control connection was accepted by the rules.
    SessionOpened {
        client: SocketAddr,
        server: SocketAddr,
        server_side: &'static str,
    },
    /// The server accepted a login.
    LoggedIn { user: Escaped },
    /// A command was answered; it has no code if it got no answer. Passwords are left out.
    Command { command: Escaped, code: Option<u16> },
    /// A transfer ended, well or not.
    Transfer(Transfer),
    /// A port was opened for one data connection.
    PortOpened(PortOpened),
    /// The data connection that a port was opened for was established.
    PortUsed {
        mode: Mode,
        from: SocketAddr,
        to: SocketAddr,
    },
    /// A port was shut before any data connection was established.
    PortClosed {
        mode: Mode,
        to: SocketAddr,
        why: &'static str,
    },
    /// A data connection ended.
    DataClosed {
        from: SocketAddr,
        to: SocketAddr,
        bytes_sent: u64,
        bytes_received: u64,
    },
    /// A command was made unreadable on its way, so that the server refuses it.
    Refused { what: Escaped, why: &'static str },
    /// A reply or command opened nothing.
    NotOpened { what: Escaped, why: &'static str },
    /// The control connection went TLS: data ports can't be seen any more.
    Encrypted { advice: &'static str },
    /// The passive range is open to the client of a session that went TLS.
    RangeOpened {
        from: IpAddr,
        to: IpAddr,
        ports: String,
        at_once: usize,
    },
    /// A data connection began in the range.
    RangeUsed { from: SocketAddr, to: SocketAddr },
    /// No new data connection may begin in the range.
    RangeClosed {
        to: IpAddr,
        ports: String,
        why: &'static str,
    },
    /// A data connection of a session that went TLS was refused: it is in no range.
    RangeMissed {
        from: SocketAddr,
        to: SocketAddr,
        advice: &'static str,
    },
    /// The control connection can't be followed any more.
    Unreadable { why: &'static str },
    /// The control connection left TLS: data ports are seen again.
    ClearAgain,
    /// What is spoken on the connection is not FTP.
    NotFtp { why: &'static str },
    /// A line of the dialogue, as the helper read it, without passwords. Only told to those who
    /// asked: see [`EventQueue::ask_for_lines`].
    Line { from: Speaker, text: Escaped },
    /// A packet met a `log` statement of the rules.
    Logged {
        prefix: Escaped,
        level: &'static str,
        from: &'static str,
        packet: String,
        bytes: usize,
    },
    /// Other rules are in force.
    RulesReloaded { generation: u32, rules: String },
    /// Rules that were to come into force have errors, or could not be read.
    ReloadFailed { generation: u32, why: String },
    /// The control connection ended.
    SessionClosed {
        why: &'static str,
        ports_opened: u32,
        ports_used: u32,
        refused: u32,
    },
}

impl EventKind {
    /// Whether it is for records only: people who watch have no time for so many.
    #[must_use]
    pub fn is_for_records_only(&self) -> bool {
        matches!(self, EventKind::Command { .. })
    }
}

impl fmt::Display for Transfer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = if self.ok { "done" } else { "failed" };
        write!(f, "{} {word}: '{}'", self.direction, self.command)?;
        match self.bytes {
            Some(bytes) => write!(f, ", {bytes} bytes")?,
            None => f.write_str(", bytes unknown")?,
        }
        if let Some(mode) = self.mode {
            write!(f, " ({mode})")?;
        }
        match self.code {
            Some(code) => write!(f, ", reply {code}"),
            None => f.write_str(", no reply"),
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.session != 0 {
            write!(f, "ftp[{}] ", self.session)?;
        }
        match &self.kind {
            EventKind::SessionOpened {
                client,
                server,
                server_side,
            } => {
                write!(
                    f,
                    "session: client {client} to server {server} ({server_side})"
                )
            }
            EventKind::LoggedIn { user } => write!(f, "logged in as '{user}'"),
            EventKind::Command { command, code } => match code {
                Some(code) => write!(f, "command '{command}': reply {code}"),
                None => write!(f, "command '{command}': no reply"),
            },
            EventKind::Transfer(transfer) => transfer.fmt(f),
            EventKind::PortOpened(PortOpened {
                mode,
                from,
                fxp,
                to,
                seconds,
            }) => {
                let others = if *fxp { " or a host of ftp.fxp" } else { "" };
                write!(
                    f,
                    "opened port {}: {from}{others} may connect to {to} once",
                    to.port()
                )?;
                write!(f, " within {seconds} s ({mode})")
            }
            EventKind::PortUsed { mode, from, to } => {
                write!(
                    f,
                    "used port {}: {from} connected to {to} ({mode})",
                    to.port()
                )
            }
            EventKind::PortClosed { mode, to, why } => {
                write!(
                    f,
                    "closed port {} of {} unused: {why} ({mode})",
                    to.port(),
                    to.ip()
                )
            }
            EventKind::DataClosed {
                from,
                to,
                bytes_sent,
                bytes_received,
            } => write!(
                f,
                "data connection {from} to {to} ended: {bytes_sent} bytes sent, \
                 {bytes_received} bytes received by {}",
                from.ip()
            ),
            EventKind::Refused { what, why } => write!(f, "refused {what}: {why}"),
            EventKind::NotOpened { what, why } => write!(f, "opened nothing for {what}: {why}"),
            EventKind::Encrypted { advice } => write!(
                f,
                "control connection went TLS: data ports can't be seen; {advice}"
            ),
            EventKind::RangeOpened {
                from,
                to,
                ports,
                at_once,
            } => write!(
                f,
                "control connection went TLS: passive range {ports} of {to} is open to {from} while the \
                 control connection lives, {at_once} at a time; active mode can't be seen and stays \
                 shut"
            ),
            EventKind::RangeUsed { from, to } => write!(
                f,
                "used port {}: {from} connected to {to} (passive range)",
                to.port()
            ),
            EventKind::RangeClosed { to, ports, why } => {
                write!(f, "closed passive range {ports} of {to}: {why}")
            }
            EventKind::RangeMissed { from, to, advice } => {
                write!(f, "refused data connection {from} to {to}: {advice}")
            }
            EventKind::Unreadable { why } => write!(f, "nothing will be opened any more: {why}"),
            EventKind::ClearAgain => {
                f.write_str("back in clear text (CCC): data ports are seen again")
            }
            EventKind::Line { from, text } => write!(f, "{from}: {text}"),
            EventKind::Logged {
                prefix,
                level,
                from,
                packet,
                bytes,
            } => write!(
                f,
                "log {level}: {prefix}{packet} from {from}, {bytes} bytes"
            ),
            EventKind::NotFtp { why } => write!(f, "not FTP, nothing will be opened: {why}"),
            EventKind::RulesReloaded { generation, rules } => {
                write!(f, "rules reloaded: generation {generation}: {rules}")
            }
            EventKind::ReloadFailed { generation, why } => write!(
                f,
                "rules not reloaded, generation {generation} stays in force: {why}"
            ),
            EventKind::SessionClosed {
                why,
                ports_opened,
                ports_used,
                refused,
            } => write!(
                f,
                "closed: {why}; ports opened {ports_opened}, used {ports_used}; commands refused {refused}"
            ),
        }
    }
}

/// An event and the monotonic time at which it happened, in nanoseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamped {
    /// Nanoseconds on the engine's clock.
    pub at_ns: u64,
    /// The event.
    pub event: Event,
}

/// The bounded way from workers to the control thread. It takes memory for what waits only.
#[derive(Debug)]
pub struct EventQueue {
    queue: SegQueue<Stamped>,
    waiting: AtomicUsize,
    most: usize,
    lost: AtomicU64,
    wants_lines: AtomicBool,
}

impl EventQueue {
    /// A queue in which at most this many events wait.
    #[must_use]
    pub fn new(most: usize) -> EventQueue {
        EventQueue {
            queue: SegQueue::new(),
            waiting: AtomicUsize::new(0),
            most,
            lost: AtomicU64::new(0),
            wants_lines: AtomicBool::new(false),
        }
    }

    /// From now on, each line that the helper reads is an event, too. Not for a firewall at work:
    /// it is one event for each command and each line of a reply.
    pub fn ask_for_lines(&self) {
        self.wants_lines.store(true, Relaxed);
    }

    /// Whether anybody wants to know the dialogue line by line.
    #[must_use]
    pub fn wants_lines(&self) -> bool {
        self.wants_lines.load(Relaxed)
    }

    /// Never waits: an event that finds no room is counted as lost.
    pub fn push(&self, at_ns: u64, event: Event) {
        let most = if event.kind.is_for_records_only() {
            self.most / RECORDS_SHARE
        } else {
            self.most
        };
        if self.waiting.fetch_add(1, Relaxed) >= most {
            self.waiting.fetch_sub(1, Relaxed);
            self.lost.fetch_add(1, Relaxed);
        } else {
            self.queue.push(Stamped { at_ns, event });
        }
    }

    /// The oldest event.
    #[must_use]
    pub fn pop(&self) -> Option<Stamped> {
        let oldest = self.queue.pop()?;
        self.waiting.fetch_sub(1, Relaxed);
        Some(oldest)
    }

    /// How many events found no room.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_reads_as_a_sentence_and_as_json() {
        let opened = PortOpened {
            mode: Mode::Epsv,
            from: [192, 0, 2, 1].into(),
            fxp: false,
            to: ([192, 0, 2, 9], 50_000).into(),
            seconds: 60,
        };
        let event = Event {
            session: 3,
            kind: EventKind::PortOpened(opened),
        };
        assert_eq!(
            event.to_string(),
            "ftp[3] opened port 50000: 192.0.2.1 may connect to 192.0.2.9:50000 once \
             within 60 s (EPSV)"
        );
        let json = serde_json::to_value(&event).unwrap();
        assert_eq!(json["event"], "port_opened");
        assert_eq!(json["to"], "192.0.2.9:50000");
        assert_eq!(json["mode"], "EPSV");
    }

    #[test]
    fn what_finds_no_room_is_counted() {
        let queue = EventQueue::new(2);
        let why = "x";
        for at in 0..3 {
            let kind = EventKind::NotFtp { why };
            queue.push(at, Event { session: 1, kind });
        }
        assert_eq!(queue.lost(), 1);
        let first_two = [queue.pop(), queue.pop()].map(|stamped| stamped.map(|s| s.at_ns));
        assert_eq!(first_two, [Some(0), Some(1)]);
        assert!(queue.pop().is_none());
        let kind = EventKind::NotFtp { why };
        queue.push(9, Event { session: 1, kind });
        assert_eq!((queue.pop().map(|s| s.at_ns), queue.lost()), (Some(9), 1));
    }

    #[test]
    fn records_leave_room_for_what_matters_more() {
        let queue = EventQueue::new(10);
        let event = |kind| Event { session: 1, kind };
        for _ in 0..10 {
            let command = Escaped::new(b"NOOP");
            let code = Some(200);
            queue.push(1, event(EventKind::Command { command, code }));
        }
        assert_eq!(queue.lost(), 5);
        let what = Escaped::new(b"PORT 10");
        queue.push(1, event(EventKind::Refused { what, why: "it" }));
        assert_eq!(queue.lost(), 5);
    }

    #[test]
    fn a_transfer_reads_as_a_sentence_and_as_json() {
        let transfer = |ok, bytes, mode, code| Event {
            session: 3,
            kind: EventKind::Transfer(Transfer {
                command: Escaped::new(b"STOR a\x1b"),
                direction: "upload",
                mode,
                bytes,
                ok,
                code,
            }),
        };
        let done = transfer(true, Some(12), Some(Mode::Lpsv), Some(226));
        assert_eq!(
            done.to_string(),
            "ftp[3] upload done: 'STOR a\\u{1b}', 12 bytes (LPSV), reply 226"
        );
        let json = serde_json::to_value(&done).unwrap();
        assert_eq!(json["event"], "transfer");
        assert_eq!(
            (&json["bytes"], &json["mode"]),
            (&12.into(), &"LPSV".into())
        );
        assert_eq!(
            transfer(false, None, None, None).to_string(),
            "ftp[3] upload failed: 'STOR a\\u{1b}', bytes unknown, no reply"
        );
    }
}
