//! A small FTP server and a small FTP client as state machines over smoltcp sockets.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use lotus::conntrack::Time;
use smoltcp::iface::SocketHandle;
use smoltcp::socket::tcp::{RecvError, State};

use crate::host::Host;
use crate::oracle::Agreement;
use crate::world::Program;

pub const CONTROL_PORT: u16 = 21;
/// What the server calls the answer to LIST.
pub const LISTING: &str = "/listing";
/// How long the client thinks between the answer to its PORT or PASV and the transfer, so that
/// there is a time in which a port is open and not yet used.
const THINKING: Duration = Duration::from_secs(1);
/// How long the server waits for a data connection: shorter than lotus keeps a port open.
const DATA_WAIT: Duration = Duration::from_secs(40);

/// Who opens the data connection and which command asks for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataMode {
    Port,
    Eprt,
    Pasv,
    Epsv,
}

impl DataMode {
    pub fn is_active(self) -> bool {
        matches!(self, DataMode::Port | DataMode::Eprt)
    }
}

/// One transfer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    Retr(String),
    Stor(String, Vec<u8>),
    List,
}

/// Lines in, lines out, over one socket.
struct Control {
    handle: SocketHandle,
    received: Vec<u8>,
    to_send: VecDeque<u8>,
}

impl Control {
    fn new(handle: SocketHandle) -> Control {
        Control {
            handle,
            received: Vec::new(),
            to_send: VecDeque::new(),
        }
    }

    fn say(&mut self, line: &str) {
        self.to_send.extend(line.as_bytes());
        self.to_send.extend(b"\r\n");
    }

    /// Moves bytes; `false` once the other end has closed or is gone.
    fn pump(&mut self, host: &mut Host) -> bool {
        let socket = host.socket(self.handle);
        if socket.can_send() && !self.to_send.is_empty() {
            let sent = socket
                .send_slice(self.to_send.make_contiguous())
                .unwrap_or(0);
            self.to_send.drain(..sent);
        }
        let received = &mut self.received;
        while socket.can_recv() {
            let _ = socket.recv(|bytes| {
                received.extend_from_slice(bytes);
                (bytes.len(), ())
            });
        }
        socket.may_recv()
            || matches!(
                socket.state(),
                State::SynSent | State::SynReceived | State::Listen
            )
    }

    fn line(&mut self) -> Option<String> {
        let end = self.received.windows(2).position(|pair| pair == b"\r\n")?;
        let line = String::from_utf8_lossy(&self.received[..end]).into_owned();
        self.received.drain(..end + 2);
        Some(line)
    }

    fn is_flushed(&self) -> bool {
        self.to_send.is_empty()
    }
}

/// One end of a data connection.
struct Data {
    handle: SocketHandle,
    sending: Option<VecDeque<u8>>,
    received: Vec<u8>,
}

#[derive(Debug, PartialEq, Eq)]
enum DataState {
    Waiting,
    Busy,
    /// Everything was sent and closed, or everything was received.
    Done,
    Broken,
}

impl Data {
    fn pump(&mut self, host: &mut Host) -> DataState {
        let socket = host.socket(self.handle);
        match socket.state() {
            State::Listen | State::SynSent | State::SynReceived => return DataState::Waiting,
            State::Closed => return DataState::Broken,
            _ => {}
        }
        if let Some(bytes) = &mut self.sending {
            if !socket.may_send() {
                return DataState::Broken;
            }
            if socket.can_send() {
                let sent = socket.send_slice(bytes.make_contiguous()).unwrap_or(0);
                bytes.drain(..sent);
            }
            if bytes.is_empty() {
                host.close(self.handle);
                return DataState::Done;
            }
            return DataState::Busy;
        }
        let received = &mut self.received;
        loop {
            let result = socket.recv(|bytes| {
                received.extend_from_slice(bytes);
                (bytes.len(), bytes.len())
            });
            match result {
                Ok(0) => return DataState::Busy,
                Ok(_) => {}
                Err(RecvError::Finished) => {
                    host.close(self.handle);
                    return DataState::Done;
                }
                Err(RecvError::InvalidState) => return DataState::Broken,
            }
        }
    }
}

pub struct Server {
    address: IpAddr,
    listener: SocketHandle,
    control: Option<Control>,
    /// Whether active data connections come from port 20.
    from_port_20: bool,
    pub files: HashMap<String, Vec<u8>>,
    pub agreed: Vec<Agreement>,
    ready: Option<Ready>,
    transfer: Option<ServerTransfer>,
    closing: bool,
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
    pub fn new(address: IpAddr, from_port_20: bool, host: &mut Host) -> Server {
        Server {
            address,
            listener: host.listen(SocketAddr::new(address, CONTROL_PORT)),
            control: None,
            from_port_20,
            files: HashMap::new(),
            agreed: Vec::new(),
            ready: None,
            transfer: None,
            closing: false,
        }
    }

