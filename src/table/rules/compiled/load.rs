//! What a rule loads from a packet, as one number, and those that a walk has already loaded.
//!
//! ```text
//!  registers   0a 00 00 01 | 00 50 00 00 | ..       bytes as the interpreter would put them
//!  number      0a000001_00500000_..                 the first byte is the highest: numbers compare as memcmp does
//! ```
//!
//! Loads are pure, so that one that was done holds until something in the packet is set. The most used [`KEPT`] loads of a
//! family are kept during a walk; whoever asks for another one loads it.

use super::super::expr::{Base, Expr, Register};
use super::super::interpret::loads;
use super::super::keys::{CtKey, MetaKey};
use super::super::packet::{Answer, Fact, Packet};
use super::super::program::NFPROTO_IPV4;

/// How many loads a walk remembers.
pub(super) const KEPT: usize = 12;
/// Bytes of the longest load that is a number.
pub(super) const BYTES_MAX: u8 = 16;

/// Where it comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Source {
    Payload { base: Base, offset: u8, len: u8 },
    Meta(MetaKey),
    Ct(CtKey, Option<bool>),
}

/// A load, and how many of its bytes are turned around in groups of how many.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Load {
    pub(super) source: Source,
    pub(super) turned: Option<(u8, u8)>,
}

/// A load by its number in a program.
pub(super) type LoadId = u32;

/// What a load yields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// This.
    Value(u128),
    /// It does not exist: the rule breaks.
    Break,
    /// It is not known: the packet is the kernel's.
    Punt,
}

impl Source {
    /// What `expr` loads and where it puts it, if it is a load of at most [`BYTES_MAX`] bytes.
    pub(super) fn of(expr: &Expr) -> Option<(Self, Register)> {
        match *expr {
            Expr::Payload {
                base,
                offset,
                len: len @ 1..=BYTES_MAX,
                dest,
            } => Some((Source::Payload { base, offset, len }, dest)),
            Expr::Meta { key, dest } => Some((Source::Meta(key), dest)),
            Expr::Ct { key, reply, dest } => Some((Source::Ct(key, reply), dest)),
            _ => None,
        }
    }

    /// How many bytes of registers it fills, of a packet of a family; whole words.
    pub(super) fn width(self, nfproto: u8) -> usize {
        match self {
            Source::Payload { len, .. } => usize::from(len).next_multiple_of(4),
            Source::Meta(key) => key.width(),
            Source::Ct(CtKey::Src | CtKey::Dst, _) if nfproto == NFPROTO_IPV4 => 4,
            Source::Ct(key, _) => key.width(),
        }
    }

    /// Which of its bytes come from the packet; the others are zero.
    pub(super) fn loaded(self, nfproto: u8) -> u128 {
        match self {
            Source::Payload { len, .. } => ones(len.into()),
            other => ones(other.width(nfproto)),
        }
    }

    /// Whether it is there, whatever the packet.
    pub(super) fn is_certain(self) -> bool {
        matches!(self, Source::Meta(MetaKey::Len | MetaKey::Nfproto))
    }

    /// Whether it is there or not, but never unknown.
    pub(super) fn is_known(self) -> bool {
        self.is_certain() || self == Source::Meta(MetaKey::L4proto)
    }
}

impl Load {
    /// That of `packet`.
    pub(super) fn word(&self, packet: &impl Packet) -> Word {
        let mut bytes = [0; BYTES_MAX as usize];
        match self.source {
            Source::Payload { base, offset, len } => {
                match loads::payload(packet, base, offset, &mut bytes[..usize::from(len)]) {
                    Answer::Done => {}
                    Answer::Break => return Word::Break,
                    Answer::Unknown => return Word::Punt,
                }
            }
            Source::Meta(key) => match fact(loads::meta(packet, key)) {
                Ok(fact) => bytes = fact,
                Err(word) => return word,
            },
            Source::Ct(key, reply) => match fact(packet.ct(key, reply)) {
                Ok(fact) => bytes = fact,
                Err(word) => return word,
            },
        }
        Word::Value(self.turn(u128::from_be_bytes(bytes)))
    }

    /// Turns what was loaded around, or a constant that it is compared with.
    fn turn(&self, value: u128) -> u128 {
        match self.turned {
            Some((len, size)) => turn(value, len, size),
            None => value,
        }
    }
}

fn fact(fact: Fact) -> Result<[u8; BYTES_MAX as usize], Word> {
    match fact.bytes() {
        Some((bytes, _)) => Ok(bytes),
        None if fact == Fact::Absent => Err(Word::Break),
        None => Err(Word::Punt),
    }
}

/// The first `len` bytes of a number turned around in groups of `size`, as a byteorder of so many does.
pub(super) fn turn(value: u128, len: u8, size: u8) -> u128 {
    let mut bytes = value.to_be_bytes();
    let len = usize::from(len).min(bytes.len());
    loads::turn_around(&mut bytes[..len], size);
    u128::from_be_bytes(bytes)
}

/// A number whose first `len` bytes have all bits.
pub(super) fn ones(len: usize) -> u128 {
    match len {
        0 => 0,
        1..16 => !(u128::MAX >> (len * 8)),
        _ => u128::MAX,
    }
}

/// Bytes as the first ones of a number; those beyond [`BYTES_MAX`] are left out.
pub(super) fn number(data: &[u8]) -> u128 {
    let mut bytes = [0; BYTES_MAX as usize];
    let len = data.len().min(bytes.len());
    bytes[..len].copy_from_slice(&data[..len]);
    u128::from_be_bytes(bytes)
}

/// What a walk has loaded so far.
#[derive(Debug)]
pub(super) struct Loaded<'a> {
    loads: &'a [Load],
    /// Of the first [`KEPT`], a bit for each that is known, and of those one that is not there or not known.
    known: u16,
    absent: u16,
    unknown: u16,
    words: [u128; KEPT],
}

impl<'a> Loaded<'a> {
    /// Nothing yet.
    pub(super) fn new(loads: &'a [Load]) -> Self {
        Self {
            loads,
            known: 0,
            absent: 0,
            unknown: 0,
            words: [0; KEPT],
        }
    }

    /// Something was set in the packet.
    pub(super) fn forget(&mut self) {
        self.known = 0;
    }

    /// That load of the packet.
    #[inline]
    pub(super) fn word(&mut self, load: LoadId, packet: &impl Packet) -> Word {
        let at = load as usize;
        if at >= KEPT {
            return self.loads[at].word(packet);
        }
        let bit = 1u16 << at;
        if self.known & bit == 0 {
            self.remember(at, packet);
        }
        match (self.absent | self.unknown) & bit {
            0 => Word::Value(self.words[at]),
            _ if self.absent & bit != 0 => Word::Break,
            _ => Word::Punt,
        }
    }

    #[inline(never)]
    fn remember(&mut self, at: usize, packet: &impl Packet) {
        let bit = 1u16 << at;
        self.known |= bit;
        self.absent &= !bit;
        self.unknown &= !bit;
        match self.loads[at].word(packet) {
            Word::Value(value) => self.words[at] = value,
            Word::Break => self.absent |= bit,
            Word::Punt => self.unknown |= bit,
        }
    }
}
