//! IPsec policies: a forwarded packet is looked up among the policies of direction `fwd` and `out` (and would be encrypted,
//! dropped or delayed), so any policy leaves its family. net/xfrm/xfrm_policy.c, xfrm_user.c.
//!
//! States without a policy are harmless: what they decrypt is addressed to the box. Policies of a socket (directions from
//! XFRM_POLICY_MAX on) touch only what that socket sends. The counts of XFRM_MSG_GETSPDINFO save the dump where there is
//! no policy, which is nearly everywhere. Read at events (PF_KEY's changes are told, too), and once a second.

use super::super::nlattr::{Message, Request, get_u16, get_u32};
use super::super::nlsock::NlSock;
use super::super::turns::Lookout;
use super::READ_AFTER;
use super::findings::{Collector, name};
use crate::packet::Family;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};

const GETPOLICY: u16 = 0x15;
const GETSPDINFO: u16 = 0x25;
const GETDEFAULT: u16 = 0x28;
const SPD_INFO: u16 = 1;
/// XFRM_USERPOLICY_BLOCK.
const BLOCK: u8 = 1;
/// Each alone, as [`Family::ALL`] has them.
const FAMILIES: [&[Family]; 2] = [&[Family::V4], &[Family::V6]];
const REMEDY: &str = "IPsec is not carried; it is the kernel's until the policies are gone (`ip xfrm policy`)";

pub(super) fn open() -> io::Result<NlSock> {
    NlSock::open(libc::NETLINK_XFRM, false)
}

/// Reads policies.
#[derive(Debug)]
pub(super) struct Xfrm {
    sock: Option<NlSock>,
    lookout: Lookout,
    /// What leaves families: which, what it is, and the remedy.
    found: Vec<(&'static [Family], String, &'static str)>,
}

/// The policies of one family: how many, and the first in words.
#[derive(Debug, Default)]
struct Seen {
    count: usize,
    first: String,
}

impl Xfrm {
    /// `None` where the kernel has no xfrm.
    pub(super) fn new(sock: Option<NlSock>) -> Self {
        Self {
            sock,
            lookout: Lookout::new(READ_AFTER),
            found: Vec::new(),
        }
    }

    /// `events`: a policy has changed.
    pub(super) fn read(&mut self, found: &mut Collector, events: bool) {
        if self.lookout.is_due(events) {
            self.look();
        }
        for (families, text, remedy) in &self.found {
            found.leave_families(families, text.clone(), remedy);
        }
    }

    fn look(&mut self) {
        self.found.clear();
        let Some(sock) = &mut self.sock else { return };
        match policies(sock) {
            Ok(seen) => {
                for (family, seen) in FAMILIES.into_iter().zip(seen).filter(|(_, s)| s.count > 0) {
                    let name = name(family[0]);
                    let text = format!("{} xfrm policies for {name}, one is {}", seen.count, seen.first);
                    self.found.push((family, text, REMEDY));
                }
            }
            Err(e) => self.cannot("xfrm policies", &e),
        }
        let Some(sock) = &mut self.sock else { return };
        match default_blocks(sock) {
            Ok(false) => {}
            Ok(true) => {
                let text = "the default xfrm policy blocks forwarded packets".to_owned();
                let remedy = "`ip xfrm policy setdefault fwd accept out accept`";
                self.found.push((&Family::ALL, text, remedy));
            }
            Err(e) => self.cannot("default xfrm policy", &e),
        }
    }

    /// What cannot be read counts as there, and is asked for again at once.
    fn cannot(&mut self, what: &str, why: &io::Error) {
        self.lookout.forget();
        self.found
            .push((&Family::ALL, format!("{what} cannot be read: {why}"), REMEDY));
    }
}

fn policies(sock: &mut NlSock) -> io::Result<[Seen; 2]> {
    let mut total = None;
    sock.get(Request::new(GETSPDINFO, 0, &[0; 4]), |m| {
        let counts = m.attrs(4).find(SPD_INFO).and_then(|info| info.get(..12));
        total = counts.map(|c| c.chunks_exact(4).filter_map(get_u32).map(u64::from).sum::<u64>());
    })?;
    let mut seen = [Seen::default(), Seen::default()];
    if total == Some(0) {
        return Ok(seen);
    }
    // struct xfrm_userpolicy_id: which one to get; a dump gets all.
    let request = Request::new(GETPOLICY, libc::NLM_F_DUMP as u16, &[0; 64]);
    sock.dump(request, |m| {
        let Some((families, words)) = policy(m) else { return };
        for family in families {
            let seen = &mut seen[*family as usize];
            seen.count += 1;
            if seen.count == 1 {
                seen.first.clone_from(&words);
            }
        }
    })?;
    Ok(seen)
}

/// A `struct xfrm_userpolicy_info`: the families that it touches and what it is. `None` for a socket's.
fn policy(m: &Message) -> Option<(&'static [Family], String)> {
    let dir = match m.payload.get(160)? {
        0 => "in",
        1 => "out",
        2 => "fwd",
        _ => return None,
    };
    let [daddr, saddr] = [m.payload.get(..16)?, m.payload.get(16..32)?];
    let (families, [daddr, saddr]): (&[Family], _) = match i32::from(get_u16(m.payload.get(40..)?)?) {
        libc::AF_INET => (
            &[Family::V4],
            [daddr, saddr].map(|a| Ipv4Addr::from(*a.first_chunk::<4>().unwrap_or(&[0; 4])).to_string()),
        ),
        libc::AF_INET6 => (
            &[Family::V6],
            [daddr, saddr].map(|a| Ipv6Addr::from(*a.first_chunk::<16>().unwrap_or(&[0; 16])).to_string()),
        ),
        _ => (&Family::ALL, [const { String::new() }; 2]),
    };
    let [dlen, slen] = [m.payload.get(42)?, m.payload.get(43)?];
    Some((families, format!("dir {dir} src {saddr}/{slen} dst {daddr}/{dlen}")))
}

/// Whether packets without a policy are blocked on the way through (since Linux 5.14; before, they never are).
fn default_blocks(sock: &mut NlSock) -> io::Result<bool> {
    let mut blocks = false;
    let result = sock.get(Request::new(GETDEFAULT, 0, &[0; 3]), |m| {
        // in, fwd, out
        blocks = m.payload.get(1..3).is_none_or(|d| d.contains(&BLOCK));
    });
    match result {
        Err(e) if e.raw_os_error() == Some(libc::EINVAL) => Ok(false),
        other => other.map(|()| blocks),
    }
}
