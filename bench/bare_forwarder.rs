//! The bare AF_XDP forwarder: frames of A leave on B and back. No table, no parsing, no counters but totals; at most the
//! Ethernet addresses are set, so that a routed sink takes the frames. It is the ceiling that bypath is measured against on
//! the same machine in the same run, so it stands directly on bypath's rings and does as little as can be done:
//!
//! ```text
//!   A.rx --batch--> (set addresses) --> B.tx --kick--> B.completion --> A.fill        and the same from B to A
//! ```
//!
//! A frame that was received on A comes back to A's fill ring, so each direction is a closed circle of frames and there is no
//! free list. Copy mode, as everywhere on veth; the kick repeats until the ring is empty, with the batch limit of the kernel
//! raised where it can be (6.17). One thread; `--poll` sleeps in poll(2) when idle, else it spins.
//!
//! Prints one line when ready, and the totals at SIGINT or SIGTERM.

use bypath::port::socket::{Area, RingSizes, Socket};
use clap::Parser;
use libbpf_rs::skel::{OpenSkel, SkelBuilder};
use libbpf_rs::{MapCore, MapFlags};
use libc::{SOL_XDP, xdp_desc};
use std::error::Error;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, RawFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

#[allow(missing_docs, clippy::all, clippy::undocumented_unsafe_blocks)]
mod bare {
    include!(concat!(env!("OUT_DIR"), "/bare.skel.rs"));
}

const BATCH_MAX: u32 = 256;
const FRAME_SIZE: u32 = 2048;
/// Empty rounds before `--poll` sleeps.
const IDLE_ROUNDS: u32 = 64;
const XDP_MAX_TX_SKB_BUDGET: libc::c_int = 9;

static STOP: AtomicBool = AtomicBool::new(false);

#[derive(Clone, Copy, Debug)]
struct Mac([u8; 6]);

impl std::str::FromStr for Mac {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bytes: Vec<u8> = text
            .split(':')
            .filter_map(|part| u8::from_str_radix(part, 16).ok())
            .collect();
        bytes
            .try_into()
            .map(Mac)
            .map_err(|_| format!("{text} is no Ethernet address"))
    }
}

/// Forwards frames between two interfaces by AF_XDP, and does nothing else.
#[derive(Debug, Parser)]
struct Options {
    /// One interface.
    a: String,
    /// The other interface.
    b: String,
    /// Destination address of frames from A to B.
    #[arg(long)]
    set_dst_ab: Option<Mac>,
    /// Source address of frames from A to B.
    #[arg(long)]
    set_src_ab: Option<Mac>,
    /// Destination address of frames from B to A.
    #[arg(long)]
    set_dst_ba: Option<Mac>,
    /// Source address of frames from B to A.
    #[arg(long)]
    set_src_ba: Option<Mac>,
    /// Frames per round.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=BATCH_MAX as i64))]
    batch: u32,
    /// Entries of each ring, a power of two.
    #[arg(long, default_value_t = 2048)]
    ring: u32,
    /// The queue of both interfaces.
    #[arg(long, default_value_t = 0)]
    queue: u32,
    /// The core to run on.
    #[arg(long)]
    cpu: Option<usize>,
    /// Sleep in poll(2) when idle.
    #[arg(long)]
    poll: bool,
}

struct Port {
    socket: Socket,
    ifindex: u32,
}

#[derive(Default)]
struct Totals {
    forwarded: u64,
    dropped: u64,
    kicks: u64,
}

impl Port {
    /// A socket on `name`, with `frames` to receive into.
    fn open(area: &Area, name: &str, frames: std::ops::Range<u32>, options: &Options) -> Result<Self, Box<dyn Error>> {
        let size = options.ring;
        let sizes = RingSizes {
            rx: size,
            tx: size,
            fill: size,
            completion: size,
        };
        let c_name = std::ffi::CString::new(name)?;
        // SAFETY: a C string that lives through the call.
        let ifindex = unsafe { libc::if_nametoindex(c_name.as_ptr()) };
        let mut socket = Socket::with_memory(area, &sizes)?;
        socket
            .bind(
                (ifindex, options.queue),
                libc::XDP_COPY | libc::XDP_USE_NEED_WAKEUP,
                None,
            )
            .map_err(|e| format!("{name}: {e}"))?;
        let fd = socket.as_raw_fd();
        set_option(fd, SOL_XDP, XDP_MAX_TX_SKB_BUDGET, size);
        set_option(fd, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, size * 4096);
        for frame in frames {
            // SAFETY: the frames are new, and each is given to one ring.
            unsafe { socket.fill.push(u64::from(frame) * u64::from(FRAME_SIZE)) };
        }
        socket.fill.submit();
        Ok(Self { socket, ifindex })
    }

    /// Has the kernel send until the ring is empty or nothing moves.
    fn kick(&mut self) -> u64 {
        let mut kicks = 0;
        let mut unsent = self.socket.tx.untaken();
        while unsent > 0 {
            let _ = self.socket.send();
            kicks += 1;
            let before = std::mem::replace(&mut unsent, self.socket.tx.untaken());
            if unsent >= before {
                break;
            }
        }
        kicks
    }
}

