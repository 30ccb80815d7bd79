//! The addresses in commands and replies, by the letter of their RFCs.

use std::net::IpAddr;

/// Whether no continuation of this argument of PORT could be right. `is_whole`: there is none.
pub fn is_port_bad(argument: &[u8], client: IpAddr, is_whole: bool) -> bool {
    let Ok(text) = std::str::from_utf8(argument) else {
        return true;
    };
    let text = text.trim_start_matches(' ');
    let IpAddr::V4(client) = client else {
        return is_whole || !text.is_empty();
    };
    let fields: Vec<&str> = text.split(',').collect();
    let (last, before) = fields.split_last().expect("a split has a part");
    let octets = client.octets().map(|octet| octet.to_string());
    for (number, field) in before.iter().enumerate() {
        let is_right = match number {
            0..=3 => *field == octets[number],
            4 => octet(field).is_some_and(|p1| p1 >= 4),
            _ => false,
        };
        if !is_right {
            return true;
        }
    }
    let number = before.len();
    let could_be = match number {
        0..=3 => octets[number].starts_with(last),
        4 => last.is_empty() || octet(last).is_some(),
        5 if is_whole => octet(last.trim_end_matches(' ')).is_some(),
        5 => last.is_empty() || octet(last.trim_end_matches(' ')).is_some(),
        _ => false,
    };
    !could_be || (is_whole && number != 5)
}

/// The port of a right argument of PORT.
pub fn port_of_port(argument: &[u8]) -> Option<u16> {
    let text = std::str::from_utf8(argument).ok()?.trim_matches(' ');
    let fields: Option<Vec<u8>> = text.split(',').map(octet).collect();
    let fields = fields.filter(|fields| fields.len() == 6)?;
    Some(u16::from(fields[4]) * 256 + u16::from(fields[5]))
}

/// One to three digits, at most 255.
fn octet(text: &str) -> Option<u8> {
    let is_number = (1..=3).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    if is_number { text.parse().ok() } else { None }
}

/// Whether no continuation of this argument of EPRT could be right.
pub fn is_eprt_bad(argument: &[u8], client: IpAddr, is_whole: bool) -> bool {
    let start = argument.iter().take_while(|&&b| b == b' ').count();
    let argument = &argument[start..];
    let Some((&delimiter, rest)) = argument.split_first() else {
        return is_whole;
    };
    let could_be_field = delimiter.is_ascii_alphanumeric() || matches!(delimiter, b'.' | b':');
    if !(33..=126).contains(&delimiter) || could_be_field {
        return true;
    }
    let fields: Vec<&[u8]> = rest.split(|&b| b == delimiter).collect();
    let family: &[u8] = if client.is_ipv4() { b"1" } else { b"2" };
    for (number, field) in fields.iter().enumerate() {
        let is_closed = number + 1 < fields.len();
        let is_right = match (number, is_closed) {
            (0, true) => *field == family,
            (0, false) => family.starts_with(field),
            (1, true) => {
                let text = std::str::from_utf8(field).ok();
                text.and_then(|text| text.parse().ok()) == Some(client)
            }
            // The longest way to write an address has 45 characters.
            (1, false) => field.len() <= 45,
            (2, true) => number_up_to(field, 5).is_some_and(|port| (1024..65_536).contains(&port)),
            (2, false) => field.is_empty() || number_up_to(field, 5).is_some(),
            (3, false) => field.iter().all(|&b| b == b' '),
            _ => false,
        };
        if !is_right {
            return true;
        }
    }
    is_whole && fields.len() != 4
}

/// The port of a right argument of EPRT.
pub fn port_of_eprt(argument: &[u8]) -> Option<u16> {
    let text = std::str::from_utf8(argument).ok()?.trim_matches(' ');
    let delimiter = text.chars().next()?;
    text.split(delimiter).nth(3)?.parse().ok()
}

