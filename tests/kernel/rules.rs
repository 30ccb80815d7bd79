//! Rulesets as a tree, so that they can be drawn and made smaller, and as text for either side.
//!
//! Behind br_netfilter the kernel's IP tables see the bridge as the interface, not its ports. There
//! the port stands in the mark, which the bed sets. So the names of interfaces are written with
//! marks such as `«iifname» «in0»`, which [`Rules::text`] replaces for each side.

use crate::bed::{BED_MARKS, PORTS, SENTINEL};

/// A ruleset.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    pub tables: Vec<Table>,
}

#[derive(Clone, Debug)]
pub struct Table {
    pub family: Family,
    pub name: String,
    /// Sets, maps and definitions, each in one line.
    pub objects: Vec<String>,
    pub chains: Vec<Chain>,
}

#[derive(Clone, Debug)]
pub struct Chain {
    pub name: String,
    /// `type filter hook ...; policy ...;`, of a base chain.
    pub hook: Option<String>,
    pub rules: Vec<Rule>,
}

#[derive(Clone, Debug)]
pub struct Rule {
    pub matches: Vec<String>,
    /// Counter, verdict, comment.
    pub end: String,
    /// Left out of lotus's text: lotus refuses it as one that can never match.
    pub kernel_only: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    Bridge,
    Inet,
    Ip,
    Ip6,
}

/// Who is to read a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    Lotus,
    Kernel,
}

/// Table, chain and rule, by number.
pub type Place = (usize, usize, usize);

/// A text, and which rule stands on each line.
pub struct Text {
    pub text: String,
    pub places: Vec<Option<Place>>,
}

impl Family {
    pub fn name(self) -> &'static str {
        match self {
            Family::Bridge => "bridge",
            Family::Inet => "inet",
            Family::Ip => "ip",
            Family::Ip6 => "ip6",
        }
    }
}

impl Rules {
    pub fn text(&self, reader: Reader) -> Text {
        let mut whole = Text {
            text: String::new(),
            places: Vec::new(),
        };
        for (t, table) in self.tables.iter().enumerate() {
            let mut line = |text: &str, place| {
                whole
                    .text
                    .push_str(&written_for(text, reader, table.family));
                whole.text.push('\n');
                whole.places.push(place);
            };
            line(
                &format!("table {} {} {{", table.family.name(), table.name),
                None,
            );
            for object in &table.objects {
                line(&format!("  {object}"), None);
            }
            for (c, chain) in table.chains.iter().enumerate() {
                line(&format!("  chain {} {{", chain.name), None);
                if let Some(hook) = &chain.hook {
                    line(&format!("    {hook}"), None);
                    if reader == Reader::Kernel && table.family == Family::Bridge {
                        line(&format!("    ether type {SENTINEL:#x} accept"), None);
                    }
                }
                for (r, rule) in chain.rules.iter().enumerate() {
                    if !(rule.kernel_only && reader == Reader::Lotus) {
                        line(&format!("    {}", rule.text()), Some((t, c, r)));
                    }
                }
                line("  }", None);
            }
            line("}", None);
        }
        whole
    }

    pub fn rule(&self, (t, c, r): Place) -> &Rule {
        &self.tables[t].chains[c].rules[r]
    }

    pub fn rule_mut(&mut self, (t, c, r): Place) -> &mut Rule {
        &mut self.tables[t].chains[c].rules[r]
    }

    pub fn remove_rule(&mut self, (t, c, r): Place) {
        self.tables[t].chains[c].rules.remove(r);
    }

    /// The places of all rules.
    pub fn places(&self) -> Vec<Place> {
        let mut places = Vec::new();
        for (t, table) in self.tables.iter().enumerate() {
            for (c, chain) in table.chains.iter().enumerate() {
                places.extend((0..chain.rules.len()).map(|r| (t, c, r)));
            }
        }
        places
    }
}

impl Rule {
    pub fn text(&self) -> String {
        let mut words = self.matches.clone();
        words.push(self.end.clone());
        words.join(" ")
    }
}

fn written_for(line: &str, reader: Reader, family: Family) -> String {
    let marked = reader == Reader::Kernel && family != Family::Bridge;
    let quoted = |name: &str| format!("\"{name}\"");
    let mut line = line.to_owned();
    for side in 0..2 {
        let (came_in, went_out) = if marked {
            (BED_MARKS[side].to_owned(), BED_MARKS[1 - side].to_owned())
        } else {
            (quoted(PORTS[side]), quoted(PORTS[side]))
        };
        line = line
            .replace(&format!("«in{side}»"), &came_in)
            .replace(&format!("«out{side}»"), &went_out);
    }
    let keywords = [
        ("«iifname»", "iifname", "meta mark"),
        ("«oifname»", "oifname", "meta mark"),
        ("«iif»", "iif", "meta mark"),
        ("«oif»", "oif", "meta mark"),
        ("«ifname»", "ifname", "mark"),
    ];
    for (word, plain, mark) in keywords {
        line = line.replace(word, if marked { mark } else { plain });
    }
    line
}
