use std::fmt;

macro_rules! drop_reasons {
    ($($variant:ident $name:literal $text:literal;)*) => {
        /// Why a frame was dropped. Closed: every drop has exactly one of these, under the same
        /// name in counters, events, `explain` and the documentation.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum DropReason {
            $(#[doc = $text] $variant,)*
        }

        impl DropReason {
            /// All reasons, in the order of a packet's way.
            pub const ALL: &'static [DropReason] = &[$(DropReason::$variant,)*];

            /// The stable name, as it stands in counters and JSON.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(DropReason::$variant => $name,)* }
            }

            /// One sentence for a person.
            #[must_use]
            pub fn explanation(self) -> &'static str {
                match self { $(DropReason::$variant => $text,)* }
            }
        }
    };
}

drop_reasons! {
    // io, receiving
    RxCut "rx_cut" "The ring cut the frame short, so it could not be forwarded whole.";
    RxOffload "rx_offload" "A super-frame of a kind that lotus does not pass on (a tunnel, BIG TCP).";
    // wire
    FrameTruncated "frame_truncated" "The frame ends before its headers or its IP length say.";
    VlanTooManyTags "vlan_too_many_tags" "More than two VLAN tags.";
    VlanReserved "vlan_reserved" "A VLAN tag with the reserved id 4095.";
    IpHeaderBad "ip_header_bad" "An IP header whose version, length or options do not add up.";
    IpLengthZero "ip_length_zero" "An IP length of zero (a jumbogram or BIG TCP).";
    IpChecksumBad "ip_checksum_bad" "The IPv4 header checksum is wrong.";
    IpSourceRoute "ip_source_route" "A source route (IPv4 option, IPv6 routing header).";
    Ipv6ChainBad "ipv6_chain_bad" "IPv6 extension headers that are unknown, out of order, too many or cut.";
    TcpHeaderBad "tcp_header_bad" "A TCP header that is cut, or port 0.";
    TcpFlagsBad "tcp_flags_bad" "TCP flags that no TCP sends together.";
    UdpHeaderBad "udp_header_bad" "A UDP header that is cut, or a wrong UDP length.";
    IcmpHeaderBad "icmp_header_bad" "An ICMP header that is cut.";
    ChecksumBad "checksum_bad" "The transport checksum is wrong.";
    // fragments
    FragmentBad "fragment_bad" "A fragment whose offset, length or protocol cannot be right.";
    FragmentTiny "fragment_tiny" "A first fragment too short to hold its headers (RFC 1858).";
    FragmentOverlap "fragment_overlap" "Fragments that overlap: the whole datagram is dropped (RFC 5722).";
    FragmentDuplicate "fragment_duplicate" "The very same fragment is waiting already.";
    FragmentLimit "fragment_limit" "Too many fragments or bytes of fragments wait for the rest.";
    FragmentTimeout "fragment_timeout" "The other fragments of the datagram did not come in time.";
    // conntrack
    WrongSide "wrong_side" "The packet speaks for an address that lives on the other side.";
    TcpNotSyn "tcp_not_syn" "A TCP segment of a connection whose beginning was not seen.";
    TcpState "tcp_state" "A TCP segment that makes no sense in the connection's state.";
    TcpWindow "tcp_window" "A TCP segment outside the window of its connection.";
    TcpRst "tcp_rst" "A TCP reset outside the window: it may be forged.";
    SynPayload "syn_payload" "A SYN with payload towards a port that a helper reads.";
    IcmpUnrelated "icmp_unrelated" "An ICMP error or answer that belongs to no tracked flow.";
    TlsNoRange "tls_no_range" "A data connection of a session that went TLS, to a port that no ftp.tls_ports names; the client gets a reset.";
    ExpectationGone "expectation_gone" "An answer for a data connection whose announcement was withdrawn meanwhile.";
    ExpectationSourcePort "expectation_source_port" "A data connection that is expected, but from port 20 only (ftp.source_port_20).";
    SourceHalfOpen "source_half_open" "The flow table is nearly full, and the source has begun too many flows that nobody answered.";
    TableFull "table_full" "The flow table is at its capacity.";
    // helper
    HelperGap "helper_gap" "A control segment too far ahead of a gap to be held; TCP sends it again.";
    HelperRewrite "helper_rewrite" "A retransmission that changes bytes which were already read.";
    HelperInvalid "helper_invalid" "A control segment that is invalid: no peer may read what lotus did not.";
    HelperHeld "helper_held" "A held control segment whose connection ended before the gap was filled.";
    HelperFragment "helper_fragment" "A fragmented control segment that would have to be changed or held.";
    HelperReset "helper_reset" "A segment of a control connection that was reset because a command was refused.";
    // rules
    RuleDrop "rule_drop" "A rule says drop.";
    RuleReject "rule_reject" "A rule says reject: the sender is told, unless that must not be or was too often (reject.rate).";
    PolicyDrop "policy_drop" "No rule accepted it and the chain's policy is drop.";
    // io, sending
    TxTooLong "tx_too_long" "The frame is longer than the other port's MTU, which must be 4 more for each tag beyond one 802.1Q tag.";
    TxBusy "tx_busy" "The other port's queue or socket buffer was full.";
    TxDown "tx_down" "The other port is down or gone.";
    TxError "tx_error" "The kernel refused to send the frame.";
}

impl DropReason {
    /// Position in arrays by reason.
    #[must_use]
    pub fn index(self) -> usize {
        self as usize
    }
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::DropReason;
    use std::collections::HashSet;

    #[test]
    fn names_are_unique_and_indexes_match() {
        let names: HashSet<_> = DropReason::ALL.iter().map(|r| r.name()).collect();
        assert_eq!(names.len(), DropReason::ALL.len());
        for (position, reason) in DropReason::ALL.iter().enumerate() {
            assert_eq!(position, reason.index());
        }
    }
}
