//! Hints for what nft knows and lotus does not: what to write instead.

/// For a word that begins something at the top of a file.
pub(super) fn top_level(word: &str) -> Option<&'static str> {
    Some(match word {
        "flush" | "reset" | "delete" | "destroy" | "list" => {
            "leave it out: lotus replaces all rules at once when it loads a file"
        }
        "add" | "create" | "insert" | "replace" => {
            "commands are not supported: write the block form, `table inet NAME { ... }`"
        }
        "include" => "write `include \"FILE\"`, in quotes",
        "redefine" | "undefine" => "a name keeps its value: define another name",
        "chain" | "set" | "map" | "type" | "policy" | "accept" | "drop" => {
            "put it inside `table inet NAME { ... }`; maybe a brace too many stands before it"
        }
        _ => return None,
    })
}

/// For a word that begins something inside a table.
pub(super) fn in_table(word: &str) -> Option<&'static str> {
    Some(match word {
        "limit" | "quota" | "secmark" | "synproxy" => {
            "of named objects only `counter` and `ct helper` are supported; write `limit rate ...` \
             in the rule"
        }
        "ct" => "of the `ct` objects only `ct helper NAME { ... }` is supported",
        "flowtable" => "lotus keeps verdicts in its own flow table: leave it out",
        "flags" => "table flags are not supported: leave them out",
        "comment" => "comments of tables are not supported: use `# ...`",
        "type" | "policy" => "put it inside `chain NAME { ... }`",
        "include" => "write `include \"FILE\"`, in quotes",
        _ => return None,
    })
}

/// For a word inside a set where none may stand.
pub(super) fn in_set(word: &str) -> Option<&'static str> {
    Some(match word {
        "timeout" | "expires" | "gc-interval" => {
            "elements that time out are not supported: packets cannot change a set"
        }
        "counter" | "limit" => "elements with statements are not supported: count in the rule",
        "comment" => "comments of elements are not supported: use `# ...`",
        "policy" => "leave it out: lotus has one kind of set",
        _ => return None,
    })
}

/// For a field that nft has beside the supported ones.
pub(super) fn field(first: &str, second: &str) -> Option<&'static str> {
    Some(match (first, second) {
        ("meta", "mark") | ("ct", "mark") => {
            "marks mean something inside one machine; a bump in the wire has none"
        }
        ("meta", "pkttype") => "write `ether daddr`: group addresses are 01:00:00:00:00:00 and up",
        ("meta", "iiftype" | "oiftype" | "skuid" | "skgid" | "cgroup" | "rtclassid" | "ipsec") => {
            "it means something inside one machine; a bump in the wire has none"
        }
        ("ct", "bytes" | "packets" | "avgpkt" | "count" | "expiration" | "timeout") => {
            "not supported yet"
        }
        (
            "ct",
            "status" | "zone" | "id" | "label" | "l3proto" | "protocol" | "original" | "reply",
        ) => "write `ct state`, `ct direction` or `ct helper`",
        ("ip" | "ip6", "frag-off" | "id" | "version" | "hdrlength" | "flowlabel") => {
            "lotus judges whole datagrams: fragments are put together before the rules see them"
        }
        ("ip6", "protocol") => "write `meta l4proto`",
        ("ip", "hoplimit") => "in IPv4 it is `ip ttl`",
        ("ip6", "ttl") => "in IPv6 it is `ip6 hoplimit`",
        ("ip6", "nexthdr6") => "write `ip6 nexthdr`",
        ("tcp" | "udp" | "th", "port" | "ports") => "the fields are `sport` and `dport`",
        ("ct", "related" | "established" | "new") => "write `ct state`",
        _ => return None,
    })
}

/// For a word that begins a statement or a match.
pub(super) fn in_rule(word: &str) -> Option<&'static str> {
    Some(match word {
        "quota" => "not supported: use `limit rate`, or a `counter`",
        "dccp" | "udplite" | "esp" | "ah" | "comp" | "igmp" | "gre" => {
            "lotus reads the ports of TCP, UDP and SCTP; match others by `meta l4proto`"
        }
        "icmp6" | "ipv6-icmp" => "the keyword is `icmpv6`",
        "icmpx" => "icmpx stands in `reject with icmpx type ...` only",
        "ipv6" => "the keyword is `ip6`",
        "ipv4" | "ip4" => "the keyword is `ip`",
        "eth" | "ethernet" | "mac" => "the keyword is `ether`",
        "dport" | "sport" => "name the protocol: `tcp dport`, `udp dport` or `th dport`",
        "port" => "the fields are `sport` and `dport`",
        "saddr" | "daddr" => "name the protocol: `ip saddr`, `ip6 saddr` or `ether saddr`",
        "state" => "write `ct state`",
        "l4proto" | "nfproto" | "protocol" => "write `meta l4proto`, or `ether type ip|ip6`",
        "allow" | "pass" | "permit" => "the verdict is called `accept`",
        "deny" | "block" => "the verdict is called `drop`",
        "snat" | "dnat" | "masquerade" | "redirect" | "tproxy" | "dup" | "fwd" => {
            "lotus is transparent: it does not change or redirect packets"
        }
        "elements" | "flags" | "auto-merge" => "put it inside `set NAME { ... }`",
        "queue" | "notrack" | "flow" | "synproxy" | "socket" | "fib" | "rt" | "numgen"
        | "jhash" | "symhash" | "mark" | "skuid" | "exthdr" | "tunnel" | "osf" | "dst" | "frag"
        | "hbh" | "mh" | "ipsec" | "xt" | "update" | "add" | "delete" | "set" => {
            "it has no meaning for a bump in the wire, or is not supported yet"
        }
        "hook" => "write it in one line: `type filter hook forward priority 0; policy drop;`",
        "include" => "write `include \"FILE\"`, in quotes",
        _ => return None,
    })
}
