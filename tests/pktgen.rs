//! `scripts/pktgen` where nothing is sent: what it would write to the kernel's pktgen, which many
//! kernels do not have, and what it answers to wrong words. Needs python3; without it these tests say
//! SKIP.

use std::io::Write;
use std::process::{Command, Output};

fn script(arguments: &[&str]) -> Option<Output> {
    if Command::new("python3").arg("--version").output().is_err() {
        let _ = writeln!(std::io::stderr(), "SKIP: python3 is not there");
        return None;
    }
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/pktgen");
    let output = Command::new(script).args(arguments).output();
    Some(output.unwrap_or_else(|error| panic!("{script}: {error}")))
}

/// The lines that would be written for these options, without the way to the file.
fn plan(options: &[&str]) -> Option<Vec<String>> {
    let fixed = ["--dry-run", "--driver", "kernel", "-i", "eth9"];
    let output = script(&[&fixed, options].concat())?;
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).expect("text");
    let lines = text
        .lines()
        .map(|line| line.replace("/proc/net/pktgen/", ""));
    Some(lines.collect())
}

#[test]
fn the_kernels_generator_is_told_each_option_and_left_as_it_was() {
    let options = "-t 7 -r 25000 -f 500 -s 128 -d 198.51.100.7 -p 5001 -m 02:00:00:00:00:07";
    let Some(lines) = plan(&options.split(' ').collect::<Vec<_>>()) else {
        return;
    };
    let expected = [
        "echo 'add_device eth9' >kpktgend_0",
        "echo 'count 0' >eth9",
        "echo 'clone_skb 0' >eth9",
        // The kernel counts without the check sequence.
        "echo 'pkt_size 124' >eth9",
        "echo 'ratep 25000' >eth9",
        "echo 'dst_min 198.51.100.7' >eth9",
        "echo 'dst_max 198.51.100.7' >eth9",
        "echo 'dst_mac 02:00:00:00:00:07' >eth9",
        "echo 'src_min 192.0.2.100' >eth9",
        "echo 'src_max 192.0.2.100' >eth9",
        "echo 'udp_dst_min 5001' >eth9",
        "echo 'udp_dst_max 5001' >eth9",
        "echo 'udp_src_min 1024' >eth9",
        "echo 'udp_src_max 1524' >eth9",
        "echo 'start' >pgctrl",
        "# after 7 s",
        "echo 'stop' >pgctrl",
        "echo 'rem_device_all' >kpktgend_0",
    ];
    assert_eq!(lines, expected);
}

#[test]
fn without_a_rate_the_kernels_generator_does_not_wait() {
    let Some(lines) = plan(&[]) else { return };
    assert!(
        lines.contains(&"echo 'delay 0' >eth9".to_owned()),
        "{lines:?}"
    );
    assert!(
        lines.contains(&"echo 'pkt_size 60' >eth9".to_owned()),
        "{lines:?}"
    );
    assert!(
        !lines.iter().any(|line| line.contains("ratep")),
        "{lines:?}"
    );
}

/// The kernel steps to the next port and to the next address at once: only if their numbers have no
/// common divisor, each pair comes before any comes again.
#[test]
fn many_flows_are_pairs_of_ports_and_addresses() {
    for (flows, most) in [
        (60_000, 60_000),
        (60_001, 60_001),
        (100_000, 100_000),
        (1_000_000, 1_000_000),
        (100_000_000, 100_100_000),
    ] {
        let Some(lines) = plan(&["-f", &flows.to_string()]) else {
            return;
        };
        let value = |name: &str| {
            let line = lines.iter().find(|line| line.contains(name));
            let line = line.unwrap_or_else(|| panic!("no {name}: {lines:?}"));
            line.split(['\'', ' ']).nth(3).expect("a value").to_owned()
        };
        let port = |name: &str| value(name).parse::<u64>().expect("a port");
        let ports = port("udp_src_max") - port("udp_src_min");
        let address = |name: &str| {
            let address = value(name).parse::<std::net::Ipv4Addr>();
            u64::from(address.expect("an address").to_bits())
        };
        let addresses = address("src_max") - address("src_min") + 1;
        assert!((flows..=most).contains(&(ports * addresses)), "{lines:?}");
        assert_eq!(divisor(ports, addresses), 1, "{lines:?}");
        assert!(port("udp_src_max") <= 65_535, "{lines:?}");
        if addresses > 1 {
            // Within 198.18.0.0/15.
            assert_eq!(address("src_min") >> 17, 0xc612_0000 >> 17, "{lines:?}");
            assert_eq!(address("src_max") >> 17, 0xc612_0000 >> 17, "{lines:?}");
        }
    }
}

fn divisor(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { divisor(b, a % b) }
}

/// The options of our own generator are the same ones.
#[test]
fn our_own_generator_gets_the_same_options() {
    let options = "--dry-run --driver own -i a/eth9 --sink b/eth8 -t 7 -r 25000 -f 500 -s 128";
    let Some(output) = script(&options.split(' ').collect::<Vec<_>>()) else {
        return;
    };
    let expected = "ip netns exec b pktgen sink eth8 &\n\
                    ip netns exec a pktgen send eth9 --secs 7.0 --pps 25000 --flows 500 --size 128 \
                    --to 192.0.2.200:5000 --mac 02:00:00:00:02:c8 --stamp\n";
    assert_eq!(String::from_utf8_lossy(&output.stdout), expected);
}

#[test]
fn wrong_words_are_usage_errors() {
    for (options, word) in [
        ("-s 63", "63: from 64 to 1518"),
        ("-f 0", "0: from 1"),
        ("-d nowhere", "-d"),
        ("-m 02:00", "no MAC address"),
        ("-i a-name-that-is-too-long", "no interface"),
        (
            "--driver kernel --sink eth8 -i eth9",
            "--sink needs --driver own",
        ),
        ("--dry-run", "--dry-run needs -i"),
    ] {
        let Some(output) = script(&options.split(' ').collect::<Vec<_>>()) else {
            return;
        };
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{options}: {told}");
        assert!(told.contains(word), "{options}: {told}");
    }
}
