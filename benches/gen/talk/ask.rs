//! Questions and answers, one at a time: how long does it take?

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};
use serde::Serialize;

use crate::latency::Times;

/// The first answers are not counted: the way of the others is known by then, and cores are awake.
const WARM_UP: Duration = Duration::from_millis(300);

/// A datagram that has no answer by then is lost.
const PATIENCE: Duration = Duration::from_secs(1);

/// TCP sends again what is lost; after this nobody is there any more.
const TCP_PATIENCE: Duration = Duration::from_secs(10);

const NO_ANSWER: &str = "no answer came: is `talk serve` there?";

/// For the number of the question.
const LEAST_BYTES: u16 = 8;

/// Asks `talk serve`, one question at a time, and tells how long answers took.
#[derive(Args)]
pub(crate) struct Arguments {
    /// Where it answers, as in 192.0.2.20:5100 or [2001:db8::20]:5100.
    to: SocketAddr,
    /// Over what.
    #[arg(long, value_enum, default_value_t = Kind::Udp)]
    kind: Kind,
    /// For how long, in seconds; the first 0.3 are not counted.
    #[arg(long, default_value = "2", value_parser = crate::seconds)]
    secs: f64,
    /// Length of question and answer. With UDP over IPv4, 18 bytes make the smallest frame.
    #[arg(long, default_value_t = 18, value_parser = clap::value_parser!(u16).range(i64::from(LEAST_BYTES)..=1400))]
    bytes: u16,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    Udp,
    Tcp,
}

#[derive(Serialize)]
pub(crate) struct Report {
    answers: u64,
    /// Datagrams without an answer.
    lost: u64,
    min_us: f64,
    p50_us: f64,
    p90_us: f64,
    p99_us: f64,
    p999_us: f64,
    max_us: f64,
}

pub(crate) fn run(arguments: &Arguments, stop: &AtomicBool) -> Result<Report> {
    let time = Duration::from_secs_f64(arguments.secs);
    ensure!(
        time > WARM_UP,
        "--secs: the first 0.3 are not counted, so give more"
    );
    let mut line = Line::open(arguments.kind, arguments.to)?;
    let mut question = vec![0; usize::from(arguments.bytes)];
    let mut answer = question.clone();
    let mut times = Times::new();
    let mut lost = 0;
    let begun = Instant::now();
    for number in 0u64.. {
        let asked = Instant::now();
        if asked - begun >= time || stop.load(Relaxed) {
            break;
        }
        question[..8].copy_from_slice(&number.to_be_bytes());
        let is_answered = line.ask(&question, &mut answer)?;
        if asked - begun < WARM_UP {
            continue;
        }
        if is_answered {
            times.add(asked.elapsed().as_nanos() as u64);
        } else {
            lost += 1;
        }
    }
    let latency = times.latency().context(NO_ANSWER)?;
    Ok(Report {
        answers: times.count(),
        lost,
        min_us: latency.min,
        p50_us: latency.p50,
        p90_us: latency.p90,
        p99_us: latency.p99,
        p999_us: latency.p999,
        max_us: latency.max,
    })
}

enum Line {
    Udp(UdpSocket),
    Tcp(TcpStream),
}

impl Line {
    fn open(kind: Kind, to: SocketAddr) -> Result<Line> {
        match kind {
            Kind::Udp => {
                let any: SocketAddr = match to {
                    SocketAddr::V4(_) => ([0, 0, 0, 0], 0).into(),
                    SocketAddr::V6(_) => ([0; 8], 0).into(),
                };
                let socket = UdpSocket::bind(any)?;
                socket
                    .connect(to)
                    .with_context(|| format!("connecting to {to}"))?;
                socket.set_read_timeout(Some(PATIENCE))?;
                Ok(Line::Udp(socket))
            }
            Kind::Tcp => {
                let stream = TcpStream::connect_timeout(&to, TCP_PATIENCE)
                    .with_context(|| format!("connecting to {to}: is `talk serve` there?"))?;
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(TCP_PATIENCE))?;
                Ok(Line::Tcp(stream))
            }
        }
    }

    /// Whether the answer came.
    fn ask(&mut self, question: &[u8], answer: &mut [u8]) -> Result<bool> {
        match self {
            Line::Tcp(stream) => {
                stream.write_all(question).context("asking")?;
                stream.read_exact(answer).context(NO_ANSWER)?;
                ensure!(answer == question, "that was the answer to something else");
                Ok(true)
            }
            Line::Udp(socket) => {
                socket.send(question).context("asking")?;
                loop {
                    match socket.recv(answer) {
                        Ok(bytes) if answer[..bytes] == *question => return Ok(true),
                        // The answer to one that was given up.
                        Ok(_) => {}
                        Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                        Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(false),
                        Err(error) => return Err(error).context(NO_ANSWER),
                    }
                }
            }
        }
    }
}
