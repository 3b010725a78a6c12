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
use super::bpf::{BpfError, Mapped, capture_log, link_create, on_map, test_run_xdp};
use super::jiffies::Jiffies;
use libbpf_rs::skel::{OpenSkel, SkelBuilder};
use libbpf_rs::{MapCore, MapFlags, MapHandle, libbpf_sys};
use std::collections::HashSet;
use std::io;
use std::mem::{MaybeUninit, offset_of};
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A worker that gave no sign of life for so long gets no frames.
pub const HEARTBEAT_LIMIT: Duration = Duration::from_millis(750);

/// The first eight bytes of an arrival stamp, as a u64 in host order; the time (CLOCK_MONOTONIC, ns) is the next eight.
/// The stamp lies just before the frame's first byte. Whoever reads it clears the magic, or the buffer's next frame, which
/// may have no stamp, would inherit it.
pub const STAMP_MAGIC: u64 = 0x0168_7461_7079_6264;

/// The tail of a frame that is punted to a port in generic mode, so that steer knows it again. Secret: drawn at load.
pub type Cookie = [u8; 16];

macro_rules! decisions {
    ($($(#[$doc:meta])* $variant:ident = $word:literal,)*) => {
        /// What steer did with a frame; `enum decision` in `bpf/steer.h`. Only `Redirect` brings it to a worker.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Decision { $($(#[$doc])* $variant,)* }

        impl Decision {
            /// Every decision, in the order of its counter.
            pub const ALL: &'static [Decision] = &[$(Decision::$variant,)*];

            /// The one word for it in counters and docs.
            pub const fn word(self) -> &'static str {
                match self { $(Decision::$variant => $word,)* }
            }
        }
    };
}

decisions! {
    /// Into the AF_XDP ring of this port and queue.
    Redirect = "redirect",
    /// Punted by us, back on a port in generic mode.
    Reinjected = "reinjected",
    /// Shorter than its headers, or than its IP header says.
    Truncated = "truncated",
    /// To a multicast or broadcast MAC.
    Group = "group",
    /// To a MAC that is not the port's.
    ForeignMac = "foreign_mac",
    /// 802.1Q or 802.1ad.
    Vlan = "vlan",
    /// Neither IPv4 nor IPv6.
    NotIp = "not_ip",
    /// This family on this port is left to the kernel.
    FamilyLeft = "family_left",
    /// IP version or lengths that contradict each other.
    Malformed = "malformed",
    /// IPv4 options.
    Options = "options",
    /// IPv6 extension headers.
    Extension = "extension",
    /// TTL or hop limit used up.
    Ttl = "ttl",
    /// A source or destination that no forwarded packet has.
    Martian = "martian",
    /// To the box itself, or a broadcast address of its.
    Local = "local",
    /// [`Steer::leave`] left this pair of addresses to the kernel.
    Left = "left",
    /// No AF_XDP socket on this queue.
    NoSocket = "no_socket",
    /// The worker's heartbeat is too old.
    Stalled = "stalled",
}

/// Frames per decision on one port, all CPUs together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DecisionCounts([u64; Decision::ALL.len()]);

impl DecisionCounts {
    /// Frames that met this decision.
    pub fn of(&self, decision: Decision) -> u64 {
        self.0[decision as usize]
    }

    /// Every decision with its frames.
    pub fn iter(&self) -> impl Iterator<Item = (Decision, u64)> + '_ {
        Decision::ALL.iter().map(|&decision| (decision, self.of(decision)))
    }
}

/// What steer knows about a port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SteerPort {
    /// The port's own Ethernet address: other unicast frames are not routed.
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
}

/// How to attach.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Attach {
    /// Native where the driver can, else generic.
    #[default]
    Auto,
    /// In the driver only.
    Native,
    /// In the stack, after the skb is made: slower, works everywhere.
    Generic,
}

/// How it is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttachedMode {
    /// In the driver.
    Native,
    /// In the stack.
    Generic,
}

/// steer on one port, until this is dropped.
#[derive(Debug)]
pub struct AttachedLink {
    _link: OwnedFd,
    /// In which mode.
    pub mode: AttachedMode,
    /// Why it is not native, where [`Attach::Auto`] tried that first.
    pub refused: Option<io::Error>,
}

