//! Tables, of which some change without a commit and without an event.
//!
//! ```text
//!  dormant   a batch that is prepared writes it into the table at once, and takes it back when it fails
//!  owner     a table that goes when the process that owns it does (nft_rcv_nl_event of net/netfilter/nf_tables_api.c)
//! ```

use super::{GENMSG_LEN, GETTABLE, NEWTABLE, all, text};
use crate::mirror::nlattr::get_be32;
use crate::mirror::nlsock::NlSock;
use std::io;

/// NFT_TABLE_F_DORMANT, NFT_TABLE_F_OWNER.
const DORMANT: u32 = 1;
const OWNER: u32 = 2;

/// One of them.
#[derive(Debug, PartialEq, Eq)]
struct Table {
    family: u8,
    name: String,
    flags: u32,
    handle: u64,
}

/// All there are, in the kernel's order.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Tables(Vec<Table>);

impl Tables {
    /// Dumps them, of whichever generation.
    pub(super) fn read(sock: &mut NlSock) -> io::Result<Self> {
        let mut tables = Vec::new();
        sock.dump(all(GETTABLE), |m| {
            if m.kind != NEWTABLE {
                return;
            }
            let attrs = m.attrs(GENMSG_LEN);
            let handle = attrs.find(4).and_then(|handle| handle.first_chunk());
            tables.push(Table {
                family: m.payload.first().copied().unwrap_or_default(),
                name: text(&attrs, 1),
                flags: attrs.find(2).and_then(get_be32).unwrap_or(0),
                handle: handle.map_or(0, |handle| u64::from_be_bytes(*handle)),
            });
        })?;
        Ok(Self(tables))
    }

    /// Whether one is dormant, or would be.
    pub(super) fn is_dormant(&self, family: u8, name: &str) -> bool {
        let is_it = |table: &Table| table.family == family && table.name == name && table.flags & DORMANT != 0;
        self.0.iter().any(is_it)
    }

    /// Whether nobody may tell that one changes: see the file's head.
    pub(super) fn change_unseen(&self) -> bool {
        self.0.iter().any(|table| table.flags & (DORMANT | OWNER) != 0)
    }
}
