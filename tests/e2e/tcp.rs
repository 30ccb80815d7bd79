//! Plain TCP between the hosts: bulk with its content checked, and probes of single ports.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use crate::ftp::noise;
use crate::net::{Family, Host, Lab, eventually};

/// Everything here happens at once; a busy machine may take its time.
const PATIENCE: Duration = Duration::from_secs(20);

/// A block that is sent over and over. Its length is odd, so that it never lies the same way in
/// segments or pages.
const BLOCK_BYTES: usize = 1_000_003;

/// Sends TCP bulk for some time from a host to the other and compares every byte. Returns bits a
/// second.
pub(crate) fn bulk(lab: &Lab, from: Host, family: Family, port: u16, time: Duration) -> f64 {
    let to = SocketAddr::new(from.other().address(family), port);
    let block = noise(BLOCK_BYTES, u64::from(port));
    let listener = lab
        .ns(from.other())
        .enter(|| TcpListener::bind(to).expect("listen"));
    std::thread::scope(|scope| {
        let receiver = scope.spawn(|| receive(&listener, &block));
        let sender = lab.ns(from).spawn_in(scope, || {
            let mut stream = TcpStream::connect_timeout(&to, PATIENCE).expect("connect");
            let start = Instant::now();
            let mut sent = 0;
            while start.elapsed() < time {
                stream.write_all(&block).expect("send");
                sent += block.len();
            }
            sent
        });
        let sent = sender.join().expect("sender");
        let (received, elapsed) = receiver.join().expect("receiver");
        assert_eq!(sent, received, "bytes lost between {from:?} and {to}");
        received as f64 * 8.0 / elapsed.as_secs_f64()
    })
}

/// Gives up after a time, so that a connection that never comes fails the test and does not hang it.
fn accept(listener: &TcpListener) -> TcpStream {
    let mut accepted = None;
    listener.set_nonblocking(true).expect("nonblocking");
    eventually(PATIENCE, || {
        accepted = listener.accept().ok();
        accepted.is_some()
    });
    let (stream, _) = accepted.expect("nobody connected");
    stream.set_nonblocking(false).expect("blocking");
    stream
}

fn receive(listener: &TcpListener, block: &[u8]) -> (usize, Duration) {
    let mut stream = accept(listener);
    stream.set_read_timeout(Some(PATIENCE)).expect("timeout");
    let start = Instant::now();
    let mut buffer = vec![0; 256 << 10];
    let (mut total, mut place) = (0, 0);
    loop {
        let count = stream.read(&mut buffer).expect("receive");
        if count == 0 {
            return (total, start.elapsed());
        }
        let mut rest = &buffer[..count];
        while !rest.is_empty() {
            let length = rest.len().min(block.len() - place);
            assert!(
                rest[..length] == block[place..place + length],
                "corrupt at byte {total}"
            );
            rest = &rest[length..];
            place = (place + length) % block.len();
            total += length;
        }
    }
}

/// What became of an attempt to connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Knock {
    /// Somebody answered.
    Open,
    /// The host itself said no: the SYN got through.
    Refused,
    /// Nothing came back.
    Silence,
}

/// Tries one port. How long it waits depends on what is expected: an answer ends the waiting when it
/// comes; for silence a moment must be enough, and nothing here loses frames by chance.
pub(crate) fn knock(lab: &Lab, from: Host, to: IpAddr, port: u16, expected: Knock) -> Knock {
    const SILENCE: Duration = Duration::from_millis(500);
    const ANSWER: Duration = Duration::from_secs(10);
    let patience = if expected == Knock::Silence {
        SILENCE
    } else {
        ANSWER
    };
    let at = SocketAddr::new(to, port);
    match lab
        .ns(from)
        .enter(|| TcpStream::connect_timeout(&at, patience))
    {
        Ok(_) => Knock::Open,
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => Knock::Refused,
        Err(error) if error.kind() == std::io::ErrorKind::TimedOut => Knock::Silence,
        Err(error) => panic!("connecting to {at}: {error}"),
    }
}

/// A listener on a high port that no session ever names.
#[derive(Debug)]
pub(crate) struct Bait {
    listener: TcpListener,
    at: SocketAddr,
    host: Host,
}

impl Bait {
    pub(crate) fn lay(lab: &Lab, host: Host, family: Family, port: u16) -> Bait {
        let at = SocketAddr::new(host.address(family), port);
        let listener = lab
            .ns(host)
            .enter(|| TcpListener::bind(at).expect("listen"));
        listener.set_nonblocking(true).expect("nonblocking");
        Bait { listener, at, host }
    }

    /// Knocks at it from the other host.
    pub(crate) fn knock(&self, lab: &Lab, expected: Knock) -> Knock {
        let (ip, port) = (self.at.ip(), self.at.port());
        knock(lab, self.host.other(), ip, port, expected)
    }

    /// Whether anybody ever got through.
    pub(crate) fn taken(&self) -> bool {
        self.listener.accept().is_ok()
    }
}
