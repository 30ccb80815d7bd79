//! Client bytes -> command lines, with refusal at the earliest byte that makes a line refusable.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::announce::{Allowed, EprtArgument, NumbersArgument};
use super::settings::{CommandPolicy, Settings};

/// Bytes of a line that are kept. Paths may be longer; nothing that lotus reads is.
const MAX_KEPT_BYTES: usize = 256;

/// Bytes of a line without its end that may still open something.
const MAX_LINE_BYTES: usize = 4096;

pub(super) const IAC: u8 = 0xff;
const LF: u8 = b'\n';
const CR: u8 = b'\r';

/// TELNET commands (RFC 854), and the options in use (IANA "Telnet Options"): what comes behind IAC
/// and is neither is data to most readers.
pub(super) const FIRST_TELNET_COMMAND: u8 = 0xf0;
const LAST_TELNET_OPTION: u8 = 0x40;

const TELNET: &str = "it has TELNET bytes in the middle of a port command";
const DISGUISED: &str = "it has TELNET bytes or control characters in its verb";
const ACTIVE_OFF: &str = "active mode is switched off (ftp.active)";
const NOT_ALLOWED: &str = "ftp.commands does not allow this command";

/// What a byte meant.
#[derive(Debug)]
pub(super) enum Fed {
    /// Nothing yet.
    More,
    /// From here to its end the line must not reach the server. Given once a line.
    Refuse(Refusal),
    /// The byte belongs to a line that was refused.
    Refused,
    /// The line is complete.
    Line(Command),
    /// A refused line is complete.
    RefusedLine,
}

/// A refused line.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) why: &'static str,
    /// The line as far as it was read.
    pub(super) line: Vec<u8>,
}

/// The commands that the session acts on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    User,
    Pass,
    Acct,
    Rein,
    Port,
    Eprt,
    Lprt,
    Pasv,
    Epsv,
    Lpsv,
    Auth,
    Abor,
    /// Data from the server: RETR.
    Download,
    /// Data from the client: STOR, STOU, APPE.
    Upload,
    /// Names from the server: LIST, NLST, MLSD.
    Listing,
    /// Another command of FTP.
    Other,
    /// Not FTP.
    Unknown,
}

/// A command line.
#[derive(Debug)]
pub(super) struct Command {
    pub(super) verb: Verb,
    /// The line as it may be shown: without its end, cut, and without a secret.
    pub(super) shown: Vec<u8>,
    /// What follows the verb and its space, cut.
    pub(super) argument: Vec<u8>,
    /// Where PORT, EPRT or LPRT wants the data connection.
    pub(super) announced: Option<SocketAddr>,
    /// Two readers could take the line two ways: it counts only when the server has accepted it.
    pub(super) is_ambiguous: bool,
    /// It may be the rest of the line before: that did not end in CR LF, though the client's lines
    /// do. In a file's name CR NUL LF, or LF, is no end (RFC 2640 section 3.1), and a server that
    /// pretends to see one speaks for the client.
    pub(super) may_be_a_rest: bool,
}

#[derive(Debug)]
enum Scan {
    /// Verb or an argument that says nothing.
    Plain,
    Numbers(NumbersArgument),
    Eprt(EprtArgument),
    Refused,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Telnet {
    Data,
    /// After IAC.
    Command,
    /// After IAC WILL, WONT, DO or DONT.
    Option,
}

/// Reads one direction byte by byte.
#[derive(Debug)]
pub(super) struct CommandReader {
    allowed: Allowed,
    line: Vec<u8>,
    verb_end: Option<usize>,
    scan: Scan,
    telnet: Telnet,
    raw_bytes: usize,
    saw_cr: bool,
    has_telnet: bool,
    is_ambiguous: bool,
    /// Of the lines before this one: whether any ended in CR LF, and whether the last did not.
    some_ended_well: bool,
    last_ended_oddly: bool,
}

impl Scan {
    /// Where the line wants the data connection, as if it ended here.
    fn announced(&self, allowed: &Allowed) -> Option<Result<SocketAddr, &'static str>> {
        match self {
            Scan::Plain | Scan::Refused => None,
            Scan::Numbers(argument) => Some(argument.finish(allowed)),
            Scan::Eprt(argument) => Some(argument.finish()),
        }
    }
}

