//! Captures that others made, with the numbers that are known of them.
//!
//! They lie outside the repository, in the folder that LOTUS_CAPTURES names, or in
//! ../shared/captures. Where there is none, these tests say SKIP.

use std::path::PathBuf;

use crate::run;

fn folder() -> Option<PathBuf> {
    let named = std::env::var_os("LOTUS_CAPTURES").map(PathBuf::from);
    let beside = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/captures");
    let folder = named.unwrap_or_else(beside);
    if folder.is_dir() {
        return Some(folder);
    }
    eprintln!(
        "SKIP: there is no folder {}; LOTUS_CAPTURES names the captures",
        folder.display()
    );
    None
}

/// What a capture is known to hold.
struct Known {
    file: &'static str,
    packets: usize,
    control_connections: u64,
    ports_opened: u64,
    data_syns: u64,
    refused: u64,
}

const fn known(file: &'static str, packets: usize, counts: [u64; 4]) -> Known {
    let [control_connections, ports_opened, data_syns, refused] = counts;
    Known {
        file,
        packets,
        control_connections,
        ports_opened,
        data_syns,
        refused,
    }
}

/// Numbers of packets are tcpdump's.
const KNOWN: [Known; 12] = [
    // Its two control connections begin with packet 1 (port 59968) and with the SYN of port 59982.
    known("all-data-commands-v4.pcap", 254, [2, 14, 14, 0]),
    known("stou-active.pcap", 31, [1, 1, 1, 0]),
    // Two control connections, from port 33112 and 58316. The first one announces the client's own
    // address and quits; the second one a third host, port 80.
    known("bounce.pcap", 34, [2, 1, 0, 1]),
    known("download-passive.pcap", 63, [1, 3, 3, 0]),
    known("upload-active.pcap", 63, [1, 3, 3, 0]),
    known("netbsd-v4.pcap", 95, [1, 4, 4, 0]),
    known("netbsd-v6.pcap", 136, [1, 5, 5, 0]),
    known("multiline-v6.pcap", 50, [1, 1, 0, 0]),
    known("auth-tls.pcap", 84, [1, 0, 0, 0]),
    known("tls-then-ccc.pcap", 51, [1, 1, 0, 0]),
    // "PORT 114,115" is malformed and so refused.
    known("pipelined-no-replies.pcap", 41, [1, 0, 0, 1]),
    known("many-ports-bounce.pcap", 1008, [1, 0, 0, 500]),
];

#[test]
fn captures_of_others_agree_with_what_is_known_of_them() {
    let Some(folder) = folder() else { return };
    for known in KNOWN {
        let capture = std::fs::read(folder.join(known.file)).unwrap();
        let explained = run::json(&[], &capture);
        let expected = [
            known.control_connections,
            known.ports_opened,
            known.data_syns,
            known.refused,
        ];
        assert_eq!(explained.counts(), expected, "{}", known.file);
        assert_eq!(explained.packets.len(), known.packets, "{}", known.file);
        assert_eq!(explained.number("dropped"), 0, "{}", known.file);
        let used = explained.number("ports_used");
        assert_eq!(used, known.data_syns, "{}", known.file);
    }
}

/// The same captures with each side named inside: the numbers do not depend on it.
#[test]
fn the_side_of_the_server_makes_no_difference() {
    let Some(folder) = folder() else { return };
    for (file, server, client) in [
        ("download-passive.pcap", "172.23.0.2", "172.23.0.3"),
        ("upload-active.pcap", "172.23.0.2", "172.23.0.3"),
        ("netbsd-v4.pcap", "199.233.217.0/24", "141.142.0.0/16"),
        ("netbsd-v6.pcap", "2001:470:4867::/48", "2001:470:1f11::/48"),
        ("bounce.pcap", "2.2.2.0/24", "1.1.1.0/24"),
    ] {
        let capture = std::fs::read(folder.join(file)).unwrap();
        let of = |inside: &str| run::json(&["--inside", inside], &capture);
        let (server, client) = (of(server), of(client));
        assert_eq!(server.counts(), client.counts(), "{file}");
        assert_eq!(server.packet(1)["side"], "outside");
        assert_eq!(client.packet(1)["side"], "inside");
    }
}

#[test]
fn no_password_of_these_captures_is_printed() {
    let Some(folder) = folder() else { return };
    for known in KNOWN {
        let capture = std::fs::read(folder.join(known.file)).unwrap();
        // They lie in the files in clear text.
        let secrets: Vec<String> = capture
            .split(|&byte| byte == b'\n')
            .filter_map(|line| {
                line.windows(5)
                    .rposition(|w| w == b"PASS ")
                    .map(|at| &line[at..])
            })
            .filter(|line| line.ends_with(b"\r"))
            .map(|line| String::from_utf8_lossy(line).trim_end().to_owned())
            .collect();
        let text = run::text(&[], &capture);
        for secret in &secrets {
            assert!(
                !text.contains(&format!("client: {secret}")),
                "{}",
                known.file
            );
        }
        let masked = text.matches("client: PASS ****").count();
        // Beneath its packet, and in the summary.
        assert!(masked >= secrets.len(), "{}: {secrets:?}", known.file);
    }
}
