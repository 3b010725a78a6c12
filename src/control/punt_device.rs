//! The punt device: gives a frame back to the kernel, whole, as if it had just arrived on its port.
//!
//! ```text
//!  punt(port, frame) --one writev--> bypath0 (TAP) --bpf/punt.bpf.c--> the port's ingress, as if from the wire
//!
//!  metadata way:  [ifindex][frame][cookie?]      XDP moves the ifindex into metadata, tcx redirects    (kernel 6.16)
//!  tail way:      [frame][cookie?][ifindex]      clsact's filter reads and cuts the ifindex, redirects
//! ```
//!
//! The ifindex is a u32 in host byte order. The cookie stands on frames for a port whose XDP runs in generic mode, where
//! steer meets the frame again and cuts it off. Which way this kernel can go is found out by a probe, not by its version.
//!
//! The write is synchronous: the kernel's whole walk of the frame happens within it, some 3 us and more, hence a thread of
//! its own. No queue is here; nothing is allocated. The frame's checksums must be whole: one with a partial (pseudo-header)
//! checksum would be dropped as bad. An error is known only where the write fails; what is lost behind it (no such port,
//! port down) the kernel counts. Device and programs go when this is dropped, or the process dies.

use super::Error;
use super::bpf::punt::{OpenPuntSkel, PuntSkelBuilder};
use super::bpf::{BpfError, capture_log, link_create, on_map};
use super::steer::Cookie;
use super::tap::Tap;
use libbpf_rs::skel::{OpenSkel, SkelBuilder};
use libbpf_rs::{MapCore, MapFlags, MapHandle, TC_INGRESS, TcHook, libbpf_sys};
use std::fmt;
use std::io::{self, IoSlice, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

pub use crate::mirror::PUNT_DEVICE;

/// `PUNT_PROBE` in `bpf/punt.h`: the ifindex of no port.
const PROBE: u32 = 0xffff_ffff;

/// The shortest frame, an Ethernet header.
const FRAME_BYTES_MIN: usize = 14;

/// By which way frames go back into the kernel. See the module's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PuntWay {
    /// Tag at the head, XDP metadata, tcx.
    Metadata,
    /// Tag at the tail, clsact.
    Tail,
}

impl fmt::Display for PuntWay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PuntWay::Metadata => "by XDP metadata and tcx",
            PuntWay::Tail => "by clsact",
        })
    }
}

/// Why there is no punt device.
#[derive(Debug, thiserror::Error)]
pub enum PuntOpenError {
    /// The device exists: it is the lock.
    #[error("another bypath runs in this network namespace (the device bypath0 exists); stop it first")]
    InUse,
    /// /dev/net/tun cannot be opened.
    #[error("/dev/net/tun: {source}; load the module (`modprobe tun`) or let the container have the device")]
    NoTun {
        /// What the kernel said.
        source: io::Error,
    },
    /// A capability is missing.
    #[error("{what}: not permitted; run as root, or with CAP_NET_ADMIN and CAP_BPF")]
    NotPermitted {
        /// What was tried.
        what: &'static str,
    },
    /// A step failed.
    #[error("{what}: {source}; kernel 6.1 or newer with CONFIG_TUN is needed, and where this is one please report it")]
    System {
        /// What was tried.
        what: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// The programs did not load.
    #[error(transparent)]
    Bpf(#[from] BpfError),
    /// The programs are attached, and no frame comes through.
    #[error(
        "frames written into bypath0 do not come back ({way}: {outcomes}); `tc filter show dev bypath0 ingress` and `bpftool net` \
         show programs of others, and where there are none please report it with `uname -r`"
    )]
    NoWay {
        /// What was tried last.
        way: PuntWay,
        /// What the programs saw.
        outcomes: PuntOutcomes,
    },
}

impl From<PuntOpenError> for Error {
    fn from(why: PuntOpenError) -> Self {
        match why {
            PuntOpenError::InUse => Error::already_running(format!("the device {PUNT_DEVICE} exists")),
            why => Error::Other(why.to_string()),
        }
    }
}

impl PuntOpenError {
    pub(super) fn system(what: &'static str, source: io::Error) -> Self {
        match source.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => Self::NotPermitted { what },
            _ => Self::System { what, source },
        }
    }
}

/// Why a frame was not punted. It is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum PuntError {
    /// No Ethernet header.
    #[error("shorter than an Ethernet header")]
    TooShort,
    /// bypath0 is down.
    #[error("bypath0 is down; `ip link set bypath0 up`")]
    Down,
    /// bypath0 was deleted.
    #[error("bypath0 is gone")]
    Gone,
    /// No memory in the kernel.
    #[error("no memory")]
    NoMemory,
    /// Anything else, by errno.
    #[error("errno {0}")]
    Other(i32),
}

