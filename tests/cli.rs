//! The command line as a new user meets it: each wrong word gets an answer that says what, where
//! and what to do, with the promised exit code, and nothing is left behind.
//!
//! What needs root runs in network namespaces of its own; without root those tests say SKIP.

#[path = "cli/lab.rs"]
mod lab;
#[path = "cli/reload.rs"]
mod reload;
#[path = "cli/root.rs"]
mod root;
#[path = "cli/rules.rs"]
mod rules;

use std::process::{Command, Output, Stdio};

use lab::LOTUS;

fn lotus(arguments: &[&str]) -> Output {
    Command::new(LOTUS)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// Runs and compares the exit code; every part must be in what was printed.
#[track_caller]
fn expect(arguments: &[&str], code: i32, parts: &[&str]) -> String {
    lab::judge(
        &format!("lotus {}", arguments.join(" ")),
        &lotus(arguments),
        code,
        parts,
    )
}

const PORTS: [&str; 4] = ["--inside", "lotus-none-a", "--outside", "lotus-none-b"];

#[track_caller]
fn run_with(more: &[&str], code: i32, parts: &[&str]) -> String {
    expect(&[&["run"][..], &PORTS, more].concat(), code, parts)
}

#[test]
fn no_command_and_no_ports_are_usage_errors() {
    expect(&[], 2, &["Usage: lotus <COMMAND>"]);
    expect(&["run"], 2, &["--inside <IF>", "--outside <IF>"]);
    expect(&["run", "--inside", "eth1"], 2, &["--outside <IF>"]);
    expect(&["fly"], 2, &["unrecognized subcommand 'fly'"]);
}

#[test]
fn help_is_there_with_an_example() {
    let help = expect(
        &["run", "--help"],
        0,
        &["Examples:", "--ftp-server 192.0.2.10", "lotus settings"],
    );
    assert!(help.contains("NOT a firewall"), "passthrough is marked");
    expect(
        &["--help"],
        0,
        &[
            "run",
            "explain",
            "status",
            "reload",
            "settings",
            "Exit codes:",
        ],
    );
    expect(&["--version"], 0, &["lotus 0."]);
}

#[test]
fn interfaces_that_cannot_be_ports() {
    run_with(
        &[],
        2,
        &["--inside lotus-none-a", "no such interface", "there are:"],
    );
    expect(
        &["run", "--inside", "eth7", "--outside", "eth7"],
        2,
        &["both eth7", "name the other one"],
    );
    expect(
        &["run", "--inside", "lo", "--outside", "eth7"],
        2,
        &["lo", "leads nowhere"],
    );
}

#[test]
fn addresses_that_are_none() {
    for wrong in [
        "ftp.example.org",
        "192.0.2.300",
        "192.0.2.1:0",
        "192.0.2.1:66000",
        "",
    ] {
        run_with(&["--ftp-server", wrong], 2, &["--ftp-server"]);
    }
    run_with(&["--l2", "100"], 2, &["--l2"]);
}

#[test]
fn rule_files_that_are_missing_wrong_or_too_much() {
    run_with(
        &["--rules", "/nonexistent/rules.nft"],
        2,
        &["/nonexistent/rules.nft", "no such file"],
    );
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("rules.nft");
    let name = file.to_str().unwrap();
    let rules =
        "table inet t {\n  chain c {\n    type filter hook forward priority 0; policy drop;\n";
    std::fs::write(
        &file,
        format!("{rules}    tcp dport ftpp accept\n  }}\n}}\n"),
    )
    .unwrap();
    let told = run_with(&["--rules", name], 2, &[&format!("{name}:4:15"), "ftpp"]);
    assert!(!told.contains('\u{1b}'), "no colours into a pipe");
    std::fs::write(&file, [0xff, 0xfe, 0x00]).unwrap();
    run_with(&["--rules", name], 2, &[name, "it is not text"]);
    run_with(
        &["--rules", name, "--ftp-server", "192.0.2.10"],
        2,
        &[
            "--ftp-server",
            "which --rules replaces",
            "lotus check --print-default",
        ],
    );
}

#[test]
fn workers_and_cores_that_are_not_there() {
    run_with(&["--workers", "0"], 2, &["--workers", "1 or more"]);
    run_with(&["--workers", "many"], 2, &["'many' is not a number"]);
    run_with(
        &["--workers", "1000"],
        2,
        &["1000 workers", "may use only", "ask for at most"],
    );
    run_with(
        &["--cores", "999"],
        2,
        &["core 999", "does not exist or is not allowed"],
    );
    run_with(&["--cores", "0,0"], 2, &["named twice"]);
    run_with(
        &["--cores", "0", "--workers", "1"],
        2,
        &["cannot be used with"],
    );
}

#[test]
fn settings_are_listed_and_wrong_ones_refused() {
    expect(
        &["settings"],
        0,
        &["ring.slots = 4096", "poll.spin_us = 50 us"],
    );
    run_with(
        &["--set", "ring.slot=5"],
        2,
        &["no setting 'ring.slot'", "`lotus settings` lists"],
    );
    run_with(&["--set", "ring.slots=5"], 2, &["ring.slots=5", "from 64"]);
    run_with(
        &["--ring-slots", "x"],
        2,
        &["--ring-slots x", "whole number"],
    );
    run_with(&["--set", "ring.slots"], 2, &["name=value"]);
}

#[test]
fn a_reader_that_leaves_is_no_error() {
    for arguments in [&["settings"][..], &["run", "--help"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = Command::new(LOTUS)
            .args(arguments)
            .stdout(writer)
            .stderr(Stdio::piped())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {output:?}");
        assert!(output.stderr.is_empty(), "{arguments:?}: {output:?}");
    }
}
