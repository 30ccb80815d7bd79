//! What is odd and no error.

use super::{parse, table};

/// Line, column, and the message with its hint.
fn warnings(text: &str) -> Vec<(usize, usize, String)> {
    let rules = parse(text);
    let all = rules.warnings().iter();
    all.map(|w| {
        let hint = w.hint.unwrap_or_default();
        (w.line, w.column, format!("{} | {hint}", w.message))
    })
    .collect()
}

/// One rule list in a chain that drops by policy, with the helper object that every table here
/// has used in its last line.
fn check(rules: &str, line: usize, column: usize, part: &str) {
    let used = "tcp dport 21 ct state new ct helper set \"ftp\" accept";
    let found = warnings(&table("inet", "drop", &format!("{rules}\n{used}")));
    match found.as_slice() {
        [(at_line, at_column, message)] => {
            assert_eq!((*at_line, *at_column), (line, column), "{rules}: {message}");
            assert!(message.contains(part), "{rules}: {message}");
        }
        _ => panic!("{rules}: {found:#?}"),
    }
}

#[test]
fn rules_that_are_odd() {
    check(
        "tcp dport 30-40 drop\ntcp dport 35 accept",
        5,
        1,
        "never reached",
    );
    check(
        "tcp dport { 5, 6 } accept\nip saddr 10.0.0.1 tcp dport 5 drop",
        5,
        1,
        "never reached",
    );
    check(
        "ip saddr { 10.0.0.0/8, 10.1.0.0/16 } drop",
        4,
        24,
        "in the set already",
    );
    check("tcp dport 1024-65535 accept", 4, 1, "not needed for FTP");
    check(
        "tcp dport >= 1024 ct state new accept",
        4,
        1,
        "not needed for FTP",
    );
}

#[test]
fn rules_that_are_fine() {
    for rules in [
        "tcp dport 30-40 counter\ntcp dport 35 accept",
        "tcp dport 30-40 limit rate 1/second drop\ntcp dport 35 accept",
        "tcp dport 35 accept\ntcp dport 30-40 drop",
        "ct state established,related tcp dport 1024-65535 accept",
        "udp dport 1024-65535 accept",
    ] {
        let used = "tcp dport 21 ct state new ct helper set \"ftp\" accept";
        let found = warnings(&table("inet", "drop", &format!("{rules}\n{used}")));
        assert!(found.is_empty(), "{rules}: {found:?}");
    }
}

#[test]
fn files_that_are_odd() {
    for (text, line, part) in [
        (
            "table inet t { set s { type ipv4_addr; }\nchain c { type filter hook forward priority 0; drop; } }",
            1,
            "no rule uses the set `s`",
        ),
        (
            "table inet t { counter n { }\nchain c { type filter hook forward priority 0; drop; } }",
            1,
            "counter `n`",
        ),
        (
            "table inet t {\nchain d { drop; }\nchain c { type filter hook forward priority 0; drop; } }",
            2,
            "nothing jumps to the chain `d`",
        ),
        (
            "table inet t { ct helper h { type \"ftp\" protocol tcp; }\nchain c { type filter hook forward priority 0; drop; } }",
            1,
            "no rule uses the helper `h`",
        ),
        (
            "table inet t { chain c { type filter hook forward priority 0; policy accept; tcp dport 5 accept; } }",
            1,
            "accepts every packet",
        ),
        (
            "table inet t { chain c { type filter hook forward priority 0; policy drop;\naccept; } }",
            2,
            "this rule accepts every packet",
        ),
        (
            "table inet t { chain c { type filter hook forward priority 0; policy drop;\ntcp dport { 21, 22 } accept; } }",
            2,
            "FTP without a helper",
        ),
    ] {
        let found = warnings(text);
        let [(at, _, message)] = found.as_slice() else {
            panic!("{text}: {found:#?}");
        };
        assert_eq!(*at, line, "{message}");
        assert!(message.contains(part), "{message}");
    }
}
