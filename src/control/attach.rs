//! steer on a port: native (in the driver, before there is an skb) where the driver can, else generic (in the stack, behind
//! the skb). It is a bpf_link, a file descriptor: it ends with its holder, and a second one on the port is refused, so two
//! processes cannot steal a port from one another. Attaching resets some drivers' queues, so it happens once per port.
//!
//! Interfaces are those of the calling thread's network namespace (`bpf_xdp_link_attach`, net/core/dev.c).

use super::bpf::link_create;
use crate::port::link::{Attached, Link};
use libbpf_rs::libbpf_sys;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

/// How to attach.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Attach {
    /// Native where the driver can, else generic.
    #[default]
    Auto,
    /// In the driver only.
    Native,
    /// In the stack, after the skb is made: slower, works everywhere.
    Generic,
}

/// How it is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttachedMode {
    /// In the driver.
    Native,
    /// In the stack.
    Generic,
}

/// steer on one port, until this is dropped.
#[derive(Debug)]
pub struct AttachedLink {
    pub(super) _link: OwnedFd,
    /// In which mode.
    pub mode: AttachedMode,
    /// Why it is not native, where [`Attach::Auto`] tried that first.
    pub refused: Option<io::Error>,
}

/// Why steer could not be attached to a port.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// The port has an XDP program already.
    #[error("another XDP program is attached: {remedy}")]
    Busy {
        /// How to find whose it is, and to take it off.
        remedy: String,
    },
    /// There is no such interface in this network namespace.
    #[error("no such interface")]
    NoDevice,
    /// A capability is missing.
    #[error("not permitted; run as root, or with CAP_NET_ADMIN and CAP_BPF")]
    NotPermitted,
    /// The driver or the stack refuses.
    #[error("{mode} XDP is refused ({source}); {hint}")]
    Refused {
        /// The mode that was tried last.
        mode: &'static str,
        /// What the kernel said.
        source: io::Error,
        /// What to try.
        hint: &'static str,
    },
}

/// Attaches `program` to an interface.
pub(super) fn attach(program: BorrowedFd<'_>, ifindex: u32, how: Attach) -> Result<AttachedLink, AttachError> {
    let attach = |flags| link_create(program, ifindex, libbpf_sys::BPF_XDP, flags);
    let (native, generic) = (libbpf_sys::XDP_FLAGS_DRV_MODE, libbpf_sys::XDP_FLAGS_SKB_MODE);
    let mut refused = None;
    if how != Attach::Generic {
        match attach(native) {
            Ok(link) => {
                return Ok(AttachedLink {
                    _link: link,
                    mode: AttachedMode::Native,
                    refused,
                });
            }
            Err(e) if how == Attach::Auto && !is_final(&e, ifindex) => refused = Some(e),
            Err(e) => return Err(AttachError::new("native", e, ifindex)),
        }
    }
    match attach(generic) {
        Ok(link) => Ok(AttachedLink {
            _link: link,
            mode: AttachedMode::Generic,
            refused,
        }),
        Err(e) => Err(AttachError::new("generic", e, ifindex)),
    }
}

/// Errors that no other mode would mend.
fn is_final(e: &io::Error, ifindex: u32) -> bool {
    matches!(
        e.raw_os_error(),
        Some(libc::EBUSY | libc::EEXIST | libc::EPERM | libc::EACCES)
    ) || name(ifindex).is_none()
}

/// In words, by where the program sits.
fn how_to_detach(name: &str) -> String {
    let attached = Link::query(name).map_or(Attached::None, |link| link.attached);
    attached.how_to_detach(name)
}

/// What the interface is called, if this thread's network namespace has it; `bpf_xdp_link_attach` says EINVAL where it has not.
fn name(ifindex: u32) -> Option<String> {
    let mut name: [libc::c_char; libc::IF_NAMESIZE] = [0; libc::IF_NAMESIZE];
    // SAFETY: the buffer is as long as the call may write.
    let found = !unsafe { libc::if_indextoname(ifindex, name.as_mut_ptr()) }.is_null();
    let name = name.iter().take_while(|&&byte| byte != 0).map(|&byte| byte as u8);
    found.then(|| String::from_utf8_lossy(&name.collect::<Vec<u8>>()).into_owned())
}

impl AttachError {
    fn new(mode: &'static str, source: io::Error, ifindex: u32) -> Self {
        match source.raw_os_error() {
            _ if name(ifindex).is_none() => Self::NoDevice,
            Some(libc::EBUSY | libc::EEXIST) => Self::Busy {
                remedy: how_to_detach(&name(ifindex).unwrap_or_default()),
            },
            Some(libc::EPERM | libc::EACCES) => Self::NotPermitted,
            _ if mode == "native" => Self::Refused {
                mode,
                source,
                hint: "lower its MTU, turn off LRO, or use `--attach generic`",
            },
            _ => Self::Refused {
                mode,
                source,
                hint: "turn off LRO on it, or leave it to the kernel",
            },
        }
    }
}
