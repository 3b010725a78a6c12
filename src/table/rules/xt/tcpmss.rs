//! `-j TCPMSS`: a segment's MSS, made smaller. As net/netfilter/xt_TCPMSS.c.
//!
//! ```text
//!  an option that is not larger, a segment with data and no option,
//!  or with a header that is full, a later fragment               nothing
//!  a larger one                                                  is written
//!  neither option nor data                                       the kernel's: it makes room for one
//!  no whole header                                               lost
//! ```
//!
//! Unlike nft's `tcp option maxseg size set` it passes an option of another length than 4 by. An option at an odd place is
//! the kernel's to write, whose arithmetic makes another checksum there.

use super::Said;
use super::info::Info;
use crate::table::rules::expr::Base;
use crate::table::rules::keys::RtKey;
use crate::table::rules::packet::{Answer, Fact, Packet};
use crate::wire::Protocol;

const LEN: usize = 20;
const LEN_MAX: usize = 60;
const KIND: u8 = 2;
const OPTION_LEN: usize = 4;
/// What `rt mtu` answers of a path that is too narrow (TCP_MSS_DEFAULT); here such a packet is lost.
const DEFAULT: u16 = 536;

/// See the file's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Tcpmss {
    /// `--set-mss`.
    Set(u16),
    /// `--clamp-mss-to-pmtu`.
    Clamp,
}

impl Tcpmss {
    pub(super) fn decode(revision: u32, info: &[u8]) -> Option<Self> {
        const CLAMP: u16 = 0xffff;
        let info = Info::of(info, 2)?;
        (revision == 0).then_some(match info.u16(0) {
            CLAMP => Tcpmss::Clamp,
            mss => Tcpmss::Set(mss),
        })
    }

    pub(super) fn says(self, packet: &mut impl Packet) -> Said {
        if packet.l4proto() != Some(Protocol::TCP.0) {
            // The rule has asked for it, or the kernel would not have taken it.
            return Said::Unknown;
        }
        if packet.is_later_fragment() {
            return Said::On;
        }
        let mut header = [0; LEN_MAX];
        let len = match whole(packet, &mut header) {
            Ok(len) => len,
            Err(said) => return said,
        };
        let header = &header[..len];
        let new = match self {
            Tcpmss::Set(mss) => mss,
            Tcpmss::Clamp => match packet.rt(RtKey::Tcpmss) {
                Fact::U16(mss) if mss != DEFAULT => mss,
                _ => return Said::Unknown,
            },
        };
        let Some(at) = find(header) else {
            return without(packet, len);
        };
        let old = u16::from_be_bytes([header[at + 2], header[at + 3]]);
        match at % 2 {
            _ if old <= new => Said::On,
            0 => packet.store_tcp(at + 2, &new.to_be_bytes()).into(),
            _ => Said::Unknown,
        }
    }
}

/// Reads the whole header, and says how long it is.
fn whole(packet: &impl Packet, header: &mut [u8; LEN_MAX]) -> Result<usize, Said> {
    let mut load = |len: usize| match packet.payload(Base::Transport, 0, &mut header[..len]) {
        Answer::Done => Ok(usize::from(header[12] >> 4) * 4),
        Answer::Break => Err(Said::Drop),
        Answer::Unknown => Err(Said::Unknown),
    };
    match load(LEN)? {
        ..LEN => Err(Said::Drop),
        len => load(len),
    }
}

/// Where the option is.
fn find(header: &[u8]) -> Option<usize> {
    let mut at = LEN;
    while at + OPTION_LEN <= header.len() {
        match (header[at], header[at + 1]) {
            (KIND, len) if usize::from(len) == OPTION_LEN => return Some(at),
            (..=1, _) | (_, 0) => at += 1,
            (_, len) => at += usize::from(len),
        }
    }
    None
}

/// What becomes of a segment that has none.
fn without(packet: &impl Packet, len: usize) -> Said {
    if len == LEN_MAX {
        return Said::On;
    }
    match packet.payload(Base::Transport, len, &mut [0]) {
        Answer::Done => Said::On,
        Answer::Break | Answer::Unknown => Said::Unknown,
    }
}
