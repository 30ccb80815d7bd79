//! `lotus explain` as a user calls it.

use std::io::Write;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

/// What `--json` printed.
pub(crate) struct Explained {
    pub(crate) packets: Vec<Value>,
    pub(crate) summary: Value,
}

/// Runs the program with `input` as standard input.
pub(crate) fn run(arguments: &[&str], input: &[u8]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_lotus"))
        .arg("explain")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    // It may end before it has read all.
    let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    output
}

/// What is printed for a capture, as text.
pub(crate) fn text(arguments: &[&str], capture: &[u8]) -> String {
    let output = run(&[&["-"], arguments].concat(), capture);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    assert_eq!(errors, "");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(!text.contains("hunter2"), "a password was printed:\n{text}");
    text
}

/// The same as JSON.
pub(crate) fn json(arguments: &[&str], capture: &[u8]) -> Explained {
    let output = run(&[&["-", "--json"], arguments].concat(), capture);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    assert_eq!(errors, "");
    parse(&output.stdout)
}

pub(crate) fn parse(stdout: &[u8]) -> Explained {
    let text = std::str::from_utf8(stdout).unwrap();
    assert!(!text.contains("hunter2"), "a password was printed:\n{text}");
    let mut lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let summary = lines.pop().unwrap();
    let explained = Explained {
        packets: lines,
        summary,
    };
    explained.check();
    explained
}

impl Explained {
    /// What holds of every capture.
    fn check(&self) {
        assert_eq!(self.summary["type"], "summary");
        for (at, packet) in self.packets.iter().enumerate() {
            assert_eq!(packet["type"], "packet");
            assert_eq!(packet["number"], at as u64 + 1);
            let is_drop = packet["verdict"] == "drop";
            assert_eq!(packet["reason"].is_string(), is_drop, "{packet}");
        }
        assert_eq!(self.number("packets"), self.packets.len() as u64);
        let accounted = ["forwarded", "dropped", "held", "never_met"];
        let accounted: u64 = accounted.iter().map(|name| self.number(name)).sum();
        assert_eq!(accounted, self.number("packets"), "{}", self.summary);
        let by_reason = self.summary["dropped_by_reason"].as_array().unwrap();
        let by_reason = by_reason.iter().map(|d| d["packets"].as_u64().unwrap());
        assert_eq!(by_reason.sum::<u64>(), self.number("dropped"));
    }

    /// A number of the summary.
    #[track_caller]
    pub(crate) fn number(&self, name: &str) -> u64 {
        let number = self.summary[name].as_u64();
        number.unwrap_or_else(|| panic!("no number '{name}' in {}", self.summary))
    }

    /// (control connections, ports opened, data SYNs let through, commands refused).
    pub(crate) fn counts(&self) -> [u64; 4] {
        [
            "control_connections",
            "ports_opened",
            "data_syns_admitted",
            "refused_commands",
        ]
        .map(|name| self.number(name))
    }

    /// Side, state, verdict and reason of each packet.
    pub(crate) fn verdicts(&self) -> Vec<String> {
        self.packets
            .iter()
            .map(|packet| {
                let word = |name: &str| packet[name].as_str().unwrap_or("-").to_owned();
                ["side", "state", "verdict", "reason"].map(word).join(" ")
            })
            .collect()
    }

    /// A packet, by its number.
    #[track_caller]
    pub(crate) fn packet(&self, number: usize) -> &Value {
        &self.packets[number - 1]
    }

    /// All that is said beneath a packet, as one text.
    pub(crate) fn beneath(&self, number: usize) -> String {
        let packet = self.packet(number);
        format!(
            "{} {} {}",
            packet["before"], packet["events"], packet["remarks"]
        )
    }

    /// The first packet whose line contains this.
    #[track_caller]
    pub(crate) fn find(&self, what: &str) -> usize {
        let is_it = |packet: &Value| packet["what"].as_str().unwrap().contains(what);
        let at = self.packets.iter().position(is_it);
        at.unwrap_or_else(|| panic!("no packet '{what}'")) + 1
    }
}
