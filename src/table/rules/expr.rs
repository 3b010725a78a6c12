//! One expression of a rule as data: a variant for each that the kernel has (net/netfilter/nft_*.c), with names resolved to
//! numbers and lengths checked, so that whoever runs it needs to check nothing.
//!
//! ```text
//!  registers   word  0        4        8        12       16      20
//!                    | verdict| REG_1  | REG_2  | REG_3  | REG_4 |      16 bytes each
//!                             |00|01|02|03 ...            ... |15|      REG32_*, 4 bytes each
//! ```
//!
//! Values are bytes as they lie in registers: network order where they come from packets, the kernel's own order where they
//! are its numbers. What is not carried is an expression too, with its name; only what it looks like is lost.

pub use super::stateful::{Limit, Stateful};

use super::keys::{CtKey, FibResult, MetaKey, RtKey, SocketKey};
use super::program::{ChainId, ObjectId, SetId, StateId};
use super::xt::{Chance, Match, Target};

/// Words of all registers, those of the verdict too.
pub const WORDS: usize = 20;
/// Bytes of all registers.
pub const REGISTERS_LEN: usize = WORDS * 4;
/// The first word that data may lie in: below it is the verdict.
const DATA_WORD: u8 = 4;

/// Where data lies: its first word, from 4 on. Together with a length that was checked with [`holds`](Self::holds).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Register(u8);

impl Register {
    /// That of a number of netlink (enum nft_registers): 1 to 4 are of 16 bytes, 8 to 23 of 4. The verdict's is none.
    pub fn of(number: u32) -> Option<Self> {
        match number {
            1..=4 => Some(Register(number as u8 * 4)),
            8..=23 => Some(Register(number as u8 - 8 + DATA_WORD)),
            _ => None,
        }
    }

    /// Its first byte among those of all registers.
    pub fn start(self) -> usize {
        usize::from(self.0) * 4
    }

    /// Whether `len` bytes, and at least one, lie between it and the end.
    pub fn holds(self, len: usize) -> bool {
        len > 0 && self.start() + len <= REGISTERS_LEN
    }
}

/// What a rule decides, or a map says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// The next base chain.
    Accept,
    /// Lost.
    Drop,
    /// The next expression.
    Continue,
    /// The next rule.
    Break,
    /// The rule behind the jump; the policy, if there was none.
    Return,
    /// That chain, and back.
    Jump(ChainId),
    /// That chain.
    Goto(ChainId),
    /// Anything else, NF_QUEUE among them: the kernel's number.
    Uncarried(u32),
}

/// Where payload is counted from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Base {
    /// The Ethernet header.
    Link,
    /// The IP header.
    Network,
    /// Behind it and its extensions; none in a fragment but the first.
    Transport,
}

/// What a payload store does for checksums.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ChecksumFix {
    /// An Internet checksum that covers it: its offset from the same base.
    pub own: Option<u8>,
    /// Whether it is part of a pseudo-header: then that of the transport protocol is updated too.
    pub pseudo_header: bool,
}

/// Which headers an `exthdr` looks through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Options {
    /// IPv6 extension headers.
    Ipv6,
    /// TCP options.
    Tcp,
    /// IPv4 options.
    Ipv4,
}

/// What `exthdr` does with what it finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ExthdrDo {
    /// Loads it; breaks where it is not there.
    Load(Register),
    /// Loads 1 where it is there, else 0.
    Present(Register),
    /// Writes it (2 or 4 bytes, TCP only).
    Store(Register),
    /// Overwrites it with no-operations (TCP only).
    Strip,
}

/// How `bitwise` makes its result. `data` has the length of the source; shifts are of words in host order, carried through
/// from word to word.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum BitOp {
    /// `(source & mask) ^ xor`
    MaskXor(Box<[u8]>, Box<[u8]>),
    /// `source << bits`, less than 32
    Left(u32),
    /// `source >> bits`, less than 32
    Right(u32),
    /// `source & other`
    And(Operand),
    /// `source | other`
    Or(Operand),
    /// `source ^ other`
    Xor(Operand),
}

