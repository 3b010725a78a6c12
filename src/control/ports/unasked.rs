//! What of a port the kernel gets without anybody asking whether it is of a connection of ours, because steer cannot redirect
//! it: segments larger than a frame, and what comes on receive queues that have no socket.
//!
//! Where connections are tracked the kernel would meet packets of those that it does not know yet, so what it tracks is left
//! to it on such a port (`mirror/guard/link.rs`). Merged segments are heard of by steer's count, in generic mode, where a
//! peer may send some: whether it does nobody says before, and steer drops the first ones. Queues may come while the port is open (`ethtool -L`): each
//! port's are counted about once a second. A TAP says itself that its guest may send merged segments.

use super::{Open, Ports};
use crate::control::decision::Decision;
use crate::control::steer::{AttachedMode, Steer};
use crate::mirror::guard::Unasked;
use crate::packet::PortIndex;
use crate::port::link::receive_queues;

/// Looks for one walk over all ports: at 20 looks a second, a second.
const LOOKS_PER_WALK: usize = 20;

/// What was last seen of an open port.
#[derive(Debug)]
pub struct Watched {
    /// Receive queues in use.
    pub rx_queues: u32,
    /// Merged segments that steer had counted before it was opened.
    merged_before: u64,
    /// More came since.
    has_merged: bool,
}

impl Watched {
    /// A port that has just been opened.
    pub fn new(rx_queues: u32, index: PortIndex, steer: &Steer) -> Self {
        Self {
            rx_queues,
            merged_before: merged(index, steer),
            has_merged: false,
        }
    }
}

fn merged(index: PortIndex, steer: &Steer) -> u64 {
    steer.count(index.0, Decision::MergedLost).unwrap_or_default()
}

impl Open {
    fn unasked(&self) -> Option<Unasked> {
        let (rx, sockets) = (self.watched.rx_queues, self.workers.len() as u32);
        match self.watched.has_merged {
            true => Some(Unasked::Merged),
            false => (rx > sockets).then_some(Unasked::Queues { rx, sockets }),
        }
    }
}

impl Ports {
    /// The ifindex of every open port, and what of it the kernel gets unasked.
    pub fn unasked(&self) -> Vec<(u32, Option<Unasked>)> {
        let open = self.ports.iter().filter_map(|port| port.open.as_ref());
        open.map(|open| (open.ifindex, open.unasked())).collect()
    }

    /// Looks at some ports; see the module's head.
    pub fn watch(&mut self) {
        let piece = self.ports.len().div_ceil(LOOKS_PER_WALK);
        for _ in 0..piece {
            self.looked = (self.looked + 1) % self.ports.len();
            let port = &mut self.ports[self.looked];
            if let Some(open) = &mut port.open
                && let Some(queues) = receive_queues(&port.name, open.ifindex)
            {
                open.watched.rx_queues = queues;
            }
        }
        for port in &mut self.ports {
            let Some(open) = &mut port.open else { continue };
            if open.attached.mode == AttachedMode::Generic && !open.watched.has_merged {
                open.watched.has_merged = merged(port.index, &self.steer) > open.watched.merged_before;
            }
        }
    }
}
