#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod errors;
mod evaluate;
mod frames;
mod language;
mod listing;
mod warnings;

use super::{PortNames, Ruleset};

/// xorshift64*, seeded: the same run each time.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) % bound
    }
}

fn ports() -> PortNames {
    PortNames {
        inside: "inside".to_owned(),
        outside: "outside".to_owned(),
    }
}

/// A chain of these rules; the first rule stands on line 4.
fn table(family: &str, policy: &str, rules: &str) -> String {
    format!(
        "table {family} t {{\nct helper ftp {{ type \"ftp\" protocol tcp; }}\nchain c {{ type \
         filter hook forward priority 0; policy {policy};\n{rules}\n}}\n}}\n"
    )
}

fn parse(text: &str) -> Ruleset {
    match Ruleset::parse("test.nft", text, &ports()) {
        Ok(rules) => rules,
        Err(errors) => panic!("{text}\n{errors}"),
    }
}
