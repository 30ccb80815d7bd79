//! The FTP sessions of a capture: who said what, which port was opened by which line, and what
//! became of it.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};

use serde::Serialize;

use crate::conntrack::Tuple;
use crate::observe::{Event, EventKind, Mode, Speaker};
use crate::wire::Side;

/// Sessions that are told in full; more are counted only.
const MAX_SESSIONS: usize = 10_000;
/// Ports and refusals of one session that are told; more are counted only.
const MAX_EACH: usize = 1_000;
/// Lines of a dialogue that are told again at the end: so many first ones, so many last ones.
const SHOWN_LINES: usize = 20;
/// Control connections without an answer that are remembered.
const MAX_WAITING: usize = 65_536;

/// As the event says it.
const SERVER_INSIDE: &str = "server inside";

/// All that was told of sessions.
#[derive(Debug, Default)]
pub(super) struct Story {
    pub(super) sessions: Vec<Session>,
    /// Sessions beyond those told in full.
    pub(super) more_sessions: u64,
    pub(super) data_syns: u64,
    /// The place of the latest session of each number.
    by_id: HashMap<u64, usize>,
    /// The latest port that was opened at this address.
    by_port: HashMap<SocketAddr, (usize, usize)>,
    /// Control connections that were not answered yet, and the packets that began them.
    waiting: HashMap<u64, u64>,
}

/// One FTP session.
#[derive(Clone, Debug, Serialize)]
pub struct Session {
    /// Its number, as in events.
    pub session: u64,
    /// Who opened the control connection.
    pub client: SocketAddr,
    /// Whom to.
    pub server: SocketAddr,
    /// "server inside" or "server outside".
    pub server_side: &'static str,
    /// The packet that began the control connection.
    pub first_packet: u64,
    /// Who logged in.
    pub user: Option<String>,
    /// How it ended, if it did.
    pub ended: Option<Ended>,
    /// The control connection went TLS with this packet.
    pub tls_at: Option<u64>,
    /// Why it was found not to be FTP.
    pub not_ftp: Option<&'static str>,
    /// How many lines were said.
    pub lines: u64,
    /// The first lines.
    pub first_lines: Vec<Line>,
    /// The last lines, as far as they are not among the first ones.
    pub last_lines: VecDeque<Line>,
    /// How many ports were opened.
    pub ports_opened: u64,
    /// The ports.
    pub ports: Vec<Port>,
    /// How many commands were refused.
    pub refused_commands: u64,
    /// The refusals, and what opened nothing.
    pub refusals: Vec<Refusal>,
    #[serde(skip)]
    latest_line: Option<String>,
}

/// How something ended.
#[derive(Clone, Debug, Serialize)]
pub struct Ended {
    /// With this packet; `None`: when its time was over.
    pub packet: Option<u64>,
    /// Why.
    pub why: String,
}

/// A line of a dialogue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Line {
    /// The packet that made it whole.
    pub packet: Option<u64>,
    /// Who said it.
    pub from: Speaker,
    /// What, without passwords.
    pub text: String,
}

/// A port that was opened.
#[derive(Clone, Debug, Serialize)]
pub struct Port {
    /// How it was agreed on.
    pub mode: Mode,
    /// Who may connect.
    pub from: IpAddr,
    /// Where to.
    pub to: SocketAddr,
    /// The packet that opened it.
    pub opened_by: Option<u64>,
    /// The line that opened it.
    pub line: Option<String>,
    /// The SYN that was let through by it.
    pub syn: Option<u64>,
    /// The packet that made the data connection (SYN-ACK).
    pub used_by: Option<u64>,
    /// How it was closed without being used.
    pub closed: Option<Ended>,
    /// The packet with which the data connection ended.
    pub data_ended: Option<u64>,
    /// What was carried there and back, once it ended.
    pub bytes: Option<[u64; 2]>,
}

/// Something that was refused, or opened nothing.
#[derive(Clone, Debug, Serialize)]
pub struct Refusal {
    /// The packet.
    pub packet: Option<u64>,
    /// The command or reply.
    pub what: String,
    /// Why.
    pub why: &'static str,
    /// It was a command, made unreadable; else it passed as it was and opened nothing.
    pub overwritten: bool,
}

