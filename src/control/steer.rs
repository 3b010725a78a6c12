//! The loader of steer (`bpf/steer.bpf.c`), and the one hand on its maps.
//!
//! ```text
//!   open --> set_local, set_port, set_slot --> attach        (maps first: a program that runs finds them filled)
//!                     ^ at any time, from any thread           drop the link --> detached; then close the sockets
//! ```
//!
//! One [`Steer`] serves all ports of the process: one program, one set of maps, one link per port. It holds nothing but file
//! descriptors and mapped memory, so that everything it made ends with the process. Sizes stand in `bpf/steer.h`; what is
//! beyond them is refused here with [`BpfError::Map`], but for the pass map, which forgets its oldest pairs.

use super::bpf::steer::{SteerSkelBuilder, types};
use super::bpf::{BpfError, Mapped, capture_log, on_map, test_run_xdp};
use super::jiffies::Jiffies;
use crate::port::STAMP_MAGIC;

use super::attach::attach;
pub use super::attach::{Attach, AttachError, AttachedLink, AttachedMode};
pub use super::decision::{Decision, DecisionCounts};
use libbpf_rs::skel::{OpenSkel, SkelBuilder};
use libbpf_rs::{MapCore, MapFlags, MapHandle, libbpf_sys};
use std::collections::HashMap;
use std::io;
use std::mem::{MaybeUninit, offset_of};
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub use crate::worker::HEARTBEAT_LIMIT;

/// The most queues that there are slots for; `MAX_SLOTS` in `bpf/steer.h`.
pub const SLOTS_MAX: usize = 2048;

/// The tail of a frame that is punted to a port in generic mode, so that steer knows it again. Secret: drawn at load.
pub type Cookie = [u8; 16];

/// What steer knows about a port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SteerPort {
    /// The port's own Ethernet address, or its bridge's: other unicast frames are not routed.
    pub mac: [u8; 6],
    /// Its row of counters, the port's index in this process.
    pub index: u16,
    /// The slot of its queue 0; queue q has `first_slot + q`.
    pub first_slot: u16,
    /// How many of its queues have slots.
    pub queues: u16,
    /// IPv4 that arrives here may go to the worker.
    pub carry_v4: bool,
    /// IPv6 that arrives here may go to the worker.
    pub carry_v6: bool,
    /// Every frame goes to the worker, whatever is in it.
    pub wire: bool,
    /// Stamp every frame's arrival, not one in 64.
    pub stamp_all: bool,
    /// It is attached in generic mode, so that punted frames come by again.
    pub generic: bool,
    /// IPv4 connections are tracked: what the kernel does better goes to the worker first.
    pub track_v4: bool,
    /// IPv6 connections are tracked.
    pub track_v6: bool,
    /// NAT is in force for IPv4: a frame to an address of the box is the box's only where a socket of it has its 4-tuple.
    pub nat_v4: bool,
    /// NAT is in force for IPv6.
    pub nat_v6: bool,
    /// It is a bridge's port: frames to other unicast addresses are bridged.
    pub bridge: bool,
    /// IPv4 that is bridged may go to the worker.
    pub bridge_v4: bool,
    /// IPv6 that is bridged may go to the worker.
    pub bridge_v6: bool,
    /// All else that is bridged may go to the worker, tagged frames among it.
    pub bridge_other: bool,
    /// Frames may come as segmentation offload merged them.
    pub may_merge: bool,
    /// IPv4 that is bridged passes the hooks of IP, where connections are tracked.
    pub hooked_v4: bool,
    /// IPv6 that is bridged does.
    pub hooked_v6: bool,
    /// The longest frame in bytes that goes to the worker while `may_merge`; 0 is no limit.
    pub len_max: u16,
}

/// What an address of the box is; `enum local` in `bpf/steer.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum LocalKind {
    /// Its own, which NAT may use for others.
    Unicast = 1,
    /// A network's: what goes there is always the kernel's.
    Broadcast = 2,
}

/// What steer did with one frame, in a trial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trial {
    /// Redirected to a worker; else passed to the kernel.
    pub redirected: bool,
    /// The frame afterwards.
    pub frame: Vec<u8>,
    /// The arrival stamp before it, CLOCK_MONOTONIC in nanoseconds.
    pub stamp_ns: Option<u64>,
}

