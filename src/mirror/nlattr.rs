//! Netlink messages and attributes as bytes: safe iteration over what the kernel sent, and a builder for requests.
//!
//! ```text
//!  message    | len u32 | type u16 | flags u16 | seq u32 | pid u32 | family header ... | attribute | attribute | ...
//!  attribute  | len u16 | type u16 | payload, padded to 4 |
//! ```
//!
//! `len` counts the header and not the padding. The two top bits of an attribute's type say "nested" and "big endian" and
//! belong to no type. Integers are in host order but for nfnetlink, which uses network order throughout. See
//! include/uapi/linux/netlink.h and lib/nlattr.c.
//!
//! nf_tables, xfrm and tc are read with this and not with a typed crate: of each message two or three attributes matter
//! here, and kinds that no crate knows yet must be seen as what they are: unknown. Iteration cannot panic; it ends at the
//! first header that does not fit.

/// Bytes of a message header.
pub const HEADER_LEN: usize = 16;
/// The type bits of an attribute.
const TYPE_MASK: u16 = 0x3fff;
/// NLA_F_NESTED
const NESTED: u16 = 0x8000;

/// A message.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// `nlmsg_type`.
    pub kind: u16,
    /// `nlmsg_flags`.
    pub flags: u16,
    /// `nlmsg_seq`.
    pub seq: u32,
    /// `nlmsg_pid`: the socket whose request this answers or tells of, 0 if none.
    pub port: u32,
    /// What follows the header.
    pub payload: &'a [u8],
}

impl<'a> Message<'a> {
    /// The attributes behind a family header of `header_len` bytes.
    pub fn attrs(&self, header_len: usize) -> Attrs<'a> {
        Attrs(self.payload.get(header_len.next_multiple_of(4)..).unwrap_or_default())
    }

    /// The error of an NLMSG_ERROR, or that NLMSG_DONE carries: a positive errno, 0 for success.
    pub fn errno(&self) -> i32 {
        get_u32(self.payload).map_or(0, |e| (e as i32).wrapping_neg())
    }
}

/// The messages of one datagram.
#[derive(Clone, Debug)]
pub struct Messages<'a>(pub &'a [u8]);

impl<'a> Iterator for Messages<'a> {
    type Item = Message<'a>;

    fn next(&mut self) -> Option<Message<'a>> {
        let len = get_u32(self.0)? as usize;
        let message = self.0.get(..len)?;
        let payload = message.get(HEADER_LEN..)?;
        self.0 = self.0.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some(Message {
            kind: get_u16(&message[4..])?,
            flags: get_u16(&message[6..])?,
            seq: get_u32(&message[8..])?,
            port: get_u32(&message[12..])?,
            payload,
        })
    }
}

/// Attributes as (type, payload).
#[derive(Clone, Debug)]
pub struct Attrs<'a>(pub &'a [u8]);

impl<'a> Attrs<'a> {
    /// The payload of the first attribute of this type.
    pub fn find(&self, kind: u16) -> Option<&'a [u8]> {
        self.clone().find_map(|(of, payload)| (of == kind).then_some(payload))
    }
}

impl<'a> Iterator for Attrs<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<(u16, &'a [u8])> {
        let len = usize::from(get_u16(self.0)?);
        let kind = get_u16(self.0.get(2..)?)? & TYPE_MASK;
        let payload = self.0.get(4..len)?;
        self.0 = self.0.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, payload))
    }
}

/// The first two bytes, host order.
pub fn get_u16(bytes: &[u8]) -> Option<u16> {
    bytes.first_chunk().map(|b| u16::from_ne_bytes(*b))
}

/// The first four bytes, host order.
pub fn get_u32(bytes: &[u8]) -> Option<u32> {
    bytes.first_chunk().map(|b| u32::from_ne_bytes(*b))
}

/// The first two bytes, network order.
pub fn get_be16(bytes: &[u8]) -> Option<u16> {
    bytes.first_chunk().map(|b| u16::from_be_bytes(*b))
}

/// The first four bytes, network order.
pub fn get_be32(bytes: &[u8]) -> Option<u32> {
    bytes.first_chunk().map(|b| u32::from_be_bytes(*b))
}

/// The first eight bytes, network order.
pub fn get_be64(bytes: &[u8]) -> Option<u64> {
    bytes.first_chunk().map(|b| u64::from_be_bytes(*b))
}

/// A string up to its NUL, or to the end.
pub fn get_str(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes.split(|&b| b == 0).next().unwrap_or_default()).into_owned()
}

