//! Lines of both directions.

use std::net::IpAddr;

use super::address::{
    is_eprt_bad, is_lprt_bad, is_port_bad, port_of_eprt, port_of_lprt, port_of_port,
};
use super::{End, Opened};

const IAC: u8 = 255;
/// WILL, WONT, DO, DONT: an option follows (RFC 854).
const NEGOTIATIONS: std::ops::RangeInclusive<u8> = 251..=254;
const FIRST_COMMAND: u8 = 240;
/// Options in use (IANA "Telnet Options").
const OPTIONS: std::ops::Range<u8> = 0..0x40;
/// A longer line is read by no server in one way.
const LONGEST: usize = 4096;
/// A longer line of a server, its CR counted, opens nothing.
const LONGEST_ANSWER: usize = 512;

/// A client's line.
#[derive(Debug)]
pub struct Line {
    /// In capitals.
    pub verb: String,
    pub argument: String,
    raw_argument: Vec<u8>,
    /// Two servers could take it two ways.
    pub is_ambiguous: bool,
}

/// A beginning of a line, without TELNET.
struct Text {
    bytes: Vec<u8>,
    /// Before which of these bytes TELNET commands stood.
    telnet_before: Vec<usize>,
    /// Bytes after IAC that belong to no command.
    odd: Vec<usize>,
    /// A command without its end.
    is_unfinished: bool,
}

/// Whether everybody sees a CR LF at the end of this line: to TELNET a CR behind IAC is none.
pub fn ends_in_crlf(line: &[u8]) -> bool {
    match line {
        [text @ .., b'\r', b'\n'] => !without_telnet(text).is_unfinished,
        _ => false,
    }
}

fn without_telnet(raw: &[u8]) -> Text {
    let (mut bytes, mut telnet_before) = (Vec::new(), Vec::new());
    let (mut odd, mut is_unfinished) = (Vec::new(), false);
    let mut at = 0;
    while at < raw.len() {
        if raw[at] != IAC {
            bytes.push(raw[at]);
            at += 1;
            continue;
        }
        telnet_before.push(bytes.len());
        at += 1;
        match raw.get(at) {
            None => is_unfinished = true,
            Some(command) if NEGOTIATIONS.contains(command) => {
                at += 1;
                match raw.get(at) {
                    Some(option) if OPTIONS.contains(option) => at += 1,
                    Some(other) => {
                        odd.push(bytes.len());
                        bytes.push(*other);
                        at += 1;
                    }
                    None => is_unfinished = true,
                }
            }
            Some(command) if *command >= FIRST_COMMAND => at += 1,
            Some(other) => {
                odd.push(bytes.len());
                bytes.push(*other);
                at += 1;
            }
        }
    }
    Text {
        bytes,
        telnet_before,
        odd,
        is_unfinished,
    }
}

/// Blanks before the verb, the verb, and what is behind the blank after it, if that is there.
fn parts(text: &[u8]) -> (usize, &[u8], Option<&[u8]>) {
    let blanks = text.iter().take_while(|&&b| b <= b' ').count();
    let rest = &text[blanks..];
    match rest.iter().position(|&b| b <= b' ') {
        Some(end) => (blanks, &rest[..end], Some(&rest[end + 1..])),
        None => (blanks, rest, None),
    }
}

/// Whether a line that begins so must not reach the server.
pub fn is_refusable(beginning: &[u8], client: IpAddr, reads_long: bool) -> bool {
    // A CR is most likely the end of the line: what is not complete there is not right.
    let (raw, is_whole) = match beginning {
        [raw @ .., b'\r', b'\n'] | [raw @ .., b'\r' | b'\n'] => (raw, true),
        raw => (raw, false),
    };
    let mut text = without_telnet(raw);
    if raw.last() == Some(&IAC) && text.is_unfinished && beginning.last() == Some(&b'\r') {
        text.odd.push(text.bytes.len()); // the CR is what stands behind IAC
    }
    let (blanks, verb, argument) = parts(&text.bytes);
    let verb = verb.to_ascii_uppercase();
    // To some servers any byte behind IAC is TELNET's, and what is left is another verb.
    for &at in &text.odd {
        let letters = &verb[..at.saturating_sub(blanks).min(verb.len())];
        if at <= blanks + verb.len() && letters.iter().all(u8::is_ascii_alphabetic) {
            return true;
        }
    }
    let port_verbs: &[&[u8]] = &[b"PORT", b"EPRT", b"LPRT"];
    // What a reader makes of these letters who leaves out the byte after them.
    let is_begin_of_one = |letters: &[u8]| {
        !letters.is_empty()
            && port_verbs
                .iter()
                .any(|verb| verb.starts_with(letters) || letters.starts_with(verb))
    };
    let verb_end = blanks + verb.len();
    // TELNET in such a verb or right behind it.
    for &at in &text.telnet_before {
        if at > blanks && at <= verb_end && is_begin_of_one(&verb[..at - blanks]) {
            return true;
        }
    }
    // NUL behind such a verb, or a CR that does not end the line.
    if matches!(text.bytes.get(verb_end), Some(0 | b'\r')) && is_begin_of_one(&verb) {
        return true;
    }
    if !port_verbs.contains(&verb.as_slice()) {
        return false;
    }
    if argument.is_none() && !is_whole {
        return false;
    }
    if !text.telnet_before.is_empty() {
        return true; // TELNET stands before ABOR and STAT only
    }
    let Some(argument) = argument else {
        return false;
    };
    if verb == b"LPRT" && !reads_long {
        return true;
    }
    match verb.as_slice() {
        b"PORT" => is_port_bad(argument, client, is_whole),
        b"EPRT" => is_eprt_bad(argument, client, is_whole),
        _ => is_lprt_bad(argument, client, is_whole),
    }
}

