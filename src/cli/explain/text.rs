//! Explanations as text.

use std::collections::BTreeMap;
use std::io::{self, Write};

use anstyle::{AnsiColor, Style};

use crate::explain::{Dropped, Explained, Judged, Line, Port, Session, Summary, Told};
use crate::observe::{DropReason, EventKind};

/// Where what a packet did stands, beneath it.
const INDENT: &str = "          ";

const FORWARD: Style = AnsiColor::Green.on_default();
const DROP: Style = AnsiColor::Red.on_default();
const HELD: Style = AnsiColor::Yellow.on_default();
const LINE: Style = AnsiColor::Cyan.on_default();
const TITLE: Style = Style::new().bold();

/// Prints explanations one below the other.
#[derive(Debug, Default)]
pub(super) struct Text {
    /// Packets by verdict and state.
    counts: BTreeMap<(String, &'static str), u64>,
}

impl Text {
    /// What stands before the first packet: file, format, rules, sides.
    pub(super) fn head(&self, to: &mut dyn Write, lines: [&str; 4]) -> io::Result<()> {
        let [file, format, rules, sides] = lines;
        writeln!(to, "capture  {file} ({format})")?;
        writeln!(to, "rules    {rules}")?;
        writeln!(to, "sides    {sides}")?;
        writeln!(to)?;
        writeln!(
            to,
            "{TITLE}packet      seconds side    flow   state       verdict{TITLE:#}"
        )
    }

    pub(super) fn packet(&mut self, to: &mut dyn Write, packet: &Explained) -> io::Result<()> {
        for told in &packet.before {
            event(to, told, true)?;
        }
        let flow = packet.flow.map(|number| format!("#{number}"));
        let side = packet.side.map(|side| side.to_string());
        let state = packet.state_name().unwrap_or("-");
        let style = style(packet.verdict);
        let verdict = verdict(packet);
        writeln!(
            to,
            "{:>6} {:>12} {:<7} {:<6} {state:<11} {style}{verdict:<8}{style:#} {}",
            packet.number,
            seconds(packet.since_first_ns),
            side.as_deref().unwrap_or("-"),
            flow.as_deref().unwrap_or("-"),
            packet.what
        )?;
        *self.counts.entry((verdict, state)).or_default() += 1;
        if let Some(reason) = packet.verdict.reason() {
            writeln!(to, "{INDENT}- {}", reason.explanation())?;
        }
        for told in &packet.events {
            event(to, told, false)?;
        }
        for remark in &packet.remarks {
            writeln!(to, "{INDENT}- {remark}")?;
        }
        if packet.overwritten {
            writeln!(
                to,
                "{INDENT}- it goes on with what was refused in it overwritten"
            )?;
        }
        if !packet.releases.is_empty() {
            let numbers: Vec<_> = packet.releases.iter().map(ToString::to_string).collect();
            writeln!(
                to,
                "{INDENT}- with it go the held packets {}",
                numbers.join(", ")
            )?;
        }
        Ok(())
    }

    pub(super) fn summary(&self, to: &mut dyn Write, all: &Summary) -> io::Result<()> {
        writeln!(to, "\n{TITLE}Summary{TITLE:#}")?;
        writeln!(
            to,
            "  {} in {} s: {} forwarded, {} dropped, {} held at the end{}",
            count(all.packets, "packet"),
            all.lasts.trim_end_matches('0').trim_end_matches('.'),
            all.forwarded,
            all.dropped,
            all.held,
            match all.never_met {
                0 => String::new(),
                some => format!(", {some} between hosts of one side"),
            }
        )?;
        for ((verdict, state), packets) in &self.counts {
            writeln!(to, "    {packets:>8}  {verdict} ({state})")?;
        }
        for dropped in &all.dropped_by_reason {
            writeln!(to, "    {}: {}", dropped.reason, dropped.explanation)?;
        }
        writeln!(
            to,
            "  {}; {}; {} opened, {} used, {} open at the end; {} let through; {} refused",
            count(all.flows, "flow"),
            count(all.control_connections, "FTP control connection"),
            count(all.ports_opened, "data port"),
            all.ports_used,
            all.ports_open_at_end,
            count(all.data_syns_admitted, "data SYN"),
            count(all.refused_commands, "command"),
        )?;
        self.oddities(to, all)?;
        for session in &all.sessions {
            self::session(to, session)?;
        }
        if all.more_sessions > 0 {
            writeln!(
                to,
                "  {} more sessions are not told here",
                all.more_sessions
            )?;
        }
        Ok(())
    }

