//! Rule files as people write them: what lotus takes, what nft takes, and what neither may choke
//! on.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use lotus::cli::check::{self, CheckArgs};
use lotus::rules::{Builtin, PortNames, Ruleset};

fn ports() -> PortNames {
    PortNames {
        inside: "inside".to_owned(),
        outside: "outside".to_owned(),
    }
}

/// As the examples name the two ports.
fn example_ports() -> PortNames {
    PortNames {
        inside: "eth1".to_owned(),
        outside: "eth2".to_owned(),
    }
}

fn fixtures() -> Vec<(PathBuf, String)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/rules");
    let mut files: Vec<_> = std::fs::read_dir(dir)
        .expect("fixtures")
        .map(|entry| entry.expect("entry").path())
        .filter(|path| path.extension().is_some_and(|e| e == "nft"))
        .map(|path| (path.clone(), std::fs::read_to_string(path).expect("text")))
        .collect();
    files.sort();
    assert!(files.len() >= 8);
    files
}

fn load(text: &str) -> Result<Ruleset, String> {
    Ruleset::parse("f.nft", text, &ports()).map_err(|errors| errors.to_string())
}

/// The rules of the test lab, word by word.
#[test]
fn the_rules_of_the_lab_load() {
    for addresses in [
        ["ip daddr 192.0.2.10", "ip6 daddr 2001:db8::10"],
        ["ip saddr 192.0.2.0/24", "ip6 saddr 2001:db8::/64"],
    ] {
        for extra in [
            "",
            "iifname \"fw-in\" meta l4proto { tcp, udp } th dport 5000-5999 ct state new accept",
        ] {
            let [n4, n6] = addresses;
            let text = format!(
                r#"table bridge lab {{
  ct helper ftp-std {{ type "ftp" protocol tcp; }}
  chain forward {{
    type filter hook forward priority 0; policy drop;
    ether type arp accept
    icmpv6 type {{ nd-neighbor-solicit, nd-neighbor-advert }} accept
    ct state invalid drop
    ct state established,related accept
    iifname "fw-in" {n4} tcp dport 21 ct state new ct helper set "ftp-std" accept
    iifname "fw-in" {n6} tcp dport 21 ct state new ct helper set "ftp-std" accept
    {extra}
  }}
}}
"#
            );
            let ports = PortNames {
                inside: "fw-out".to_owned(),
                outside: "fw-in".to_owned(),
            };
            let rules = Ruleset::parse("lab.nft", &text, &ports).expect("it loads");
            let count = if extra.is_empty() { 6 } else { 7 };
            let summary = format!("table bridge lab: {count} rules, policy drop");
            assert_eq!(rules.summary(), summary);
        }
    }
}

/// What the kernel's own tool says of a file, in a network namespace of its own; `None` where it
/// cannot be asked.
fn nft(text: &str) -> Option<Result<(), String>> {
    let dir = tempfile::tempdir().expect("directory");
    let file = dir.path().join("f.nft");
    std::fs::write(&file, text).expect("write");
    let output = Command::new("unshare")
        .args(["-n", "nft", "-c", "-f"])
        .arg(&file)
        .output()
        .ok()?;
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    // Without the tool or without the right to use it, unshare speaks, not nft.
    if message.contains("unshare") || message.contains("Operation not permitted") {
        return None;
    }
    Some(if output.status.success() {
        Ok(())
    } else {
        Err(message)
    })
}

/// Whether nft can be asked here, and works.
fn nft_works() -> bool {
    let works = nft("table inet t { \n }\n") == Some(Ok(()));
    if !works {
        // Not by eprintln, which the test harness hides.
        let mut stderr = std::io::stderr();
        let _ = writeln!(
            stderr,
            "SKIPPED: nft cannot be run here (not installed, or not root)"
        );
    }
    works
}

