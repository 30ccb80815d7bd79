//! Facts about network interfaces, what must be set on them, and who uses them.
#![allow(unsafe_code)]

use std::ffi::c_void;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use libc::{c_char, c_int, c_short};
use rustix::net::{AddressFamily, SocketFlags, SocketType, netdevice, socket_with};

/// What is known of an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its name; the one that the kernel calls it by, also if it was found by another
    /// (`altname` of ip-link(8)).
    pub name: String,
    /// Its index, which stays when it is renamed.
    pub index: u32,
    /// Its MTU in bytes.
    pub mtu: usize,
    /// It is switched on.
    pub up: bool,
    /// There is a carrier too.
    pub running: bool,
    /// It is the loopback interface.
    pub loopback: bool,
    /// Its frames begin with an Ethernet header.
    pub ethernet: bool,
}

impl Link {
    /// Looks an interface up in the network namespace of the calling thread.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::NotFound`] if there is none of that name.
    pub fn find(name: &str) -> io::Result<Link> {
        let index = index(name)?;
        let name = canonical(name)?;
        let flags = flags(control()?.as_fd(), &name)?;
        let has = |flag: c_int| flags & flag != 0;
        Ok(Link {
            index,
            mtu: mtu(&name)?,
            up: has(libc::IFF_UP),
            running: has(libc::IFF_UP) && has_carrier(&name, flags),
            loopback: has(libc::IFF_LOOPBACK),
            ethernet: link_type(&name)? == libc::ARPHRD_ETHER,
            name,
        })
    }
}

/// The IP addresses of an interface. A port of lotus should have none.
#[must_use]
pub fn addresses(index: u32) -> Vec<IpAddr> {
    pnet::datalink::interfaces()
        .into_iter()
        .filter(|interface| interface.index == index)
        .flat_map(|interface| interface.ips)
        .map(|network| network.ip())
        .collect()
}

/// The name that the kernel calls an interface by. The system calls take its other names
/// (`altname`) as well, but /proc, /sys and messages know only this one.
///
/// # Errors
///
/// [`io::ErrorKind::NotFound`] if there is none of that name.
pub fn canonical(name: &str) -> io::Result<String> {
    netdevice::index_to_name(control()?, index(name)?)
        .map_err(|error| not_found(name, error.into()))
}

/// The index of an interface.
///
/// # Errors
///
/// [`io::ErrorKind::NotFound`] if there is none of that name.
pub fn index(name: &str) -> io::Result<u32> {
    netdevice::name_to_index(control()?, name).map_err(|error| not_found(name, error.into()))
}

/// The MTU of an interface in bytes.
///
/// # Errors
///
/// [`io::ErrorKind::NotFound`] if there is none of that name.
pub fn mtu(name: &str) -> io::Result<usize> {
    let mut request = Request::new(name, libc::__c_anonymous_ifr_ifru { ifru_mtu: 0 })?;
    request
        .call(control()?.as_fd(), libc::SIOCGIFMTU)
        .map_err(|error| not_found(name, error))?;
    // SAFETY: the union was made with this member, and SIOCGIFMTU fills it.
    let mtu = unsafe { request.0.ifr_ifru.ifru_mtu };
    usize::try_from(mtu).map_err(|_| io::ErrorKind::InvalidData.into())
}

/// Large receive offload, before and after [`disable_lro`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lro {
    /// The driver has none, or it was off.
    WasOff,
    /// It is off now.
    SwitchedOff,
}

/// Switches large receive offload off: frames put together that way can't be taken apart again
/// as they were (ethtool(8), "lro").
///
/// # Errors
///
/// The interface is missing, or the driver refuses.
pub fn disable_lro(name: &str) -> io::Result<Lro> {
    const GET_FLAGS: u32 = 0x25;
    const SET_FLAGS: u32 = 0x26;
    const FLAG_LRO: u32 = 1 << 15;

    let flags = match ethtool(name, GET_FLAGS, 0) {
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => return Ok(Lro::WasOff),
        result => result.map_err(|error| not_found(name, error))?,
    };
    if flags & FLAG_LRO == 0 {
        return Ok(Lro::WasOff);
    }
    ethtool(name, SET_FLAGS, flags & !FLAG_LRO)?;
    Ok(Lro::SwitchedOff)
}

/// Asks or tells the driver one number.
fn ethtool(name: &str, command: u32, data: u32) -> io::Result<u32> {
    /// `struct ethtool_value` of linux/ethtool.h.
    #[repr(C)]
    struct Value {
        command: u32,
        data: u32,
    }
    let mut value = Value { command, data };
    let data = (&raw mut value).cast::<c_char>();
    Request::new(name, libc::__c_anonymous_ifr_ifru { ifru_data: data })?
        .call(control()?.as_fd(), libc::SIOCETHTOOL)?;
    Ok(value.data)
}

/// Whether there is a carrier: as the driver says, because the flag that everybody can read is up
/// to a second late (net/core/link_watch.c).
fn has_carrier(name: &str, flags: c_int) -> bool {
    const GET_LINK: u32 = 0x0a;
    match ethtool(name, GET_LINK, 0) {
        Ok(link) => link != 0,
        Err(_) => flags & libc::IFF_RUNNING != 0,
    }
}

/// Whether an interface is up and has a carrier. `socket` may be any.
pub(super) fn carrier(socket: BorrowedFd<'_>, index: u32) -> io::Result<bool> {
    let name = netdevice::index_to_name(socket, index)?;
    let both = libc::IFF_UP | libc::IFF_RUNNING;
    Ok(flags(socket, &name)? & both == both)
}

