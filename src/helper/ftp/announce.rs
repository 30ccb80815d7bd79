//! The arguments of PORT, LPRT and EPRT, judged byte by byte.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::Arc;

use super::Settings;
use crate::conntrack::FIRST_DATA_PORT;

pub(super) const FOREIGN: &str = "it names an address that is not the client's own (FTP bounce)";
pub(super) const LOW_PORT: &str = "it names a port below 1024";
pub(super) const OTHER_PORT: &str = "it names a port outside ftp.active_ports";
pub(super) const MALFORMED: &str = "its address or port is malformed";

/// Address families of RFC 1639 are IP's version numbers.
pub(super) const LONG_V4: u8 = 4;
pub(super) const LONG_V6: u8 = 6;

/// The most numbers that an argument has: family, length, 16 of IPv6, length, two of the port.
pub(super) const MAX_NUMBERS: usize = 21;

/// The longest address is that of RFC 4291 section 2.2 (3).
const MAX_ADDRESS_BYTES: usize = 45;

/// A refusal, as early as the bytes allow it.
pub(super) type Fed = Result<(), &'static str>;

/// Which addresses and ports a client may name.
#[derive(Clone, Debug)]
pub(super) struct Allowed {
    pub(super) client: IpAddr,
    pub(super) settings: Arc<Settings>,
}

/// `h1,h2,h3,h4,p1,p2` of RFC 959 section 4.1.2, or the long form `af,hal,h1...,pal,p1,p2` of
/// RFC 1639.
#[derive(Debug)]
pub(super) struct NumbersArgument {
    is_long: bool,
    numbers: [u8; MAX_NUMBERS],
    done: usize,
    current: Option<u16>,
    has_leading_zero: bool,
    ended: bool,
}

/// What a number in the list stands for.
#[derive(Clone, Copy)]
enum Field {
    Family(u8),
    Length(u8),
    /// An octet of the address.
    Host,
    PortHigh,
    PortLow,
}

impl Allowed {
    fn host_bytes(&self) -> usize {
        if self.client.is_ipv4() { 4 } else { 16 }
    }

    fn address(&self, address: IpAddr) -> Fed {
        let is_other = address != self.client && !self.settings.fxp.contains(address);
        if is_other { Err(FOREIGN) } else { Ok(()) }
    }

    /// Whether an address that begins with these octets, and goes on with one of these, may be
    /// named.
    fn octets(&self, begin: &[u8], next: &RangeInclusive<u16>) -> Fed {
        let octets = |address: IpAddr| match address {
            IpAddr::V4(v4) => v4.octets().to_vec(),
            IpAddr::V6(v6) => v6.octets().to_vec(),
        };
        let reaches = |(address, prefix_bits): (IpAddr, usize)| {
            let network = octets(address);
            network.len() == self.host_bytes()
                && network.iter().enumerate().all(|(at, &octet)| {
                    let mask = octet_mask(prefix_bits, at);
                    let (low, high) = (octet & mask, octet | !mask);
                    match begin.get(at) {
                        Some(said) => (low..=high).contains(said),
                        None if at == begin.len() => overlap(next, low.into(), high.into()),
                        None => true,
                    }
                })
        };
        let own = (self.client, 8 * self.host_bytes());
        let third = self.settings.fxp.iter();
        let third = third.map(|net| (net.network(), usize::from(net.prefix_len())));
        if std::iter::once(own).chain(third).any(reaches) {
            Ok(())
        } else {
            Err(FOREIGN)
        }
    }

    /// Whether one of these ports may be named.
    fn ports(&self, ports: &RangeInclusive<u16>) -> Fed {
        let range = self.settings.active_ports;
        if *ports.end() < FIRST_DATA_PORT {
            Err(LOW_PORT)
        } else if overlap(ports, range.first().max(FIRST_DATA_PORT), range.last()) {
            Ok(())
        } else {
            Err(OTHER_PORT)
        }
    }
}

