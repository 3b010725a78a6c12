//! Which BPF programs of others sit at a port: the questions to bpf(2) that need no library.
//!
//! Read-only: BPF_PROG_QUERY counts the tcx programs of a link, and the walk over all bpf_links finds netfilter programs,
//! which no rule listing shows. Both ask about the network namespace of the calling thread where they can; a netfilter
//! link does not tell its namespace. Here and not in mirror because bpf(2) takes pointers, and `port` is where those may
//! live. See include/uapi/linux/bpf.h (`union bpf_attr`, `struct bpf_link_info`).

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

const OBJ_GET_INFO_BY_FD: libc::c_long = 15;
const PROG_QUERY: libc::c_long = 16;
const LINK_GET_FD_BY_ID: libc::c_long = 30;
const LINK_GET_NEXT_ID: libc::c_long = 31;
const TCX_INGRESS: u32 = 46;
const TCX_EGRESS: u32 = 47;
const LINK_TYPE_NETFILTER: u32 = 10;
/// The most bpf_links that are looked at; more is an error, not an oversight.
const LINKS_MAX: usize = 65_536;
/// After how long all links are looked at again.
const WHOLE_AFTER: Duration = Duration::from_secs(1);

/// A bpf_link of type netfilter, in whatever namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NetfilterLink {
    /// Its number, as `bpftool link` shows it.
    pub id: u32,
    /// NFPROTO_*.
    pub family: u32,
    /// NF_INET_*.
    pub hook: u32,
}

/// The head of `union bpf_attr`, large enough for every command used here.
#[repr(C, align(8))]
struct Attr([u32; 16]);

/// `struct bpf_link_info`, as far as it is read.
#[repr(C, align(8))]
struct LinkInfo([u32; 16]);

/// Whether an XDP program is attached to a link, in whatever mode.
///
/// # Errors
/// Those of rtnetlink; ENODEV where the link is gone.
pub fn has_xdp(ifindex: u32) -> io::Result<bool> {
    Ok(super::netdev::link(ifindex)?.attached != super::netdev::Attached::None)
}

/// How many tcx programs are attached to a link, for frames that arrive (or leave, with `egress`). 0 on a kernel without
/// tcx (before 6.6), and for a link that is gone.
///
/// # Errors
/// Those of bpf(2): EPERM without CAP_NET_ADMIN.
pub fn tcx_programs(ifindex: u32, egress: bool) -> io::Result<u32> {
    let mut attr = Attr([0; 16]);
    attr.0[0] = ifindex;
    attr.0[1] = if egress { TCX_EGRESS } else { TCX_INGRESS };
    match bpf(PROG_QUERY, &mut attr) {
        Ok(_) => Ok(attr.0[6]),
        Err(e) if matches!(e.raw_os_error(), Some(libc::EINVAL | libc::ENODEV | libc::ENOSYS)) => Ok(0),
        Err(e) => Err(e),
    }
}

/// All bpf_links of type netfilter, of every namespace, as they come and go. Links have rising numbers, so that mostly one
/// question tells that there is no new one; but numbers begin anew some day, so all are looked at once a second.
#[derive(Debug, Default)]
pub struct NetfilterLinks {
    known: Vec<NetfilterLink>,
    /// Those up to this number are known.
    last: u32,
    whole_at: Option<Instant>,
}

impl NetfilterLinks {
    /// Those that there are now.
    ///
    /// # Errors
    /// Those of bpf(2): EPERM without CAP_SYS_ADMIN; OutOfMemory for more links than are looked at.
    pub fn read(&mut self) -> io::Result<&[NetfilterLink]> {
        let now = Instant::now();
        let is_whole = self.whole_at.is_none_or(|at| now.duration_since(at) >= WHOLE_AFTER);
        if is_whole {
            (self.last, self.whole_at) = (0, None);
            self.known.clear();
        }
        let mut known = Vec::new();
        for link in &self.known {
            known.extend(netfilter_link(link.id)?.unwrap_or(Some(*link)));
        }
        let (mut id, mut is_settled) = (self.last, true);
        for _ in 0..LINKS_MAX {
            let Some(next) = next_link(id)? else {
                self.known = known;
                self.whole_at = self.whole_at.or(Some(now));
                return Ok(&self.known);
            };
            id = next;
            let link = netfilter_link(id)?;
            is_settled &= link.is_some();
            known.extend(link.flatten());
            if is_settled {
                self.last = id;
            }
        }
        Err(io::ErrorKind::OutOfMemory.into())
    }
}

/// Whether bpf_links, of any type and namespace, have come.
#[derive(Debug, Default)]
pub struct NewLinks {
    last: u32,
}

impl NewLinks {
    /// Whether there are new ones since the last call; also where there are very many, and where they cannot be listed. `false`
    /// for a while when their numbers begin anew: it is only a hint.
    pub fn any(&mut self) -> bool {
        let before = self.last;
        for _ in 0..LINKS_MAX {
            match next_link(self.last) {
                Ok(Some(id)) => self.last = id,
                Ok(None) => return self.last != before,
                Err(_) => return true,
            }
        }
        true
    }
}

/// The number of the link after this one.
fn next_link(id: u32) -> io::Result<Option<u32>> {
    let mut attr = Attr([0; 16]);
    attr.0[0] = id;
    match bpf(LINK_GET_NEXT_ID, &mut attr) {
        Ok(_) => Ok(Some(attr.0[1])),
        // No further link; or a kernel before 5.8, which has none.
        Err(e) if matches!(e.raw_os_error(), Some(libc::ENOENT | libc::EINVAL | libc::ENOSYS)) => Ok(None),
        Err(e) => Err(e),
    }
}

/// The link of this number, if it still is there and of type netfilter; `None` if it is not settled yet.
fn netfilter_link(id: u32) -> io::Result<Option<Option<NetfilterLink>>> {
    let mut attr = Attr([0; 16]);
    attr.0[0] = id;
    let fd = match bpf(LINK_GET_FD_BY_ID, &mut attr) {
        // SAFETY: the kernel has just made this descriptor for us; nobody else knows it.
        Ok(fd) => unsafe { OwnedFd::from_raw_fd(fd) },
        Err(e) if e.raw_os_error() == Some(libc::ENOENT) => return Ok(Some(None)),
        // Whoever makes it, of whatever kind, is not through, and the next look will tell.
        Err(e) if e.raw_os_error() == Some(libc::EAGAIN) => return Ok(None),
        Err(e) => return Err(e),
    };
    let mut info = LinkInfo([0; 16]);
    let mut attr = Attr([0; 16]);
    attr.0[0] = fd.as_raw_fd() as u32;
    attr.0[1] = size_of::<LinkInfo>() as u32;
    let address = (&raw mut info.0).expose_provenance() as u64;
    let [low, high] = [address as u32, (address >> 32) as u32];
    [attr.0[2], attr.0[3]] = if cfg!(target_endian = "little") {
        [low, high]
    } else {
        [high, low]
    };
    bpf(OBJ_GET_INFO_BY_FD, &mut attr)?;
    let [kind, id, _, _, family, hook, ..] = info.0;
    Ok(Some((kind == LINK_TYPE_NETFILTER).then_some(NetfilterLink {
        id,
        family,
        hook,
    })))
}

fn bpf(command: libc::c_long, attr: &mut Attr) -> io::Result<i32> {
    // SAFETY: `attr` is valid for reads and writes of its size, which is passed; the kernel zero-extends it. The only
    // pointer that a caller puts into it (`info`) points to a live LinkInfo of the length given beside it.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut *attr, size_of::<Attr>()) };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result as i32)
    }
}
