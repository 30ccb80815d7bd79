//! The rules that serve when no file is given, written in the same language.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddrV4, SocketAddrV6};
use std::str::FromStr;

use super::values;

/// IANA's port for FTP control connections.
const FTP_PORT: u16 = 21;
/// What stands before a VLAN tag: IEEE 802.1Q, 802.1ad, and 802.1ad before it was one. Behind it
/// comes any type, so that it names none.
const TAG_TYPES: [u16; 3] = [0x8100, 0x88a8, 0x9100];
/// Ethernet types below are lengths (IEEE 802.3).
const FIRST_ETHERTYPE: u16 = 1536;

/// An FTP server inside that the world may reach: `ADDR[:PORT][,NAME=VALUE]...`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FtpServer {
    /// Its address.
    pub addr: IpAddr,
    /// The port of its control connections.
    pub port: u16,
    /// Settings of the helper for this server alone, by their names (with `_`) and values.
    pub options: Vec<(String, String)>,
}

/// What the flags add to the built-in rules.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Builtin {
    /// FTP servers inside.
    pub ftp_servers: Vec<FtpServer>,
    /// Ethernet types that pass both ways.
    pub l2: Vec<u16>,
}

/// Why a flag of the built-in rules is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FlagError {
    /// What stands behind a comma is no option.
    #[error("`{0}` is not of the form NAME=VALUE, such as tls-ports=40000-40100 or refuse=reset")]
    Option(String),
    /// No address.
    #[error("`{0}` is not an address; write ADDR or ADDR:PORT, IPv6 with a port as [ADDR]:PORT")]
    Address(String),
    /// No port.
    #[error("`{0}` is not a port: write a number from 1 to 65535")]
    Port(String),
    /// An address that no server has.
    #[error("`{0}` is not the address of one server")]
    NotUnicast(IpAddr),
    /// No Ethernet type.
    #[error("{message}: {hint}")]
    EtherType {
        /// What is wrong.
        message: String,
        /// What to write.
        hint: String,
    },
}

impl FromStr for FtpServer {
    type Err = FlagError;

    fn from_str(text: &str) -> Result<FtpServer, FlagError> {
        let mut parts = text.split(',');
        let (addr, port) = split(parts.next().unwrap_or_default())?;
        let option = |text: &str| match text.split_once('=') {
            Some((name, value)) if !name.is_empty() => {
                Ok((name.replace('-', "_"), value.to_owned()))
            }
            _ => Err(FlagError::Option(text.to_owned())),
        };
        let options = parts.map(option).collect::<Result<_, _>>()?;
        let port = port.map_or(Ok(FTP_PORT), |port| match port.parse() {
            Ok(number) if number != 0 && port.bytes().all(|b| b.is_ascii_digit()) => Ok(number),
            _ => Err(FlagError::Port(port.to_owned())),
        })?;
        let broadcast = addr == IpAddr::V4(Ipv4Addr::BROADCAST);
        if addr.is_unspecified() || addr.is_multicast() || broadcast {
            return Err(FlagError::NotUnicast(addr));
        }
        Ok(FtpServer {
            addr,
            port,
            options,
        })
    }
}

/// Address and port text of `1.2.3.4`, `1.2.3.4:21`, `::1`, `[::1]`, `[::1]:21`.
fn split(text: &str) -> Result<(IpAddr, Option<&str>), FlagError> {
    let wrong = || FlagError::Address(text.to_owned());
    if let Some(rest) = text.strip_prefix('[') {
        let (addr, rest) = rest.split_once(']').ok_or_else(wrong)?;
        let addr = addr.parse::<Ipv6Addr>().map_err(|_| wrong())?;
        return match rest.strip_prefix(':') {
            Some(port) => Ok((addr.into(), Some(port))),
            None if rest.is_empty() => Ok((addr.into(), None)),
            None => Err(wrong()),
        };
    }
    if let Ok(addr) = text.parse() {
        return Ok((addr, None));
    }
    let (addr, port) = text.split_once(':').ok_or_else(wrong)?;
    let addr = addr.parse::<Ipv4Addr>().map_err(|_| wrong())?;
    Ok((addr.into(), Some(port)))
}

impl std::fmt::Display for FtpServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.addr {
            IpAddr::V4(addr) => SocketAddrV4::new(addr, self.port).fmt(f),
            IpAddr::V6(addr) => SocketAddrV6::new(addr, self.port, 0, 0).fmt(f),
        }
    }
}

