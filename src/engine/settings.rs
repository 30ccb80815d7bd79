use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::helper::ftp::{CommandPolicy, Expected, PortRange, Prefixes, Refusal};
use crate::observe::QUEUE_EVENTS;
use crate::rules::Ruleset;
use crate::{conntrack, helper::ftp};

/// The group of the helper's settings; between it and the name may stand a profile.
const FTP: &str = "ftp";

/// Profiles are numbered with one byte, and the default one is the first.
const MAX_PROFILES: usize = 255;

/// Limits and times of connection tracking and the helper.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Flows, timeouts, fragments.
    pub conntrack: conntrack::Settings,
    /// The FTP helper, where no profile says otherwise.
    pub ftp: ftp::Settings,
    /// Events that may wait for whoever takes them.
    pub events: usize,
    /// Most answers to rejected packets each second, of all workers together. Somebody who sends in
    /// the name of others must not get more than this out of lotus.
    pub reject_rate: usize,
    /// Answers that may come at once, after a pause.
    pub reject_burst: usize,
    /// What profiles set beside that, by name: helper objects of the rules name them with
    /// `comment "lotus:NAME"`.
    profiles: BTreeMap<String, Vec<Assignment>>,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            conntrack: conntrack::Settings::default(),
            ftp: ftp::Settings::default(),
            events: QUEUE_EVENTS,
            // Linux's for all ICMP errors of a host: icmp_msgs_per_sec and icmp_msgs_burst.
            reject_rate: 1000,
            reject_burst: 50,
            profiles: BTreeMap::new(),
        }
    }
}

/// What `ftp.PROFILE.name=value` sets.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Assignment {
    name: &'static str,
    value: String,
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
    /// There are too many profiles.
    #[error("more than {MAX_PROFILES} settings profiles")]
    Profiles,
}

