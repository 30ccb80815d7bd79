//! What must be true before frames can flow, and what to do where it is not.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::{fs, io};

use rustix::thread::CapabilitySet;

use crate::io::link::{self, Link};
use crate::wire::Side;

/// Why lotus does not start.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// Nothing of that name.
    #[error("{option} {name}: there is no such interface in this network namespace; there are: {}",
        existing(.others))]
    UnknownInterface {
        /// `--inside` or `--outside`.
        option: &'static str,
        /// What was asked for.
        name: String,
        /// What there is.
        others: Vec<String>,
    },
    /// A bump in the wire has two ends.
    #[error(
        "--inside and --outside are both {0}: lotus stands between two interfaces, name the \
             other one"
    )]
    SameInterface(String),
    /// Frames there never leave the host.
    #[error("{option} {name}: the loopback interface leads nowhere; name an Ethernet interface")]
    Loopback {
        /// `--inside` or `--outside`.
        option: &'static str,
        /// What was asked for.
        name: String,
    },
    /// It carries IP packets, PPP, CAN, anything but Ethernet frames.
    #[error(
        "{option} {name}: this is no Ethernet interface (a tunnel, perhaps); lotus forwards \
             Ethernet frames only"
    )]
    NotEthernet {
        /// `--inside` or `--outside`.
        option: &'static str,
        /// What was asked for.
        name: String,
    },
    /// Not root.
    #[error(
        "lotus reads and sends raw frames, which needs {missing}: run it as root (sudo lotus \
             run ...) or give it the capabilities CAP_NET_RAW, CAP_NET_ADMIN and CAP_BPF"
    )]
    NotAllowed {
        /// The capabilities that are not there.
        missing: String,
    },
    /// Set down.
    #[error("{0} is down: ip link set dev {0} up")]
    Down(String),
    /// The host itself lives there.
    #[error("{name} has the address {}: on a port of lotus the host's own network is switched \
             off, so you would lose what you reach through it. Remove it (ip addr flush dev {name}) \
             or, if that is what you want, add --force", list(.addresses))]
    HasAddress {
        /// The interface.
        name: String,
        /// Its addresses.
        addresses: Vec<IpAddr>,
    },
    /// Somebody else takes its frames.
    #[error(
        "{name} belongs to the bridge or bond {master}, which takes its frames before they \
             could be forwarded: ip link set dev {name} nomaster"
    )]
    Enslaved {
        /// The interface.
        name: String,
        /// Whose it is.
        master: String,
    },
    /// The kernel does not say.
    #[error("cannot look at {name}: {error}")]
    Unreadable {
        /// The interface.
        name: String,
        /// Why.
        error: io::Error,
    },
}

impl Refusal {
    /// Whether what was asked for can never be, so that it counts as wrong usage.
    #[must_use]
    pub fn is_usage(&self) -> bool {
        matches!(
            self,
            Refusal::UnknownInterface { .. }
                | Refusal::SameInterface(_)
                | Refusal::Loopback { .. }
                | Refusal::NotEthernet { .. }
        )
    }
}

fn existing(names: &[String]) -> String {
    if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(", ")
    }
}

fn list(addresses: &[IpAddr]) -> String {
    addresses
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(" and ")
}

/// What is odd but no reason not to start.
pub(super) type Warnings = Vec<String>;

/// Whether both interfaces are there and can be ports; needs no privileges.
pub(super) fn look_at_both(names: &[String; 2]) -> Result<[Link; 2], Refusal> {
    if names[0] == names[1] {
        return Err(Refusal::SameInterface(names[0].clone()));
    }
    let one = |side: Side| {
        let name = &names[side.index()];
        let link = Link::find(name).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Refusal::UnknownInterface {
                option: option(side),
                name: name.clone(),
                others: candidates(),
            },
            _ => Refusal::Unreadable {
                name: name.clone(),
                error,
            },
        })?;
        if link.loopback {
            return Err(Refusal::Loopback {
                option: option(side),
                name: name.clone(),
            });
        }
        if !link.ethernet {
            return Err(Refusal::NotEthernet {
                option: option(side),
                name: name.clone(),
            });
        }
        Ok(link)
    };
    let [inside, outside] = [one(Side::Inside)?, one(Side::Outside)?];
    // Two names may be those of one interface.
    if inside.index == outside.index {
        return Err(Refusal::SameInterface(inside.name));
    }
    Ok([inside, outside])
}

/// Whether this process may do what lotus does.
pub(super) fn check_privileges() -> Result<(), Refusal> {
    let wanted = [
        (CapabilitySet::NET_RAW, "CAP_NET_RAW"),
        (CapabilitySet::NET_ADMIN, "CAP_NET_ADMIN"),
    ];
    // If the kernel does not say, opening the sockets will.
    let Ok(sets) = rustix::thread::capabilities(None) else {
        return Ok(());
    };
    let missing: Vec<_> = wanted
        .into_iter()
        .filter(|&(capability, _)| !sets.effective.contains(capability))
        .map(|(_, name)| name)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(Refusal::NotAllowed {
        missing: missing.join(" and "),
    })
}

