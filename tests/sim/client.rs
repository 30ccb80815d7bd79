//! A small FTP client as a state machine over smoltcp sockets: one session.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use lotus::conntrack::Time;
use smoltcp::iface::SocketHandle;

use crate::ftp::{
    Control, Data, DataMode, DataState, Meanwhile, Op, Transfer, passive_target, six_numbers,
};
use crate::host::Host;
use crate::oracle::{Agreement, Note};
use crate::world::Program;

/// How long the client thinks between the answer to its PORT or PASV and the transfer, so that
/// there is a time in which a port is open and not yet used.
const THINKING: Duration = Duration::from_secs(1);

/// How far the client is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    Working,
    Done,
    Failed(String),
}

pub struct Client {
    /// Where its control connection comes from: the session's name.
    from: SocketAddr,
    server: SocketAddr,
    control: Control,
    transfers: VecDeque<Transfer>,
    /// It asks for a data connection before it quits, and does not use it.
    parting: Option<DataMode>,
    state: Awaits,
    data: Option<Data>,
    data_done: bool,
    /// How the running transfer ended, if it did.
    outcome: Option<Outcome>,
    /// Answers to NOOP and ABOR that are still to come.
    answers_due: u8,
    thinking_until: Option<Time>,
    /// How often a transfer whose data connection failed is tried again.
    retries_left: u32,
    pub retried: u32,
    pub completed: u32,
    has_seen_end: bool,
    pub progress: Progress,
    pub notes: Vec<Note>,
    /// What RETR and LIST brought, in order.
    pub fetched: Vec<(String, Vec<u8>)>,
}

/// The reply for which the client waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Awaits {
    Greeting,
    User,
    Pass,
    Type,
    DataPort,
    Transfer,
    Parting,
    Quit,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Outcome {
    Complete,
    Failed(String),
}

impl Client {
    /// Connects, and makes the transfers in their order.
    pub fn new(
        address: IpAddr,
        server: SocketAddr,
        transfers: Vec<Transfer>,
        parting: Option<DataMode>,
        retries: u32,
        host: &mut Host,
    ) -> Client {
        let from = SocketAddr::new(address, host.fresh_port(50_000, 10_000));
        Client {
            from,
            server,
            control: Control::new(host.connect(from, server)),
            transfers: transfers.into(),
            parting,
            state: Awaits::Greeting,
            data: None,
            data_done: false,
            outcome: None,
            answers_due: 0,
            thinking_until: None,
            retries_left: retries,
            retried: 0,
            completed: 0,
            has_seen_end: false,
            progress: Progress::Working,
            notes: Vec::new(),
            fetched: Vec::new(),
        }
    }

    /// Begins to think when the answer is here; the answer is read when the thinking is over.
    fn is_thinking(&mut self, now: Time) -> bool {
        if self.state != Awaits::DataPort || !self.control.received.ends_with(b"\r\n") {
            return false;
        }
        if self.thinking_until.is_none() {
            // What was received is known, though nothing is done about it yet.
            if !self.transfers[0].mode.is_active() {
                self.notes.push(Note::Heard(self.from));
            }
            self.thinking_until = Some(now + THINKING);
        }
        if self.thinking_until.is_some_and(|until| now < until) {
            return true;
        }
        self.thinking_until = None;
        false
    }

    fn fail(&mut self, why: String) {
        if self.progress == Progress::Working {
            self.progress = Progress::Failed(why);
        }
    }

    fn reply(&mut self, line: &str, host: &mut Host) {
        let code = line.get(..3).unwrap_or("");
        let next = match (self.state, code) {
            (Awaits::Greeting, "220") => ("USER sim", Awaits::User),
            (Awaits::User, "331") => ("PASS secret", Awaits::Pass),
            (Awaits::Pass, "230") => ("TYPE I", Awaits::Type),
            (Awaits::Type, "200") => return self.next_transfer(host),
            (Awaits::DataPort, "200" | "227" | "229") => return self.start_transfer(line, host),
            (Awaits::Transfer, "150") => return self.say_meanwhile(),
            (Awaits::Transfer, _) => return self.transfer_reply(code, line, host),
            (Awaits::Parting, "200" | "227" | "229") => {
                if code != "200" {
                    self.notes.push(Note::Heard(self.from));
                }
                ("QUIT", Awaits::Quit)
            }
            (Awaits::Quit, "221") => {
                host.socket(self.control.handle).close();
                self.progress = Progress::Done;
                return;
            }
            _ => {
                return self.fail(format!(
                    "the reply '{line}' while waiting for {:?}",
                    self.state
                ));
            }
        };
        self.control.say(next.0);
        self.state = next.1;
    }

    fn next_transfer(&mut self, host: &mut Host) {
        if let Some(transfer) = self.transfers.front() {
            self.state = Awaits::DataPort;
            let (mode, sending) = (transfer.mode, self.sending());
            if let Some(handle) = self.ask_for_port(mode, host) {
                self.data = Some(Data::new(handle, sending));
            }
        } else if let Some(mode) = self.parting.take() {
            self.state = Awaits::Parting;
            self.ask_for_port(mode, host);
        } else {
            self.control.say("QUIT");
            self.state = Awaits::Quit;
        }
    }

