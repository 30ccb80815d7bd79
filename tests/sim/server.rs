//! A small FTP server as a state machine over smoltcp sockets: one session.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use lotus::conntrack::Time;
use smoltcp::iface::SocketHandle;

use crate::ftp::{CONTROL_PORT, Control, Data, DataState, Files, parse_address, six_numbers};
use crate::host::Host;
use crate::oracle::{Agreement, Note, SessionName};
use crate::world::Program;

/// How long the server waits for a data connection: shorter than lotus keeps a port open.
const DATA_WAIT: Duration = Duration::from_secs(40);

/// How a server behaves where servers differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Habits {
    /// Active data connections come from port 20.
    pub from_port_20: bool,
    /// NOOP is answered while a transfer runs, not after it.
    pub answers_noop_at_once: bool,
}

pub struct Server {
    address: IpAddr,
    listener: SocketHandle,
    session: Option<SessionName>,
    control: Option<Control>,
    habits: Habits,
    files: Files,
    pub notes: Vec<Note>,
    ready: Option<Ready>,
    transfer: Option<ServerTransfer>,
    closing: bool,
    has_seen_end: bool,
}

/// What PORT or PASV has prepared.
enum Ready {
    Active(SocketAddr),
    Passive(SocketHandle),
}

struct ServerTransfer {
    data: Data,
    store_as: Option<String>,
    since: Time,
}

impl Server {
    /// Waits for one client.
    pub fn new(address: IpAddr, habits: Habits, files: Files, host: &mut Host) -> Server {
        Server {
            address,
            listener: host.listen(SocketAddr::new(address, CONTROL_PORT)),
            session: None,
            control: None,
            habits,
            files,
            notes: Vec::new(),
            ready: None,
            transfer: None,
            closing: false,
            has_seen_end: false,
        }
    }

    fn command(&mut self, line: &str, now: Time, host: &mut Host) -> Option<String> {
        let (verb, argument) = line.split_once(' ').unwrap_or((line, ""));
        let answer = match verb {
            "USER" => "331 Password please".into(),
            "PASS" => "230 Logged in".into(),
            "TYPE" => "200 Type set".into(),
            "NOOP" => "200 Zzz".into(),
            "PORT" | "EPRT" => {
                let Some(to) = parse_address(verb, argument) else {
                    return Some("501 Bad".into());
                };
                self.forget_ready(host);
                self.ready = Some(Ready::Active(to));
                self.notes.extend(self.session.map(Note::Heard));
                "200 Will connect".into()
            }
            "PASV" | "EPSV" => {
                self.forget_ready(host);
                let port = host.fresh_port(30_000, 9_000);
                let at = SocketAddr::new(self.address, port);
                self.ready = Some(Ready::Passive(host.listen(at)));
                let session = self.session?;
                self.notes.push(Note::Agreed(Agreement {
                    session,
                    from: session.ip(),
                    to: at,
                }));
                if verb == "PASV" {
                    format!("227 Entering Passive Mode ({}).", six_numbers(at))
                } else {
                    format!("229 Entering Extended Passive Mode (|||{port}|)")
                }
            }
            "RETR" | "LIST" | "STOR" => return Some(self.begin(verb, argument, now, host)),
            "ABOR" => match self.transfer.take() {
                Some(transfer) => {
                    host.abort(transfer.data.handle);
                    "426 Aborted\r\n226 As you wish".into()
                }
                None => "225 Nothing to abort".into(),
            },
            "QUIT" => {
                self.closing = true;
                "221 Bye".into()
            }
            _ => "502 What?".into(),
        };
        Some(answer)
    }

    fn begin(&mut self, verb: &str, name: &str, now: Time, host: &mut Host) -> String {
        let content = self.files.borrow().get(name).cloned();
        if verb != "STOR" && content.is_none() {
            return "550 No such file".into();
        }
        let handle = match self.ready.take() {
            None => return "425 PORT or PASV first".into(),
            Some(Ready::Passive(listener)) => listener,
            Some(Ready::Active(to)) => {
                let port = if self.habits.from_port_20 {
                    20
                } else {
                    host.fresh_port(1_100, 8_000)
                };
                host.connect(SocketAddr::new(self.address, port), to)
            }
        };
        let sending = (verb != "STOR").then(|| content.unwrap_or_default().into());
        self.transfer = Some(ServerTransfer {
            data: Data::new(handle, sending),
            store_as: (verb == "STOR").then(|| name.to_owned()),
            since: now,
        });
        "150 Here it comes".into()
    }

    fn forget_ready(&mut self, host: &mut Host) {
        if let Some(Ready::Passive(listener)) = self.ready.take() {
            host.abort(listener);
        }
    }

    fn step_transfer(&mut self, now: Time, host: &mut Host) -> Option<&'static str> {
        let transfer = self.transfer.as_mut()?;
        let state = transfer.data.pump(host);
        let answer = match state {
            DataState::Waiting if now.since(transfer.since) > DATA_WAIT => "425 No data connection",
            DataState::Waiting | DataState::Busy => return None,
            DataState::Broken => "426 Data connection broke",
            DataState::Done => "226 Done",
        };
        let transfer = self.transfer.take()?;
        if state != DataState::Done {
            host.abort(transfer.data.handle);
        } else if let Some(name) = transfer.store_as {
            let mut files = self.files.borrow_mut();
            files.insert(name, transfer.data.received);
        }
        Some(answer)
    }

    /// While a transfer runs, other commands wait.
    fn next_line(&mut self) -> Option<String> {
        let (is_busy, at_once) = (self.transfer.is_some(), self.habits.answers_noop_at_once);
        self.control
            .as_mut()?
            .line_if(|line| !is_busy || line == "ABOR" || (at_once && line == "NOOP"))
    }
}

impl Program for Server {
    fn step(&mut self, now: Time, host: &mut Host) {
        let listener = self.listener;
        if self.control.is_none() && host.socket(listener).may_send() {
            let mut control = Control::new(listener);
            control.say("220 sim FTP server");
            self.control = Some(control);
            let remote = host.socket(listener).remote_endpoint();
            self.session = remote.map(|end| SocketAddr::new(end.addr.into(), end.port));
        }
        let Some(mut control) = self.control.take() else {
            return;
        };
        let open = control.pump(host);
        self.control = Some(control);
        while let Some(line) = self.next_line() {
            let answer = self.command(&line, now, host);
            if let (Some(control), Some(answer)) = (&mut self.control, answer) {
                control.say(&answer);
            }
        }
        let answer = self.step_transfer(now, host);
        if let Some(control) = &mut self.control {
            if let Some(answer) = answer {
                control.say(answer);
            }
            control.pump(host);
            if !open && !std::mem::replace(&mut self.has_seen_end, true) {
                self.notes.extend(self.session.map(Note::Ended));
            }
            if control.is_flushed() && (self.closing || !open) {
                host.socket(control.handle).close();
            }
        }
    }
}