/// A helper object names a settings profile that nothing sets.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the helper object \"{object}\" of the rules names the settings profile '{profile}', of which \
     nothing is set: give its settings as --set ftp.{profile}.NAME=VALUE"
)]
pub struct NoProfile {
    object: String,
    profile: String,
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

struct Entry<S> {
    name: &'static str,
    help: &'static str,
    field: fn(&mut S) -> &mut dyn Value,
}

/// A value that can be read and shown.
trait Value {
    fn set(&mut self, text: &str) -> Result<(), Expected>;
    fn show(&self) -> String;
}

macro_rules! entries {
    ($($name:literal $field:ident, $help:literal;)*) => {
        &[$(Entry { name: $name, help: $help, field: |s| &mut s.$field }),*]
    };
}

const CONNTRACK_ENTRIES: &[Entry<conntrack::Settings>] = entries! {
    "conntrack.max" max_flows, "most flows tracked at once";
    "conntrack.source_halfopen" source_half_open, "most unanswered flows of one source (IPv6: of its /64) while the table is over 80 % full";
    "conntrack.pickup" pickup, "connections already running are taken up for so long after the start; 0: never";
    "conntrack.tcp_timeout_syn_sent" tcp_syn_sent, "a SYN without answer";
    "conntrack.tcp_timeout_syn_recv" tcp_syn_recv, "a SYN-ACK without answer";
    "conntrack.tcp_timeout_established" tcp_established, "a silent connection";
    "conntrack.tcp_timeout_fin_wait" tcp_fin_wait, "after the first FIN";
    "conntrack.tcp_timeout_close_wait" tcp_close_wait, "after its acknowledgment";
    "conntrack.tcp_timeout_last_ack" tcp_last_ack, "after both FINs";
    "conntrack.tcp_timeout_time_wait" tcp_time_wait, "after both were acknowledged";
    "conntrack.tcp_timeout_close" tcp_close, "after a reset";
    "conntrack.tcp_timeout_max_retrans" tcp_retrans, "after too many repetitions, or with a closed window";
    "conntrack.tcp_max_retrans" tcp_max_retrans, "how many repetitions are too many";
    "conntrack.tcp_timeout_unacknowledged" tcp_unacknowledged, "while something sent is not acknowledged";
    "conntrack.udp_timeout" udp, "UDP without answer";
    "conntrack.udp_timeout_stream" udp_stream, "UDP with answers, after two seconds";
    "conntrack.icmp_timeout" icmp, "an ICMP query";
    "conntrack.icmpv6_timeout" icmpv6, "an ICMPv6 query";
    "conntrack.generic_timeout" generic, "any other protocol (SCTP, DCCP, GRE, UDP-Lite)";
    "conntrack.frag_timeout" fragment, "fragments that wait for the rest";
    "conntrack.frag_bytes" fragment_bytes, "bytes of fragments that wait";
};

const FTP_ENTRIES: &[Entry<ftp::Settings>] = entries! {
    "ftp.demand_login" demand_login, "open ports only after a login was accepted";
    "ftp.active" allow_active, "active mode (PORT, EPRT, LPRT) may open ports";
    "ftp.active_ports" active_ports, "ports that a client may name for active mode";
    "ftp.source_port_20" source_port_20, "servers open data connections from port 20 only";
    "ftp.foreign" foreign, "prefixes of data addresses beside the server's own that a 227 or 228 may name";
    "ftp.fxp" fxp, "prefixes of third parties that PORT, EPRT and LPRT may name, and that may use a passive port \
        in the client's place (FXP)";
    "ftp.commands" commands,
        "commands that may pass: all, read-only, deny:DELE,RMD or allow:USER,PASS,RETR";
    "ftp.tls_ports" tls_ports,
        "the server's passive range, opened to a client whose session went TLS";
    "ftp.tls_connections" tls_connections, "data connections that a TLS session has at once";
    "ftp.implicit_tls" implicit_tls, "control connections are TLS from their first byte (port 990)";
    "ftp.refuse" refusal, "what becomes of a refused command: refuse, reset or ignore";
    "ftp.expect_timeout" lifetime, "how long an open data port waits for its connection";
};

const ENGINE_ENTRIES: &[Entry<Settings>] = entries! {
    "events.queue" events, "events that may wait to be written; what comes on top is lost and counted";
    "reject.rate" reject_rate, "most answers to rejected packets each second, of all workers together; what comes on top is dropped in silence";
    "reject.burst" reject_burst, "answers to rejected packets that may come at once, after a pause";
};

impl Settings {
    /// Makes one setting. Times are in seconds. `ftp.PROFILE.name` sets it for one profile only.
    ///
    /// # Errors
    ///
    /// There is no such setting, or the value is none for it.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), SettingError> {
        if let Some(entry) = CONNTRACK_ENTRIES.iter().find(|entry| entry.name == name) {
            return entry.set(&mut self.conntrack, value);
        }
        if let Some(entry) = FTP_ENTRIES.iter().find(|entry| entry.name == name) {
            return entry.set(&mut self.ftp, value);
        }
        if let Some(entry) = ENGINE_ENTRIES.iter().find(|entry| entry.name == name) {
            return entry.set(self, value);
        }
        let unknown = || SettingError::Unknown(name.to_owned());
        let mut parts = name.splitn(3, '.');
        let (Some(FTP), Some(profile), Some(last)) = (parts.next(), parts.next(), parts.next())
        else {
            return Err(unknown());
        };
        let whole = format!("{FTP}.{last}");
        let entry = FTP_ENTRIES.iter().find(|entry| entry.name == whole);
        let entry = entry.filter(|_| !profile.is_empty()).ok_or_else(unknown)?;
        entry.set(&mut ftp::Settings::default(), value)?;
        if self.profiles.len() >= MAX_PROFILES && !self.profiles.contains_key(profile) {
            return Err(SettingError::Profiles);
        }
        let assignments = self.profiles.entry(profile.to_owned()).or_default();
        assignments.push(Assignment {
            name: entry.name,
            value: value.to_owned(),
        });
        Ok(())
    }

    /// All settings with their present values.
    #[must_use]
    pub fn list(&self) -> Vec<SettingHelp> {
        let mut copy = self.clone();
        let conntrack = CONNTRACK_ENTRIES
            .iter()
            .map(|entry| entry.help(&mut copy.conntrack));
        let mut list: Vec<_> = conntrack.collect();
        list.extend(FTP_ENTRIES.iter().map(|entry| entry.help(&mut copy.ftp)));
        list.extend(ENGINE_ENTRIES.iter().map(|entry| entry.help(&mut copy)));
        list
    }

    /// Whether the rules name only profiles that are set.
    ///
    /// # Errors
    ///
    /// One that is not.
    pub fn covers(&self, rules: &Ruleset) -> Result<(), NoProfile> {
        for object in rules.helpers() {
            if let Some(profile) = &object.profile
                && !self.profiles.contains_key(profile)
            {
                return Err(NoProfile {
                    object: object.name.clone(),
                    profile: profile.clone(),
                });
            }
        }
        Ok(())
    }