impl NumbersArgument {
    /// The argument of PORT, or of LPRT.
    pub(super) fn new(is_long: bool) -> NumbersArgument {
        NumbersArgument {
            is_long,
            numbers: [0; MAX_NUMBERS],
            done: 0,
            current: None,
            has_leading_zero: false,
            ended: false,
        }
    }

    pub(super) fn feed(&mut self, byte: u8, allowed: &Allowed) -> Fed {
        match byte {
            b'0'..=b'9' if !self.ended => {
                // Leading zeros are octal to some readers.
                self.has_leading_zero |= self.current == Some(0);
                let value = self.current.unwrap_or(0).min(999) * 10 + u16::from(byte - b'0');
                self.current = Some(value);
                // It is refused when nothing that it may become is allowed.
                let mut judged = Err(MALFORMED);
                for values in continuations(value) {
                    judged = self.judge(&values, allowed);
                    if judged.is_ok() {
                        break;
                    }
                }
                judged
            }
            b',' if !self.ended && self.field(allowed).is_some_and(|f| !f.is_last()) => {
                self.number_ended(allowed)
            }
            b' ' if self.done == 0 && self.current.is_none() => Ok(()),
            b' ' if self.field(allowed).is_some_and(Field::is_last) && self.current.is_some() => {
                self.ended = true;
                Ok(())
            }
            _ => Err(MALFORMED),
        }
    }

    pub(super) fn finish(&self, allowed: &Allowed) -> Result<SocketAddr, &'static str> {
        let value = self.current.ok_or(MALFORMED)?;
        if !self.field(allowed).is_some_and(Field::is_last) {
            return Err(MALFORMED);
        }
        self.judge(&(value..=value), allowed)?;
        let address = self.address(allowed).ok_or(MALFORMED)?;
        allowed.address(address)?;
        Ok(SocketAddr::new(address, self.port_with(value)))
    }

    fn field(&self, allowed: &Allowed) -> Option<Field> {
        let host_bytes = allowed.host_bytes();
        let before = if self.is_long { 2 } else { 0 };
        let after = before + host_bytes + usize::from(self.is_long);
        match self.done {
            0 if self.is_long => Some(Field::Family(if host_bytes == 4 {
                LONG_V4
            } else {
                LONG_V6
            })),
            1 if self.is_long => Some(Field::Length(host_bytes as u8)),
            at if at < before + host_bytes => Some(Field::Host),
            at if at < after => Some(Field::Length(2)),
            at if at == after => Some(Field::PortHigh),
            at if at == after + 1 => Some(Field::PortLow),
            _ => None,
        }
    }

    /// Whether the present number may become one of these.
    fn judge(&self, values: &RangeInclusive<u16>, allowed: &Allowed) -> Fed {
        let field = self.field(allowed).ok_or(MALFORMED)?;
        let is_number = !self.has_leading_zero && *values.start() <= 255;
        match field {
            Field::Family(_) | Field::Host if !is_number => Err(FOREIGN),
            _ if !is_number => Err(MALFORMED),
            // PORT knows no other family.
            Field::Host if !self.is_long && allowed.client.is_ipv6() => Err(FOREIGN),
            Field::Family(n) if !overlap(values, n.into(), n.into()) => Err(FOREIGN),
            Field::Length(n) if !overlap(values, n.into(), n.into()) => Err(MALFORMED),
            Field::Family(_) | Field::Length(_) => Ok(()),
            Field::Host => allowed.octets(self.host(), values),
            Field::PortHigh => {
                let last = (*values.end()).min(255);
                allowed.ports(&(*values.start() << 8..=(last << 8 | 0xff)))
            }
            Field::PortLow => {
                let last = (*values.end()).min(255);
                allowed.ports(&(self.port_with(*values.start())..=self.port_with(last)))
            }
        }
    }

    fn number_ended(&mut self, allowed: &Allowed) -> Fed {
        let value = self.current.ok_or(MALFORMED)?;
        self.judge(&(value..=value), allowed)?;
        if let Some(slot) = self.numbers.get_mut(self.done) {
            *slot = value as u8; // it was judged not to be above 255
        }
        self.current = None;
        self.done += 1;
        Ok(())
    }

    /// The octets of the address so far.
    fn host(&self) -> &[u8] {
        let begin = if self.is_long { 2 } else { 0 };
        self.numbers.get(begin..self.done).unwrap_or_default()
    }

    fn address(&self, allowed: &Allowed) -> Option<IpAddr> {
        if allowed.client.is_ipv4() {
            self.host().first_chunk::<4>().map(|&octets| octets.into())
        } else {
            let octets = self.host().first_chunk::<16>()?;
            Some(Ipv6Addr::from(*octets).into())
        }
    }

    /// The port, if its low byte is this.
    fn port_with(&self, low: u16) -> u16 {
        let high = self.done.checked_sub(1).and_then(|at| self.numbers.get(at));
        u16::from(high.copied().unwrap_or(0)) << 8 | low
    }
}