impl CommandReader {
    pub(super) fn new(client: IpAddr, settings: Arc<Settings>) -> CommandReader {
        CommandReader::of(Allowed { client, settings })
    }

    fn of(allowed: Allowed) -> CommandReader {
        CommandReader {
            allowed,
            line: Vec::new(),
            verb_end: None,
            scan: Scan::Plain,
            telnet: Telnet::Data,
            raw_bytes: 0,
            saw_cr: false,
            has_telnet: false,
            is_ambiguous: false,
            some_ended_well: false,
            last_ended_oddly: false,
        }
    }

    pub(super) fn feed(&mut self, byte: u8) -> Fed {
        self.raw_bytes += 1;
        if byte == LF {
            return self.line_ended();
        }
        if std::mem::take(&mut self.saw_cr) {
            // CR NUL and CR in the middle: some readers end the line there, some do not.
            self.is_ambiguous = true;
            if let Err(why) = self.disguise(DISGUISED).and_then(|()| self.data(CR)) {
                self.saw_cr = byte == CR;
                return self.refuse(why);
            }
        }
        match (self.telnet, byte) {
            (Telnet::Data, IAC) => {
                self.telnet = Telnet::Command;
                self.telnet_byte()
            }
            (Telnet::Command, 0xfb..=0xfe) => {
                self.telnet = Telnet::Option;
                self.telnet_byte()
            }
            (Telnet::Command, FIRST_TELNET_COMMAND..) | (Telnet::Option, ..LAST_TELNET_OPTION) => {
                self.telnet = Telnet::Data;
                self.telnet_byte()
            }
            (Telnet::Data, CR) => self.carriage_return(),
            (state, _) => {
                if state != Telnet::Data {
                    // Not TELNET after all, or only to some readers: others take out any byte that
                    // stands there, and what is left of the verb is another one.
                    self.telnet = Telnet::Data;
                    self.is_ambiguous = true;
                    if self.verb_end.is_none() && self.line.iter().all(u8::is_ascii_alphabetic) {
                        return self.refuse(DISGUISED);
                    }
                }
                match self.data(byte) {
                    Ok(()) => self.more(),
                    Err(why) => self.refuse(why),
                }
            }
        }
    }

    /// Whether a TELNET command is due: the byte before was its IAC.
    pub(super) fn is_behind_iac(&self) -> bool {
        self.telnet == Telnet::Command
    }

    /// Whether nothing of a line is in hand.
    pub(super) fn is_at_line_start(&self) -> bool {
        self.raw_bytes == 0
    }

    /// The line that was refused did not end after all: its end was overwritten, too.
    pub(super) fn goes_on_refused(&mut self) {
        self.scan = Scan::Refused;
    }

    /// Most likely the end of the line. What is not complete here is refused here, so that this
    /// byte at least can be overwritten when all others have left.
    fn carriage_return(&mut self) -> Fed {
        self.saw_cr = true;
        match self.judge_as_ended() {
            Err(why) => self.refuse(why),
            Ok(_) => self.more(),
        }
    }

