//! A source of UDP frames for benches: as fast as it goes, or at a fixed rate; always for a given time.
//!
//! ```text
//!   flood IF --dst-mac M --src 10.1.0.2 --dst 10.2.0.2 --seconds 2             bpf/flood.bpf.c by BPF_PROG_RUN
//!   flood IF --dst-mac M --src 10.1.0.2 --dst 10.2.0.2 --seconds 60 --rate N   AF_PACKET, sendmmsg
//! ```
//!
//! Unpaced, the kernel runs the program in live-frame mode (Documentation/bpf/bpf_prog_run.rst): it fills pages of a page
//! pool and sends them out of IF with no system call per frame, some millions a second on a veth pair. The peer of IF must
//! run NAPI (an XDP program or GRO), or nothing arrives. Each call ends with an RCU grace period, so there is only one, and
//! a timer's signal ends it. A veth pair has no wire: its receive side runs on this program's core, in softirq, so `--cpu`
//! says where the packets arrive. What finds the peer's ring full is dropped by the kernel and counts as offered.
//!
//! Paced, bursts of 16 are sent when they are due, past the qdisc. A burst that the machine delays is sent late, but what
//! is over 5 ms late is left out and not offered: no burst larger than 5 ms worth of frames is ever made up.
//!
//! Prints one JSON line: offered and refused frames, seconds, and the CPU seconds (user, nice, system, irq, softirq of all
//! cores in /proc/stat, of everything that runs on the machine) that passed in between.

use bypath::port::link::Link;
use clap::Parser;
use libbpf_rs::libbpf_sys;
use libbpf_rs::skel::{OpenSkel, SkelBuilder};
use std::error::Error;
use std::mem::{MaybeUninit, zeroed};
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};
use std::{fs, io, ptr, thread};

#[allow(missing_docs, clippy::all, clippy::undocumented_unsafe_blocks)]
mod skel {
    include!(concat!(env!("OUT_DIR"), "/flood.skel.rs"));
}

const HEADERS: usize = 42;
const TTL: u8 = 64;
const BPF_F_TEST_XDP_LIVE_FRAMES: u32 = 2;
/// Frames per run of the program between two flushes; the veth ring holds 256.
const LIVE_BATCH: u32 = 64;
const PACED_BATCH: usize = 16;
const LATE_MAX: Duration = Duration::from_millis(5);
const PACKET_QDISC_BYPASS: libc::c_int = 20;
/// Of a tick in /proc/stat (USER_HZ, the same on all architectures that matter).
const TICKS_PER_SECOND: f64 = 100.0;

#[derive(Clone, Copy, Debug)]
struct Mac([u8; 6]);

impl std::str::FromStr for Mac {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bytes: Option<Vec<u8>> = text.split(':').map(|part| u8::from_str_radix(part, 16).ok()).collect();
        bytes
            .and_then(|bytes| bytes.try_into().ok())
            .map(Mac)
            .ok_or_else(|| format!("{text} is no Ethernet address"))
    }
}

/// Sends UDP frames out of an interface for a given time.
#[derive(Debug, Parser)]
struct Options {
    /// The interface to send from.
    interface: String,
    /// The Ethernet address to send to.
    #[arg(long)]
    dst_mac: Mac,
    /// Source address.
    #[arg(long)]
    src: Ipv4Addr,
    /// First destination address.
    #[arg(long)]
    dst: Ipv4Addr,
    /// Number of destination addresses, one after the other.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    dsts: u32,
    /// First source port.
    #[arg(long, default_value_t = 1024)]
    sport: u16,
    /// Number of source ports, one after the other.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    sports: u16,
    /// Destination port.
    #[arg(long, default_value_t = 9)]
    dport: u16,
    /// Bytes of a frame with its Ethernet header, without the checksum of the wire.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(HEADERS as i64..=1514))]
    size: u16,
    /// How long to send.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Frames per second; without it as fast as it goes.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,
    /// The core to run on.
    #[arg(long)]
    cpu: Option<usize>,
}

/// What was sent.
#[derive(Default)]
struct Sent {
    offered: u64,
    refused: u64,
    seconds: f64,
}

/// A frame for the first flow, without checksums.
fn template(options: &Options, src_mac: [u8; 6]) -> Vec<u8> {
    let ip_len = options.size - 14;
    let mut frame = Vec::with_capacity(options.size.into());
    frame.extend(options.dst_mac.0);
    frame.extend(src_mac);
    frame.extend([0x08, 0x00, 0x45, 0]);
    frame.extend(ip_len.to_be_bytes());
    frame.extend([0, 0, 0x40, 0, TTL, 17, 0, 0]);
    frame.extend(options.src.octets());
    frame.extend(options.dst.octets());
    frame.extend(options.sport.to_be_bytes());
    frame.extend(options.dport.to_be_bytes());
    frame.extend((ip_len - 20).to_be_bytes());
    frame.resize(options.size.into(), 0);
    frame
}

