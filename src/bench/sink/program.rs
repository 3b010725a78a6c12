//! The loader of `bpf/sink.bpf.c`: the program on a port, and its counters. It keeps descriptors only, so that it ends with the
//! process; the link is dropped first, and the port is as it was.
//!
//! The program is native where the driver can, else the kernel runs it in the stack (generic). Counters are never reset: who counts
//! a trial takes the difference.

use crate::port::link::{Attached, Link};
use libbpf_rs::skel::{OpenSkel, SkelBuilder};
use libbpf_rs::{ErrorKind, MapCore, MapFlags, MapHandle, ProgramMut};
use std::mem::MaybeUninit;
use std::os::fd::RawFd;

#[allow(missing_docs, clippy::all, clippy::undocumented_unsafe_blocks, unreachable_pub)]
mod skel {
    include!(concat!(env!("OUT_DIR"), "/sink.skel.rs"));
}

/// As MAX_QUEUES in the program.
pub(super) const QUEUES_MAX: u32 = 64;
/// Words of `struct counts`.
const WORDS: usize = 4;

/// What the program counted, over all CPUs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) ours: u64,
    pub(super) foreign: u64,
    pub(super) unstamped: u64,
}

impl Counts {
    /// What was counted since `before`.
    pub(super) fn since(self, before: Counts) -> Counts {
        Counts {
            ours: self.ours.saturating_sub(before.ours),
            foreign: self.foreign.saturating_sub(before.foreign),
            unstamped: self.unstamped.saturating_sub(before.unstamped),
        }
    }
}

/// The program, attached to a port.
#[derive(Debug)]
pub(super) struct Program {
    _link: libbpf_rs::Link,
    config: MapHandle,
    counts: MapHandle,
    sockets: MapHandle,
    first: u16,
}

impl Program {
    /// Loads it and attaches it to `link`, to look at frames or merely to count them.
    pub(super) fn attach(link: &Link, look: bool, first: u16) -> Result<Self, String> {
        libbpf_rs::set_print(None);
        let load = |error: libbpf_rs::Error| match error.kind() {
            ErrorKind::PermissionDenied => {
                "loading the BPF program sink: not permitted; run as root, or with CAP_BPF and CAP_NET_ADMIN".to_owned()
            }
            _ => {
                format!("loading the BPF program sink: {error}; kernel 6.1 or newer with CONFIG_BPF_SYSCALL is needed")
            }
        };
        let mut storage = MaybeUninit::uninit();
        let open = skel::SinkSkelBuilder::default().open(&mut storage).map_err(load)?;
        let skel = open.load().map_err(load)?;
        let program: &ProgramMut<'_> = if look {
            &skel.progs.sink_look
        } else {
            &skel.progs.sink_count
        };
        let attached = program
            .attach_xdp(link.ifindex as i32)
            .map_err(|error| refused(link, &error))?;
        let made = Self {
            _link: attached,
            config: MapHandle::try_from(&skel.maps.config).map_err(load)?,
            counts: MapHandle::try_from(&skel.maps.counts).map_err(load)?,
            sockets: MapHandle::try_from(&skel.maps.sockets).map_err(load)?,
            first,
        };
        made.set_run(first)?;
        Ok(made)
    }

    /// Has frames of trial `run` be ours, and what is of an earlier one not.
    pub(super) fn set_run(&self, run: u16) -> Result<(), String> {
        let mut value = [0; 4];
        value[..2].copy_from_slice(&self.first.to_ne_bytes());
        value[2..].copy_from_slice(&run.to_ne_bytes());
        self.config
            .update(&0u32.to_ne_bytes(), &value, MapFlags::ANY)
            .map_err(|error| format!("BPF map config: {error}"))
    }

    /// Has what arrives on `queue` go to the socket `fd`.
    pub(super) fn set_socket(&self, queue: u32, fd: RawFd) -> Result<(), String> {
        self.sockets
            .update(&queue.to_ne_bytes(), &fd.to_ne_bytes(), MapFlags::ANY)
            .map_err(|error| format!("BPF map sockets: {error}"))
    }

    /// What was counted since the program was attached.
    pub(super) fn counts(&self) -> Result<Counts, String> {
        let per_cpu = self
            .counts
            .lookup_percpu(&0u32.to_ne_bytes(), MapFlags::ANY)
            .map_err(|error| format!("BPF map counts: {error}"))?;
        let mut sum = Counts::default();
        for value in per_cpu.into_iter().flatten() {
            let mut words = [0u64; WORDS];
            for (word, bytes) in words.iter_mut().zip(value.chunks_exact(8)) {
                *word = bytes.first_chunk().map_or(0, |bytes| u64::from_ne_bytes(*bytes));
            }
            let [ours, _, foreign, unstamped] = words;
            sum.ours += ours;
            sum.foreign += foreign;
            sum.unstamped += unstamped;
        }
        Ok(sum)
    }
}

/// Why the program could not be attached.
fn refused(link: &Link, error: &libbpf_rs::Error) -> String {
    let name = &link.name;
    if Link::query(name).is_ok_and(|now| now.attached != Attached::None) {
        return format!(
            "{name} has another XDP program: end its owner (`bypath run`, another bench), or `ip link set dev {name} xdp off`"
        );
    }
    match error.kind() {
        ErrorKind::PermissionDenied => {
            format!("{name}: attaching XDP is not permitted; run as root, or with CAP_NET_ADMIN and CAP_BPF")
        }
        _ => format!(
            "{name}: its driver ({}) refuses XDP ({error}); lower its MTU ({}), or turn off LRO",
            link.driver, link.mtu
        ),
    }
}
