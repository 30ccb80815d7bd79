//! `lotus rules`, and what `lotus check` says of a file beside its errors. What needs root runs in
//! namespaces of its own.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::lab::{LOTUS, Lab, RUN, is_root, judge};

const RULES: &str = "\
include \"hosts-*.nft\"
table inet t {
  counter rest { }
  chain c {
    type filter hook forward priority 0; policy drop;
    icmp type { echo-request, echo-reply } log prefix \"ping: \" level info counter accept
    ip saddr $hosts tcp dport 22 accept
    counter name rest
  }
}
";

/// A folder with the rules and a file that they include.
fn folder() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("rules.nft");
    std::fs::write(&file, RULES).unwrap();
    let hosts = folder.path().join("hosts-1.nft");
    std::fs::write(hosts, "define hosts = { 192.0.2.1, 192.0.2.9 }\n").unwrap();
    (folder, file)
}

fn check(file: &Path, more: &[&str], code: i32, parts: &[&str]) -> String {
    let output = Command::new(LOTUS)
        .arg("check")
        .arg(file)
        .args(more)
        .output()
        .unwrap();
    judge(&format!("check {}", more.join(" ")), &output, code, parts)
}

#[test]
fn check_prints_and_explains() {
    let (folder, file) = folder();
    let name = file.display().to_string();
    check(
        &file,
        &[],
        0,
        &[&name, "ok; table inet t: 3 rules, policy drop"],
    );
    check(
        &file,
        &["--print"],
        0,
        &[
            "table inet t {",
            "ip saddr { 192.0.2.1, 192.0.2.9 } tcp dport 22 accept",
            "packets 0 bytes 0",
        ],
    );
    check(
        &file,
        &["--explain", "ip saddr 192.0.2.2 tcp dport 22"],
        0,
        &[
            "TCP 192.0.2.2:40000 -> 192.0.2.2:22 from inside, new",
            "line 7: `ip saddr { 192.0.2.1, 192.0.2.9 } tcp dport 22 accept`: not `ip saddr",
            "`policy drop` drop",
        ],
    );
    let json = check(
        &file,
        &["--json", "--explain", "ip saddr 192.0.2.9 tcp dport 22"],
        0,
        &[],
    );
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["explanation"]["verdict"], "accept");
    assert_eq!(json["explanation"]["met"][1]["line"], 7);
    check(
        &file,
        &["--explain", "tcp dport ftpp"],
        1,
        &["`ftpp` is not a port", "<packet>:1:11"],
    );
    check(
        &file,
        &["--print", "--explain", "tcp dport 1"],
        2,
        &["cannot be used with"],
    );
    // The included file is named where it is wrong.
    let hosts = folder.path().join("hosts-1.nft");
    std::fs::write(&hosts, "\ndefine hosts = 192.0.2.1/33\n").unwrap();
    let place = format!("{}:2:16", hosts.display());
    check(&file, &[], 1, &["`/33` is not a prefix length", &place]);
    std::fs::remove_file(&hosts).unwrap();
    check(&file, &[], 1, &["`$hosts` is not defined"]);
}

#[test]
fn the_rules_in_force_are_shown_with_their_counters() {
    if !is_root("the_rules_in_force_are_shown_with_their_counters") {
        return;
    }
    let lab = Lab::new();
    let (_folder, file) = folder();
    let mut command = Lab::command(&lab.fw, &[LOTUS]);
    command.args(RUN).arg("--rules").arg(&file);
    let mut running = lab.spawn(command);
    running.wait_for("ready");
    assert!(lab.ping());
    let told = running.wait_for("log info: ping: ICMP type 8 code 0 192.0.2.1 -> 192.0.2.2");
    assert!(told.contains("from inside"), "{told}");
    let text = judge(
        "rules",
        &lab.lotus(&["rules"]),
        0,
        &["# generation 1: ", "table inet t {"],
    );
    let accepted = text
        .lines()
        .find(|line| line.contains("echo-request"))
        .unwrap();
    assert!(!accepted.contains("packets 0 "), "{accepted}");
    let json = judge("rules --json", &lab.lotus(&["rules", "--json"]), 0, &[]);
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["generation"], 1);
    let counters = json["counters"].as_array().unwrap();
    assert_eq!(counters.len(), 2);
    assert_eq!(counters[0]["rule"], "counter rest");
    assert!(counters[1]["packets"].as_u64().unwrap() >= 2);
    assert_eq!(counters[1]["line"], 6);
    running.stop();
}

#[test]
fn without_a_lotus_there_are_no_rules_to_show() {
    if !is_root("without_a_lotus_there_are_no_rules_to_show") {
        return;
    }
    let lab = Lab::new();
    judge(
        "rules",
        &lab.lotus(&["rules"]),
        1,
        &["no lotus runs in this network namespace"],
    );
}
