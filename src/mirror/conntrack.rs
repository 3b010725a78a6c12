//! The nf_conntrack sysctls, net.netfilter.nf_conntrack_*, as [`Config`] wants them.
//!
//! The kernel tells changes of none of them, so they are read again and again, but only while some family is tracked: forty
//! files, opened when tracking begins and closed when it ends, each reading one `pread` of about 1 us. Their values are
//! seconds, switches and counts (net/netfilter/nf_conntrack_standalone.c). A file that is not there (an older kernel, no
//! SCTP) or says no number means the kernel's default. The kernel takes a negative timeout, and such a connection is over
//! at once: so is it here. What is longer than [`TIMEOUT_MAX`] is that.

use super::sysctl::Watched;
use crate::table::conntrack::config::{TCP_RETRANS, TCP_UNACK};
use crate::table::conntrack::{Config, TICKS_PER_SECOND, TIMEOUT_MAX, Ticks};

/// Puts the number that a file says where it belongs.
type Set = fn(&mut Config, u32);

/// The files, without the beginning of their names that all share.
const FILES: &[(&str, Set)] = &[
    ("checksum", |c, n| c.checksum = n != 0),
    ("acct", |c, n| c.acct = n != 0),
    ("tcp_loose", |c, n| c.tcp_loose = n != 0),
    ("tcp_be_liberal", |c, n| c.tcp_be_liberal = n != 0),
    ("tcp_ignore_invalid_rst", |c, n| c.tcp_ignore_invalid_rst = n != 0),
    ("tcp_max_retrans", |c, n| c.tcp_max_retrans = n.min(255) as u8),
    // By enum tcp_conntrack; SYN_SENT2 has no file.
    ("tcp_timeout_syn_sent", |c, n| c.tcp[1] = timeout(n)),
    ("tcp_timeout_syn_recv", |c, n| c.tcp[2] = timeout(n)),
    ("tcp_timeout_established", |c, n| c.tcp[3] = timeout(n)),
    ("tcp_timeout_fin_wait", |c, n| c.tcp[4] = timeout(n)),
    ("tcp_timeout_close_wait", |c, n| c.tcp[5] = timeout(n)),
    ("tcp_timeout_last_ack", |c, n| c.tcp[6] = timeout(n)),
    ("tcp_timeout_time_wait", |c, n| c.tcp[7] = timeout(n)),
    ("tcp_timeout_close", |c, n| c.tcp[8] = timeout(n)),
    ("tcp_timeout_max_retrans", |c, n| c.tcp[TCP_RETRANS] = timeout(n)),
    ("tcp_timeout_unacknowledged", |c, n| c.tcp[TCP_UNACK] = timeout(n)),
    ("udp_timeout", |c, n| c.udp[0] = timeout(n)),
    ("udp_timeout_stream", |c, n| c.udp[1] = timeout(n)),
    ("icmp_timeout", |c, n| c.icmp = timeout(n)),
    ("icmpv6_timeout", |c, n| c.icmpv6 = timeout(n)),
    ("gre_timeout", |c, n| c.gre[0] = timeout(n)),
    ("gre_timeout_stream", |c, n| c.gre[1] = timeout(n)),
    // By enum sctp_conntrack.
    ("sctp_timeout_closed", |c, n| c.sctp[1] = timeout(n)),
    ("sctp_timeout_cookie_wait", |c, n| c.sctp[2] = timeout(n)),
    ("sctp_timeout_cookie_echoed", |c, n| c.sctp[3] = timeout(n)),
    ("sctp_timeout_established", |c, n| c.sctp[4] = timeout(n)),
    ("sctp_timeout_shutdown_sent", |c, n| c.sctp[5] = timeout(n)),
    ("sctp_timeout_shutdown_recd", |c, n| c.sctp[6] = timeout(n)),
    ("sctp_timeout_shutdown_ack_sent", |c, n| c.sctp[7] = timeout(n)),
    ("sctp_timeout_heartbeat_sent", |c, n| c.sctp[8] = timeout(n)),
    ("generic_timeout", |c, n| c.generic = timeout(n)),
];

/// The sysctls, watched or not. See the file's head.
#[derive(Debug, Default)]
pub(super) struct Conntrack {
    /// As of the last reading, the default while they are not watched. Says nothing of families.
    pub(super) config: Config,
    files: Vec<Watched>,
}

impl Conntrack {
    /// Watches them from now on, or no more. They are those of the calling thread's namespace.
    pub(super) fn watch(&mut self, watch: bool) {
        if watch && self.files.is_empty() {
            let path = |name: &str| format!("netfilter/nf_conntrack_{name}");
            self.files = FILES.iter().map(|(name, _)| Watched::open(&path(name))).collect();
            self.poll();
        }
        if !watch {
            *self = Self::default();
        }
    }

    /// Reads them again if they are watched; whether they changed.
    pub(super) fn poll(&mut self) -> bool {
        if self.files.is_empty() {
            return false;
        }
        let config = read(self.files.iter().map(Watched::read));
        let changed = config != self.config;
        self.config = config;
        changed
    }
}

/// The configuration of what the files say, in the order of [`FILES`].
fn read(values: impl Iterator<Item = Option<u32>>) -> Config {
    let mut config = Config::default();
    for ((_, set), value) in FILES.iter().zip(values) {
        if let Some(value) = value {
            set(&mut config, value);
        }
    }
    config
}

/// A timeout of so many seconds.
fn timeout(seconds: u32) -> Ticks {
    match i32::try_from(seconds) {
        Ok(_) => seconds.saturating_mul(TICKS_PER_SECOND).min(TIMEOUT_MAX),
        Err(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_has_its_own_place() {
        let base = read(FILES.iter().map(|_| Some(1)));
        // 0 is another value than 1 for a switch, a count and a timeout.
        let without = |n: usize| read((0..FILES.len()).map(|at| Some(u32::from(at != n))));
        for (n, (name, _)) in FILES.iter().enumerate() {
            assert_ne!(without(n), base, "{name} sets nothing");
            for (m, (other, _)) in FILES.iter().enumerate().take(n) {
                assert_ne!(without(n), without(m), "{name} and {other} set the same");
            }
        }
    }

    #[test]
    fn nonsense_is_bounded() {
        assert_eq!(read(FILES.iter().map(|_| None)), Config::default());
        assert_eq!(timeout(0), 0);
        assert_eq!(timeout(30), 3000);
        assert_eq!(timeout(-1i32 as u32), 0, "over at once");
        assert_eq!(timeout(i32::MAX as u32), TIMEOUT_MAX);
        assert_eq!(timeout(20_000_000), TIMEOUT_MAX);
        let large = read(FILES.iter().map(|_| Some(u32::MAX)));
        assert_eq!((large.tcp_max_retrans, large.udp), (255, [0, 0]));
    }
}
