//! Two hosts and lotus's workers between them, in network namespaces of their own.
//!
//!     left [left0]--veth--[port0  workers  port1]--veth--[right0] right

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use lotus::io::afpacket::{self, AfPacketPort, Binding, Geometry};
use lotus::observe::{Counters, Snapshot};
use lotus::runtime::worker::{Exit, Judge, Passthrough, Polling, Worker};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

pub(crate) const LEFT4: &str = "10.90.0.1";
pub(crate) const RIGHT4: &str = "10.90.0.2";
pub(crate) const RIGHT6: &str = "fd90::2";
/// What is waited for here happens at once; a busy machine may take its time.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
/// A worker looks whether it is to stop at least every 100 ms; the rest is for a busy machine.
const STOP_WITHIN: Duration = Duration::from_secs(3);

pub(crate) const PORTS: [&str; 2] = ["port0", "port1"];

/// Whether these tests can run. Says so when they can't.
pub(crate) fn possible(test: &str) -> bool {
    let missing = ["ip", "ping", "tcpdump", "nft"].into_iter().find(|tool| {
        Command::new(tool)
            .arg("-V")
            .output()
            .is_err_and(|e| e.kind() == io::ErrorKind::NotFound)
    });
    let why = match missing {
        _ if !rustix::process::geteuid().is_root() => "not root".to_owned(),
        Some(tool) => format!("no {tool}"),
        None => return true,
    };
    // Past the capture of the test harness, which shows nothing of a test that passes.
    let line = format!("SKIP {test}: {why}\n");
    let _ = io::stderr().write_all(line.as_bytes());
    false
}

/// The namespaces. They go away with this, also when a test fails.
pub(crate) struct Testbed {
    names: [String; 3],
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Place {
    Left,
    Middle,
    Right,
}

impl Testbed {
    pub(crate) fn new() -> Testbed {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let prefix = format!("io-{}-{number}", std::process::id());
        let bed = Testbed {
            names: ["left", "middle", "right"].map(|n| format!("{prefix}-{n}")),
        };
        for name in &bed.names {
            run(Command::new("ip").args(["netns", "add", name]));
        }
        bed.pair("left0", Place::Left, PORTS[0]);
        bed.pair("right0", Place::Right, PORTS[1]);
        for (place, device, v4, v6) in [
            (Place::Left, "left0", LEFT4, "fd90::1"),
            (Place::Right, "right0", RIGHT4, RIGHT6),
        ] {
            bed.ip(place, &format!("addr add {v4}/16 dev {device}"));
            bed.ip(place, &format!("addr add {v6}/64 dev {device} nodad"));
        }
        bed
    }

    /// A veth pair between a host and the middle, both ends up.
    pub(crate) fn pair(&self, device: &str, place: Place, port: &str) {
        let middle = self.name(Place::Middle);
        self.ip(
            place,
            &format!("link add {device} type veth peer name {port} netns {middle}"),
        );
        self.ip(place, &format!("link set {device} up"));
        self.ip(Place::Middle, &format!("link set {port} up"));
    }

    /// `ip` with these words in a namespace; it must succeed.
    pub(crate) fn ip(&self, place: Place, words: &str) {
        run(Command::new("ip")
            .args(["-n", self.name(place)])
            .args(words.split(' ')));
    }

    /// Whether a command succeeds in a namespace.
    pub(crate) fn succeeds(&self, place: Place, words: &str) -> bool {
        self.command(place, words)
            .output()
            .is_ok_and(|output| output.status.success())
    }

    pub(crate) fn command(&self, place: Place, words: &str) -> Command {
        let mut command = Command::new("ip");
        command
            .args(["netns", "exec", self.name(place)])
            .args(words.split(' '));
        command
    }

    /// Runs `work` on a thread that is in a namespace. Sockets it makes stay there.
    pub(crate) fn spawn<T: Send + 'static>(
        &self,
        place: Place,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> JoinHandle<T> {
        let namespace = File::open(format!("/run/netns/{}", self.name(place))).unwrap();
        thread::spawn(move || {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            work()
        })
    }

    pub(crate) fn within<T: Send + 'static>(
        &self,
        place: Place,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> T {
        self.spawn(place, work).join().unwrap()
    }

    /// Starts workers that pass everything.
    pub(crate) fn pass(&self, workers: usize) -> Workers {
        self.start(workers, |_, counters| Passthrough::new(counters))
    }

    /// Starts workers; `judge` makes the judge of each.
    pub(crate) fn start<J: Judge + 'static>(
        &self,
        workers: usize,
        judge: impl Fn(usize, Arc<Counters>) -> J,
    ) -> Workers {
        let ports: Vec<[AfPacketPort; 2]> = self.within(Place::Middle, move || {
            afpacket::open(&PORTS.map(Binding::to), workers, Geometry::default()).unwrap()
        });
        let stop = Arc::new(AtomicBool::new(false));
        let (ended, exits) = mpsc::channel();
        let mut counters = Vec::new();
        let threads = ports.into_iter().enumerate().map(|(index, ports)| {
            let block = Arc::new(Counters::default());
            counters.push(Arc::clone(&block));
            let judge = judge(index, Arc::clone(&block));
            let (stop, ended) = (Arc::clone(&stop), ended.clone());
            thread::spawn(move || {
                let exit = Worker::new(ports, judge, block, Polling::default()).run(&stop);
                let _ = ended.send(exit);
            })
        });
        let threads = threads.collect();
        Workers {
            stop,
            threads,
            counters,
            exits,
        }
    }

    fn name(&self, place: Place) -> &str {
        &self.names[place as usize]
    }
}

impl Drop for Testbed {
    fn drop(&mut self) {
        for name in &self.names {
            let _ = Command::new("ip").args(["netns", "del", name]).output();
        }
    }
}

/// Running workers. They end with this.
pub(crate) struct Workers {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    counters: Vec<Arc<Counters>>,
    exits: mpsc::Receiver<Exit>,
}

impl Workers {
    /// Stops them, asserts that all heard of it in time, and adds up what they counted.
    pub(crate) fn stop(mut self) -> Snapshot {
        let asked = Instant::now();
        self.end();
        assert!(asked.elapsed() < STOP_WITHIN, "took {:?}", asked.elapsed());
        while let Ok(exit) = self.exits.try_recv() {
            assert!(matches!(exit, Exit::Stopped), "{exit:?}");
        }
        let snapshot = self.snapshot();
        assert_eq!(snapshot.unaccounted_frames(), 0, "{snapshot:?}");
        snapshot
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        Snapshot::of(self.counters.iter().map(|block| &**block))
    }

    /// Waits for a worker that ends by itself.
    pub(crate) fn exit(&self, within: Duration) -> Option<Exit> {
        self.exits.recv_timeout(within).ok()
    }

    fn end(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.threads
            .drain(..)
            .for_each(|thread| thread.join().unwrap());
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Waits until something holds.
pub(crate) fn eventually(what: &str, holds: impl Fn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "not within {PATIENCE:?}: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}
