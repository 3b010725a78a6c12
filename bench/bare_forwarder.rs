//! The bare AF_XDP forwarder: frames of A leave on B and back. No table, no parsing, no counters but totals; at most the
//! Ethernet addresses are set, so that a routed sink takes the frames. It is the ceiling that bypath is measured against on
//! the same machine in the same run, so it stands directly on xsk-rs and does as little as can be done:
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

use clap::Parser;
use libbpf_rs::skel::{OpenSkel, SkelBuilder};
use libbpf_rs::{MapCore, MapFlags};
use std::error::Error;
use std::mem::MaybeUninit;
use std::num::NonZeroU32;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use xsk_rs::config::{BindFlags, LibxdpFlags, QueueSize, SocketConfig, UmemConfig};
use xsk_rs::{CompQueue, FillQueue, FrameDesc, RxQueue, Socket, TxQueue, Umem};

#[allow(missing_docs, clippy::all, clippy::undocumented_unsafe_blocks)]
mod bare {
    include!(concat!(env!("OUT_DIR"), "/bare.skel.rs"));
}

const BATCH_MAX: usize = 256;
/// Empty rounds before `--poll` sleeps.
const IDLE_ROUNDS: u32 = 64;
const SOL_XDP: libc::c_int = 283;
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
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=BATCH_MAX as i64))]
    batch: u16,
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
    tx: TxQueue,
    rx: RxQueue,
    fill: FillQueue,
    completion: CompQueue,
    fd: RawFd,
    ring: u32,
}

#[derive(Default)]
struct Totals {
    forwarded: u64,
    dropped: u64,
    kicks: u64,
}

impl Port {
    fn open(umem: &Umem, name: &str, options: &Options) -> Result<Self, Box<dyn Error>> {
        let size = QueueSize::new(options.ring)?;
        let config = SocketConfig::builder()
            .rx_queue_size(size)
            .tx_queue_size(size)
            .libxdp_flags(LibxdpFlags::XSK_LIBXDP_FLAGS_INHIBIT_PROG_LOAD)
            .bind_flags(BindFlags::XDP_COPY | BindFlags::XDP_USE_NEED_WAKEUP)
            .build();
        // SAFETY: libxdp's own program is inhibited, and the pair is bound once.
        let made = unsafe { Socket::new(config, umem, &name.parse()?, options.queue) };
        let (tx, rx, own) = made.map_err(|e| format!("{name}: {e}: {:?}", e.source()))?;
        let (fill, completion) = own.ok_or("A and B must differ")?;
        let fd = rx.fd().as_raw_fd();
        set_option(fd, SOL_XDP, XDP_MAX_TX_SKB_BUDGET, options.ring);
        set_option(fd, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, options.ring * 4096);
        Ok(Self {
            tx,
            rx,
            fill,
            completion,
            fd,
            ring: options.ring,
        })
    }

    /// Has the kernel send until the ring is empty or nothing moves.
    fn kick(&mut self) -> u64 {
        let mut kicks = 0;
        let mut unsent = self.ring - self.tx.nb_free_exact();
        while unsent > 0 {
            // SAFETY: no buffer and no address are given.
            unsafe { libc::sendto(self.fd, std::ptr::null(), 0, libc::MSG_DONTWAIT, std::ptr::null(), 0) };
            kicks += 1;
            let before = std::mem::replace(&mut unsent, self.ring - self.tx.nb_free_exact());
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
    umem: &Umem,
    from: &mut Port,
    to: &mut Port,
    descs: &mut [FrameDesc],
    (dst, src): (Option<Mac>, Option<Mac>),
    totals: &mut Totals,
) -> usize {
    // SAFETY: the descriptors circulate (from.fill, from.rx, to.tx, to.completion), and are in one place at a time.
    let n = unsafe {
        let sent = to.completion.consume(descs);
        from.fill.produce(&descs[..sent]);
        from.rx.consume(descs)
    };
    if n == 0 {
        return 0;
    }
    // Together they wait for the other core's cache less than the kernel's copy would, one after the other.
    for desc in &descs[..n] {
        // SAFETY: as above; nothing is read.
        prefetch(unsafe { umem.data(desc) }.contents().as_ptr());
    }
    if dst.is_some() || src.is_some() {
        for desc in &mut descs[..n] {
            // SAFETY: the frame was received, so the kernel has no part in it now.
            let mut data = unsafe { umem.data_mut(desc) };
            let Some((head, _)) = data.contents_mut().split_first_chunk_mut::<12>() else {
                continue;
            };
            if let Some(Mac(dst)) = dst {
                head[..6].copy_from_slice(&dst);
            }
            if let Some(Mac(src)) = src {
                head[6..].copy_from_slice(&src);
            }
        }
    }
    // SAFETY: as above.
    if unsafe { to.tx.produce(&descs[..n]) } == n {
        totals.forwarded += n as u64;
    } else {
        // SAFETY: as above. All or nothing: they go back to be filled again.
        unsafe { from.fill.produce(&descs[..n]) };
        totals.dropped += n as u64;
    }
    totals.kicks += to.kick();
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

fn attach(name: &str, queue: u32, fd: RawFd) -> Result<(bare::BareSkel<'static>, libbpf_rs::Link), Box<dyn Error>> {
    let object = Box::leak(Box::new(MaybeUninit::uninit()));
    let skel = bare::BareSkelBuilder::default().open(object)?.load()?;
    skel.maps
        .sockets
        .update(&queue.to_ne_bytes(), &fd.to_ne_bytes(), MapFlags::ANY)?;
    let name = std::ffi::CString::new(name)?;
    // SAFETY: a C string that lives through the call.
    let ifindex = unsafe { libc::if_nametoindex(name.as_ptr()) };
    let link = skel.progs.bare.attach_xdp(ifindex as i32)?;
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
    let size = QueueSize::new(options.ring)?;
    let config = UmemConfig::builder()
        .frame_size(2048.try_into()?)
        .fill_queue_size(size)
        .comp_queue_size(size)
        .build()?;
    let frames = NonZeroU32::new(2 * options.ring).ok_or("no frames")?;
    let (umem, descs) = Umem::new(config, frames, false)?;
    let mut a = Port::open(&umem, &options.a, &options)?;
    let mut b = Port::open(&umem, &options.b, &options)?;
    let (to_a, to_b) = descs.split_at(options.ring as usize);
    // SAFETY: the frames are new, and each is given to one ring.
    unsafe {
        a.fill.produce(to_a);
        b.fill.produce(to_b);
    }
    let _programs = (
        attach(&options.a, options.queue, a.fd)?,
        attach(&options.b, options.queue, b.fd)?,
    );
    println!("bare_forwarder: ready");

    let mut descs = vec![FrameDesc::default(); usize::from(options.batch)];
    let (mut ab, mut ba) = (Totals::default(), Totals::default());
    let mut idle = 0;
    while !STOP.load(Relaxed) {
        let mut n = forward(
            &umem,
            &mut a,
            &mut b,
            &mut descs,
            (options.set_dst_ab, options.set_src_ab),
            &mut ab,
        );
        n += forward(
            &umem,
            &mut b,
            &mut a,
            &mut descs,
            (options.set_dst_ba, options.set_src_ba),
            &mut ba,
        );
        idle = if n > 0 { 0 } else { idle + 1 };
        if options.poll && idle > IDLE_ROUNDS {
            let mut fds = [a.fd, b.fd].map(|fd| libc::pollfd {
                fd,
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