/// The other side of a bitwise operation.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Operand {
    /// A register, of the same length.
    Register(Register),
    /// A constant, of the same length.
    Data(Box<[u8]>),
}

/// How `cmp` compares: bytes in their order, as memcmp.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CmpOp {
    /// `==`
    Eq,
    /// `!=`
    Neq,
    /// `<`
    Lt,
    /// `<=`
    Lte,
    /// `>`
    Gt,
    /// `>=`
    Gte,
}

impl CmpOp {
    /// Whether it holds for operands that compare so.
    pub fn holds(self, order: std::cmp::Ordering) -> bool {
        match self {
            CmpOp::Eq => order.is_eq(),
            CmpOp::Neq => order.is_ne(),
            CmpOp::Lt => order.is_lt(),
            CmpOp::Lte => order.is_le(),
            CmpOp::Gt => order.is_gt(),
            CmpOp::Gte => order.is_ge(),
        }
    }
}

/// Where the data of a map goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LookupInto {
    /// Nowhere: a set.
    Nothing,
    /// A register.
    Register(Register),
    /// The verdict.
    Verdict,
}

/// What `dynset` does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DynsetOp {
    /// Adds it unless it is there.
    Add,
    /// The same, and its time starts anew.
    Update,
    /// Takes it out.
    Delete,
}

/// Adds to a set, or takes out of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Dynset {
    /// Which.
    pub set: SetId,
    /// What.
    pub op: DynsetOp,
    /// The key.
    pub key: Register,
    /// The data, of a map.
    pub data: Option<Register>,
    /// How long it stays; 0 is what the set says. In milliseconds.
    pub timeout_ms: u64,
    /// Breaks if it was done, not if it was not.
    pub inverted: bool,
    /// What each element that it adds carries, where the set does not say so.
    pub carries: Box<[Stateful]>,
}

/// Which address `fib` looks up, and how (NFTA_FIB_F_*).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FibFlags(pub u32);

impl FibFlags {
    /// The source address.
    pub const SADDR: u32 = 1 << 0;
    /// The destination address.
    pub const DADDR: u32 = 1 << 1;
    /// With the packet's mark.
    pub const MARK: u32 = 1 << 2;
    /// By the link of arrival.
    pub const IIF: u32 = 1 << 3;
    /// By the link of departure.
    pub const OIF: u32 = 1 << 4;
    /// 1 where there is a route, else 0.
    pub const PRESENT: u32 = 1 << 5;
}

/// What `reject` answers. The packet is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reject {
    /// ICMP or ICMPv6 destination unreachable, with this code; of the family of the chain.
    Icmp(u8),
    /// A TCP reset.
    TcpReset,
    /// Destination unreachable in the packet's family, with a code of enum nft_reject_inet_code.
    Icmpx(u8),
}

/// The kind of a network address translation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NatKind {
    /// Of the source, to given addresses.
    Source,
    /// Of the destination, to given addresses.
    Destination,
    /// Of the source, to that of the link of departure.
    Masquerade,
    /// Of the destination, to that of the link of arrival.
    Redirect,
}

/// A translation: what it takes from registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Nat {
    /// Which.
    pub kind: NatKind,
    /// NFPROTO_* of the addresses; NFPROTO_INET for either. Packets of another family pass it by.
    pub family: u8,
    /// First and last address.
    pub addresses: Option<(Register, Register)>,
    /// First and last port, 16 bits in network order.
    pub ports: Option<(Register, Register)>,
    /// NF_NAT_RANGE_*, those that say "addresses" and "ports" not set.
    pub flags: u32,
}

/// Where `log` writes, and what.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Log {
    /// In front of the line.
    pub prefix: Box<str>,
    /// A group of nfnetlink_log; else the kernel's log.
    pub group: Option<u16>,
}