fn set_option(fd: RawFd, level: i32, option: i32, value: u32) {
    // SAFETY: the kernel reads one word. What it refuses is done without.
    unsafe {
        libc::setsockopt(
            fd,
            level,
            option,
            (&raw const value).cast(),
            size_of::<u32>() as libc::socklen_t,
        )
    };
}

/// One round of one direction; how many frames arrived.
fn forward(
    base: NonNull<u8>,
    (from, to): (&mut Socket, &mut Socket),
    batch: u32,
    (dst, src): (Option<Mac>, Option<Mac>),
    totals: &mut Totals,
) -> u32 {
    let sent = to.completion.arrived(batch);
    for i in 0..sent {
        // SAFETY: the frames circulate (from.fill, from.rx, to.tx, to.completion), and are in one place at a time.
        unsafe { from.fill.push(to.completion.at(i) & !u64::from(FRAME_SIZE - 1)) };
    }
    to.completion.release(sent);
    from.fill.submit();
    let n = from.rx.arrived(batch);
    if n == 0 {
        return 0;
    }
    // Together they wait for the other core's cache less than the kernel's copy would, one after the other.
    for i in 0..n {
        prefetch(base.as_ptr().wrapping_add(from.rx.at(i).addr as usize));
    }
    let room = to.tx.room(n);
    for i in 0..n {
        let xdp_desc { addr, len, .. } = from.rx.at(i);
        if let (Some(Mac(dst)), 12..) = (dst, len) {
            // SAFETY: the frame was received, so the kernel has no part in it now, and it has so many bytes.
            unsafe { base.add(addr as usize).cast().write(dst) };
        }
        if let (Some(Mac(src)), 12..) = (src, len) {
            // SAFETY: as above.
            unsafe { base.add(addr as usize + 6).cast().write(src) };
        }
        if i < room {
            // SAFETY: as above.
            unsafe { to.tx.push(xdp_desc { addr, len, options: 0 }) };
        } else {
            // SAFETY: as above. It goes back to be filled again.
            unsafe { from.fill.push(addr & !u64::from(FRAME_SIZE - 1)) };
        }
    }
    from.rx.release(n);
    to.tx.submit();
    from.fill.submit();
    totals.forwarded += u64::from(room);
    totals.dropped += u64::from(n - room);
    n
}

/// Brings a line into the first-level cache, where there is an instruction for it.
#[inline]
fn prefetch(at: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint, valid for any address.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(at.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}

fn attach(port: &Port, queue: u32) -> Result<(bare::BareSkel<'static>, libbpf_rs::Link), Box<dyn Error>> {
    let object = Box::leak(Box::new(MaybeUninit::uninit()));
    let skel = bare::BareSkelBuilder::default().open(object)?.load()?;
    skel.maps.sockets.update(
        &queue.to_ne_bytes(),
        &port.socket.as_raw_fd().to_ne_bytes(),
        MapFlags::ANY,
    )?;
    let link = skel.progs.bare.attach_xdp(port.ifindex as i32)?;
    Ok((skel, link))
}

extern "C" fn stop(_: libc::c_int) {
    STOP.store(true, Relaxed);
}

fn main() -> Result<(), Box<dyn Error>> {
    let options = Options::parse();
    if let Some(id) = options.cpu {
        core_affinity::set_for_current(core_affinity::CoreId { id });
    }
    for signal in [libc::SIGINT, libc::SIGTERM] {
        // SAFETY: the handler stores one atomic.
        unsafe { libc::signal(signal, stop as extern "C" fn(libc::c_int) as libc::sighandler_t) };
    }
    if !options.ring.is_power_of_two() {
        return Err("a ring has a power of two of entries".into());
    }
    let area = Area::map(2 * options.ring, FRAME_SIZE, false)?;
    let mut a = Port::open(&area, &options.a, 0..options.ring, &options)?;
    let mut b = Port::open(&area, &options.b, options.ring..2 * options.ring, &options)?;
    let _programs = (attach(&a, options.queue)?, attach(&b, options.queue)?);
    println!("bare_forwarder: ready");

    let (base, batch) = (area.base(), options.batch);
    let (mut ab, mut ba) = (Totals::default(), Totals::default());
    let mut idle = 0;
    while !STOP.load(Relaxed) {
        let macs = (options.set_dst_ab, options.set_src_ab);
        let to_b = forward(base, (&mut a.socket, &mut b.socket), batch, macs, &mut ab);
        ab.kicks += b.kick();
        let macs = (options.set_dst_ba, options.set_src_ba);
        let to_a = forward(base, (&mut b.socket, &mut a.socket), batch, macs, &mut ba);
        ba.kicks += a.kick();
        let n = to_b + to_a;
        idle = if n > 0 { 0 } else { idle + 1 };
        if options.poll && idle > IDLE_ROUNDS {
            let mut fds = [&a, &b].map(|port| libc::pollfd {
                fd: port.socket.as_raw_fd(),
                events: libc::POLLIN,
                revents: 0,
            });
            // SAFETY: two entries, as it says. An interrupt ends the wait, as it should.
            unsafe { libc::poll(fds.as_mut_ptr(), 2, 250) };
            idle = 0;
        }
    }
    for (from, to, totals) in [(&options.a, &options.b, ab), (&options.b, &options.a, ba)] {
        println!(
            "{from} -> {to}: forwarded {} dropped {} kicks {}",
            totals.forwarded, totals.dropped, totals.kicks
        );
    }
    Ok(())
}