/// The loaded program and its maps. All calls take `&self` and may come from any thread.
#[derive(Debug)]
pub struct Steer {
    program: OwnedFd,
    ports: MapHandle,
    near_ports: MapHandle,
    xsks: MapHandle,
    slot_worker: MapHandle,
    local_v4: MapHandle,
    local_v6: MapHandle,
    pass: MapHandle,
    stats: MapHandle,
    heartbeats: Arc<Mapped>,
    globals: Mapped,
    local: Mutex<HashMap<IpAddr, LocalKind>>,
    jiffies: Jiffies,
    cookie: Cookie,
}

impl Steer {
    /// Loads the program, with no port and no address known. A worker silent for `heartbeat_limit` is taken for stalled.
    ///
    /// # Errors
    /// Missing capabilities, a kernel that is too old, no memory, or a clock that cannot be calibrated.
    pub fn open(heartbeat_limit: Duration) -> Result<Self, BpfError> {
        let jiffies = Jiffies::calibrate()?;
        let cookie = draw_cookie()?;
        capture_log();
        let load = |e| BpfError::load("steer", e);
        let mut storage = MaybeUninit::uninit();
        let mut open = SteerSkelBuilder::default().open(&mut storage).map_err(load)?;
        if let Some(rodata) = open.maps.rodata_data.as_mut() {
            rodata.heartbeat_limit = jiffies.count(heartbeat_limit);
            let (a, b) = cookie.split_at(8);
            rodata.cookie = [a, b].map(|half| u64::from_ne_bytes(half.try_into().unwrap_or_default()));
        }
        let skel = open.load().map_err(load)?;
        let maps = &skel.maps;
        let heartbeat = MapHandle::try_from(&maps.heartbeat).map_err(load)?;
        Ok(Self {
            program: skel
                .progs
                .steer
                .as_fd()
                .try_clone_to_owned()
                .map_err(|e| load(e.into()))?,
            ports: MapHandle::try_from(&maps.ports).map_err(load)?,
            near_ports: MapHandle::try_from(&maps.near_ports).map_err(load)?,
            xsks: MapHandle::try_from(&maps.xsks).map_err(load)?,
            slot_worker: MapHandle::try_from(&maps.slot_worker).map_err(load)?,
            local_v4: MapHandle::try_from(&maps.local_v4).map_err(load)?,
            local_v6: MapHandle::try_from(&maps.local_v6).map_err(load)?,
            pass: MapHandle::try_from(&maps.pass).map_err(load)?,
            stats: MapHandle::try_from(&maps.stats).map_err(load)?,
            heartbeats: Arc::new(Mapped::new(&heartbeat, heartbeat.max_entries() as usize)?),
            globals: Mapped::new(
                &MapHandle::try_from(&maps.bss).map_err(load)?,
                size_of::<types::bss>() / 8,
            )?,
            local: Mutex::default(),
            jiffies,
            cookie,
        })
    }

    /// How workers compute what they write into [`Steer::heartbeats`].
    pub fn jiffies(&self) -> Jiffies {
        self.jiffies
    }

    /// What to append to frames that are punted to a port in generic mode.
    pub fn cookie(&self) -> Cookie {
        self.cookie
    }

    /// One word per worker: jiffies64 of its last sign of life. 0, as at first, is a stalled worker. Neighbours share a
    /// cache line, so store only when the value changes.
    pub fn heartbeats(&self) -> Arc<Mapped> {
        Arc::clone(&self.heartbeats)
    }

    /// Makes a port known, or changes what is known; its frames pass uncounted before.
    pub fn set_port(&self, ifindex: u32, port: &SteerPort) -> Result<(), BpfError> {
        // In the order of the bits PORT_*.
        let flags = [
            port.carry_v4,
            port.carry_v6,
            port.wire,
            port.stamp_all,
            port.generic,
            port.track_v4,
            port.track_v6,
            port.nat_v4,
            port.nat_v6,
            port.bridge,
            port.bridge_v4,
            port.bridge_v6,
            port.bridge_other,
            port.may_merge,
            port.hooked_v4,
            port.hooked_v6,
        ];
        let record = types::port {
            mac: port.mac,
            flags: flags.iter().enumerate().map(|(bit, &on)| u16::from(on) << bit).sum(),
            index: port.index,
            first_slot: port.first_slot,
            queues: port.queues,
            len_max: port.len_max,
        };
        self.ports
            .update(&ifindex.to_ne_bytes(), bytes(&record), MapFlags::ANY)
            .map_err(on_map("ports"))?;
        self.set_near(ifindex, &record)
    }

    fn set_near(&self, ifindex: u32, record: &types::port) -> Result<(), BpfError> {
        if ifindex >= self.near_ports.max_entries() {
            return Ok(());
        }
        self.near_ports
            .update(&ifindex.to_ne_bytes(), bytes(record), MapFlags::ANY)
            .map_err(on_map("near_ports"))
    }

