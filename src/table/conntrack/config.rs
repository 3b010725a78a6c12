//! How connections are tracked: the nf_conntrack sysctls of the namespace, and which families the kernel tracks.
//!
//! Part of the snapshot, so that a change of a sysctl is a new generation like any other. Mirror reads the values in seconds,
//! and bounds them: what the kernel takes, it takes; a deadline here never lies more than half a clock ahead.

use super::{TICKS_PER_SECOND, Ticks};

/// The sysctls below net.netfilter, and what follows from rules. Part of the snapshot; the defaults are the kernel's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The kernel tracks connections, by [`Family`](crate::packet::Family): some rule needs it.
    pub tracked: [bool; 2],
    /// NAT is in force, by family: connections may be translated, here as in the kernel.
    pub nat: [bool; 2],
    /// The kernel itself forwards nothing of that family: every link that forwards is a port, and none is left. Then what
    /// is not in our table is in no table.
    pub alone: [bool; 2],
    /// `nf_conntrack_checksum`: TCP, UDP and ICMP packets with a wrong checksum are invalid.
    pub checksum: bool,
    /// `nf_conntrack_acct`: count packets and bytes of each connection.
    pub acct: bool,
    /// `nf_conntrack_tcp_loose`: a connection may be picked up in its middle.
    pub tcp_loose: bool,
    /// `nf_conntrack_tcp_be_liberal`: only an RST out of the window is invalid.
    pub tcp_be_liberal: bool,
    /// `nf_conntrack_tcp_ignore_invalid_rst`: an RST with a wrong sequence number does not close.
    pub tcp_ignore_invalid_rst: bool,
    /// `nf_conntrack_tcp_max_retrans`: after so many retransmissions without an answer the timeout is `tcp_max_retrans`.
    pub tcp_max_retrans: u8,
    /// Timeouts of TCP by state (enum tcp_conntrack: none, syn_sent, syn_recv, established, fin_wait, close_wait, last_ack,
    /// time_wait, close, syn_sent2), then of retransmission and of unacknowledged data.
    pub tcp: [Ticks; 12],
    /// `nf_conntrack_udp_timeout` and `nf_conntrack_udp_timeout_stream`.
    pub udp: [Ticks; 2],
    /// `nf_conntrack_icmp_timeout`.
    pub icmp: Ticks,
    /// `nf_conntrack_icmpv6_timeout`.
    pub icmpv6: Ticks,
    /// `nf_conntrack_gre_timeout` and `nf_conntrack_gre_timeout_stream`.
    pub gre: [Ticks; 2],
    /// Timeouts of SCTP by state (enum sctp_conntrack: none, closed, cookie_wait, cookie_echoed, established, shutdown_sent,
    /// shutdown_recd, shutdown_ack_sent, heartbeat_sent).
    pub sctp: [Ticks; 9],
    /// `nf_conntrack_generic_timeout`.
    pub generic: Ticks,
}

/// Places of [`Config::tcp`] behind those of the states.
pub const TCP_RETRANS: usize = 10;
/// See [`TCP_RETRANS`].
pub const TCP_UNACK: usize = 11;

impl Default for Config {
    fn default() -> Self {
        const S: Ticks = TICKS_PER_SECOND;
        const M: Ticks = 60 * S;
        Config {
            tracked: [false; 2],
            nat: [false; 2],
            alone: [false; 2],
            checksum: true,
            acct: false,
            tcp_loose: true,
            tcp_be_liberal: false,
            tcp_ignore_invalid_rst: false,
            tcp_max_retrans: 3,
            tcp: [
                0,
                2 * M,
                M,
                5 * 24 * 60 * M,
                2 * M,
                M,
                30 * S,
                2 * M,
                10 * S,
                2 * M,
                5 * M,
                5 * M,
            ],
            udp: [30 * S, 2 * M],
            icmp: 30 * S,
            icmpv6: 30 * S,
            gre: [30 * S, 3 * M],
            sctp: [0, 10 * S, 3 * S, 3 * S, 210 * S, 3 * S, 3 * S, 3 * S, 30 * S],
            generic: 10 * M,
        }
    }
}
