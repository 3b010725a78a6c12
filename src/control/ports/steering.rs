//! What steer is told about ports: which frames of each go to the worker.
//!
//! In generic mode what is punted comes by steer again, with a cookie that it cuts off. So steer knows such a port from before
//! the first cookie until it is off the link, also while it is to redirect nothing: a frame whose cookie nobody cuts would go on
//! 16 bytes longer, with the secret in it.

use super::Ports;
use crate::control::steer::{AttachedMode, SteerPort};
use crate::packet::PortIndex;
use std::sync::atomic::Ordering;

/// In front of what the MTU counts.
const ETHERNET_HEADER_BYTES: u32 = 14;
const TAG_BYTES: u32 = 4;

/// What of a port's traffic may go to the worker.
#[derive(Clone, Copy, Debug, Default)]
pub struct Carry {
    /// The port's Ethernet address, or its bridge's.
    pub mac: [u8; 6],
    /// IPv4, IPv6.
    pub family: [bool; 2],
    /// IPv4, IPv6 connections are tracked.
    pub tracked: [bool; 2],
    /// NAT is in force for IPv4, IPv6.
    pub nat: [bool; 2],
    /// What is bridged, where it is a bridge's port.
    pub bridging: Option<Bridged>,
    /// IPv4, IPv6 that is bridged passes the hooks of IP, where its connections are tracked.
    pub hooked: [bool; 2],
    /// The port's MTU in bytes.
    pub mtu: u32,
}

/// What of the frames that a port's bridge forwards may go to the worker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bridged {
    /// IPv4, IPv6.
    pub family: [bool; 2],
    /// All other types.
    pub other: bool,
}

impl Ports {
    /// Has steer leave all ports to the kernel; what is in the rings is still carried on.
    pub fn let_go(&mut self) {
        for n in 0..self.ports.len() {
            let index = self.ports[n].index;
            if let Some(open) = &mut self.ports[n].open {
                open.told = None;
                let (ifindex, mode) = (open.ifindex, open.attached.mode);
                self.let_go_of(index, ifindex, mode);
            }
        }
    }

    /// Has steer redirect nothing of a port. In generic mode it still cuts the cookie off what was punted with one, until it is
    /// off the link; what is punted from now on needs none.
    pub(super) fn let_go_of(&self, index: PortIndex, ifindex: u32, mode: AttachedMode) {
        let _ = match mode {
            AttachedMode::Native => self.steer.remove_port(ifindex),
            AttachedMode::Generic => self.steer.set_port(ifindex, &resting(index)),
        };
        self.generic[usize::from(index.0)].store(false, Ordering::Relaxed);
    }

    /// Tells steer about every open port, where that is news. `carry` says for each what may go to the worker.
    pub fn steer(&mut self, carry: impl Fn(PortIndex) -> Option<Carry>) {
        let frame_bytes_max = self.opener.mtu_max() + ETHERNET_HEADER_BYTES;
        for port in &mut self.ports {
            let Some(open) = &mut port.open else { continue };
            let Carry {
                mac,
                family: [carry_v4, carry_v6],
                tracked: [track_v4, track_v6],
                nat: [nat_v4, nat_v6],
                bridging,
                hooked: [hooked_v4, hooked_v6],
                mtu,
            } = carry(port.index).unwrap_or_default();
            let Bridged {
                family: [bridge_v4, bridge_v6],
                other: bridge_other,
            } = bridging.unwrap_or_default();
            // What is bridged may have a tag, which the MTU does not count.
            let header_bytes = ETHERNET_HEADER_BYTES + if bridging.is_some() { TAG_BYTES } else { 0 };
            let is_generic = open.attached.mode == AttachedMode::Generic;
            let row = SteerPort {
                mac,
                index: port.index.0,
                first_slot: open.first_slot,
                queues: open.workers.len() as u16,
                carry_v4,
                carry_v6,
                wire: self.wire,
                stamp_all: false,
                generic: is_generic,
                track_v4,
                track_v6,
                nat_v4,
                nat_v6,
                bridge: bridging.is_some(),
                bridge_v4,
                bridge_v6,
                bridge_other,
                may_merge: is_generic || open.is_tap,
                hooked_v4,
                hooked_v6,
                len_max: u16::try_from((mtu + header_bytes).min(frame_bytes_max)).unwrap_or(u16::MAX),
            };
            if open.told == Some(row) {
                continue;
            }
            if is_generic && open.told.is_none() {
                // Cookies are cut before any frame bears one, and punted frames bear one before any is redirected.
                let _ = self.steer.set_port(open.ifindex, &resting(port.index));
                self.generic[usize::from(port.index.0)].store(true, Ordering::Relaxed);
            }
            match self.steer.set_port(open.ifindex, &row) {
                Ok(()) => open.told = Some(row),
                Err(error) => say!("bypath: port {}: {error}", port.name),
            }
        }
    }
}

/// A port in generic mode of which nothing is redirected.
fn resting(index: PortIndex) -> SteerPort {
    SteerPort {
        index: index.0,
        generic: true,
        ..SteerPort::default()
    }
}
