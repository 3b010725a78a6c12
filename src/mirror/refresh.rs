//! Keeps alive in the kernel's bridges what only workers see in use. A frame that a worker bridges never reaches the kernel,
//! so the entry of its sender would age out there; workers mark it instead ([`Hit::see`](crate::table::fdb::Hit::see)), and
//! once a round it is renewed by RTM_NEWNEIGH with NTF_USE, which does what a frame would do (net/bridge/br_fdb.c:
//! __br_fdb_add, br_fdb_update).
//!
//! ```text
//!  round of a bridge, every 1/8 of its ageing time | collect what was seen since the last one | renew, [`BATCH`] a turn
//! ```
//!
//! That would also move an entry back that has just moved. So all that the kernel told is taken in first, an entry is looked
//! up once more before it is renewed, and what is left between is microseconds: then the owner's next frame comes from a port
//! where its entry is not, is punted, and the kernel moves it again.
//!
//! Only entries that age are renewed, and only where a frame would do it: by ports that learn. About 6 us each, with the
//! kernel's RTNL lock held.

use super::Mirror;
use super::link::Link;
use super::nlattr::Request;
use super::nlsock::NlSock;
use crate::table::bridge::Vid;
use crate::table::conntrack::{TICKS_PER_SECOND, Ticks, is_past};
use crate::table::fdb::EntryFlags;
use crate::table::iface::IfaceIndex;
use crate::wire::Mac;
use std::collections::{HashMap, VecDeque};
use std::io;

/// How many entries are renewed in one turn, at most: about 2 ms.
const BATCH: usize = 256;
/// The bounds of a round.
const ROUND_MIN: Ticks = TICKS_PER_SECOND / 10;
const ROUND_MAX: Ticks = 10 * TICKS_PER_SECOND;
/// How many rounds an ageing time has.
const ROUNDS: u32 = 8;

const NDA_LLADDR: u16 = 2;
const NDA_VLAN: u16 = 5;
const NTF_USE: u8 = 1;
const NTF_MASTER: u8 = 1 << 2;
const NUD_REACHABLE: u16 = 2;
/// What does not age, or is not renewed by frames.
const FIXED: u8 = EntryFlags::LOCAL | EntryFlags::STATIC | EntryFlags::EXTERN | EntryFlags::LOCKED;

/// The ports of bridges.
type Ports<'a> = HashMap<IfaceIndex, &'a Link>;

/// See the module's head.
#[derive(Debug)]
pub struct Refresh {
    sock: NlSock,
    /// When the round of a bridge began, by ifindex.
    began: HashMap<u32, Ticks>,
    due: VecDeque<(u32, Mac, Vid)>,
    /// How many entries were renewed, ever.
    pub renewed: u64,
}

impl Refresh {
    /// Opens a socket, in the network namespace of this thread.
    ///
    /// # Errors
    /// Those of socket(2).
    pub fn open() -> io::Result<Self> {
        Ok(Self {
            sock: NlSock::open(libc::NETLINK_ROUTE, false)?,
            began: HashMap::new(),
            due: VecDeque::new(),
            renewed: 0,
        })
    }

    /// Renews what is due at `now`, a bounded part of it; whether there is more. To be called after
    /// [`Mirror::process`], every 50 ms or so; does nothing while that has events to take in.
    ///
    /// # Errors
    /// Of the socket.
    pub fn turn(&mut self, mirror: &Mirror, now: Ticks) -> io::Result<bool> {
        self.collect(mirror, now);
        if self.due.is_empty() || !mirror.fdb_drained {
            return Ok(false);
        }
        let ports: Ports<'_> = mirror
            .state
            .world
            .links
            .iter()
            .filter(|link| link.bridge_port.is_some())
            .filter_map(|link| Some((link.index?, link)))
            .collect();
        let batch = self.due.drain(..self.due.len().min(BATCH));
        let requests: Vec<Request> = batch.filter_map(|entry| renewal(mirror, &ports, entry)).collect();
        self.renewed += requests.len() as u64;
        // What is refused went, or its port did: the kernel told of it.
        self.sock.change(requests, |_, _| {})?;
        Ok(!self.due.is_empty())
    }

    /// Notes what was seen in the rounds that are over.
    fn collect(&mut self, mirror: &Mirror, now: Ticks) {
        let state = &mirror.state;
        self.began.retain(|&bridge, _| state.fdbs.get(bridge).is_some());
        for (bridge, fdb) in state.fdbs.iter() {
            let conf = state.world.links.get(bridge).and_then(|link| link.bridge.as_ref());
            let began = *self.began.entry(bridge).or_insert(now);
            let Some(round) = conf.and_then(|conf| round(conf.hold_time())) else {
                continue;
            };
            if !is_past(began.wrapping_add(round), now) {
                continue;
            }
            self.began.insert(bridge, now);
            let in_use = fdb.iter().filter(|(_, _, entry, seen)| {
                let is_recent = *seen != 0 && is_past(began, *seen);
                is_recent && !entry.flags.any(FIXED)
            });
            self.due.extend(in_use.map(|(mac, vid, _, _)| (bridge, mac, vid)));
        }
    }
}

/// How long a round of a bridge is whose entries live for `hold_time`; `None` where they do not live at all.
fn round(hold_time: u32) -> Option<Ticks> {
    (hold_time != 0).then(|| (hold_time / ROUNDS).clamp(ROUND_MIN, ROUND_MAX))
}

/// What renews an entry, if it is still there, ages, and its port learns.
fn renewal(mirror: &Mirror, ports: &Ports<'_>, (bridge, mac, vid): (u32, Mac, Vid)) -> Option<Request> {
    let entry = mirror.state.fdbs.get(bridge)?.lookup(&mac, vid)?.entry;
    let port = ports.get(&entry.port)?;
    let learns = port.bridge_port.as_ref()?;
    if entry.flags.any(FIXED) || !learns.learning || !learns.is_forwarding() || port.info.master != bridge {
        return None;
    }
    let mut ndmsg = [0; 12];
    ndmsg[0] = libc::AF_BRIDGE as u8;
    ndmsg[4..8].copy_from_slice(&port.info.ifindex.to_ne_bytes());
    ndmsg[8..10].copy_from_slice(&NUD_REACHABLE.to_ne_bytes());
    ndmsg[10] = NTF_USE | NTF_MASTER;
    let request = Request::new(libc::RTM_NEWNEIGH, 0, &ndmsg).attr(NDA_LLADDR, &mac);
    Some(match vid {
        0 => request,
        _ => request.attr(NDA_VLAN, &vid.to_ne_bytes()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_is_an_eighth_of_the_ageing_time_within_bounds() {
        assert_eq!(round(0), None);
        assert_eq!(round(10), Some(10));
        assert_eq!(round(100), Some(12));
        assert_eq!(round(30_000), Some(1000));
    }
}
