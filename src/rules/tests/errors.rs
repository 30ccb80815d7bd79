use super::{ports, table};
use crate::rules::Ruleset;

/// Line, column and text of each error, with the hint.
fn errors(text: &str) -> Vec<(usize, usize, String)> {
    let Err(errors) = Ruleset::parse("test.nft", text, &ports()) else {
        return Vec::new();
    };
    assert!(!errors.is_empty());
    errors
        .iter()
        .map(|e| {
            (
                e.line,
                e.column,
                format!("{} | {}", e.message, e.hint.unwrap_or_default()),
            )
        })
        .collect()
}

/// One rule with one error: the column of `^` in the second text is where it must be shown.
fn check_rule(family: &str, rule: &str, caret: &str, parts: &[&str]) {
    let found = errors(&table(family, "drop", rule));
    let column = caret.find('^').expect("a caret") + 1;
    match found.as_slice() {
        [(4, at, message)] if *at == column => {
            for part in parts {
                assert!(message.contains(part), "{rule}\nno {part:?} in {message:?}");
            }
        }
        _ => panic!("{rule}\n{caret}\nfound {found:?}"),
    }
}

#[test]
fn mistakes_in_rules_are_shown_where_they_are() {
    for (rule, caret, parts) in [
        (
            "iifname \"eth9\" accept",
            "        ^",
            &["\"eth9\"", "\"inside\"", "\"outside\""][..],
        ),
        ("iifname eth* accept", "        ^", &["\"eth*\""]),
        (
            "oifname { inside, eth1 } accept",
            "                  ^",
            &["\"eth1\""],
        ),
        (
            "tcp dport 21 udp dport 53 accept",
            "             ^",
            &["`udp dport` can never"],
        ),
        (
            "tcp dport 21 meta l4proto udp drop",
            "             ^",
            &["`meta l4proto` can never"],
        ),
        (
            "ip saddr 10.0.0.1 ip6 daddr ::1 drop",
            "                  ^",
            &["can never match"],
        ),
        (
            "ether type arp accept",
            "^",
            &["never match", "`table bridge`"],
        ),
        (
            "icmp type 8 ip6 hoplimit 1 drop",
            "            ^",
            &["can never match"],
        ),
        (
            "th dport 5 meta l4proto icmp drop",
            "           ^",
            &["can never match"],
        ),
        (
            "ip protocol != tcp tcp dport 1 drop",
            "                   ^",
            &["can never match"],
        ),
        (
            "tcp dport 70000 accept",
            "          ^",
            &["too large", "at most 65535"],
        ),
        (
            "tcp dport 021 accept",
            "          ^",
            &["two ways", "octal"],
        ),
        (
            "tcp dport htttp accept",
            "          ^",
            &["did you mean `http`"],
        ),
        (
            "tcp dport 30-20 accept",
            "          ^",
            &["ends before it begins"],
        ),
        (
            "tcp dport 1-ssh-3 accept",
            "          ^",
            &["`ssh-3` is not a port"],
        ),
        (
            "tcp dport 21,22 accept",
            "          ^",
            &["list without braces", "{ 21,22 }"],
        ),
        ("tcp dport { } accept", "          ^", &["empty set"]),
        (
            "tcp dport { 1, 2 accept",
            "                 ^",
            &["expected `,` or `}`, found `accept`"],
        ),
        (
            "tcp dport { 1 { 2 } } accept",
            "              ^",
            &["expected `,` or `}`"],
        ),
        (
            "tcp dport { { 2 } } accept",
            "            ^",
            &["a set inside a set"],
        ),
        (
            "tcp dport accept",
            "          ^",
            &["`accept` is not a port"],
        ),
        (
            "tcp dport > 65535 accept",
            "            ^",
            &["beyond", "nothing"],
        ),
        (
            "tcp dport @ports accept",
            "          ^",
            &["no set `ports`"],
        ),
        (
            "tcp dport { @ports } accept",
            "            ^",
            &["stands alone"],
        ),
        (
            "tcp dport map { 21 : 22 } accept",
            "          ^",
            &["maps of values"],
        ),
        (
            "ip saddr . tcp dport { a } accept",
            "                       ^",
            &["1 parts where 2", "`ipv4_addr . inet_service`"],
        ),
        (
            "tcp dport",
            "         ^",
            &["expected a value, found the end of the line"],
        ),
        (
            "tcp dport 1 2 accept",
            "            ^",
            &["`2` is not supported"],
        ),
        (
            "tcp dports 1 accept",
            "^",
            &["`tcp dports`", "sport, dport"],
        ),
        (
            "tcp flags sync accept",
            "          ^",
            &["`sync` is not a TCP flag", "`syn`"],
        ),
        (
            "tcp \"dport\" 1 accept",
            "    ^",
            &["expected a field of `tcp`", "sport, dport"],
        ),
        ("dport 21 accept", "^", &["name the protocol"]),
        (
            "ip saddr 10.0.0.0/33 accept",
            "         ^",
            &["`/33`", "at most 32"],
        ),
        (
            "ip saddr 10.0.0.256 accept",
            "         ^",
            &["not an IPv4 address"],
        ),
        (
            "ip saddr ::1 accept",
            "         ^",
            &["is an IPv6 address", "ip6 saddr"],
        ),
        (
            "ip6 saddr 10.0.0.1 accept",
            "          ^",
            &["is an IPv4 address"],
        ),
        ("ip saddr host.example accept", "         ^", &["no DNS"]),
        (
            "ip saddr 10.0.0.0/8-10.1.0.0 accept",
            "         ^",
            &["to a prefix"],
        ),
        (
            "ip6 nexthdr 44 accept",
            "            ^",
            &["extension header"],
        ),
        (
            "meta l4proto tcpp accept",
            "             ^",
            &["did you mean `tcp`"],
        ),
        ("meta mark 1 accept", "^", &["`meta mark`", "marks"]),
        (
            "icmp type ping accept",
            "          ^",
            &["not an ICMP type", "echo-request"],
        ),
        (
            "icmpv6 type nd-neighbour-solicit drop",
            "            ^",
            &["nd-neighbor-solicit`?"],
        ),
        (
            "ct state establised accept",
            "         ^",
            &["`establised` is not a state"],
        ),
        (
            "ct state != new,related accept",
            "            ^",
            &["without braces", "{ new,related }"],
        ),
        (
            "ct state == new,related accept",
            "            ^",
            &["without braces"],
        ),
        ("ct state 8 accept", "         ^", &["not a state"]),
        (
            "ct mark 1 accept",
            "^",
            &["`ct mark` is not supported", "marks"],
        ),
        (
            "ct helper \"sip\" accept",
            "          ^",
            &["no helper `sip`", "\"ftp\""],
        ),
        (
            "tcp dport 21 ct helper set \"x\"",
            "                           ^",
            &["has: \"ftp\""],
        ),
        (
            "ct helper set",
            "             ^",
            &["expected the helper object's name"],
        ),
        ("accept counter", "^", &["ends with its verdict"]),
        ("comment \"x\" accept", "            ^", &["last word"]),
        (
            "counter name \"x\"",
            "             ^",
            &["no counter `x`", "add `counter x"],
        ),
        (
            "counter packets x bytes 1",
            "                ^",
            &["not a number"],
        ),
        (
            "counter packets 1 accept",
            "                  ^",
            &["expected `bytes`"],
        ),
        ("reject with rst", "            ^", &["tcp reset"]),
        (
            "udp dport 53 reject with tcp reset",
            "             ^",
            &["can never answer"],
        ),
        ("jump other", "     ^", &["no chain `other`", "has: c"]),
        ("jump c", "     ^", &["hangs on a hook"]),
        (
            "jump {\naccept\n}\n",
            "     ^",
            &["without a name", "chain of their own"],
        ),
        (
            "log prefix \"x\" level loud",
            "                     ^",
            &["not a log level", "info"],
        ),
        ("log group 2", "    ^", &["as events"]),
        ("allow", "^", &["`accept`"]),
        ("ip6tables", "^", &["`ip6tables` is not supported"]),
        (
            "tcp dport $web accept",
            "          ^",
            &["`$web` is not defined"],
        ),
        (
            "iifname $insid accept",
            "        ^",
            &["did you mean `$inside`"],
        ),
        (
            "tcp dport $ accept",
            "          ^",
            &["expected a value, found `$`"],
        ),
        ("iifname \"inside accept", "        ^", &["closing quote"]),
        ("tcp dport 1 äccept", "            ^", &["found `ä`"]),
        ("meta mark set 1", "^", &["`meta mark`"]),
        ("tcp dport set 1", "          ^", &["cannot be set"]),
    ] {
        check_rule("inet", rule, caret, parts);
    }
    check_rule(
        "bridge",
        "ether type 8021ad accept",
        "           ^",
        &["`vlan`"],
    );
    check_rule(
        "bridge",
        "ether type arp ip saddr 1.2.3.4 drop",
        "               ^",
        &["never"],
    );
    check_rule(
        "bridge",
        "ether saddr 02:00 accept",
        "            ^",
        &["MAC", "six bytes"],
    );
    let long = format!("accept comment \"{}\"", "x".repeat(129));
    check_rule("inet", &long, "               ^", &["128 bytes"]);
}

