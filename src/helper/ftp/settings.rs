//! What the helper demands before it opens a port, and what it refuses.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use crate::conntrack::FIRST_DATA_PORT;

/// How many data connections a TLS session may have at once: what a client with parallel
/// transfers opens for one control connection, with room for those that are closing.
const TLS_CONNECTIONS: usize = 8;

/// The settings of one profile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The server must have accepted a login.
    pub demand_login: bool,
    /// The server may open data connections (PORT, EPRT, LPRT).
    pub allow_active: bool,
    /// Ports that a client may name for them.
    pub active_ports: PortRange,
    /// Servers open them from port 20 only (RFC 959 section 3.2); else from any port.
    pub source_port_20: bool,
    /// Prefixes of data addresses other than the server's own that a 227 or 228 may name.
    pub foreign: Prefixes,
    /// Prefixes of third parties that PORT, EPRT and LPRT may name, and that may connect to a
    /// passive port in the client's place (FXP): two servers and a client that talks to both. It
    /// stays one connection for each announcement.
    pub fxp: Prefixes,
    /// Commands that may pass.
    pub commands: CommandPolicy,
    /// The server's passive range, which a session opens when it went TLS.
    pub tls_ports: Option<PortRange>,
    /// Data connections that one TLS session may have at once.
    pub tls_connections: usize,
    /// The control connection is TLS from its first byte (port 990).
    pub implicit_tls: bool,
    /// How a command is refused.
    pub refusal: Refusal,
    /// How long an announced port waits for its connection.
    pub lifetime: Duration,
}

/// How a command is refused that must not reach the server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Refusal {
    /// It is overwritten with `X`, so that the server itself answers that it knows no such command.
    #[default]
    Overwrite,
    /// Both ends get an RST.
    Reset,
    /// It passes as it is, and nothing is opened.
    Ignore,
}

/// Ports from the first to the last, `40000-40100`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortRange {
    first: u16,
    last: u16,
}

/// Address prefixes, `192.0.2.0/24 2001:db8::/32`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prefixes(Vec<IpNet>);

/// Which commands may pass: all, all but some, or only some.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum CommandPolicy {
    /// All.
    #[default]
    All,
    /// All but these.
    Deny(BTreeSet<String>),
    /// Only these.
    Allow(BTreeSet<String>),
}

/// Commands that change nothing on the server, and those that a session needs.
const READ_ONLY: &[&str] = &[
    "ABOR", "ACCT", "ADAT", "ALGS", "AUTH", "AVBL", "CCC", "CDUP", "CLNT", "CWD", "DSIZ", "EPRT",
    "EPSV", "FEAT", "HASH", "HELP", "HOST", "LANG", "LIST", "LPRT", "LPSV", "MDTM", "MLSD", "MLST",
    "MODE", "NLST", "NOOP", "OPTS", "PASS", "PASV", "PBSZ", "PORT", "PROT", "PWD", "QUIT", "RANG",
    "REIN", "REST", "RETR", "SIZE", "STAT", "STRU", "SYST", "THMB", "TYPE", "USER", "XCRC", "XCUP",
    "XCWD", "XMD5", "XPWD", "XSHA", "XSHA1", "XSHA256", "XSHA512",
];

impl Default for Settings {
    fn default() -> Self {
        Settings {
            demand_login: true,
            allow_active: true,
            active_ports: PortRange {
                first: FIRST_DATA_PORT,
                last: u16::MAX,
            },
            source_port_20: false,
            foreign: Prefixes::default(),
            fxp: Prefixes::default(),
            commands: CommandPolicy::All,
            tls_ports: None,
            tls_connections: TLS_CONNECTIONS,
            implicit_tls: false,
            refusal: Refusal::default(),
            lifetime: crate::conntrack::EXPECTATION_LIFETIME,
        }
    }
}

impl PortRange {
    /// Whether a port is one of them.
    #[must_use]
    pub fn contains(&self, port: u16) -> bool {
        self.bounds().contains(&port)
    }

    /// The first and the last, and what lies between.
    #[must_use]
    pub fn bounds(&self) -> RangeInclusive<u16> {
        self.first..=self.last
    }
}

impl PortRange {
    /// The first of them.
    #[must_use]
    pub fn first(&self) -> u16 {
        self.first
    }

    /// The last of them.
    #[must_use]
    pub fn last(&self) -> u16 {
        self.last
    }
}

impl Prefixes {
    /// A copy that many can hold.
    #[must_use]
    pub fn to_shared(&self) -> Arc<[IpNet]> {
        self.0.as_slice().into()
    }

    /// One after the other.
    pub fn iter(&self) -> impl Iterator<Item = &IpNet> {
        self.0.iter()
    }