#[test]
fn every_example_loads() {
    for (path, text) in fixtures() {
        let name = path.display().to_string();
        match Ruleset::parse(&name, &text, &example_ports()) {
            Ok(rules) => assert!(rules.warnings().is_empty(), "{}", rules.warnings()),
            Err(errors) => panic!("{errors}"),
        }
    }
}

#[test]
fn nft_takes_the_examples_too() {
    if !nft_works() {
        return;
    }
    for (path, text) in fixtures() {
        let lotus_only = path.to_string_lossy().contains("lotus-only");
        if !lotus_only {
            assert_eq!(nft(&text), Some(Ok(())), "{}", path.display());
        }
    }
}

#[test]
fn nft_takes_the_built_in_rules() {
    if !nft_works() {
        return;
    }
    let builtin = Builtin {
        ftp_servers: vec![
            "192.0.2.10".parse().expect("server"),
            "[2001:db8::10]:2121".parse().expect("server"),
        ],
        l2: vec![0x88cc],
    };
    let names = "define inside = \"eth1\"\ndefine outside = \"eth2\"\n";
    assert_eq!(nft(&(names.to_owned() + &builtin.text())), Some(Ok(())));
}

/// Each construct alone, so that one that nft spells otherwise is found.
#[test]
fn nft_takes_what_lotus_takes() {
    if !nft_works() {
        return;
    }
    for rule in [
        "iifname inside accept",
        "iifname { \"inside\", outside } accept",
        "meta oifname != \"outside\" drop",
        "ip saddr 10.0.0.1 ip daddr != 10.0.0.0/8 accept",
        "ip saddr { 10.0.0.1, 10.1.0.0/16, 10.2.0.1-10.2.0.9 } accept",
        "ip saddr 10.0.0.1/8 accept",
        "ip protocol igmp accept",
        "ip6 saddr fe80::/10 ip6 daddr ff02::1-ff02::9 accept",
        "ip6 nexthdr icmpv6 ip6 hoplimit 255 accept",
        "meta l4proto { tcp, udp, icmp, ipv6-icmp, sctp } accept",
        "meta l4proto != tcp accept",
        "tcp sport 1024-65535 tcp dport { ftp, ssh, 80-90, 85-95, } accept",
        "tcp dport == 21 accept",
        "udp dport { domain, ntp, tftp, bootps, syslog } accept",
        "th dport 53 accept",
        "icmp type { echo-request, 3, time-exceeded } accept",
        "icmp type address-mask-reply accept",
        "icmpv6 type 133-136 accept",
        "icmpv6 type { mld2-listener-report, mld-listener-reduction } accept",
        "ct state new,established,related,invalid,untracked accept",
        "ct state { new, established } accept",
        "ct state != { invalid } accept",
        "tcp dport 21 ct state new ct helper set \"ftp-std\" accept",
        "counter packets 3 bytes 4 accept comment \"words\"",
        "counter",
        "tcp dport {\n 1,\n 2 } accept; tcp dport \\\n 3 accept # why",
        "ether saddr 02:00:00:00:00:01 ether type ip accept",
        "tcp dport $web accept",
        "tcp dport >= 1024 tcp sport < 1024 ip ttl != 1 ip length <= 100 accept",
        "tcp flags syn tcp flags & (fin | syn | rst | ack) == syn tcp flags != syn,ack accept",
        "tcp flags syn / syn,ack tcp flags { syn, syn | ack, fin } tcp flags & ack != 0 accept",
        "ip dscp { cs1, af11, ef, 46 } ip length 20-40 accept",
        "ip6 dscp != cs0 ip6 length > 40 accept",
        "icmp type 3 icmp code { port-unreachable, 13 } accept",
        "icmpv6 code no-route accept",
        "sctp dport 80 sctp sport 1024-65535 accept",
        "meta nfproto ipv4 meta protocol ip meta length 40-1500 accept",
        "iifname in* oifname != \"inside\" accept",
        "ct direction reply ct helper \"ftp\" accept",
        "ct state vmap { established : accept, related : jump other, invalid : drop }",
        "ip saddr @hosts tcp dport @ports accept",
        "ip saddr . tcp dport @pairs accept",
        "ip saddr . tcp dport != @pairs accept",
        "ip saddr . tcp dport { 10.0.0.1 . 22, 10.1.0.0/16 . 80-90 } accept",
        "tcp dport vmap @ways",
        "ip saddr . tcp dport vmap { 10.0.0.1 . 22 : accept, 10.0.0.2 . 80 : goto other }",
        "tcp dport vmap { 22: accept, 1000-2000: jump other }",
        "jump other",
        "goto other",
        "tcp dport 5 return",
        "tcp dport 5 continue",
        "limit rate 10/second accept",
        "limit rate over 10/minute burst 20 packets drop",
        "limit rate 1 mbytes/second burst 20 kbytes accept",
        "log prefix \"a b \" level info drop",
        "log level debug",
        "counter name \"hits\" counter name hits accept",
        "reject with tcp reset",
        "reject with icmp type host-unreachable",
        "reject with icmpv6 type admin-prohibited",
        "vlan id 5 vlan pcp 3 accept",
    ] {
        let text = format!(
            "define web = {{ 80, 443 }}\ntable inet t {{\n ct helper ftp-std {{\n type \"ftp\" \
             protocol tcp; l3proto inet\n }}\n counter hits {{ packets 0 bytes 0 }}\n set hosts {{\n \
             type ipv4_addr; flags interval; auto-merge\n elements = {{ 10.0.0.0/8, \
             192.0.2.1-192.0.2.9 }}\n }}\n set ports {{ type inet_service; size 10; elements = {{ 1, \
             2 }}; }}\n set pairs {{ typeof ip saddr . tcp dport; flags interval; elements = {{ \
             10.0.0.0/8 . 80-90 }}; }}\n map ways {{ type inet_service : verdict; elements = {{ 22 : \
             accept, 23 : jump other }}; }}\n chain other {{\n tcp dport 6 accept\n }}\n chain c {{\n type filter hook forward priority \
             filter + 1; policy drop;\n{rule}\n }}\n}}\n"
        );
        assert_eq!(load(&text).map(|_| ()), Ok(()), "{rule}");
        assert_eq!(nft(&text), Some(Ok(())), "{rule}");
    }
}

