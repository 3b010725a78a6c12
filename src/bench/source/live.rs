//! The live source: the kernel runs bpf/source.bpf.c again and again (BPF_PROG_RUN in live-frame mode,
//! Documentation/bpf/bpf_prog_run.rst), and sends the frames that it makes out of the port. Some millions a second on veth,
//! with no system call per frame; it works on every port that XDP can redirect to.
//!
//! The peer of a veth must run NAPI (an XDP program or GRO), or nothing arrives. A veth has no wire: the receive side of its
//! peer runs on the source's core, in softirq. What finds the peer's ring full is dropped by the kernel in silence, and counts
//! as offered.
//!
//! A run is one call, since each ends with a grace period of RCU (tens of milliseconds); `watch` ends it by a signal. Paced,
//! the program itself looks at the clock and gives back the page while nothing is due, so that a frame leaves within a
//! microsecond or two of its time and the core is busy all the while. The program is loaded anew for each run: all that a work
//! fixes is constant in it, and costs nothing per frame.

use super::watch::{End, Shared, watch};
use super::{Limit, Sent, Source, SourceOptions};
use crate::bench::frames::{Frames, Sender};
use crate::bench::order::{Pick, Picker};
use crate::bench::pace::check_rate;
use crate::bench::work::{Kind, Rate, Work};
use crate::port::link::Link;
use crate::port::live::{run_live, run_once, shared_word};
use libbpf_rs::skel::{OpenSkel, SkelBuilder};
use libbpf_rs::{ErrorKind, MapCore, MapFlags, OpenObject};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

#[allow(missing_docs, clippy::all, clippy::undocumented_unsafe_blocks, unreachable_pub)]
mod skel {
    include!(concat!(env!("OUT_DIR"), "/source.skel.rs"));
}

/// Frames per run of the program between two flushes; the veth ring holds 256.
const BATCH: u32 = 64;
/// Paced, a frame that is made waits for the rest of its batch, most of which are pages given back.
const BATCH_PACED: u32 = 8;
/// Entries of one element of the table's map.
const PAGE_SLOTS: usize = 1024;
/// Of a nanosecond, in the program.
const FRACTION: f64 = 65_536.0;

/// Sends by live frames.
#[derive(Debug)]
pub struct LiveSource {
    link: Link,
    options: SourceOptions,
    picker: Option<Picker>,
}

impl LiveSource {
    /// A source on the interface `port`.
    ///
    /// # Errors
    /// See [`super::open`].
    pub fn open(port: &str, options: SourceOptions) -> Result<Self, String> {
        Ok(Self {
            link: super::sending_link(port)?,
            options,
            picker: None,
        })
    }

    /// What the program makes of `count` frames of `work`, one run after the other, and where it would send each: for tests.
    ///
    /// # Errors
    /// As for [`Source::run`].
    pub fn dry_run(&mut self, work: &Work, run: u16, count: usize) -> Result<Vec<(u32, Vec<u8>)>, String> {
        let frames = self.frames(work, run)?;
        let picker = super::picker_for(&mut self.picker, work)?;
        let mut object = MaybeUninit::uninit();
        let skel = load(
            &mut object,
            work,
            &frames,
            picker,
            Limit::Frames(u64::MAX),
            &self.link,
            self.options.timed,
        )?;
        let program = skel.progs.source.as_fd();
        let blank = frames.blank();
        let mut out = Vec::with_capacity(count);
        for _ in 0..count {
            out.push(run_once(program, &blank).map_err(|error| format!("BPF_PROG_RUN: {error}"))?);
        }
        Ok(out)
    }

    fn frames(&self, work: &Work, run: u16) -> Result<Frames, String> {
        let sender = Sender {
            mac: self.link.mac,
            mtu: self.link.mtu,
        };
        Frames::new(work, run, &sender)
    }
}

impl Source for LiveSource {
    fn run(
        &mut self,
        work: &Work,
        run: u16,
        limit: Limit,
        progress: &mut dyn FnMut(u64) -> bool,
    ) -> Result<Sent, String> {
        let frames = self.frames(work, run)?;
        let picker = super::picker_for(&mut self.picker, work)?;
        let mut object = MaybeUninit::uninit();
        let mut skel = load(
            &mut object,
            work,
            &frames,
            picker,
            limit,
            &self.link,
            self.options.timed,
        )?;
        let program = skel.progs.source.as_fd();
        let data = skel.maps.bss_data.as_deref_mut().ok_or("the program has no data")?;
        // The kernel writes them, or reads, while they are looked at.
        let [offered, missed, first_ns, last_ns, stop] = [
            &mut data.offered,
            &mut data.missed,
            &mut data.first_ns,
            &mut data.last_ns,
            &mut data.stop,
        ]
        .map(shared_word);
        let shared = Shared {
            offered,
            first_ns,
            stop,
        };
        let (end, batch) = (end(limit), batch(work.rate));
        let blank = frames.blank();
        watch(&shared, self.options.cpu, end, progress, || {
            send(program, &blank, batch, stop)
        })?;
        let mut sent = Sent {
            offered: offered.load(Relaxed),
            refused: 0,
            missed: missed.load(Relaxed),
            first_ns: first_ns.load(Relaxed),
            last_ns: last_ns.load(Relaxed),
            notes: frames.notes,
        };
        sent.note_rate(work.rate);
        Ok(sent)
    }
}

