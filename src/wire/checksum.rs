//! The Internet checksum: whole sums, incremental updates, pseudo-headers. RFC 1071, RFC 1624.
//!
//! A sum is a `u64` of 16-bit words in network order, neither folded nor complemented; sums of parts add up, as long as
//! every part but the last has an even length. [`fold`] makes 16 bits of it and its complement is the checksum.
//!
//! ```text
//! checksum = !fold(pseudo_v4(src, dst, proto, len) + sum(header) + sum(data))
//! right    =  fold(pseudo_v4(src, dst, proto, len) + sum(header with its checksum, and data)) == 0xffff
//! ```
//!
//! One's complement has two zeros, 0x0000 and 0xffff, and bytes must equal the kernel's. Its updates (`csum_replace4`,
//! `inet_proto_csum_replace4`, `ip_decrease_ttl`, all in include/net/checksum.h and include/net/ip.h) never leave 0xffff in
//! a checksum, and nor do those here. UDP keeps 0 for "no checksum", so a 0 becomes 0xffff there ([`never_zero`], the
//! kernel's CSUM_MANGLED_0).
//!
//! [`sum`] reads words in the machine's order and swaps once, at the end (RFC 1071, section 2 (B)); its inner loop keeps
//! eight independent lanes, which the compiler turns into vectors.

/// Sum of `bytes` as 16-bit words in network order; an odd last byte counts as the high half of a word.
#[inline]
pub fn sum(bytes: &[u8]) -> u64 {
    u64::from(u16::from_be(fold(native(bytes))))
}

/// Whether `bytes` sum to 0xffff, as they do with their right checksum in them. That sum is the same in any byte order.
#[inline]
pub fn holds(bytes: &[u8]) -> bool {
    fold(native(bytes)) == 0xffff
}

/// Sum of 16-bit words in the machine's order. Cannot overflow: each lane grows by at most 2^32 per 32 bytes.
#[inline]
fn native(bytes: &[u8]) -> u64 {
    let (blocks, rest) = bytes.as_chunks::<32>();
    let mut lanes = [0u64; 8];
    for block in blocks {
        let (words, _) = block.as_chunks::<4>();
        for (lane, word) in lanes.iter_mut().zip(words) {
            *lane += u64::from(u32::from_ne_bytes(*word));
        }
    }
    let mut total = if blocks.is_empty() { 0 } else { lanes.iter().sum() };
    let (words, rest) = rest.as_chunks::<8>();
    for word in words {
        let word = u64::from_ne_bytes(*word);
        total += (word >> 32) + (word & 0xffff_ffff);
    }
    // Up to seven bytes, in halves of what is left.
    let (words, rest) = rest.as_chunks::<4>();
    if let [word] = words {
        total += u64::from(u32::from_ne_bytes(*word));
    }
    let (words, rest) = rest.as_chunks::<2>();
    if let [word] = words {
        total += u64::from(u16::from_ne_bytes(*word));
    }
    if let [byte] = *rest {
        total += u64::from(u16::from_ne_bytes([byte, 0]));
    }
    total
}

/// Folds a sum to 16 bits, carries added back in. 0 only for a sum of 0.
#[inline]
pub const fn fold(sum: u64) -> u16 {
    let (half, carry) = ((sum >> 32) as u32).overflowing_add(sum as u32);
    let half = half + carry as u32;
    // Both halves of a word added to each other: the upper one gets the carry of the lower, as in the kernel's csum_fold.
    (half.wrapping_add(half.rotate_left(16)) >> 16) as u16
}

/// Checksum of `bytes`, which hold 0 in the checksum field.
#[inline]
pub fn checksum(bytes: &[u8]) -> u16 {
    !fold(sum(bytes))
}

/// Sum of the IPv4 pseudo-header (RFC 9293, section 3.1). `len` is that of the transport header and its data, in bytes.
/// Never folds to 0 for a `proto` other than 0.
#[inline]
pub const fn pseudo_v4(src: u32, dst: u32, proto: u8, len: u16) -> u64 {
    src as u64 + dst as u64 + proto as u64 + len as u64
}

/// Sum of the IPv6 pseudo-header (RFC 8200, section 8.1). `dst` is the final destination, `len` that of the upper-layer
/// packet, in bytes. Never folds to 0 for a `proto` other than 0.
#[inline]
pub const fn pseudo_v6(src: u128, dst: u128, proto: u8, len: u32) -> u64 {
    halves(src) + halves(dst) + proto as u64 + len as u64
}

/// A 128-bit field as a sum: at most 34 bits.
#[inline]
const fn halves(value: u128) -> u64 {
    const LOW: u128 = 0xffff_ffff;
    (value & LOW) as u64 + (value >> 32 & LOW) as u64 + (value >> 64 & LOW) as u64 + (value >> 96) as u64
}

/// The difference that rewritten fields make to a checksum that covers them. RFC 1624, equation 3.
///
/// Differences add up and hold for any packet with the same fields rewritten in the same way, so a flow keeps one per
/// checksum. The default is "nothing rewritten". Every field must lie at an even offset within what the checksum covers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Delta(u16);

