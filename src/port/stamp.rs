//! The arrival stamp: steer writes a magic and the time into the 16 bytes just before a packet, for one packet in 64 (or all,
//! when latency is asked for).
//!
//! ```text
//!  ... | magic u64 | bpf_ktime_get_ns u64 | Ethernet header ...
//!                                         ^ head
//! ```
//!
//! Taking a stamp erases it, so that a frame that is used again does not show it twice.

use crate::packet::Frame;

/// What marks a stamp; the same number stands in bpf/steer.bpf.c.
pub const STAMP_MAGIC: u64 = 0x6279_7061_7468_5453;

/// The bytes that a stamp takes.
pub const STAMP_LEN: usize = 16;

/// The frame's arrival in monotonic nanoseconds, if steer stamped it.
#[inline]
pub fn take(frame: &mut Frame) -> Option<u64> {
    let stamp = frame.headroom_mut().last_chunk_mut::<STAMP_LEN>()?;
    let (magic, time) = stamp.split_first_chunk_mut::<8>()?;
    if u64::from_ne_bytes(*magic) != STAMP_MAGIC {
        return None;
    }
    *magic = [0; 8];
    time.first_chunk::<8>().map(|time| u64::from_ne_bytes(*time))
}