/// One expression. See the kernel's file of the same name for what each does.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[allow(
    missing_docs,
    reason = "the fields are those of the kernel's expression, and their types say the rest"
)]
pub enum Expr {
    /// A constant into a register.
    Immediate {
        dest: Register,
        data: Box<[u8]>,
    },
    /// A verdict.
    Verdict(Verdict),
    /// Bytes of the packet into a register; breaks where they are not there.
    Payload {
        base: Base,
        offset: u8,
        len: u8,
        dest: Register,
    },
    /// Bytes of a register into the packet.
    PayloadStore {
        base: Base,
        offset: u8,
        len: u8,
        source: Register,
        fix: ChecksumFix,
    },
    /// A fact of the packet into a register.
    Meta {
        key: MetaKey,
        dest: Register,
    },
    /// A fact of the packet, set.
    MetaSet {
        key: MetaKey,
        source: Register,
    },
    /// A fact of its connection into a register; breaks where there is none. Direction: false is original.
    Ct {
        key: CtKey,
        reply: Option<bool>,
        dest: Register,
    },
    /// A fact of its connection, set.
    CtSet {
        key: CtKey,
        reply: Option<bool>,
        source: Register,
    },
    /// An option or extension header of type `kind`.
    Exthdr {
        options: Options,
        kind: u8,
        offset: u8,
        len: u8,
        act: ExthdrDo,
    },
    /// Bit operations on `len` bytes, rounded up to words.
    Bitwise {
        source: Register,
        dest: Register,
        len: u8,
        op: BitOp,
    },
    /// Turns each `size` (2, 4 or 8) bytes of `len` around.
    Byteorder {
        source: Register,
        dest: Register,
        len: u8,
        size: u8,
    },
    /// Breaks unless it holds.
    Cmp {
        source: Register,
        op: CmpOp,
        data: Box<[u8]>,
    },
    /// Breaks unless within, ends included, or outside if inverted.
    Range {
        source: Register,
        inverted: bool,
        from: Box<[u8]>,
        to: Box<[u8]>,
    },
    /// Breaks unless it is in the set, or is if inverted.
    Lookup {
        set: SetId,
        key: Register,
        into: LookupInto,
        inverted: bool,
    },
    Dynset(Dynset),
    /// One with a memory of its own.
    State(StateId),
    /// A named object.
    Objref(ObjectId),
    /// The named object that a map names; breaks where there is none.
    ObjrefMap {
        set: SetId,
        key: Register,
    },
    /// The next number of a counter, plus `offset`.
    NumgenInc {
        state: StateId,
        offset: u32,
        dest: Register,
    },
    /// A random number below `modulus`, plus `offset`.
    NumgenRandom {
        state: StateId,
        modulus: u32,
        offset: u32,
        dest: Register,
    },
    /// Holds by chance.
    Chance {
        state: StateId,
        of: Chance,
    },
    /// jhash of `len` bytes, scaled to below `modulus`, plus `offset`. Without a seed, the kernel hides it.
    Jhash {
        source: Register,
        len: u8,
        seed: Option<u32>,
        modulus: u32,
        offset: u32,
        dest: Register,
    },
    /// What the routes say of an address.
    Fib {
        result: FibResult,
        flags: FibFlags,
        dest: Register,
    },
    /// A fact of the packet's route.
    Rt {
        key: RtKey,
        dest: Register,
    },
    /// A fact of the local socket of the packet.
    Socket {
        key: SocketKey,
        level: u32,
        dest: Register,
    },
    Log(Log),
    /// Not tracked, unless it is already.
    Notrack,
    Reject(Reject),
    Nat(Nat),
    /// An extension of iptables that asks.
    Match(Match),
    /// One that acts.
    Target(Target),
    /// What is not carried: its name, and of xt matches and targets theirs behind it.
    Uncarried(Uncarried),
}

/// An expression that is not carried.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Uncarried {
    /// The kernel's name of it, `meta` or `ct` with the key, or `xt match` or `xt target` with that of the extension.
    pub name: Box<str>,
    /// Revision and data of an xt extension.
    pub xt: Option<Xt>,
}

/// What nft_compat tells of an xt extension.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Xt {
    /// A target, not a match.
    pub target: bool,
    /// The extension's name.
    pub name: Box<str>,
    /// Its revision.
    pub revision: u32,
    /// Its struct.
    pub info: Box<[u8]>,
}

impl Expr {
    /// One that is not carried.
    pub fn uncarried(name: impl Into<Box<str>>) -> Self {
        Expr::Uncarried(Uncarried {
            name: name.into(),
            xt: None,
        })
    }
}