impl Story {
    /// A control connection began with this packet.
    pub(super) fn control_syn(&mut self, session: u64, packet: u64) {
        if self.waiting.len() >= MAX_WAITING {
            self.waiting.clear();
        }
        self.waiting.insert(session, packet);
    }

    /// A data connection of a session began. Says by which port it came in.
    pub(super) fn data_syn(&mut self, session: u64, tuple: &Tuple, packet: u64) -> Option<String> {
        self.data_syns += 1;
        let to = SocketAddr::new(tuple.dst, tuple.dst_port);
        let port = self.port(session, to, |port| port.used_by.is_none())?;
        port.syn = Some(packet);
        Some(format!(
            "uses port {} ({}), {}",
            to.port(),
            port.mode,
            port.opening()
        ))
    }

    /// What is known of the port that a dropped SYN wanted.
    pub(super) fn history(&self, to: SocketAddr) -> Option<String> {
        let &(session, port) = self.by_port.get(&to)?;
        let port = self.sessions.get(session)?.ports.get(port)?;
        Some(format!(
            "port {} of {} was {}, for {} only; it {}",
            to.port(),
            to.ip(),
            port.opening(),
            port.from,
            port.fate()
        ))
    }

    /// The side from which a data connection to an open port must come.
    pub(super) fn expected_side(&self, from: IpAddr, to: SocketAddr) -> Option<Side> {
        let &(session, port) = self.by_port.get(&to)?;
        let session = self.sessions.get(session)?;
        let port = session.ports.get(port)?;
        let is_open = port.used_by.is_none() && port.closed.is_none() && port.from == from;
        let server_side = if session.server_side == SERVER_INSIDE {
            Side::Inside
        } else {
            Side::Outside
        };
        is_open.then(|| {
            if port.mode.is_active() {
                server_side
            } else {
                server_side.other()
            }
        })
    }

    /// An event, and the packet that caused it, if it was one.
    pub(super) fn tell(&mut self, event: &Event, packet: Option<u64>) {
        let id = event.session;
        if let EventKind::SessionOpened {
            client,
            server,
            server_side,
        } = &event.kind
        {
            let first = self.waiting.remove(&id).or(packet).unwrap_or_default();
            return self.begin(id, *client, *server, server_side, first);
        }
        let Some(place) = self.by_id.get(&id).copied() else {
            return;
        };
        let Some(session) = self.sessions.get_mut(place) else {
            return;
        };
        match &event.kind {
            EventKind::Line { from, text } => session.say(Line {
                packet,
                from: *from,
                text: text.as_str().to_owned(),
            }),
            EventKind::LoggedIn { user } => session.user = Some(user.as_str().to_owned()),
            EventKind::PortOpened(opened) => {
                session.ports_opened += 1;
                if session.ports.len() < MAX_EACH {
                    session.ports.push(Port {
                        mode: opened.mode,
                        from: opened.from,
                        to: opened.to,
                        opened_by: packet,
                        line: session.latest_line.clone(),
                        syn: None,
                        used_by: None,
                        closed: None,
                        data_ended: None,
                        bytes: None,
                    });
                    let port = session.ports.len() - 1;
                    self.by_port.insert(opened.to, (place, port));
                }
            }
            EventKind::PortUsed { to, .. } => {
                if let Some(port) = self.port(id, *to, |port| port.used_by.is_none()) {
                    port.used_by = packet;
                }
            }
            EventKind::PortClosed { to, why, .. } => {
                let is_open = |port: &Port| port.used_by.is_none() && port.closed.is_none();
                if let Some(port) = self.port(id, *to, is_open) {
                    port.closed = Some(Ended {
                        packet,
                        why: (*why).to_owned(),
                    });
                }
            }
            EventKind::DataClosed {
                to,
                bytes_sent,
                bytes_received,
                ..
            } => {
                let is_live = |port: &Port| port.used_by.is_some() && port.bytes.is_none();
                if let Some(port) = self.port(id, *to, is_live) {
                    port.data_ended = packet;
                    port.bytes = Some([*bytes_sent, *bytes_received]);
                }
            }
            EventKind::Refused { what, why } => {
                session.refused_commands += 1;
                // It was refused before its line was whole; by now it may be.
                let line = session.latest_line.take();
                let whole = line
                    .as_deref()
                    .filter(|line| line.starts_with(what.as_str()));
                session.refuse(packet, whole.unwrap_or(what.as_str()), why, true);
                session.latest_line = line;
            }
            EventKind::NotOpened { what, why } => {
                session.refuse(packet, what.as_str(), why, false);
            }
            EventKind::Encrypted { .. } => session.tls_at = packet,
            EventKind::NotFtp { why } => session.not_ftp = Some(why),
            EventKind::SessionClosed { why, .. } => {
                session.ended = Some(Ended {
                    packet,
                    why: (*why).to_owned(),
                });
            }
            // What is not about ports or the dialogue is told where it happened.
            _ => {}
        }
    }

