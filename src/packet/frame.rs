//! The owned frame: a buffer of the frame pool with a packet in it.
//!
//! ```text
//!  buf   |<- headroom ->|<---- packet ---->|<- tailroom ->|
//!        0            head             head+len        capacity
//! ```
//!
//! A `Frame` is neither `Copy` nor `Clone`: whoever holds it owns the buffer, and moving it is the transfer. A frame that
//! the kernel holds (fill ring, transmit ring) does not exist as a `Frame`; its [`FrameId`] comes back by a ring and
//! `port::umem` makes the `Frame` again. So the audit is a count of places:
//! `free + fill + rx + tx + completion + held = all`.
//!
//! The buffer is `'static` because the memory of a pool lives as long as the process: no frame can outlive it.

/// Destination and source, in front of a frame's type or tag.
const ADDRESSES_LEN: usize = 12;

/// A frame's number in its pool: buffer `id` starts at `id * frame_size`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FrameId(pub u32);

/// A buffer with a packet in it. See the module's head.
#[derive(Debug)]
#[must_use = "a frame that is dropped is lost to its pool"]
pub struct Frame {
    buf: &'static mut [u8],
    id: FrameId,
    head: u16,
    len: u16,
    mark: u32,
    priority: u32,
}

impl Frame {
    /// An empty frame over `buf`, whose packet will start at `head`.
    ///
    /// # Panics
    /// If `head` lies beyond the buffer: pools are laid out by the programmer, not by the operator.
    pub fn new(buf: &'static mut [u8], id: FrameId, head: u16) -> Self {
        assert!(usize::from(head) <= buf.len(), "headroom larger than the buffer");
        Self {
            buf,
            id,
            head,
            len: 0,
            mark: 0,
            priority: 0,
        }
    }

    /// The frame's number in its pool.
    pub fn id(&self) -> FrameId {
        self.id
    }

    /// Where the packet starts in the buffer, in bytes.
    pub fn head(&self) -> u16 {
        self.head
    }

    /// The packet's length in bytes, from the Ethernet header on.
    pub fn len(&self) -> usize {
        usize::from(self.len)
    }

    /// Whether the frame holds no packet.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The packet, from the first byte of its Ethernet header.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        &self.buf[usize::from(self.head)..usize::from(self.head) + usize::from(self.len)]
    }

    /// The packet, writable.
    #[inline]
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.buf[usize::from(self.head)..usize::from(self.head) + usize::from(self.len)]
    }

    /// The room before the packet. The last bytes of it may hold the arrival stamp that steer wrote.
    #[inline]
    pub fn headroom_mut(&mut self) -> &mut [u8] {
        &mut self.buf[..usize::from(self.head)]
    }

    /// Says where the packet lies, as a ring reported it. Ranges that do not fit the buffer are clamped, so that
    /// [`Frame::bytes`] cannot panic.
    #[inline]
    pub fn set_range(&mut self, head: usize, len: usize) {
        let head = head.min(self.buf.len());
        self.head = head as u16;
        self.len = len.min(self.buf.len() - head) as u16;
    }

    /// Shortens the packet to `len` bytes; a longer `len` changes nothing. This is how padding behind an IP packet goes,
    /// as in the kernel's `pskb_trim_rcsum`.
    #[inline]
    pub fn truncate(&mut self, len: usize) {
        // Not written where it stays: a frame is moved as a whole, and would wait for a part of it just written.
        if len < usize::from(self.len) {
            self.len = len as u16;
        }
    }

    /// Puts a VLAN tag (its EtherType and its control information, as they lie in a frame) behind the Ethernet addresses, which
    /// move into the headroom. False, and nothing changed, where there is no room or no Ethernet header.
    #[inline]
    pub fn push_tag(&mut self, tag: [u8; 4]) -> bool {
        let Some(head) = usize::from(self.head).checked_sub(tag.len()) else {
            return false;
        };
        if self.len() < ADDRESSES_LEN || self.len() + tag.len() > usize::from(u16::MAX) {
            return false;
        }
        self.buf
            .copy_within(head + tag.len()..head + tag.len() + ADDRESSES_LEN, head);
        (self.head, self.len) = (head as u16, self.len + tag.len() as u16);
        self.bytes_mut()[ADDRESSES_LEN..ADDRESSES_LEN + tag.len()].copy_from_slice(&tag);
        true
    }

    /// Takes the VLAN tag out that stands behind the Ethernet addresses. False where the frame ends before it does.
    #[inline]
    pub fn pop_tag(&mut self) -> bool {
        const TAG_LEN: usize = 4;
        if self.len() < ADDRESSES_LEN + TAG_LEN {
            return false;
        }
        let head = usize::from(self.head);
        self.buf.copy_within(head..head + ADDRESSES_LEN, head + TAG_LEN);
        (self.head, self.len) = (self.head + TAG_LEN as u16, self.len - TAG_LEN as u16);
        true
    }

    /// What skb's field of that name would be, for the qdisc of the way out. Set where a walk ends, and only while some port is
    /// shaped.
    #[inline]
    pub fn mark(&self) -> u32 {
        self.mark
    }

    /// Likewise.
    #[inline]
    pub fn priority(&self) -> u32 {
        self.priority
    }

    /// Sets both.
    #[inline]
    pub fn set_meta(&mut self, mark: u32, priority: u32) {
        // As with the length, not where they stay.
        if (self.mark, self.priority) != (mark, priority) {
            (self.mark, self.priority) = (mark, priority);
        }
    }

    /// Fills the frame with a copy of `packet`; what does not fit behind the headroom is cut.
    pub fn fill(&mut self, packet: &[u8]) {
        self.set_range(usize::from(self.head), packet.len());
        let len = self.len();
        self.bytes_mut().copy_from_slice(&packet[..len]);
    }

    /// Takes the buffer out again; for the pool that made the frame.
    pub fn into_buffer(self) -> (&'static mut [u8], FrameId) {
        (self.buf, self.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_goes_in_and_out_again() {
        let packet: Vec<u8> = (0..60).collect();
        let mut frame = Frame::new(vec![0u8; 128].leak(), FrameId(0), 6);
        frame.fill(&packet);
        assert!(frame.push_tag([0x81, 0, 0, 5]));
        assert_eq!((frame.head(), frame.len()), (2, 64));
        assert_eq!(frame.bytes()[..12], packet[..12]);
        assert_eq!(frame.bytes()[12..16], [0x81, 0, 0, 5]);
        assert_eq!(frame.bytes()[16..], packet[12..]);
        assert!(!frame.push_tag([0x88, 0xa8, 0, 6]), "two bytes of headroom are left");
        assert!(frame.pop_tag());
        assert_eq!((frame.head(), frame.bytes()), (6, &packet[..]));
    }

    #[test]
    fn two_frames_fit_a_cache_line() {
        assert_eq!(size_of::<Frame>(), 32);
    }

    #[test]
    fn a_frame_without_addresses_has_no_tag() {
        let mut frame = Frame::new(vec![0u8; 64].leak(), FrameId(0), 16);
        frame.fill(&[1; 11]);
        assert!(!frame.push_tag([0; 4]) && !frame.pop_tag());
        frame.fill(&[1; 15]);
        assert!(!frame.pop_tag());
        assert_eq!(frame.bytes(), [1; 15]);
    }
}
