//! Words to numbers: ports, addresses, prefixes, types.

use std::fmt::Display;
use std::net::{Ipv4Addr, Ipv6Addr};

use super::names::{self, nearest, number_of};
use super::program::mac_number;

/// Why a word is no value of its field.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) message: String,
    pub(super) hint: String,
}

fn fault<T>(message: impl Into<String>, hint: impl Into<String>) -> Result<T, Fault> {
    Err(Fault {
        message: message.into(),
        hint: hint.into(),
    })
}

/// A value as the interval it covers; more than one number only for a prefix.
pub(super) type Value<T> = Result<(T, T), Fault>;

/// A field whose values are small numbers, some with names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Numbers {
    /// What a value is called in messages.
    pub(super) what: &'static str,
    pub(super) names: names::Names,
    /// The largest number; 0 if only names are values.
    pub(super) max: u16,
}

pub(super) const PORT: Numbers = Numbers {
    what: "a port",
    names: names::SERVICES,
    max: u16::MAX,
};
pub(super) const PROTOCOL: Numbers = Numbers {
    what: "a protocol",
    names: names::PROTOCOLS,
    max: 255,
};
pub(super) const ETHERTYPE: Numbers = Numbers {
    what: "an Ethernet type",
    names: names::ETHERTYPES,
    max: u16::MAX,
};
pub(super) const ICMP_TYPE: Numbers = Numbers {
    what: "an ICMP type",
    names: names::ICMP_TYPES,
    max: 255,
};
pub(super) const ICMPV6_TYPE: Numbers = Numbers {
    what: "an ICMPv6 type",
    names: names::ICMPV6_TYPES,
    max: 255,
};
pub(super) const ICMP_CODE: Numbers = Numbers {
    what: "an ICMP code",
    names: names::ICMP_CODES,
    max: 255,
};
pub(super) const ICMPV6_CODE: Numbers = Numbers {
    what: "an ICMPv6 code",
    names: names::ICMPV6_CODES,
    max: 255,
};
pub(super) const ICMPX_CODE: Numbers = Numbers {
    what: "an icmpx code",
    names: names::ICMPX_CODES,
    max: 3,
};
pub(super) const HOP_LIMIT: Numbers = Numbers {
    what: "a hop limit",
    names: &[],
    max: 255,
};
pub(super) const LENGTH: Numbers = Numbers {
    what: "a length",
    names: &[],
    max: u16::MAX,
};
pub(super) const VLAN_ID: Numbers = Numbers {
    what: "a VLAN id",
    names: &[],
    max: 4095,
};
pub(super) const VLAN_PCP: Numbers = Numbers {
    what: "a VLAN priority",
    names: &[],
    max: 7,
};
pub(super) const ARP_OPERATION: Numbers = Numbers {
    what: "an ARP operation",
    names: names::ARP_OPERATIONS,
    max: u16::MAX,
};
pub(super) const DSCP: Numbers = Numbers {
    what: "a DSCP",
    names: names::DSCPS,
    max: 63,
};
pub(super) const TCP_FLAG: Numbers = Numbers {
    what: "a TCP flag",
    names: names::TCP_FLAGS,
    max: 255,
};
pub(super) const NFPROTO: Numbers = Numbers {
    what: "a family",
    names: names::NFPROTOS,
    max: 0,
};
pub(super) const CT_DIRECTION: Numbers = Numbers {
    what: "a direction",
    names: names::CT_DIRECTIONS,
    max: 1,
};
pub(super) const CT_STATE: Numbers = Numbers {
    what: "a state",
    names: names::CT_STATES,
    max: 0,
};
pub(super) const LOG_LEVEL: Numbers = Numbers {
    what: "a log level",
    names: names::LOG_LEVELS,
    max: 0,
};

impl Numbers {
    pub(super) fn value(&self, word: &str) -> Value<u16> {
        if let Some(number) = number_of(self.names, word) {
            return Ok((number, number));
        }
        if self.max > 0 && word.starts_with(|c: char| c.is_ascii_digit()) {
            let number = self.number(word)?;
            return Ok((number, number));
        }
        let hint = match nearest(self.names.iter().map(|&(name, _)| name), word) {
            Some(name) => format!("did you mean `{name}`?"),
            None if self.names.is_empty() => "write the number".to_owned(),
            None if self.max == 0 => format!("one of: {}", names::list(self.names)),
            None => format!("write the number, or one of: {}", names::list(self.names)),
        };
        fault(
            format!("`{}` is not {}", word.escape_debug(), self.what),
            hint,
        )
    }

    fn number(&self, word: &str) -> Result<u16, Fault> {
        let (digits, radix) = match word.strip_prefix("0x") {
            Some(digits) => (digits, 16),
            None => (word, 10),
        };
        let decimal = radix == 10;
        if digits.is_empty() || !digits.chars().all(|c| c.is_digit(radix)) {
            return fault(
                format!("`{word}` is not {}", self.what),
                "write a whole number",
            );
        }
        if decimal && digits.len() > 1 && digits.starts_with('0') {
            let hint = "nft reads it as octal: write it without the leading zero";
            return fault(format!("`{word}` can be read in two ways"), hint);
        }
        match u16::from_str_radix(digits, radix) {
            Ok(number) if number <= self.max => Ok(number),
            _ => fault(
                format!("`{word}` is too large for {}", self.what),
                at_most(self.max),
            ),
        }
    }
}

