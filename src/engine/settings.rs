use std::time::Duration;

use crate::{conntrack, helper::ftp};

/// Limits and times of connection tracking and the helper.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Flows, timeouts, fragments.
    pub conntrack: conntrack::Settings,
    /// The FTP helper.
    pub ftp: ftp::Settings,
}

/// A setting that could not be made.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SettingError {
    /// There is none of this name.
    #[error("there is no setting '{0}'")]
    Unknown(String),
    /// The value can't be read.
    #[error("'{value}' is no value for {name}: {expected} is expected")]
    Value {
        /// The setting.
        name: &'static str,
        /// What was given.
        value: String,
        /// What it takes.
        expected: &'static str,
    },
}

/// One setting, to be listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingHelp {
    /// Its name.
    pub name: &'static str,
    /// Its value.
    pub value: String,
    /// What it does.
    pub help: &'static str,
}

struct Entry {
    name: &'static str,
    help: &'static str,
    field: fn(&mut Settings) -> Field<'_>,
}

/// The types that a setting can have.
enum Field<'a> {
    Count(&'a mut usize),
    Seconds(&'a mut Duration),
    Switch(&'a mut bool),
}

macro_rules! entries {
    ($($name:literal $kind:ident $($path:ident).+, $help:literal;)*) => {
        &[$(Entry { name: $name, help: $help, field: |s| Field::$kind(&mut s.$($path).+) }),*]
    };
}

const ENTRIES: &[Entry] = entries! {
    "conntrack.max" Count conntrack.max_flows, "most flows tracked at once";
    "conntrack.tcp_timeout_syn_sent" Seconds conntrack.tcp_syn_sent, "a SYN without answer";
    "conntrack.tcp_timeout_syn_recv" Seconds conntrack.tcp_syn_recv, "a SYN-ACK without answer";
    "conntrack.tcp_timeout_established" Seconds conntrack.tcp_established, "a silent connection";
    "conntrack.tcp_timeout_fin_wait" Seconds conntrack.tcp_fin_wait, "after the first FIN";
    "conntrack.tcp_timeout_close_wait" Seconds conntrack.tcp_close_wait, "after its acknowledgment";
    "conntrack.tcp_timeout_last_ack" Seconds conntrack.tcp_last_ack, "after both FINs";
    "conntrack.tcp_timeout_time_wait" Seconds conntrack.tcp_time_wait, "after both were acknowledged";
    "conntrack.tcp_timeout_close" Seconds conntrack.tcp_close, "after a reset";
    "conntrack.udp_timeout" Seconds conntrack.udp, "UDP without answer";
    "conntrack.udp_timeout_stream" Seconds conntrack.udp_stream, "UDP with answers";
    "conntrack.icmp_timeout" Seconds conntrack.icmp, "an ICMP query";
    "conntrack.generic_timeout" Seconds conntrack.generic, "any other protocol";
    "conntrack.frag_timeout" Seconds conntrack.fragment, "fragments that wait for the rest";
    "conntrack.frag_bytes" Count conntrack.fragment_bytes, "bytes of fragments that wait";
    "ftp.demand_login" Switch ftp.demand_login, "open ports only after a login was accepted";
    "ftp.active" Switch ftp.allow_active, "active mode (PORT, EPRT) may open ports";
};

impl Settings {
    /// Makes one setting. Times are in seconds.
    ///
    /// # Errors
    ///
    /// There is no such setting, or the value is none for it.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), SettingError> {
        let entry = ENTRIES
            .iter()
            .find(|entry| entry.name == name)
            .ok_or_else(|| SettingError::Unknown(name.to_owned()))?;
        let (made, expected) = match (entry.field)(self) {
            Field::Count(field) => {
                let number = value.parse().ok().filter(|&n| n > 0);
                (number.map(|n| *field = n), "a whole number above 0")
            }
            Field::Seconds(field) => {
                let number = value.parse().ok().filter(|&n| n > 0);
                (
                    number.map(|n| *field = Duration::from_secs(n)),
                    "a number of seconds above 0",
                )
            }
            Field::Switch(field) => {
                let switch = match value {
                    "yes" | "on" | "true" => Some(true),
                    "no" | "off" | "false" => Some(false),
                    _ => None,
                };
                (switch.map(|on| *field = on), "yes or no")
            }
        };
        made.ok_or_else(|| SettingError::Value {
            name: entry.name,
            value: value.to_owned(),
            expected,
        })
    }

    /// All settings with their present values.
    #[must_use]
    pub fn list(&self) -> Vec<SettingHelp> {
        let mut copy = self.clone();
        ENTRIES
            .iter()
            .map(|entry| {
                let value = match (entry.field)(&mut copy) {
                    Field::Count(field) => field.to_string(),
                    Field::Seconds(field) => format!("{} s", field.as_secs()),
                    Field::Switch(field) => if *field { "yes" } else { "no" }.to_owned(),
                };
                SettingHelp {
                    name: entry.name,
                    value,
                    help: entry.help,
                }
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_made_by_name() {
        let mut settings = Settings::default();
        settings.set("conntrack.max", "1000").unwrap();
        settings.set("conntrack.udp_timeout", "5").unwrap();
        settings.set("ftp.active", "no").unwrap();
        assert_eq!(settings.conntrack.max_flows, 1000);
        assert_eq!(settings.conntrack.udp, Duration::from_secs(5));
        assert!(!settings.ftp.allow_active);
        let shown = settings.list();
        assert!(
            shown
                .iter()
                .any(|s| s.name == "conntrack.udp_timeout" && s.value == "5 s")
        );
    }

    #[test]
    fn what_can_not_be_set_is_said() {
        let mut settings = Settings::default();
        assert_eq!(
            settings.set("no.such", "1"),
            Err(SettingError::Unknown("no.such".into()))
        );
        for (name, value) in [
            ("conntrack.max", "0"),
            ("conntrack.max", "x"),
            ("ftp.active", "1"),
        ] {
            assert!(matches!(
                settings.set(name, value),
                Err(SettingError::Value { .. })
            ));
        }
        assert_eq!(settings, Settings::default());
    }
}
