//! What the small FTP server and the small FTP client share.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use smoltcp::iface::SocketHandle;
use smoltcp::socket::tcp::{RecvError, State};

use crate::host::Host;

pub const CONTROL_PORT: u16 = 21;
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

/// What a transfer does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    Retr(String),
    Stor(String, Vec<u8>),
    List(String),
}

/// What else the client says while a transfer runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meanwhile {
    Nothing,
    /// NOOPs that keep the control connection alive; this many.
    Noop(u8),
    /// ABOR as RFC 959 section 4.1.3 has it: TELNET IP and Synch before it, urgent.
    Abort,
}

/// One transfer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transfer {
    pub mode: DataMode,
    pub op: Op,
    pub meanwhile: Meanwhile,
}

/// TELNET Interrupt Process, Data Mark: what comes before ABOR (RFC 959 section 4.1.3).
pub const TELNET_SYNCH: &[u8] = &[0xff, 0xf4, 0xff, 0xf2];
const ABOR: &[u8] = b"ABOR\r\n";

/// The files of a host.
pub type Files = Rc<RefCell<HashMap<String, Vec<u8>>>>;

/// Lines in, lines out, over one socket.
pub struct Control {
    pub handle: SocketHandle,
    pub received: Vec<u8>,
    to_send: VecDeque<u8>,
}

impl Control {
    pub fn new(handle: SocketHandle) -> Control {
        Control {
            handle,
            received: Vec::new(),
            to_send: VecDeque::new(),
        }
    }

    pub fn say(&mut self, line: &str) {
        self.to_send.extend(line.as_bytes());
        self.to_send.extend(b"\r\n");
    }

    /// Moves bytes; `false` once the other end has closed or is gone.
    pub fn pump(&mut self, host: &mut Host) -> bool {
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

    pub fn abort_transfer(&mut self) {
        self.to_send.extend(TELNET_SYNCH);
        self.to_send.extend(ABOR);
    }

    /// The next line, without TELNET commands, if the filter wants it now.
    pub fn line_if(&mut self, wanted: impl Fn(&str) -> bool) -> Option<String> {
        let end = self.received.windows(2).position(|pair| pair == b"\r\n")?;
        let line = &self.received[..end];
        let line = line.strip_prefix(TELNET_SYNCH).unwrap_or(line);
        let line = String::from_utf8_lossy(line).into_owned();
        if !wanted(&line) {
            return None;
        }
        self.received.drain(..end + 2);
        Some(line)
    }

    pub fn line(&mut self) -> Option<String> {
        self.line_if(|_| true)
    }

    pub fn is_flushed(&self) -> bool {
        self.to_send.is_empty()
    }
}

/// One end of a data connection.
pub struct Data {
    pub handle: SocketHandle,
    pub sending: Option<VecDeque<u8>>,
    pub received: Vec<u8>,
}

#[derive(Debug, PartialEq, Eq)]
pub enum DataState {
    Waiting,
    Busy,
    /// Everything was sent and closed, or everything was received.
    Done,
    Broken,
}

impl Data {
    pub fn new(handle: SocketHandle, sending: Option<VecDeque<u8>>) -> Data {
        Data {
            handle,
            sending,
            received: Vec::new(),
        }
    }

    pub fn pump(&mut self, host: &mut Host) -> DataState {
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

pub fn six_numbers(at: SocketAddr) -> String {
    let IpAddr::V4(ip) = at.ip() else {
        panic!("PORT and PASV know IPv4 only")
    };
    let [a, b, c, d] = ip.octets();
    let [high, low] = at.port().to_be_bytes();
    format!("{a},{b},{c},{d},{high},{low}")
}

pub fn parse_address(verb: &str, argument: &str) -> Option<SocketAddr> {
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

pub fn passive_target(line: &str, server: IpAddr) -> Option<SocketAddr> {
    let inner = line.split_once('(')?.1.split_once(')')?.0;
    if line.starts_with("227") {
        return parse_address("PORT", inner);
    }
    Some(SocketAddr::new(
        server,
        inner.trim_matches('|').parse().ok()?,
    ))
}