    /// Where the line wants the data connection, if it ended here.
    fn judge_as_ended(&self) -> Result<Option<SocketAddr>, &'static str> {
        if self.verb_end.is_none() && !self.line.is_empty() && !self.is_refused() {
            self.scan_of_verb()?;
        }
        self.scan.announced(&self.allowed).transpose()
    }

    fn is_refused(&self) -> bool {
        matches!(self.scan, Scan::Refused)
    }

    /// TELNET commands come before ABOR and STAT (RFC 959 section 4.1.3). Anywhere else one reader
    /// strips them and another does not.
    fn telnet_byte(&mut self) -> Fed {
        if self.is_refused() {
            return Fed::Refused;
        }
        self.has_telnet = true;
        if !self.line.is_empty() {
            self.is_ambiguous = true;
            let is_port_command = matches!(self.scan, Scan::Numbers(_) | Scan::Eprt(_));
            if is_port_command {
                return self.refuse(TELNET);
            }
            if let Err(why) = self.disguise(TELNET) {
                return self.refuse(why);
            }
        }
        Fed::More
    }

    /// A byte within the verb that some readers take out. What they read then may be a port
    /// command, or one that the policy is about.
    fn disguise(&self, why: &'static str) -> Result<(), &'static str> {
        if self.verb_end.is_some() || self.line.is_empty() || self.is_refused() {
            return Ok(());
        }
        if self.allowed.settings.commands != CommandPolicy::All {
            return Err(DISGUISED);
        }
        let so_far = self.line.to_ascii_uppercase();
        let may_be = |verb: &&[u8]| verb.starts_with(&so_far) || so_far.starts_with(verb);
        if PORT_COMMANDS.iter().any(may_be) {
            return Err(why);
        }
        Ok(())
    }

    fn data(&mut self, byte: u8) -> Result<(), &'static str> {
        match &mut self.scan {
            Scan::Refused => return Ok(()),
            Scan::Numbers(argument) => argument.feed(byte, &self.allowed)?,
            Scan::Eprt(argument) => argument.feed(byte, &self.allowed)?,
            Scan::Plain if self.verb_end.is_none() && byte <= b' ' => {
                // Servers differ about blanks before the verb, and about what is a blank.
                self.is_ambiguous |= byte != b' ' || self.line.is_empty();
                if self.line.is_empty() {
                    return Ok(());
                }
                if byte == 0 {
                    self.disguise(DISGUISED)?;
                }
                self.verb_end = Some(self.line.len());
                self.scan = self.scan_of_verb()?;
            }
            // Some servers take letters beyond ASCII for others when they fold the case.
            Scan::Plain
                if self.verb_end.is_none()
                    && !byte.is_ascii()
                    && self.allowed.settings.commands != CommandPolicy::All =>
            {
                return Err(DISGUISED);
            }
            Scan::Plain => {}
        }
        if self.line.len() < MAX_KEPT_BYTES {
            self.line.push(byte);
        }
        Ok(())
    }

    /// What to look for in the argument; or the verb alone decides.
    fn scan_of_verb(&self) -> Result<Scan, &'static str> {
        let settings = &self.allowed.settings;
        let word = self.line.to_ascii_uppercase();
        if !settings.commands.allows(&String::from_utf8_lossy(&word)) {
            return Err(NOT_ALLOWED);
        }
        let verb = Verb::of(&word);
        if !verb.is_port_command() {
            return Ok(Scan::Plain);
        }
        if !settings.allow_active {
            return Err(ACTIVE_OFF);
        }
        if self.has_telnet {
            return Err(TELNET);
        }
        Ok(match verb {
            Verb::Eprt => Scan::Eprt(EprtArgument::default()),
            _ => Scan::Numbers(NumbersArgument::new(verb == Verb::Lprt)),
        })
    }

    fn more(&self) -> Fed {
        if self.is_refused() {
            Fed::Refused
        } else {
            Fed::More
        }
    }

    fn refuse(&mut self, why: &'static str) -> Fed {
        if self.is_refused() {
            return Fed::Refused;
        }
        self.scan = Scan::Refused;
        let verb_end = self.verb_end.unwrap_or(self.line.len());
        Fed::Refuse(Refusal {
            why,
            line: shown(&self.line, verb_end),
        })
    }

    fn line_ended(&mut self) -> Fed {
        let next = CommandReader::of(self.allowed.clone());
        let mut reader = std::mem::replace(self, next);
        self.last_ended_oddly = !reader.saw_cr;
        self.some_ended_well = reader.saw_cr || reader.some_ended_well;
        if !reader.saw_cr || reader.raw_bytes > MAX_LINE_BYTES || reader.telnet != Telnet::Data {
            reader.is_ambiguous = true;
        }
        if reader.is_refused() {
            return Fed::RefusedLine;
        }
        match reader.judge_as_ended() {
            Ok(announced) => {
                let may_be_a_rest = reader.last_ended_oddly && self.some_ended_well;
                Fed::Line(reader.into_command(announced, may_be_a_rest))
            }
            // Too late to hide all of it, but what is in hand must not leave as it is.
            Err(why) => reader.refuse(why),
        }
    }

    fn into_command(self, announced: Option<SocketAddr>, may_be_a_rest: bool) -> Command {
        let verb_end = self.verb_end.unwrap_or(self.line.len());
        let (word, argument) = self.line.split_at_checked(verb_end).unwrap_or_default();
        let verb = Verb::of(word);
        let argument = argument.get(1..).unwrap_or_default().to_vec();
        Command {
            verb,
            shown: shown(&self.line, verb_end),
            argument,
            announced,
            is_ambiguous: self.is_ambiguous,
            may_be_a_rest,
        }
    }
}

