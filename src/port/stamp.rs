//! The arrival stamp: when the XDP program saw a packet.
//!
//! `steer.bpf.c` grows the metadata area of a frame by 16 bytes and writes the stamp there; the kernel copies metadata
//! into the AF_XDP frame together with the packet (`xsk_copy_xdp`), so it lies just before the packet:
//!
//! ```text
//!   ... headroom ...  | magic u64 | ktime_ns u64 | packet
//!                    head-16     head-8         head
//! ```
//!
//! Both words are in the machine's byte order. Nothing tells whether a frame carries metadata, hence the magic; and it is
//! erased when read, since the buffer's next packet may come without a stamp. Not every driver gives metadata room: then
//! there is no stamp, and the time of the burst has to do.

use crate::packet::Frame;

/// What marks a stamp. The other copy is in `bpf/stamp.h`.
pub const STAMP_MAGIC: u64 = 0x6279_7061_7468_5453;

/// A stamp's length in bytes.
pub const STAMP_LEN: usize = 16;

/// Takes the arrival time off the frame: nanoseconds of CLOCK_MONOTONIC (`bpf_ktime_get_ns`). `None` when the frame has
/// no stamp, or when it was taken before.
#[inline]
pub fn take_stamp(frame: &mut Frame) -> Option<u64> {
    let room = frame.headroom_mut();
    let (_, stamp) = room.split_at_mut_checked(room.len().checked_sub(STAMP_LEN)?)?;
    let (magic, time_ns) = stamp.split_first_chunk_mut::<8>()?;
    if u64::from_ne_bytes(*magic) != STAMP_MAGIC {
        return None;
    }
    *magic = [0; 8];
    time_ns.first_chunk::<8>().map(|bytes| u64::from_ne_bytes(*bytes))
}

/// Writes a stamp as `steer.bpf.c` does; for ports without a kernel. A frame without room for it stays as it is.
pub fn put_stamp(frame: &mut Frame, time_ns: u64) {
    let room = frame.headroom_mut();
    let len = room.len();
    if len >= STAMP_LEN {
        room[len - 16..len - 8].copy_from_slice(&STAMP_MAGIC.to_ne_bytes());
        room[len - 8..].copy_from_slice(&time_ns.to_ne_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::FrameId;

    #[test]
    fn a_stamp_is_taken_once_and_only_with_its_magic() {
        let mut frame = Frame::new(vec![0u8; 64].leak(), FrameId(0), 32);
        frame.fill(b"packet");
        assert_eq!(take_stamp(&mut frame), None);
        put_stamp(&mut frame, 42);
        assert_eq!(take_stamp(&mut frame), Some(42));
        assert_eq!(take_stamp(&mut frame), None);
        assert_eq!(frame.bytes(), b"packet");
    }

    #[test]
    fn a_frame_without_room_has_no_stamp() {
        let mut frame = Frame::new(vec![0u8; 64].leak(), FrameId(0), 8);
        put_stamp(&mut frame, 42);
        assert_eq!(take_stamp(&mut frame), None);
        assert_eq!(frame.headroom_mut(), [0; 8]);
    }
}
