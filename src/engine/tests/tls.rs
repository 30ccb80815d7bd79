//! Control connections that go TLS: the passive range, and what comes without one.

mod ccc;
mod handshake;
mod range;
mod refused;

use super::*;

const RANGE: &str = "50000-50009";

fn lab(range: Option<&str>) -> Lab {
    let setting = range.map(|range| ("ftp.tls_ports", range));
    Lab::set(setting.as_slice())
}

fn record(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = (body.len() as u16).to_be_bytes();
    [&[kind, 3, 3], length.as_slice(), body].concat()
}

fn client_hello() -> Vec<u8> {
    record(22, &[[1, 0, 0, 60].as_slice(), &[7; 60]].concat())
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Version {
    Tls12,
    Tls13,
}
use Version::{Tls12, Tls13};

fn server_hello(version: Version) -> Vec<u8> {
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.extend([0, 0x13, 1, 0]);
    match version {
        Tls12 => body.extend([0, 5, 0xff, 1, 0, 1, 0]),
        Tls13 => body.extend([0, 6, 0, 43, 0, 2, 3, 4]),
    }
    record(
        22,
        &[[2, 0, 0, body.len() as u8].as_slice(), &body].concat(),
    )
}

fn data(body: &[u8]) -> Vec<u8> {
    record(23, body)
}

/// An alert as an observer sees it.
fn close_notify(version: Version) -> Vec<u8> {
    match version {
        Tls12 => record(21, &[9; 24]),
        Tls13 => record(23, &[9; 19]),
    }
}

impl Wire {
    /// Bytes that must arrive as they are.
    fn tell(&mut self, lab: &mut Lab, from: Speaker, bytes: &[u8]) {
        let passed = self.say(lab, from, bytes);
        assert_eq!(passed.bytes(), bytes, "{:?}", passed.verdict);
    }

    /// From the greeting to both hellos, and an encrypted login.
    fn goes_tls(&mut self, lab: &mut Lab, version: Version) {
        assert!(self.connect(lab));
        self.dialogue(lab, &[(Server, "220 ready")]);
        self.auth(lab, version);
    }

    fn auth(&mut self, lab: &mut Lab, version: Version) {
        self.dialogue(lab, &[(Client, "AUTH TLS"), (Server, "234 go on")]);
        self.handshake(lab, version);
    }

    fn handshake(&mut self, lab: &mut Lab, version: Version) {
        self.tell(lab, Client, &client_hello());
        self.tell(lab, Server, &server_hello(version));
        for from in [Client, Server, Client, Server] {
            self.tell(lab, from, &data(b"user, password, welcome"));
        }
    }

    /// CCC, and TLS shut down by both ends.
    fn leaves_tls(&mut self, lab: &mut Lab, version: Version) {
        self.tell(lab, Client, &data(b"CCC"));
        self.tell(lab, Server, &data(b"200 clear"));
        self.tell(lab, Server, &close_notify(version));
        self.tell(lab, Client, &close_notify(version));
    }
}

fn tls_session(lab: &mut Lab) -> Wire {
    let mut wire = control(V4, Side::Outside);
    wire.goes_tls(lab, Tls13);
    wire
}