impl Delta {
    /// Nothing rewritten.
    pub const NONE: Self = Self(0);

    /// And a 16-bit field went from `old` to `new`.
    #[inline]
    #[must_use]
    pub const fn field16(self, old: u16, new: u16) -> Self {
        self.plus(!old as u64 + new as u64)
    }

    /// And a 32-bit field went from `old` to `new`.
    #[inline]
    #[must_use]
    pub const fn field32(self, old: u32, new: u32) -> Self {
        self.plus(!old as u64 + new as u64)
    }

    /// And a 64-bit field, or two of 32 bits side by side, went from `old` to `new`.
    #[inline]
    #[must_use]
    pub const fn field64(self, old: u64, new: u64) -> Self {
        const LOW: u64 = 0xffff_ffff;
        self.plus((!old >> 32) + (!old & LOW) + (new >> 32) + (new & LOW))
    }

    /// And a 128-bit field went from `old` to `new`.
    #[inline]
    #[must_use]
    pub const fn field128(self, old: u128, new: u128) -> Self {
        self.plus(halves(!old) + halves(new))
    }

    /// Both differences.
    #[inline]
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(fold(self.0 as u64 + other.0 as u64))
    }

    /// The checksum after the rewrite. Never 0xffff, unless nothing was rewritten.
    #[inline]
    #[must_use]
    pub const fn apply(self, check: u16) -> u16 {
        !fold(!check as u64 + self.0 as u64)
    }

    /// The UDP checksum after the rewrite: none stays none, and never comes to be.
    #[inline]
    #[must_use]
    pub const fn apply_udp(self, check: u16) -> u16 {
        if check == 0 { 0 } else { never_zero(self.apply(check)) }
    }

    /// 0xffff is a zero of one's complement: it keeps the sum from being 0, which stands for "nothing rewritten", so that
    /// `apply` ends, as the kernel does, with one of the two zeros only.
    #[inline]
    const fn plus(self, difference: u64) -> Self {
        Self(fold(self.0 as u64 + difference + 0xffff))
    }
}

/// Checksum after one 16-bit field it covers went from `old` to `new`.
#[inline]
pub const fn update16(check: u16, old: u16, new: u16) -> u16 {
    Delta::NONE.field16(old, new).apply(check)
}

/// A computed checksum as it is sent where 0 means "none": 0 becomes 0xffff.
#[inline]
pub const fn never_zero(check: u16) -> u16 {
    if check == 0 { 0xffff } else { check }
}