/// Why steer could not be attached to a port.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// The port has an XDP program already.
    #[error("another XDP program is attached; see `ip link show`, and end its owner or `ip link set dev .. xdp off`")]
    Busy,
    /// There is no such interface in this network namespace.
    #[error("no such interface")]
    NoDevice,
    /// A capability is missing.
    #[error("not permitted; run as root, or with CAP_NET_ADMIN and CAP_BPF")]
    NotPermitted,
    /// The driver or the stack refuses.
    #[error("{mode} XDP is refused ({source}); {hint}")]
    Refused {
        /// The mode that was tried last.
        mode: &'static str,
        /// What the kernel said.
        source: io::Error,
        /// What to try.
        hint: &'static str,
    },
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
    xsks: MapHandle,
    slot_worker: MapHandle,
    local_v4: MapHandle,
    local_v6: MapHandle,
    pass: MapHandle,
    stats: MapHandle,
    heartbeats: Arc<Mapped>,
    globals: Mapped,
    local: Mutex<HashSet<IpAddr>>,
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
            program: skel.progs.steer.as_fd().try_clone_to_owned().map_err(|e| load(e.into()))?,
            ports: MapHandle::try_from(&maps.ports).map_err(load)?,
            xsks: MapHandle::try_from(&maps.xsks).map_err(load)?,
            slot_worker: MapHandle::try_from(&maps.slot_worker).map_err(load)?,
            local_v4: MapHandle::try_from(&maps.local_v4).map_err(load)?,
            local_v6: MapHandle::try_from(&maps.local_v6).map_err(load)?,
            pass: MapHandle::try_from(&maps.pass).map_err(load)?,
            stats: MapHandle::try_from(&maps.stats).map_err(load)?,
            heartbeats: Arc::new(Mapped::new(&heartbeat, heartbeat.max_entries() as usize)?),
            globals: Mapped::new(&MapHandle::try_from(&maps.bss).map_err(load)?, size_of::<types::bss>() / 8)?,
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
        let flags = [port.carry_v4, port.carry_v6, port.wire, port.stamp_all, port.generic];
        let record = types::port {
            mac: port.mac,
            flags: flags.iter().enumerate().map(|(bit, &on)| u16::from(on) << bit).sum(),
            index: port.index,
            first_slot: port.first_slot,
            queues: port.queues,
            pad: 0,
        };
        self.ports.update(&ifindex.to_ne_bytes(), bytes(&record), MapFlags::ANY).map_err(on_map("ports"))
    }

    /// Forgets a port: its frames pass.
    pub fn remove_port(&self, ifindex: u32) -> Result<(), BpfError> {
        delete(&self.ports, "ports", &ifindex.to_ne_bytes())
    }

    /// Puts a bound AF_XDP socket, whose worker is `worker`, into a slot.
    pub fn set_slot(&self, slot: u16, socket: BorrowedFd<'_>, worker: u16) -> Result<(), BpfError> {
        let key = u32::from(slot).to_ne_bytes();
        let fd = socket.as_raw_fd().to_ne_bytes();
        self.xsks.update(&key, &fd, MapFlags::ANY).map_err(on_map("xsks"))?;
        let worker = (u32::from(worker) + 1).to_ne_bytes();
        self.slot_worker.update(&key, &worker, MapFlags::ANY).map_err(on_map("slot_worker"))
    }

    /// Empties a slot: the frames of its queue pass.
    pub fn clear_slot(&self, slot: u16) -> Result<(), BpfError> {
        let key = u32::from(slot).to_ne_bytes();
        self.slot_worker.update(&key, &[0; 4], MapFlags::ANY).map_err(on_map("slot_worker"))?;
        delete(&self.xsks, "xsks", &key)
    }

    /// Makes `addresses` the box's own and broadcast addresses. Only the difference to before is written, new ones first.
    ///
    /// # Errors
    /// More of them than the maps hold; those that found room are in force.
    pub fn set_local(&self, addresses: impl IntoIterator<Item = IpAddr>) -> Result<(), BpfError> {
        let wanted: HashSet<IpAddr> = addresses.into_iter().collect();
        let mut known = self.local.lock().unwrap_or_else(|e| e.into_inner());
        for address in &wanted {
            if !known.contains(address) {
                let (map, name, octets) = self.local_map(address);
                map.update(&octets, &[1], MapFlags::ANY).map_err(on_map(name))?;
                known.insert(*address);
            }
        }
        for address in known.iter().filter(|known| !wanted.contains(known)) {
            let (map, name, octets) = self.local_map(address);
            delete(map, name, &octets)?;
        }
        *known = wanted;
        Ok(())
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
        self.global(offset_of!(types::bss, generation)).store(generation, Ordering::Release);
    }

    /// Leaves what arrives on `ifindex` from `src` to `dst` to the kernel, as long as `generation` lasts.
    pub fn leave(&self, ifindex: u32, src: IpAddr, dst: IpAddr, generation: u64) -> Result<(), BpfError> {
        let mut key = types::pass_key { ifindex, ..Default::default() };
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
        self.pass.update(bytes(&key), &generation.to_ne_bytes(), MapFlags::ANY).map_err(on_map("pass"))?;
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
        let key = u32::from(index).to_ne_bytes();
        let rows = self.stats.lookup_percpu(&key, MapFlags::ANY).map_err(on_map("stats"))?.unwrap_or_default();
        let mut counts = DecisionCounts::default();
        for row in &rows {
            for (count, word) in counts.0.iter_mut().zip(row.as_chunks::<8>().0) {
                *count += u64::from_ne_bytes(*word);
            }
        }
        Ok(counts)
    }

    /// Sets a port's counters to zero, for the next port with its index.
    pub fn clear_stats(&self, index: u16) -> Result<(), BpfError> {
        let cpus = libbpf_rs::num_possible_cpus().map_err(on_map("stats"))?;
        let zeros = vec![vec![0; size_of::<types::counters>()]; cpus];
        let key = u32::from(index).to_ne_bytes();
        self.stats.update_percpu(&key, &zeros, MapFlags::ANY).map_err(on_map("stats"))
    }

    /// Attaches steer to an interface of this thread's network namespace.
    pub fn attach(&self, ifindex: u32, how: Attach) -> Result<AttachedLink, AttachError> {
        let attach = |flags| link_create(self.program.as_fd(), ifindex, libbpf_sys::BPF_XDP, flags);
        let (native, generic) = (libbpf_sys::XDP_FLAGS_DRV_MODE, libbpf_sys::XDP_FLAGS_SKB_MODE);
        let mut refused = None;
        if how != Attach::Generic {
            match attach(native) {
                Ok(link) => return Ok(AttachedLink { _link: link, mode: AttachedMode::Native, refused }),
                Err(e) if how == Attach::Auto && !is_final(&e) => refused = Some(e),
                Err(e) => return Err(AttachError::new("native", e)),
            }
        }
        match attach(generic) {
            Ok(link) => Ok(AttachedLink { _link: link, mode: AttachedMode::Generic, refused }),
            Err(e) => Err(AttachError::new("generic", e)),
        }
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
        Ok(Trial { redirected: verdict == libbpf_sys::XDP_REDIRECT, frame, stamp_ns })
    }
}

