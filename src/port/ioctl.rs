//! The socket calls that ask and set things of interfaces and sockets, in one place: ioctl with an ifreq, setsockopt.
//!
//! All answer for the network namespace of the thread that opened the socket. See netdevice(7), include/uapi/linux/if.h.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// A socket to ask the interfaces of the calling thread's network namespace.
#[derive(Debug)]
pub(super) struct Socket(OwnedFd);

impl Socket {
    pub(super) fn open(domain: libc::c_int, kind: libc::c_int) -> io::Result<Self> {
        // SAFETY: no pointers; the descriptor is new and nobody else's.
        unsafe {
            match libc::socket(domain, kind | libc::SOCK_CLOEXEC, 0) {
                fd if fd < 0 => Err(io::Error::last_os_error()),
                fd => Ok(Self(OwnedFd::from_raw_fd(fd))),
            }
        }
    }

    /// # Safety
    /// What `request` points at must suit the ioctl `number`, and be writable for as long as the call takes.
    pub(super) unsafe fn ioctl(&self, number: libc::c_ulong, request: &mut libc::ifreq) -> io::Result<()> {
        // SAFETY: the caller's promise; the descriptor is open.
        match unsafe { libc::ioctl(self.0.as_raw_fd(), number as _, request) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

/// A request about the interface `name`.
pub(super) fn request(name: &str) -> io::Result<libc::ifreq> {
    let bytes = name.as_bytes();
    if bytes.len() >= libc::IFNAMSIZ || bytes.contains(&0) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: an ifreq is plain data, for which all zeroes is a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(bytes) {
        *to = *from as libc::c_char;
    }
    Ok(request)
}

impl AsRawFd for Socket {
    fn as_raw_fd(&self) -> i32 {
        self.0.as_raw_fd()
    }
}

/// setsockopt with a plain value.
#[cfg(feature = "xdp")]
pub(super) fn set_option<T: Copy>(fd: i32, level: i32, option: i32, value: &T) -> io::Result<()> {
    // SAFETY: the kernel reads `size_of::<T>()` bytes from `value`, which is borrowed through the call.
    let result = unsafe {
        libc::setsockopt(
            fd,
            level,
            option,
            std::ptr::from_ref(value).cast(),
            size_of::<T>() as libc::socklen_t,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
