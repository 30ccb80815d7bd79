//! The arguments of PORT and EPRT, judged byte by byte, and the address in 227 and 229.

use std::net::{IpAddr, SocketAddr};

/// Ports below this are the system's (RFC 6335 section 6): data never goes there (RFC 2577
/// section 3).
pub(super) const FIRST_DATA_PORT: u16 = 1024;

pub(super) const FOREIGN: &str = "it names an address that is not the client's own (FTP bounce)";
pub(super) const LOW_PORT: &str = "it names a port below 1024";
pub(super) const MALFORMED: &str = "its address or port is malformed";

/// A refusal, as early as the bytes allow it.
pub(super) type Fed = Result<(), &'static str>;

/// `h1,h2,h3,h4,p1,p2` of RFC 959 section 4.1.2.
#[derive(Debug)]
pub(super) struct PortArgument {
    client: IpAddr,
    numbers: [u8; 6],
    done: usize,
    current: Option<u16>,
    digits: u8,
    ended: bool,
}

impl PortArgument {
    pub(super) fn new(client: IpAddr) -> PortArgument {
        let numbers = [0; 6];
        PortArgument {
            client,
            numbers,
            done: 0,
            current: None,
            digits: 0,
            ended: false,
        }
    }

    pub(super) fn feed(&mut self, byte: u8) -> Fed {
        match byte {
            b'0'..=b'9' if !self.ended => {
                let value = self.current.unwrap_or(0) * 10 + u16::from(byte - b'0');
                self.digits += 1;
                self.current = Some(value);
                if self.done < 4 {
                    return self.is_on_the_way_to_the_client(value);
                }
                // Three digits are enough, and leading zeros are octal to some readers.
                if value > 255 || self.digits > 3 {
                    return Err(MALFORMED);
                }
                Ok(())
            }
            b',' if !self.ended && self.done < 5 => self.number_ended(),
            b' ' if self.done == 0 && self.current.is_none() => Ok(()),
            b' ' if self.done == 5 && self.current.is_some() => {
                self.ended = true;
                Ok(())
            }
            _ => Err(MALFORMED),
        }
    }

    pub(super) fn finish(&self) -> Result<SocketAddr, &'static str> {
        let [.., p1, _] = self.numbers;
        match self.current {
            // Not above 255: every digit was checked.
            Some(p2) if self.done == 5 => {
                let port = u16::from(p1) << 8 | p2;
                Ok(SocketAddr::new(self.client, port))
            }
            _ => Err(MALFORMED),
        }
    }

    /// An octet is written in one way only, so the first digit that differs decides.
    fn is_on_the_way_to_the_client(&self, value: u16) -> Fed {
        let IpAddr::V4(client) = self.client else {
            return Err(FOREIGN);
        };
        let mut octet = client.octets().get(self.done).copied().map_or(0, u16::from);
        while octet > value && value > 0 {
            octet /= 10;
        }
        let has_leading_zero = self.digits > 1 && value < 10 || self.digits > 2 && value < 100;
        if octet == value && !has_leading_zero {
            Ok(())
        } else {
            Err(FOREIGN)
        }
    }

    fn number_ended(&mut self) -> Fed {
        let value = self.current.take().ok_or(MALFORMED)? as u8;
        self.digits = 0;
        let index = self.done;
        if let Some(slot) = self.numbers.get_mut(index) {
            *slot = value;
        }
        self.done += 1;
        match (index, self.client) {
            (0..=3, IpAddr::V4(client)) if client.octets().get(index) != Some(&value) => {
                Err(FOREIGN)
            }
            (0..=3, IpAddr::V6(_)) => Err(FOREIGN),
            (4, _) if u16::from(value) < FIRST_DATA_PORT >> 8 => Err(LOW_PORT),
            _ => Ok(()),
        }
    }
}

/// `|1|192.0.2.1|50000|` of RFC 2428 section 2, with any delimiter.
#[derive(Debug)]
pub(super) struct EprtArgument {
    client: IpAddr,
    delimiter: Option<u8>,
    field: u8,
    text: Vec<u8>,
    port: u16,
}

/// The longest address is that of RFC 4291 section 2.2 (3).
const MAX_ADDRESS_BYTES: usize = 45;