pub(super) fn ipv4(word: &str) -> Value<u32> {
    let (address, bits) = prefix(word, 32)?;
    let Ok(address) = address.parse::<Ipv4Addr>() else {
        if address.parse::<Ipv6Addr>().is_ok() {
            return fault(
                format!("`{word}` is an IPv6 address"),
                "IPv4 is meant here: write `ip6 saddr|daddr`, or a set of the type ipv6_addr",
            );
        }
        return no_address(word, "an IPv4 address", "192.0.2.1", "192.0.2.0/24");
    };
    let mask = u32::MAX.checked_shr(bits).unwrap_or(0);
    Ok((address.to_bits() & !mask, address.to_bits() | mask))
}

pub(super) fn ipv6(word: &str) -> Value<u128> {
    let (address, bits) = prefix(word, 128)?;
    let Ok(address) = address.parse::<Ipv6Addr>() else {
        if address.parse::<Ipv4Addr>().is_ok() {
            return fault(
                format!("`{word}` is an IPv4 address"),
                "IPv6 is meant here: write `ip saddr|daddr`, or a set of the type ipv4_addr",
            );
        }
        return no_address(word, "an IPv6 address", "2001:db8::1", "2001:db8::/64");
    };
    let mask = u128::MAX.checked_shr(bits).unwrap_or(0);
    Ok((address.to_bits() & !mask, address.to_bits() | mask))
}

pub(super) fn mac(word: &str) -> Value<u64> {
    let mut bytes = [0u8; 6];
    let mut groups = word.split(':');
    let read = bytes.iter_mut().try_for_each(|byte| {
        let group = groups.next().filter(|g| matches!(g.len(), 1 | 2))?;
        *byte = group
            .bytes()
            .all(|b| b.is_ascii_hexdigit())
            .then(|| u8::from_str_radix(group, 16).ok())
            .flatten()?;
        Some(())
    });
    if read.is_none() || groups.next().is_some() {
        let hint = "write six bytes: 00:53:00:12:34:56";
        return fault(
            format!("`{}` is not a MAC address", word.escape_debug()),
            hint,
        );
    }
    let number = mac_number(bytes);
    Ok((number, number))
}

fn prefix(word: &str, max_bits: u32) -> Result<(&str, u32), Fault> {
    let Some((address, bits)) = word.split_once('/') else {
        return Ok((word, max_bits));
    };
    let plain = !bits.is_empty() && bits.bytes().all(|b| b.is_ascii_digit());
    match bits.parse() {
        Ok(bits) if plain && bits <= max_bits => Ok((address, bits)),
        _ => fault(
            format!("`/{}` is not a prefix length", bits.escape_debug()),
            at_most(max_bits),
        ),
    }
}

fn no_address<T>(word: &str, what: &str, example: &str, prefix: &str) -> Result<T, Fault> {
    let hint = if word.starts_with(|c: char| c.is_ascii_alphabetic()) && !word.contains(':') {
        "lotus asks no DNS: write the address".to_owned()
    } else {
        format!("for example {example}, or {prefix}")
    };
    fault(format!("`{}` is not {what}", word.escape_debug()), hint)
}

fn at_most(max: impl Display) -> String {
    format!("at most {max}")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn numbers_by_digits_hex_and_name() {
        assert_eq!(PORT.value("21"), Ok((21, 21)));
        assert_eq!(PORT.value("ftp"), Ok((21, 21)));
        assert_eq!(ETHERTYPE.value("0x88cc"), Ok((0x88cc, 0x88cc)));
        assert_eq!(ETHERTYPE.value("8021q"), Ok((0x8100, 0x8100)));
        assert_eq!(ICMPV6_TYPE.value("mld-listener-reduction"), Ok((132, 132)));
        let hint = |numbers: Numbers, word| numbers.value(word).unwrap_err().hint;
        assert_eq!(hint(PORT, "65536"), "at most 65535");
        assert_eq!(hint(PROTOCOL, "0x100"), "at most 255");
        assert_eq!(hint(PORT, "htttp"), "did you mean `http`?");
        assert!(hint(PORT, "021").contains("octal"));
        assert!(hint(ICMP_TYPE, "ping").contains("echo-request"));
        assert_eq!(hint(NFPROTO, "2"), "one of: ipv4, ipv6");
        assert_eq!(
            hint(CT_STATE, "1"),
            "one of: invalid, established, related, new, untracked"
        );
    }

    #[test]
    fn addresses_and_prefixes() {
        assert_eq!(ipv4("10.1.2.3"), Ok((0x0a01_0203, 0x0a01_0203)));
        // Host bits are cut, as nft cuts them.
        assert_eq!(ipv4("10.1.2.3/8"), Ok((0x0a00_0000, 0x0aff_ffff)));
        assert_eq!(ipv4("10.1.2.3/0"), Ok((0, u32::MAX)));
        assert_eq!(ipv6("::/0"), Ok((0, u128::MAX)));
        assert_eq!(ipv6("::1:0/112"), Ok((0x1_0000, 0x1_ffff)));
        assert_eq!(
            mac("01:80:c2:0:00:0F"),
            Ok((0x0180_c200_000f, 0x0180_c200_000f))
        );
        for bad in [
            "10.0.0.0/33",
            "10.0.0.0/",
            "10.0.0.0/+8",
            "10.0.0",
            "host.example",
            "::1",
        ] {
            assert!(ipv4(bad).is_err(), "{bad}");
        }
        for bad in ["::/129", "10.0.0.1", "fe80", ":::", "fe80::1%eth0"] {
            assert!(ipv6(bad).is_err(), "{bad}");
        }
        for bad in [
            "01:80:c2:00:00",
            "01:80:c2:00:00:00:00",
            "+1:80:c2:00:00:00",
            "x",
            "",
        ] {
            assert!(mac(bad).is_err(), "{bad}");
        }
    }
}
