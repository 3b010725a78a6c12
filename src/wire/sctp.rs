//! SCTP. RFC 9260, section 3.
//!
//! ```text
//! 0          2          4                  8          12
//! | src port | dst port | verification tag | checksum | chunks: | type | flags | length | value ... | padding to 4 | ...
//! ```
//!
//! The checksum is a CRC32c over the whole packet with zeros in its place, and lies there in little-endian order
//! (RFC 9260, appendix A). The view's bytes end where the IP packet ends.

use super::{Malformed, be16, be32};

/// Length of the common header in bytes.
pub const HEADER_LEN: usize = 12;
/// Where the checksum lies in the header, in bytes.
pub const CHECKSUM_AT: usize = 8;
/// Length of a chunk's header in bytes.
pub const CHUNK_HEADER_LEN: usize = 4;
/// Length of what INIT and INIT ACK have at least behind the chunk's header, in bytes.
const INIT_LEN: usize = 16;

/// A chunk's type. RFC 9260, section 3.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ChunkType(pub u8);

#[allow(missing_docs)] // the names are the RFC's
impl ChunkType {
    pub const DATA: Self = Self(0);
    pub const INIT: Self = Self(1);
    pub const INIT_ACK: Self = Self(2);
    pub const SACK: Self = Self(3);
    pub const HEARTBEAT: Self = Self(4);
    pub const HEARTBEAT_ACK: Self = Self(5);
    pub const ABORT: Self = Self(6);
    pub const SHUTDOWN: Self = Self(7);
    pub const SHUTDOWN_ACK: Self = Self(8);
    pub const ERROR: Self = Self(9);
    pub const COOKIE_ECHO: Self = Self(10);
    pub const COOKIE_ACK: Self = Self(11);
    pub const SHUTDOWN_COMPLETE: Self = Self(14);
}

view! {
    /// An SCTP packet.
}

#[inline]
fn check(bytes: &[u8]) -> Result<(), Malformed> {
    if bytes.len() < HEADER_LEN {
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

    /// Verification tag.
    #[inline]
    pub fn tag(&self) -> u32 {
        be32(self.bytes(), 4)
    }

    /// Checksum.
    #[inline]
    pub fn checksum(&self) -> u32 {
        be32(self.bytes(), CHECKSUM_AT).swap_bytes()
    }

    /// Whether the checksum is right.
    pub fn verify_checksum(&self) -> bool {
        self.computed() == self.checksum()
    }

    /// The chunks, as far as they can be told apart; see [`Chunks`].
    #[inline]
    pub fn chunks(&self) -> Chunks<'_> {
        Chunks {
            rest: &self.bytes()[HEADER_LEN..],
        }
    }

    fn computed(&self) -> u32 {
        let (head, rest) = self.bytes().split_at(CHECKSUM_AT);
        let crc = crc32c(crc32c(!0, head), &[0; 4]);
        !crc32c(crc, &rest[4..])
    }
}

impl<T: AsRef<[u8]> + AsMut<[u8]>> Packet<T> {
    /// Computes and sets the checksum.
    pub fn fill_checksum(&mut self) {
        let crc = self.computed();
        super::put(self.bytes_mut(), CHECKSUM_AT, &crc.to_le_bytes());
    }
}

/// A chunk as it lies in its packet; its length field may lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunk<'a> {
    /// Its type.
    pub kind: ChunkType,
    /// Its flags, by type.
    pub flags: u8,
    /// What it says of its length, header included, in bytes.
    pub len: u16,
    /// Everything behind its header, to the packet's end.
    pub rest: &'a [u8],
}

impl Chunk<'_> {
    /// The T flag of ABORT and SHUTDOWN COMPLETE: the tag is the other side's.
    #[inline]
    pub const fn reflects_tag(&self) -> bool {
        self.flags & 1 != 0
    }

    /// The initiate tag of INIT and INIT ACK, if their fixed part is in the packet.
    #[inline]
    pub fn initiate_tag(&self) -> Option<u32> {
        let fixed = self.rest.first_chunk::<INIT_LEN>()?;
        Some(be32(fixed, 0))
    }
}

