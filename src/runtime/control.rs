//! The control socket: one JSON request a line, one JSON answer a line. The request to reload
//! announces a number of bytes, which follow its line: the rules as text, in JSON.
//!
//! It is an abstract Unix socket, so it lives in the network namespace in which lotus runs and
//! vanishes with the process. Only root and the user that runs lotus are answered.

use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt::socket_peercred;
use rustix::process::geteuid;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::reload::{ReloadAnswer, RulesAnswer};
use super::rules_file::{self, RulesText};
use super::status::{PROTOCOL_VERSION, Status};

/// Longest line of a request; the longest there is has the path of a file in it.
const REQUEST_BYTES: usize = 8192;
/// Read at a time.
const CHUNK_BYTES: usize = 64 << 10;
/// Longest answer that a client takes. A status with every drop reason has about 4 KiB, a failed reload
/// up to 512; the listing of the largest rules has some times what they had as text.
const ANSWER_BYTES: u64 = 128 << 20;
/// Most bytes of rules on their way: they come as JSON, which takes more for quotes and line ends.
const UPLOAD_BYTES: usize = 2 * rules_file::BYTES_MAX;
/// Clients at a time; more wait in the backlog of the socket.
const CONNECTIONS: usize = 8;
/// A client that neither asks nor reads for so long is hung up on.
const IDLE_PATIENCE: Duration = Duration::from_secs(10);
/// How long a client waits for lotus. It answers within a millisecond unless the machine is full, or
/// somebody else's rules are just checked.
const ANSWER_PATIENCE: Duration = Duration::from_secs(5);
/// How long it waits until rules are checked: the largest file takes some seconds.
const RELOAD_PATIENCE: Duration = Duration::from_secs(60);
const NAME_PREFIX: &str = "lotus/control/";
/// `__SO_ACCEPTCON` in /proc/net/unix: a socket that listens.
const LISTENING: u32 = 1 << 16;

/// The two ports that a control socket is named after.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address {
    /// Name of the inside interface.
    pub inside: String,
    /// Name of the outside interface.
    pub outside: String,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}+{}", self.inside, self.outside)
    }
}

impl Address {
    fn socket(&self) -> io::Result<SocketAddr> {
        SocketAddr::from_abstract_name(format!("{NAME_PREFIX}{self}"))
    }

    /// Those of all lotus processes in this network namespace.
    ///
    /// # Errors
    ///
    /// `/proc` cannot be read.
    pub fn all() -> io::Result<Vec<Address>> {
        let table = std::fs::read("/proc/self/net/unix")?;
        Ok(listening(&String::from_utf8_lossy(&table)))
    }
}

/// Reads /proc/net/unix: `Num RefCount Protocol Flags Type St Inode Path`.
fn listening(table: &str) -> Vec<Address> {
    let mut found: Vec<Address> = table
        .lines()
        .filter_map(|line| {
            let mut fields = line.split_ascii_whitespace();
            let flags = u32::from_str_radix(fields.nth(3)?, 16).ok()?;
            let name = fields
                .nth(3)?
                .strip_prefix('@')?
                .strip_prefix(NAME_PREFIX)?;
            // A '+' is legal in the name of an interface, but nobody has that; take the first.
            let (inside, outside) = name.split_once('+')?;
            (flags & LISTENING != 0).then(|| Address {
                inside: inside.to_owned(),
                outside: outside.to_owned(),
            })
        })
        .collect();
    found.sort();
    found.dedup();
    found
}

/// Why a running lotus could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody listens, or the conversation broke.
    #[error("cannot talk to the lotus between {0}: {1}")]
    Io(Address, io::Error),
    /// Another user's program has taken the name.
    #[error(
        "the control socket for {address} belongs to user {uid}, not to root or you: it is not asked"
    )]
    Stranger {
        /// The socket's name.
        address: Address,
        /// Whose it is.
        uid: u32,
    },
    /// It said no.
    #[error("the lotus between {0} answers: {1}")]
    Refused(Address, String),
    /// It speaks another protocol.
    #[error("the lotus between {0} answers something that was not asked: {1}")]
    Strange(Address, serde_json::Error),
}