    fn begin(
        &mut self,
        id: u64,
        client: SocketAddr,
        server: SocketAddr,
        server_side: &'static str,
        first_packet: u64,
    ) {
        if self.sessions.len() >= MAX_SESSIONS {
            self.more_sessions += 1;
            self.by_id.remove(&id);
            return;
        }
        self.by_id.insert(id, self.sessions.len());
        self.sessions.push(Session {
            session: id,
            client,
            server,
            server_side,
            first_packet,
            user: None,
            ended: None,
            tls_at: None,
            not_ftp: None,
            lines: 0,
            first_lines: Vec::new(),
            last_lines: VecDeque::new(),
            ports_opened: 0,
            ports: Vec::new(),
            refused_commands: 0,
            refusals: Vec::new(),
            latest_line: None,
        });
    }

    /// The latest port of a session at this address that fits.
    fn port(
        &mut self,
        session: u64,
        to: SocketAddr,
        fits: impl Fn(&Port) -> bool,
    ) -> Option<&mut Port> {
        let place = *self.by_id.get(&session)?;
        let ports = &mut self.sessions.get_mut(place)?.ports;
        ports
            .iter_mut()
            .rev()
            .find(|port| port.to == to && fits(port))
    }
}

impl Session {
    fn say(&mut self, line: Line) {
        self.lines += 1;
        self.latest_line = Some(line.text.clone());
        if self.first_lines.len() < SHOWN_LINES {
            return self.first_lines.push(line);
        }
        if self.last_lines.len() >= SHOWN_LINES {
            self.last_lines.pop_front();
        }
        self.last_lines.push_back(line);
    }

    fn refuse(&mut self, packet: Option<u64>, what: &str, why: &'static str, overwritten: bool) {
        if self.refusals.len() < MAX_EACH {
            self.refusals.push(Refusal {
                packet,
                what: what.to_owned(),
                why,
                overwritten,
            });
        }
    }
}

impl Port {
    /// How it was opened.
    #[must_use]
    pub fn opening(&self) -> String {
        let packet = at(self.opened_by);
        match &self.line {
            Some(line) => format!("opened {packet} by '{line}'"),
            None => format!("opened {packet}"),
        }
    }

    /// What became of it.
    #[must_use]
    pub fn fate(&self) -> String {
        match (self.syn, self.used_by, &self.closed) {
            (Some(syn), Some(answer), _) => {
                let carried = match self.bytes {
                    Some([there, back]) => format!(": {there} bytes there, {back} back"),
                    None => String::new(),
                };
                format!("was used by packet {syn} (answered by {answer}){carried}")
            }
            (None, Some(answer), _) => format!("was used by packet {answer}"),
            (syn, None, Some(closed)) => {
                let tried = match syn {
                    Some(syn) => format!(", though packet {syn} tried"),
                    None => String::new(),
                };
                format!(
                    "was closed {} unused{tried}: {}",
                    at(closed.packet),
                    closed.why
                )
            }
            (Some(syn), None, None) => format!("was tried by packet {syn}, without an answer"),
            (None, None, None) => "was not used".to_owned(),
        }
    }
}

/// "by packet 7", or what else it was.
fn at(packet: Option<u64>) -> String {
    match packet {
        Some(packet) => format!("with packet {packet}"),
        None => "in time's course".to_owned(),
    }
}