/// A request being built.
#[derive(Clone, Debug)]
pub struct Request(Vec<u8>);

impl Request {
    /// A request of type `kind`; NLM_F_REQUEST is added to `flags`. `header` is the family header.
    pub fn new(kind: u16, flags: u16, header: &[u8]) -> Self {
        let mut buf = Vec::with_capacity(128);
        buf.extend_from_slice(&[0; 4]);
        buf.extend_from_slice(&kind.to_ne_bytes());
        buf.extend_from_slice(&(flags | libc::NLM_F_REQUEST as u16).to_ne_bytes());
        buf.extend_from_slice(&[0; 8]);
        buf.extend_from_slice(header);
        let mut request = Self(buf);
        request.pad();
        request
    }

    /// Adds an attribute.
    ///
    /// # Panics
    /// If the payload is longer than an attribute can be: requests are the programmer's.
    #[must_use]
    pub fn attr(mut self, kind: u16, payload: &[u8]) -> Self {
        let len = u16::try_from(4 + payload.len()).expect("attribute too long");
        self.0.extend_from_slice(&len.to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(payload);
        self.pad();
        self
    }

    /// Adds a string attribute, with its NUL.
    #[must_use]
    pub fn attr_str(self, kind: u16, text: &str) -> Self {
        let mut bytes = text.as_bytes().to_vec();
        bytes.push(0);
        self.attr(kind, &bytes)
    }

    /// Adds an attribute that holds those which `build` adds.
    #[must_use]
    pub fn nest(self, kind: u16, build: impl FnOnce(Self) -> Self) -> Self {
        let start = self.0.len();
        let mut nested = build(self.attr(kind | NESTED, &[]));
        let len = (nested.0.len() - start) as u16;
        nested.0[start..start + 2].copy_from_slice(&len.to_ne_bytes());
        nested
    }

    /// Asks the kernel to say that it has done it.
    #[must_use]
    pub fn acked(mut self) -> Self {
        self.0[6] |= libc::NLM_F_ACK as u8;
        self
    }

    /// The bytes to send, with this sequence number.
    pub fn finish(mut self, seq: u32) -> Vec<u8> {
        let len = self.0.len() as u32;
        self.0[..4].copy_from_slice(&len.to_ne_bytes());
        self.0[8..12].copy_from_slice(&seq.to_ne_bytes());
        self.0
    }

    fn pad(&mut self) {
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_reads_back() {
        let bytes = Request::new(7, 0x300, &[1, 2, 3])
            .attr(5, &[9])
            .attr_str(6 | 0x8000, "abc")
            .finish(42);
        let mut messages = Messages(&bytes);
        let m = messages.next().unwrap();
        assert_eq!((m.kind, m.flags, m.seq), (7, 0x301, 42));
        let attrs: Vec<_> = m.attrs(3).collect();
        assert_eq!(attrs, [(5, &[9u8][..]), (6, &b"abc\0"[..])]);
        assert_eq!(get_str(attrs[1].1), "abc");
        assert!(messages.next().is_none());
    }

    #[test]
    fn a_nest_holds_its_attributes_and_nothing_else() {
        let bytes = Request::new(7, 0, &[0; 4])
            .nest(1, |n| n.attr(2, &[1, 2, 3]).nest(3, |n| n))
            .attr(4, &[])
            .acked()
            .finish(1);
        let m = Messages(&bytes).next().unwrap();
        assert_eq!(m.flags, (libc::NLM_F_REQUEST | libc::NLM_F_ACK) as u16);
        let kinds = |attrs: Attrs| attrs.map(|(kind, _)| kind).collect::<Vec<_>>();
        assert_eq!(kinds(m.attrs(4)), [1, 4]);
        assert_eq!(kinds(Attrs(m.attrs(4).find(1).unwrap())), [2, 3]);
    }

    #[test]
    fn every_cut_and_every_length_ends_without_a_panic() {
        let whole = Request::new(7, 0, &[0; 4])
            .attr(1, &[1, 2, 3, 4, 5])
            .attr(2, &[])
            .finish(1);
        for cut in 0..whole.len() {
            for m in Messages(&whole[..cut]) {
                m.attrs(4).count();
            }
        }
        for len in 0..64u16 {
            let mut bad = whole.clone();
            bad[HEADER_LEN + 4..][..2].copy_from_slice(&len.to_ne_bytes());
            assert!(Messages(&bad).flat_map(|m| m.attrs(4)).count() <= 8);
            bad[..4].copy_from_slice(&u32::from(len).to_ne_bytes());
            assert!(Messages(&bad).count() <= 4);
        }
    }
}
