//! A firewall host and its two neighbours as network namespaces, and a lotus that runs there.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

pub(crate) const LOTUS: &str = env!("CARGO_BIN_EXE_lotus");

/// Everything here happens within milliseconds; a loaded machine may take its time.
const PATIENCE: Duration = Duration::from_secs(20);

/// Whether the tests that need root can run; says so if not.
pub(crate) fn is_root(test: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("SKIP {test}: needs root, for network namespaces");
    }
    root
}

/// Compares the exit code; every part must be in what was printed. Returns that.
#[track_caller]
pub(crate) fn judge(what: &str, output: &Output, code: i32, parts: &[&str]) -> String {
    let text = [&output.stdout[..], &output.stderr[..]].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    assert_eq!(output.status.code(), Some(code), "{what}:\n{text}");
    // Lines are broken to the terminal's width in places.
    let flat = text.split_whitespace().collect::<Vec<_>>().join(" ");
    for part in parts {
        assert!(flat.contains(part), "{what}: no '{part}' in:\n{text}");
    }
    for leak in ["panicked", "RUST_BACKTRACE", "stack backtrace", "lotus::"] {
        assert!(!text.contains(leak), "{what}: '{leak}' in:\n{text}");
    }
    text
}

/// Three namespaces: host a - fw-in [firewall] fw-out - host b.
pub(crate) struct Lab {
    pub(crate) fw: String,
    pub(crate) a: String,
    pub(crate) b: String,
}