    /// The helper's settings: the default ones first, then those of each profile.
    pub(super) fn ftp_profiles(&self) -> Vec<Arc<ftp::Settings>> {
        let profile = |assignments: &Vec<Assignment>| {
            let mut settings = self.ftp.clone();
            for Assignment { name, value } in assignments {
                // It could be set when it was given.
                if let Some(entry) = FTP_ENTRIES.iter().find(|entry| entry.name == *name) {
                    let _ = entry.set(&mut settings, value);
                }
            }
            Arc::new(settings)
        };
        std::iter::once(Arc::new(self.ftp.clone()))
            .chain(self.profiles.values().map(profile))
            .collect()
    }

    /// Which of [`Settings::ftp_profiles`] a name means.
    pub(super) fn profile_index(&self, name: Option<&String>) -> u8 {
        name.and_then(|name| self.profiles.keys().position(|key| key == name))
            .and_then(|index| u8::try_from(index + 1).ok())
            .unwrap_or(0)
    }
}

impl<S> Entry<S> {
    fn set(&self, settings: &mut S, value: &str) -> Result<(), SettingError> {
        (self.field)(settings)
            .set(value)
            .map_err(|Expected(expected)| SettingError::Value {
                name: self.name,
                value: value.to_owned(),
                expected,
            })
    }

    fn help(&self, settings: &mut S) -> SettingHelp {
        SettingHelp {
            name: self.name,
            value: (self.field)(settings).show(),
            help: self.help,
        }
    }
}