    /// Forgets a port: its frames pass.
    pub fn remove_port(&self, ifindex: u32) -> Result<(), BpfError> {
        self.set_near(ifindex, &types::port::default())?;
        delete(&self.ports, "ports", &ifindex.to_ne_bytes())
    }

    /// Puts a bound AF_XDP socket, whose worker is `worker`, into a slot.
    pub fn set_slot(&self, slot: u16, socket: BorrowedFd<'_>, worker: u16) -> Result<(), BpfError> {
        let key = u32::from(slot).to_ne_bytes();
        let fd = socket.as_raw_fd().to_ne_bytes();
        self.xsks.update(&key, &fd, MapFlags::ANY).map_err(on_map("xsks"))?;
        let worker = (u32::from(worker) + 1).to_ne_bytes();
        self.slot_worker
            .update(&key, &worker, MapFlags::ANY)
            .map_err(on_map("slot_worker"))
    }

    /// Empties a slot: the frames of its queue pass.
    pub fn clear_slot(&self, slot: u16) -> Result<(), BpfError> {
        let key = u32::from(slot).to_ne_bytes();
        self.slot_worker
            .update(&key, &[0; 4], MapFlags::ANY)
            .map_err(on_map("slot_worker"))?;
        delete(&self.xsks, "xsks", &key)
    }

    /// Makes `addresses` the box's own and broadcast addresses. Only the difference to before is written, new ones first.
    ///
    /// # Errors
    /// More of them than the maps hold; those that found room are in force.
    pub fn set_local(&self, addresses: impl IntoIterator<Item = (IpAddr, LocalKind)>) -> Result<(), BpfError> {
        let wanted: HashMap<IpAddr, LocalKind> = addresses.into_iter().collect();
        let mut known = self.local.lock().unwrap_or_else(|e| e.into_inner());
        // Bits come before their addresses and go after them.
        self.set_local_bits(wanted.keys().chain(known.keys()));
        for (address, kind) in &wanted {
            if known.get(address) != Some(kind) {
                let (map, name, octets) = self.local_map(address);
                map.update(&octets, &[*kind as u8], MapFlags::ANY)
                    .map_err(on_map(name))?;
                known.insert(*address, *kind);
            }
        }
        for address in known.keys().filter(|known| !wanted.contains_key(known)) {
            let (map, name, octets) = self.local_map(address);
            delete(map, name, &octets)?;
        }
        self.set_local_bits(wanted.keys());
        *known = wanted;
        Ok(())
    }

