//! End-to-end tests: the built `lotus` between two hosts, each in a network namespace of its own.
//!
//! They need root, a Linux kernel with veth and namespaces, and the Debian packages iproute2,
//! iputils-ping, nftables, procps, ethtool, openssl, vsftpd, proftpd (core and mod-crypto),
//! python3-pyftpdlib, curl, lftp; `scripts/test` fetches what is missing. Without root each test
//! prints a line with SKIP and passes; with `LOTUS_REQUIRE_ROOT=1` it fails.
//!
//! * `LOTUS_E2E_DUT=bridge` puts a kernel bridge where lotus would be. Everything that an honest
//!   wire must do passes there too: this proves the tests themselves.
//! * `LOTUS_E2E_FULL=1` runs the long versions.
//!
//! * `LOTUS` names another lotus than the one that cargo built for the tests, and
//!   `LOTUS_E2E_GENERATORS` the folder of other traffic generators.
//! * `LOTUS_E2E_SOAK_SECS` and `LOTUS_E2E_FLOOD_SECS`: see `scripts/soak` and `scripts/flood`.
//!
//! Each test makes its own testbed (`net::Lab`), starts a device in it (`dut::Dut`), and closes
//! the books at its end (`ledger::Ledger`).

mod dut;
mod faults;
mod ftp;
mod generators;
mod ledger;
mod load;
mod net;
mod reload;
mod scenarios;
mod siege;
mod sniff;
mod soak;
mod tcp;
mod tls;
mod transparency;
mod vlan;

use std::io::Write;
use std::time::Duration;

/// Prints past the test runner's capture, for lines that must be seen although the test passes.
pub(crate) fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "e2e: {line}");
}

/// How long a test is to go on: what the environment says, or this.
pub(crate) fn seconds(variable: &str, otherwise: u64) -> Duration {
    let told = std::env::var(variable).map(|text| text.parse().expect("a number of seconds"));
    Duration::from_secs(told.unwrap_or(otherwise))
}

/// Whether the long versions were asked for.
pub(crate) fn full() -> bool {
    std::env::var_os("LOTUS_E2E_FULL").is_some_and(|value| value != "0")
}