/// An iterator over chunks: ends with the packet, where a chunk's header would be cut, and behind a chunk that says it has
/// no length at all. So it makes at most one step per four bytes.
#[derive(Clone, Debug)]
pub struct Chunks<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Chunks<'a> {
    type Item = Chunk<'a>;

    #[inline]
    fn next(&mut self) -> Option<Chunk<'a>> {
        let (header, behind) = self.rest.split_first_chunk::<CHUNK_HEADER_LEN>()?;
        let len = be16(header, 2);
        let step = if len == 0 {
            self.rest.len()
        } else {
            usize::from(len).next_multiple_of(4)
        };
        self.rest = self.rest.get(step..).unwrap_or_default();
        Some(Chunk {
            kind: ChunkType(header[0]),
            flags: header[1],
            len,
            rest: behind,
        })
    }
}

/// The polynomial of Castagnoli, its bits reversed.
const POLYNOMIAL: u32 = 0x82f6_3b78;

/// Tables for eight bytes at a time.
static TABLES: [[u32; 256]; 8] = tables();

const fn tables() -> [[u32; 256]; 8] {
    let mut tables = [[0; 256]; 8];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 != 0 { crc >> 1 ^ POLYNOMIAL } else { crc >> 1 };
            bit += 1;
        }
        tables[0][byte] = crc;
        byte += 1;
    }
    let mut table = 1;
    while table < 8 {
        let mut byte = 0;
        while byte < 256 {
            let before = tables[table - 1][byte];
            tables[table][byte] = before >> 8 ^ tables[0][(before & 0xff) as usize];
            byte += 1;
        }
        table += 1;
    }
    tables
}

/// `crc` after `bytes`; begins with all ones and ends with a complement.
fn crc32c(mut crc: u32, bytes: &[u8]) -> u32 {
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        let word = u64::from_le_bytes(*word) ^ u64::from(crc);
        crc = 0;
        for (table, byte) in TABLES.iter().rev().zip(word.to_le_bytes()) {
            crc ^= table[usize::from(byte)];
        }
    }
    for byte in rest {
        crc = crc >> 8 ^ TABLES[0][usize::from(crc as u8 ^ byte)];
    }
    crc
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn crc_is_that_of_rfc_3720() {
        // RFC 3720, appendix B.4, which gives them in the order on the wire.
        assert_eq!(!crc32c(!0, &[0; 32]), 0x8a91_36aa);
        assert_eq!(!crc32c(!0, &[0xff; 32]), 0x62a8_ab43);
        let rising: Vec<u8> = (0..32).collect();
        assert_eq!(!crc32c(!0, &rising), 0x46dd_794e);
        assert_eq!(!crc32c(!0, b"123456789"), 0xe306_9283);
    }

    #[test]
    fn chunks_end_where_they_are_cut_or_have_no_length() {
        let mut bytes = vec![0; HEADER_LEN];
        bytes.extend([10, 0, 0, 6, 1, 2, 0, 0]); // COOKIE ECHO, two bytes of padding
        bytes.extend([0, 3, 0, 4]);
        bytes.extend([6, 1, 0]);
        let packet = Packet::new_checked(&bytes[..]).unwrap();
        let seen: Vec<_> = packet
            .chunks()
            .map(|chunk| (chunk.kind.0, chunk.flags, chunk.len))
            .collect();
        assert_eq!(seen, [(10, 0, 6), (0, 3, 4)]);
        bytes[HEADER_LEN + 3] = 0;
        let packet = Packet::new_checked(&bytes[..]).unwrap();
        assert_eq!(packet.chunks().count(), 1);
        bytes[HEADER_LEN + 3] = 200;
        let packet = Packet::new_checked(&bytes[..]).unwrap();
        assert_eq!(packet.chunks().count(), 1);
    }

    #[test]
    fn initiate_tag_needs_the_whole_fixed_part() {
        let mut bytes = vec![0; HEADER_LEN];
        bytes.extend([1, 0, 0, 20, 0xde, 0xad, 0xbe, 0xef]);
        bytes.extend([0; 12]);
        let tag = |bytes: &[u8]| {
            let packet = Packet::new_checked(bytes).unwrap();
            packet.chunks().next().unwrap().initiate_tag()
        };
        assert_eq!(tag(&bytes), Some(0xdead_beef));
        assert_eq!(tag(&bytes[..bytes.len() - 1]), None);
    }

    proptest! {
        #[test]
        fn a_filled_checksum_holds_and_a_changed_bit_breaks_it(
            mut bytes in prop::collection::vec(any::<u8>(), HEADER_LEN..100), at: prop::sample::Index, bit in 0u8..8,
        ) {
            let mut packet = Packet::new_checked(&mut bytes[..]).unwrap();
            packet.fill_checksum();
            prop_assert!(packet.verify_checksum());
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            prop_assert!(!Packet::new_checked(&bytes[..]).unwrap().verify_checksum());
        }
    }
}
