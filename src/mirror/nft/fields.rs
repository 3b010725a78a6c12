//! The attributes of one thing, by their numbers, all or nothing.
//!
//! What the kernel says of an expression decides about packets, so nothing of it may be overlooked: bytes that are no whole
//! attribute, and numbers that were not there when this was written, make it unknown. Lengths must be exact. Integers are
//! in network order, as everywhere in nfnetlink.

use super::super::nlattr::Attrs;
use crate::table::rules::expr::Register;

/// Attributes below number N.
#[derive(Debug)]
pub(super) struct Fields<'a, const N: usize>([Option<&'a [u8]>; N]);

impl<'a, const N: usize> Fields<'a, N> {
    /// None if there is anything that is not understood.
    pub(super) fn of(bytes: &'a [u8]) -> Option<Self> {
        let mut fields = [None; N];
        let mut attrs = Attrs(bytes);
        for (kind, payload) in attrs.by_ref() {
            let field = fields.get_mut(usize::from(kind))?;
            field.get_or_insert(payload);
        }
        attrs.0.is_empty().then_some(Self(fields))
    }

    /// As it came.
    pub(super) fn get(&self, kind: usize) -> Option<&'a [u8]> {
        self.0.get(kind).copied().flatten()
    }

    pub(super) fn has(&self, kind: usize) -> bool {
        self.get(kind).is_some()
    }

    pub(super) fn u8(&self, kind: usize) -> Option<u8> {
        self.get(kind)?.try_into().ok().map(u8::from_be_bytes)
    }

    pub(super) fn u16(&self, kind: usize) -> Option<u16> {
        self.get(kind)?.try_into().ok().map(u16::from_be_bytes)
    }

    pub(super) fn u32(&self, kind: usize) -> Option<u32> {
        self.get(kind)?.try_into().ok().map(u32::from_be_bytes)
    }

    pub(super) fn u64(&self, kind: usize) -> Option<u64> {
        self.get(kind)?.try_into().ok().map(u64::from_be_bytes)
    }

    /// A number that need not be there; None if it is there and is none.
    pub(super) fn u32_or(&self, kind: usize, default: u32) -> Option<u32> {
        if self.has(kind) { self.u32(kind) } else { Some(default) }
    }

    /// Flags, of which none but `known` may be set.
    pub(super) fn flags(&self, kind: usize, known: u32) -> Option<u32> {
        self.u32_or(kind, 0).filter(|flags| flags & !known == 0)
    }

    /// A string.
    pub(super) fn text(&self, kind: usize) -> Option<&'a str> {
        let bytes = self.get(kind)?;
        std::str::from_utf8(bytes.strip_suffix(&[0]).unwrap_or(bytes)).ok()
    }

    /// A register that holds `len` bytes.
    pub(super) fn register(&self, kind: usize, len: usize) -> Option<Register> {
        Register::of(self.u32(kind)?).filter(|register| register.holds(len))
    }

    /// A length or an offset of at most 255.
    pub(super) fn small(&self, kind: usize) -> Option<u8> {
        self.u32(kind)?.try_into().ok()
    }
}

/// The attributes of number 1 of a list (NFTA_LIST_ELEM); None if there is anything else.
pub(super) fn list(bytes: &[u8]) -> Option<Vec<&[u8]>> {
    let mut attrs = Attrs(bytes);
    let found = attrs
        .by_ref()
        .map(|(kind, payload)| (kind == 1).then_some(payload))
        .collect();
    if attrs.0.is_empty() { found } else { None }
}

#[cfg(test)]
mod tests {
    use super::super::super::nlattr::{HEADER_LEN, Request};
    use super::*;

    #[test]
    fn nothing_is_overlooked() {
        let request = Request::new(0, 0, &[])
            .attr(1, &[0, 0, 0, 9])
            .attr_str(2, "abc")
            .attr(3, &[7]);
        let bytes = request.finish(0).split_off(HEADER_LEN);
        let fields = Fields::<4>::of(&bytes).unwrap();
        assert_eq!(
            (fields.u32(1), fields.text(2), fields.u8(3)),
            (Some(9), Some("abc"), Some(7))
        );
        assert_eq!(
            (fields.u16(1), fields.u64(1), fields.u32_or(0, 5), fields.u32_or(3, 5)),
            (None, None, Some(5), None)
        );
        assert_eq!(
            (fields.flags(1, 0xf), fields.flags(1, 8), fields.small(1)),
            (Some(9), None, Some(9))
        );
        assert_eq!(fields.register(1, 4), Register::of(9));
        assert!(Fields::<3>::of(&bytes).is_none(), "a number that is not known");
        for cut in 1..bytes.len() {
            // Without padding the last one is whole.
            let whole = [8, 16].contains(&cut) || cut >= 21;
            assert_eq!(Fields::<4>::of(&bytes[..cut]).is_some(), whole, "{cut}");
        }
    }
}
