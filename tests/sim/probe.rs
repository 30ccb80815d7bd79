//! Connections that nobody agreed on: to a port with a listener, again and again, and to the data
//! ports that were agreed on, from an address with which nothing was agreed.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use lotus::conntrack::Time;
use smoltcp::iface::SocketHandle;

use crate::host::Host;
use crate::world::Program;

/// A port on which both hosts listen and which nobody agrees on.
pub const LISTENER_PORT: u16 = 45_000;

/// Short enough for some attempts while a port is open and not yet used.
const ATTEMPT: Duration = Duration::from_millis(200);
const PAUSE: Duration = Duration::from_millis(100);

pub struct Prober {
    from: IpAddr,
    from_second: IpAddr,
    to: SocketAddr,
    /// A data port of the other host, to be tried from the second address.
    pub also: Option<SocketAddr>,
    listener: SocketHandle,
    attempt: Option<(SocketHandle, Time)>,
    pause_until: Time,
    pub attempts: u32,
    pub breach: Option<String>,
}

impl Prober {
    pub fn new(from: IpAddr, from_second: IpAddr, other: IpAddr, host: &mut Host) -> Prober {
        Prober {
            from,
            from_second,
            to: SocketAddr::new(other, LISTENER_PORT),
            also: None,
            listener: host.listen(SocketAddr::new(from, LISTENER_PORT)),
            attempt: None,
            pause_until: Time::default(),
            attempts: 0,
            breach: None,
        }
    }
}

impl Program for Prober {
    fn step(&mut self, now: Time, host: &mut Host) {
        if !host.socket(self.listener).is_listening() {
            self.breach = Some(format!(
                "somebody reached port {LISTENER_PORT} of {}",
                self.from
            ));
        }
        match self.attempt {
            None if now >= self.pause_until => {
                let port = host.fresh_port(10_000, 9_000);
                // Every other attempt goes for the agreed port, if there is one.
                let (from, to) = match self.also.take_if(|_| self.attempts % 2 == 1) {
                    Some(also) => (self.from_second, also),
                    None => (self.from, self.to),
                };
                let handle = host.connect(SocketAddr::new(from, port), to);
                self.attempt = Some((handle, now));
                self.attempts += 1;
            }
            None => {}
            Some((handle, since)) => {
                if host.socket(handle).may_send() {
                    self.breach = Some(format!("{} connected to {}", self.from, self.to));
                }
                if now.since(since) > ATTEMPT {
                    host.abort(handle);
                    self.attempt = None;
                    self.pause_until = now + PAUSE;
                }
            }
        }
    }
}
