//! The testbed: client, firewall and server, each a network namespace, joined by two veth pairs.
//!
//! `client0 -- fw-in [firewall] fw-out -- server0`. Whatever a test leaves behind, also by a
//! panic, goes with the [`Lab`]: processes (found by namespace, killed by id), namespaces, files.

use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::Value;

use crate::generators;

pub(crate) const CLIENT_MAC: &str = "02:00:00:00:00:10";
pub(crate) const SERVER_MAC: &str = "02:00:00:00:00:20";

/// All namespaces of these tests begin so; then the test process's id and a number follow.
const PREFIX: &str = "lotus-e2e-";
/// One testbed at a time on a machine: measurements would disturb each other, and two cores are
/// few. A file, because a test runner may start each test in its own process.
const LOCK_FILE: &str = "lotus-e2e.lock";

/// One of the two hosts beside the firewall.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Host {
    Client,
    Server,
}

impl Host {
    pub(crate) fn other(self) -> Host {
        match self {
            Host::Client => Host::Server,
            Host::Server => Host::Client,
        }
    }

    pub(crate) fn v4(self) -> IpAddr {
        let last = match self {
            Host::Client => 10,
            Host::Server => 20,
        };
        Ipv4Addr::new(192, 0, 2, last).into()
    }

    pub(crate) fn v6(self) -> IpAddr {
        let last = match self {
            Host::Client => 0x10,
            Host::Server => 0x20,
        };
        Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last).into()
    }

    pub(crate) fn address(self, family: Family) -> IpAddr {
        match family {
            Family::V4 => self.v4(),
            Family::V6 => self.v6(),
        }
    }

    pub(crate) fn mac(self) -> &'static str {
        match self {
            Host::Client => CLIENT_MAC,
            Host::Server => SERVER_MAC,
        }
    }

    /// The host's own interface.
    pub(crate) fn interface(self) -> &'static str {
        match self {
            Host::Client => "client0",
            Host::Server => "server0",
        }
    }

    /// The firewall's interface towards the host.
    pub(crate) fn port(self) -> &'static str {
        match self {
            Host::Client => "fw-in",
            Host::Server => "fw-out",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

impl Family {
    pub(crate) const BOTH: [Family; 2] = [Family::V4, Family::V6];
}

/// A network namespace.
#[derive(Debug)]
pub(crate) struct Ns {
    name: String,
}

impl Ns {
    fn new(name: String) -> Ns {
        run("ip", &["netns", "add", &name]);
        let ns = Ns { name };
        ns.ip("link set lo up");
        // Nothing speaks by itself, so that every frame in a capture has a cause.
        ns.sysctl("net.ipv6.conf.default.accept_dad=0");
        ns.sysctl("net.ipv6.conf.default.router_solicitations=0");
        ns
    }

    /// A command that will run in this namespace.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command
            .args(["netns", "exec", &self.name, program])
            .stdin(Stdio::null());
        command
    }

    /// Runs a line of words in this namespace to its end, whatever its exit code.
    pub(crate) fn output(&self, line: &str) -> Output {
        let mut words = line.split_whitespace();
        let program = words.next().expect("an empty command");
        self.command(program)
            .args(words)
            .output()
            .expect("ip netns exec")
    }

    /// Runs a line of words in this namespace; it must succeed.
    pub(crate) fn run(&self, line: &str) -> String {
        let output = self.output(line);
        assert!(
            output.status.success(),
            "in {}: {line}: {}",
            self.name,
            text(&output)
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// `ip -n NAME ...`; it must succeed.
    pub(crate) fn ip(&self, line: &str) -> String {
        let mut words = vec!["-n", &self.name];
        words.extend(line.split_whitespace());
        run("ip", &words)
    }

    pub(crate) fn sysctl(&self, setting: &str) {
        self.run(&format!("sysctl -qw {setting}"));
    }

    /// Runs a closure on a thread that lives in this namespace. Sockets it makes stay there.
    pub(crate) fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            self.spawn_in(scope, work)
                .join()
                .expect("thread in namespace")
        })
    }

    /// Like [`Ns::enter`], without waiting.
    pub(crate) fn spawn_in<'s, T: Send + 's>(
        &self,
        scope: &'s thread::Scope<'s, '_>,
        work: impl FnOnce() -> T + Send + 's,
    ) -> thread::ScopedJoinHandle<'s, T> {
        let file = File::open(Path::new("/run/netns").join(&self.name)).expect("namespace file");
        scope.spawn(move || {
            use std::os::fd::AsFd;
            move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
                .expect("enter namespace");
            work()
        })
    }

    /// Processes that live in this namespace.
    pub(crate) fn processes(&self) -> Vec<i32> {
        let output = Command::new("ip")
            .args(["netns", "pids", &self.name])
            .output();
        let listing = output.map(|o| String::from_utf8_lossy(&o.stdout).into_owned());
        listing
            .unwrap_or_default()
            .lines()
            .filter_map(|line| line.trim().parse().ok())
            .collect()
    }

    fn remove(&self) {
        for _ in 0..20 {
            let left = self.processes();
            if left.is_empty() {
                break;
            }
            for pid in left.into_iter().filter_map(Pid::from_raw) {
                let _ = kill_process(pid, Signal::KILL);
            }
            sleep(Duration::from_millis(20));
        }
        let _ = Command::new("ip")
            .args(["netns", "del", &self.name])
            .output();
    }
}