    fn command(&mut self, line: &str, now: Time, host: &mut Host) -> Option<String> {
        let (verb, argument) = line.split_once(' ').unwrap_or((line, ""));
        let answer = match verb {
            "USER" => "331 Password please".into(),
            "PASS" => "230 Logged in".into(),
            "TYPE" => "200 Type set".into(),
            "PORT" | "EPRT" => {
                let Some(to) = parse_address(verb, argument) else {
                    return Some("501 Bad".into());
                };
                self.forget_ready(host);
                self.ready = Some(Ready::Active(to));
                "200 Will connect".into()
            }
            "PASV" | "EPSV" => {
                self.forget_ready(host);
                let port = host.fresh_port(30_000, 9_000);
                let at = SocketAddr::new(self.address, port);
                self.ready = Some(Ready::Passive(host.listen(at)));
                let from = self.control.as_ref().and_then(|control| {
                    host.socket(control.handle)
                        .remote_endpoint()
                        .map(|end| end.addr.into())
                })?;
                self.agreed.push(Agreement { from, to: at });
                if verb == "PASV" {
                    format!("227 Entering Passive Mode ({}).", six_numbers(at))
                } else {
                    format!("229 Entering Extended Passive Mode (|||{port}|)")
                }
            }
            "RETR" | "LIST" | "STOR" => return Some(self.begin(verb, argument, now, host)),
            "QUIT" => {
                self.closing = true;
                "221 Bye".into()
            }
            _ => "502 What?".into(),
        };
        Some(answer)
    }

    fn begin(&mut self, verb: &str, argument: &str, now: Time, host: &mut Host) -> String {
        let name = if verb == "LIST" { LISTING } else { argument };
        let content = self.files.get(name).cloned();
        if verb != "STOR" && content.is_none() {
            return "550 No such file".into();
        }
        let handle = match self.ready.take() {
            None => return "425 PORT or PASV first".into(),
            Some(Ready::Passive(listener)) => listener,
            Some(Ready::Active(to)) => {
                let port = if self.from_port_20 {
                    20
                } else {
                    host.fresh_port(1_100, 8_000)
                };
                host.connect(SocketAddr::new(self.address, port), to)
            }
        };
        let sending = (verb != "STOR").then(|| content.unwrap_or_default().into());
        self.transfer = Some(ServerTransfer {
            data: Data {
                handle,
                sending,
                received: Vec::new(),
            },
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
            self.files.insert(name, transfer.data.received);
        }
        Some(answer)
    }
}

impl Program for Server {
    fn step(&mut self, now: Time, host: &mut Host) {
        let listener = self.listener;
        if self.control.is_none() && host.socket(listener).may_send() {
            let mut control = Control::new(listener);
            control.say("220 sim FTP server");
            self.control = Some(control);
        }
        let Some(mut control) = self.control.take() else {
            return;
        };
        let open = control.pump(host);
        self.control = Some(control);
        while self.transfer.is_none()
            && let Some(line) = self.control.as_mut().and_then(Control::line)
        {
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
            if control.is_flushed() && (self.closing || !open) {
                host.socket(control.handle).close();
            }
        }
    }
}

/// How far the client is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    Working,
    Done,
    Failed(String),
}

pub struct Client {
    address: IpAddr,
    server: SocketAddr,
    control: Control,
    modes: Vec<DataMode>,
    ops: VecDeque<Op>,
    state: Awaits,
    data: Option<Data>,
    data_done: bool,
    thinking_until: Option<Time>,
    /// How often a transfer whose data connection failed is tried again.
    retries_left: u32,
    pub retried: u32,
    pub progress: Progress,
    pub agreed: Vec<Agreement>,
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
    Quit,
}

impl Client {
    /// Connects; transfer number n uses mode number n, round robin.
    pub fn new(
        address: IpAddr,
        server: SocketAddr,
        modes: Vec<DataMode>,
        ops: Vec<Op>,
        retries: u32,
        host: &mut Host,
    ) -> Client {
        let from = SocketAddr::new(address, host.fresh_port(50_000, 10_000));
        Client {
            address,
            server,
            control: Control::new(host.connect(from, server)),
            modes,
            ops: ops.into(),
            state: Awaits::Greeting,
            data: None,
            data_done: false,
            thinking_until: None,
            retries_left: retries,
            retried: 0,
            progress: Progress::Working,
            agreed: Vec::new(),
            fetched: Vec::new(),
        }
    }

