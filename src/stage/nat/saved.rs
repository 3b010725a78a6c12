//! A frame's head as it came: put back when the packet, already translated, turns out to be the kernel's.

use crate::packet::{Frame, FrameId};

/// So many bytes of a frame are saved: Ethernet, the longest IPv4 header or IPv6 with some extensions, the longest TCP
/// header, or an ICMP error with what it quotes. Nothing behind is ever changed before a punt.
pub const SAVED_LEN: usize = 192;

/// See the file's head. One for each worker: it holds the head of one frame at a time.
#[derive(Debug)]
pub struct Saved {
    head: [u8; SAVED_LEN],
    /// Whose, and how long the frame was.
    of: Option<(FrameId, u16)>,
}

impl Saved {
    /// Nothing.
    pub const fn new() -> Self {
        Self {
            head: [0; SAVED_LEN],
            of: None,
        }
    }

    /// Saves the head of `frame`, unless it is saved already: what came first counts. Whoever saves must
    /// [`restore`](Self::restore) or [`forget`](Self::forget) before the frame gets another packet.
    pub fn save(&mut self, frame: &Frame) {
        if self.of.is_some_and(|(id, _)| id == frame.id()) {
            return;
        }
        let bytes = frame.bytes();
        let len = bytes.len().min(SAVED_LEN);
        self.head[..len].copy_from_slice(&bytes[..len]);
        self.of = Some((frame.id(), bytes.len() as u16));
    }

    /// Puts the head of `frame`, and its length, back; false if it was not saved. Forgets it.
    pub fn restore(&mut self, frame: &mut Frame) -> bool {
        let Some((_, len)) = self.of.take().filter(|(id, _)| *id == frame.id()) else {
            return false;
        };
        frame.set_range(frame.head().into(), len.into());
        let len = frame.len().min(SAVED_LEN);
        frame.bytes_mut()[..len].copy_from_slice(&self.head[..len]);
        true
    }

    /// Forgets what was saved: the packet is on its way.
    pub fn forget(&mut self) {
        self.of = None;
    }
}

impl Default for Saved {
    fn default() -> Self {
        Self::new()
    }
}
