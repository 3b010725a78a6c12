//! What a start decides before it opens anything: workers, their CPUs, and the packet memory.
//!
//! From the ports that are there at the start and their queues. The memory is fixed then: a slab per worker, sized so that all
//! rings of its queues and its queues to other threads can be full; all slabs are of one size, that of the worker with the most
//! queues. A named port that is not there yet is planned for with as many queues as the port that has most; one that comes with
//! more gets what is left (`ports/memory.rs`). Where a bridge is named, ports are to come: there is room for twice those that it
//! has, 64 at least and 256 at most, with shorter rings the more they are, so that all of them together take no more memory than
//! some big ports (`dealing.rs`).

use super::config::{self, Mode, RunConfig};
use super::dealing::{Rings, dealt, room_for, slab_frames, workers_for};
use super::roster::Roster;
use crate::mirror::LinkInfo;
use crate::mirror::tc::Reader;
use crate::packet::PORTS_MAX;
use crate::port::link::{Link, XdpFeatures, frame_size};
use crate::port::umem::{self, UmemConfig};
use crate::worker::Limits;
use std::io;

/// How many workers, where, and with how much memory.
pub struct Plan {
    /// Workers, and the lengths of their queues.
    pub limits: Limits,
    /// Lengths of the rings of each queue, and for how many.
    pub room: Room,
    /// Bytes.
    pub frame_size: u32,
    /// Where each worker is pinned, if it is.
    pub cpus: Vec<Option<usize>>,
    /// Drivers say when they want a system call to go on, and all of them can.
    need_wakeup: bool,
}

/// Rings, and how many queues there is room for.
#[derive(Clone, Debug)]
pub struct Room {
    /// The rings of a queue of a port that is named itself.
    pub named: Rings,
    /// ... of a port that a bridge has.
    pub of_bridges: Rings,
    /// Queues that ports of bridges may have in all; more stay with the kernel.
    pub queues: usize,
    /// The queues that were planned for of each port that is named itself, in their order.
    pub planned: Vec<u32>,
    /// Frames of each worker's slab for the rings of its queues.
    pub frames: usize,
    /// ... of which ports of bridges are sure of so many.
    pub frames_of_bridges: usize,
}

impl Plan {
    /// For the ports and bridges of `roster`, as far as they are among `links`.
    pub fn new(config: &RunConfig, roster: &Roster, links: &[LinkInfo]) -> Self {
        let members = roster.members(links);
        let named: Vec<Option<Link>> = roster.ports.iter().map(|name| Link::query(name).ok()).collect();
        let of_bridges = members.iter().map(|member| Link::query(&member.link.name).ok());
        let of_bridges: Vec<Option<Link>> = of_bridges.collect();
        let all = || named.iter().chain(&of_bridges).flatten();
        let most = all().map(Link::queue_pairs).max().unwrap_or(1);
        // Unless told, from the last CPU down: the first ones tend to have the interrupts and everybody else's work.
        let cpus = match config.cpus.as_slice() {
            [] => config::available_cpus().into_iter().rev().collect(),
            named => named.to_vec(),
        };
        let asked = config
            .workers
            .or((!config.cpus.is_empty()).then_some(config.cpus.len()));
        let workers = asked.unwrap_or_else(|| workers_for(most, cpus.len()));
        let queues_of = |links: &[Option<Link>], absent: u32| -> Vec<u32> {
            let queues = |link: &Option<Link>| link.as_ref().map_or(absent, Link::queue_pairs);
            links.iter().map(queues).collect()
        };
        let pairs = |queues: &[u32]| queues.iter().sum::<u32>() as usize;
        let (planned, of_members) = (queues_of(&named, most), queues_of(&of_bridges, 1));
        let named_pairs = pairs(&planned);
        let queues = match roster.bridges.is_empty() {
            true => 0,
            false => room_for(pairs(&of_members)).min(PORTS_MAX.saturating_sub(roster.ports.len())),
        };
        let rings = Rings::for_queues(named_pairs);
        let of_bridges_rings = Rings::of_bridges(queues);
        let of_bridges_each = queues.div_ceil(workers).max(most_of_a_worker(&of_members, workers));
        let frames_of_bridges = of_bridges_each * of_bridges_rings.frames_of_bridges();
        let room = Room {
            named: rings,
            of_bridges: of_bridges_rings,
            queues,
            frames: most_of_a_worker(&planned, workers) * rings.frames() + frames_of_bridges,
            planned,
            frames_of_bridges,
        };
        let mut limits = Limits::new(workers, 0);
        limits.connections = if config.wire { 1 } else { connections_max() };
        let ports = links
            .iter()
            .filter(|link| roster.ports.iter().any(|name| **name == *link.name));
        let ports = ports
            .chain(members.iter().map(|member| member.link))
            .map(|link| link.ifindex);
        limits.shaped = match config.wire {
            true => 0,
            false => may_wait(asked_by_qdiscs(ports).unwrap_or(0), named_pairs + queues),
        };
        let in_flight = limits.handoffs + limits.punts + limits.shaped as usize;
        limits.slab_frames = slab_frames(room.frames, in_flight);
        let zero_copy = config.mode() != Mode::Copy && all().any(|link| link.xdp.is_some_and(XdpFeatures::zero_copy));
        let pins = (0..workers)
            .map(|n| (workers <= cpus.len()).then(|| cpus.get(n).copied()).flatten())
            .collect();
        Self {
            limits,
            room,
            frame_size: frame_size(zero_copy),
            cpus: pins,
            need_wakeup: !all().any(|link| NEEDS_NO_WAKEUP.contains(&&*link.driver)),
        }
    }