/// Frames by what the write said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PuntCounters {
    /// Given to the kernel.
    pub punted: u64,
    /// Not: [`PuntError::TooShort`].
    pub too_short: u64,
    /// Not: [`PuntError::Down`].
    pub down: u64,
    /// Not: [`PuntError::Gone`].
    pub gone: u64,
    /// Not: [`PuntError::NoMemory`].
    pub no_memory: u64,
    /// Not: [`PuntError::Other`].
    pub other: u64,
}

/// Frames by what the programs behind the device did with them; `enum punt_outcome` in `bpf/punt.h`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PuntOutcomes {
    /// To their port.
    pub redirected: u64,
    /// Probes of the metadata way.
    pub probed: u64,
    /// Dropped, no tag: written by somebody else.
    pub untagged: u64,
    /// Dropped, this kernel's TAP has no metadata room.
    pub no_metadata: u64,
    /// Dropped, ended within its own IP headers, from which the tail way cannot cut its tag.
    pub uncut: u64,
}

impl fmt::Display for PuntOutcomes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            redirected,
            probed,
            untagged,
            no_metadata,
            uncut,
        } = self;
        write!(
            f,
            "{redirected} redirected, {probed} probed, {untagged} untagged, {no_metadata} without room for metadata, {uncut} uncut"
        )
    }
}

/// The way back into the kernel. One per network namespace.
#[derive(Debug)]
pub struct PuntDevice {
    file: std::fs::File,
    ifindex: u32,
    way: PuntWay,
    outcomes: MapHandle,
    counters: PuntCounters,
    _links: Vec<OwnedFd>,
}

impl PuntDevice {
    /// Makes bypath0 in this thread's network namespace, by the best way that this kernel can go.
    ///
    /// # Errors
    /// [`PuntOpenError::InUse`] where there is one already; else what is missing.
    pub fn create() -> Result<Self, PuntOpenError> {
        match Self::create_by(PuntWay::Metadata) {
            Err(PuntOpenError::NoWay { .. } | PuntOpenError::System { .. } | PuntOpenError::Bpf(_)) => {
                Self::create_by(PuntWay::Tail)
            }
            result => result,
        }
    }

    /// The same by one way only.
    pub fn create_by(way: PuntWay) -> Result<Self, PuntOpenError> {
        let tap = Tap::create(PUNT_DEVICE)?;
        capture_log();
        let load = |e| BpfError::load("punt", e);
        let mut storage = MaybeUninit::uninit();
        let mut open = PuntSkelBuilder::default().open(&mut storage).map_err(load)?;
        load_only(&mut open, way);
        let skel = open.load().map_err(load)?;
        let links = match way {
            PuntWay::Metadata => {
                let step = |what| move |source| PuntOpenError::system(what, source);
                let (head, meta) = (skel.progs.punt_head.as_fd(), skel.progs.punt_meta.as_fd());
                let xdp = link_create(head, tap.ifindex, libbpf_sys::BPF_XDP, libbpf_sys::XDP_FLAGS_DRV_MODE);
                let tcx = link_create(meta, tap.ifindex, libbpf_sys::BPF_TCX_INGRESS, 0);
                vec![
                    xdp.map_err(step("attaching XDP to bypath0"))?,
                    tcx.map_err(step("attaching tcx to bypath0 (kernel 6.6)"))?,
                ]
            }
            PuntWay::Tail => {
                let mut hook = TcHook::new(skel.progs.punt_tail.as_fd());
                hook.ifindex(tap.ifindex as i32)
                    .attach_point(TC_INGRESS)
                    .handle(1)
                    .priority(1);
                let attached = hook.create().and_then(|mut hook| hook.attach());
                attached.map_err(|e| BpfError::load("punt (attaching clsact to bypath0)", e))?;
                Vec::new()
            }
        };
        tap.up()?;
        let outcomes = MapHandle::try_from(&skel.maps.outcomes).map_err(load)?;
        let (file, ifindex) = (tap.file, tap.ifindex);
        let mut device = Self {
            file,
            ifindex,
            way,
            outcomes,
            counters: PuntCounters::default(),
            _links: links,
        };
        device.probe()?;
        Ok(device)
    }

