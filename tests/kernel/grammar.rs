//! Rulesets, drawn by a grammar of features. A feature that lotus does not know yet is off, and goes
//! on by itself once [`Ruleset::parse`] takes its probe.

mod features;

use lotus::rules::Ruleset;

use crate::bed::Arrangement;
use crate::lotus_side::ports;
use crate::rng::Rng;
use crate::rules::{Chain, Family, Rule, Rules, Table};
use crate::values::{self, Kind};
use features::{Feature, MATCHES, STRUCTURES};

/// What a rule is about, so that most rules can match something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Net {
    Any,
    V4,
    V6,
    Arp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    Any,
    Tcp,
    Udp,
    Sctp,
    /// ICMP or ICMPv6, by the [`Net`].
    Icmp,
}

/// Which features are on.
pub struct Language {
    on: Vec<&'static Feature>,
    off: Vec<&'static str>,
}

/// A ruleset being drawn: where in it we are.
pub struct Draw<'a> {
    rng: &'a mut Rng,
    language: &'a Language,
    family: Family,
    net: Net,
    transport: Transport,
    is_stateful: bool,
    arrangement: Arrangement,
    /// Named sets, maps and definitions of the table.
    objects: Vec<String>,
    /// Chains that a rule here may go to.
    below: Vec<String>,
}

impl Language {
    pub fn of_lotus() -> Language {
        let mut language = Language {
            on: Vec::new(),
            off: Vec::new(),
        };
        for feature in MATCHES {
            match takes(feature.probe) {
                true => language.on.push(feature),
                false => language.off.push(feature.name),
            }
        }
        for (name, probe) in STRUCTURES {
            if !takes(probe) {
                language.off.push(name);
            }
        }
        language
    }

    /// All that is written here, known to lotus or not.
    pub fn whole() -> Language {
        Language {
            on: MATCHES.iter().collect(),
            off: Vec::new(),
        }
    }

    /// What the run covers, and what it does not.
    pub fn describe(&self) -> String {
        let structures = STRUCTURES.iter().map(|(name, _)| *name);
        let on = self.on.iter().map(|feature| feature.name);
        let on: Vec<_> = on.chain(structures.filter(|name| self.has(name))).collect();
        format!("on: {}\noff: {}", on.join(", "), self.off.join(", "))
    }

    fn has(&self, name: &str) -> bool {
        !self.off.contains(&name)
    }
}

/// Whether nft may take two matches for one, and both are negated.
fn is_merged(one: &str, other: &str) -> bool {
    let header = |text: &str| {
        let has_ports = text.contains("sport") || text.contains("dport");
        let first = text.split(' ').next().unwrap_or_default();
        if has_ports { "th" } else { first }.to_owned()
    };
    one.contains("!=") && header(one) == header(other)
}

fn takes(probe: &str) -> bool {
    let text = match probe.split_once(':') {
        Some((family @ ("bridge" | "inet"), rule)) => format!(
            "table {family} t {{\ndefine probe = {{ 1, 2-3 }}\nchain c {{\ntype filter hook forward priority 0;\n{rule}\n}}\n}}\n"
        ),
        _ => probe.to_owned(),
    };
    Ruleset::parse("probe", &text, &ports()).is_ok()
}

/// Draws a ruleset.
pub fn rules(rng: &mut Rng, arrangement: Arrangement, language: &Language) -> Rules {
    let mut families = Vec::new();
    if arrangement == Arrangement::Bridge {
        families.extend(vec![Family::Bridge; 1 + usize::from(rng.percent(30))]);
    } else {
        for _ in 0..1 + usize::from(rng.percent(30)) {
            families.push(match rng.below(10) {
                0 | 1 if language.has("tables of ip and ip6") => Family::Ip,
                2 | 3 if language.has("tables of ip and ip6") => Family::Ip6,
                _ => Family::Inet,
            });
        }
        if rng.percent(25) {
            families.push(Family::Bridge);
        }
    }
    let tables = families.into_iter().enumerate();
    let tables = tables.map(|(number, family)| table(rng, language, arrangement, family, number));
    Rules {
        tables: tables.collect(),
    }
}