impl Value for usize {
    fn set(&mut self, text: &str) -> Result<(), Expected> {
        let number = text.parse().ok().filter(|&number| number > 0);
        *self = number.ok_or(Expected("a whole number above 0"))?;
        Ok(())
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Value for Duration {
    fn set(&mut self, text: &str) -> Result<(), Expected> {
        let seconds = text.parse().ok().filter(|&seconds| seconds > 0);
        *self = Duration::from_secs(seconds.ok_or(Expected("a number of seconds above 0"))?);
        Ok(())
    }

    fn show(&self) -> String {
        format!("{} s", self.as_secs())
    }
}

/// A time that may be none: 0.
impl Value for Option<Duration> {
    fn set(&mut self, text: &str) -> Result<(), Expected> {
        let seconds = text.strip_suffix('s').unwrap_or(text).parse();
        let seconds = seconds.map_err(|_| Expected("a number of seconds, or 0"))?;
        *self = (seconds > 0).then_some(Duration::from_secs(seconds));
        Ok(())
    }

    fn show(&self) -> String {
        self.unwrap_or_default().show()
    }
}

impl Value for bool {
    fn set(&mut self, text: &str) -> Result<(), Expected> {
        *self = match text {
            "yes" | "on" | "true" => true,
            "no" | "off" | "false" => false,
            _ => return Err(Expected("yes or no")),
        };
        Ok(())
    }

    fn show(&self) -> String {
        if *self { "yes" } else { "no" }.to_owned()
    }
}

impl Value for Option<PortRange> {
    fn set(&mut self, text: &str) -> Result<(), Expected> {
        *self = match text {
            "none" => None,
            _ => Some(text.parse()?),
        };
        Ok(())
    }

    fn show(&self) -> String {
        self.map_or("none".to_owned(), |range| range.to_string())
    }
}

macro_rules! plain_values {
    ($($kind:ty),*) => {$(
        impl Value for $kind {
            fn set(&mut self, text: &str) -> Result<(), Expected> {
                *self = text.parse()?;
                Ok(())
            }

            fn show(&self) -> String {
                self.to_string()
            }
        }
    )*};
}

plain_values!(PortRange, Prefixes, CommandPolicy, Refusal);

impl fmt::Display for SettingHelp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {}", self.name, self.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::PortNames;

    #[test]
    fn settings_are_made_by_name() {
        let mut settings = Settings::default();
        settings.set("conntrack.max", "1000").unwrap();
        settings.set("conntrack.udp_timeout", "5").unwrap();
        settings.set("ftp.active", "no").unwrap();
        settings.set("ftp.tls_ports", "40000-40100").unwrap();
        settings.set("reject.rate", "77").unwrap();
        settings.set("reject.burst", "7").unwrap();
        assert_eq!((settings.reject_rate, settings.reject_burst), (77, 7));
        assert_eq!(settings.conntrack.max_flows, 1000);
        assert_eq!(settings.conntrack.udp, Duration::from_secs(5));
        assert!(!settings.ftp.allow_active);
        let shown: Vec<_> = settings.list().iter().map(ToString::to_string).collect();
        assert!(shown.contains(&"conntrack.udp_timeout = 5 s".to_owned()));
        assert!(shown.contains(&"ftp.tls_ports = 40000-40100".to_owned()));
    }

    #[test]
    fn each_limit_of_connection_tracking_has_a_name() {
        let mut settings = Settings::default();
        let own: Vec<_> = CONNTRACK_ENTRIES.iter().map(|entry| entry.name).collect();
        for (at, name) in own.iter().enumerate() {
            // Another value for each, none of them its default.
            settings.set(name, &(77_001 + at).to_string()).unwrap();
        }
        let value = |name: &str| {
            let at = own.iter().position(|own| *own == name).unwrap();
            77_001 + at
        };
        let s = |name: &str| Duration::from_secs(value(name) as u64);
        let expected = conntrack::Settings {
            max_flows: value("conntrack.max"),
            source_half_open: value("conntrack.source_halfopen"),
            pickup: Some(s("conntrack.pickup")),
            tcp_syn_sent: s("conntrack.tcp_timeout_syn_sent"),
            tcp_syn_recv: s("conntrack.tcp_timeout_syn_recv"),
            tcp_established: s("conntrack.tcp_timeout_established"),
            tcp_fin_wait: s("conntrack.tcp_timeout_fin_wait"),
            tcp_close_wait: s("conntrack.tcp_timeout_close_wait"),
            tcp_last_ack: s("conntrack.tcp_timeout_last_ack"),
            tcp_time_wait: s("conntrack.tcp_timeout_time_wait"),
            tcp_close: s("conntrack.tcp_timeout_close"),
            tcp_retrans: s("conntrack.tcp_timeout_max_retrans"),
            tcp_max_retrans: value("conntrack.tcp_max_retrans"),
            tcp_unacknowledged: s("conntrack.tcp_timeout_unacknowledged"),
            udp: s("conntrack.udp_timeout"),
            udp_stream: s("conntrack.udp_timeout_stream"),
            icmp: s("conntrack.icmp_timeout"),
            icmpv6: s("conntrack.icmpv6_timeout"),
            generic: s("conntrack.generic_timeout"),
            fragment: s("conntrack.frag_timeout"),
            fragment_bytes: value("conntrack.frag_bytes"),
        };
        assert_eq!(settings.conntrack, expected);
        settings.set("conntrack.pickup", "60s").unwrap();
        assert_eq!(settings.conntrack.pickup, Some(Duration::from_secs(60)));
        settings.set("conntrack.pickup", "0").unwrap();
        assert_eq!(settings.conntrack.pickup, None);
    }

    #[test]
    fn what_can_not_be_set_is_said() {
        let mut settings = Settings::default();
        for name in [
            "no.such",
            "ftp.scanners.nosuch",
            "ftp..active",
            "conntrack.x.max",
        ] {
            assert_eq!(
                settings.set(name, "1"),
                Err(SettingError::Unknown(name.into()))
            );
        }
        for (name, value) in [
            ("conntrack.max", "0"),
            ("conntrack.max", "x"),
            ("ftp.active", "1"),
            ("ftp.scanners.active", "1"),
            ("ftp.tls_ports", "80-90"),
            ("ftp.fxp", "everybody"),
        ] {
            assert!(matches!(
                settings.set(name, value),
                Err(SettingError::Value { .. })
            ));
        }
        assert_eq!(settings, Settings::default());
    }

    #[test]
    fn a_profile_is_the_default_but_for_what_it_sets() {
        let mut settings = Settings::default();
        settings.set("ftp.scanners.active", "no").unwrap();
        settings.set("ftp.demand_login", "no").unwrap();
        let profiles = settings.ftp_profiles();
        let index = settings.profile_index(Some(&"scanners".to_owned()));
        let scanners = &profiles[usize::from(index)];
        assert!(profiles[0].allow_active && !scanners.allow_active);
        assert!(!scanners.demand_login, "also what was set for all later");
        assert_eq!(settings.profile_index(None), 0);
    }

    #[test]
    fn rules_name_profiles_that_are_set() {
        let text = "table inet t { ct helper h { type \"ftp\" protocol tcp; \
                    comment \"lotus:scanners\"; } \
                    chain c { type filter hook forward priority 0; } }";
        let names = PortNames {
            inside: "in".into(),
            outside: "out".into(),
        };
        let rules = Ruleset::parse("t", text, &names).unwrap();
        let mut settings = Settings::default();
        let error = settings.covers(&rules).unwrap_err().to_string();
        assert!(error.contains("--set ftp.scanners."), "{error}");
        settings.set("ftp.scanners.active", "no").unwrap();
        assert_eq!(settings.covers(&rules), Ok(()));
    }
}