/// What lotus calls a mistake because it is one anywhere, not because lotus lacks something.
#[test]
fn nft_refuses_common_mistakes_too() {
    let judge = nft_works();
    for (good, bad) in [
        ("accept", "acept"),
        ("accept", "accept accept"),
        ("accept", "accept counter"),
        ("tcp dport 21 accept", "tcp dport accept"),
        ("tcp dport 21 accept", "tcp dport 70000 accept"),
        ("tcp dport 21 accept", "tcp dport 21,22 accept"),
        ("tcp dport 21 accept", "tcp dport { 21, 22 accept"),
        ("tcp dport 21 accept", "tcp dport { } accept"),
        ("tcp dport 21 accept", "tcp dport 30-20 accept"),
        ("tcp dport 21 accept", "tcp dport htttp accept"),
        ("tcp dport 21 accept", "dport 21 accept"),
        ("tcp dport 21 accept", "tcp port 21 accept"),
        ("tcp dport 21 accept", "tcp dport 21 udp dport 5 accept"),
        ("tcp dport 21 accept", "tcp dport $nowhere accept"),
        ("tcp dport 21 accept", "tcp dport @nowhere accept"),
        ("tcp dport 21 accept", "tcp dport vmap @nowhere"),
        ("tcp dport 21 accept", "tcp dport 21 jump nowhere"),
        ("tcp dport 21 accept", "tcp dport vmap { 21 }"),
        ("tcp dport 21 accept", "counter name \"nowhere\""),
        (
            "tcp dport 21 accept",
            "ip saddr . tcp dport { 10.0.0.1 } accept",
        ),
        (
            "tcp dport 21 accept",
            "ip saddr . tcp dport { 1 . 10.0.0.1 } accept",
        ),
        ("tcp dport 21 accept", "tcp flags sync accept"),
        ("tcp dport 21 accept", "limit rate 10/fortnight accept"),
        ("tcp dport 21 accept", "limit rate ten/second accept"),
        ("tcp dport 21 accept", "log level loud"),
        ("tcp dport 21 accept", "udp dport 5 reject with tcp reset"),
        ("tcp dport 21 accept", "reject with icmp type sorry"),
        ("ip saddr 10.0.0.1 accept", "ip saddr ::1 accept"),
        ("ip saddr 10.0.0.1 accept", "ip saddr 10.0.0.0/33 accept"),
        (
            "ip saddr 10.0.0.1 accept",
            "ip saddr 10.0.0.1 ip6 saddr ::1 accept",
        ),
        ("ip saddr 10.0.0.1 accept", "saddr 10.0.0.1 accept"),
        ("ct state new accept", "ct state nwe accept"),
        ("ct state new accept", "state new accept"),
        ("icmp type echo-request accept", "icmp type ping accept"),
        (
            "counter accept comment \"a\"",
            "comment \"a\" counter accept",
        ),
        ("counter accept comment \"a\"", "counter accept comment \"a"),
        (
            "tcp dport 21 ct helper set \"h\"",
            "tcp dport 21 ct helper set \"x\"",
        ),
    ] {
        let file = |rule| {
            format!(
                "table inet t {{\n ct helper h {{\n type \"ftp\" protocol tcp;\n }}\n chain c {{\n \
                 type filter hook forward priority 0; policy drop;\n {rule}\n }}\n}}\n"
            )
        };
        assert_eq!(load(&file(good)).map(|_| ()), Ok(()), "{good}");
        let errors = load(&file(bad)).expect_err(bad);
        assert!(errors.contains("f.nft:7:"), "{bad}\n{errors}");
        if judge {
            assert_eq!(nft(&file(good)), Some(Ok(())), "{good}");
            assert!(nft(&file(bad)).expect("nft").is_err(), "nft takes: {bad}");
        }
    }
}