impl EprtArgument {
    pub(super) fn new(client: IpAddr) -> EprtArgument {
        EprtArgument {
            client,
            delimiter: None,
            field: 0,
            text: Vec::new(),
            port: 0,
        }
    }

    pub(super) fn feed(&mut self, byte: u8) -> Fed {
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
            return self.field_ended();
        }
        if self.field > 2 {
            return if byte == b' ' { Ok(()) } else { Err(MALFORMED) };
        }
        self.text.push(byte);
        match self.field {
            0 if matches!(
                (self.text.as_slice(), self.client),
                (b"1", IpAddr::V4(_)) | (b"2", IpAddr::V6(_))
            ) =>
            {
                Ok(())
            }
            0 => Err(FOREIGN),
            1 if self.text.len() <= MAX_ADDRESS_BYTES => Ok(()),
            2 if byte.is_ascii_digit() && self.text.len() <= 5 => Ok(()),
            _ => Err(MALFORMED),
        }
    }

    pub(super) fn finish(&self) -> Result<SocketAddr, &'static str> {
        if self.field != 3 {
            return Err(MALFORMED);
        }
        Ok(SocketAddr::new(self.client, self.port))
    }

    fn field_ended(&mut self) -> Fed {
        let text = std::mem::take(&mut self.text);
        let text = std::str::from_utf8(&text).map_err(|_| MALFORMED)?;
        match self.field {
            0 if text.is_empty() => return Err(MALFORMED),
            0 => {}
            1 => {
                let address: IpAddr = text.parse().map_err(|_| MALFORMED)?;
                if address != self.client {
                    return Err(FOREIGN);
                }
            }
            2 => {
                self.port = text.parse().map_err(|_| MALFORMED)?;
                if self.port < FIRST_DATA_PORT {
                    return Err(LOW_PORT);
                }
            }
            _ => return Err(MALFORMED),
        }
        self.field += 1;
        Ok(())
    }
}

/// The port in the text of a 227 reply: the last two of six numbers, of which the first stands at
/// the first digit of the text (RFC 1123 section 4.1.2.6). The address is not looked at: data goes
/// to the server's own.
pub(super) fn port_of_227(text: &[u8]) -> Option<u16> {
    let start = text.iter().position(u8::is_ascii_digit)?;
    let mut rest = text.get(start..)?;
    let mut numbers = [0u8; 6];
    for (index, slot) in numbers.iter_mut().enumerate() {
        if index > 0 {
            rest = trim(
                rest.strip_prefix(b",")
                    .or_else(|| rest.strip_prefix(b"."))?,
            );
        }
        let digits = rest.iter().take_while(|b| b.is_ascii_digit()).count();
        let (number, after) = rest.split_at_checked(digits)?;
        *slot = std::str::from_utf8(number).ok()?.parse().ok()?;
        rest = if index < 5 { trim(after) } else { after };
    }
    let [.., p1, p2] = numbers;
    // A seventh number would mean that these are not the six we think.
    match rest {
        [b',' | b'.', next, ..] if next.is_ascii_digit() => None,
        _ => Some(u16::from_be_bytes([p1, p2])),
    }
}

/// The port in the text of a 229 reply: `(<d><d><d>port<d>)`, RFC 2428 section 3.
pub(super) fn port_of_229(text: &[u8]) -> Option<u16> {
    let open = text.iter().position(|&b| b == b'(')?;
    let [d, e, f, rest @ ..] = text.get(open + 1..)? else {
        return None;
    };
    if d != e || d != f || !(33..=126).contains(d) || d.is_ascii_digit() {
        return None;
    }
    let digits = rest.iter().take_while(|b| b.is_ascii_digit()).count();
    let (number, after) = rest.split_at_checked(digits)?;
    if after.first() != Some(d) || after.get(1) != Some(&b')') {
        return None;
    }
    std::str::from_utf8(number).ok()?.parse().ok()
}

fn trim(bytes: &[u8]) -> &[u8] {
    bytes.trim_ascii_start()
}

#[cfg(test)]
mod tests {
    use super::*;

