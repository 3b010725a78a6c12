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
}

impl Frame {
    /// An empty frame over `buf`, whose packet will start at `head`.
    ///
    /// # Panics
    /// If `head` lies beyond the buffer: pools are laid out by the programmer, not by the operator.
    pub fn new(buf: &'static mut [u8], id: FrameId, head: u16) -> Self {
        assert!(usize::from(head) <= buf.len(), "headroom larger than the buffer");
        Self { buf, id, head, len: 0 }
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
        self.len = self.len.min(len.min(usize::from(u16::MAX)) as u16);
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