/// Errors that no other mode would mend.
fn is_final(e: &io::Error) -> bool {
    matches!(e.raw_os_error(), Some(libc::EBUSY | libc::EEXIST | libc::ENODEV | libc::EPERM | libc::EACCES))
}

impl AttachError {
    fn new(mode: &'static str, source: io::Error) -> Self {
        match source.raw_os_error() {
            Some(libc::EBUSY | libc::EEXIST) => Self::Busy,
            Some(libc::ENODEV) => Self::NoDevice,
            Some(libc::EPERM | libc::EACCES) => Self::NotPermitted,
            _ if mode == "native" => {
                Self::Refused { mode, source, hint: "lower its MTU, turn off LRO, or use `--attach generic`" }
            }
            _ => Self::Refused { mode, source, hint: "turn off LRO on it, or leave it to the kernel" },
        }
    }
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

    /// `bpf/steer.h` is the other copy of the table.
    #[test]
    fn decisions_are_those_of_the_program() {
        let header = include_str!("../../bpf/steer.h");
        let list = header.split("enum decision {").nth(1).unwrap().split("DECISIONS,").next().unwrap();
        let words: Vec<String> =
            list.lines().filter_map(|line| line.split(',').next()).map(|w| w.trim().to_lowercase()).collect();
        let words: Vec<&str> = words.iter().map(String::as_str).filter(|word| !word.is_empty()).collect();
        assert_eq!(words, Decision::ALL.iter().map(|d| d.word()).collect::<Vec<_>>());
        assert_eq!(size_of::<types::counters>(), Decision::ALL.len() * 8);
        assert!(header.contains(&format!("#define STAMP_MAGIC {STAMP_MAGIC:#018x}ULL")));
    }

    #[test]
    fn records_have_no_padding() {
        assert_eq!(size_of::<types::port>(), 6 + 5 * 2);
        assert_eq!(size_of::<types::pass_key>(), 4 + 4 + 16 + 16);
    }
}