    fn set_local_bits<'a>(&self, addresses: impl Iterator<Item = &'a IpAddr>) {
        let mut bits = [0u64; 2];
        for address in addresses {
            let (family, folded) = match address {
                IpAddr::V4(v4) => (0, u32::from_ne_bytes(v4.octets())),
                IpAddr::V6(v6) => {
                    let words = v6.octets();
                    let words = words.chunks_exact(4).filter_map(|word| word.first_chunk());
                    (1, words.fold(0, |folded, word| folded ^ u32::from_ne_bytes(*word)))
                }
            };
            // As may_be_local in steer.bpf.c.
            bits[family] |= 1 << (folded.wrapping_mul(0x9e37_79b1) >> 26);
        }
        let places = [
            offset_of!(types::bss, local_bits_v4),
            offset_of!(types::bss, local_bits_v6),
        ];
        for (place, bits) in places.into_iter().zip(bits) {
            self.global(place).store(bits, Ordering::Release);
        }
    }

    fn local_map(&self, address: &IpAddr) -> (&MapHandle, &'static str, Vec<u8>) {
        match address {
            IpAddr::V4(v4) => (&self.local_v4, "local_v4", v4.octets().to_vec()),
            IpAddr::V6(v6) => (&self.local_v6, "local_v6", v6.octets().to_vec()),
        }
    }

    /// Begins a generation: pairs that were left to the kernel in another one are so no longer.
    pub fn set_generation(&self, generation: u64) {
        self.pass_used().store(0, Ordering::Release);
        self.global(offset_of!(types::bss, generation))
            .store(generation, Ordering::Release);
    }

    /// Leaves what arrives on `ifindex` from `src` to `dst` to the kernel, as long as `generation` lasts.
    pub fn leave(&self, ifindex: u32, src: IpAddr, dst: IpAddr, generation: u64) -> Result<(), BpfError> {
        let mut key = types::pass_key {
            ifindex,
            ..Default::default()
        };
        match (src, dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                key.family = 4;
                key.src[..4].copy_from_slice(&src.octets());
                key.dst[..4].copy_from_slice(&dst.octets());
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                key.family = 6;
                key.src = src.octets();
                key.dst = dst.octets();
            }
            _ => return Ok(()),
        }
        self.pass
            .update(bytes(&key), &generation.to_ne_bytes(), MapFlags::ANY)
            .map_err(on_map("pass"))?;
        self.pass_used().store(1, Ordering::Release);
        Ok(())
    }

    fn pass_used(&self) -> &AtomicU64 {
        self.global(offset_of!(types::bss, pass_used))
    }

    fn global(&self, offset: usize) -> &AtomicU64 {
        &self.globals[offset / 8]
    }

    /// What became of the frames of the port with this index, since its counters were last cleared.
    pub fn stats(&self, index: u16) -> Result<DecisionCounts, BpfError> {
        let mut counts = DecisionCounts::default();
        for (count, &decision) in counts.0.iter_mut().zip(Decision::ALL) {
            *count = self.count(index, decision)?;
        }
        Ok(counts)
    }

    /// The same, of one decision.
    pub fn count(&self, index: u16, decision: Decision) -> Result<u64, BpfError> {
        let key = stats_key(index, decision);
        let cpus = self.stats.lookup_percpu(&key, MapFlags::ANY).map_err(on_map("stats"))?;
        let words = cpus.iter().flatten().filter_map(|cpu| cpu.first_chunk::<8>());
        Ok(words.map(|word| u64::from_ne_bytes(*word)).sum())
    }

    /// Sets a port's counters to zero, for the next port with its index.
    pub fn clear_stats(&self, index: u16) -> Result<(), BpfError> {
        let cpus = libbpf_rs::num_possible_cpus().map_err(on_map("stats"))?;
        let zeros = vec![vec![0; 8]; cpus];
        for &decision in Decision::ALL {
            let key = stats_key(index, decision);
            self.stats
                .update_percpu(&key, &zeros, MapFlags::ANY)
                .map_err(on_map("stats"))?;
        }
        Ok(())
    }

    /// Attaches steer to an interface of this thread's network namespace.
    pub fn attach(&self, ifindex: u32, how: Attach) -> Result<AttachedLink, AttachError> {
        attach(self.program.as_fd(), ifindex, how)
    }

    /// What steer does with a frame of this queue of this port (BPF_PROG_TEST_RUN); the port's counters count it. The
    /// frame, of at least 14 bytes, goes nowhere.
    pub fn trial(&self, ifindex: u32, queue: u32, frame: &[u8]) -> io::Result<Trial> {
        let (verdict, mut out, metadata) = test_run_xdp(self.program.as_fd(), frame, ifindex, queue)?;
        let frame = out.split_off(metadata.min(out.len()));
        let stamp_ns = match out.as_chunks::<8>().0 {
            [.., magic, time] if u64::from_ne_bytes(*magic) == STAMP_MAGIC => Some(u64::from_ne_bytes(*time)),
            _ => None,
        };
        Ok(Trial {
            redirected: verdict == libbpf_sys::XDP_REDIRECT,
            frame,
            stamp_ns,
        })
    }
}

fn stats_key(index: u16, decision: Decision) -> [u8; 4] {
    (u32::from(index) * Decision::ALL.len() as u32 + decision as u32).to_ne_bytes()
}

fn delete(map: &MapHandle, name: &'static str, key: &[u8]) -> Result<(), BpfError> {
    match map.delete(key) {
        Err(e) if e.kind() != libbpf_rs::ErrorKind::NotFound => Err(on_map(name)(e)),
        _ => Ok(()),
    }
}

/// Records of the skeleton that have no padding.
trait Record: Copy {}
impl Record for types::port {}
impl Record for types::pass_key {}

fn bytes<T: Record>(record: &T) -> &[u8] {
    // SAFETY: a `Record` is `repr(C)` without padding, so each of its bytes is initialised.
    unsafe { std::slice::from_raw_parts((record as *const T).cast(), size_of::<T>()) }
}

fn draw_cookie() -> Result<Cookie, BpfError> {
    let mut cookie = Cookie::default();
    // SAFETY: the kernel writes at most `len` bytes into the buffer.
    match unsafe { libc::getrandom(cookie.as_mut_ptr().cast(), cookie.len(), 0) } {
        16 => Ok(cookie),
        _ => Err(BpfError::system("drawing random bytes")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_have_no_padding() {
        assert_eq!(size_of::<types::port>(), 6 + 5 * 2);
        assert_eq!(size_of::<types::pass_key>(), 4 + 4 + 16 + 16);
    }
}
