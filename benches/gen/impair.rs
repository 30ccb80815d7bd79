//! A bad wire: passes frames between two interfaces, and loses, repeats, delays and so reorders some
//! of them. For the end-to-end tests, because not every kernel has netem. The same seed gives the
//! same fates to the same frames in the same order.
//!
//! Runs until SIGTERM or SIGINT, then prints what it did as one line of JSON. The interfaces must
//! belong to nobody else, and offloads must be off at the ends that send to them: it sends what it
//! gets, and neither cuts frames nor fills in checksums.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Parser;
use pnet::datalink::{self, Channel, Config, DataLinkReceiver, DataLinkSender};

/// How often a thread that has nothing to do looks whether it is to end.
const LOOK: Duration = Duration::from_millis(50);

/// Big enough for whatever waits while this program does not run.
const READ_BUFFER_BYTES: usize = 1 << 16;

/// Joins two interfaces by a bad wire.
#[derive(Clone, Parser)]
struct Arguments {
    /// One end.
    one: String,
    /// The other end.
    other: String,
    /// Frames lost, in per cent.
    #[arg(long, default_value_t = 2.0)]
    loss: f64,
    /// Frames that arrive twice, in per cent.
    #[arg(long, default_value_t = 1.0)]
    duplicate: f64,
    /// Frames that others overtake, in per cent.
    #[arg(long, default_value_t = 3.0)]
    reorder: f64,
    /// How much later such a frame arrives at most, in microseconds.
    #[arg(long, default_value_t = 4000)]
    late_us: u64,
    /// How long each frame travels, in microseconds.
    #[arg(long, default_value_t = 200)]
    delay_us: u64,
    /// Where fates begin.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// A frame that is to leave at some time.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Travelling {
    due: Instant,
    /// Frames that are due at once leave in the order in which they came.
    number: u64,
    /// 0: it came from the first interface and leaves at the second.
    direction: usize,
    frame: Vec<u8>,
}

/// What was done, in frames.
#[derive(Clone, Copy, Default)]
struct Report {
    received: u64,
    lost: u64,
    duplicated: u64,
    late: u64,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
    }
    let (one_tx, one_rx) = open(&arguments.one)?;
    let (other_tx, other_rx) = open(&arguments.other)?;
    let (travel, arrivals) = channel();
    let readers: Vec<_> = [one_rx, other_rx]
        .into_iter()
        .enumerate()
        .map(|(direction, rx)| {
            let (travel, arguments, stop) = (travel.clone(), arguments.clone(), Arc::clone(&stop));
            std::thread::spawn(move || read(rx, direction, &arguments, &travel, &stop))
        })
        .collect();
    drop(travel);
    println!("ready");
    let refused = deliver(&arrivals, [other_tx, one_tx]);
    let mut total = Report::default();
    for reader in readers {
        let Ok(report) = reader.join() else {
            bail!("a thread died")
        };
        let report = report?;
        total.received += report.received;
        total.lost += report.lost;
        total.duplicated += report.duplicated;
        total.late += report.late;
    }
    println!(
        "{{\"received\":{},\"lost\":{},\"duplicated\":{},\"late\":{},\"refused\":{refused}}}",
        total.received, total.lost, total.duplicated, total.late
    );
    Ok(())
}

fn open(name: &str) -> Result<(Box<dyn DataLinkSender>, Box<dyn DataLinkReceiver>)> {
    let interface = datalink::interfaces()
        .into_iter()
        .find(|interface| interface.name == name)
        .with_context(|| format!("no interface {name} here"))?;
    let config = Config {
        read_timeout: Some(LOOK),
        read_buffer_size: READ_BUFFER_BYTES,
        write_buffer_size: READ_BUFFER_BYTES,
        ..Config::default()
    };
    match datalink::channel(&interface, config) {
        Ok(Channel::Ethernet(tx, rx)) => Ok((tx, rx)),
        Ok(_) => bail!("{name} is no Ethernet interface"),
        Err(error) => bail!("a packet socket on {name} (it needs root): {error}"),
    }
}

/// Decides the fate of each frame that comes in at an interface.
fn read(
    mut rx: Box<dyn DataLinkReceiver>,
    direction: usize,
    arguments: &Arguments,
    travel: &Sender<Travelling>,
    stop: &AtomicBool,
) -> Result<Report> {
    let mut dice = Dice(
        (arguments.seed * 2 + direction as u64)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .max(1),
    );
    let mut report = Report::default();
    let delay = Duration::from_micros(arguments.delay_us);
    while !stop.load(Relaxed) {
        let frame = match rx.next() {
            Ok(frame) => frame,
            Err(error) if error.kind() == io::ErrorKind::TimedOut => continue,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error).context("receiving"),
        };
        report.received += 1;
        if dice.falls(arguments.loss) {
            report.lost += 1;
            continue;
        }
        let twice = dice.falls(arguments.duplicate);
        let late = dice.falls(arguments.reorder);
        let extra = Duration::from_micros(dice.roll() % arguments.late_us.max(1));
        report.duplicated += u64::from(twice);
        report.late += u64::from(late);
        let due = Instant::now() + delay;
        let send = |due| {
            travel.send(Travelling {
                due,
                number: report.received,
                direction,
                frame: frame.to_vec(),
            })
        };
        let first = send(if late { due + extra } else { due });
        let second = if twice { send(due + extra) } else { Ok(()) };
        if first.or(second).is_err() {
            bail!("the sending thread is gone");
        }
    }
    Ok(report)
}

/// Sends frames when they are due, until no more can come. Returns how many the interfaces refused:
/// too long for them, for instance.
fn deliver(arrivals: &Receiver<Travelling>, mut out: [Box<dyn DataLinkSender>; 2]) -> u64 {
    let mut waiting: BinaryHeap<Reverse<Travelling>> = BinaryHeap::new();
    let mut refused = 0;
    loop {
        let now = Instant::now();
        while let Some(Reverse(first)) = waiting.peek()
            && first.due <= now
        {
            let Some(Reverse(sent)) = waiting.pop() else {
                break;
            };
            match out[sent.direction].send_to(&sent.frame, None) {
                Some(Ok(())) => {}
                Some(Err(_)) | None => refused += 1,
            }
        }
        let wait = waiting.peek().map_or(LOOK, |Reverse(first)| {
            first.due.saturating_duration_since(Instant::now())
        });
        match arrivals.recv_timeout(wait) {
            Ok(frame) => waiting.push(Reverse(frame)),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return refused,
        }
    }
}

/// xorshift64.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// True in so many of a hundred cases.
    fn falls(&mut self, per_cent: f64) -> bool {
        (self.roll() >> 11) as f64 / (1u64 << 53) as f64 * 100.0 < per_cent
    }
}