#[test]
fn mistakes_outside_of_rules_too() {
    let base = "type filter hook forward priority 0;";
    let file = |chain: &str| format!("table inet t {{ chain c {{\n{chain}\n}} }}");
    let cases = [
        (String::new(), 1, 1, "no table"),
        ("# nothing\n".to_owned(), 2, 1, "no table"),
        (
            "reset counters\ntable inet t { }".to_owned(),
            1,
            1,
            "replaces all rules at once",
        ),
        ("include \"x\"".to_owned(), 1, 1, "cannot include"),
        ("table inet t { } }".to_owned(), 1, 18, "closes nothing"),
        (
            "table arp t { }".to_owned(),
            1,
            7,
            "`arp` are not supported",
        ),
        ("table inat t { }".to_owned(), 1, 7, "not a family"),
        (
            "table inet t { chain a { }; }\ntable inet t { chain a { }; }".to_owned(),
            2,
            22,
            "second chain `a`",
        ),
        (
            "table inet t { set s { type x; } }".to_owned(),
            1,
            29,
            "not a type of elements",
        ),
        ("table inet t {".to_owned(), 1, 15, "ends inside a block"),
        (file("policy drop; accept"), 2, 1, "without a hook"),
        (
            file("type nat hook forward priority 0;"),
            2,
            6,
            "`nat` are not supported",
        ),
        (
            file("type filter hook input priority 0;"),
            2,
            18,
            "`input` is not supported",
        ),
        (
            file("type filter hook forward priority dstnat;"),
            2,
            35,
            "`dstnat` is not supported",
        ),
        (
            file("type filter hook forward priority x5;"),
            2,
            35,
            "`x5` is not supported",
        ),
        (
            file("type filter hook forward priority 0x5;"),
            2,
            35,
            "not a priority",
        ),
        (
            file("type filter hook forward priority;"),
            2,
            34,
            "found `;`",
        ),
        (
            file("type filter hook forward;"),
            2,
            25,
            "expected `priority`",
        ),
        (
            file(&format!("{base} policy reject;")),
            2,
            45,
            "not a policy",
        ),
        (
            file(&format!("{base} policy drop; policy drop;")),
            2,
            51,
            "second policy",
        ),
        (file(&format!("{base} {base}")), 2, 38, "second `type` line"),
        (
            "define a = 1\ndefine a = 2\ntable inet t { }".to_owned(),
            2,
            8,
            "defined twice",
        ),
        (
            "define a 1\ntable inet t { }".to_owned(),
            1,
            10,
            "expected `=`",
        ),
        (
            "define a = $b\ntable inet t { }".to_owned(),
            1,
            12,
            "`$b` is not defined",
        ),
        (
            "define a-b = 1\ntable inet t { }".to_owned(),
            1,
            8,
            "letters, digits",
        ),
        (
            "define s = { 1, 2 }\ndefine r = $s-5\ntable inet t { }".to_owned(),
            2,
            12,
            "not a single value",
        ),
        (
            "table inet t { ct helper h { } }".to_owned(),
            1,
            26,
            "has no type",
        ),
        (
            "table inet t { ct helper h { type \"sip\" protocol tcp; } }".to_owned(),
            1,
            35,
            "not a helper",
        ),
        (
            "table inet t { ct helper h { type \"ftp\" protocol udp; } }".to_owned(),
            1,
            50,
            "over TCP",
        ),
        (
            "table inet t { ct timeout h { } }".to_owned(),
            1,
            16,
            "only `ct helper",
        ),
    ];
    for (text, line, column, part) in cases {
        // Labels at the caret are part of what a person reads.
        let shown = Ruleset::parse("f", &text, &ports())
            .expect_err(&text)
            .to_string();
        let found = errors(&text);
        let [(at_line, at_column, _)] = found.as_slice() else {
            panic!("{text}\n{found:?}")
        };
        assert_eq!((*at_line, *at_column), (line, column), "{text}\n{shown}");
        assert!(shown.contains(part), "{text}\n{shown}");
    }
}