impl Lab {
    pub(crate) fn new() -> Lab {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let tag = format!(
            "{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        let name = |part: &str| format!("runtime-{tag}-{part}");
        let lab = Lab {
            fw: name("fw"),
            a: name("a"),
            b: name("b"),
        };
        for namespace in [&lab.fw, &lab.a, &lab.b] {
            ip(&["netns", "add", namespace]);
        }
        lab.wire_up("fw-in", &lab.a, "192.0.2.1/24");
        lab.wire_up("fw-out", &lab.b, "192.0.2.2/24");
        lab
    }

    /// Joins a host to a port of the firewall.
    pub(crate) fn wire_up(&self, port: &str, host: &str, address: &str) {
        let fw = &self.fw;
        ip(&[
            "link", "add", "name", "eth0", "netns", host, "type", "veth", "peer", "name", port,
            "netns", fw,
        ]);
        ip(&["-n", host, "addr", "add", address, "dev", "eth0"]);
        ip(&["-n", host, "link", "set", "dev", "eth0", "up"]);
        ip(&["-n", fw, "link", "set", "dev", port, "up"]);
    }

    /// A program in one of the namespaces.
    pub(crate) fn command(namespace: &str, program: &[&str]) -> Command {
        let mut command = Command::new("ip");
        command
            .args(["netns", "exec", namespace])
            .args(program)
            .stdin(Stdio::null());
        command
    }

    /// lotus on the firewall host, to its end.
    pub(crate) fn lotus(&self, arguments: &[&str]) -> Output {
        Lab::command(&self.fw, &[LOTUS])
            .args(arguments)
            .output()
            .unwrap()
    }

    /// `lotus run` with the two ports, to its end: for what it refuses.
    #[track_caller]
    pub(crate) fn expect_refusal(&self, more: &[&str], parts: &[&str]) -> String {
        let arguments = [&RUN[..], more].concat();
        judge(
            &format!("lotus {}", arguments.join(" ")),
            &self.lotus(&arguments),
            1,
            parts,
        )
    }

    /// `lotus run` with the two ports, until it is ready.
    pub(crate) fn start(&self, more: &[&str]) -> Running {
        let mut running = self.start_unready(more);
        running.wait_for("ready");
        running
    }

    pub(crate) fn start_unready(&self, more: &[&str]) -> Running {
        let mut command = Lab::command(&self.fw, &[LOTUS]);
        command.args(RUN).args(more);
        self.spawn(command)
    }

    /// Any command that ends up as lotus.
    pub(crate) fn spawn(&self, mut command: Command) -> Running {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        Running::of(command)
    }

    /// Moves a port of the firewall into host a's namespace and back: it keeps its index.
    pub(crate) fn visit_and_return(&self, port: &str) {
        let (fw, a) = (&self.fw, &self.a);
        let script = format!(
            "ip -n {fw} link set {port} netns {a} && ip -n {a} link set {port} netns {fw} && \
             ip -n {fw} link set {port} up"
        );
        let output = Command::new("sh").args(["-c", &script]).output().unwrap();
        assert!(output.status.success(), "{script}: {output:?}");
    }

    pub(crate) fn status(&self) -> serde_json::Value {
        let output = self.lotus(&["status", "--json"]);
        judge("lotus status --json", &output, 0, &[]);
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Waits until the running lotus sees a port's link in this state.
    #[track_caller]
    pub(crate) fn wait_for_link(&self, port: &str, state: &str) {
        let deadline = Instant::now() + PATIENCE;
        while self.status()["per_port"][port]["link"] != state {
            assert!(Instant::now() < deadline, "{port} is not {state}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Whether host a reaches host b.
    pub(crate) fn ping(&self) -> bool {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            let ping = ["ping", "-c", "1", "-W", "1", "192.0.2.2"];
            if Lab::command(&self.a, &ping)
                .output()
                .unwrap()
                .status
                .success()
            {
                return true;
            }
        }
        false
    }

    /// A file below /proc/sys/net of the firewall host.
    pub(crate) fn sysctl(&self, name: &str) -> String {
        let path = format!("/proc/sys/net/{name}");
        let output = Lab::command(&self.fw, &["cat", &path]).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }
}

pub(crate) const RUN: [&str; 5] = ["run", "--inside", "fw-in", "--outside", "fw-out"];

impl Drop for Lab {
    fn drop(&mut self) {
        for namespace in [&self.fw, &self.a, &self.b] {
            // Also on a failed assertion, when some may be missing.
            let _ = Command::new("ip")
                .args(["netns", "del", namespace])
                .output();
        }
    }
}

#[track_caller]
pub(crate) fn ip(arguments: &[&str]) {
    let output = Command::new("ip").args(arguments).output().unwrap();
    assert!(
        output.status.success(),
        "ip {}: {output:?}",
        arguments.join(" ")
    );
}

/// A lotus that runs; dropped, it is killed.
pub(crate) struct Running {
    child: Child,
    lines: Receiver<String>,
    seen: Vec<String>,
}

impl Running {
    /// A command whose output goes where it says.
    pub(crate) fn of(mut command: Command) -> Running {
        let mut child = command.spawn().unwrap();
        let (send, lines) = channel();
        let follow = |stream: Option<Box<dyn std::io::Read + Send>>| {
            let (Some(stream), send) = (stream, send.clone()) else {
                return;
            };
            std::thread::spawn(move || {
                for line in BufReader::new(stream).lines().map_while(Result::ok) {
                    let _ = send.send(line);
                }
            });
        };
        follow(child.stdout.take().map(|s| Box::new(s) as _));
        follow(child.stderr.take().map(|s| Box::new(s) as _));
        Running {
            child,
            lines,
            seen: Vec::new(),
        }
    }

    /// Waits for a line that was not waited for before and has this in it.
    #[track_caller]
    pub(crate) fn wait_for(&mut self, part: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => {
                    self.seen.push(line.clone());
                    if line.contains(part) {
                        return line;
                    }
                }
                Err(_) => panic!("no line with '{part}' in:\n{}", self.seen.join("\n")),
            }
        }
    }

    pub(crate) fn is_alive(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        rustix::process::kill_process(self.pid(), signal).unwrap();
    }

    /// The numbers of its open files and sockets.
    pub(crate) fn descriptors(&self) -> Vec<u64> {
        let folder = format!("/proc/{}/fd", self.pid().as_raw_nonzero());
        let names = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.map(|name| name.parse().unwrap()).collect()
    }

    /// From now on lotus gets only descriptors below this. Returns the limit before.
    pub(crate) fn limit_descriptors(&self, limit: u64) -> u64 {
        use rustix::process::{Resource, Rlimit, prlimit};
        let new = Rlimit {
            current: Some(limit),
            // It is inherited, and stays as it is.
            maximum: rustix::process::getrlimit(Resource::Nofile).maximum,
        };
        let before = prlimit(Some(self.pid()), Resource::Nofile, new).unwrap();
        before.current.unwrap()
    }

    fn pid(&self) -> rustix::process::Pid {
        // `ip netns exec` becomes the program, so this is lotus itself.
        let pid = i32::try_from(self.child.id()).unwrap();
        rustix::process::Pid::from_raw(pid).unwrap()
    }

    /// Waits for the end; returns all that was printed.
    #[track_caller]
    pub(crate) fn end(mut self) -> (ExitStatus, String) {
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(
                Instant::now() < deadline,
                "it does not end:\n{}",
                self.seen.join("\n")
            );
            std::thread::sleep(Duration::from_millis(5));
        };
        while let Ok(line) = self.lines.recv_timeout(PATIENCE) {
            self.seen.push(line);
        }
        (status, self.seen.join("\n"))
    }

    /// Ctrl-C; returns all that was printed.
    #[track_caller]
    pub(crate) fn stop(self) -> String {
        self.signal(rustix::process::Signal::INT);
        let (status, text) = self.end();
        assert_eq!(status.code(), Some(0), "{text}");
        text
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
