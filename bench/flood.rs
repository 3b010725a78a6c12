//! The source of bench/e2e: the sources of `bypath bench` by themselves, always for a given time.
//!
//! ```text
//!   flood IF --dst-mac M --src 10.1.0.2 --dst 10.2.0.2 --seconds 2             live frames, as fast as it goes
//!   flood IF --dst-mac M --src 10.1.0.2 --dst 10.2.0.2 --seconds 60 --rate N   AF_XDP, paced
//! ```
//!
//! For live frames the peer of IF must run NAPI (an XDP program or GRO), or nothing arrives. A veth pair has no wire: its
//! receive side runs on this program's core, in softirq, so `--cpu` says where the packets arrive. What finds the peer's ring
//! full is dropped and counts as offered; where the kernel tells of it (AF_XDP), as refused too.
//!
//! Prints one JSON line: offered and refused frames, seconds, and the CPU seconds (user, nice, system, irq, softirq of all
//! cores in /proc/stat, of everything that runs on the machine) that passed in between.

use bypath::bench::cpu::busy_ns;
use bypath::bench::source::{Limit, SourceKind, SourceOptions, open};
use bypath::bench::work::{Flows, Kind, Order, Rate, Size, Work};
use clap::Parser;
use std::error::Error;
use std::net::IpAddr;
use std::time::Duration;

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
    /// The interface.
    interface: String,
    /// Destination Ethernet address.
    #[arg(long)]
    dst_mac: Mac,
    /// Source address.
    #[arg(long)]
    src: IpAddr,
    /// First destination address.
    #[arg(long)]
    dst: IpAddr,
    /// Number of destination addresses, one after the other.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    dsts: u32,
    /// First source port.
    #[arg(long, default_value_t = 1024)]
    sport: u16,
    /// Number of source ports, one after the other; as many as `dsts` where that is more. They are the flows.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    sports: u16,
    /// Number of flows in their place: beyond the source ports that there are they vary the source address.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    flows: Option<u32>,
    /// Destination port.
    #[arg(long, default_value_t = 9)]
    dport: u16,
    /// Bytes of a frame with its Ethernet header, without the checksum of the wire.
    #[arg(long, default_value_t = 64)]
    size: u16,
    /// How long to send.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Frames per second; without it as fast as it goes.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,
    /// By AF_XDP without a rate, too.
    #[arg(long)]
    xsk: bool,
    /// Write the send time into each frame.
    #[arg(long)]
    timed: bool,
    /// The core to run on.
    #[arg(long)]
    cpu: Option<usize>,
}

/// The time of all cores since the machine started, in seconds.
fn cpu_seconds() -> Result<f64, &'static str> {
    busy_ns()
        .map(|ns| ns / 1e9)
        .ok_or("/proc/stat does not say how busy the cores are")
}

fn main() -> Result<(), Box<dyn Error>> {
    let options = Options::parse();
    let duration = Duration::try_from_secs_f64(options.seconds)?;
    let work = Work {
        kind: Kind::Udp,
        size: Size::Bytes(options.size),
        flows: Flows {
            count: options.flows.unwrap_or(options.dsts.max(options.sports.into())),
            order: Order::RoundRobin,
            new_per_second: 0,
        },
        rate: options.rate.map_or(Rate::Unpaced, |rate| Rate::Paced(rate.into())),
        duration,
        seed: 0,
        src_mac: None,
        dst_mac: options.dst_mac.0,
        src: options.src,
        dst: options.dst,
        dsts: options.dsts,
        sport: options.sport,
        dport: options.dport,
    };
    let by = SourceOptions {
        kind: if options.xsk || options.rate.is_some() {
            SourceKind::Xsk
        } else {
            SourceKind::Live
        },
        cpu: options.cpu,
        timed: options.timed,
        queue: 0,
    };
    let mut source = open(&options.interface, by)?;
    let before = cpu_seconds()?;
    let sent = source.run(&work, 0, Limit::Time(duration), &mut |_| true)?;
    let after = cpu_seconds()?;
    sent.notes.iter().for_each(|note| eprintln!("flood: {note}"));
    println!(
        r#"{{"offered":{},"refused":{},"seconds":{:.4},"cpu_seconds":{:.2}}}"#,
        sent.offered,
        sent.refused,
        sent.seconds(),
        after - before
    );
    Ok(())
}
