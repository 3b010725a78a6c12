//! BPF_PROG_RUN: the kernel runs an XDP program on a frame that does not come from anywhere; once, to look at what it makes of it,
//! or again and again with what it makes being sent (live frames, Documentation/bpf/bpf_prog_run.rst).

use libbpf_rs::libbpf_sys;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::atomic::AtomicU64;

const BPF_F_TEST_XDP_LIVE_FRAMES: u32 = 2;
/// As many runs as there can be in one call.
const FOREVER: i32 = -1;

/// What `program` returns for `frame`, and what it makes of it, up to as many bytes.
///
/// # Errors
/// Those of bpf(2).
pub fn run_once(program: BorrowedFd<'_>, frame: &[u8]) -> io::Result<(u32, Vec<u8>)> {
    let mut made = vec![0; frame.len()];
    let mut once = options(frame, 1);
    (once.data_out, once.data_size_out) = (made.as_mut_ptr().cast(), made.len() as u32);
    call(program, &mut once)?;
    made.truncate(once.data_size_out as usize);
    Ok((once.retval, made))
}

/// Runs `program` again and again until a signal comes; each page that it gets begins with `frame`, and what it redirects leaves after
/// every `batch` runs.
///
/// # Errors
/// Those of bpf(2); `Interrupted` where a signal ended it.
pub fn run_live(program: BorrowedFd<'_>, frame: &[u8], batch: u32) -> io::Result<()> {
    let mut run = options(frame, FOREVER);
    (run.flags, run.batch_size) = (BPF_F_TEST_XDP_LIVE_FRAMES, batch);
    call(program, &mut run)
}

/// A word of a program's data, which the kernel reads and writes meanwhile.
pub fn shared_word(word: &mut u64) -> &AtomicU64 {
    // SAFETY: aligned, and borrowed: as long as the result lives, nobody here reaches it otherwise.
    unsafe { AtomicU64::from_ptr(word) }
}

fn options(frame: &[u8], repeat: i32) -> libbpf_sys::bpf_test_run_opts {
    libbpf_sys::bpf_test_run_opts {
        sz: size_of::<libbpf_sys::bpf_test_run_opts>() as libbpf_sys::size_t,
        data_in: frame.as_ptr().cast(),
        data_size_in: frame.len() as u32,
        repeat,
        ..Default::default()
    }
}

fn call(program: BorrowedFd<'_>, options: &mut libbpf_sys::bpf_test_run_opts) -> io::Result<()> {
    // SAFETY: the descriptor is open; `options` says truly how large it and its frames are, which live through the call.
    match unsafe { libbpf_sys::bpf_prog_test_run_opts(program.as_raw_fd(), options) } {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(-error)),
    }
}