/// Asks for the status.
///
/// # Errors
///
/// See [`AskError`].
pub fn ask_status(address: &Address) -> Result<Status, AskError> {
    let request = serde_json::json!({"v": PROTOCOL_VERSION, "cmd": "status"});
    ask(address, &request, b"", ANSWER_PATIENCE)
}

/// Has it take these rules.
///
/// # Errors
///
/// See [`AskError`]. That the rules are wrong is an answer and no error.
pub fn ask_reload(address: &Address, rules: &RulesText) -> Result<ReloadAnswer, AskError> {
    let failed = |error| AskError::Io(address.clone(), io::Error::from(error));
    let body = serde_json::to_vec(rules).map_err(failed)?;
    let request = serde_json::json!({"v": PROTOCOL_VERSION, "cmd": "reload", "bytes": body.len()});
    ask(address, &request, &body, RELOAD_PATIENCE)
}

/// Asks for the rules in force.
///
/// # Errors
///
/// See [`AskError`].
pub fn ask_rules(address: &Address) -> Result<RulesAnswer, AskError> {
    let request = serde_json::json!({"v": PROTOCOL_VERSION, "cmd": "rules"});
    ask(address, &request, b"", ANSWER_PATIENCE)
}

/// Sends a request and what follows its line.
fn ask<T: DeserializeOwned>(
    address: &Address,
    request: &serde_json::Value,
    more: &[u8],
    patience: Duration,
) -> Result<T, AskError> {
    #[derive(Deserialize)]
    struct Refusal {
        error: String,
    }
    let stream = address
        .socket()
        .and_then(|socket| UnixStream::connect_addr(&socket))
        .map_err(|error| AskError::Io(address.clone(), error))?;
    let failed = |error| AskError::Io(address.clone(), error);
    let uid = peer(&stream).map_err(failed)?;
    if !may_speak(uid) {
        return Err(AskError::Stranger {
            address: address.clone(),
            uid,
        });
    }
    let request = [format!("{request}\n").as_bytes(), more].concat();
    let line = exchange(&stream, &request, patience).map_err(failed)?;
    if let Ok(Refusal { error }) = serde_json::from_str(&line) {
        return Err(AskError::Refused(address.clone(), error));
    }
    serde_json::from_str(&line).map_err(|error| AskError::Strange(address.clone(), error))
}

fn exchange(mut stream: &UnixStream, request: &[u8], patience: Duration) -> io::Result<String> {
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))?;
    // A server that refuses this user may have hung up already; its answer tells why.
    let sent = stream.write_all(request);
    let mut line = String::new();
    let read = BufReader::new(stream.take(ANSWER_BYTES)).read_line(&mut line);
    if line.ends_with('\n') {
        return Ok(line);
    }
    sent?;
    match read {
        Ok(_) => Err(io::ErrorKind::UnexpectedEof.into()),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(io::Error::new(
            io::ErrorKind::TimedOut,
            format!("no answer within {} s", patience.as_secs()),
        )),
        Err(error) => Err(error),
    }
}

fn peer(stream: &UnixStream) -> io::Result<u32> {
    Ok(socket_peercred(stream)?.uid.as_raw())
}

/// Root, and the user that this process runs as.
fn may_speak(uid: u32) -> bool {
    uid == 0 || uid == geteuid().as_raw()
}

/// What may be asked of a running lotus.
pub trait Desk: Send + 'static {
    /// The numbers as they stand.
    fn status(&self) -> Status;

    /// Checks rules and puts them into force.
    fn reload(&self, rules: RulesText) -> ReloadAnswer;

    /// The rules in force.
    fn rules(&self) -> RulesAnswer;
}

/// The thread that answers. Dropping it ends it and frees the name.
#[derive(Debug)]
pub struct ControlServer {
    /// Closing this end wakes the thread.
    wake: Option<UnixStream>,
    thread: Option<JoinHandle<()>>,
}

