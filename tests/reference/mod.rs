//! A second reading of FTP dialogues, to compare the helper with: slow, obvious, and without a line
//! of the helper's code. It is given whole turns in their order, and says which ports are opened,
//! which one is open at the end, and what the server gets.
//!
//! It is written from DESIGN.md section 5, RFC 959, RFC 2428 and RFC 1639. Whether a line must be
//! refused is asked anew for each of its beginnings, and each time the beginning is read from its
//! first byte on.

mod address;
mod line;

use std::net::IpAddr;

pub use address::{port_of_227, port_of_228, port_of_229};
use line::{Answer, Before, Line};

/// So many commands may wait for their answers.
const MOST_WAITING: usize = 64;

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Client,
    Server,
}

/// What one end says before the other one speaks, and in which pieces it travels.
#[derive(Clone, Debug)]
pub struct Turn {
    pub from: End,
    pub pieces: Vec<Vec<u8>>,
}

/// A port that was opened for the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opened {
    pub verb: &'static str,
    /// The end that listens.
    pub at: End,
    pub port: u16,
}

/// What the reference makes of a dialogue.
#[derive(Debug)]
pub struct Reader {
    client: IpAddr,
    /// Whether LPRT and LPSV are read; if not, LPRT is refused.
    reads_long: bool,
    stage: Stage,
    is_trusted: bool,
    has_asked_for_tls: bool,
    is_logged_in: bool,
    only_epsv: bool,
    has_spoken: bool,
    waiting: Vec<Waiting>,
    /// Every port that was opened, in order.
    pub opened: Vec<Opened>,
    /// The one that is open now.
    pub open: Option<Opened>,
    /// What the server gets.
    pub to_server: Vec<u8>,
    /// The line that the client has not finished: its bytes, each with the piece it came in.
    unfinished: Vec<(u8, usize)>,
    /// The unfinished line goes on one whose end was taken away.
    is_joined: bool,
    pieces: usize,
    from_server: Vec<u8>,
    before: Before,
    /// Whether each line of the client so far ended with CR LF.
    client_crlfs: Vec<bool>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    BeforeGreeting,
    Talking,
    /// TLS, or no FTP: nothing is read any more.
    Unreadable,
}

/// A command that was not answered yet.
#[derive(Clone, Debug)]
struct Waiting {
    verb: String,
    argument: String,
    /// Opens when it is answered well.
    later: Option<Opened>,
    /// Was opened at once.
    now: Option<Opened>,
    /// A transfer that was answered by 1xx.
    has_begun: bool,
    /// In its turn came a reply that is none to such a command.
    was_passed_over: bool,
}

impl Waiting {
    fn is_transfer(&self) -> bool {
        let transfers = ["RETR", "STOR", "STOU", "APPE", "LIST", "NLST", "MLSD"];
        transfers.contains(&self.verb.as_str())
    }

    fn is_epsv_all(&self) -> bool {
        self.verb == "EPSV" && self.argument.trim().eq_ignore_ascii_case("ALL")
    }

    fn asks_for_port(&self) -> bool {
        ["PASV", "EPSV", "LPSV"].contains(&self.verb.as_str()) && !self.is_epsv_all()
    }

    /// Whether RFC 959 section 5.4 has such a reply to such a command.
    fn may_hear(&self, code: u16) -> bool {
        if code >= 400 {
            true
        } else if self.asks_for_port() {
            (227..=229).contains(&code)
        } else if self.is_transfer() {
            code == 226 || code == 250
        } else if code == 225 {
            self.verb == "ABOR"
        } else {
            !(227..=229).contains(&code)
        }
    }
}

impl Reader {
    pub fn new(client: IpAddr, reads_long: bool) -> Reader {
        Reader {
            client,
            reads_long,
            stage: Stage::BeforeGreeting,
            is_trusted: true,
            has_asked_for_tls: false,
            is_logged_in: false,
            only_epsv: false,
            has_spoken: false,
            waiting: Vec::new(),
            opened: Vec::new(),
            open: None,
            to_server: Vec::new(),
            unfinished: Vec::new(),
            is_joined: false,
            pieces: 0,
            from_server: Vec::new(),
            before: Before::default(),
            client_crlfs: Vec::new(),
        }
    }

    pub fn turn(&mut self, turn: &Turn) {
        for piece in &turn.pieces {
            self.pieces += 1;
            for &byte in piece {
                match (turn.from, self.stage) {
                    (End::Client, Stage::Unreadable) => self.to_server.push(byte),
                    (End::Client, _) => self.client_byte(byte),
                    (End::Server, Stage::Unreadable) => {}
                    (End::Server, _) => self.server_byte(byte),
                }
            }
            if turn.from == End::Client && self.stage != Stage::Unreadable {
                self.piece_ended();
            }
        }
    }

    // What the client says.

