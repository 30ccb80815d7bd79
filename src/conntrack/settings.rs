use std::time::Duration;

use super::{Tcp, TcpState};

/// Limits and timeouts of connection tracking. The timeouts have Linux's names and default values
/// (Documentation/networking/nf_conntrack-sysctl.rst).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Most flows that are tracked at once.
    pub max_flows: usize,
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
    /// `nf_conntrack_udp_timeout`.
    pub udp: Duration,
    /// `nf_conntrack_udp_timeout_stream`.
    pub udp_stream: Duration,
    /// `nf_conntrack_icmp_timeout`.
    pub icmp: Duration,
    /// `nf_conntrack_generic_timeout`.
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
            tcp_syn_sent: s(120),
            tcp_syn_recv: s(60),
            tcp_established: s(432_000),
            tcp_fin_wait: s(120),
            tcp_close_wait: s(60),
            tcp_last_ack: s(30),
            tcp_time_wait: s(120),
            tcp_close: s(10),
            udp: s(30),
            udp_stream: s(120),
            icmp: s(30),
            generic: s(600),
            fragment: s(30),
            fragment_bytes: 4 << 20, // ipfrag_high_thresh
        }
    }
}

impl Settings {
    /// How long a TCP flow in this state may stay silent.
    #[must_use]
    pub fn tcp(&self, tcp: &Tcp) -> Duration {
        match tcp.state() {
            TcpState::SynSent | TcpState::SynSent2 => self.tcp_syn_sent,
            TcpState::SynRecv => self.tcp_syn_recv,
            TcpState::Established => self.tcp_established,
            TcpState::FinWait => self.tcp_fin_wait,
            TcpState::CloseWait => self.tcp_close_wait,
            TcpState::LastAck => self.tcp_last_ack,
            TcpState::TimeWait => self.tcp_time_wait,
            TcpState::Close => self.tcp_close,
        }
    }
}