impl Drop for Ns {
    fn drop(&mut self) {
        self.remove();
    }
}

/// The three namespaces, their links and a folder for files.
#[derive(Debug)]
pub(crate) struct Lab {
    pub(crate) client: Ns,
    pub(crate) fw: Ns,
    pub(crate) server: Ns,
    dir: tempfile::TempDir,
    _lock: File,
}

impl Lab {
    /// A fresh testbed, or `None` if this process may not make one (it has said SKIP then).
    pub(crate) fn new() -> Option<Lab> {
        if !may_run() {
            return None;
        }
        let lock = File::create(Path::new(env!("CARGO_TARGET_TMPDIR")).join(LOCK_FILE))
            .expect("lock file");
        lock.lock().expect("lock");
        sweep();
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let ns = |role| Ns::new(format!("{PREFIX}{}-{number}-{role}", std::process::id()));
        let dir = tempfile::Builder::new()
            .prefix(&format!("{PREFIX}{}-", std::process::id()))
            .tempdir()
            .expect("folder");
        // Servers that gave up root must reach their files.
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("permissions");
        let lab = Lab {
            client: ns("c"),
            fw: ns("f"),
            server: ns("s"),
            dir,
            _lock: lock,
        };
        for host in [Host::Client, Host::Server] {
            lab.wire(host);
        }
        Some(lab)
    }

    /// Makes the veth pair between a host and the firewall, with the host's addresses.
    pub(crate) fn wire(&self, host: Host) {
        let (ns, own, port) = (self.ns(host), host.interface(), host.port());
        let mac = host.mac();
        ns.ip(&format!(
            "link add {own} address {mac} type veth peer name {port} netns {}",
            self.fw.name
        ));
        self.address(host);
        self.fw.ip(&format!("link set {port} up"));
    }

    fn address(&self, host: Host) {
        let (ns, own) = (self.ns(host), host.interface());
        ns.ip(&format!("addr add {}/24 dev {own}", host.v4()));
        ns.ip(&format!("addr add {}/64 dev {own} nodad", host.v6()));
        ns.ip(&format!("link set {own} up"));
    }

    /// Waits until the kernel shows all links as up: it updates that once a second at most.
    pub(crate) fn settle(&self) {
        let up = |ns: &Ns, device: &str| ns.ip(&format!("link show {device}")).contains("state UP");
        let settled = eventually(Duration::from_secs(15), || {
            [Host::Client, Host::Server]
                .iter()
                .all(|host| up(self.ns(*host), host.interface()) && up(&self.fw, host.port()))
        });
        assert!(settled, "links do not come up");
    }