    /// Begins to think when the answer is here; the answer is read when the thinking is over.
    fn is_thinking(&mut self, now: Time) -> bool {
        if self.state != Awaits::DataPort || !self.control.received.ends_with(b"\r\n") {
            return false;
        }
        if now < *self.thinking_until.get_or_insert(now + THINKING) {
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
            (Awaits::Transfer, "150") => return,
            (Awaits::Transfer, "226") => return self.finish_transfer(host),
            (Awaits::Transfer, "425" | "426") => return self.transfer_failed(line, host),
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
        if self.ops.is_empty() {
            self.control.say("QUIT");
            self.state = Awaits::Quit;
            return;
        }
        self.state = Awaits::DataPort;
        let mode = self.modes[0];
        if !mode.is_active() {
            self.control.say(if mode == DataMode::Pasv {
                "PASV"
            } else {
                "EPSV"
            });
            return;
        }
        let at = SocketAddr::new(self.address, host.fresh_port(20_000, 9_000));
        let handle = host.listen(at);
        self.data = Some(self.new_data(handle));
        self.agreed.push(Agreement {
            from: self.server.ip(),
            to: at,
        });
        let line = match (mode, at.ip()) {
            (DataMode::Port, _) => format!("PORT {}", six_numbers(at)),
            (_, IpAddr::V4(ip)) => format!("EPRT |1|{ip}|{}|", at.port()),
            (_, IpAddr::V6(ip)) => format!("EPRT |2|{ip}|{}|", at.port()),
        };
        self.control.say(&line);
    }

    fn new_data(&self, handle: SocketHandle) -> Data {
        let sending = match &self.ops[0] {
            Op::Stor(_, content) => Some(content.clone().into()),
            Op::Retr(_) | Op::List => None,
        };
        Data {
            handle,
            sending,
            received: Vec::new(),
        }
    }

    fn start_transfer(&mut self, line: &str, host: &mut Host) {
        if !self.modes[0].is_active() {
            let Some(to) = passive_target(line, self.server.ip()) else {
                return self.fail(format!("no port in '{line}'"));
            };
            let from = SocketAddr::new(self.address, host.fresh_port(50_000, 10_000));
            let handle = host.connect(from, to);
            self.data = Some(self.new_data(handle));
        }
        self.data_done = false;
        self.state = Awaits::Transfer;
        let line = match &self.ops[0] {
            Op::Retr(name) => format!("RETR {name}"),
            Op::Stor(name, _) => format!("STOR {name}"),
            Op::List => "LIST".into(),
        };
        self.control.say(&line);
    }

    /// The server says that it is done. What it sent may still be on its way.
    fn finish_transfer(&mut self, host: &mut Host) {
        if !self.data_done {
            return;
        }
        let Some(data) = self.data.take() else { return };
        match self.ops.pop_front() {
            Some(Op::Retr(name)) => self.fetched.push((name, data.received)),
            Some(Op::List) => self.fetched.push((LISTING.into(), data.received)),
            Some(Op::Stor(..)) | None => {}
        }
        self.modes.rotate_left(1);
        self.next_transfer(host);
    }

    fn transfer_failed(&mut self, line: &str, host: &mut Host) {
        if let Some(data) = self.data.take()
            && !(self.data_done)
        {
            host.abort(data.handle);
        }
        if self.retries_left == 0 {
            return self.fail(format!("data connection failed: {line}"));
        }
        self.retries_left -= 1;
        self.retried += 1;
        self.next_transfer(host);
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
            // A final reply that overtook the data waits here until the data is complete.
            if self.state == Awaits::Transfer
                && !self.data_done
                && self.control.received.starts_with(b"226")
            {
                break;
            }
            if self.is_thinking(now) {
                break;
            }
            let Some(line) = self.control.line() else {
                break;
            };
            self.reply(&line, host);
        }
        if !open && self.progress == Progress::Working && self.control.received.is_empty() {
            self.fail(format!(
                "the control connection ended while waiting for {:?}",
                self.state
            ));
        }
        self.control.pump(host);
    }
}

fn six_numbers(at: SocketAddr) -> String {
    let IpAddr::V4(ip) = at.ip() else {
        panic!("PORT and PASV know IPv4 only")
    };
    let [a, b, c, d] = ip.octets();
    let [high, low] = at.port().to_be_bytes();
    format!("{a},{b},{c},{d},{high},{low}")
}

fn parse_address(verb: &str, argument: &str) -> Option<SocketAddr> {
    if verb == "EPRT" {
        let mut fields = argument.split('|').skip(2);
        return Some(SocketAddr::new(
            fields.next()?.parse().ok()?,
            fields.next()?.parse().ok()?,
        ));
    }
    let numbers: Vec<u8> = argument.split(',').filter_map(|n| n.parse().ok()).collect();
    let [a, b, c, d, high, low] = numbers[..] else {
        return None;
    };
    Some(SocketAddr::from((
        [a, b, c, d],
        u16::from_be_bytes([high, low]),
    )))
}

fn passive_target(line: &str, server: IpAddr) -> Option<SocketAddr> {
    let inner = line.split_once('(')?.1.split_once(')')?.0;
    if line.starts_with("227") {
        return parse_address("PORT", inner);
    }
    Some(SocketAddr::new(
        server,
        inner.trim_matches('|').parse().ok()?,
    ))
}
