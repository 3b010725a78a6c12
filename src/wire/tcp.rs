//! TCP. RFC 9293, section 3.1.
//!
//! ```text
//! 0          2          4          8          12    13      14       16         18       20
//! | src port | dst port | sequence | ack      | off | flags | window | checksum | urgent | options ... | payload
//! ```
//!
//! The view's bytes end where the IP packet ends: TCP has no length of its own. Checksums need the pseudo-header's sum,
//! [`checksum::pseudo_v4`] or [`checksum::pseudo_v6`].

use super::{Malformed, be16, be32, checksum, put};

/// Length of the header without options, in bytes.
pub const HEADER_LEN: usize = 20;
/// Where the checksum lies in the header, in bytes.
pub const CHECKSUM_AT: usize = 16;

/// The control bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Flags(pub u8);

#[allow(missing_docs)] // the names are the RFC's
impl Flags {
    pub const FIN: u8 = 0x01;
    pub const SYN: u8 = 0x02;
    pub const RST: u8 = 0x04;
    pub const PSH: u8 = 0x08;
    pub const ACK: u8 = 0x10;
    pub const URG: u8 = 0x20;
    pub const ECE: u8 = 0x40;
    pub const CWR: u8 = 0x80;
}

impl Flags {
    /// Whether any of `bits` is set.
    #[inline]
    pub const fn any(self, bits: u8) -> bool {
        self.0 & bits != 0
    }
}

/// The kind of an option. IANA, "TCP Parameters".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct OptionKind(pub u8);

#[allow(missing_docs)] // the names are IANA's
impl OptionKind {
    pub const END: Self = Self(0);
    pub const NOP: Self = Self(1);
    pub const MSS: Self = Self(2);
    pub const WINDOW_SCALE: Self = Self(3);
    pub const SACK_PERMITTED: Self = Self(4);
    pub const SACK: Self = Self(5);
    pub const TIMESTAMP: Self = Self(8);
}

view! {
    /// A TCP segment.
}

/// An iterator over options: their kinds, and their data behind kind and length. NOPs are stepped over. It ends at the end
/// of options, at a length below 2, and at an option that is cut; so it makes at most 20 steps.
#[derive(Clone, Debug)]
pub struct Options<'a> {
    rest: &'a [u8],
}

impl<'a> Options<'a> {
    /// Those of `bytes`, a header's option field.
    #[inline]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }
}

impl<'a> Iterator for Options<'a> {
    type Item = (OptionKind, &'a [u8]);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match *self.rest {
                [kind, ref behind @ ..] if OptionKind(kind) == OptionKind::NOP => self.rest = behind,
                [kind, len, ..] if OptionKind(kind) != OptionKind::END && len >= 2 => {
                    let (option, behind) = self.rest.split_at_checked(len.into())?;
                    self.rest = behind;
                    return Some((OptionKind(kind), &option[2..]));
                }
                _ => {
                    self.rest = &[];
                    return None;
                }
            }
        }
    }
}

#[inline]
fn check(bytes: &[u8]) -> Result<(), Malformed> {
    if bytes.len() < HEADER_LEN {
        return Err(Malformed);
    }
    let header = usize::from(bytes[12] >> 4) * 4;
    if header < HEADER_LEN || bytes.len() < header {
        Err(Malformed)
    } else {
        Ok(())
    }
}

impl<T: AsRef<[u8]>> Packet<T> {
    /// Source port.
    #[inline]
    pub fn src_port(&self) -> u16 {
        be16(self.bytes(), 0)
    }

    /// Destination port.
    #[inline]
    pub fn dst_port(&self) -> u16 {
        be16(self.bytes(), 2)
    }

    /// Sequence number.
    #[inline]
    pub fn sequence(&self) -> u32 {
        be32(self.bytes(), 4)
    }

    /// Acknowledgement number.
    #[inline]
    pub fn acknowledgement(&self) -> u32 {
        be32(self.bytes(), 8)
    }

    /// Length of the header with its options, in bytes: 20 to 60.
    #[inline]
    pub fn header_len(&self) -> usize {
        usize::from(self.bytes()[12] >> 4) * 4
    }

    /// The control bits.
    #[inline]
    pub fn flags(&self) -> Flags {
        Flags(self.bytes()[13])
    }

    /// Window, not scaled.
    #[inline]
    pub fn window(&self) -> u16 {
        be16(self.bytes(), 14)
    }

    /// Checksum.
    #[inline]
    pub fn checksum(&self) -> u16 {
        be16(self.bytes(), CHECKSUM_AT)
    }

    /// Urgent pointer.
    #[inline]
    pub fn urgent(&self) -> u16 {
        be16(self.bytes(), 18)
    }

    /// The options, 0 to 40 bytes.
    #[inline]
    pub fn options(&self) -> &[u8] {
        &self.bytes()[HEADER_LEN..self.header_len()]
    }

    /// The options one by one; see [`Options`].
    #[inline]
    pub fn each_option(&self) -> Options<'_> {
        Options { rest: self.options() }
    }

    /// The data.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        &self.bytes()[self.header_len()..]
    }

    /// Whether the checksum is right.
    #[inline]
    pub fn verify_checksum(&self, pseudo: u64) -> bool {
        checksum::fold(pseudo + checksum::sum(self.bytes())) == 0xffff
    }
}

impl<T: AsRef<[u8]> + AsMut<[u8]>> Packet<T> {
    /// Sets the source port.
    #[inline]
    pub fn set_src_port(&mut self, value: u16) {
        put(self.bytes_mut(), 0, &value.to_be_bytes());
    }

    /// Sets the destination port.
    #[inline]
    pub fn set_dst_port(&mut self, value: u16) {
        put(self.bytes_mut(), 2, &value.to_be_bytes());
    }

    /// Sets the checksum.
    #[inline]
    pub fn set_checksum(&mut self, value: u16) {
        put(self.bytes_mut(), CHECKSUM_AT, &value.to_be_bytes());
    }

    /// Computes and sets the checksum.
    #[inline]
    pub fn fill_checksum(&mut self, pseudo: u64) {
        self.set_checksum(0);
        let check = !checksum::fold(pseudo + checksum::sum(self.bytes()));
        self.set_checksum(check);
    }

    /// The data, writable.
    #[inline]
    pub fn payload_mut(&mut self) -> &mut [u8] {
        let from = self.header_len();
        &mut self.bytes_mut()[from..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(bytes: &[u8]) -> Vec<(u8, &[u8])> {
        let all = Options { rest: bytes };
        all.map(|(kind, data)| (kind.0, data)).collect()
    }

    #[test]
    fn options_end_where_they_are_malformed() {
        assert_eq!(
            options(&[2, 4, 5, 180, 1, 3, 3, 7, 4, 2, 0, 9, 9]),
            [(2, &[5, 180][..]), (3, &[7]), (4, &[])]
        );
        let none: [(u8, &[u8]); 0] = [];
        assert_eq!(options(&[]), none);
        assert_eq!(options(&[1, 1, 1]), none);
        assert_eq!(options(&[3]), none, "no length");
        assert_eq!(options(&[1, 3, 1, 4, 2]), none, "a length of 1");
        assert_eq!(options(&[3, 0, 4, 2]), none, "a length of 0");
        assert_eq!(options(&[4, 2, 5, 10, 0, 0]), [(4, &[][..])], "the second is cut");
    }

    #[test]
    fn a_malformed_option_ends_it_for_good() {
        let mut options = Options { rest: &[5, 10, 0] };
        assert_eq!(options.next(), None);
        assert_eq!(options.next(), None);
    }
}