    /// What to know of the capture before believing all of the above.
    fn oddities(&self, to: &mut dyn Write, all: &Summary) -> io::Result<()> {
        for (side, addresses) in [("inside", &all.inside), ("outside", &all.outside)] {
            if !addresses.is_empty() {
                let names: Vec<_> = addresses.iter().map(ToString::to_string).collect();
                writeln!(to, "  taken as {side}: {}", names.join(", "))?;
            }
        }
        if all.unfinished_checksums > 0 {
            let senders: Vec<_> = all
                .unfinished_from
                .iter()
                .map(|sender| format!("{} ({})", sender.address, sender.packets))
                .collect();
            writeln!(
                to,
                "  {} had unfinished checksums, as a host captures its own that its network card \
                 finishes: taken as right; from {}",
                count(all.unfinished_checksums, "packet"),
                senders.join(", ")
            )?;
        }
        if all.trusted_checksums > 0 {
            writeln!(
                to,
                "  {} had wrong checksums, taken as right (--trust-checksums)",
                count(all.trusted_checksums, "packet")
            )?;
        }
        if all
            .dropped_by_reason
            .iter()
            .any(|d| d.reason.ends_with("checksum_bad"))
        {
            writeln!(
                to,
                "  packets with wrong checksums were dropped: if they were good on the wire, \
                 --trust-checksums"
            )?;
        }
        if all.cut_packets > 0 {
            writeln!(
                to,
                "  {} not captured whole: what is said of them may be wrong; capture with -s 0",
                were(all.cut_packets, "packet")
            )?;
        }
        if all.one_way_connections > 0 {
            writeln!(
                to,
                "  only one direction was captured of {}: capture where both pass",
                count(all.one_way_connections, "TCP connection")
            )?;
        }
        let is_late = |dropped: &Dropped| dropped.reason == DropReason::TcpNotSyn.name();
        if all.dropped_by_reason.iter().any(is_late) {
            writeln!(
                to,
                "  connections that began before the capture are refused, as by a lotus that starts \
                 in the middle of them"
            )?;
        }
        if all.backward_times > 0 {
            writeln!(
                to,
                "  {} captured before the one in front: the time of that one was taken",
                were(all.backward_times, "packet")
            )?;
        }
        if all.events_lost > 0 {
            let lost = count(all.events_lost, "event");
            writeln!(to, "  {lost} were too many at once and are not shown")?;
        }
        Ok(())
    }
}

fn session(to: &mut dyn Write, session: &Session) -> io::Result<()> {
    writeln!(
        to,
        "\n{TITLE}FTP session {}{TITLE:#}: client {} to server {} ({}), from packet {}",
        session.session, session.client, session.server, session.server_side, session.first_packet
    )?;
    if let Some(user) = &session.user {
        writeln!(to, "  logged in as '{user}'")?;
    }
    if let Some(packet) = session.tls_at {
        writeln!(to, "  went TLS with packet {packet}")?;
    }
    if let Some(why) = session.not_ftp {
        writeln!(to, "  not FTP: {why}")?;
    }
    for line in &session.first_lines {
        self::line(to, line)?;
    }
    let shown = (session.first_lines.len() + session.last_lines.len()) as u64;
    if session.lines > shown {
        let more = count(session.lines - shown, "line");
        writeln!(to, "    ... {more}, to be found beneath their packets")?;
    }
    for line in &session.last_lines {
        self::line(to, line)?;
    }
    for port in &session.ports {
        let Port {
            mode,
            from,
            to: end,
            ..
        } = port;
        writeln!(
            to,
            "  port {} of {} for {from} ({mode}): {}; it {}",
            end.port(),
            end.ip(),
            port.opening(),
            port.fate()
        )?;
    }
    let told = session.ports.len() as u64;
    if session.ports_opened > told {
        writeln!(to, "  ... and {} more ports", session.ports_opened - told)?;
    }
    for refusal in &session.refusals {
        let verb = if refusal.overwritten {
            "refused"
        } else {
            "opened nothing for"
        };
        let packet = refusal.packet.map(|packet| format!(" (packet {packet})"));
        writeln!(
            to,
            "  {verb} {}: {}{}",
            refusal.what,
            refusal.why,
            packet.unwrap_or_default()
        )?;
    }
    let told = session.refusals.iter().filter(|r| r.overwritten).count() as u64;
    if session.refused_commands > told {
        let more = session.refused_commands - told;
        writeln!(to, "  ... and {more} more refused commands")?;
    }
    match &session.ended {
        Some(ended) => match ended.packet {
            Some(packet) => writeln!(to, "  ended with packet {packet}: {}", ended.why),
            None => writeln!(to, "  ended in time's course: {}", ended.why),
        },
        None => writeln!(to, "  still open at the end of the capture"),
    }
}

fn line(to: &mut dyn Write, line: &Line) -> io::Result<()> {
    let Line { packet, from, text } = line;
    let packet = packet.map(|packet| packet.to_string()).unwrap_or_default();
    writeln!(to, "    {packet:>6} {LINE}{from}: {text}{LINE:#}")
}

fn event(to: &mut dyn Write, told: &Told, has_time: bool) -> io::Result<()> {
    // The dialogue's lines say it already.
    if matches!(told.event.kind, EventKind::Command { .. }) {
        return Ok(());
    }
    if has_time {
        let at = seconds(told.since_first_ns);
        return writeln!(to, "{:>6} {at:>12} {}", "-", told.event);
    }
    let style = match told.event.kind {
        EventKind::Line { .. } => LINE,
        EventKind::Refused { .. } | EventKind::NotOpened { .. } => DROP,
        EventKind::PortOpened(_) | EventKind::PortUsed { .. } => FORWARD,
        _ => Style::new(),
    };
    writeln!(to, "{INDENT}{style}{}{style:#}", told.event)
}

fn verdict(packet: &Explained) -> String {
    match packet.verdict {
        Judged::Drop(reason) => format!("drop {}", reason.name()),
        other => other.word().to_owned(),
    }
}

fn style(verdict: Judged) -> Style {
    match verdict {
        Judged::Forward => FORWARD,
        Judged::Drop(_) => DROP,
        Judged::Held | Judged::NeverMet => HELD,
    }
}

fn seconds(nanos: u64) -> String {
    let micros = nanos / 1_000;
    format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000)
}

fn count(number: u64, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {what}{plural}")
}

fn were(number: u64, what: &str) -> String {
    let verb = if number == 1 { "was" } else { "were" };
    format!("{} {verb}", count(number, what))
}