/// The one's complement sums over what does not vary from flow to flow: the IPv4 header; the UDP pseudo-header and header
/// (the payload is zeroes).
fn sums(template: &[u8]) -> (u32, u32) {
    let sum = |bytes: &[u8]| {
        bytes
            .chunks(2)
            .map(|word| u32::from(word[0]) << 8 | u32::from(word[1]))
            .sum::<u32>()
    };
    let udp_len = sum(&template[38..40]);
    let pseudo = sum(&template[26..30]) + 17 + udp_len;
    (sum(&template[14..30]), pseudo + sum(&template[36..HEADERS]))
}

/// The non-idle time of all cores since the machine started, in seconds. Time that a hypervisor took is not in it.
fn cpu_seconds() -> io::Result<f64> {
    let text = fs::read_to_string("/proc/stat")?;
    let ticks: Vec<f64> = text
        .split_whitespace()
        .skip(1)
        .take(7)
        .filter_map(|word| word.parse().ok())
        .collect();
    // user nice system idle iowait irq softirq
    let idle: f64 = ticks.iter().skip(3).take(2).sum();
    Ok((ticks.iter().sum::<f64>() - idle) / TICKS_PER_SECOND)
}

extern "C" fn wake(_: libc::c_int) {}

/// Has SIGALRM interrupt the system call that runs `after` this, and again every 10 ms should it have come too early.
fn set_timer(after: Duration) -> io::Result<()> {
    // SAFETY: plain data; the handler does nothing, and without SA_RESTART a system call returns EINTR.
    unsafe {
        let mut action: libc::sigaction = zeroed();
        action.sa_sigaction = wake as extern "C" fn(libc::c_int) as libc::sighandler_t;
        libc::sigaction(libc::SIGALRM, &action, ptr::null_mut());
        let timer = libc::itimerval {
            it_interval: libc::timeval {
                tv_sec: 0,
                tv_usec: 10_000,
            },
            it_value: libc::timeval {
                tv_sec: after.as_secs() as libc::time_t,
                tv_usec: after.subsec_micros() as libc::suseconds_t,
            },
        };
        match libc::setitimer(libc::ITIMER_REAL, &timer, ptr::null_mut()) {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

/// As fast as it goes.
fn flood(options: &Options, frame: &[u8], ifindex: u32, duration: Duration) -> Result<Sent, Box<dyn Error>> {
    let mut object = MaybeUninit::uninit();
    let mut open = skel::FloodSkelBuilder::default().open(&mut object)?;
    let data = open.maps.rodata_data.as_deref_mut().ok_or("no read-only data")?;
    for (to, from) in data.template.iter_mut().zip(frame.chunks_exact(2)) {
        *to = u16::from_ne_bytes([from[0], from[1]]);
    }
    data.ifindex = ifindex;
    (data.ip_sum, data.udp_sum) = sums(frame);
    (data.first_dst, data.dsts) = (options.dst.into(), options.dsts);
    (data.first_sport, data.sports) = (options.sport.into(), options.sports.into());
    let skel = open.load()?;

    // SAFETY: plain data, for which all zeroes is a value.
    let mut run: libbpf_sys::bpf_test_run_opts = unsafe { zeroed() };
    run.sz = size_of_val(&run) as _;
    run.data_in = frame.as_ptr().cast();
    run.data_size_in = frame.len() as u32;
    run.repeat = i32::MAX;
    run.flags = BPF_F_TEST_XDP_LIVE_FRAMES;
    run.batch_size = LIVE_BATCH;
    set_timer(duration)?;
    let started = Instant::now();
    // SAFETY: the descriptor is open; `run` says truly how large it and the frame are.
    let rc = unsafe { libbpf_sys::bpf_prog_test_run_opts(skel.progs.flood.as_fd().as_raw_fd(), &mut run) };
    let seconds = started.elapsed().as_secs_f64();
    if rc != 0 && rc != -libc::EINTR {
        return Err(format!("BPF_PROG_RUN: {}", io::Error::from_raw_os_error(-rc)).into());
    }
    let offered = skel.maps.bss_data.as_deref().ok_or("no data")?.offered;
    Ok(Sent {
        offered,
        refused: 0,
        seconds,
    })
}

fn packet_socket(ifindex: u32) -> io::Result<OwnedFd> {
    // SAFETY: a new descriptor that nobody else owns; the structures are as large as said.
    unsafe {
        let fd = libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0);
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        let fd = OwnedFd::from_raw_fd(fd);
        let mut addr: libc::sockaddr_ll = zeroed();
        addr.sll_family = libc::AF_PACKET as u16;
        addr.sll_ifindex = ifindex as i32;
        let bypass = 1i32;
        let (of_addr, of_bypass) = (size_of_val(&addr) as u32, size_of_val(&bypass) as u32);
        if libc::bind(fd.as_raw_fd(), (&raw const addr).cast(), of_addr) != 0
            || libc::setsockopt(
                fd.as_raw_fd(),
                libc::SOL_PACKET,
                PACKET_QDISC_BYPASS,
                (&raw const bypass).cast(),
                of_bypass,
            ) != 0
        {
            return Err(io::Error::last_os_error());
        }
        Ok(fd)
    }
}

/// Every flow's frame, with checksums: dsts and sports in step, as in the program.
fn frames(options: &Options, template: &[u8]) -> Vec<Vec<u8>> {
    let (ip_sum, udp_sum) = sums(template);
    let fold = |sum: u32| {
        let sum = (sum & 0xffff) + (sum >> 16);
        !((sum & 0xffff) + (sum >> 16)) as u16
    };
    let count = options
        .dsts
        .max(options.sports.into())
        .next_multiple_of(PACED_BATCH as u32);
    (0..count)
        .map(|nth| {
            let dst = u32::from(options.dst).wrapping_add(nth % options.dsts);
            let sport = options.sport.wrapping_add((nth % u32::from(options.sports)) as u16);
            let varying = (dst >> 16) + (dst & 0xffff);
            let check = match fold(udp_sum + varying + u32::from(sport)) {
                0 => 0xffff,
                check => check,
            };
            let mut frame = template.to_vec();
            frame[24..26].copy_from_slice(&fold(ip_sum + varying).to_be_bytes());
            frame[30..34].copy_from_slice(&dst.to_be_bytes());
            frame[34..36].copy_from_slice(&sport.to_be_bytes());
            frame[40..42].copy_from_slice(&check.to_be_bytes());
            frame
        })
        .collect()
}

/// At a rate.
fn pace(
    options: &Options,
    template: &[u8],
    ifindex: u32,
    rate: u32,
    duration: Duration,
) -> Result<Sent, Box<dyn Error>> {
    let socket = packet_socket(ifindex)?;
    let mut frames = frames(options, template);
    let mut vectors: Vec<libc::iovec> = frames
        .iter_mut()
        .map(|frame| libc::iovec {
            iov_base: frame.as_mut_ptr().cast(),
            iov_len: frame.len(),
        })
        .collect();
    let mut messages: Vec<libc::mmsghdr> = vectors
        .iter_mut()
        .map(|vector| {
            // SAFETY: plain data, for which all zeroes is a value.
            let mut message: libc::mmsghdr = unsafe { zeroed() };
            message.msg_hdr.msg_iov = vector;
            message.msg_hdr.msg_iovlen = 1;
            message
        })
        .collect();
    let batches = messages.len() / PACED_BATCH;
    let gap = Duration::from_secs_f64(PACED_BATCH as f64 / f64::from(rate));
    let (mut sent, mut nth) = (Sent::default(), 0);
    let started = Instant::now();
    let mut due = Duration::ZERO;
    while due < duration {
        let now = started.elapsed();
        if now < due {
            thread::sleep(due - now);
        } else if now - due > LATE_MAX {
            due = now;
        }
        let batch = &mut messages[nth % batches * PACED_BATCH..][..PACED_BATCH];
        // SAFETY: the messages name frames that live in `frames`, which nobody touches meanwhile.
        let n = unsafe { libc::sendmmsg(socket.as_raw_fd(), batch.as_mut_ptr(), PACED_BATCH as u32, 0) };
        let n = u64::try_from(n).unwrap_or(0);
        sent.offered += n;
        sent.refused += PACED_BATCH as u64 - n;
        nth += 1;
        due += gap;
    }
    sent.seconds = started.elapsed().as_secs_f64();
    Ok(sent)
}

fn main() -> Result<(), Box<dyn Error>> {
    let options = Options::parse();
    let duration = Duration::try_from_secs_f64(options.seconds)?;
    if let Some(id) = options.cpu {
        core_affinity::set_for_current(core_affinity::CoreId { id });
    }
    let link = Link::query(&options.interface)?;
    let template = template(&options, link.mac);
    let before = cpu_seconds()?;
    let sent = match options.rate {
        None => flood(&options, &template, link.ifindex, duration)?,
        Some(rate) => pace(&options, &template, link.ifindex, rate, duration)?,
    };
    println!(
        r#"{{"offered":{},"refused":{},"seconds":{:.4},"cpu_seconds":{:.2}}}"#,
        sent.offered,
        sent.refused,
        sent.seconds,
        cpu_seconds()? - before
    );
    Ok(())
}