impl ControlServer {
    /// Takes the name and answers with what the desk says. Nobody else is answered while rules are
    /// checked.
    ///
    /// # Errors
    ///
    /// The name is taken, or there is no thread to be had.
    pub fn start(address: &Address, desk: impl Desk) -> io::Result<ControlServer> {
        let listener = UnixListener::bind_addr(&address.socket()?)?;
        listener.set_nonblocking(true)?;
        let (wake, woken) = UnixStream::pair()?;
        let thread = thread::Builder::new()
            .name("lotus-control".to_owned())
            .spawn(move || {
                Server {
                    listener,
                    woken,
                    connections: Vec::new(),
                    desk,
                }
                .serve();
            })?;
        Ok(ControlServer {
            wake: Some(wake),
            thread: Some(thread),
        })
    }
}

impl Drop for ControlServer {
    fn drop(&mut self) {
        self.wake.take();
        if let Some(thread) = self.thread.take() {
            // A panic in it has been printed by the hook already.
            let _ = thread.join();
        }
    }
}

struct Server<D> {
    listener: UnixListener,
    woken: UnixStream,
    connections: Vec<Connection>,
    desk: D,
}

impl<D: Desk> Server<D> {
    fn serve(mut self) {
        loop {
            let ready = match self.wait() {
                Ok(ready) => ready,
                Err(rustix::io::Errno::INTR) => continue,
                // Out of kernel memory; nothing here is worth a busy loop.
                Err(_) => {
                    thread::sleep(Duration::from_millis(100));
                    continue;
                }
            };
            if ready.woken {
                return;
            }
            let desk = &self.desk;
            let mut index = 0;
            self.connections.retain_mut(|connection| {
                let ready = ready.connections.get(index).copied().unwrap_or_default();
                index += 1;
                connection.go_on(ready, desk)
            });
            if ready.listener {
                self.accept();
            }
        }
    }

    fn wait(&self) -> Result<Ready, rustix::io::Errno> {
        let mut fds = vec![PollFd::new(&self.woken, PollFlags::IN)];
        for connection in &self.connections {
            let wish = if connection.answer.is_empty() {
                PollFlags::IN
            } else {
                PollFlags::OUT
            };
            fds.push(PollFd::new(&connection.stream, wish));
        }
        if self.connections.len() < CONNECTIONS {
            fds.push(PollFd::new(&self.listener, PollFlags::IN));
        }
        let timeout = self
            .connections
            .iter()
            .map(|connection| {
                connection
                    .deadline
                    .saturating_duration_since(Instant::now())
            })
            .min()
            .and_then(|left| Timespec::try_from(left).ok());
        poll(&mut fds, timeout.as_ref())?;
        let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        let (woken, rest) = ready
            .split_first()
            .map_or((false, &[][..]), |(&w, rest)| (w, rest));
        let (connections, listener) = rest.split_at(self.connections.len());
        Ok(Ready {
            woken,
            connections: connections.to_vec(),
            listener: listener.first().copied().unwrap_or_default(),
        })
    }

    fn accept(&mut self) {
        while self.connections.len() < CONNECTIONS {
            let stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // No descriptors are left, perhaps: not at once again.
                Err(_) => return thread::sleep(Duration::from_millis(100)),
            };
            let Ok(uid) = peer(&stream) else { continue };
            if stream.set_nonblocking(true).is_err() {
                continue;
            }
            let mut connection = Connection {
                stream,
                request: Vec::new(),
                upload: None,
                answer: Vec::new(),
                closing: false,
                deadline: Instant::now() + IDLE_PATIENCE,
            };
            if !may_speak(uid) {
                connection.refuse("only root and the user that runs lotus may ask; try sudo");
            }
            self.connections.push(connection);
        }
    }
}

struct Ready {
    woken: bool,
    connections: Vec<bool>,
    listener: bool,
}

struct Connection {
    stream: UnixStream,
    request: Vec<u8>,
    /// So many bytes that come next are rules.
    upload: Option<usize>,
    answer: Vec<u8>,
    /// Hang up when the answer is out.
    closing: bool,
    deadline: Instant,
}

/// What a line asks for.
enum Asked {
    Answer(Vec<u8>),
    /// To take so many bytes of rules.
    Upload(usize),
}