impl Builtin {
    /// Reads a value of `--l2`: an Ethernet type by number or name.
    ///
    /// # Errors
    ///
    /// If it is none.
    pub fn parse_l2(text: &str) -> Result<u16, FlagError> {
        match values::ETHERTYPE.value(text) {
            Ok((number, _)) if TAG_TYPES.contains(&number) => Err(FlagError::EtherType {
                message: format!("`{text}` is the type of a VLAN tag, behind which is anything"),
                hint: "name the type behind the tag: it passes with tags and without".to_owned(),
            }),
            Ok((number, _)) if number >= FIRST_ETHERTYPE => Ok(number),
            Ok((number, _)) => Err(FlagError::EtherType {
                message: format!("`{number}` is a length, not an Ethernet type"),
                hint: "Ethernet types begin at 1536 (0x600)".to_owned(),
            }),
            Err(values::Fault { message, hint }) => Err(FlagError::EtherType { message, hint }),
        }
    }

    /// The rules as a file, with comments for a person who wants to copy and change it.
    #[must_use]
    pub fn text(&self) -> String {
        self.text_with("")
    }

    /// The same, and FTP servers inside that nobody named are open to the outside, too. For
    /// captures, whose FTP sessions are to be seen; not for a firewall.
    #[must_use]
    pub fn text_with_ftp_both_ways(&self) -> String {
        self.text_with(FTP_FROM_OUTSIDE)
    }

    fn text_with(&self, more: &str) -> String {
        let mut text = String::from(HEAD);
        if !self.l2.is_empty() {
            let types: Vec<_> = self
                .l2
                .iter()
                .map(|number| format!("{number:#06x}"))
                .collect();
            let types = types.join(", ");
            let _ = writeln!(
                text,
                "\n    # named by --l2\n    ether type {{ {types} }} accept"
            );
        }
        text.push_str(HELPERS);
        for (index, server) in self.ftp_servers.iter().enumerate() {
            if !server.options.is_empty() {
                let name = Builtin::profile(index);
                let _ = writeln!(
                    text,
                    "  ct helper {name} {{\n    type \"ftp\" protocol tcp; comment \"lotus:{name}\";\n  }}"
                );
            }
        }
        text.push_str(MIDDLE);
        if self.ftp_servers.is_empty() && more.is_empty() {
            text.push_str(NO_SERVERS);
        } else if !self.ftp_servers.is_empty() {
            text.push_str("\n    # FTP servers inside, named by --ftp-server.\n");
        }
        for (
            index,
            FtpServer {
                addr,
                port,
                options,
            },
        ) in self.ftp_servers.iter().enumerate()
        {
            let ip = if addr.is_ipv4() { "ip" } else { "ip6" };
            let helper = match options.as_slice() {
                [] => "ftp-std".to_owned(),
                _ => Builtin::profile(index),
            };
            let _ = writeln!(
                text,
                "    {ip} daddr {addr} tcp dport {port} ct state new ct helper set \"{helper}\" accept"
            );
        }
        text.push_str(more);
        text.push_str(TAIL);
        text
    }

    /// The name of the settings profile that a server with options has, and of its helper object.
    #[must_use]
    pub fn profile(index: usize) -> String {
        format!("server-{}", index + 1)
    }
}

const HEAD: &str = r#"# The built-in rules of lotus, in the syntax of nft(8).
# lotus defines $inside and $outside as the names of its two ports. For `nft -f` define them here:
#   define inside = "eth1"
#   define outside = "eth2"