    /// Says for how many ports of bridges there is room, and what that takes.
    pub fn say(&self, roster: &Roster) {
        if roster.bridges.is_empty() {
            return;
        }
        let frames = self.limits.slab_frames as usize * self.limits.workers;
        let mib = |bytes: usize| bytes.div_ceil(1 << 20);
        say!(
            "bypath: room for {} ports of {}: {} MiB of packets now, about {} MiB of the kernel's memory for each port",
            self.room.queues,
            roster.bridges.join(" "),
            mib(frames * self.frame_size as usize),
            mib(frames * KERNEL_BYTES_PER_FRAME)
        );
    }

    /// The packet memory of all workers.
    pub fn umem(&self, mode: Mode) -> UmemConfig {
        UmemConfig {
            workers: self.limits.workers as u16,
            frames_per_worker: self.limits.slab_frames,
            frame_size: self.frame_size,
            fill_size: self.room.named.rx,
            completion_size: self.room.named.tx,
            mode: match mode {
                Mode::Auto => umem::Mode::Auto,
                Mode::Zerocopy => umem::Mode::ZeroCopy,
                Mode::Copy => umem::Mode::Copy,
            },
            need_wakeup: self.need_wakeup,
            ..UmemConfig::default()
        }
    }
}

/// The queues of the worker that gets most, where the ports have so many each.
fn most_of_a_worker(queues: &[u32], workers: usize) -> usize {
    let of_ports: Vec<_> = (0..)
        .zip(queues)
        .map(|(n, &queues)| dealt(queues, n, workers))
        .collect();
    let of_worker = (0..workers).map(|worker| of_ports.iter().map(|dealt| dealt[worker]).sum());
    of_worker.max().unwrap_or(0)
}

/// Drivers that may not be left waiting for a wake-up: igb's goes to the interrupt of the transmit queue, which is not that of the
/// receive queue unless there are more than four, so a receive ring that ran dry once would stay dry (`igb_xsk_wakeup`). Told that
/// nobody wakes them they look by themselves for frames to receive into.
const NEEDS_NO_WAKEUP: [&str; 1] = ["igb"];

/// Frames of one slab that may wait in qdiscs, at the least: at 100 Mbit/s those of half a second, of full size. 8 MiB, which are not
/// taken from those that rings need.
const SHAPED: u32 = 4096;

/// How many frames of one slab may wait where qdiscs ask for `asked` and there are `queues` sockets, each of which costs memory for
/// every frame: 64 MiB at most.
fn may_wait(asked: u64, queues: usize) -> u32 {
    let most = match queues {
        0..=8 => 8 * SHAPED,
        9..=32 => 4 * SHAPED,
        _ => SHAPED,
    };
    asked.clamp(SHAPED.into(), most.into()) as u32
}

/// Frames that are not the smallest, for queues that count bytes.
const FRAME_BYTES: u32 = 256;

/// For how many frames the qdiscs of these links have room now, all of them together.
fn asked_by_qdiscs(links: impl Iterator<Item = u32>) -> io::Result<u64> {
    let mut reader = Reader::open()?;
    let qdiscs = reader.qdiscs()?;
    let mut asked = 0;
    for link in links {
        if let Ok(shaping) = reader.egress(link, &qdiscs)?.shaping {
            asked += shaping.room(FRAME_BYTES);
        }
    }
    Ok(asked)
}

/// What each socket costs the kernel per frame of the whole packet memory (`xp_create_and_assign_umem`).
const KERNEL_BYTES_PER_FRAME: usize = 150;

/// The most connections that the table has room for, whatever the kernel says: 3 GiB.
const CONNECTIONS_MAX: u32 = 1 << 24;

/// As many connections as the kernel would track. Their memory is taken as they come.
fn connections_max() -> u32 {
    const DEFAULT: u32 = 1 << 18;
    let sysctl = std::fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_max").ok();
    let kernels = sysctl.and_then(|text| text.trim().parse().ok());
    // 0 is the kernel's word for no limit.
    kernels.filter(|&max| max > 0).unwrap_or(DEFAULT).min(CONNECTIONS_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slab_is_that_of_the_worker_with_the_most_queues() {
        assert_eq!(
            most_of_a_worker(&[3, 3, 3], 2),
            6,
            "of nine: each port's third queue is worker 0's too"
        );
        assert_eq!(most_of_a_worker(&[1, 1, 1], 2), 2, "single queues take turns");
        assert_eq!(most_of_a_worker(&[1, 4, 1], 1), 6);
        assert_eq!(most_of_a_worker(&[], 3), 0);
    }

    #[test]
    fn what_may_wait_is_what_qdiscs_ask_for_within_bounds() {
        assert_eq!(may_wait(0, 2), SHAPED, "a qdisc may come later");
        assert_eq!(may_wait(10_000, 2), 10_000);
        assert_eq!(
            [2, 32, 64].map(|queues| may_wait(u64::MAX, queues)),
            [32_768, 16_384, 4096]
        );
    }
}