    fn client_byte(&mut self, byte: u8) {
        if self.stage == Stage::BeforeGreeting {
            self.distrust();
        }
        self.unfinished.push((byte, self.pieces));
        if byte == b'\n' && !self.is_end_taken() {
            let bytes: Vec<u8> = self.unfinished.iter().map(|(byte, _)| *byte).collect();
            let is_refused = self.is_joined || self.refused_at(&bytes).is_some();
            self.send_line(true);
            self.is_joined = false;
            let is_rest = self.is_rest_of_the_last(&bytes);
            if is_refused {
                self.has_spoken = true;
                self.wait("", "", None, None);
            } else {
                self.command(&Line::read(&bytes), is_rest);
            }
        } else if byte == b'\n' {
            let bytes: Vec<u8> = self.unfinished.iter().map(|(byte, _)| *byte).collect();
            self.is_rest_of_the_last(&bytes);
            self.send_line(true);
            self.is_joined = true;
        }
    }

    /// Whether what ended the line before this one may be a part of a file's name (RFC 2640 section
    /// 3.1), and this line the rest of it: this client knows how a line ends.
    fn is_rest_of_the_last(&mut self, line: &[u8]) -> bool {
        let ended_oddly = self.client_crlfs.last().is_some_and(|crlf| !crlf);
        self.client_crlfs.push(line::ends_in_crlf(line));
        ended_oddly && self.client_crlfs.contains(&true)
    }

    /// The line turns out bad only at its end, and nothing else of it is in hand: then its end is
    /// what is taken away.
    fn is_end_taken(&self) -> bool {
        let bytes: Vec<u8> = self.unfinished.iter().map(|(byte, _)| *byte).collect();
        let last = bytes.len() - 1;
        !self.is_joined && self.refused_at(&bytes) == Some(last) && !self.has_text_in_hand(last)
    }

    /// Whether the piece of this byte has any text of the line, up to this byte.
    fn has_text_in_hand(&self, at: usize) -> bool {
        let piece = self.unfinished[at].1;
        self.unfinished[..=at]
            .iter()
            .any(|&(byte, of)| of == piece && !matches!(byte, b'\r' | b'\n'))
    }

    /// The first byte that makes the line refusable.
    fn refused_at(&self, bytes: &[u8]) -> Option<usize> {
        (0..bytes.len()).find(|&at| line::is_refusable(&bytes[..=at], self.client, self.reads_long))
    }

    /// What was in hand has left: it can't be changed any more.
    fn piece_ended(&mut self) {
        self.send_line(false);
    }

    /// Sends what is unfinished, except what was sent before.
    fn send_line(&mut self, is_finished: bool) {
        let bytes: Vec<u8> = self.unfinished.iter().map(|(byte, _)| *byte).collect();
        let refused_at = if self.is_joined {
            Some(0)
        } else {
            self.refused_at(&bytes)
        };
        for (at, &(byte, piece)) in self.unfinished.iter().enumerate() {
            if piece != self.pieces {
                continue; // sent with its own piece
            }
            let is_hidden = refused_at.is_some_and(|decided| {
                let in_hand = self.is_joined || piece >= self.unfinished[decided].1;
                let is_text = !matches!(byte, b'\r' | b'\n');
                let is_lonely_end =
                    at == decided && !self.is_joined && !self.has_text_in_hand(decided);
                in_hand && (is_text || is_lonely_end)
            });
            self.to_server.push(if is_hidden { b'X' } else { byte });
        }
        if is_finished {
            self.unfinished.clear();
        }
    }

    /// `is_rest`: it may be a part of the line before.
    fn command(&mut self, line: &Line, is_rest: bool) {
        let is_first = !std::mem::replace(&mut self.has_spoken, true);
        if is_first && !line.is_ftp() {
            return self.distrust();
        }
        if line.verb == "AUTH" {
            self.has_asked_for_tls = true;
        }
        let (mut later, mut now) = (None, None);
        if let Some(opened) = line.announces(self.reads_long) {
            if is_rest {
                // The server may have chosen the name that it stands in.
            } else if line.is_ambiguous || !self.waiting.is_empty() {
                later = Some(opened);
            } else if self.open_port(opened) {
                now = Some(opened);
            }
        }
        self.wait(&line.verb, &line.argument, later, now);
    }

    fn wait(&mut self, verb: &str, argument: &str, later: Option<Opened>, now: Option<Opened>) {
        if !self.is_trusted {
            return;
        }
        // A client that takes one reply for another goes on.
        if let [alone] = &self.waiting[..]
            && alone.was_passed_over
        {
            self.drop_first(1);
        }
        self.waiting.push(Waiting {
            verb: verb.to_owned(),
            argument: argument.to_owned(),
            later,
            now,
            has_begun: false,
            was_passed_over: false,
        });
        if self.waiting.len() > MOST_WAITING {
            self.distrust();
        }
    }

    // What the server says.

    fn server_byte(&mut self, byte: u8) {
        self.from_server.push(byte);
        if byte != b'\n' {
            return;
        }
        let line = std::mem::take(&mut self.from_server);
        match line::answer(&line, &mut self.before) {
            Answer::Unfinished => {}
            Answer::Noise if self.stage == Stage::BeforeGreeting => self.no_ftp(),
            Answer::Noise => {}
            Answer::Is {
                code,
                text,
                is_clear,
            } => self.answer(code, &text, is_clear),
        }
    }

