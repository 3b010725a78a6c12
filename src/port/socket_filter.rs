//! Socket filters: a program of classic BPF on a socket, so that what nobody wants to hear does not take room in its buffer
//! (SO_ATTACH_FILTER, include/uapi/linux/filter.h; the kernel checks the program). Bounded by the kernel, 4096 instructions.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

pub use libc::sock_filter as Instruction;

/// Has `socket` take in only what `program` keeps: it returns how many bytes, 0 for none.
///
/// # Errors
/// The kernel's own; EINVAL for a program that it does not accept.
pub fn attach(socket: BorrowedFd<'_>, program: &[Instruction]) -> io::Result<()> {
    let program = libc::sock_fprog {
        len: u16::try_from(program.len()).map_err(|_| io::ErrorKind::InvalidInput)?,
        filter: program.as_ptr().cast_mut(),
    };
    // SAFETY: the kernel reads a sock_fprog of ours and the instructions it points to, which are borrowed through the call,
    // and writes nothing.
    let done = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const program).cast(),
            size_of::<libc::sock_fprog>() as libc::socklen_t,
        )
    };
    match done {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