    const V4: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7));

    fn v6() -> IpAddr {
        "2001:db8::7".parse().unwrap()
    }

    /// The port, or the refusal and how many bytes it took.
    fn port(text: &str) -> Result<u16, (usize, &'static str)> {
        let mut argument = PortArgument::new(V4);
        for (at, byte) in text.bytes().enumerate() {
            argument.feed(byte).map_err(|why| (at, why))?;
        }
        argument
            .finish()
            .map(|a| a.port())
            .map_err(|why| (text.len(), why))
    }

    fn eprt(client: IpAddr, text: &str) -> Result<u16, (usize, &'static str)> {
        let mut argument = EprtArgument::new(client);
        for (at, byte) in text.bytes().enumerate() {
            argument.feed(byte).map_err(|why| (at, why))?;
        }
        argument
            .finish()
            .map(|a| a.port())
            .map_err(|why| (text.len(), why))
    }

    #[test]
    fn port_is_refused_at_the_earliest_byte() {
        assert_eq!(port("192,0,2,7,4,0"), Ok(1024));
        assert_eq!(port(" 192,0,2,7,255,255 "), Ok(65_535));
        assert_eq!(port("192,0,2,8,4,0"), Err((8, FOREIGN)));
        assert_eq!(port("19,0,2,7,4,0"), Err((2, FOREIGN)));
        assert_eq!(port("192,0,2,07,4,0"), Err((8, FOREIGN)));
        assert_eq!(port("192,00,2,7,4,0"), Err((5, FOREIGN)));
        assert_eq!(port("10,0,2,7,4,0"), Err((1, FOREIGN)));
        assert_eq!(port("192,0,2,7,3,255"), Err((11, LOW_PORT)));
        assert_eq!(port("192,0,2,7,4,256"), Err((14, MALFORMED)));
        assert_eq!(port("1926,0,2,7,4,5"), Err((3, FOREIGN)));
        assert_eq!(port("192,0,2,7,4"), Err((11, MALFORMED)));
        assert_eq!(port("192,0,2,7,4,"), Err((12, MALFORMED)));
        assert_eq!(port("192,0,2,7,4,5,6"), Err((13, MALFORMED)));
        assert_eq!(port("192,0,2,7,4,5 6"), Err((14, MALFORMED)));
        assert_eq!(port("192,0,2,7,\t4,5"), Err((10, MALFORMED)));
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
        assert_eq!(eprt(V4, "|1|192.0.2.7|65558|"), Err((18, MALFORMED)));
        assert_eq!(eprt(V4, "|1|192.0.2.7|5000"), Err((17, MALFORMED)));
        assert_eq!(eprt(V4, "1111.0.2.7|5000|"), Err((0, MALFORMED)));
    }

    #[test]
    fn replies_as_servers_write_them() {
        for (text, expected) in [
            ("Entering Passive Mode (192,0,2,1,156,64).", Some(40_000)),
            ("Entering Passive Mode (192,0,2,1,156,64)", Some(40_000)),
            ("192,0,2,1,156,64", Some(40_000)),
            ("=192,0,2,1,156,64", Some(40_000)),
            ("Entering Passive Mode( 1, 2, 3, 4, 143,225).", Some(36_833)),
            ("passive 1.2.3.4.143.225", Some(36_833)),
            ("Entering Passive Mode (192,0,2,1,156)", None),
            ("Entering Passive Mode (192,0,2,1,156,256)", None),
            ("Entering Passive Mode (192,0,2,1216,156,6)", None),
            ("Mode (192,0,2,1,156,6,7)", None),
            ("no numbers", None),
        ] {
            assert_eq!(port_of_227(text.as_bytes()), expected, "{text}");
        }
        for (text, expected) in [
            ("Entering Extended Passive Mode (|||6446|)", Some(6446)),
            ("Extended Passive mode OK (|||6446|).", Some(6446)),
            ("mode 2 (!!!6446!)", Some(6446)),
            ("(|||65558|)", None),
            ("(|||1000000|)", None),
            ("(|1||6446|)", None),
            ("(|||6446)", None),
            ("|||6446|", None),
            ("(||||)", None),
        ] {
            assert_eq!(port_of_229(text.as_bytes()), expected, "{text}");
        }
    }
}
