//! In which order the kernel runs the base chains of a hook: its own list, where it has one (nfnetlink_hook, Linux 5.14).
//!
//! Priorities do not say all: of one priority the one that was registered last runs first (nf_hook_entries_grow), and when a
//! chain was registered is nowhere to be read. As net/netfilter/nfnetlink_hook.c (nfnl_hook_dump_one). Chains of type nat are
//! not in the list: NAT's own hook runs them.

use super::super::nlattr::{Attrs, Message, Request, get_str};
use super::super::nlsock::NlSock;
use super::GENMSG_LEN;
use std::io;

/// NFNL_SUBSYS_HOOK, NFNL_MSG_HOOK_GET.
const HOOK_GET: u16 = 12 << 8;
const HOOKNUM: u16 = 1;
const CHAIN_INFO: u16 = 6;
const INFO_DESC: u16 = 1;

/// A chain as the list names it: family and name of its table, its name.
pub(super) type Named = (u8, String, String);

/// The chains of a hook of a family, in the order in which they run. None where the kernel has no list.
pub(super) fn chains(sock: &mut NlSock, nfproto: u8, hook: u32) -> io::Result<Option<Vec<Named>>> {
    let request = Request::new(HOOK_GET, libc::NLM_F_DUMP as u16, &[nfproto, 0, 0, 0]);
    let mut found = Vec::new();
    match sock.dump(request.attr(HOOKNUM, &hook.to_be_bytes()), |m| found.extend(chain(m))) {
        Ok(()) => Ok(Some(found)),
        // nfnetlink's answers for a subsystem, and for a family, that is not there.
        Err(e)
            if matches!(
                e.raw_os_error(),
                Some(libc::EINVAL | libc::EOPNOTSUPP | libc::EPROTONOSUPPORT)
            ) =>
        {
            Ok(None)
        }
        Err(e) => Err(e),
    }
}

/// The chain of a message, if it is one.
fn chain(m: &Message) -> Option<Named> {
    let info = Attrs(m.attrs(GENMSG_LEN).find(CHAIN_INFO)?);
    let desc = Attrs(info.find(INFO_DESC)?);
    let text = |kind| desc.find(kind).map(get_str);
    Some((*desc.find(2)?.first()?, text(1)?, text(3)?))
}