/// A line without its secret. What was meant to be a command with a secret, but has no blank behind
/// it, is cut, too.
fn shown(line: &[u8], verb_end: usize) -> Vec<u8> {
    let secret = secret_behind(line.get(..verb_end).unwrap_or(line));
    line.get(..secret.unwrap_or(line.len()))
        .unwrap_or_default()
        .to_vec()
}

/// How long the verb is, if this word is one that a secret follows, or such a verb and its secret
/// with no blank between.
pub(super) fn secret_behind(word: &[u8]) -> Option<usize> {
    let word = word.to_ascii_uppercase();
    let is_unknown = Verb::of(&word) == Verb::Unknown;
    SECRET
        .iter()
        .find(|verb| word == **verb || is_unknown && word.starts_with(verb))
        .map(|verb| verb.len())
}

/// Whether a command is FTP's; in any case.
pub(super) fn is_known_verb(verb: &str) -> bool {
    Verb::of(verb.as_bytes()) != Verb::Unknown
}

impl Verb {
    fn of(word: &[u8]) -> Verb {
        let upper = word.to_ascii_uppercase();
        match upper.as_slice() {
            b"USER" => Verb::User,
            b"PASS" => Verb::Pass,
            b"ACCT" => Verb::Acct,
            b"REIN" => Verb::Rein,
            b"PORT" => Verb::Port,
            b"EPRT" => Verb::Eprt,
            b"LPRT" => Verb::Lprt,
            b"PASV" => Verb::Pasv,
            b"EPSV" => Verb::Epsv,
            b"LPSV" => Verb::Lpsv,
            b"AUTH" => Verb::Auth,
            b"ABOR" => Verb::Abor,
            b"RETR" => Verb::Download,
            b"STOR" | b"STOU" | b"APPE" => Verb::Upload,
            b"LIST" | b"NLST" | b"MLSD" => Verb::Listing,
            other if REGISTRY.binary_search(&other).is_ok() => Verb::Other,
            _ => Verb::Unknown,
        }
    }

    /// Whether it names where the server shall connect to.
    pub(super) fn is_port_command(self) -> bool {
        matches!(self, Verb::Port | Verb::Eprt | Verb::Lprt)
    }

    /// Whether it asks where the client may connect to.
    pub(super) fn asks_passive(self) -> bool {
        matches!(self, Verb::Pasv | Verb::Epsv | Verb::Lpsv)
    }

    /// Whether it moves something over a data connection.
    pub(super) fn is_transfer(self) -> bool {
        matches!(self, Verb::Download | Verb::Upload | Verb::Listing)
    }
}

const PORT_COMMANDS: &[&[u8]] = &[b"PORT", b"EPRT", b"LPRT"];