    /// Where the server shall connect to, if that is how it goes.
    fn ask_for_port(&mut self, mode: DataMode, host: &mut Host) -> Option<SocketHandle> {
        match mode {
            DataMode::Pasv => self.control.say("PASV"),
            DataMode::Epsv => self.control.say("EPSV"),
            DataMode::Port | DataMode::Eprt => {}
        }
        if !mode.is_active() {
            return None;
        }
        let at = SocketAddr::new(self.from.ip(), host.fresh_port(20_000, 9_000));
        let handle = host.listen(at);
        self.notes.push(Note::Agreed(Agreement {
            session: self.from,
            from: self.server.ip(),
            to: at,
        }));
        let line = match (mode, at.ip()) {
            (DataMode::Port, _) => format!("PORT {}", six_numbers(at)),
            (_, IpAddr::V4(ip)) => format!("EPRT |1|{ip}|{}|", at.port()),
            (_, IpAddr::V6(ip)) => format!("EPRT |2|{ip}|{}|", at.port()),
        };
        self.control.say(&line);
        Some(handle)
    }

    fn sending(&self) -> Option<VecDeque<u8>> {
        match &self.transfers[0].op {
            Op::Stor(_, content) => Some(content.clone().into()),
            Op::Retr(_) | Op::List(_) => None,
        }
    }

    fn start_transfer(&mut self, line: &str, host: &mut Host) {
        if !self.transfers[0].mode.is_active() {
            let Some(to) = passive_target(line, self.server.ip()) else {
                return self.fail(format!("no port in '{line}'"));
            };
            let from = SocketAddr::new(self.from.ip(), host.fresh_port(50_000, 10_000));
            let handle = host.connect(from, to);
            self.data = Some(Data::new(handle, self.sending()));
        }
        self.data_done = false;
        self.outcome = None;
        self.answers_due = 0;
        self.state = Awaits::Transfer;
        let line = match &self.transfers[0].op {
            Op::Retr(name) => format!("RETR {name}"),
            Op::Stor(name, _) => format!("STOR {name}"),
            Op::List(name) => format!("LIST {name}"),
        };
        self.control.say(&line);
    }

    fn say_meanwhile(&mut self) {
        match self.transfers[0].meanwhile {
            Meanwhile::Nothing => {}
            Meanwhile::Noop(count) => {
                (0..count).for_each(|_| self.control.say("NOOP"));
                self.answers_due = count;
            }
            Meanwhile::Abort => {
                self.control.abort_transfer();
                self.answers_due = 1;
            }
        }
    }

    fn transfer_reply(&mut self, code: &str, line: &str, host: &mut Host) {
        match code {
            "226" | "425" | "426" if self.outcome.is_none() => {
                self.outcome = Some(match code {
                    "226" => Outcome::Complete,
                    _ => Outcome::Failed(line.to_owned()),
                });
            }
            // To NOOP; to ABOR.
            "200" | "225" | "226" if self.answers_due > 0 => self.answers_due -= 1,
            _ => return self.fail(format!("the reply '{line}' during a transfer")),
        }
        if self.answers_due > 0 {
            return;
        }
        let is_aborted = self.transfers[0].meanwhile == Meanwhile::Abort;
        match self.outcome.take() {
            None => {}
            Some(_) if is_aborted => self.transfer_aborted(host),
            Some(Outcome::Complete) => self.finish_transfer(host),
            Some(Outcome::Failed(line)) => self.transfer_failed(&line, host),
        }
    }

    /// The server says that it is done. What it sent has arrived; see `step`.
    fn finish_transfer(&mut self, host: &mut Host) {
        let Some(data) = self.data.take() else { return };
        match self.transfers.pop_front().map(|transfer| transfer.op) {
            Some(Op::Retr(name) | Op::List(name)) => self.fetched.push((name, data.received)),
            Some(Op::Stor(..)) | None => {}
        }
        self.completed += 1;
        self.next_transfer(host);
    }

    fn transfer_aborted(&mut self, host: &mut Host) {
        self.drop_data(host);
        self.transfers.pop_front();
        self.completed += 1;
        self.next_transfer(host);
    }

    fn transfer_failed(&mut self, line: &str, host: &mut Host) {
        self.drop_data(host);
        if self.retries_left == 0 {
            return self.fail(format!("data connection failed: {line}"));
        }
        self.retries_left -= 1;
        self.retried += 1;
        self.next_transfer(host);
    }

    fn drop_data(&mut self, host: &mut Host) {
        if let Some(data) = self.data.take()
            && !self.data_done
        {
            host.abort(data.handle);
        }
    }

    /// Whether a final reply has overtaken the data, and waits until the data is complete.
    fn is_data_missing(&self) -> bool {
        self.state == Awaits::Transfer
            && !self.data_done
            && self.outcome.is_none()
            && self.transfers[0].meanwhile != Meanwhile::Abort
            && self.control.received.starts_with(b"226")
    }
}

impl Program for Client {
    fn step(&mut self, now: Time, host: &mut Host) {
        let open = self.control.pump(host);
        if self.state == Awaits::Transfer
            && !self.data_done
            && let Some(data) = &mut self.data
        {
            // A broken one is the server's to report.
            self.data_done = data.pump(host) == DataState::Done;
        }
        while self.progress == Progress::Working {
            if self.is_data_missing() || self.is_thinking(now) {
                break;
            }
            let Some(line) = self.control.line() else {
                break;
            };
            self.reply(&line, host);
        }
        if !open {
            if !std::mem::replace(&mut self.has_seen_end, true) {
                self.notes.push(Note::Ended(self.from));
            }
            if self.progress == Progress::Working && self.control.received.is_empty() {
                self.fail(format!(
                    "the control connection ended while waiting for {:?}",
                    self.state
                ));
            }
        }
        self.control.pump(host);
    }
}