/// Whether no continuation of this argument of LPRT could be right (RFC 1639): family, address
/// length, address, port length, port; all as octets.
pub fn is_lprt_bad(argument: &[u8], client: IpAddr, is_whole: bool) -> bool {
    let Ok(text) = std::str::from_utf8(argument) else {
        return true;
    };
    let text = text.trim_start_matches(' ');
    let right: Vec<String> = match client {
        IpAddr::V4(ip) => [4, 4]
            .into_iter()
            .chain(ip.octets())
            .chain([2])
            .map(|n| n.to_string())
            .collect(),
        IpAddr::V6(ip) => [6, 16]
            .into_iter()
            .chain(ip.octets())
            .chain([2])
            .map(|n| n.to_string())
            .collect(),
    };
    let fields: Vec<&str> = text.split(',').collect();
    let (last, before) = fields.split_last().expect("a split has a part");
    for (number, field) in before.iter().enumerate() {
        let is_right = match right.get(number) {
            Some(right) => field == right,
            None if number == right.len() => octet(field).is_some_and(|p1| p1 >= 4),
            None => false,
        };
        if !is_right {
            return true;
        }
    }
    let could_be = match right.get(before.len()) {
        Some(right) => right.starts_with(last),
        None if before.len() == right.len() => last.is_empty() || octet(last).is_some(),
        None if before.len() == right.len() + 1 => {
            let digits = last.trim_end_matches(' ');
            (last.is_empty() && !is_whole) || octet(digits).is_some()
        }
        None => false,
    };
    !could_be || (is_whole && before.len() != right.len() + 1)
}

/// The port of a right argument of LPRT: its last two octets.
pub fn port_of_lprt(argument: &[u8]) -> Option<u16> {
    let text = std::str::from_utf8(argument).ok()?.trim_matches(' ');
    let mut fields = text.rsplit(',').map(octet);
    let (low, high) = (fields.next()??, fields.next()??);
    Some(u16::from(high) * 256 + u16::from(low))
}

/// Digits, at most so many.
fn number_up_to(field: &[u8], digits: usize) -> Option<u32> {
    let is_number = (1..=digits).contains(&field.len()) && field.iter().all(u8::is_ascii_digit);
    let text = std::str::from_utf8(field).ok()?;
    if is_number { text.parse().ok() } else { None }
}

/// Six numbers from the first digit on (RFC 1123 section 4.1.2.6), parted by commas or dots.
pub fn port_of_227(text: &[u8]) -> Option<u16> {
    let numbers = numbers_from_first_digit(text)?;
    match numbers[..] {
        [_, _, _, _, p1, p2] => Some(u16::from(p1) * 256 + u16::from(p2)),
        _ => None,
    }
}

/// The numbers of RFC 1639 in a 228: a port of two octets at the end.
pub fn port_of_228(text: &[u8]) -> Option<u16> {
    let open = text.iter().position(|&b| b == b'(')?;
    let numbers = numbers_from_first_digit(&text[open..])?;
    let [family, length, rest @ ..] = &numbers[..] else {
        return None;
    };
    if !matches!((family, length), (4, 4) | (6, 16)) {
        return None;
    }
    match rest.get(usize::from(*length)..)? {
        [2, p1, p2] => Some(u16::from(*p1) * 256 + u16::from(*p2)),
        _ => None,
    }
}

/// All numbers of a list that begins at the first digit; none if one of them is above 255.
fn numbers_from_first_digit(text: &[u8]) -> Option<Vec<u8>> {
    let mut at = text.iter().position(u8::is_ascii_digit)?;
    let mut numbers = Vec::new();
    loop {
        let end = at + text[at..].iter().take_while(|b| b.is_ascii_digit()).count();
        let number = std::str::from_utf8(&text[at..end]).ok()?;
        numbers.push(number.parse().ok()?);
        // Blanks may stand around the separator, but what follows the last number is no concern.
        let skip = |mut at: usize| {
            while text.get(at).is_some_and(u8::is_ascii_whitespace) {
                at += 1;
            }
            at
        };
        let separator = skip(end);
        if !matches!(text.get(separator), Some(b',' | b'.')) {
            return Some(numbers);
        }
        at = skip(separator + 1);
        if !text.get(at).is_some_and(u8::is_ascii_digit) {
            return Some(numbers);
        }
    }
}

/// `(<d><d><d>port<d>)` (RFC 2428 section 3).
pub fn port_of_229(text: &[u8]) -> Option<u16> {
    let text = String::from_utf8_lossy(text);
    let (_, inner) = text.split_once('(')?;
    let delimiter = inner.chars().next()?;
    if !('!'..='~').contains(&delimiter) || delimiter.is_ascii_digit() {
        return None;
    }
    let fields: Vec<&str> = inner.split(delimiter).collect();
    let ["", "", "", port, after, ..] = fields[..] else {
        return None;
    };
    let is_number = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
    if is_number && after.starts_with(')') {
        port.parse().ok()
    } else {
        None
    }
}