    /// Puts a bad wire between the client and the firewall, in the place of the good one.
    pub(crate) fn impair(&self, flags: &[&str]) -> BadWire {
        let name = format!("{}w", self.client.name.trim_end_matches('c'));
        let ns = Ns::new(name);
        let (own, port) = (Host::Client.interface(), Host::Client.port());
        self.client.ip(&format!("link del {own}"));
        self.client.ip(&format!(
            "link add {own} address {CLIENT_MAC} type veth peer name one netns {}",
            ns.name
        ));
        ns.ip(&format!(
            "link add other type veth peer name {port} netns {}",
            self.fw.name
        ));
        for end in ["one", "other"] {
            ns.sysctl(&format!("net.ipv6.conf.{end}.disable_ipv6=1"));
            ns.ip(&format!("link set {end} up"));
        }
        // It sends frames as it gets them, so they must come as they would on a wire.
        let far = Host::Server.interface();
        for (ns, device) in [(&self.client, own), (&self.fw, port), (&self.server, far)] {
            ns.run(&format!("ethtool -K {device} tx off tso off gso off"));
        }
        // Every kernel has this one, and it takes loss as what it is. BBR can go down to some bytes
        // a second on a short transfer with losses, and stays there for minutes.
        for host in [&self.client, &self.server] {
            host.sysctl("net.ipv4.tcp_congestion_control=reno");
        }
        self.address(Host::Client);
        self.fw.ip(&format!("link set {port} up"));
        let arguments = [&["one", "other"], flags].concat();
        let mut proc = generators::start(self, &ns, "impair", &arguments);
        proc.wait_for("ready", Duration::from_secs(20));
        BadWire { proc, _ns: ns }
    }

    pub(crate) fn ns(&self, host: Host) -> &Ns {
        match host {
            Host::Client => &self.client,
            Host::Server => &self.server,
        }
    }

    /// The folder for this testbed's files.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Sets the MTU of all four interfaces.
    pub(crate) fn set_mtu(&self, mtu: u32) {
        for host in [Host::Client, Host::Server] {
            self.ns(host)
                .ip(&format!("link set {} mtu {mtu}", host.interface()));
            self.fw.ip(&format!("link set {} mtu {mtu}", host.port()));
        }
    }

    /// Starts a program in a namespace; its output goes to a file in the testbed's folder.
    pub(crate) fn start(&self, mut command: Command, name: &str) -> Proc {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let log = self.dir().join(format!("{name}-{number}.log"));
        let file = File::create(&log).expect("log file");
        let child = command
            .stdout(file.try_clone().expect("log file"))
            .stderr(file)
            .spawn()
            .unwrap_or_else(|error| panic!("starting {name}: {error}"));
        Proc {
            child,
            log,
            name: name.to_owned(),
        }
    }

    /// Starts one of this folder's Python programs.
    pub(crate) fn python(&self, host: Host, script: &str, arguments: &[&str]) -> Proc {
        let mut command = self.python_command(host, script);
        command.args(arguments);
        self.start(command, script)
    }

    /// The command that runs one of this folder's Python programs. Debian's own Python, for that
    /// is the one which finds Debian's python3-pyftpdlib.
    pub(crate) fn python_command(&self, host: Host, script: &str) -> Command {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/e2e")
            .join(script);
        let mut command = self.ns(host).command("/usr/bin/python3");
        command.arg("-u").arg(path);
        command
    }
}

/// A wire that loses, repeats and reorders frames.
#[derive(Debug)]
pub(crate) struct BadWire {
    proc: Proc,
    _ns: Ns,
}

impl BadWire {
    /// Ends it; returns what it did to how many frames.
    pub(crate) fn stop(mut self) -> Value {
        generators::stop(&mut self.proc)
    }
}

/// The program under test: what cargo built for the tests, or what `LOTUS` names.
pub(crate) fn lotus_program() -> String {
    std::env::var("LOTUS").unwrap_or_else(|_| env!("CARGO_BIN_EXE_lotus").to_owned())
}

/// A running program; dropped, it is killed.
#[derive(Debug)]
pub(crate) struct Proc {
    child: Child,
    log: PathBuf,
    name: String,
}

impl Proc {
    /// What it printed so far, both streams.
    pub(crate) fn output(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Waits until it prints `word` (case does not matter); panics if it ends or takes too long.
    pub(crate) fn wait_for(&mut self, word: &str, within: Duration) {
        let until = Instant::now() + within;
        let word = word.to_lowercase();
        while !self.output().to_lowercase().contains(&word) {
            if let Some(status) = self.child.try_wait().expect("wait") {
                panic!("{} ended early ({status}):\n{}", self.name, self.output());
            }
            assert!(
                Instant::now() < until,
                "{} did not say '{word}' within {within:?}:\n{}",
                self.name,
                self.output()
            );
            sleep(Duration::from_millis(10));
        }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).unwrap_or_else(|error| panic!("signal {}: {error}", self.name));
    }