impl Field {
    fn is_last(self) -> bool {
        matches!(self, Field::PortLow)
    }
}

/// `|1|192.0.2.1|50000|` of RFC 2428 section 2, with any delimiter.
#[derive(Debug, Default)]
pub(super) struct EprtArgument {
    delimiter: Option<u8>,
    field: u8,
    text: Vec<u8>,
    end: Option<SocketAddr>,
    address: Option<IpAddr>,
}

impl EprtArgument {
    pub(super) fn feed(&mut self, byte: u8, allowed: &Allowed) -> Fed {
        let Some(delimiter) = self.delimiter else {
            return match byte {
                b' ' => Ok(()),
                // A digit, letter, dot or colon as delimiter could be read in two ways.
                33..=126 if !byte.is_ascii_alphanumeric() && !matches!(byte, b'.' | b':') => {
                    self.delimiter = Some(byte);
                    Ok(())
                }
                _ => Err(MALFORMED),
            };
        };
        if byte == delimiter {
            return self.field_ended(allowed);
        }
        if self.field > 2 {
            return if byte == b' ' { Ok(()) } else { Err(MALFORMED) };
        }
        self.text.push(byte);
        match self.field {
            0 if matches!(
                (self.text.as_slice(), allowed.client),
                (b"1", IpAddr::V4(_)) | (b"2", IpAddr::V6(_))
            ) =>
            {
                Ok(())
            }
            0 => Err(FOREIGN),
            1 if self.text.len() <= MAX_ADDRESS_BYTES => Ok(()),
            // Leading zeros are octal to some readers.
            2 if byte.is_ascii_digit() && self.text.first() != Some(&b'0') => Ok(()),
            _ => Err(MALFORMED),
        }?;
        // A port that is too high already can only become higher.
        if self.field == 2 {
            self.port().map(|_| ())
        } else {
            Ok(())
        }
    }

    pub(super) fn finish(&self) -> Result<SocketAddr, &'static str> {
        self.end.ok_or(MALFORMED)
    }

    fn port(&self) -> Result<u16, &'static str> {
        let text = std::str::from_utf8(&self.text).map_err(|_| MALFORMED)?;
        text.parse().map_err(|_| MALFORMED)
    }

    fn field_ended(&mut self, allowed: &Allowed) -> Fed {
        match self.field {
            0 if self.text.is_empty() => return Err(MALFORMED),
            0 => {}
            1 => {
                let text = std::str::from_utf8(&self.text).map_err(|_| MALFORMED)?;
                let address: IpAddr = text.parse().map_err(|_| MALFORMED)?;
                if address.is_ipv4() != allowed.client.is_ipv4() {
                    return Err(FOREIGN);
                }
                allowed.address(address)?;
                self.address = Some(address);
            }
            2 => {
                let port = self.port()?;
                allowed.ports(&(port..=port))?;
                self.end = self.address.map(|address| SocketAddr::new(address, port));
            }
            _ => return Err(MALFORMED),
        }
        self.text.clear();
        self.field += 1;
        Ok(())
    }
}

