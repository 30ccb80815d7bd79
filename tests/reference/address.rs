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
        4 => may_become_p1(last),
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

/// A number up to 255 as everybody writes it: some readers take leading zeros for octal.
fn octet(text: &str) -> Option<u8> {
    let number: u8 = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

/// Whether the high half of a port from 1024 on is written so, or may be in the end.
fn may_become_p1(text: &str) -> bool {
    (4..=255).any(|number| number.to_string().starts_with(text))
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
            (2, true) => port_so_far(field).is_some_and(|port| port >= 1024),
            (2, false) => field.is_empty() || port_so_far(field).is_some(),
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
        None if before.len() == right.len() => may_become_p1(last),
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

/// Digits of a port, without leading zeros; more may follow.
fn port_so_far(field: &[u8]) -> Option<u16> {
    let text = std::str::from_utf8(field).ok()?;
    let port: u16 = text.parse().ok()?;
    (port.to_string() == text && port > 0).then_some(port)
}

/// The first list of six numbers (RFC 1123 section 4.1.2.6), parted by commas or dots.
pub fn port_of_227(text: &[u8]) -> Option<u16> {
    let numbers = list_of(6, text, b",.")?;
    Some(u16::from(numbers[4]) * 256 + u16::from(numbers[5]))
}

/// The list of RFC 1639 in a 228: family, length, address, and a port of two octets.
pub fn port_of_228(text: &[u8]) -> Option<u16> {
    for (family, length) in [(4, 4), (6, 16)] {
        let Some(numbers) = list_of(usize::from(length) + 5, text, b",") else {
            continue;
        };
        let (address, port) = numbers.split_at(usize::from(length) + 2);
        if address[..2] == [family, length] && port[0] == 2 {
            return Some(u16::from(port[1]) * 256 + u16::from(port[2]));
        }
    }
    None
}

/// The first list that could be of so many octets, if it has no more than these.
fn list_of(count: usize, text: &[u8], separators: &[u8]) -> Option<Vec<u8>> {
    for list in lists(text, separators) {
        let octets: Option<Vec<u8>> = list
            .iter()
            .take(count)
            .map(|number| number.parse().ok())
            .collect();
        match octets {
            Some(octets) if list.len() == count => return Some(octets),
            Some(_) if list.len() > count => return None,
            _ => {}
        }
    }
    None
}

/// All lists of numbers in a text. Blanks may stand around the separators.
fn lists(text: &[u8], separators: &[u8]) -> Vec<Vec<String>> {
    let mut lists: Vec<Vec<String>> = Vec::new();
    // What stands between the number before and this place.
    let mut between: Option<Vec<u8>> = None;
    for &byte in text {
        if !byte.is_ascii_digit() {
            if let Some(between) = &mut between {
                between.push(byte);
            }
            continue;
        }
        let digit = char::from(byte);
        let is_same_number = between.as_ref().is_some_and(Vec::is_empty);
        let is_same_list = between.as_ref().is_some_and(
            |between| matches!(between.trim_ascii(), [one] if separators.contains(one)),
        );
        if is_same_number {
            let numbers = lists.last_mut().expect("a list has begun");
            numbers.last_mut().expect("a number has begun").push(digit);
        } else if is_same_list {
            let numbers = lists.last_mut().expect("a list has begun");
            numbers.push(digit.to_string());
        } else {
            lists.push(vec![digit.to_string()]);
        }
        between = Some(Vec::new());
    }
    lists
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