    fn answer(&mut self, code: u16, text: &[u8], is_clear: bool) {
        if self.stage == Stage::BeforeGreeting {
            match code {
                220 => self.stage = Stage::Talking,
                120 | 400..=599 => {}
                _ => self.no_ftp(),
            }
            return;
        }
        if code < 200 {
            // 150, 125: the transfer goes on until another reply comes.
            if let Some(transfer) = self.waiting.iter_mut().find(|w| w.is_transfer()) {
                transfer.has_begun = true;
            }
            return;
        }
        if code == 234 && self.has_asked_for_tls && !is_clear {
            return self.distrust(); // said by the server to one reader only
        }
        if code == 234 && self.has_asked_for_tls {
            self.open = None;
            self.stage = Stage::Unreadable;
            return;
        }
        if code == 235 || (631..=633).contains(&code) {
            return self.distrust(); // commands are protected from now on (RFC 2228)
        }
        if let Some(asked) = self.who_asked(code) {
            self.answer_to(&asked, code, text, is_clear);
        }
        if code == 421 {
            self.distrust();
        }
    }

    /// The command that waited for this answer; it waits no longer.
    fn who_asked(&mut self, code: u16) -> Option<Waiting> {
        if code == 225
            && let Some(abort) = self.waiting.iter().position(|w| w.verb == "ABOR")
        {
            self.drop_first(abort); // what was asked before it is not answered any more
        }
        if (227..=229).contains(&code) {
            let Some(asking) = self.waiting.iter().position(Waiting::asks_for_port) else {
                return self.belongs_to_nobody();
            };
            let is_its_turn = self.waiting[..asking].iter().all(|w| w.verb == "ABOR");
            self.drop_first(asking);
            let asked = self.waiting.remove(0);
            return is_its_turn.then_some(asked);
        }
        while let Some(first) = self.waiting.first() {
            if first.may_hear(code) {
                return Some(self.waiting.remove(0));
            }
            if first.has_begun {
                let meanwhile = self.waiting.iter().position(|w| {
                    !w.is_transfer()
                        && !w.verb.ends_with("PRT")
                        && w.verb != "PORT"
                        && w.may_hear(code)
                });
                if let Some(at) = meanwhile {
                    return Some(self.waiting.remove(at));
                }
            }
            if !first.was_passed_over || self.waiting.len() == 1 {
                break;
            }
            self.drop_first(1);
        }
        self.belongs_to_nobody()
    }

    /// A reply too many. The command whose turn it was goes on waiting.
    fn belongs_to_nobody(&mut self) -> Option<Waiting> {
        if let Some(first) = self.waiting.first_mut() {
            first.was_passed_over = true;
        }
        None
    }

    /// So many commands are not answered any more; what they had opened is shut.
    fn drop_first(&mut self, count: usize) {
        for dropped in self.waiting.drain(..count) {
            if dropped.now.is_some() && self.open == dropped.now {
                self.open = None;
            }
        }
    }

    fn answer_to(&mut self, asked: &Waiting, code: u16, text: &[u8], is_clear: bool) {
        let is_good = code < 300;
        match asked.verb.as_str() {
            "AUTH" => self.has_asked_for_tls = false,
            "USER" | "PASS" | "ACCT" if code == 230 || code == 232 => self.is_logged_in = true,
            "USER" if code == 331 || code == 332 => self.is_logged_in = false,
            "REIN" if is_good => {
                self.is_logged_in = false;
                self.open = None;
            }
            "EPSV" if is_good && asked.is_epsv_all() => self.only_epsv = true,
            "PASV" if code == 227 => self.open_passive("PASV", port_of_227(text), is_clear),
            "PASV" if code == 229 => self.open_passive("PASV", port_of_229(text), is_clear),
            "EPSV" if code == 227 => self.open_passive("EPSV", port_of_227(text), is_clear),
            "EPSV" if code == 229 => self.open_passive("EPSV", port_of_229(text), is_clear),
            "LPSV" if code == 228 && self.reads_long => {
                self.open_passive("LPSV", port_of_228(text), is_clear);
            }
            _ if is_good => {
                if let Some(opened) = asked.later {
                    self.open_port(opened);
                }
            }
            _ => {
                if asked.now.is_some() && self.open == asked.now {
                    self.open = None;
                }
            }
        }
    }

    fn open_passive(&mut self, verb: &'static str, port: Option<u16>, is_clear: bool) {
        let Some(port) = port.filter(|&port| port >= 1024 && is_clear) else {
            return;
        };
        self.open_port(Opened {
            verb,
            at: End::Server,
            port,
        });
    }

    fn open_port(&mut self, opened: Opened) -> bool {
        let is_forbidden = self.only_epsv && opened.verb != "EPSV";
        if !self.is_trusted || !self.is_logged_in || is_forbidden {
            return false;
        }
        self.opened.push(opened);
        self.open = Some(opened);
        true
    }

    /// Opens nothing any more, but goes on refusing.
    fn distrust(&mut self) {
        self.is_trusted = false;
        self.open = None;
        self.waiting.clear();
    }

    fn no_ftp(&mut self) {
        self.distrust();
        self.stage = Stage::Unreadable;
    }
}