fn table(
    rng: &mut Rng,
    language: &Language,
    arrangement: Arrangement,
    family: Family,
    number: usize,
) -> Table {
    let bases = match language.has("several chains") {
        true => 1 + rng.below(5).saturating_sub(2),
        false => 1,
    };
    let regular = match language.has("jump and return") {
        true => rng.below(4),
        false => 0,
    };
    let names: Vec<_> = (0..regular).map(|n| format!("more{n}")).collect();
    let mut draw = Draw {
        rng,
        language,
        family,
        net: Net::Any,
        transport: Transport::Any,
        is_stateful: family != Family::Bridge,
        arrangement,
        objects: Vec::new(),
        below: Vec::new(),
    };
    let mut chains = Vec::new();
    for (at, name) in names.iter().enumerate() {
        // Only downwards, so that there is no loop.
        draw.below = names[at + 1..].to_vec();
        chains.push(Chain {
            name: name.clone(),
            hook: None,
            rules: draw.rules(false),
        });
    }
    draw.below = names;
    for base in 0..bases {
        let priority = *draw
            .rng
            .pick(&["0", "filter", "filter + 10", "filter - 5", "-150", "20"]);
        let policy = *draw.rng.pick(&["accept", "drop", "drop"]);
        chains.push(Chain {
            name: format!("base{base}"),
            hook: Some(format!(
                "type filter hook forward priority {priority}; policy {policy};"
            )),
            rules: draw.rules(true),
        });
    }
    Table {
        family,
        name: format!("t{number}"),
        objects: draw.objects,
        chains,
    }
}