    /// Memory that it has in use, in bytes.
    pub(crate) fn resident_bytes(&self) -> u64 {
        let path = format!("/proc/{}/status", self.child.id());
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kilobytes =
            line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
        kilobytes.expect("VmRSS") << 10
    }

    pub(crate) fn alive(&mut self) -> bool {
        self.child.try_wait().expect("wait").is_none()
    }

    /// Waits for its end; panics if it takes too long.
    pub(crate) fn wait(&mut self, within: Duration) -> ExitStatus {
        let until = Instant::now() + within;
        loop {
            if let Some(status) = self.child.try_wait().expect("wait") {
                return status;
            }
            assert!(
                Instant::now() < until,
                "{} still runs after {within:?}:\n{}",
                self.name,
                self.output()
            );
            sleep(Duration::from_millis(5));
        }
    }

    /// Asks it to end, and waits.
    pub(crate) fn stop(&mut self) {
        if self.alive() {
            self.signal(Signal::TERM);
        }
        self.wait(Duration::from_secs(15));
    }
}

impl Drop for Proc {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            let output = self.output();
            let from = output
                .char_indices()
                .rev()
                .nth(4000)
                .map_or(0, |(index, _)| index);
            eprintln!("---- output of {} ----\n{}", self.name, &output[from..]);
        }
    }
}

/// Fails with the name of the Debian package if a program is missing.
pub(crate) fn need(program: &str, package: &str) {
    let found = std::env::var_os("PATH").is_some_and(|path| {
        std::env::split_paths(&path)
            .chain(["/usr/sbin".into(), "/sbin".into()])
            .any(|dir| dir.join(program).is_file())
    });
    assert!(
        found,
        "{program} is missing; install it: apt-get install {package}"
    );
}

/// Both streams of a finished program.
pub(crate) fn text(output: &Output) -> String {
    let join = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    format!("{}\n{}", output.status, String::from_utf8_lossy(&join))
}

/// Tries until it holds or the time is over.
pub(crate) fn eventually(within: Duration, mut holds: impl FnMut() -> bool) -> bool {
    let until = Instant::now() + within;
    loop {
        if holds() {
            return true;
        }
        if Instant::now() >= until {
            return false;
        }
        sleep(Duration::from_millis(50));
    }
}

fn may_run() -> bool {
    if rustix::process::geteuid().is_root() {
        for (program, package) in [
            ("ip", "iproute2"),
            ("tc", "iproute2"),
            ("sysctl", "procps"),
            ("ping", "iputils-ping"),
        ] {
            need(program, package);
        }
        return true;
    }
    let required = std::env::var_os("LOTUS_REQUIRE_ROOT").is_some_and(|value| value != "0");
    assert!(
        !required,
        "end-to-end tests need root and LOTUS_REQUIRE_ROOT is set"
    );
    let name = thread::current().name().unwrap_or("?").to_owned();
    crate::say(&format!(
        "SKIP {name}: it needs root (sudo -E cargo test --test e2e)"
    ));
    false
}

/// Removes testbeds of test processes that no longer live (killed, or out of time).
fn sweep() {
    for name in orphans(Path::new("/run/netns")) {
        drop(Ns { name });
    }
    let temporary = std::env::temp_dir();
    for name in orphans(&temporary) {
        let _ = fs::remove_dir_all(temporary.join(name));
    }
}

/// Names in a folder that bear the process id of a test process which is gone.
fn orphans(folder: &Path) -> Vec<String> {
    let names = fs::read_dir(folder).into_iter().flatten().flatten();
    let names = names.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let orphaned = |name: &String| {
        let owner = name
            .strip_prefix(PREFIX)
            .and_then(|rest| rest.split('-').next());
        owner
            .is_some_and(|pid| pid.parse::<u32>().is_ok() && !Path::new("/proc").join(pid).exists())
    };
    names.filter(orphaned).collect()
}

fn run(program: &str, words: &[&str]) -> String {
    let output = Command::new(program).args(words).output().expect(program);
    assert!(
        output.status.success(),
        "{program} {}: {}",
        words.join(" "),
        text(&output)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}