# Every frame passes this table first. What it drops is no concern of the second one.
table bridge lotus {
  chain forward {
    type filter hook forward priority -200; policy drop;
    ether type { ip, ip6, arp } accept

    # spanning tree: IEEE 802.3 lengths instead of a type, to the bridges' group address
    ether type 0-1535 ether daddr 01:80:c2:00:00:00 accept
"#;

const HELPERS: &str = r#"  }
}

# IPv4 and IPv6 then pass this one.
table inet lotus {
  ct helper ftp-std {
    type "ftp" protocol tcp;
  }
"#;

const MIDDLE: &str = r#"  chain forward {
    type filter hook forward priority 0; policy drop;
    ct state invalid drop
    # Replies; data connections that FTP sessions agreed on; ICMP errors about known flows.
    ct state established,related accept

    # Inside may open anything outwards; FTP gets the helper, so that its data ports open.
    iifname $inside tcp dport 21 ct state new ct helper set "ftp-std" accept
    iifname $inside accept

    # What follows comes from outside.
    # Neighbour discovery and router advertisements. Hop limit 255: no router forwarded them.
    icmpv6 type { nd-router-advert, nd-neighbor-solicit, nd-neighbor-advert } ip6 hoplimit 255 accept
    # Multicast routers ask who listens.
    icmpv6 type mld-listener-query ip6 hoplimit 1 accept
    ip protocol igmp ip daddr 224.0.0.0/4 accept
    # DHCP replies: the question was a broadcast, so they match no flow.
    udp sport 67 udp dport 68 accept
    ip6 saddr fe80::/10 udp sport 547 udp dport 546 accept
"#;

const NO_SERVERS: &str = r#"
    # An FTP server inside (lotus run --ftp-server 192.0.2.10) would be:
    #ip daddr 192.0.2.10 tcp dport 21 ct state new ct helper set "ftp-std" accept
"#;

const FTP_FROM_OUTSIDE: &str = r#"
    # For `lotus explain`: FTP from outside to whatever server there is.
    tcp dport 21 ct state new ct helper set "ftp-std" accept
"#;

const TAIL: &str = "  }\n}\n";

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn servers_by_address_and_port() {
        for (text, shown) in [
            ("192.0.2.10", "192.0.2.10:21"),
            ("192.0.2.10:2121", "192.0.2.10:2121"),
            ("2001:db8::10", "[2001:db8::10]:21"),
            ("[2001:db8::10]", "[2001:db8::10]:21"),
            ("[2001:db8::10]:990", "[2001:db8::10]:990"),
        ] {
            assert_eq!(text.parse::<FtpServer>().unwrap().to_string(), shown);
        }
        for (text, part) in [
            ("192.0.2.10,tls-ports", "`tls-ports` is not of the form"),
            ("192.0.2.10,", "`` is not of the form"),
            ("ftp.example", "is not an address"),
            ("192.0.2.10:", "`` is not a port"),
            ("192.0.2.10:0", "`0` is not a port"),
            ("192.0.2.10:+21", "`+21` is not a port"),
            ("192.0.2.10:65536", "`65536` is not a port"),
            ("192.0.2.0/24", "is not an address"),
            ("[2001:db8::10", "[ADDR]:PORT"),
            ("[2001:db8::10]21", "[ADDR]:PORT"),
            ("[192.0.2.10]:21", "is not an address"),
            ("", "is not an address"),
            ("0.0.0.0", "not the address of one server"),
            ("255.255.255.255", "not the address of one server"),
            ("ff02::1", "not the address of one server"),
        ] {
            let error = text.parse::<FtpServer>().unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn a_server_with_options_has_a_helper_object_of_its_own() {
        let servers = [
            "192.0.2.10",
            "[2001:db8::1]:21,tls-ports=5000-5010,refuse=reset",
        ];
        let flags = Builtin {
            ftp_servers: servers.map(|text| text.parse().unwrap()).to_vec(),
            l2: Vec::new(),
        };
        let options = [("tls_ports", "5000-5010"), ("refuse", "reset")];
        let options = options.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(flags.ftp_servers[1].options, options);
        let names = crate::rules::PortNames {
            inside: "in".into(),
            outside: "out".into(),
        };
        let rules = crate::rules::Ruleset::parse("t", &flags.text(), &names).unwrap();
        let profiles: Vec<_> = rules
            .helpers()
            .iter()
            .map(|h| h.profile.as_deref())
            .collect();
        assert_eq!(profiles, [None, Some("server-2")]);
    }

    #[test]
    fn layer_2_types_by_number_or_name() {
        assert_eq!(Builtin::parse_l2("0x88cc"), Ok(0x88cc));
        assert_eq!(Builtin::parse_l2("34997"), Ok(0x88b5));
        let error = |text| Builtin::parse_l2(text).unwrap_err().to_string();
        assert!(error("1535").contains("is a length"));
        assert!(error("lldp").contains("write the number"));
        assert!(error("0x10000").contains("too large"));
        for tag in ["vlan", "8021q", "0x8100", "0x88a8", "37120"] {
            assert!(error(tag).contains("VLAN tag"), "{tag}");
        }
    }
}
