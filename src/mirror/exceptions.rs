//! IPv6 destinations that the kernel holds an exception for: a path MTU that another host told the box, or a redirect. They
//! stand outside the routing table, hold for forwarded packets too (rt6_find_cached_rt, and dst_mtu in ip6_finish_output), and
//! come and go without a notification. So their number is read with the sysctls (`rt6_stats`: one small file), and the
//! exceptions themselves are dumped when it changed, and now and then while there are any. Packets to such a destination are
//! the kernel's.
//!
//! IPv4 has exceptions as well, but forwards by them only where `ip_forward_use_pmtu` is on, a route's MTU is locked or
//! redirects are accepted: those routes are left (see `resolve`). Two kinds hold besides, a path MTU below
//! `ipv4.route.min_pmtu` and a redirect from before they were refused; the kernel lists them only when they were used: they are in
//! docs/LIMITATIONS.md.
//!
//! Bounded by the kernel, which keeps few exceptions per route and drops them after `ipv6.route.mtu_expires`.

use super::netlink::{Channel, Message, as_addr};
use super::{MirrorError, netlink};
use crate::packet::{Addr, Family};
use crate::table::snapshot::Addrs;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often exceptions are read again while there are any: one may have gone as another came.
const AGAIN: Duration = Duration::from_secs(1);
/// `struct rtmsg`.
const HEADER: usize = 12;
const RTM_F_CLONED: u32 = 0x200;

/// The exceptions that there are.
#[derive(Debug)]
pub struct Exceptions {
    stats: Option<File>,
    count: u32,
    read_at: Instant,
    /// Destinations.
    pub addrs: Arc<Addrs>,
}

impl Exceptions {
    /// Those of the calling thread's namespace, none known yet.
    pub fn open() -> Self {
        // Without IPv6 there is no such file, and no exception.
        let stats = File::open("/proc/thread-self/net/rt6_stats").ok();
        Self {
            stats,
            count: 0,
            read_at: Instant::now(),
            addrs: Arc::default(),
        }
    }

    /// Looks again; whether the destinations changed.
    pub fn poll(&mut self, requests: &mut Channel) -> Result<bool, MirrorError> {
        let count = self.counted();
        let due = count != 0 && self.read_at.elapsed() >= AGAIN;
        if count == self.count && !due {
            return Ok(false);
        }
        self.count = count;
        self.read_at = Instant::now();
        let mut addrs = Addrs::default();
        if count != 0 {
            let mut header = [0; HEADER];
            header[0] = netlink::af(Family::V6);
            header[8..].copy_from_slice(&RTM_F_CLONED.to_ne_bytes());
            requests.dump(libc::RTM_GETROUTE, &header, |message| {
                addrs.extend(destination(message))
            })?;
        }
        let changed = *self.addrs != addrs;
        if changed {
            self.addrs = Arc::new(addrs);
        }
        Ok(changed)
    }

    /// The fifth number of rt6_stats, fib_rt_cache, in hexadecimal.
    fn counted(&self) -> u32 {
        let Some(stats) = &self.stats else { return 0 };
        let mut text = [0; 128];
        let read = stats.read_at(&mut text, 0).unwrap_or_default();
        let text = String::from_utf8_lossy(&text[..read]);
        text.split_whitespace()
            .nth(4)
            .and_then(|field| u32::from_str_radix(field, 16).ok())
            .unwrap_or_default()
    }
}

/// What an exception is for; `None` for a route that is none.
fn destination(message: Message<'_>) -> Option<Addr> {
    let (header, mut attributes) = message.split(HEADER)?;
    let cloned = netlink::u32_at(header, 8)? & RTM_F_CLONED != 0;
    let is_dst = |(kind, value): (u16, &[u8])| (kind == libc::RTA_DST).then(|| as_addr(value)).flatten();
    if !cloned || message.kind != libc::RTM_NEWROUTE {
        return None;
    }
    attributes.find_map(is_dst).map(|(_, addr)| addr)
}
