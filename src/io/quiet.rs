//! Keeps the host's own network stack silent on a port.
//!
//! The host must neither answer nor forward what comes in at a port: that is lotus's to decide.
//! Packet sockets see a frame before the ingress hooks do, so everything is dropped there after
//! lotus has had it.

mod bpf;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::process::{Command, Stdio};

use super::link;

/// How the host's stack is kept from what comes in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum QuietMethod {
    /// [`QuietMethod::Tcx`], or [`QuietMethod::Nft`] where the kernel has no TCX.
    #[default]
    Auto,
    /// A BPF program at the TCX ingress hook (Linux 6.6): it vanishes with the process.
    Tcx,
    /// An nftables chain at the netdev ingress hook: it stays if the process is killed, until the
    /// next lotus starts.
    Nft,
}

/// A port on which the host's stack is silent, until this is dropped.
///
/// Dropping needs CAP_NET_ADMIN still, to restore what was changed. Whoever gives the capability
/// up leaves `disable_ipv6` (and an nftables chain) behind.
#[derive(Debug)]
pub struct Quiet {
    ingress: Ingress,
    _ipv6: Option<Ipv6Off>,
}

impl Quiet {
    /// Silences the host's stack on a device.
    ///
    /// # Errors
    ///
    /// The device is missing, or the method is not to be had.
    pub fn on(device: &str, method: QuietMethod) -> io::Result<Quiet> {
        let ifindex = link::index(device)?;
        remove_stale_tables();
        let ingress = match method {
            QuietMethod::Tcx => Ingress::Tcx {
                _link: bpf::drop_ingress(ifindex)?,
            },
            QuietMethod::Nft => Ingress::Nft {
                _table: Table::add(device, ifindex)?,
            },
            QuietMethod::Auto => match bpf::drop_ingress(ifindex) {
                Ok(link) => Ingress::Tcx { _link: link },
                Err(tcx) => {
                    let table = Table::add(device, ifindex).map_err(|nft| {
                        let both = format!("can't drop at ingress: by TCX: {tcx}; by nft: {nft}");
                        io::Error::new(nft.kind(), both)
                    })?;
                    Ingress::Nft { _table: table }
                }
            },
        };
        Ok(Quiet {
            ingress,
            _ipv6: Ipv6Off::on(device)?,
        })
    }

    /// The method in use; never [`QuietMethod::Auto`].
    #[must_use]
    pub fn method(&self) -> QuietMethod {
        match self.ingress {
            Ingress::Tcx { .. } => QuietMethod::Tcx,
            Ingress::Nft { .. } => QuietMethod::Nft,
        }
    }
}

#[derive(Debug)]
enum Ingress {
    Tcx { _link: OwnedFd },
    Nft { _table: Table },
}

/// No link-local address and no neighbour discovery of the host's own.
#[derive(Debug)]
struct Ipv6Off {
    /// Open all the time: it stays that of the right network namespace and device name.
    file: File,
    before: String,
}

impl Ipv6Off {
    /// `None` if there is nothing to do: this kernel has no IPv6, or it is off already (in a
    /// container /proc/sys may be read-only, and whoever set that up may have thought of it).
    fn on(device: &str) -> io::Result<Option<Ipv6Off>> {
        let path = format!("/proc/sys/net/ipv6/conf/{device}/disable_ipv6");
        let before = match fs::read_to_string(&path) {
            Ok(before) => before,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        if before.trim() != "0" {
            return Ok(None);
        }
        let cannot = |error: io::Error| {
            let text = format!("switch IPv6 off (write 1 to {path}): {error}");
            io::Error::new(error.kind(), text)
        };
        let mut file = OpenOptions::new().write(true).open(&path).map_err(cannot)?;
        file.write_all(b"1\n").map_err(cannot)?;
        Ok(Some(Ipv6Off { file, before }))
    }
}

impl Drop for Ipv6Off {
    fn drop(&mut self) {
        // If it fails the device is gone or the right to do it: nothing is left to do.
        let _ = self
            .file
            .rewind()
            .and_then(|()| self.file.write_all(self.before.as_bytes()));
    }
}

/// A table of the netdev family with one chain that drops everything.
#[derive(Debug)]
struct Table {
    name: String,
}

const TABLE_PREFIX: &str = "lotus_quiet_";

impl Table {
    fn add(device: &str, ifindex: u32) -> io::Result<Table> {
        if device.contains(['"', '\\', '\n']) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("the name {device:?} can't be written in nftables syntax"),
            ));
        }
        let pid = std::process::id();
        let started = started(pid).unwrap_or_default();
        let pids = pid_namespace().unwrap_or_default();
        let name = format!("{TABLE_PREFIX}{pids}_{pid}_{started}_{ifindex}");
        // Priority: before other chains there, which might count or copy what is not the host's.
        nft(&format!(
            "table netdev {name} {{\n  chain ingress {{\n    type filter hook ingress device \
             \"{device}\" priority -500; policy drop;\n  }}\n}}\n"
        ))?;
        Ok(Table { name })
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        // If it fails the next lotus removes it.
        let _ = nft(&format!("delete table netdev {}\n", self.name));
    }
}

