//! What a start decides before it opens anything: workers, their CPUs, and the packet memory.
//!
//! From the ports that are there at the start and their queues; a port that comes later takes what is left. The memory is
//! fixed then: a slab per worker, sized so that all rings of its queues and its queues to other threads can be full.

use super::config::{self, Mode, RunConfig};
use super::dealing::{Rings, slab_frames, workers_for};
use super::error::Error;
use crate::port::link::{Link, XdpFeatures, frame_size};
use crate::port::umem::{self, UmemConfig};
use crate::worker::Limits;

/// How many workers, where, and with how much memory.
pub struct Plan {
    /// Workers, and the lengths of their queues.
    pub limits: Limits,
    /// Lengths of the rings of each queue.
    pub rings: Rings,
    /// Bytes.
    pub frame_size: u32,
    /// Where each worker is pinned, if it is.
    pub cpus: Vec<Option<usize>>,
}

impl Plan {
    /// For the ports of `config`, as far as they are there.
    pub fn new(config: &RunConfig) -> Result<Self, Error> {
        let links: Vec<Link> = config.ports.iter().filter_map(|name| Link::query(name).ok()).collect();
        let queues_of = |link: &Link| link.rx_queues.min(link.tx_queues).max(1);
        let most = links.iter().map(queues_of).max().unwrap_or(1);
        // Unless told, from the last CPU down: the first ones tend to have the interrupts and everybody else's work.
        let cpus = match config.cpus.as_slice() {
            [] => config::available_cpus().into_iter().rev().collect(),
            named => named.to_vec(),
        };
        let asked = config
            .workers
            .or((!config.cpus.is_empty()).then_some(config.cpus.len()));
        let workers = asked.unwrap_or_else(|| workers_for(most, cpus.len()));
        let pairs: usize = links
            .iter()
            .map(|link| queues_of(link) as usize)
            .sum::<usize>()
            .max(config.ports.len());
        let rings = Rings::for_queues(pairs);
        let each = pairs.div_ceil(workers).max(config.ports.len().div_ceil(workers));
        let mut limits = Limits::new(workers, 0);
        limits.connections = if config.wire { 1 } else { connections_max() };
        limits.slab_frames = slab_frames(each, rings, limits.handoffs + limits.punts);
        let zero_copy =
            config.mode != Mode::Copy && links.iter().any(|link| link.xdp.is_some_and(XdpFeatures::zero_copy));
        let pins = (0..workers)
            .map(|n| (workers <= cpus.len()).then(|| cpus.get(n).copied()).flatten())
            .collect();
        Ok(Self {
            limits,
            rings,
            frame_size: frame_size(zero_copy),
            cpus: pins,
        })
    }

    /// The packet memory of all workers.
    pub fn umem(&self, mode: Mode) -> UmemConfig {
        UmemConfig {
            workers: self.limits.workers as u16,
            frames_per_worker: self.limits.slab_frames,
            frame_size: self.frame_size,
            fill_size: self.rings.rx,
            completion_size: self.rings.tx,
            mode: match mode {
                Mode::Auto => umem::Mode::Auto,
                Mode::Zerocopy => umem::Mode::ZeroCopy,
                Mode::Copy => umem::Mode::Copy,
            },
            ..UmemConfig::default()
        }
    }
}

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