#[test]
fn an_error_in_a_set_ends_with_the_set() {
    let rules =
        "tcp dport { 1 1 } foo\ntcp dport { 1, } bar\ntcp dport { 1,\n{ 2, 3 },\n4 } x\nbaz";
    let found = errors(&table("inet", "drop", rules));
    let places: Vec<_> = found
        .iter()
        .map(|(line, column, _)| (*line, *column))
        .collect();
    assert_eq!(places, [(4, 15), (5, 18), (7, 1), (9, 1)], "{found:#?}");
}

#[test]
fn all_errors_of_a_file_come_at_once_and_in_order() {
    let text = "reset ruleset
define web = { 80, 443
define ok = 1
table inet one {
  set s {
    type ipv4_adr
    elements = { 10.0.0.1 }
  }
  chain c {
    type filter hook forward priority 0; policy dorp;
    tcp dport { 1, 2 accept
    tcp dport $web accept
    tcp dport $ok iifname eth7 ip saddr 10.0.0.300 snat
    tcp dport 1,
      2 accept
    udp dport 1 tcp dport 2 accept
  }
}
table bridge two {
  chain c { type filter hook forward priority 0
    ether type foo accept; ether type bar accept
  }
}
";
    let found = errors(text);
    let places: Vec<_> = found
        .iter()
        .map(|(line, column, _)| (*line, *column))
        .collect();
    assert_eq!(
        places,
        [
            (1, 1),
            (2, 23),
            (6, 10),
            (10, 49),
            (11, 22),
            (13, 27),
            (13, 41),
            (13, 52),
            (14, 17),
            (16, 17),
            (21, 16),
            (21, 39),
        ],
        "{found:#?}"
    );
}

#[test]
fn the_rendered_error_is_what_a_person_sees() {
    let text = "define a = 7\n".to_owned()
        + &table(
            "inet",
            "drop",
            "tcp dport 21 udp dport 53 accept\nip saddr $a drop",
        );
    let shown = Ruleset::parse("rules.nft", &text, &ports())
        .unwrap_err()
        .render(false);
    let expected = "\
error: `udp dport` can never match here
 --> rules.nft:5:14
  |
5 | tcp dport 21 udp dport 53 accept
  | ------------ ^^^^^^^^^^^^
  | |
  | no packet is both this and that

error: `7` is not an IPv4 address
 --> rules.nft:6:10
  |
6 | ip saddr $a drop
  |          ^^
  |
 ::: rules.nft:1:12
  |
1 | define a = 7
  |            - the value comes from here
  |
  = help: for example 192.0.2.1, or 192.0.2.0/24

rules.nft: 2 errors";
    assert_eq!(shown, expected, "\n{shown}");
}

#[test]
fn definitions_within_definitions_cannot_eat_all_memory() {
    let mut text = "define a0 = { 1, 2, 3, 4 }\n".to_owned();
    for level in 1..60 {
        let below = level - 1;
        text += &format!("define a{level} = {{ $a{below}, $a{below} }}\n");
    }
    text += &table("inet", "drop", "tcp dport $a59 accept");
    let found = errors(&text);
    assert!(
        !found.is_empty() && found.iter().all(|(.., m)| m.contains("values")),
        "{found:?}"
    );
}
