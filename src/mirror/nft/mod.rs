//! The kernel's nf_tables ruleset, read by netlink into the model that `table::rules` runs. Needs no nft.
//!
//! ```text
//!  GETGEN -> tables -> chains (and their order, hooks) -> objects -> sets -> rules -> elements of each set -> GETGEN
//!            names become numbers, so that what comes later can be resolved
//! ```
//!
//! A change in mid-dump mixes generations without any flag: so the 16 bits of the generation in each message are compared,
//! and the whole number is asked before and after, a few times. What is not understood costs no more than itself:
//! an expression is uncarried, a set is opaque. A message without the names that everything hangs on is an error of the
//! whole reading.
//!
//! Bounds: [`RULES_MAX`], [`SETS_MAX`] and the elements of a set; beyond them the reading fails, or the set is opaque.
//! As net/netfilter/nf_tables_api.c (nf_tables_fill_*).

mod chains;
mod data;
pub mod deltas;
mod expr;
mod fields;
mod hooks;
mod load;
mod names;
mod sets;
mod stateful;

use super::nlattr::{Message, Request, get_be32};
use super::nlsock::NlSock;
use crate::table::rules::program::Ruleset;
use std::io;

/// Readings of a ruleset that changes meanwhile.
const TRIES_MAX: usize = 5;
/// The most rules, of all chains.
pub const RULES_MAX: usize = 1 << 20;
/// The most sets, anonymous ones too.
pub const SETS_MAX: usize = 1 << 18;

/// NFNL_SUBSYS_NFTABLES in the high byte of a message type.
const SUBSYS: u16 = 10 << 8;
/// Bytes of a `struct nfgenmsg`.
const GENMSG_LEN: usize = 4;
const GETGEN: u16 = SUBSYS | 16;

/// What is dumped: the request, and the message that answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Table = 0,
    Chain = 3,
    Rule = 6,
    Set = 9,
    Element = 12,
    Object = 18,
}

/// Why there is no ruleset.
#[derive(Debug, thiserror::Error)]
pub enum NftError {
    /// This kernel has no nf_tables.
    #[error("this kernel has no nf_tables")]
    Absent,
    /// Netlink does not work.
    #[error("nf_tables cannot be read: {0}; does this user have CAP_NET_ADMIN?")]
    Io(#[from] io::Error),
    /// It is never the same for as long as a reading takes.
    #[error("the ruleset changes faster than it can be read; it is read again when there is less change")]
    Busy,
    /// A message is not what it has to be.
    #[error("nf_tables said something that is not understood: {0}")]
    Malformed(&'static str),
    /// There is more than is carried.
    #[error("the ruleset has more than {0} {1}, which is more than is carried")]
    TooMany(usize, &'static str),
}

/// Reads rulesets of the network namespace of the thread that opened it.
#[derive(Debug)]
pub struct Nft {
    sock: NlSock,
}

impl Nft {
    /// Opens a socket.
    ///
    /// # Errors
    /// Those of socket(2): a kernel without netfilter.
    pub fn open() -> Result<Self, NftError> {
        let sock = NlSock::open(libc::NETLINK_NETFILTER, false)?;
        Ok(Self { sock })
    }

    /// The kernel's number of the ruleset of now.
    ///
    /// # Errors
    /// [`NftError::Absent`] and those of the socket.
    pub fn generation(&mut self) -> Result<u32, NftError> {
        let mut generation = None;
        let request = Request::new(GETGEN, 0, &[0; GENMSG_LEN]);
        let asked = self.sock.get(request, |m| {
            generation = m.attrs(GENMSG_LEN).find(1).and_then(get_be32);
        });
        match asked {
            // nfnetlink's answer for a subsystem that is not there.
            Err(e) if matches!(e.raw_os_error(), Some(libc::EINVAL | libc::EOPNOTSUPP)) => Err(NftError::Absent),
            Err(e) => Err(e.into()),
            Ok(()) => generation.ok_or(NftError::Malformed("no generation")),
        }
    }

    /// The whole ruleset. `now_ns` is the time of the clock that lookups will use: elements expire by it.
    ///
    /// # Errors
    /// See [`NftError`].
    pub fn read(&mut self, now_ns: u64) -> Result<Ruleset, NftError> {
        for _ in 0..TRIES_MAX {
            let before = self.generation()?;
            match load::load(self, before, now_ns) {
                Ok(ruleset) if self.generation()? == before => return Ok(ruleset),
                Ok(_) => {}
                // A set that is gone since it was listed.
                Err(NftError::Io(e)) if is_change(&e) && self.generation()? != before => {}
                Err(NftError::Io(e)) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Err(NftError::Busy)
    }

    /// Dumps what there is of a kind; `each` gets the family and the message. Interrupted if one is of another generation.
    fn dump(
        &mut self,
        kind: Kind,
        generation: u32,
        narrow: impl FnOnce(Request) -> Request,
        family: u8,
        mut each: impl FnMut(u8, &Message) -> Result<(), NftError>,
    ) -> Result<(), NftError> {
        let request = Request::new(SUBSYS | (kind as u16 + 1), libc::NLM_F_DUMP as u16, &[family, 0, 0, 0]);
        let (mut mixed, mut result) = (false, Ok(()));
        self.sock.dump(narrow(request), |m| {
            let header = m.payload.first_chunk::<GENMSG_LEN>();
            mixed |= header.map(|h| u16::from_be_bytes([h[2], h[3]])) != Some(generation as u16);
            if let Some([family, ..]) = header
                && m.kind == SUBSYS | kind as u16
                && result.is_ok()
            {
                result = each(*family, m);
            }
        })?;
        if mixed {
            return Err(io::Error::from(io::ErrorKind::Interrupted).into());
        }
        result
    }
}

/// What a dump of something says that a commit has just removed.
fn is_change(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENODEV))
}