/// Whatever the bytes, the answer is rules or errors, and errors can be shown.
#[test]
fn no_text_makes_the_parser_panic() {
    let mut random = Random(0x0010_7005);
    let fixtures = fixtures();
    let pieces = [
        "{",
        "}",
        ";",
        "\n",
        ",",
        "-",
        "\"",
        "$",
        "#",
        "\\\n",
        "\r\n",
        "!=",
        "=",
        "@",
        "\u{e9}",
        "\u{1b}[31m",
        "\0",
        "\t",
        "define",
        "table",
        "chain",
        "type",
        "policy",
        "tcp",
        "dport",
        "priority",
        "filter-",
        "0x",
        "/",
        "/999",
        "::",
        "99999999999999999999",
        "ct",
        "helper",
        "set",
        "counter",
        "packets",
        "comment",
        ".",
        "*",
        "\u{202e}",
    ];
    let (mut accepted, mut refused) = (0, 0);
    for round in 0..1500 {
        let (_, text) = &fixtures[random.below(fixtures.len())];
        let mut bytes = text.clone().into_bytes();
        for _ in 0..=random.below(4) {
            let at = random.below(bytes.len());
            match random.below(5) {
                0 => bytes[at] = random.below(256) as u8,
                1 => {
                    let end = (at + random.below(40)).min(bytes.len());
                    bytes.drain(at..end);
                }
                2 => {
                    let piece = pieces[random.below(pieces.len())];
                    bytes.splice(at..at, piece.bytes());
                }
                3 => {
                    let end = (at + random.below(200)).min(bytes.len());
                    let copy = bytes[at..end].to_vec();
                    let to = random.below(bytes.len());
                    bytes.splice(to..to, copy);
                }
                _ => bytes.truncate(at.max(1)),
            }
            if bytes.is_empty() {
                bytes.push(b'\n');
            }
        }
        let text = String::from_utf8_lossy(&bytes);
        match Ruleset::parse("f.nft", &text, &example_ports()) {
            Ok(rules) => {
                accepted += 1;
                // What is printed means the same.
                let listed = rules.list();
                match Ruleset::parse("listed.nft", &listed, &example_ports()) {
                    Ok(again) => assert_eq!(again.list(), listed, "round {round}"),
                    Err(errors) => panic!("round {round}:\n{listed}\n{errors}"),
                }
            }
            Err(errors) => {
                refused += 1;
                assert!(!errors.is_empty(), "round {round}");
                let shown = errors.render(false);
                assert!(shown.contains("f.nft:"), "round {round}");
                // What a file holds must not steer the terminal on which it is shown.
                assert!(!shown.contains(['\u{1b}', '\0', '\u{202e}']), "{shown:?}");
                assert!(errors.render(true).len() > shown.len());
                for error in errors.iter() {
                    assert!(error.line > 0 && error.column > 0);
                    assert!(error.line <= text.matches('\n').count() + 1);
                    assert!(error.end_column >= error.column);
                }
            }
        }
    }
    assert!(accepted > 20 && refused > 500, "{accepted} {refused}");
}

