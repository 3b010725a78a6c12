//! `bypath trace`: prints what the instance streams, one line per box that a packet passes.
//!
//! ```text
//!   #1 d0  rx            in by d0, 10.0.0.2.40000 > 10.1.0.2.9, proto 17, ttl 64, length 60
//!   #1 d0  routing       prefix /24 dev d1
//!   #1 d0  forward       out by d1, mtu 1500
//!   #1 d0  neighbor      lladdr 02:00:00:00:00:02
//!   #1 d0  tx            rewrote 02:00:00:00:00:01 > 02:00:00:00:00:02, ttl 64 -> 63; forward d1
//! ```

use super::args::Trace;
use super::output::Outcome;
use crate::control::api::{Client, TraceFilter};
use crate::control::report::TraceLine;
use std::io::Write;
use std::net::IpAddr;
use std::process::ExitCode;

/// IP protocols by the names that `nft` and `ip` use.
const PROTOCOLS: [(&str, u8); 7] = [
    ("icmp", 1),
    ("tcp", 6),
    ("udp", 17),
    ("gre", 47),
    ("esp", 50),
    ("icmpv6", 58),
    ("sctp", 132),
];

/// Prints packets as they pass, until `--count` or Ctrl-C.
pub fn trace(args: Trace) -> Outcome {
    let Trace {
        port,
        proto,
        src,
        dst,
        count,
        json,
        control,
    } = args;
    let filter = TraceFilter {
        port,
        proto,
        src,
        dst,
        count,
    };
    let mut rows = Client::connect(control.as_deref())?.trace::<TraceLine>(filter)?;
    let mut out = std::io::stdout().lock();
    while let Some(line) = rows.next() {
        let (line, lost) = (line?, rows.take_lost());
        if lost > 0 {
            writeln!(
                std::io::stderr(),
                "bypath: trace: {lost} matching packets left out, they came too fast"
            )?;
        }
        if json {
            serde_json::to_writer(&mut out, &line)?;
            writeln!(out)?;
        } else {
            writeln!(out, "{}", text(&line))?;
        }
        out.flush()?;
    }
    Ok(ExitCode::SUCCESS)
}

fn text(line: &TraceLine) -> String {
    let TraceLine {
        packet,
        port,
        stage,
        looked_up,
        rewrite,
        verdict,
        reason,
        ..
    } = line;
    let mut parts = vec![looked_up.clone()];
    parts.extend(rewrite.as_ref().map(|rewrite| format!("rewrote {rewrite}")));
    parts.extend(verdict.as_ref().map(|verdict| {
        [Some(verdict.as_str()), reason.as_deref()]
            .into_iter()
            .flatten()
            .collect::<Vec<_>>()
            .join(" ")
    }));
    parts.retain(|part| !part.is_empty());
    format!("#{packet} {port}  {stage:<13} {}", parts.join("; "))
        .trim_end()
        .to_owned()
}

/// Reads `--proto`.
pub fn parse_proto(text: &str) -> Result<u8, String> {
    let named = PROTOCOLS
        .iter()
        .find(|(name, _)| *name == text)
        .map(|&(_, number)| number);
    named.or_else(|| text.parse().ok()).ok_or_else(|| {
        let names: Vec<&str> = PROTOCOLS.iter().map(|&(name, _)| name).collect();
        format!("neither a number up to 255 nor one of {}", names.join(", "))
    })
}

/// Reads `--src` and `--dst`: an address, or a prefix.
pub fn parse_prefix(text: &str) -> Result<(IpAddr, u8), String> {
    let (addr, len) = text
        .split_once('/')
        .map_or((text, None), |(addr, len)| (addr, Some(len)));
    let addr: IpAddr = addr
        .parse()
        .map_err(|_| "not an address such as 10.0.0.1, 10.0.0.0/8 or 2001:db8::/32")?;
    let bits = if addr.is_ipv4() { 32 } else { 128 };
    match len.map_or(Ok(bits), str::parse) {
        Ok(len) if len <= bits => Ok((addr, len)),
        _ => Err(format!("a prefix length of this family is 0 to {bits}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_read() {
        assert_eq!(parse_proto("udp"), Ok(17));
        assert_eq!(parse_proto("89"), Ok(89));
        assert!(parse_proto("256").is_err() && parse_proto("ucp").is_err());
        assert_eq!(parse_prefix("10.0.0.0/8"), Ok(("10.0.0.0".parse().unwrap(), 8)));
        assert_eq!(parse_prefix("2001:db8::1"), Ok(("2001:db8::1".parse().unwrap(), 128)));
        for bad in ["10.0.0.0/33", "10.0.0.0/", "10.0.0.0/-1", "d0", ""] {
            assert!(parse_prefix(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_line_says_box_rewrite_and_verdict() {
        let line = TraceLine {
            packet: 2,
            port: "d0".into(),
            stage: "neighbor".into(),
            looked_up: "10.1.0.2 dev d1".into(),
            rewrite: Some("ttl 63".into()),
            verdict: Some("forward".into()),
            reason: Some("d1".into()),
            ..TraceLine::default()
        };
        assert_eq!(
            text(&line),
            "#2 d0  neighbor      10.1.0.2 dev d1; rewrote ttl 63; forward d1"
        );
        let bare = TraceLine {
            rewrite: None,
            verdict: None,
            reason: None,
            looked_up: String::new(),
            ..line
        };
        assert_eq!(text(&bare), "#2 d0  neighbor");
    }
}