/// The IPv4 header checksum after the TTL went down by one, to the bit of the kernel's `ip_decrease_ttl`: the TTL is the
/// high half of its word, so the checksum goes up by 0x0100, and 0xffff is stepped over.
#[inline]
pub const fn after_ttl_step(check: u16) -> u16 {
    let sum = check as u32 + 0x0100;
    (sum + (sum >= 0xffff) as u32) as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// RFC 1071 as one would write it down.
    fn naive(bytes: &[u8]) -> u16 {
        let mut sum = 0u32;
        for pair in bytes.chunks(2) {
            sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
            sum = (sum & 0xffff) + (sum >> 16);
        }
        sum as u16
    }

    /// include/net/ip.h, on a little-endian machine: loads and stores in the machine's order.
    fn kernel_decrease_ttl(header: &mut [u8; 20]) {
        let mut check = u32::from(u16::from_le_bytes([header[10], header[11]]));
        check += u32::from(0x0100u16.swap_bytes());
        let check = (check + u32::from(check >= 0xffff)) as u16;
        header[10..12].copy_from_slice(&check.to_le_bytes());
        header[8] = header[8].wrapping_sub(1);
    }

    /// lib/checksum.c and include/net/checksum.h: csum_fold(csum_add(csum_sub(~csum_unfold(*sum), from), to)).
    fn kernel_replace4(check: u16, from: u32, to: u32) -> u16 {
        let add = |a: u32, b: u32| {
            let (sum, carry) = a.overflowing_add(b);
            sum + u32::from(carry)
        };
        let sum = add(add(!u32::from(check), !from), to);
        let sum = (sum & 0xffff) + (sum >> 16);
        !((sum & 0xffff) + (sum >> 16)) as u16
    }

    #[test]
    fn sum_of_the_example_in_rfc_1071() {
        assert_eq!(fold(sum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7])), 0xddf2);
    }

    #[test]
    fn sum_of_nothing_and_of_the_largest_packet() {
        assert_eq!(fold(sum(&[])), 0);
        assert_eq!(
            [fold(u64::MAX), fold(0xffff_ffff), fold(0xffff), fold(0x1_0000_0000)],
            [0xffff, 0xffff, 0xffff, 1]
        );
        assert_eq!(fold(sum(&[0; 64])), 0);
        assert_eq!(fold(sum(&[0xff; 65535])), naive(&[0xff; 65535]));
    }

    #[test]
    fn ttl_step_leaves_the_bytes_of_the_kernel_for_every_checksum() {
        for check in 0..=u16::MAX {
            let mut ours = [0u8; 20];
            (ours[0], ours[3], ours[8]) = (0x45, 20, 64);
            ours[10..12].copy_from_slice(&check.to_be_bytes());
            let mut theirs = ours;
            kernel_decrease_ttl(&mut theirs);
            crate::wire::ipv4::Packet::new_checked(&mut ours[..])
                .unwrap()
                .decrement_ttl();
            assert_eq!(ours, theirs, "checksum {check:#06x}");
        }
    }

    #[test]
    fn nothing_rewritten_changes_no_checksum() {
        for check in 0..=u16::MAX {
            assert_eq!(Delta::NONE.apply(check), check);
            assert_eq!(Delta::NONE.apply_udp(check), check);
        }
    }

    #[test]
    fn udp_zero_stays_none_and_never_comes_to_be() {
        assert_eq!(Delta::NONE.field16(1, 2).apply_udp(0), 0);
        // From 0x0001, a field that grows by one would leave 0: the two words of data and checksum then sum to 0xffff.
        assert_eq!(update16(0x0001, 0, 1), 0);
        assert_eq!(Delta::NONE.field16(0, 1).apply_udp(0x0001), 0xffff);
    }

    #[test]
    fn updates_at_the_two_zeros_are_the_kernels() {
        let edges = [
            0u32,
            1,
            0xfffe,
            0xffff,
            0x1_0000,
            0xffff_0000,
            0xfffe_ffff,
            0xffff_fffe,
            0xffff_ffff,
        ];
        for check in [0u16, 1, 0x7fff, 0xfffe, 0xffff] {
            for from in edges {
                for to in edges {
                    assert_eq!(
                        Delta::NONE.field32(from, to).apply(check),
                        kernel_replace4(check, from, to),
                        "{check:#x} {from:#x} {to:#x}"
                    );
                }
            }
        }
    }

    proptest! {
        #[test]
        fn fold_is_the_rest_by_ffff(sum: u64) {
            let rest = (sum % 0xffff) as u16;
            prop_assert_eq!(fold(sum), if rest == 0 && sum != 0 { 0xffff } else { rest });
        }

        #[test]
        fn sum_equals_the_naive_one(bytes in prop::collection::vec(any::<u8>(), 0..300), skip in 0usize..8) {
            let bytes = bytes.get(skip..).unwrap_or(&[]);
            prop_assert_eq!(fold(sum(bytes)), naive(bytes));
        }

        #[test]
        fn sums_of_parts_add_up(bytes in prop::collection::vec(any::<u8>(), 0..300), at in 0usize..150) {
            let (a, b) = bytes.split_at((at * 2).min(bytes.len() & !1));
            prop_assert_eq!(fold(sum(a) + sum(b)), fold(sum(&bytes)));
        }

        #[test]
        fn updates_are_the_kernels(check: u16, from: u32, to: u32) {
            prop_assert_eq!(Delta::NONE.field32(from, to).apply(check), kernel_replace4(check, from, to));
            let (from, to) = (from as u16, to as u16);
            prop_assert_eq!(update16(check, from, to), kernel_replace4(check, from.into(), to.into()));
        }

        /// A rewritten packet's checksum, brought after, is the one computed anew.
        #[test]
        fn update_equals_recomputed(
            mut bytes in prop::collection::vec(any::<u8>(), 64..128), a: u16, b: u32, c: u128, d: u64,
        ) {
            bytes[0] |= 1; // a sum of 0 has no one checksum
            let before = checksum(&bytes);
            let field = |range: std::ops::Range<usize>| bytes[range].iter().fold(0u128, |n, b| n << 8 | u128::from(*b));
            let one = Delta::NONE.field16(field(2..4) as u16, a);
            let two = Delta::NONE.field32(field(6..10) as u32, b).field128(field(20..36), c);
            let two = two.field64(field(10..18) as u64, d);
            bytes[2..4].copy_from_slice(&a.to_be_bytes());
            bytes[6..10].copy_from_slice(&b.to_be_bytes());
            bytes[10..18].copy_from_slice(&d.to_be_bytes());
            bytes[20..36].copy_from_slice(&c.to_be_bytes());
            prop_assert_eq!(one.and(two).apply(before), checksum(&bytes));
        }

        #[test]
        fn pseudo_headers_are_their_bytes(src: u128, dst: u128, proto: u8, len: u16) {
            let mut v6 = Vec::new();
            v6.extend(src.to_be_bytes());
            v6.extend(dst.to_be_bytes());
            v6.extend(u32::from(len).to_be_bytes());
            v6.extend([0, 0, 0, proto]);
            prop_assert_eq!(fold(pseudo_v6(src, dst, proto, len.into())), naive(&v6));
            let (src, dst) = (src as u32, dst as u32);
            let mut v4 = Vec::new();
            v4.extend(src.to_be_bytes());
            v4.extend(dst.to_be_bytes());
            v4.extend([0, proto]);
            v4.extend(len.to_be_bytes());
            prop_assert_eq!(fold(pseudo_v4(src, dst, proto, len)), naive(&v4));
        }
    }
}