impl Draw<'_> {
    fn rules(&mut self, is_base: bool) -> Vec<Rule> {
        let mut rules = Vec::new();
        if is_base && self.is_stateful {
            for (percent, state, end) in [
                (30, "invalid", "drop"),
                (60, "established,related", "accept"),
            ] {
                if self.rng.percent(percent) {
                    rules.push(Rule {
                        matches: vec![format!("ct state {state}")],
                        end: end.to_owned(),
                        kernel_only: false,
                    });
                }
            }
        }
        for _ in 0..1 + self.rng.below(if is_base { 10 } else { 5 }) {
            rules.push(self.rule(is_base));
        }
        rules
    }

    fn rule(&mut self, is_base: bool) -> Rule {
        self.net = match (self.family, self.rng.below(10)) {
            (Family::Ip, _) => Net::V4,
            (Family::Ip6, _) => Net::V6,
            (Family::Bridge, 0) => Net::Arp,
            (_, 1..=4) => Net::V4,
            (_, 5..=7) => Net::V6,
            _ => Net::Any,
        };
        self.transport = match (self.net, self.rng.below(10)) {
            (Net::Arp, _) => Transport::Any,
            (_, 0..=3) => Transport::Tcp,
            (_, 4..=5) => Transport::Udp,
            (Net::V4 | Net::V6, 6) => Transport::Icmp,
            (_, 7) => Transport::Sctp,
            _ => Transport::Any,
        };
        let wanted = [0, 1, 1, 1, 1, 2, 2, 2, 3, 3, 4][self.rng.below(11) as usize];
        let mut matches: Vec<String> = Vec::new();
        let mut names: Vec<&str> = Vec::new();
        for _ in 0..wanted {
            let feature = self.feature();
            // The same field twice is often a contradiction, which lotus refuses.
            if names.contains(&feature.name) && !self.rng.percent(10) {
                continue;
            }
            if let Some(text) = (feature.draw)(self) {
                // nft 1.0.6 makes one comparison of `ether saddr != a ether daddr != b`, which then
                // holds for what differs in one of them only; of ports it does the same.
                if text.contains("!=") && matches.iter().any(|other| is_merged(other, &text)) {
                    continue;
                }
                names.push(feature.name);
                matches.push(text);
            }
        }
        // nft takes tags only before what they carry.
        matches.sort_by_key(|text| !text.starts_with("vlan "));
        let end = self.end(is_base, !matches.is_empty());
        Rule {
            matches,
            end,
            kernel_only: false,
        }
    }

    fn feature(&mut self) -> &'static Feature {
        let on = &self.language.on;
        let mut at = self
            .rng
            .below(on.iter().map(|feature| feature.weight).sum());
        for feature in on {
            if at < feature.weight {
                return feature;
            }
            at -= feature.weight;
        }
        on[0]
    }

    /// What a rule does. Without matches a verdict would hide all rules behind it.
    fn end(&mut self, is_base: bool, is_conditional: bool) -> String {
        let counter = if self.rng.percent(15) { "counter " } else { "" };
        if !is_conditional && !self.rng.percent(10) {
            return match self.below.is_empty() || self.rng.percent(30) {
                true => "counter".to_owned(),
                false => format!("{counter}jump {}", self.rng.pick(&self.below)),
            };
        }
        if self.language.has("vmap")
            && self.rng.percent(10)
            && let Some(map) = self.verdict_map(is_base)
        {
            return map;
        }
        let comment = if self.rng.percent(5) {
            " comment \"drawn\""
        } else {
            ""
        };
        format!("{counter}{}{comment}", self.verdict(is_base))
    }

    fn verdict(&mut self, is_base: bool) -> String {
        match self.rng.below(20) {
            0..=9 => "accept".to_owned(),
            10..=13 => "drop".to_owned(),
            14 | 15 if !self.below.is_empty() => format!("jump {}", self.rng.pick(&self.below)),
            16 if !self.below.is_empty() && self.language.has("goto") => {
                format!("goto {}", self.rng.pick(&self.below))
            }
            17 if !is_base && self.language.has("jump and return") => "return".to_owned(),
            18 if self.language.has("continue") => "continue".to_owned(),
            // The kernel's bridge family may have none.
            19 if self.family != Family::Bridge => self.reject(),
            _ => "accept".to_owned(),
        }
    }

    fn reject(&mut self) -> String {
        let with = self.language.has("reject with");
        match (self.language.has("reject"), self.transport) {
            (true, Transport::Tcp) if with && self.rng.percent(50) => {
                "meta l4proto tcp reject with tcp reset".to_owned()
            }
            (true, _) => "reject".to_owned(),
            (false, _) => "drop".to_owned(),
        }
    }

    /// `KEY vmap { ... }`, or with a named map.
    fn verdict_map(&mut self, is_base: bool) -> Option<String> {
        let (key, kind, set_type) = self.key()?;
        let count = 1 + self.rng.below(4);
        let values = values::disjoint(self.rng, kind, count);
        let elements: Vec<_> = values
            .into_iter()
            .map(|value| {
                let verdict = loop {
                    let verdict = self.verdict(is_base);
                    if !verdict.contains("reject") {
                        break verdict;
                    }
                };
                format!("{value} : {verdict}")
            })
            .collect();
        let elements = elements.join(", ");
        if self.language.has("named vmap") && self.rng.percent(30) {
            let name = format!("map{}", self.objects.len());
            let object = format!(
                "map {name} {{ type {set_type} : verdict; flags interval; elements = {{ {elements} }}; }}"
            );
            self.objects.push(object);
            return Some(format!("{key} vmap @{name}"));
        }
        Some(format!("{key} vmap {{ {elements} }}"))
    }

    /// A field that fits here, the kind of its values, and its type in declarations.
    fn key(&mut self) -> Option<(&'static str, Kind, &'static str)> {
        let mut keys: Vec<(&str, Kind, &str)> = Vec::new();
        if self.is_v4() {
            keys.extend([
                ("ip saddr", Kind::V4, "ipv4_addr"),
                ("ip daddr", Kind::V4, "ipv4_addr"),
            ]);
        }
        if self.is_v6() {
            keys.extend([
                ("ip6 saddr", Kind::V6, "ipv6_addr"),
                ("ip6 daddr", Kind::V6, "ipv6_addr"),
            ]);
        }
        match self.transport {
            Transport::Tcp => keys.extend([
                ("tcp dport", Kind::Port, "inet_service"),
                ("tcp sport", Kind::Port, "inet_service"),
            ]),
            Transport::Udp => keys.extend([
                ("udp dport", Kind::Port, "inet_service"),
                ("udp sport", Kind::Port, "inet_service"),
            ]),
            Transport::Any if self.net != Net::Arp => {
                keys.push(("meta l4proto", Kind::Protocol, "inet_proto"))
            }
            _ => {}
        }
        keys.push(("ether saddr", Kind::Mac, "ether_addr"));
        Some(*self.rng.pick(&keys))
    }

    fn is_v4(&self) -> bool {
        self.net == Net::V4 && self.family != Family::Ip6
    }

    fn is_v6(&self) -> bool {
        self.net == Net::V6 && self.family != Family::Ip
    }

    fn v4(&mut self, field: &str, kind: Kind) -> Option<String> {
        self.is_v4().then(|| self.number(field, kind))
    }

    fn v6(&mut self, field: &str, kind: Kind) -> Option<String> {
        self.is_v6().then(|| self.number(field, kind))
    }

    fn arp(&mut self, field: &str, kind: Kind) -> Option<String> {
        (self.net == Net::Arp && self.family == Family::Bridge).then(|| self.number(field, kind))
    }

    fn icmp(&mut self, net: Net, field: &str, kind: Kind) -> Option<String> {
        (self.net == net && self.transport == Transport::Icmp).then(|| self.number(field, kind))
    }

    fn l4(&mut self, transport: Transport, field: &str, kind: Kind) -> Option<String> {
        if self.transport != transport {
            return None;
        }
        if self.language.has("concatenations") && kind == Kind::Port && self.rng.percent(15) {
            return self.concatenation(field);
        }
        Some(self.number(field, kind))
    }

    /// `ip saddr . tcp dport { ... }`
    fn concatenation(&mut self, field: &str) -> Option<String> {
        let (first, kind, set_type) = match self.net {
            Net::V4 => (
                *self.rng.pick(&["ip saddr", "ip daddr"]),
                Kind::V4,
                "ipv4_addr",
            ),
            Net::V6 => (
                *self.rng.pick(&["ip6 saddr", "ip6 daddr"]),
                Kind::V6,
                "ipv6_addr",
            ),
            _ => return None,
        };
        // Different first parts: elements of such sets may not overlap.
        let count = 1 + self.rng.below(4);
        let firsts = values::disjoint(self.rng, kind, count);
        let elements: Vec<_> = firsts
            .into_iter()
            .map(|first| format!("{first} . {}", values::element(self.rng, Kind::Port)))
            .collect();
        let elements = elements.join(", ");
        let relation = self.relation();
        if self.language.has("named concatenations") && self.rng.percent(40) {
            let name = format!("set{}", self.objects.len());
            self.objects.push(format!("set {name} {{ type {set_type} . inet_service; flags interval; elements = {{ {elements} }}; }}"));
            return Some(format!("{first} . {field} {relation}@{name}"));
        }
        Some(format!("{first} . {field} {relation}{{ {elements} }}"))
    }

    fn relation(&mut self) -> &'static str {
        if self.rng.percent(15) { "!= " } else { "" }
    }

    /// A field compared with a value, a range, a prefix, or a set.
    fn number(&mut self, field: &str, kind: Kind) -> String {
        let relation = self.relation();
        if kind.is_ordered() && self.language.has("less and greater") && self.rng.percent(15) {
            let operator = *self.rng.pick(&["<", ">", "<=", ">="]);
            return format!("{field} {operator} {}", values::plain(self.rng, kind));
        }
        let count = 1 + self.rng.below(5);
        match self.rng.below(10) {
            0..=4 => format!("{field} {relation}{}", values::element(self.rng, kind)),
            5 if self.language.has("define") => {
                let name = format!("d{}", self.objects.len());
                let elements = values::set(self.rng, kind, count);
                self.objects
                    .push(format!("define {name} = {{ {elements} }}"));
                format!("{field} {relation}${name}")
            }
            6 | 7 if self.language.has("named sets") && kind.set_type().is_some() => {
                let name = format!("set{}", self.objects.len());
                let set_type = kind.set_type().unwrap_or_default();
                let elements = values::disjoint(self.rng, kind, count).join(", ");
                let declared = match self.language.has("typeof sets") && self.rng.percent(20) {
                    true => format!("typeof {field}"),
                    false => format!("type {set_type}"),
                };
                self.objects.push(format!(
                    "set {name} {{ {declared}; flags interval; elements = {{ {elements} }}; }}"
                ));
                format!("{field} {relation}@{name}")
            }
            _ => format!(
                "{field} {relation}{{ {} }}",
                values::set(self.rng, kind, count)
            ),
        }
    }

    fn interface(&mut self, field: &str, way: &str) -> String {
        let relation = self.relation();
        let side = self.rng.below(2);
        match self.rng.below(10) {
            0 => format!("{field} {relation}{{ «{way}0», «{way}1» }}"),
            1 => format!("{field} {relation}{{ «{way}{side}» }}"),
            _ => format!("{field} {relation}«{way}{side}»"),
        }
    }

    fn ct_state(&mut self) -> Option<String> {
        const STATES: [&str; 5] = ["new", "established", "related", "invalid", "untracked"];
        if !self.is_stateful {
            return None;
        }
        let mut states: Vec<_> = STATES
            .into_iter()
            .filter(|_| self.rng.percent(40))
            .collect();
        if states.is_empty() {
            states.push(*self.rng.pick(&STATES));
        }
        Some(match (states.len(), self.rng.below(4)) {
            (1, 0) => format!("ct state != {}", states[0]),
            (1, _) => format!("ct state {}", states[0]),
            (_, 0) => format!("ct state != {{ {} }}", states.join(", ")),
            (_, 1) => format!("ct state {{ {} }}", states.join(", ")),
            _ => format!("ct state {}", states.join(",")),
        })
    }

    fn protocol(&mut self, field: &str) -> String {
        let fitting = match (self.transport, self.net) {
            (Transport::Tcp, _) => "tcp",
            (Transport::Udp, _) => "udp",
            (Transport::Sctp, _) => "sctp",
            (Transport::Icmp, Net::V6) => "icmpv6",
            (Transport::Icmp, _) => "icmp",
            (Transport::Any, _) => return self.number(field, Kind::Protocol),
        };
        format!("{field} {fitting}")
    }

    fn ether_type(&mut self, field: &str) -> String {
        match self.net {
            Net::V4 => format!("{field} ip"),
            Net::V6 => format!("{field} ip6"),
            Net::Arp => format!("{field} arp"),
            Net::Any if self.transport != Transport::Any || self.family != Family::Bridge => {
                format!("{field} {{ ip, ip6 }}")
            }
            Net::Any => self.number(field, Kind::EtherType),
        }
    }
}