/// Removes what a killed lotus left. Best effort: no `nft`, no table.
///
/// What one in another PID namespace (a container) left stays, as nobody here can know whether it
/// lives. It ends with the network namespace, or by hand.
fn remove_stale_tables() {
    let Some(pids) = pid_namespace() else { return };
    let listed = Command::new("nft")
        .args(["list", "tables", "netdev"])
        .stderr(Stdio::null())
        .output();
    let text = listed.map(|output| output.stdout).unwrap_or_default();
    for name in stale_tables(&String::from_utf8_lossy(&text), pids, started) {
        let _ = nft(&format!("delete table netdev {name}\n"));
    }
}

/// The tables whose process was of this PID namespace and does not live any more. The time at which a process started tells it
/// from another with the same number.
fn stale_tables(listing: &str, pids: u64, started: impl Fn(u32) -> Option<u64>) -> Vec<&str> {
    let names = listing
        .lines()
        .filter_map(|line| line.strip_prefix("table netdev "));
    names
        .map(str::trim)
        .filter(|name| {
            let Some(rest) = name.strip_prefix(TABLE_PREFIX) else {
                return false;
            };
            let mut parts = rest.split('_').map(|part| part.parse::<u64>().ok());
            let mut part = || parts.next().flatten();
            match (part(), part(), part()) {
                (Some(namespace), Some(pid), Some(start)) => {
                    namespace == pids && u32::try_from(pid).ok().and_then(&started) != Some(start)
                }
                _ => false,
            }
        })
        .collect()
}

/// What tells the PID namespace of this process from others: the inode of its name.
fn pid_namespace() -> Option<u64> {
    Some(fs::metadata("/proc/self/ns/pid").ok()?.ino())
}

/// When a process started, in clock ticks since boot (proc_pid_stat(5), field 22).
fn started(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is a name in brackets that may hold anything.
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(22 - 3)?.parse().ok()
}

fn nft(commands: &str) -> io::Result<()> {
    let mut child = Command::new("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| io::Error::new(error.kind(), format!("the nft command: {error}")))?;
    if let Some(mut input) = child.stdin.take() {
        input.write_all(commands.as_bytes())?;
    }
    let output = child.wait_with_output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(format!(
        "nft: {}",
        said.lines().next().unwrap_or("failed")
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_tables_of_dead_processes_are_stale() {
        let listing = "table netdev lotus_quiet_7_10_500_3\n\
                       table netdev lotus_quiet_7_11_600_4\n\
                       table netdev lotus_quiet_7_12_700_5\n\
                       table netdev lotus_quiet_8_12_700_5\ntable netdev filter\n\
                       table netdev lotus_quiet_mine\n";
        // 10 lives; 11 is another process by now; 12 is gone, and unknown in namespace 8.
        let started = |pid| match pid {
            10 => Some(500),
            11 => Some(601),
            _ => None,
        };
        assert_eq!(
            stale_tables(listing, 7, started),
            ["lotus_quiet_7_11_600_4", "lotus_quiet_7_12_700_5"]
        );
    }

    #[test]
    fn this_process_has_a_start_and_an_impossible_one_has_none() {
        assert!(started(std::process::id()).is_some_and(|ticks| ticks > 0));
        assert_eq!(started(u32::MAX), None);
    }
}