/// Holds an interface for this process. Two of lotus on one interface would send each frame twice.
#[derive(Debug)]
pub struct PortLock {
    _socket: UnixDatagram,
}

impl PortLock {
    /// Takes the interface with this index in the network namespace of the calling thread.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::AddrInUse`] if another process (or another part of this one) holds it.
    pub fn take(ifindex: u32) -> io::Result<PortLock> {
        // An abstract name belongs to the network namespace, as the interface does, and vanishes
        // with the process.
        let name = SocketAddr::from_abstract_name(format!("lotus/port/{ifindex}"))?;
        let socket = UnixDatagram::bind_addr(&name).map_err(|error| match error.kind() {
            io::ErrorKind::AddrInUse => {
                io::Error::new(error.kind(), "another lotus already uses this interface")
            }
            _ => error,
        })?;
        Ok(PortLock { _socket: socket })
    }
}

fn flags(socket: BorrowedFd<'_>, name: &str) -> io::Result<c_int> {
    let mut request = Request::new(name, libc::__c_anonymous_ifr_ifru { ifru_flags: 0 })?;
    request
        .call(socket, libc::SIOCGIFFLAGS)
        .map_err(|error| not_found(name, error))?;
    // SAFETY: the union was made with this member, and SIOCGIFFLAGS fills it.
    let flags: c_short = unsafe { request.0.ifr_ifru.ifru_flags };
    Ok(c_int::from(flags))
}

/// An ARPHRD_ number of linux/if_arp.h.
fn link_type(name: &str) -> io::Result<u16> {
    let nothing = libc::sockaddr {
        sa_family: 0,
        sa_data: [0; 14],
    };
    let mut request = Request::new(
        name,
        libc::__c_anonymous_ifr_ifru {
            ifru_hwaddr: nothing,
        },
    )?;
    request
        .call(control()?.as_fd(), libc::SIOCGIFHWADDR)
        .map_err(|error| not_found(name, error))?;
    // SAFETY: the union was made with this member, and SIOCGIFHWADDR fills it.
    Ok(unsafe { request.0.ifr_ifru.ifru_hwaddr }.sa_family)
}

/// A socket to ask about interfaces with. Of a family that needs no protocol to be there.
fn control() -> io::Result<OwnedFd> {
    Ok(socket_with(
        AddressFamily::UNIX,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC,
        None,
    )?)
}

fn not_found(name: &str, error: io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(libc::ENODEV | libc::ENXIO) => io::Error::new(
            io::ErrorKind::NotFound,
            format!("there is no interface {name}"),
        ),
        _ => error,
    }
}

struct Request(libc::ifreq);

impl Request {
    fn new(name: &str, value: libc::__c_anonymous_ifr_ifru) -> io::Result<Request> {
        let mut request = Request(libc::ifreq {
            ifr_name: [0; libc::IFNAMSIZ],
            ifr_ifru: value,
        });
        // The last byte stays zero.
        if name.is_empty() || name.len() >= libc::IFNAMSIZ || name.contains('\0') {
            return Err(not_found(name, io::Error::from_raw_os_error(libc::ENODEV)));
        }
        for (to, &byte) in request.0.ifr_name.iter_mut().zip(name.as_bytes()) {
            *to = byte as c_char;
        }
        Ok(request)
    }

    fn call(&mut self, socket: BorrowedFd<'_>, command: libc::c_ulong) -> io::Result<()> {
        let argument: *mut c_void = (&raw mut self.0).cast();
        // SAFETY: all commands of this module take a pointer to an `ifreq` with a terminated name.
        // `ifru_data`, where one uses it, points to an `ethtool_value` that outlives the call.
        let result = unsafe { libc::ioctl(socket.as_raw_fd(), command as _, argument) };
        if result < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_found_with_its_facts() {
        let link = Link::find("lo").unwrap();
        assert!(link.loopback && !link.ethernet);
        assert_eq!(link.name, canonical("lo").unwrap());
        assert!(
            addresses(link.index)
                .iter()
                .all(|address| address.is_loopback())
        );
        assert_eq!(
            (link.index, link.mtu),
            (index("lo").unwrap(), mtu("lo").unwrap())
        );
        assert!(link.mtu >= 1280);
        assert_eq!(disable_lro("lo").unwrap(), Lro::WasOff);
    }

    #[test]
    fn missing_and_impossible_names_are_not_found() {
        for name in ["lotus-none", "", "a-name-that-is-too-long", "a\0b"] {
            let kind = |result: io::Result<()>| result.map_err(|error| error.kind());
            let missing = Err(io::ErrorKind::NotFound);
            assert_eq!(kind(Link::find(name).map(drop)), missing, "{name:?}");
            assert_eq!(kind(mtu(name).map(drop)), missing, "{name:?}");
            assert_eq!(kind(disable_lro(name).map(drop)), missing, "{name:?}");
        }
    }

    #[test]
    fn a_port_is_held_once_and_freed_with_its_lock() {
        // An index that no interface has.
        let index = 4_000_000_000 + std::process::id() % 1_000_000;
        let held = PortLock::take(index).unwrap();
        assert_eq!(
            PortLock::take(index).unwrap_err().kind(),
            io::ErrorKind::AddrInUse
        );
        drop(held);
        assert!(PortLock::take(index).is_ok());
    }
}
