//! End-to-end tests: the built `lotus` between two hosts, each in a network namespace of its own.
//!
//! They need root, a Linux kernel with veth and namespaces, and the Debian packages iproute2,
//! iputils-ping, nftables, procps, vsftpd, python3-pyftpdlib, curl, lftp. Without root each test
//! prints a line with SKIP and passes; with `LOTUS_REQUIRE_ROOT=1` it fails.
//!
//! * `LOTUS_E2E_DUT=bridge` puts a kernel bridge where lotus would be. Everything that an honest
//!   wire must do passes there too: this proves the tests themselves.
//! * `LOTUS_E2E_FULL=1` runs the long versions.
//!
//! Each test makes its own testbed (`net::Lab`), starts a device in it (`dut::Dut`), and closes
//! the books at its end (`ledger::Ledger`).

mod dut;
mod faults;
mod ftp;
mod ledger;
mod load;
mod net;
mod scenarios;
mod sniff;
mod tcp;
mod transparency;
mod vlan;

use std::io::Write;

/// Prints past the test runner's capture, for lines that must be seen although the test passes.
pub(crate) fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "e2e: {line}");
}

/// Whether the long versions were asked for.
pub(crate) fn full() -> bool {
    std::env::var_os("LOTUS_E2E_FULL").is_some_and(|value| value != "0")
}