/// Commands whose argument nobody else may read: passwords, and what RFC 2228 protects.
const SECRET: &[&[u8]] = &[b"PASS", b"ACCT", b"ADAT", b"MIC", b"CONF", b"ENC"];

/// The FTP command registry (RFC 5797 and IANA), and the commands outside it that clients in use
/// send: CLNT, MFCT, MFF, MFMT, HASH and the XCRC family. Sorted.
const REGISTRY: &[&[u8]] = &[
    b"ADAT", b"ALGS", b"ALLO", b"AVBL", b"CCC", b"CDUP", b"CLNT", b"CONF", b"CWD", b"DELE",
    b"DSIZ", b"ENC", b"FEAT", b"HASH", b"HELP", b"HOST", b"LANG", b"MDTM", b"MFCT", b"MFF",
    b"MFMT", b"MIC", b"MKD", b"MLST", b"MODE", b"NOOP", b"OPTS", b"PBSZ", b"PROT", b"PWD", b"QUIT",
    b"RANG", b"REST", b"RMD", b"RNFR", b"RNTO", b"SITE", b"SIZE", b"SMNT", b"STAT", b"STRU",
    b"SYST", b"THMB", b"TYPE", b"XCRC", b"XCUP", b"XCWD", b"XMD5", b"XMKD", b"XPWD", b"XRMD",
    b"XSHA", b"XSHA1", b"XSHA256", b"XSHA512",
];

#[cfg(test)]
mod tests {
    use super::*;

