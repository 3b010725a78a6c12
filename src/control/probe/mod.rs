//! What the machine has: facts about interfaces and the kernel, asked in the calling thread's network namespace.
//!
//! ```text
//!  link.rs     rtnetlink: flags, MTU, kind, master, attached XDP      (never /sys: it may show another namespace)
//!  ethtool.rs  SIOCETHTOOL: driver, queues, offloads
//!  netdev.rs   generic netlink "netdev": XDP features of the driver   (kernel 6.3)
//!  kernel.rs   version, AF_XDP, transmit budget
//! ```
//!
//! Nothing here changes anything. `doctor` prints it, and a start may ask it what to refuse.

pub mod ethtool;
pub mod kernel;
mod link;
mod netdev;

pub use link::{Link, link};
pub use netdev::{XdpFeatures, xdp_features};

use std::ffi::CString;

/// The kernel's number for the interface `name` (or alternative name), if there is one.
pub fn ifindex(name: &str) -> Option<u32> {
    let name = CString::new(name).ok()?;
    // SAFETY: the name is a NUL-terminated string that lives through the call; the function keeps no pointer.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    (index != 0).then_some(index)
}
