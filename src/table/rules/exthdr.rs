//! `exthdr`: TCP options, and options and extension headers of IP.
//!
//! TCP options are walked as nft_exthdr.c does: an option of length 0 counts as 1, one that reaches beyond the header ends
//! the search, and writing a larger MSS than there is does nothing. A packet with IPv4 options or IPv6 extension headers
//! is the kernel's; of all others it is known that there are none.

use super::expr::{Base, ExthdrDo, Options, Register};
use super::packet::{Answer, Fact, Packet};
use super::program::{NFPROTO_IPV4, NFPROTO_IPV6};

const IPPROTO_TCP: u8 = 6;
const TCP_LEN: usize = 20;
const TCP_LEN_MAX: usize = 60;
/// TCPOPT_NOP; below it the end of the list.
const NOP: u8 = 1;
const MSS: u8 = 2;
/// IPv6 headers behind which other headers follow (ipv6_ext_hdr).
const EXTENSIONS: [u8; 6] = [0, 43, 44, 51, 59, 60];
const VERSION_LEN_NO_OPTIONS: u8 = 0x45;

/// What is wanted of which option.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    pub(super) kind: u8,
    pub(super) offset: usize,
    pub(super) len: usize,
}

/// How it went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Result {
    /// This goes into the register.
    Load(Register, [u8; 64]),
    /// So does this.
    Fact(Register, Fact),
    /// Nothing is to be done.
    On,
    Break,
    Drop,
    Unknown,
}

impl From<Answer> for Result {
    fn from(answer: Answer) -> Self {
        match answer {
            Answer::Done => Result::On,
            Answer::Break => Result::Break,
            Answer::Unknown => Result::Unknown,
        }
    }
}

/// Does it; `source` is the word of the register that is written.
pub(super) fn run(
    packet: &mut impl Packet,
    options: Options,
    wanted: Wanted,
    act: ExthdrDo,
    source: [u8; 4],
) -> Result {
    match options {
        Options::Tcp => tcp(packet, wanted, act, source),
        Options::Ipv4 => ip(packet, act, NFPROTO_IPV4, |first| first[0] == VERSION_LEN_NO_OPTIONS),
        Options::Ipv6 => ip(packet, act, NFPROTO_IPV6, |first| {
            first[6] != wanted.kind && !EXTENSIONS.contains(&first[6])
        }),
    }
}

/// Of a packet without options, which `is_plain` tells by its first bytes.
fn ip(packet: &impl Packet, act: ExthdrDo, nfproto: u8, is_plain: impl Fn(&[u8; 8]) -> bool) -> Result {
    let mut first = [0; 8];
    if packet.nfproto() != nfproto {
        return Result::Break;
    }
    match packet.payload(Base::Network, 0, &mut first) {
        Answer::Done if is_plain(&first) => not_found(act),
        _ => Result::Unknown,
    }
}

fn not_found(act: ExthdrDo) -> Result {
    match act {
        ExthdrDo::Present(dest) => Result::Fact(dest, Fact::U8(0)),
        ExthdrDo::Load(_) => Result::Break,
        ExthdrDo::Store(_) | ExthdrDo::Strip => Result::On,
    }
}

fn tcp(packet: &mut impl Packet, wanted: Wanted, act: ExthdrDo, source: [u8; 4]) -> Result {
    let mut header = [0; TCP_LEN_MAX];
    let len = match tcp_header(packet, &mut header) {
        Ok(len) => len,
        Err(Answer::Unknown) => return Result::Unknown,
        // Not TCP, or cut: what writes breaks, too.
        Err(_) => {
            return if let ExthdrDo::Present(_) = act {
                not_found(act)
            } else {
                Result::Break
            };
        }
    };
    let Some((at, option_len)) = find(&header[..len], wanted.kind) else {
        return not_found(act);
    };
    let fits = at + option_len <= len;
    if let ExthdrDo::Strip = act {
        return if fits {
            strip(packet, &header[..len], at, option_len)
        } else {
            Result::Drop
        };
    }
    if !fits || wanted.len + wanted.offset > option_len {
        return if let ExthdrDo::Present(_) = act {
            not_found(act)
        } else {
            Result::Break
        };
    }
    let place = at + wanted.offset;
    match act {
        ExthdrDo::Present(dest) => Result::Fact(dest, Fact::U8(1)),
        ExthdrDo::Load(dest) => {
            let mut bytes = [0; 64];
            bytes[..wanted.len].copy_from_slice(&header[place..place + wanted.len]);
            Result::Load(dest, bytes)
        }
        _ => store(packet, &header, wanted, place, source),
    }
}

/// The whole TCP header and its length.
fn tcp_header(packet: &impl Packet, header: &mut [u8; TCP_LEN_MAX]) -> std::result::Result<usize, Answer> {
    if packet.l4proto() != Some(IPPROTO_TCP) || packet.is_later_fragment() {
        return Err(Answer::Break);
    }
    let mut load = |len: usize| match packet.payload(Base::Transport, 0, &mut header[..len]) {
        Answer::Done => Ok(usize::from(header[12] >> 4) * 4),
        other => Err(other),
    };
    let len = load(TCP_LEN)?;
    if len < TCP_LEN {
        return Err(Answer::Break);
    }
    load(len)
}

/// Where an option is, and how long it says it is.
fn find(header: &[u8], kind: u8) -> Option<(usize, usize)> {
    let mut at = TCP_LEN;
    while at + 1 < header.len() {
        let len = match (header[at], header[at + 1]) {
            (..=NOP, _) | (_, 0) => 1,
            (_, len) => usize::from(len),
        };
        if header[at] == kind {
            return Some((at, len));
        }
        at += len;
    }
    None
}

fn store(packet: &mut impl Packet, header: &[u8], wanted: Wanted, at: usize, source: [u8; 4]) -> Result {
    let (old, new) = (&header[at..at + wanted.len], &source[..wanted.len]);
    if old == new || wanted.kind == MSS && wanted.len == 2 && old <= new {
        return Result::On;
    }
    if at % 2 == 1 {
        // There the kernel's arithmetic makes another sum than the right one.
        return Result::Unknown;
    }
    packet.store_tcp(at, new).into()
}

/// Overwrites an option, in whole words of the checksum.
fn strip(packet: &mut impl Packet, header: &[u8], at: usize, len: usize) -> Result {
    let (start, end) = (at & !1, (at + len).next_multiple_of(2));
    let mut bytes = [0; TCP_LEN_MAX];
    bytes[..header.len()].copy_from_slice(header);
    bytes[at..at + len].fill(NOP);
    packet.store_tcp(start, &bytes[start..end]).into()
}