impl Connection {
    /// Does what can be done without waiting; returns whether to keep the connection.
    fn go_on(&mut self, ready: bool, desk: &impl Desk) -> bool {
        if !ready {
            return Instant::now() < self.deadline;
        }
        let went = if self.answer.is_empty() {
            self.read(desk)
        } else {
            Ok(true)
        };
        match went.and_then(|open| Ok(open && self.write(desk)?)) {
            Ok(open) => {
                self.deadline = Instant::now() + IDLE_PATIENCE;
                open
            }
            Err(error) => error.kind() == io::ErrorKind::WouldBlock,
        }
    }

    fn read(&mut self, desk: &impl Desk) -> io::Result<bool> {
        let mut chunk = [0; CHUNK_BYTES];
        let count = self.stream.read(&mut chunk)?;
        self.request.extend_from_slice(&chunk[..count]);
        self.take_requests(desk);
        Ok(count > 0)
    }

    fn write(&mut self, desk: &impl Desk) -> io::Result<bool> {
        while !self.answer.is_empty() {
            let count = self.stream.write(&self.answer)?;
            self.answer.drain(..count);
            if self.answer.is_empty() && !self.closing {
                self.take_requests(desk);
            }
        }
        Ok(!self.closing)
    }

    /// Answers one complete request; the next one waits until that answer is out.
    fn take_requests(&mut self, desk: &impl Desk) {
        if self.upload.is_none() {
            self.take_line(desk);
        }
        let Some(bytes) = self.upload.take_if(|bytes| *bytes <= self.request.len()) else {
            return;
        };
        let rest = self.request.split_off(bytes);
        let rules = std::mem::replace(&mut self.request, rest);
        self.answer = match serde_json::from_slice::<RulesText>(&rules) {
            Ok(rules) => json_line(&desk.reload(rules)),
            Err(error) => refusal(&format!("these are no rules: {error}")),
        };
    }

    fn take_line(&mut self, desk: &impl Desk) {
        match self.request.iter().position(|&byte| byte == b'\n') {
            Some(end) if end <= REQUEST_BYTES => {
                let line: Vec<u8> = self.request.drain(..=end).collect();
                match asked(&line, desk) {
                    Asked::Answer(answer) => self.answer = answer,
                    Asked::Upload(bytes) if bytes <= UPLOAD_BYTES => self.upload = Some(bytes),
                    // What follows can't be told from requests.
                    Asked::Upload(bytes) => {
                        self.refuse(&format!(
                            "rules of {bytes} bytes; the most are {UPLOAD_BYTES}"
                        ));
                    }
                }
            }
            None if self.request.len() <= REQUEST_BYTES => {}
            _ => self.refuse(&format!("the request is longer than {REQUEST_BYTES} bytes")),
        }
    }

    fn refuse(&mut self, why: &str) {
        self.answer = refusal(why);
        self.closing = true;
    }
}

fn asked(line: &[u8], desk: &impl Desk) -> Asked {
    #[derive(Deserialize)]
    struct Request {
        v: u32,
        cmd: String,
        #[serde(default)]
        bytes: usize,
    }
    let request = match serde_json::from_slice::<Request>(line) {
        Ok(request) => request,
        Err(error) => return Asked::Answer(refusal(&format!("not a request: {error}"))),
    };
    let Request { v, cmd, bytes } = request;
    Asked::Answer(match cmd.as_str() {
        _ if v != PROTOCOL_VERSION => refusal(&format!(
            "protocol version {v} is not spoken here, only {PROTOCOL_VERSION}"
        )),
        "status" => json_line(&desk.status()),
        "rules" => json_line(&desk.rules()),
        "reload" => return Asked::Upload(bytes),
        _ => refusal("unknown command; there are: status, rules, reload"),
    })
}

fn json_line(answer: &impl serde::Serialize) -> Vec<u8> {
    match serde_json::to_vec(answer) {
        Ok(mut text) => {
            text.push(b'\n');
            text
        }
        Err(error) => refusal(&format!("the answer cannot be written: {error}")),
    }
}

fn refusal(why: &str) -> Vec<u8> {
    let mut text = serde_json::json!({"v": PROTOCOL_VERSION, "error": why}).to_string();
    text.push('\n');
    text.into_bytes()
}

#[cfg(test)]
mod tests;
