//! What the running kernel has: its version, and the features a version alone does not prove, by trying them.
//!
//! Distributions carry features back and leave others out, so a socket is made and an option is set; nothing is bound, and
//! the socket is closed at once. Numbers are those of include/uapi/linux/if_xdp.h.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// include/uapi/linux/if_xdp.h, kernel 6.17.
const XDP_MAX_TX_SKB_BUDGET: libc::c_int = 9;

/// A kernel version, major and minor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u32, pub u32);

/// What the kernel has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kernel {
    /// As uname says it, such as `6.1.0-42-amd64`.
    pub release: String,
    /// Its first two numbers.
    pub version: Version,
    /// AF_XDP sockets can be made; `Err` is why not.
    pub af_xdp: Result<(), String>,
    /// Copy-mode transmit may take more than 32 frames per call.
    pub tx_budget: bool,
}

/// Asks the running kernel.
pub fn kernel() -> Kernel {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease")
        .unwrap_or_default()
        .trim()
        .to_string();
    let socket = xdp_socket();
    let tx_budget = socket.as_ref().is_ok_and(has_tx_budget);
    Kernel {
        version: parse(&release).unwrap_or_default(),
        release,
        af_xdp: socket.map(drop).map_err(|error| error.to_string()),
        tx_budget,
    }
}

fn parse(release: &str) -> Option<Version> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some(Version(numbers.next()?.ok()?, numbers.next()?.ok()?))
}

fn xdp_socket() -> io::Result<OwnedFd> {
    // SAFETY: socket takes numbers only.
    let socket = unsafe { libc::socket(libc::AF_XDP, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
    if socket < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was opened above and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(socket) })
}

/// A socket without a transmit ring is refused (EACCES) by a kernel that knows the option, and told so (ENOPROTOOPT) by one
/// that does not.
fn has_tx_budget(socket: &OwnedFd) -> bool {
    let budget: u32 = 64;
    // SAFETY: the option reads four bytes from the pointer, which points to a u32 of ours.
    let done = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_XDP,
            XDP_MAX_TX_SKB_BUDGET,
            (&raw const budget).cast(),
            4,
        )
    };
    done == 0 || io::Error::last_os_error().raw_os_error() != Some(libc::ENOPROTOOPT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_read() {
        assert_eq!(parse("6.1.0-42-amd64"), Some(Version(6, 1)));
        assert_eq!(parse("6.18.5"), Some(Version(6, 18)));
        assert_eq!(parse("6.18"), Some(Version(6, 18)));
        assert_eq!(parse("linux"), None);
        assert!(Version(6, 6) < Version(6, 17));
    }

    #[test]
    fn the_running_kernel_has_a_version() {
        let kernel = kernel();
        assert!(kernel.version > Version(3, 0));
        // Making the socket takes CAP_NET_RAW.
        assert!(kernel.af_xdp.is_err() || kernel.version < Version(6, 17) || kernel.tx_budget);
    }
}
