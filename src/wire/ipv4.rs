//! IPv4, with options. RFC 791; the checks are those of the kernel's `ip_rcv_core` (net/ipv4/ip_input.c).
//!
//! ```text
//! 0      1      2               4               6               8      9      10         12     16     20
//! | 4|hl | tos  | total length  | ident         | -DM| offset   | ttl  | prot | checksum | src  | dst  | options ...
//! ```
//!
//! `new_checked` judges version, header length and total length against the bytes; the checksum is a question of its own
//! ([`Packet::verify_checksum`]). Bytes behind the total length are padding and not part of the payload.

use super::{Malformed, Protocol, be16, be32, checksum, put};

/// Length of the header without options, in bytes.
pub const HEADER_LEN: usize = 20;

view! {
    /// An IPv4 packet.
}

#[inline(always)]
fn check(bytes: &[u8]) -> Result<(), Malformed> {
    if bytes.len() < HEADER_LEN {
        return Err(Malformed);
    }
    let header = usize::from(bytes[0] & 0x0f) * 4;
    let total = usize::from(be16(bytes, 2));
    if bytes[0] >> 4 != 4 || header < HEADER_LEN || total < header || bytes.len() < total {
        return Err(Malformed);
    }
    Ok(())
}

impl<T: AsRef<[u8]>> Packet<T> {
    /// Length of the header with its options, in bytes: 20 to 60.
    #[inline(always)]
    pub fn header_len(&self) -> usize {
        usize::from(self.bytes()[0] & 0x0f) * 4
    }

    /// Type of service: DSCP and ECN.
    #[inline(always)]
    pub fn tos(&self) -> u8 {
        self.bytes()[1]
    }

    /// Length of the packet, header included, in bytes.
    #[inline(always)]
    pub fn total_len(&self) -> usize {
        usize::from(be16(self.bytes(), 2))
    }

    /// Identification, which ties fragments together.
    #[inline]
    pub fn ident(&self) -> u16 {
        be16(self.bytes(), 4)
    }

    /// Whether routers may not fragment it.
    #[inline(always)]
    pub fn dont_fragment(&self) -> bool {
        self.bytes()[6] & 0x40 != 0
    }

    /// Whether more fragments follow.
    #[inline(always)]
    pub fn more_fragments(&self) -> bool {
        self.bytes()[6] & 0x20 != 0
    }

    /// Where in the whole packet this fragment's payload starts, in bytes.
    #[inline(always)]
    pub fn fragment_offset(&self) -> usize {
        usize::from(be16(self.bytes(), 6) & 0x1fff) * 8
    }

    /// Whether this is a fragment, the first one included.
    #[inline(always)]
    pub fn is_fragment(&self) -> bool {
        be16(self.bytes(), 6) & 0x3fff != 0
    }

    /// Time to live, in hops.
    #[inline(always)]
    pub fn ttl(&self) -> u8 {
        self.bytes()[8]
    }

    /// What the payload is.
    #[inline(always)]
    pub fn protocol(&self) -> Protocol {
        Protocol(self.bytes()[9])
    }

    /// Header checksum.
    #[inline]
    pub fn checksum(&self) -> u16 {
        be16(self.bytes(), 10)
    }

    /// Source address.
    #[inline(always)]
    pub fn src(&self) -> u32 {
        be32(self.bytes(), 12)
    }

    /// Destination address.
    #[inline(always)]
    pub fn dst(&self) -> u32 {
        be32(self.bytes(), 16)
    }

    /// The options, 0 to 40 bytes.
    #[inline]
    pub fn options(&self) -> &[u8] {
        &self.bytes()[HEADER_LEN..self.header_len()]
    }

    /// What lies between the header and the packet's end.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        &self.bytes()[self.header_len()..self.total_len()]
    }

    /// Whether the header checksum is right, as the kernel's `ip_fast_csum` says.
    #[inline(always)]
    pub fn verify_checksum(&self) -> bool {
        let header = &self.bytes()[..self.header_len()];
        // Without options the length is one that the compiler knows: five loads and adds.
        match <&[u8; HEADER_LEN]>::try_from(header) {
            Ok(plain) => checksum::holds(plain),
            Err(_) => checksum::holds(header),
        }
    }
}

impl<T: AsRef<[u8]> + AsMut<[u8]>> Packet<T> {
    /// Sets type of service.
    #[inline]
    pub fn set_tos(&mut self, value: u8) {
        self.bytes_mut()[1] = value;
    }

    /// Sets time to live.
    #[inline]
    pub fn set_ttl(&mut self, value: u8) {
        self.bytes_mut()[8] = value;
    }

    /// Takes one hop off the TTL and sets the checksum after it, to exactly the bytes that the kernel's `ip_decrease_ttl`
    /// leaves. The caller has seen to it that the TTL is at least 1; at 0 it wraps, as there.
    #[inline(always)]
    pub fn decrement_ttl(&mut self) {
        let check = checksum::after_ttl_step(self.checksum());
        let ttl = self.ttl().wrapping_sub(1);
        self.set_ttl(ttl);
        self.set_checksum(check);
    }

    /// Sets the header checksum.
    #[inline]
    pub fn set_checksum(&mut self, value: u16) {
        put(self.bytes_mut(), 10, &value.to_be_bytes());
    }

    /// Computes and sets the header checksum.
    #[inline]
    pub fn fill_checksum(&mut self) {
        self.set_checksum(0);
        let check = checksum::checksum(&self.bytes()[..self.header_len()]);
        self.set_checksum(check);
    }

    /// Sets the source address.
    #[inline]
    pub fn set_src(&mut self, value: u32) {
        put(self.bytes_mut(), 12, &value.to_be_bytes());
    }

    /// Sets the destination address.
    #[inline]
    pub fn set_dst(&mut self, value: u32) {
        put(self.bytes_mut(), 16, &value.to_be_bytes());
    }

    /// The payload, writable.
    #[inline]
    pub fn payload_mut(&mut self) -> &mut [u8] {
        let range = self.header_len()..self.total_len();
        &mut self.bytes_mut()[range]
    }
}