    const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7));

    fn read(bytes: &[u8]) -> Vec<(usize, Fed)> {
        read_with(|_| {}, bytes)
    }

    fn read_with(change: impl FnOnce(&mut Settings), bytes: &[u8]) -> Vec<(usize, Fed)> {
        let mut settings = Settings::default();
        change(&mut settings);
        let mut reader = CommandReader::new(CLIENT, Arc::new(settings));
        bytes
            .iter()
            .enumerate()
            .map(|(at, &byte)| (at, reader.feed(byte)))
            .filter(|(_, fed)| !matches!(fed, Fed::More))
            .collect()
    }

    fn line(bytes: &[u8]) -> Command {
        match read(bytes).pop() {
            Some((_, Fed::Line(command))) => command,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn registry_is_sorted() {
        assert!(REGISTRY.is_sorted());
    }

    #[test]
    fn verbs_in_any_case() {
        for (bytes, verb) in [
            (&b"USER anonymous\r\n"[..], Verb::User),
            (b"pasv\r\n", Verb::Pasv),
            (b"Epsv ALL\r\n", Verb::Epsv),
            (b"RETR a b\r\n", Verb::Download),
            (b"appe a\r\n", Verb::Upload),
            (b"MLSD\r\n", Verb::Listing),
            (b"lpsv\r\n", Verb::Lpsv),
            (b"NOOP\r\n", Verb::Other),
            (b"\xff\xf4\xff\xf2ABOR\r\n", Verb::Abor),
            (b"GET / HTTP/1.1\r\n", Verb::Unknown),
            (b"HOST: x\r\n", Verb::Unknown),
        ] {
            let command = line(bytes);
            assert_eq!(command.verb, verb, "{bytes:?}");
            assert!(!command.is_ambiguous, "{bytes:?}");
        }
        assert_eq!(line(b"Epsv ALL\r\n").argument, b"ALL");
        assert_eq!(
            line(b"port 192,0,2,7,4,1\r\n").announced,
            Some((CLIENT, 1025).into())
        );
        assert_eq!(
            line(b"EPRT |1|192.0.2.7|1025|\r\n").announced,
            Some((CLIENT, 1025).into())
        );
        assert_eq!(
            line(b"LPRT 4,4,192,0,2,7,2,4,1\r\n").announced,
            Some((CLIENT, 1025).into())
        );
    }

    #[test]
    fn a_password_is_never_shown() {
        for (bytes, shown) in [
            (&b"PASS secret\r\n"[..], "PASS"),
            (b"pass\tsecret\r\n", "pass"),
            (b"PASSsecret\r\n", "PASS"),
            (b"ACCT secret\r\n", "ACCT"),
            (b"ADAT c2VjcmV0\r\n", "ADAT"),
            (b"ENC c2VjcmV0\r\n", "ENC"),
            (b"USER joe\r\n", "USER joe"),
            (b"ACCTsecret\r\n", "ACCT"),
        ] {
            assert_eq!(line(bytes).shown, shown.as_bytes(), "{bytes:?}");
        }
        let policy = |s: &mut Settings| s.commands = "allow:USER".parse().unwrap();
        for bytes in [&b"PASS secret\r\n"[..], b"PASSsecret\r\n"] {
            let fed = read_with(policy, bytes);
            assert!(matches!(fed.first(), Some((_, Fed::Refuse(r))) if r.line == b"PASS"));
        }
    }

    /// Where a line is refused, and why.
    fn refused_at(
        change: impl FnOnce(&mut Settings),
        bytes: &[u8],
    ) -> Option<(usize, &'static str)> {
        match read_with(change, bytes).first() {
            Some((at, Fed::Refuse(refusal))) => Some((*at, refusal.why)),
            _ => None,
        }
    }

    #[test]
    fn a_verb_that_the_policy_forbids_is_refused_at_its_end() {
        let at = |policy: &str, bytes: &[u8]| {
            refused_at(|s| s.commands = policy.parse().unwrap(), bytes)
        };
        let (deny, allow) = ("deny:DELE,RMD,PASV", "allow:USER,PASS,RETR");
        assert_eq!(at(deny, b"DELE x\r\n"), Some((4, NOT_ALLOWED)));
        assert_eq!(at(deny, b"dele\tx\r\n"), Some((4, NOT_ALLOWED)));
        assert_eq!(at(deny, b"PASV\r\n"), Some((4, NOT_ALLOWED)));
        assert_eq!(at(deny, b"PASV\n"), Some((4, NOT_ALLOWED)));
        assert_eq!(at(deny, b"XRMD x\r\n"), Some((4, NOT_ALLOWED)), "an alias");
        assert_eq!(at(deny, b"RETR x\r\n"), None);
        assert_eq!(at(deny, b"FROB x\r\n"), None, "unknown verbs pass");
        assert_eq!(at(deny, b"RETR DELE\r\n"), None);
        assert_eq!(at(allow, b"RETR x\r\n"), None);
        assert_eq!(at(allow, b"STOR x\r\n"), Some((4, NOT_ALLOWED)));
        assert_eq!(at(allow, b"FROB x\r\n"), Some((4, NOT_ALLOWED)));
        assert_eq!(at("read-only", b"SITE CHMOD\r\n"), Some((4, NOT_ALLOWED)));
        assert_eq!(at("read-only", b"LIST\r\n"), None);
        // Bytes that some servers take out.
        for bytes in [&b"DE\xff\xf1LE x\r\n"[..], b"DE\rLE x\r\n", b"DE\0LE x\r\n"] {
            assert_eq!(
                at(deny, bytes).map(|(_, why)| why),
                Some(DISGUISED),
                "{bytes:?}"
            );
        }
        assert_eq!(at(deny, b"\xff\xf4\xff\xf2ABOR\r\n"), None);
        assert_eq!(at(deny, b"\xff\xf1 DELE x\r\n"), Some((7, NOT_ALLOWED)));
    }

    #[test]
    fn with_active_mode_off_its_commands_are_refused_at_the_verb() {
        for verb in ["PORT", "EPRT", "lprt"] {
            let line = format!("{verb} 4,4,192,0,2,7,2,195,80\r\n");
            let at = refused_at(|s| s.allow_active = false, line.as_bytes());
            assert_eq!(at, Some((4, ACTIVE_OFF)));
        }
        assert_eq!(refused_at(|s| s.allow_active = false, b"PASV\r\n"), None);
    }

    #[test]
    fn lines_that_can_be_read_two_ways() {
        for bytes in [
            &b"PASV\n"[..],
            b" PASV\r\n",
            b"\x0bPASV\r\n",
            b"EPSV\t2\r\n",
            b"PASV\r\0\r\n",
            b"RETR a\rb\r\n",
            b"RETR a\xff\xf1b\r\n",
        ] {
            assert!(line(bytes).is_ambiguous, "{bytes:?}");
        }
    }

    #[test]
    fn telnet_bytes_in_a_port_command_refuse_it() {
        for bytes in [
            &b"PO\xff\xf1RT 192,0,2,7,4,1\r\n"[..],
            b"PORT 192,\xff\xf10,2,7,4,1\r\n",
            b"eprt\xff\xfb\x01 |1|192.0.2.7|1025|\r\n",
            b"\xff\xf1PORT 192,0,2,7,4,1\r\n",
        ] {
            let fed = read(bytes);
            assert!(matches!(fed.first(), Some((_, Fed::Refuse(r))) if r.why == TELNET));
            assert!(matches!(fed.last(), Some((_, Fed::RefusedLine))));
        }
    }

    #[test]
    fn no_disguise_hides_a_port_command() {
        let blanks = [&[b' '; 300][..], b"PORT 10,0,0,1,0,22\r\n"].concat();
        for bytes in [
            b"\xff\xfbXPORT 10,0,0,1,0,22\r\n".as_slice(),
            b"\xffXPORT 10,0,0,1,0,22\r\n",
            &b"PORT\t10,0,0,1,0,22\r\n"[..],
            b"PORT\x0010,0,0,1,0,22\r\n",
            b"\tPORT 10,0,0,1,0,22\r\n",
            b"\0\x0bPORT 10,0,0,1,0,22\r\n",
            b"\xffPORT 10,0,0,1,0,22\r\n",
            b"\xff\xfdPORT 10,0,0,1,0,22\r\n",
            b"LPRT 4,4,10,0,0,1,2,0,22\r\n",
            b"PO\rRT 10,0,0,1,0,22\r\n",
            b"LP\0RT 4,4,10,0,0,1,2,0,22\r\n",
            &blanks,
        ] {
            assert!(
                matches!(read(bytes).first(), Some((_, Fed::Refuse(_)))),
                "{bytes:?}"
            );
        }
    }

    #[test]
    fn a_refused_line_is_refused_to_its_end() {
        let fed = read(b"PORT 10,0,0,1,0,22\r\nPASV\r\n");
        let refused: Vec<_> = fed
            .iter()
            .filter(|(_, fed)| matches!(fed, Fed::Refuse(_) | Fed::Refused))
            .map(|(at, _)| *at)
            .collect();
        // From the first foreign digit to the CR.
        assert_eq!(refused, (6..=18).collect::<Vec<_>>());
        assert!(matches!(fed.last(), Some((_, Fed::Line(c))) if c.verb == Verb::Pasv));
    }

    #[test]
    fn what_is_malformed_only_at_its_end_is_refused_there() {
        let fed = read(b"PORT 192,0,2,7,4\r\n");
        let expected = matches!(
            fed.as_slice(),
            [(16, Fed::Refuse(_)), (17, Fed::RefusedLine)]
        );
        assert!(expected, "{fed:?}");
        let fed = read(b"PORT 192,0,2,7,4\n");
        assert!(matches!(fed.as_slice(), [(16, Fed::Refuse(_))]), "{fed:?}");
    }

    #[test]
    fn an_endless_line_takes_no_memory() {
        let mut reader = CommandReader::new(CLIENT, Arc::default());
        for _ in 0..1_000_000 {
            assert!(matches!(reader.feed(b'a'), Fed::More));
        }
        assert!(reader.line.len() <= MAX_KEPT_BYTES);
        reader.feed(b'\r');
        assert!(matches!(reader.feed(b'\n'), Fed::Line(c) if c.is_ambiguous));
    }
}
