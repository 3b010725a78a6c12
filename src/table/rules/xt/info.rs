//! The struct of an extension, as the kernel's compiler lays it out: numbers in the order of the host, unless they are of
//! packets.
//!
//! nft_compat tells it in a whole number of words of 8 bytes (XT_ALIGN); any other length is of another struct than the one
//! that is meant. What is behind the end is never read, and padding is never looked at.

/// A struct of a known size.
#[derive(Clone, Copy, Debug)]
pub(super) struct Info<'a>(&'a [u8]);

impl<'a> Info<'a> {
    /// One of `size` bytes; none if these bytes are of another length.
    pub(super) fn of(bytes: &'a [u8], size: usize) -> Option<Self> {
        (bytes.len() == size.next_multiple_of(8)).then_some(Self(bytes))
    }

    /// The bytes from `at` on; zeroes where the struct ends, which whoever knows its layout does not come to.
    pub(super) fn bytes<const N: usize>(self, at: usize) -> [u8; N] {
        let bytes = self.0.get(at..at + N).and_then(|bytes| bytes.try_into().ok());
        bytes.unwrap_or([0; N])
    }

    pub(super) fn u8(self, at: usize) -> u8 {
        u8::from_ne_bytes(self.bytes(at))
    }

    pub(super) fn u16(self, at: usize) -> u16 {
        u16::from_ne_bytes(self.bytes(at))
    }

    /// A number in network order.
    pub(super) fn be16(self, at: usize) -> u16 {
        u16::from_be_bytes(self.bytes(at))
    }

    pub(super) fn u32(self, at: usize) -> u32 {
        u32::from_ne_bytes(self.bytes(at))
    }

    /// Two numbers, one behind the other.
    pub(super) fn pair16(self, at: usize) -> (u16, u16) {
        (self.u16(at), self.u16(at + 2))
    }

    /// A byte that says yes or no; the kernel computes with others as it happens.
    pub(super) fn flag(self, at: usize) -> Option<bool> {
        match self.u8(at) {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }
}
