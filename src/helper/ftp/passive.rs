//! The address and port in the replies 227, 228 and 229.

use std::net::{IpAddr, Ipv6Addr};

use super::announce::{LONG_V4, LONG_V6};

/// What separates the numbers of a reply, besides blanks.
type IsSeparator = fn(u8) -> bool;

/// The address and port in the text of a 227 reply: the first six numbers in a row (RFC 1123
/// section 4.1.2.6), with or without parentheses, with commas or, as some servers write, dots.
pub(super) fn data_end_of_227(text: &[u8]) -> Option<(IpAddr, u16)> {
    let [h1, h2, h3, h4, p1, p2] = numbers(text, |byte| matches!(byte, b',' | b'.'))?;
    Some(([h1, h2, h3, h4].into(), u16::from_be_bytes([p1, p2])))
}

/// The address and port in the text of a 228 reply: `(af,hal,h1...,pal,p1,p2)`, RFC 1639.
pub(super) fn data_end_of_228(text: &[u8]) -> Option<(IpAddr, u16)> {
    let is_separator = |byte| byte == b',';
    if let Some([LONG_V4, 4, h1, h2, h3, h4, 2, p1, p2]) = numbers(text, is_separator) {
        return Some(([h1, h2, h3, h4].into(), u16::from_be_bytes([p1, p2])));
    }
    let [LONG_V6, 16, host @ .., 2, p1, p2] = numbers::<21>(text, is_separator)? else {
        return None;
    };
    let host = Ipv6Addr::from(*host.first_chunk::<16>()?);
    Some((host.into(), u16::from_be_bytes([p1, p2])))
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

/// The first `N` numbers up to 255 in a row, if they are neither preceded nor followed by one more:
/// then they are not the `N` we think.
fn numbers<const N: usize>(text: &[u8], is_separator: IsSeparator) -> Option<[u8; N]> {
    let mut at = 0;
    while let Some(rest) = text.get(at..) {
        at += rest.iter().position(u8::is_ascii_digit)?;
        let (before, list) = text.split_at_checked(at)?;
        if !goes_on_from(before, is_separator)
            && let Some((numbers, after)) = list_at(list, is_separator)
        {
            return (!goes_on(after, is_separator)).then_some(numbers);
        }
        at += digits(list);
    }
    None
}

fn list_at<const N: usize>(mut text: &[u8], is_separator: IsSeparator) -> Option<([u8; N], &[u8])> {
    let mut numbers = [0; N];
    for (index, slot) in numbers.iter_mut().enumerate() {
        if index > 0 {
            let [separator, rest @ ..] = text.trim_ascii_start() else {
                return None;
            };
            if !is_separator(*separator) {
                return None;
            }
            text = rest.trim_ascii_start();
        }
        let (number, after) = text.split_at_checked(digits(text))?;
        *slot = std::str::from_utf8(number).ok()?.parse().ok()?;
        text = after;
    }
    Some((numbers, text))
}

/// Whether another number of a list follows.
fn goes_on(after: &[u8], is_separator: IsSeparator) -> bool {
    match after.trim_ascii_start() {
        [separator, rest @ ..] if is_separator(*separator) => rest
            .trim_ascii_start()
            .first()
            .is_some_and(u8::is_ascii_digit),
        _ => false,
    }
}

/// Whether a number of the list stands before.
fn goes_on_from(before: &[u8], is_separator: IsSeparator) -> bool {
    match before.trim_ascii_end() {
        [rest @ .., separator] if is_separator(*separator) => {
            rest.trim_ascii_end().last().is_some_and(u8::is_ascii_digit)
        }
        _ => false,
    }
}

fn digits(text: &[u8]) -> usize {
    text.iter().take_while(|b| b.is_ascii_digit()).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_to_pasv_as_servers_write_them() {
        for (text, expected) in [
            ("Entering Passive Mode (192,0,2,1,156,64).", Some(40_000)),
            ("Entering Passive Mode (192,0,2,1,156,64)", Some(40_000)),
            ("entering passive mode (192,0,2,1,156,64)", Some(40_000)),
            ("192,0,2,1,156,64", Some(40_000)),
            ("(192,0,2,1,156,64)", Some(40_000)),
            ("=192,0,2,1,156,64", Some(40_000)),
            ("Entering passive mode. 192,0,2,1,156,64", Some(40_000)),
            (
                "Entering Passive Mode( 192, 0, 2, 1, 143,225).",
                Some(36_833),
            ),
            ("passive 192.0.2.1.143.225", Some(36_833)),
            ("Passive mode 2 (192,0,2,1,156,64)", Some(40_000)),
            ("Entering Passive Mode (192,0,2,1,156)", None),
            ("Entering Passive Mode (192,0,2,1,156,256)", None),
            ("Entering Passive Mode (192,0,2,1216,156,6)", None),
            ("Mode (192,0,2,1,156,6,7)", None),
            ("Mode (300,192,0,2,1,156,6)", None),
            ("Mode (300, 192,0,2,1,156,6)", None),
            ("no numbers", None),
            ("", None),
        ] {
            let read = data_end_of_227(text.as_bytes());
            let address = read.map(|(address, _)| address.to_string());
            assert_eq!(read.map(|(_, port)| port), expected, "{text}");
            assert!(address.is_none_or(|a| a == "192.0.2.1"), "{text}");
        }
    }

    #[test]
    fn replies_to_lpsv() {
        for (text, expected) in [
            (
                "Entering Long Passive Mode (4,4,192,0,2,1,2,156,64)",
                Some("192.0.2.1"),
            ),
            (
                "mode ( 4, 4, 192, 0, 2, 1, 2, 156, 64 ).",
                Some("192.0.2.1"),
            ),
            (
                "Mode (6,16,32,1,13,184,0,0,0,0,0,0,0,0,0,0,0,1,2,156,64)",
                Some("2001:db8::1"),
            ),
            ("Mode (4,4,192,0,2,1,3,156,64)", None),
            ("Mode (4,4,192,0,2,1,2,156,64,1)", None),
            ("Mode (5,4,192,0,2,1,2,156,64)", None),
            ("Mode (6,4,192,0,2,1,2,156,64)", None),
            ("Mode (4.4.192.0.2.1.2.156.64)", None),
            ("Mode (192,0,2,1,156,64)", None),
        ] {
            let read = data_end_of_228(text.as_bytes());
            let shown = read.map(|(address, _)| address.to_string());
            assert_eq!(shown.as_deref(), expected, "{text}");
            assert!(read.is_none_or(|(_, port)| port == 40_000), "{text}");
        }
    }

    #[test]
    fn replies_to_epsv() {
        for (text, expected) in [
            ("Entering Extended Passive Mode (|||6446|)", Some(6446)),
            ("Entering Extended Passive Mode (|||6446|).", Some(6446)),
            ("Extended Passive mode OK (|||6446|)", Some(6446)),
            ("mode 2 (!!!6446!)", Some(6446)),
            ("(|||65558|)", None),
            ("(|||1000000|)", None),
            ("(|1||6446|)", None),
            ("(|||6446)", None),
            ("|||6446|", None),
            ("(||||)", None),
            ("(11164461)", None),
        ] {
            assert_eq!(port_of_229(text.as_bytes()), expected, "{text}");
        }
    }
}
