//! What tests from outside share: frames made by hand, an engine between two sides that checks the
//! accounting law after every frame, and the two ends of a control connection that put together
//! what arrives, as TCP does.

mod frame;
mod lab;
mod talk;

pub use frame::{Segment, datagram, fragments, fragments_at, icmp, udp};
pub use lab::{Door, Lab, Passed};
pub use talk::{Speaker, Talk};

use std::net::{IpAddr, SocketAddr};

use lotus::wire::Side;

/// The port of a control connection.
pub const FTP: u16 = 21;
/// Another port that the rules name as FTP.
pub const OTHER_FTP: u16 = 2121;
/// The client's port of a control connection.
pub const CLIENT_PORT: u16 = 40_000;

/// Who lives around the firewall.
#[derive(Clone, Copy, Debug)]
pub struct Hosts {
    pub client: IpAddr,
    pub server: IpAddr,
    /// On the client's side.
    pub neighbour: IpAddr,
    /// On the server's side.
    pub stranger: IpAddr,
}

pub const V4: Hosts = Hosts {
    client: v4(192, 0, 2, 10),
    server: v4(198, 51, 100, 20),
    neighbour: v4(192, 0, 2, 77),
    stranger: v4(203, 0, 113, 66),
};

pub const V6: Hosts = Hosts {
    client: v6(0x10),
    server: v6(0x20),
    neighbour: v6(0x77),
    stranger: v6(0x66),
};

impl Hosts {
    pub fn is_v6(&self) -> bool {
        self.client.is_ipv6()
    }

    /// The client's line that asks for a data connection to it.
    pub fn active(&self, host: IpAddr, port: u16) -> String {
        match host {
            IpAddr::V4(_) => format!("PORT {}\r\n", six_numbers(host, port)),
            IpAddr::V6(_) => format!("EPRT |2|{host}|{port}|\r\n"),
        }
    }

    /// The command that asks for a passive port, and the answer that names it.
    pub fn passive(&self, port: u16) -> (&'static str, String) {
        if self.is_v6() {
            ("EPSV\r\n", extended(port))
        } else {
            ("PASV\r\n", entering(self.server, port))
        }
    }
}

/// `227`, as vsftpd has it.
pub fn entering(host: IpAddr, port: u16) -> String {
    format!(
        "227 Entering Passive Mode ({}).\r\n",
        six_numbers(host, port)
    )
}

/// `229`, as vsftpd has it.
pub fn extended(port: u16) -> String {
    format!("229 Entering Extended Passive Mode (|||{port}|).\r\n")
}

/// `h1,h2,h3,h4,p1,p2`; an IPv6 address, that can't be written so, is all zeros.
pub fn six_numbers(host: IpAddr, port: u16) -> String {
    let octets = match host {
        IpAddr::V4(host) => host.octets(),
        IpAddr::V6(_) => [0; 4],
    };
    let [a, b, c, d] = octets;
    format!("{a},{b},{c},{d},{},{}", port >> 8, port & 0xff)
}

pub const fn v4(a: u8, b: u8, c: u8, d: u8) -> IpAddr {
    IpAddr::V4(std::net::Ipv4Addr::new(a, b, c, d))
}

const fn v6(last: u16) -> IpAddr {
    IpAddr::V6(std::net::Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last))
}

pub fn at(host: IpAddr, port: u16) -> SocketAddr {
    SocketAddr::new(host, port)
}

/// Runs a test with both families and the client on either side: where an attack has no side of
/// its own, it must fail from both.
pub fn everywhere(test: impl Fn(Hosts, Side)) {
    for hosts in [V4, V6] {
        for side in Side::BOTH {
            test(hosts, side);
        }
    }
}