/// What a number may become when digits follow: `2` may become 2, 20 to 29 or 200 to 255.
fn continuations(value: u16) -> impl Iterator<Item = RangeInclusive<u16>> {
    let times: &[u16] = match value {
        1..=2 => &[1, 10, 100],
        3..=25 => &[1, 10],
        _ => &[1],
    };
    times
        .iter()
        .map(move |times| value * times..=value * times + times - 1)
}

fn overlap(values: &RangeInclusive<u16>, low: u16, high: u16) -> bool {
    *values.start() <= high && low <= *values.end()
}

/// Which bits of the octet at this place a prefix of so many bits fixes.
fn octet_mask(prefix_bits: usize, at: usize) -> u8 {
    let fixed = prefix_bits.saturating_sub(8 * at).min(8);
    u8::MAX.checked_shl(8 - fixed as u32).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const V4: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7));

    fn v6() -> IpAddr {
        "2001:db8::7".parse().unwrap()
    }

    fn allowed(client: IpAddr) -> Allowed {
        let settings = Arc::default();
        Allowed { client, settings }
    }

    fn with(client: IpAddr, change: impl FnOnce(&mut Settings)) -> Allowed {
        let mut settings = Settings::default();
        change(&mut settings);
        Allowed {
            client,
            settings: Arc::new(settings),
        }
    }

    /// Where to, or the refusal and how many bytes it took.
    type Read = Result<SocketAddr, (usize, &'static str)>;

    fn numbers(is_long: bool, allowed: &Allowed, text: &str) -> Read {
        let mut argument = NumbersArgument::new(is_long);
        for (at, byte) in text.bytes().enumerate() {
            argument.feed(byte, allowed).map_err(|why| (at, why))?;
        }
        argument.finish(allowed).map_err(|why| (text.len(), why))
    }

    fn port(text: &str) -> Result<u16, (usize, &'static str)> {
        numbers(false, &allowed(V4), text).map(|to| {
            assert_eq!(to.ip(), V4);
            to.port()
        })
    }

    fn long(client: IpAddr, text: &str) -> Result<u16, (usize, &'static str)> {
        numbers(true, &allowed(client), text).map(|to| {
            assert_eq!(to.ip(), client);
            to.port()
        })
    }

    fn eprt_with(allowed: &Allowed, text: &str) -> Read {
        let mut argument = EprtArgument::default();
        for (at, byte) in text.bytes().enumerate() {
            argument.feed(byte, allowed).map_err(|why| (at, why))?;
        }
        argument.finish().map_err(|why| (text.len(), why))
    }

    fn eprt(client: IpAddr, text: &str) -> Result<u16, (usize, &'static str)> {
        eprt_with(&allowed(client), text).map(|to| to.port())
    }

    #[test]
    fn port_is_refused_at_the_earliest_byte() {
        assert_eq!(port("192,0,2,7,4,0"), Ok(1024));
        assert_eq!(port(" 192,0,2,7,255,255 "), Ok(65_535));
        assert_eq!(port("192,0,2,8,4,0"), Err((8, FOREIGN)));
        assert_eq!(port("19,0,2,7,4,0"), Err((2, FOREIGN)));
        assert_eq!(port("3"), Err((0, FOREIGN)));
        assert_eq!(port("192,0,2,07,4,0"), Err((8, FOREIGN)));
        assert_eq!(port("192,00,2,7,4,0"), Err((5, FOREIGN)));
        assert_eq!(port("10,0,2,7,4,0"), Err((1, FOREIGN)));
        assert_eq!(port("192,0,2,7,3,255"), Err((11, LOW_PORT)));
        assert_eq!(port("192,0,2,7,0,255"), Err((10, LOW_PORT)));
        assert_eq!(port("192,0,2,7,4,256"), Err((14, MALFORMED)));
        assert_eq!(port("192,0,2,7,4,01"), Err((13, MALFORMED)));
        assert_eq!(port("192,0,2,7,04,1"), Err((10, LOW_PORT)));
        assert_eq!(port("1926,0,2,7,4,5"), Err((3, FOREIGN)));
        assert_eq!(port("192,0,2,7,4"), Err((11, MALFORMED)));
        assert_eq!(port("192,0,2,7,4,"), Err((12, MALFORMED)));
        assert_eq!(port("192,0,2,7,4,5,6"), Err((13, MALFORMED)));
        assert_eq!(port("192,0,2,7,4,5 6"), Err((14, MALFORMED)));
        assert_eq!(port("192,0,2,7,\t4,5"), Err((10, MALFORMED)));
        assert_eq!(port("192,,2,7,4,5"), Err((4, MALFORMED)));
        let of_v6 = numbers(false, &allowed(v6()), "32,1,13,184,4,5");
        assert_eq!(of_v6, Err((0, FOREIGN)), "PORT knows IPv4 only");
    }

    #[test]
    fn lprt_is_refused_at_the_earliest_byte() {
        assert_eq!(long(V4, "4,4,192,0,2,7,2,195,80"), Ok(50_000));
        let six = "6,16,32,1,13,184,0,0,0,0,0,0,0,0,0,0,0,7,2,195,80";
        assert_eq!(long(v6(), six), Ok(50_000));
        assert_eq!(long(V4, six), Err((0, FOREIGN)));
        assert_eq!(long(v6(), "4,4,192,0,2,7,2,195,80"), Err((0, FOREIGN)));
        assert_eq!(long(V4, "4,16,192,0,2,7,2,195,80"), Err((2, MALFORMED)));
        assert_eq!(long(V4, "4,4,10,0,0,1,2,195,80"), Err((5, FOREIGN)));
        assert_eq!(long(V4, "4,4,192,0,2,7,3,195,80"), Err((14, MALFORMED)));
        assert_eq!(long(V4, "4,4,192,0,2,7,2,0,80"), Err((16, LOW_PORT)));
        assert_eq!(long(V4, "4,4,192,0,2,7,2,195"), Err((19, MALFORMED)));
        assert_eq!(long(V4, "4,4,192,0,2,7,2,195,80,1"), Err((22, MALFORMED)));
        assert_eq!(long(V4, "16,4"), Err((0, FOREIGN)));
        let last = six.replace(",7,2,", ",8,2,");
        assert_eq!(long(v6(), &last), Err((39, FOREIGN)));
    }

    #[test]
    fn eprt_is_refused_at_the_closing_delimiter() {
        assert_eq!(eprt(V4, "|1|192.0.2.7|5000|"), Ok(5000));
        assert_eq!(eprt(V4, "!1!192.0.2.7!5000!"), Ok(5000));
        assert_eq!(eprt(v6(), "|2|2001:DB8:0::7|5000|"), Ok(5000));
        assert_eq!(eprt(V4, "|1|192.0.2.8|5000|"), Err((12, FOREIGN)));
        assert_eq!(eprt(v6(), "|2|2001:db8::8|5000|"), Err((14, FOREIGN)));
        assert_eq!(eprt(v6(), "|2|::ffff:192.0.2.7|5000|"), Err((19, FOREIGN)));
        assert_eq!(eprt(v6(), "|1|192.0.2.7|5000|"), Err((1, FOREIGN)));
        assert_eq!(
            eprt(v6(), "|2|2001:db8::7%eth0|5000|"),
            Err((19, MALFORMED))
        );
        assert_eq!(eprt(V4, "|1|192.0.2.7|1023|"), Err((17, LOW_PORT)));
        assert_eq!(eprt(V4, "|1|192.0.2.7|65558|"), Err((17, MALFORMED)));
        assert_eq!(eprt(V4, "|1|192.0.2.7|05000|"), Err((13, MALFORMED)));
        assert_eq!(eprt(V4, "|1|192.0.2.7||"), Err((13, MALFORMED)));
        assert_eq!(eprt(V4, "|1|192.0.2.7|5000"), Err((17, MALFORMED)));
        assert_eq!(eprt(V4, "1111.0.2.7|5000|"), Err((0, MALFORMED)));
    }

    #[test]
    fn ports_that_may_be_named_are_the_settings() {
        // 156,64 to 156,164.
        let few = with(V4, |s| s.active_ports = "40000-40100".parse().unwrap());
        let port = |text| numbers(false, &few, text).map(|to| to.port());
        assert_eq!(port("192,0,2,7,156,64"), Ok(40_000));
        assert_eq!(port("192,0,2,7,156,164"), Ok(40_100));
        assert_eq!(
            port("192,0,2,7,156,63"),
            Err((15, OTHER_PORT)),
            "at its end"
        );
        assert_eq!(port("192,0,2,7,156,165"), Err((16, OTHER_PORT)));
        assert_eq!(port("192,0,2,7,156,2"), Err((14, OTHER_PORT)), "can't fit");
        assert_eq!(port("192,0,2,7,157,1"), Err((12, OTHER_PORT)));
        assert_eq!(port("192,0,2,7,4,1"), Err((10, OTHER_PORT)));
        assert_eq!(port("192,0,2,7,15,100"), Err((12, OTHER_PORT)));
        let eprt = |text| eprt_with(&few, text).map(|to| to.port());
        assert_eq!(eprt("|1|192.0.2.7|40100|"), Ok(40_100));
        assert_eq!(eprt("|1|192.0.2.7|40101|"), Err((18, OTHER_PORT)));
        let long = numbers(true, &few, "4,4,192,0,2,7,2,157,1");
        assert_eq!(long, Err((18, OTHER_PORT)));
    }

    #[test]
    fn third_parties_may_be_named_where_the_settings_list_them() {
        let fxp = |text: &'static str| move |s: &mut Settings| s.fxp = text.parse().unwrap();
        let some = with(V4, fxp("198.51.100.32/28,203.0.113.9,2001:db8:f::/48"));
        let port = |text| numbers(false, &some, text);
        let at = |text: &str| Ok(text.parse::<SocketAddr>().unwrap());
        assert_eq!(port("192,0,2,7,195,80"), at("192.0.2.7:50000"));
        assert_eq!(port("198,51,100,33,195,80"), at("198.51.100.33:50000"));
        assert_eq!(port("203,0,113,9,195,80"), at("203.0.113.9:50000"));
        assert_eq!(port("198,51,100,48,195,80"), Err((12, FOREIGN)));
        assert_eq!(port("198,51,100,5,195,80"), Err((11, FOREIGN)));
        // Octets of one prefix and of another make none.
        assert_eq!(port("203,51,"), Err((4, FOREIGN)));
        let eprt = |text| eprt_with(&some, text);
        assert_eq!(eprt("|1|198.51.100.47|5000|"), at("198.51.100.47:5000"));
        assert_eq!(eprt("|1|198.51.100.48|5000|"), Err((16, FOREIGN)));
        assert_eq!(
            eprt("|2|2001:db8:f::1|5000|"),
            Err((1, FOREIGN)),
            "a family"
        );
        let six = with(v6(), fxp("2001:db8:f::/48"));
        let long = "6,16,32,1,13,184,0,15,0,0,0,0,0,0,0,0,0,1,2,195,80";
        assert_eq!(numbers(true, &six, long), at("[2001:db8:f::1]:50000"));
        assert_eq!(
            eprt_with(&six, "|2|2001:db8:f::1|5000|"),
            at("[2001:db8:f::1]:5000")
        );
    }
}