impl Line {
    pub fn read(bytes: &[u8]) -> Line {
        let (raw, has_crlf) = match bytes {
            [raw @ .., b'\r', b'\n'] => (raw, true),
            [raw @ .., b'\n'] => (raw, false),
            raw => (raw, false),
        };
        let text = without_telnet(raw);
        let (blanks, verb, argument) = parts(&text.bytes);
        let verb_end = blanks + verb.len();
        let is_ambiguous = !has_crlf
            || bytes.len() > LONGEST
            || !text.odd.is_empty()
            || text.is_unfinished
            || blanks > 0
            || raw.contains(&b'\r')
            || text.bytes.get(verb_end).is_some_and(|&b| b != b' ')
            || text.telnet_before.iter().any(|&at| at > 0);
        let raw_argument = argument.unwrap_or_default().to_vec();
        Line {
            verb: String::from_utf8_lossy(verb).to_uppercase(),
            argument: String::from_utf8_lossy(&raw_argument).into_owned(),
            raw_argument,
            is_ambiguous,
        }
    }

    /// Where a port command that was not refused wants the data connection.
    pub fn announces(&self, reads_long: bool) -> Option<Opened> {
        let argument = &self.raw_argument;
        let (verb, port) = match self.verb.as_str() {
            "PORT" => ("PORT", port_of_port(argument)?),
            "EPRT" => ("EPRT", port_of_eprt(argument)?),
            "LPRT" if reads_long => ("LPRT", port_of_lprt(argument)?),
            _ => return None,
        };
        Some(Opened {
            verb,
            at: End::Client,
            port,
        })
    }

    /// Whether the verb is one of FTP's (RFC 5797 and what else FTP clients send).
    pub fn is_ftp(&self) -> bool {
        const VERBS: &str = " USER PASS ACCT CWD CDUP SMNT QUIT REIN PORT PASV TYPE STRU MODE RETR \
             STOR STOU APPE ALLO REST RNFR RNTO ABOR DELE RMD MKD PWD LIST NLST SITE SYST STAT \
             HELP NOOP XCUP XCWD XMKD XPWD XRMD AUTH ADAT PBSZ PROT CCC MIC CONF ENC FEAT OPTS LANG \
             EPRT EPSV LPRT LPSV MDTM SIZE MLST MLSD HOST ALGS AVBL DSIZ THMB RANG HASH CLNT MFCT \
             MFF MFMT XCRC XMD5 XSHA XSHA1 XSHA256 XSHA512 ";
        !self.verb.is_empty() && VERBS.contains(&format!(" {} ", self.verb))
    }
}

/// A server's line.
#[derive(Debug)]
pub enum Answer {
    /// A part of a reply of many lines.
    Unfinished,
    /// No reply at all.
    Noise,
    Is {
        code: u16,
        text: Vec<u8>,
        /// It can be read in one way only.
        is_clear: bool,
    },
}

/// What a server's lines have to do with each other.
#[derive(Debug, Default)]
pub struct Before {
    /// The code of the reply of many lines that has begun.
    block: Option<[u8; 3]>,
    /// Whether each line so far ended with CR LF.
    crlfs: Vec<bool>,
}

impl Before {
    /// Whether nobody doubts where this line, the next one, begins and ends.
    fn is_line(&mut self, has_crlf: bool) -> bool {
        let is_line = if has_crlf {
            self.crlfs.last().is_none_or(|before| *before)
        } else {
            !self.crlfs.contains(&true)
        };
        self.crlfs.push(has_crlf);
        is_line
    }
}

pub fn answer(line: &[u8], before: &mut Before) -> Answer {
    let is_short = line.len() <= LONGEST_ANSWER + 1;
    let (line, has_crlf) = match line {
        [line @ .., b'\r', b'\n'] => (line, true),
        [line @ .., b'\n'] => (line, false),
        line => (line, false),
    };
    let is_odd = line.iter().any(|byte| [IAC, b'\r', 0].contains(byte));
    let is_clear = before.is_line(has_crlf) && is_short && !is_odd;
    let block = &mut before.block;
    let code: Option<[u8; 3]> = line
        .get(..3)
        .filter(|code| code.iter().all(u8::is_ascii_digit))
        .and_then(|code| code.try_into().ok());
    let is_end = matches!(line.get(3), None | Some(b' '));
    match (*block, code) {
        (Some(begun), Some(code)) if begun == code && is_end => *block = None,
        (Some(_), _) => return Answer::Unfinished,
        (None, None) => return Answer::Noise,
        (None, Some(_)) if is_end => {}
        (None, Some(code)) if line[3] == b'-' => {
            *block = Some(code);
            return Answer::Unfinished;
        }
        (None, Some(_)) => return Answer::Noise,
    }
    let digits = String::from_utf8_lossy(&line[..3]).into_owned();
    Answer::Is {
        code: digits.parse().expect("three digits"),
        text: line.get(4..).unwrap_or_default().to_vec(),
        is_clear,
    }
}