#[test]
fn a_large_file_is_read_in_a_moment() {
    let mut text = String::from("define many = {\n");
    for number in 0..100_000u32 {
        let [_, b, c, d] = (number * 2).to_be_bytes();
        text += &format!("10.{b}.{c}.{d},\n");
    }
    text += "}\ntable inet t {\n chain c {\n type filter hook forward priority 0; policy drop;\n";
    for number in 0..10_000 {
        text += &format!(
            "tcp dport {number} ip daddr 192.0.2.{} accept\n",
            number % 250
        );
    }
    text += "ip saddr $many accept\n }\n}\n";
    let begin = std::time::Instant::now();
    assert!(load(&text).is_ok());
    // Far above what it takes, so that only a quadratic reader fails, on any machine.
    assert!(begin.elapsed().as_secs() < 20, "{:?}", begin.elapsed());
}

#[test]
fn check_tells_by_its_exit_code() {
    let dir = tempfile::tempdir().expect("directory");
    let file = |name: &str, text: &[u8]| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).expect("write");
        path
    };
    let run = |file: PathBuf, inside: &str, json| {
        check::run(&CheckArgs {
            file: Some(file),
            inside: inside.to_owned(),
            outside: "outside".to_owned(),
            print: false,
            explain: None,
            print_default: false,
            ftp_server: Vec::new(),
            l2: Vec::new(),
            json,
        })
    };
    let good =
        "table inet t { chain c { type filter hook forward priority 0; iifname \"eth1\"; } }";
    let good = file("good.nft", good.as_bytes());
    for json in [false, true] {
        assert_eq!(
            run(good.clone(), "eth1", json).expect("ran"),
            ExitCode::SUCCESS
        );
        assert_eq!(
            run(good.clone(), "inside", json).expect("ran"),
            ExitCode::FAILURE
        );
    }
    let same = run(good, "outside", false)
        .expect_err("the same name twice")
        .to_string();
    assert!(same.contains("different names"), "{same}");
    let binary = run(file("binary", b"\x7fELF\n\xff\xfe"), "inside", false);
    let binary = binary.expect_err("not text").to_string();
    assert!(binary.contains("line 2 is not UTF-8"), "{binary}");
    let absent = run(dir.path().join("absent"), "inside", false)
        .expect_err("absent")
        .to_string();
    assert!(absent.contains("there is no such file"), "{absent}");
}

/// xorshift64*, seeded: the same run each time.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16) as usize % bound
    }
}