/// Whether the host leaves the two interfaces to lotus.
pub(super) fn check_ports(ports: &[Link; 2], force: bool) -> Result<Warnings, Refusal> {
    let mut warnings = Warnings::new();
    for port in ports {
        let name = port.name.clone();
        if let Some(master) = master(port) {
            return Err(Refusal::Enslaved { name, master });
        }
        warnings.extend(check_addresses(&name, link::addresses(port.index), force)?);
        warnings.extend(uppers(port).map(|upper| {
            format!(
                "{upper} stands on {name} and receives nothing any more: on a port of lotus the \
                 host's own network is switched off"
            )
        }));
        if !port.up {
            return Err(Refusal::Down(name));
        }
        if !port.running {
            warnings.push(format!(
                "{name}: no link (cable out, or the other end is down)"
            ));
        }
    }
    let [inside, outside] = ports;
    if inside.mtu != outside.mtu {
        let (small, large) = if inside.mtu < outside.mtu {
            (inside, outside)
        } else {
            (outside, inside)
        };
        warnings.push(format!(
            "{} has MTU {} and {} has MTU {}: packets longer than {} cannot leave at {} and are \
             dropped as tx_too_long (large TCP frames of offloads do leave, and may be lost \
             further on); set both alike (ip link set dev {} mtu {})",
            inside.name,
            inside.mtu,
            outside.name,
            outside.mtu,
            small.mtu,
            small.name,
            large.name,
            small.mtu,
        ));
    }
    Ok(warnings)
}

/// Whether the host lives on a port.
fn check_addresses(
    name: &str,
    mut addresses: Vec<IpAddr>,
    force: bool,
) -> Result<Option<String>, Refusal> {
    // What the kernel gives each interface by itself is no sign that somebody lives there.
    addresses.retain(|address| !is_automatic(address));
    if addresses.is_empty() {
        return Ok(None);
    }
    let name = name.to_owned();
    if !force {
        return Err(Refusal::HasAddress { name, addresses });
    }
    let six = if addresses.iter().any(IpAddr::is_ipv6) {
        "; IPv6 addresses are gone after that for good"
    } else {
        ""
    };
    let list = list(&addresses);
    Ok(Some(format!(
        "{name} has the address {list}: nobody can reach it while lotus runs (--force){six}"
    )))
}

fn option(side: Side) -> &'static str {
    match side {
        Side::Inside => "--inside",
        Side::Outside => "--outside",
    }
}

/// What an interface gets without anybody asking for it: no sign that the host lives there.
fn is_automatic(address: &IpAddr) -> bool {
    matches!(address, IpAddr::V6(address) if address.is_unicast_link_local())
}

/// The bridge or bond that an interface belongs to.
fn master(link: &Link) -> Option<String> {
    let master = fs::read_link(sys_folder(link)?.join("master")).ok()?;
    Some(master.file_name()?.to_string_lossy().into_owned())
}

/// The interfaces that are made of this one: VLANs, macvlans.
fn uppers(link: &Link) -> impl Iterator<Item = String> {
    let entries = sys_folder(link).and_then(|folder| fs::read_dir(folder).ok());
    entries.into_iter().flatten().flatten().filter_map(|entry| {
        let name = entry.file_name();
        Some(name.to_str()?.strip_prefix("upper_")?.to_owned())
    })
}

fn sys_folder(link: &Link) -> Option<PathBuf> {
    let folder = Path::new("/sys/class/net").join(&link.name);
    // /sys shows the network namespace in which it was mounted, which may be another one.
    let index = fs::read_to_string(folder.join("ifindex")).ok()?;
    (index.trim() == link.index.to_string()).then_some(folder)
}

/// The interfaces that could be meant.
fn candidates() -> Vec<String> {
    let all = pnet::datalink::interfaces().into_iter();
    all.filter(|interface| !interface.is_loopback())
        .map(|interface| interface.name)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(name: &str) -> Link {
        Link {
            name: name.to_owned(),
            index: u32::MAX,
            mtu: 1500,
            up: true,
            running: true,
            loopback: false,
            ethernet: true,
        }
    }

    fn complaint(ports: [Link; 2], force: bool) -> String {
        check_ports(&ports, force).unwrap_err().to_string()
    }

    #[test]
    fn two_plain_ports_are_fine() {
        assert_eq!(
            check_ports(&[link("a"), link("b")], false).unwrap(),
            Warnings::new()
        );
        let automatic = vec!["fe80::1".parse().unwrap()];
        assert_eq!(check_addresses("a", automatic, false).unwrap(), None);
    }

    #[test]
    fn a_port_that_is_down_or_has_an_address_is_refused_with_the_command_to_use() {
        let down = Link {
            up: false,
            ..link("b")
        };
        assert_eq!(
            complaint([link("a"), down], true),
            "b is down: ip link set dev b up"
        );
        let addresses = || vec!["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()];
        let told = check_addresses("a", addresses(), false)
            .unwrap_err()
            .to_string();
        assert!(
            told.contains("a has the address 192.0.2.1 and 2001:db8::1"),
            "{told}"
        );
        assert!(
            told.contains("ip addr flush dev a") && told.contains("--force"),
            "{told}"
        );
        let warning = check_addresses("a", addresses(), true).unwrap().unwrap();
        assert!(
            warning.contains("nobody can reach it") && warning.contains("gone after that"),
            "{warning}"
        );
    }

    #[test]
    fn unequal_mtus_and_a_missing_link_are_warnings() {
        let small = Link {
            mtu: 1400,
            running: false,
            ..link("b")
        };
        let warnings = check_ports(&[link("a"), small], false).unwrap();
        assert!(warnings[0].contains("b: no link"), "{warnings:?}");
        assert!(
            warnings[1].contains("ip link set dev a mtu 1400"),
            "{warnings:?}"
        );
    }

    #[test]
    fn names_are_looked_at_first() {
        let both = |a: &str, b: &str| {
            let refusal = look_at_both(&[a.to_owned(), b.to_owned()]).unwrap_err();
            assert!(refusal.is_usage());
            refusal.to_string()
        };
        assert!(both("x", "x").contains("both x"));
        assert!(both("lotus-none", "lo").contains("--inside lotus-none: there is no such"));
        assert!(both("lo", "lotus-none").contains("--inside lo: the loopback"));
    }
}