    /// Whether an address is in one of them.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.iter().any(|prefix| prefix.contains(&address))
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl CommandPolicy {
    /// Whether a command may pass; `verb` in upper case. The old names of some commands, such as
    /// XRMD (RFC 775), count as the new ones.
    #[must_use]
    pub fn allows(&self, verb: &str) -> bool {
        let new = match verb {
            "XCUP" => "CDUP",
            "XCWD" => "CWD",
            "XMKD" => "MKD",
            "XPWD" => "PWD",
            "XRMD" => "RMD",
            other => other,
        };
        let names = |verbs: &BTreeSet<String>| verbs.contains(verb) || verbs.contains(new);
        match self {
            CommandPolicy::All => true,
            CommandPolicy::Deny(verbs) => !names(verbs),
            CommandPolicy::Allow(verbs) => names(verbs),
        }
    }
}

/// What does not read as a value: what was expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} is expected")]
pub struct Expected(pub &'static str);

impl FromStr for PortRange {
    type Err = Expected;

    fn from_str(text: &str) -> Result<PortRange, Expected> {
        let expected = Expected("a range of ports from 1024 to 65535, such as 40000-40100");
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let port = |text: &str| text.parse().map_err(|_| expected);
        let (first, last) = (port(first)?, port(last)?);
        if (FIRST_DATA_PORT..=last).contains(&first) {
            Ok(PortRange { first, last })
        } else {
            Err(expected)
        }
    }
}

impl FromStr for Prefixes {
    type Err = Expected;

    fn from_str(text: &str) -> Result<Prefixes, Expected> {
        let prefix = |word: &str| {
            let address = word.parse::<IpAddr>().map(IpNet::from);
            word.parse::<IpNet>().or(address).map_err(|_| {
                Expected("addresses or prefixes such as 192.0.2.0/24,2001:db8::1, or none")
            })
        };
        match text {
            "none" => Ok(Prefixes::default()),
            _ => words(text)
                .map(prefix)
                .collect::<Result<_, _>>()
                .map(Prefixes),
        }
    }
}

impl FromStr for CommandPolicy {
    type Err = Expected;

    fn from_str(text: &str) -> Result<CommandPolicy, Expected> {
        let expected = Expected(
            "all, read-only, or FTP commands: deny:DELE,RMD for all but these, \
             allow:USER,PASS,RETR for these only",
        );
        let verbs = |text: &str| {
            let verb = |word: &str| {
                let verb = word.to_ascii_uppercase();
                super::command::is_known_verb(&verb)
                    .then_some(verb)
                    .ok_or(expected)
            };
            words(text).map(verb).collect::<Result<BTreeSet<_>, _>>()
        };
        match text.split_once(':') {
            None if text == "all" => Ok(CommandPolicy::All),
            None if text == "read-only" => verbs(&READ_ONLY.join(",")).map(CommandPolicy::Allow),
            Some(("deny", list)) => verbs(list).map(CommandPolicy::Deny),
            Some(("allow", list)) => verbs(list).map(CommandPolicy::Allow),
            _ => Err(expected),
        }
    }
}

impl FromStr for Refusal {
    type Err = Expected;

    fn from_str(text: &str) -> Result<Refusal, Expected> {
        match text {
            "refuse" => Ok(Refusal::Overwrite),
            "reset" => Ok(Refusal::Reset),
            "ignore" => Ok(Refusal::Ignore),
            _ => Err(Expected("refuse, reset or ignore")),
        }
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

impl fmt::Display for Prefixes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_slice() {
            [] => f.write_str("none"),
            all => {
                let all: Vec<_> = all.iter().map(ToString::to_string).collect();
                f.write_str(&all.join(","))
            }
        }
    }
}

impl fmt::Display for CommandPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (word, verbs) = match self {
            CommandPolicy::All => return f.write_str("all"),
            CommandPolicy::Deny(verbs) => ("deny", verbs),
            CommandPolicy::Allow(verbs) => ("allow", verbs),
        };
        let verbs: Vec<_> = verbs.iter().map(String::as_str).collect();
        write!(f, "{word}:{}", verbs.join(","))
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Refusal::Overwrite => "refuse",
            Refusal::Reset => "reset",
            Refusal::Ignore => "ignore",
        })
    }
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split([',', ' ']).filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<T: FromStr<Err = Expected> + fmt::Display>(text: &str) -> Result<String, Expected> {
        text.parse::<T>().map(|value| value.to_string())
    }

    #[test]
    fn ranges_of_ports() {
        assert_eq!(read::<PortRange>("40000-40100").unwrap(), "40000-40100");
        assert_eq!(read::<PortRange>("1024").unwrap(), "1024-1024");
        for wrong in ["1023-2000", "5000-4000", "1-2-3", "", "x", "40000-65536"] {
            assert!(read::<PortRange>(wrong).is_err(), "{wrong}");
        }
        let range: PortRange = "2000-3000".parse().unwrap();
        let inside = [1999, 2000, 3000, 3001].map(|port| range.contains(port));
        assert_eq!(inside, [false, true, true, false]);
    }

    #[test]
    fn prefixes_of_addresses() {
        let text = "192.0.2.0/24, 2001:db8::1";
        assert_eq!(
            read::<Prefixes>(text).unwrap(),
            "192.0.2.0/24,2001:db8::1/128"
        );
        assert_eq!(read::<Prefixes>("none").unwrap(), "none");
        assert!(read::<Prefixes>("192.0.2.0/33").is_err());
        assert!(read::<Prefixes>("example.org").is_err());
        let prefixes: Prefixes = text.parse().unwrap();
        assert!(prefixes.contains([192, 0, 2, 255].into()));
        assert!(!prefixes.contains([192, 0, 3, 0].into()));
    }

    #[test]
    fn policies_for_commands() {
        let policy: CommandPolicy = "deny:dele,RMD".parse().unwrap();
        assert!(!policy.allows("DELE") && policy.allows("RETR"));
        let policy: CommandPolicy = "allow:USER,PASS".parse().unwrap();
        assert!(policy.allows("USER") && !policy.allows("RETR"));
        let policy: CommandPolicy = "read-only".parse().unwrap();
        assert!(policy.allows("RETR") && !policy.allows("STOR") && !policy.allows("SITE"));
        assert_eq!(
            read::<CommandPolicy>(&policy.to_string()).unwrap(),
            policy.to_string()
        );
        for wrong in ["deny:NOSUCH", "some", "deny", "allow:GET"] {
            assert!(read::<CommandPolicy>(wrong).is_err(), "{wrong}");
        }
    }
}