fn end(limit: Limit) -> End {
    let (after, frames): (Option<Duration>, Option<u64>) = match limit {
        Limit::Time(after) => (Some(after), None),
        Limit::Frames(frames) => (None, Some(frames)),
    };
    End { after, frames }
}

fn batch(rate: Rate) -> u32 {
    match rate {
        Rate::Unpaced => BATCH,
        Rate::Paced(_) => BATCH_PACED,
    }
}

/// Has the kernel run the program until it is told to stop.
fn send(program: BorrowedFd<'_>, frame: &[u8], batch: u32, stop: &AtomicU64) -> Result<(), String> {
    while stop.load(Relaxed) == 0 {
        let Err(error) = run_live(program, frame, batch) else {
            continue;
        };
        match error.raw_os_error() {
            Some(libc::EINTR) => {}
            Some(libc::EINVAL | libc::ENOTSUP) => {
                return Err(
                    "this kernel runs no BPF program in live-frame mode (5.18 or newer does): use the AF_XDP source"
                        .into(),
                );
            }
            _ => return Err(format!("BPF_PROG_RUN: {error}")),
        }
    }
    Ok(())
}

/// The program with one work in it.
fn load<'o>(
    object: &'o mut MaybeUninit<OpenObject>,
    work: &Work,
    frames: &Frames,
    picker: &Picker,
    limit: Limit,
    link: &Link,
    timed: bool,
) -> Result<skel::SourceSkel<'o>, String> {
    libbpf_rs::set_print(None);
    let mut open = skel::SourceSkelBuilder::default().open(object).map_err(refused)?;
    let data = open.maps.rodata_data.as_deref_mut().ok_or("the program has no data")?;
    set_frames(data, frames);
    set_flows(data, work, frames, picker);
    (data.ifindex, data.timed) = (link.ifindex, timed.into());
    if let Rate::Paced(rate) = work.rate {
        check_rate(rate)?;
        data.gap = ((1e9 / rate * FRACTION) as u64).max(1);
    }
    if let Limit::Frames(frames) = limit {
        data.limit = frames;
    }
    let table: &[u32] = match &picker.pick {
        Pick::Table(table) => table,
        _ => &[],
    };
    let pages = (table.len() / PAGE_SLOTS).max(1) as u32;
    open.maps.order.set_max_entries(pages).map_err(refused)?;
    let skel = open.load().map_err(refused)?;
    for (page, slots) in (0u32..).zip(table.chunks(PAGE_SLOTS)) {
        let bytes: Vec<u8> = slots.iter().flat_map(|slot| slot.to_ne_bytes()).collect();
        let put = skel.maps.order.update(&page.to_ne_bytes(), &bytes, MapFlags::ANY);
        put.map_err(|e| format!("the table of the Zipf order: {e}"))?;
    }
    Ok(skel)
}

fn refused(error: libbpf_rs::Error) -> String {
    match error.kind() {
        ErrorKind::PermissionDenied => {
            "the live source needs root, or CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON".to_owned()
        }
        _ => format!("the BPF program of the live source does not load ({error}): use the AF_XDP source"),
    }
}

fn set_frames(data: &mut skel::types::rodata, frames: &Frames) {
    // Sums are in the machine's order there.
    let native = |sum: u16| u32::from(sum.to_be());
    let longest = frames.len_max() as i32;
    for (to, from) in data.shapes.iter_mut().zip(&frames.shapes) {
        for (word, bytes) in to.head.iter_mut().zip(from.head.chunks(8)) {
            let mut whole = [0; 8];
            whole[..bytes.len()].copy_from_slice(bytes);
            *word = u64::from_ne_bytes(whole);
        }
        to.tail = from.len as i32 - longest;
        (to.ip_sum, to.sum) = (native(from.ip_sum), native(from.sum));
        to.flow = from.flow.into();
        data.head_len = from.head.len() as u32;
    }
    for (to, from) in data.turn.iter_mut().zip(frames.turn) {
        *to = *from;
    }
    data.turn_len = frames.turn.len() as u32;
    let at = &frames.places;
    data.at_ip_check = at.ip_check as u32;
    data.at_src = at.src as u32;
    data.at_dst = at.dst as u32;
    data.at_sport = at.sport as u32;
    data.at_check = at.check as u32;
    data.at_number = at.number as u32;
    data.at_tag = at.tag as u32;
    data.covers_addresses = (frames.v6 || frames.kind != Kind::Icmp).into();
    data.never_zero = (frames.kind == Kind::Udp).into();
}

fn set_flows(data: &mut skel::types::rodata, work: &Work, frames: &Frames, picker: &Picker) {
    let tuples = &frames.tuples;
    data.first_src = tuples.src;
    data.first_dst = tuples.dst;
    data.first_sport = tuples.sport.into();
    data.sports = tuples.sports;
    data.dsts = tuples.dsts;
    data.flows = picker.count();
    data.new_per_second = work.flows.new_per_second;
    data.one_round = (work.flows.new_per_second == 0 && picker.count() <= tuples.sports).into();
    (data.pick, data.seed, data.table_mask) = match &picker.pick {
        Pick::RoundRobin => (0, 0, 0),
        Pick::Random(seed) => (1, *seed, 0),
        Pick::Table(table) => (2, 0, (table.len() - 1) as u32),
    };
}
