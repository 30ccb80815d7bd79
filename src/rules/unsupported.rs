//! Hints for what nft knows and lotus does not: what to write instead.

/// For a word that begins something at the top of a file.
pub(super) fn top_level(word: &str) -> Option<&'static str> {
    Some(match word {
        "flush" | "reset" | "delete" | "destroy" => {
            "leave it out: lotus replaces all rules at once when it loads a file"
        }
        "add" | "create" | "insert" | "replace" => {
            "commands are not supported: write the block form, `table inet NAME { ... }`"
        }
        "include" => "`include` is not supported: put everything into one file",
        "redefine" | "undefine" => "a name keeps its value: define another name",
        "chain" | "type" | "policy" | "accept" | "drop" => {
            "put it inside `table inet NAME { ... }`; maybe a brace too many stands before it"
        }
        _ => return None,
    })
}

/// For a word that begins something inside a table.
pub(super) fn in_table(word: &str) -> Option<&'static str> {
    Some(match word {
        "set" => "named sets are not supported: `define NAME = { a, b }` and use `$NAME`",
        "map" => "maps are not supported: write one rule for each case",
        "counter" | "quota" | "limit" | "secmark" | "synproxy" => {
            "named objects other than `ct helper` are not supported"
        }
        "ct" => "of the `ct` objects only `ct helper NAME { ... }` is supported",
        "flowtable" => "lotus keeps verdicts in its own flow table: leave it out",
        "flags" => "table flags are not supported: leave them out",
        "comment" => "comments of tables are not supported: use `# ...`",
        "type" | "policy" => "put it inside `chain NAME { ... }`",
        "include" => "`include` is not supported: put everything into one file",
        _ => return None,
    })
}

/// For a word that begins a statement or a match.
pub(super) fn in_rule(word: &str) -> Option<&'static str> {
    Some(match word {
        "reject" => "not supported yet: use `drop`",
        "jump" | "goto" | "return" | "continue" => {
            "there are no chains to jump to: write the rules into the one chain, in order"
        }
        "log" => "not supported yet: use `counter`, and lotus's own events",
        "limit" | "quota" => "rate limits are not supported yet",
        "iif" => "write `iifname \"NAME\"`",
        "oif" => "write `oifname \"NAME\"`",
        "vlan" => "VLAN ids are not matched yet; `ether type vlan` matches tagged frames",
        "arp" => "fields of ARP are not matched yet; `ether type arp` matches ARP",
        "sctp" | "dccp" | "udplite" | "esp" | "ah" | "comp" | "igmp" | "gre" => {
            "lotus reads the ports of TCP and UDP; match others by `meta l4proto`"
        }
        "icmp6" | "ipv6-icmp" => "the keyword is `icmpv6`",
        "ipv6" => "the keyword is `ip6`",
        "ipv4" | "ip4" => "the keyword is `ip`",
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
        "queue" | "notrack" | "flow" | "synproxy" | "socket" | "fib" | "rt" | "numgen"
        | "jhash" | "symhash" | "mark" | "skuid" | "exthdr" | "tunnel" | "osf" | "dst" | "frag"
        | "hbh" | "mh" | "ipsec" | "xt" | "update" | "add" | "delete" | "set" => {
            "it has no meaning for a bump in the wire, or is not supported yet"
        }
        "hook" => "write it in one line: `type filter hook forward priority 0; policy drop;`",
        _ => return None,
    })
}
