//! Has the kernel ask neighbours that only workers use. One that it has not heard of for a while is STALE; it goes on sending by
//! it, and asks whether it is still there: DELAY, PROBE, and REACHABLE or FAILED (net/core/neighbour.c: __neigh_event_send). But it
//! does not see what bypath forwards, so a router that is gone would stay STALE, and get packets, for ever; and in a full table the
//! entry is thrown out, for nobody used it.
//!
//! ```text
//!  STALE is told --> Neighbors::set_stale --> a worker resolves it: used --> once a second: RTM_NEWNEIGH with NTF_USE
//! ```
//!
//! Only STALE ones are told of: NTF_USE would make a PERMANENT one forget that it is (__neigh_update). Without NLM_F_CREATE one that
//! is gone stays gone. About 6 us each, with the kernel's RTNL lock held.

use super::Mirror;
use super::nlattr::Request;
use super::nlsock::NlSock;
use super::turns::Lookout;
use crate::packet::Family;
use std::collections::VecDeque;
use std::io;
use std::time::Duration;

/// How often neighbours are looked at. The kernel waits some seconds itself before it asks.
const EVERY: Duration = Duration::from_secs(1);
/// How many are told of in one turn, at most: about 2 ms.
const BATCH: usize = 256;
const NDA_DST: u16 = 1;
const NTF_USE: u8 = 1;

/// See the module's head.
#[derive(Debug)]
pub struct Stale {
    sock: NlSock,
    lookout: Lookout,
    due: VecDeque<Request>,
}

impl Stale {
    /// Opens a socket, in the network namespace of this thread.
    ///
    /// # Errors
    /// Those of socket(2).
    pub fn open() -> io::Result<Self> {
        Ok(Self {
            sock: NlSock::open(libc::NETLINK_ROUTE, false)?,
            lookout: Lookout::new(EVERY),
            due: VecDeque::new(),
        })
    }

    /// Tells of those that are due, a bounded part; whether there are more. To be called after [`Mirror::process`], every 50 ms or so.
    ///
    /// # Errors
    /// Of the socket.
    pub fn turn(&mut self, mirror: &Mirror) -> io::Result<bool> {
        if self.lookout.is_due(false) {
            let state = &mirror.state;
            let link = |index| state.snapshot.iface(index).map(|iface| iface.ifindex);
            let used = state.neighbors.take_used().into_iter();
            self.due
                .extend(used.filter_map(|(index, family, addr)| Some(used_by(link(index)?, family, addr))));
        }
        if self.due.is_empty() {
            return Ok(false);
        }
        let batch: Vec<Request> = self.due.drain(..self.due.len().min(BATCH)).collect();
        // What is refused went, or its link did: the kernel told of it.
        self.sock.change(batch, |_, _| {})?;
        Ok(!self.due.is_empty())
    }
}

/// Tells that a neighbour is used.
fn used_by(ifindex: u32, family: Family, addr: u128) -> Request {
    let mut ndmsg = [0; 12];
    ndmsg[0] = match family {
        Family::V4 => libc::AF_INET as u8,
        Family::V6 => libc::AF_INET6 as u8,
    };
    ndmsg[4..8].copy_from_slice(&ifindex.to_ne_bytes());
    ndmsg[10] = NTF_USE;
    let width = 16 - usize::from(family.bits()) / 8;
    Request::new(libc::RTM_NEWNEIGH, 0, &ndmsg).attr(NDA_DST, &addr.to_be_bytes()[width..])
}
