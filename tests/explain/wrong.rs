//! Wrong input and wrong words: what is said, and with which exit code.

use std::process::{Command, Stdio};

use crate::run::{parse, run};
use crate::scene::{Scene, at};

const UNREADABLE: i32 = 1;
const USAGE: i32 = 2;

#[track_caller]
fn fails(arguments: &[&str], input: &[u8], code: i32, parts: &[&str]) -> Vec<u8> {
    let output = run(arguments, input);
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {errors}");
    for part in parts {
        assert!(
            errors.contains(part),
            "{arguments:?}: no '{part}' in: {errors}"
        );
    }
    assert_eq!(errors.matches("error:").count(), 1, "{errors}");
    output.stdout
}

fn scene() -> Scene {
    let mut scene = Scene::new();
    scene.login(at("192.0.2.1", 40_000), at("198.51.100.9", 21));
    scene
}

#[test]
fn files_that_are_no_captures() {
    fails(&["-"], b"", UNREADABLE, &["-: the file is empty"]);
    fails(
        &["-"],
        b"hello world",
        UNREADABLE,
        &["no capture", "neither pcap nor pcapng"],
    );
    fails(
        &["-"],
        b"\x1f\x8b\x08\0",
        UNREADABLE,
        &["compressed", "gunzip"],
    );
    let mut wifi = scene().pcap();
    wifi[20] = 105;
    fails(
        &["-"],
        &wifi,
        UNREADABLE,
        &["IEEE 802.11 (link type 105)", "it reads Ethernet"],
    );
    fails(
        &["/no/such/file.pcap"],
        b"",
        USAGE,
        &["/no/such/file.pcap: there is no such file"],
    );
    fails(&["/"], b"", USAGE, &["/ is a directory"]);
    fails(
        &["/proc/self/mem"],
        b"",
        UNREADABLE,
        &["/proc/self/mem: cannot read it"],
    );
}

/// All that can be read is explained, then it is said that there was more.
#[test]
fn files_that_end_too_early_or_are_damaged() {
    let whole = scene();
    let packets = whole.packets.len();
    let pcap = whole.pcap();
    for (file, explained, part) in [
        (
            &pcap[..pcap.len() - 5],
            packets - 1,
            "in the middle of a packet",
        ),
        (
            &[&pcap[..], &[1, 2, 3]].concat(),
            packets,
            "in the middle of a packet's header",
        ),
        (
            &[&pcap[..], &[0xff; 16]].concat(),
            packets,
            "a packet of 4294967295 bytes",
        ),
    ] {
        let printed = fails(&["-", "--json"], file, UNREADABLE, &["-: ", part]);
        assert_eq!(parse(&printed).packets.len(), explained);
        let printed = fails(&["-"], file, UNREADABLE, &[part]);
        assert!(String::from_utf8(printed).unwrap().contains("\nSummary\n"));
    }
    fails(
        &["-"],
        &pcap[..20],
        UNREADABLE,
        &["in the middle of its header"],
    );
}

#[test]
fn a_capture_without_packets_is_explained_quickly() {
    let printed = run(&["-"], &Scene::new().pcap());
    assert!(printed.status.success());
    let text = String::from_utf8(printed.stdout).unwrap();
    assert!(text.contains("  0 packets in 0 s: 0 forwarded"), "{text}");
}

#[test]
fn wrong_words_are_answered() {
    let pcap = scene().pcap();
    fails(&[], b"", USAGE, &["<FILE>"]);
    for (arguments, parts) in [
        (
            &["--inside", "192.0.2.300"][..],
            &["neither a prefix nor an address"][..],
        ),
        (&["--set", "no.such=1"], &["there is no setting 'no.such'"]),
        (&["--set", "conntrack.max"], &["name=value"]),
        (&["-c", "/no/such.nft"], &["/no/such.nft", "no such file"]),
        (
            &["-c", "x", "--ftp-server", "192.0.2.1"],
            &["cannot be used with"],
        ),
        (&["--ftp-server", "here"], &["is not an address"]),
        (
            &["--inside-if", "a", "--outside-if", "a"],
            &["different names"],
        ),
    ] {
        fails(&[&["-"], arguments].concat(), &pcap, USAGE, parts);
    }
}

#[test]
fn rules_with_names_of_interfaces() {
    use std::io::Write as _;
    let mut rules = tempfile::NamedTempFile::new().unwrap();
    let text = "table inet t { chain forward { type filter hook forward priority 0; policy drop;\n\
                iifname \"lan0\" accept\n} }\n";
    rules.write_all(text.as_bytes()).unwrap();
    let path = rules.path().to_str().unwrap();
    let pcap = scene().pcap();
    let explained = |inside: &str| {
        let flags = [
            "-",
            "--json",
            "-c",
            path,
            "--inside-if",
            "lan0",
            "--inside",
            inside,
        ];
        parse(&run(&flags, &pcap).stdout)
    };
    let client = explained("192.0.2.1");
    assert_eq!(client.packet(1)["verdict"], "forward");
    assert_eq!(client.packet(2)["reason"], "policy_drop");
    assert_eq!(explained("198.51.100.9").packet(1)["reason"], "policy_drop");
    let mut broken = tempfile::NamedTempFile::new().unwrap();
    broken
        .write_all(b"table inet t {\n  nonsense\n}\n")
        .unwrap();
    let path = broken.path().to_str().unwrap();
    let output = run(&["-", "-c", path], &pcap);
    assert_eq!(output.status.code(), Some(USAGE));
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(errors.contains(&format!("{path}:2")), "{errors}");
}

/// `lotus explain FILE | head`.
#[test]
fn a_reader_that_goes_away_is_no_error() {
    let mut scene = scene();
    for _ in 0..5000 {
        let frame = scene.packets[0].frame.clone();
        scene.push(frame);
    }
    let mut file = tempfile::NamedTempFile::new().unwrap();
    std::io::Write::write_all(&mut file, &scene.pcap()).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_lotus"))
        .arg("explain")
        .arg(file.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    assert!(output.stderr.is_empty());
}

#[test]
fn help_tells_the_schema() {
    let output = run(&["--help"], b"");
    assert!(output.status.success());
    let help = String::from_utf8(output.stdout).unwrap();
    // Each name that JSON has is in the help.
    let explained = parse(&run(&["-", "--json"], &scene().pcap()).stdout);
    let packet = explained.packet(1).as_object().unwrap();
    let summary = explained.summary.as_object().unwrap();
    for name in packet.keys().chain(summary.keys()) {
        assert!(help.contains(name.as_str()), "'{name}' is not in the help");
    }
}