    /// Sends a frame that the programs know and drop, and looks whether it reached the last of them.
    fn probe(&mut self) -> Result<(), PuntOpenError> {
        let deadline = Instant::now() + Duration::from_millis(200);
        self.write(PROBE, &[0; 64], &[]).map_err(|e| match e {
            PuntError::Other(errno) => PuntOpenError::system("probing bypath0", io::Error::from_raw_os_error(errno)),
            _ => PuntOpenError::system("probing bypath0", io::Error::other(e)),
        })?;
        while self.outcomes()?.probed == 0 {
            if Instant::now() > deadline {
                return Err(PuntOpenError::NoWay {
                    way: self.way,
                    outcomes: self.outcomes()?,
                });
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Gives `frame`, from its Ethernet header on, to the kernel as if it had just arrived on the port `ifindex`.
    pub fn punt(&mut self, ifindex: u32, frame: &[u8]) -> Result<(), PuntError> {
        let result = self.write(ifindex, frame, &[]);
        self.count(result)
    }

    /// The same for a port whose XDP runs in generic mode; the cookie is [`Steer::cookie`](super::steer::Steer::cookie).
    pub fn punt_guarded(&mut self, ifindex: u32, frame: &[u8], cookie: &Cookie) -> Result<(), PuntError> {
        let result = self.write(ifindex, frame, cookie);
        self.count(result)
    }

    fn write(&mut self, ifindex: u32, frame: &[u8], cookie: &[u8]) -> Result<(), PuntError> {
        if frame.len() < FRAME_BYTES_MIN {
            return Err(PuntError::TooShort);
        }
        let tag = ifindex.to_ne_bytes();
        let [tag, frame, cookie] = [&tag, frame, cookie].map(IoSlice::new);
        let written = match self.way {
            PuntWay::Metadata => self.file.write_vectored(&[tag, frame, cookie]),
            PuntWay::Tail => self.file.write_vectored(&[frame, cookie, tag]),
        };
        match written {
            Ok(_) => Ok(()),
            Err(e) => Err(match e.raw_os_error().unwrap_or_default() {
                libc::EIO => PuntError::Down,
                libc::EBADFD => PuntError::Gone,
                libc::ENOMEM | libc::ENOBUFS | libc::EAGAIN => PuntError::NoMemory,
                errno => PuntError::Other(errno),
            }),
        }
    }

    fn count(&mut self, result: Result<(), PuntError>) -> Result<(), PuntError> {
        let counter = match result {
            Ok(()) => &mut self.counters.punted,
            Err(PuntError::TooShort) => &mut self.counters.too_short,
            Err(PuntError::Down) => &mut self.counters.down,
            Err(PuntError::Gone) => &mut self.counters.gone,
            Err(PuntError::NoMemory) => &mut self.counters.no_memory,
            Err(PuntError::Other(_)) => &mut self.counters.other,
        };
        *counter += 1;
        result
    }

    /// By which way it goes.
    pub fn way(&self) -> PuntWay {
        self.way
    }

    /// bypath0's own ifindex.
    pub fn ifindex(&self) -> u32 {
        self.ifindex
    }

    /// Frames by what the write said.
    pub fn counters(&self) -> PuntCounters {
        self.counters
    }

    /// Frames by what the programs did.
    pub fn outcomes(&self) -> Result<PuntOutcomes, BpfError> {
        let read = |row: u32| -> Result<u64, BpfError> {
            let cpus = self
                .outcomes
                .lookup_percpu(&row.to_ne_bytes(), MapFlags::ANY)
                .map_err(on_map("outcomes"))?;
            let words = cpus.iter().flatten().filter_map(|cpu| cpu.first_chunk::<8>());
            Ok(words.map(|word| u64::from_ne_bytes(*word)).sum())
        };
        Ok(PuntOutcomes {
            redirected: read(0)?,
            probed: read(1)?,
            untagged: read(2)?,
            no_metadata: read(3)?,
            uncut: read(4)?,
        })
    }
}

/// A kernel that lacks the metadata way shall not be asked to load its programs.
fn load_only(open: &mut OpenPuntSkel<'_>, way: PuntWay) {
    open.progs.punt_head.set_autoload(way == PuntWay::Metadata);
    open.progs.punt_meta.set_autoload(way == PuntWay::Metadata);
    open.progs.punt_tail.set_autoload(way == PuntWay::Tail);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `bpf/punt.h` is the other copy.
    #[test]
    fn outcomes_are_those_of_the_program() {
        let header = include_str!("../../bpf/punt.h");
        let list = header
            .split("enum punt_outcome {")
            .nth(1)
            .unwrap()
            .split("PUNT_OUTCOMES")
            .next()
            .unwrap();
        let words: Vec<&str> = list
            .lines()
            .filter_map(|l| l.trim().split_once(','))
            .map(|(word, _)| word)
            .collect();
        assert_eq!(words, ["REDIRECTED", "PROBED", "UNTAGGED", "NO_METADATA", "UNCUT"]);
        assert!(header.contains(&format!("#define PUNT_PROBE {PROBE:#x}")));
    }
}
