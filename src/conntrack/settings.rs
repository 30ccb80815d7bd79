use std::time::Duration;

use super::{Tcp, TcpState};

/// Limits and timeouts of connection tracking. The timeouts have Linux's names and default values
/// (Documentation/networking/nf_conntrack-sysctl.rst).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Most flows that are tracked at once.
    pub max_flows: usize,
    /// Most unanswered flows of one source while the table is over 80 % full. An IPv6 source is its
    /// /64.
    pub source_half_open: usize,
    /// For how long after the start connections are tracked whose beginning was not seen.
    pub pickup: Option<Duration>,
    /// `nf_conntrack_tcp_timeout_syn_sent`.
    pub tcp_syn_sent: Duration,
    /// `nf_conntrack_tcp_timeout_syn_recv`.
    pub tcp_syn_recv: Duration,
    /// `nf_conntrack_tcp_timeout_established`.
    pub tcp_established: Duration,
    /// `nf_conntrack_tcp_timeout_fin_wait`.
    pub tcp_fin_wait: Duration,
    /// `nf_conntrack_tcp_timeout_close_wait`.
    pub tcp_close_wait: Duration,
    /// `nf_conntrack_tcp_timeout_last_ack`.
    pub tcp_last_ack: Duration,
    /// `nf_conntrack_tcp_timeout_time_wait`.
    pub tcp_time_wait: Duration,
    /// `nf_conntrack_tcp_timeout_close`.
    pub tcp_close: Duration,
    /// `nf_conntrack_tcp_timeout_max_retrans`: the same segment came too often without an answer, or
    /// a window is closed.
    pub tcp_retrans: Duration,
    /// `nf_conntrack_tcp_max_retrans`: how often is too often.
    pub tcp_max_retrans: usize,
    /// `nf_conntrack_tcp_timeout_unacknowledged`: something was sent and not acknowledged.
    pub tcp_unacknowledged: Duration,
    /// `nf_conntrack_udp_timeout`.
    pub udp: Duration,
    /// `nf_conntrack_udp_timeout_stream`.
    pub udp_stream: Duration,
    /// `nf_conntrack_icmp_timeout`.
    pub icmp: Duration,
    /// `nf_conntrack_icmpv6_timeout`.
    pub icmpv6: Duration,
    /// `nf_conntrack_generic_timeout`: every other protocol, SCTP, DCCP, GRE and UDP-Lite too.
    pub generic: Duration,
    /// `nf_conntrack_frag6_timeout`; IPv4 has 30 s in Linux, and one value serves both here.
    pub fragment: Duration,
    /// Most bytes of fragments that wait for the rest of their datagrams.
    pub fragment_bytes: usize,
}

impl Default for Settings {
    fn default() -> Self {
        let s = Duration::from_secs;
        Settings {
            max_flows: 262_144, // Linux's default on a machine with 4 GiB and more
            // One honest host behind a NAT may open many at once; a flood from one address is more.
            source_half_open: 256,
            pickup: None,
            tcp_syn_sent: s(120),
            tcp_syn_recv: s(60),
            tcp_established: s(432_000),
            tcp_fin_wait: s(120),
            tcp_close_wait: s(60),
            tcp_last_ack: s(30),
            tcp_time_wait: s(120),
            tcp_close: s(10),
            tcp_retrans: s(300),
            tcp_max_retrans: 3,
            tcp_unacknowledged: s(300),
            udp: s(30),
            udp_stream: s(120),
            icmp: s(30),
            icmpv6: s(30),
            generic: s(600),
            fragment: s(30),
            fragment_bytes: 4 << 20, // ipfrag_high_thresh
        }
    }
}

impl Settings {
    /// How long a TCP flow may stay silent. `is_one_sided`: nobody has answered it; if it is
    /// established nevertheless, its beginning was not seen.
    #[inline(always)]
    #[must_use]
    pub fn tcp(&self, tcp: &Tcp, is_one_sided: bool) -> Duration {
        let of_state = match tcp.state() {
            TcpState::SynSent | TcpState::SynSent2 => self.tcp_syn_sent,
            TcpState::SynRecv => self.tcp_syn_recv,
            TcpState::Established => self.tcp_established,
            TcpState::FinWait => self.tcp_fin_wait,
            TcpState::CloseWait => self.tcp_close_wait,
            TcpState::LastAck => self.tcp_last_ack,
            TcpState::TimeWait => self.tcp_time_wait,
            TcpState::Close => self.tcp_close,
        };
        if usize::from(tcp.repeats()) >= self.tcp_max_retrans || tcp.closed_window() {
            of_state.min(self.tcp_retrans)
        } else if tcp.is_unacknowledged() || (is_one_sided && tcp.state() == TcpState::Established)
        {
            of_state.min(self.tcp_unacknowledged)
        } else {
            of_state
        }
    }
}

#[cfg(test)]
mod tests;
