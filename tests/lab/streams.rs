//! Keeps datagrams off the moment at which their connection becomes a stream.
//!
//! A UDP connection that still sends two seconds after its first packet, and was answered, is assured (the `stream_ts` of
//! nf_conntrack_proto_udp.c). Two labs get a packet some milliseconds apart, so one that comes just then is of a stream in one
//! lab and not in the other. Such a packet waits a moment; an earlier or later one is compared exactly.

use super::packet::proto;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// When a connection becomes a stream, and how near to that no packet is sent.
const STREAM: Duration = Duration::from_secs(2);
const MARGIN: Duration = Duration::from_millis(200);

/// When each pair of ends sent its first datagram; by what else a pair is known, behind NAT.
#[derive(Default)]
pub struct Streams(HashMap<[Vec<u8>; 2], Instant>, HashMap<[Vec<u8>; 2], [Vec<u8>; 2]>);

impl Streams {
    /// What arrived as `as_seen` is what was sent as `as_sent`.
    pub fn is_also(&mut self, as_seen: &[u8], as_sent: &[u8]) {
        if let (Some(seen), Some(sent)) = (ends(as_seen), ends(as_sent))
            && seen != sent
        {
            self.1.insert(seen, sent);
        }
    }

    /// Waits until none of the frames belongs to a connection of about that age.
    pub fn keep_off(&mut self, frames: &[Vec<u8>]) {
        let begun: Vec<Instant> = frames
            .iter()
            .filter_map(|frame| ends(frame))
            .map(|ends| self.1.get(&ends).cloned().unwrap_or(ends))
            .map(|ends| *self.0.entry(ends).or_insert_with(Instant::now))
            .collect();
        let wait = || {
            let ages = begun.iter().map(Instant::elapsed);
            ages.filter(|age| *age + MARGIN > STREAM && *age < STREAM + MARGIN)
                .map(|age| STREAM + MARGIN - age)
                .max()
        };
        while let Some(wait) = wait() {
            std::thread::sleep(wait);
        }
    }
}

/// Address and port of both ends of a datagram, in one order for both directions.
fn ends(frame: &[u8]) -> Option<[Vec<u8>; 2]> {
    let (protocol, src, dst, ports) = match frame.get(12..14)? {
        [0x08, 0x00] => (23, 26..30, 30..34, 14 + usize::from(frame.get(14)? & 0x0f) * 4),
        [0x86, 0xdd] => (20, 22..38, 38..54, 54),
        _ => return None,
    };
    if *frame.get(protocol)? != proto::UDP {
        return None;
    }
    let end = |addr, port: usize| Some([frame.get(addr)?, frame.get(port..port + 2)?].concat());
    let mut ends = [end(src, ports)?, end(dst, ports + 2)?];
    ends.sort();
    Some(ends)
}
