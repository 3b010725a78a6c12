//! The flags on what is sent, as a [`Work`]: addresses of one family, flows that the addresses and ports give, times that can
//! be. What is in a flag alone is read in `args/bench.rs`; what flags mean together is judged here.
//! Where no address is given, those of the networks that are set aside for benchmarks are taken.

use super::super::args::bench::WorkArgs;
use crate::bench::work::{Flows, Rate, Size, Work};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

/// RFC 2544, section C.2.2, and RFC 5180, section 8: networks that are for this.
const V4: (Ipv4Addr, Ipv4Addr) = (Ipv4Addr::new(198, 18, 0, 1), Ipv4Addr::new(198, 19, 0, 1));
const V6: (Ipv6Addr, Ipv6Addr) = (
    Ipv6Addr::new(0x2001, 2, 0, 0, 0, 0, 0, 1),
    Ipv6Addr::new(0x2001, 2, 0, 0x8000, 0, 0, 0, 1),
);
/// Longer than a trial of any standard.
const SECONDS_MAX: f64 = 86_400.0;

/// The work for one size and rate. `dst_mac` is where frames go in the end.
///
/// # Errors
/// What does not fit together, and what to do.
pub fn work(args: &WorkArgs, size: Size, rate: Rate, macs: (Option<[u8; 6]>, [u8; 6])) -> Result<Work, String> {
    let (src, dst) = addresses(args)?;
    let [count] = args.flows[..] else {
        return Err("--flows names several numbers, which only --lab takes: name one".into());
    };
    if args.seconds > SECONDS_MAX {
        return Err(format!("--seconds {}: a day, {SECONDS_MAX}, at most", args.seconds));
    }
    Ok(Work {
        kind: args.kind.into(),
        size,
        flows: Flows {
            count,
            order: args.order,
            new_per_second: args.new_flows,
        },
        rate,
        duration: Duration::from_secs_f64(args.seconds),
        seed: args.seed,
        src_mac: macs.0,
        dst_mac: macs.1,
        src,
        dst,
        dsts: args.dsts,
        sport: args.sport.unwrap_or(1024),
        dport: args.dport.unwrap_or(9),
    })
}

/// Source and destination, of one family.
fn addresses(args: &WorkArgs) -> Result<(IpAddr, IpAddr), String> {
    let v6 = args.ipv6 || [args.src, args.dst].into_iter().flatten().any(|addr| addr.is_ipv6());
    let default: (IpAddr, IpAddr) = match v6 {
        true => (V6.0.into(), V6.1.into()),
        false => (V4.0.into(), V4.1.into()),
    };
    let (src, dst) = (args.src.unwrap_or(default.0), args.dst.unwrap_or(default.1));
    if src.is_ipv6() != v6 || dst.is_ipv6() != v6 {
        return Err(format!(
            "--src {src} and --dst {dst} are to be of one family{}: name both in IPv4 or both in IPv6",
            if args.ipv6 { ", and -6 says IPv6" } else { "" }
        ));
    }
    Ok((src, dst))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::{Args, Command};
    use clap::Parser;

    fn made(flags: &str) -> Result<Work, String> {
        let line = format!("bypath bench --port a --port b {flags}");
        let Ok(Args {
            command: Command::Bench(args),
        }) = Args::try_parse_from(line.split_whitespace())
        else {
            return Err("not read".into());
        };
        work(&args.work, args.work.size[0], args.rate, (None, [2; 6]))
    }

    #[test]
    fn the_family_follows_the_addresses() {
        let pair = |flags: &str| made(flags).map(|work| (work.src.to_string(), work.dst.to_string()));
        let is = |src: &str, dst: &str| Ok((src.to_owned(), dst.to_owned()));
        assert_eq!(pair(""), is("198.18.0.1", "198.19.0.1"));
        assert_eq!(pair("-6"), is("2001:2::1", "2001:2:0:8000::1"));
        assert_eq!(pair("--dst fd00::1"), is("2001:2::1", "fd00::1"));
        assert!(pair("--src 10.0.0.1 --dst fd00::1").unwrap_err().contains("one family"));
        assert!(pair("-6 --dst 10.0.0.1").unwrap_err().contains("-6 says IPv6"));
    }

    #[test]
    fn what_was_asked_for_is_sent() {
        let work = made("--rate 100k --size imix --seconds 0.5 --flows 1000 --new-flows 10 --kind tcp-syn").unwrap();
        assert_eq!(work.rate, Rate::Paced(100_000.0));
        assert_eq!((work.size, work.flows.count), (Size::Imix, 1000));
        assert_eq!(
            (work.flows.new_per_second, work.duration),
            (10, Duration::from_millis(500))
        );
        assert!(made("--seconds 1e9").is_err());
    }
}
