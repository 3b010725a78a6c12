//! What an instance says, without ever waiting for whoever reads it.
//!
//! ```text
//!  say!, announce! --LINES_MAX lines--> bypath-log --write(2)--> stderr, stdout
//! ```
//!
//! A terminal may be held (Ctrl-S), a pipe full or closed. The control loop must go on in any case: while it waits, workers
//! forward by rules that are no longer the kernel's. So what is said is written by a thread of its own. What finds no room is
//! lost, and counted: how much is said as soon as somebody reads again. What cannot be written is nobody's. At the end it is
//! waited for, no longer than `PATIENCE`.

use crossbeam::channel::{Receiver, Sender, bounded};
use std::fmt::Arguments;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Lines that may wait to be written.
const LINES_MAX: usize = 1024;

/// How long the end waits for a reader.
const PATIENCE: Duration = Duration::from_millis(500);

/// Where a line goes.
#[derive(Clone, Copy, Debug)]
pub enum Stream {
    /// stdout: what scripts wait for.
    Out,
    /// stderr: everything else.
    Err,
}

enum Message {
    Line(Stream, String),
    /// Say that all before this was written.
    Flush(Sender<()>),
}

static TO: OnceLock<Sender<Message>> = OnceLock::new();
static LOST: AtomicU64 = AtomicU64::new(0);

/// A line to stderr.
#[cfg(feature = "xdp")]
macro_rules! say {
    ($($words:tt)*) => {
        $crate::control::log::line($crate::control::log::Stream::Err, format_args!($($words)*))
    };
}

/// A line to stdout.
#[cfg(feature = "xdp")]
macro_rules! announce {
    ($($words:tt)*) => {
        $crate::control::log::line($crate::control::log::Stream::Out, format_args!($($words)*))
    };
}

/// Has a line written, or loses it.
pub fn line(stream: Stream, words: Arguments<'_>) {
    let to = TO.get_or_init(start);
    if to.try_send(Message::Line(stream, format!("{words}\n"))).is_err() {
        LOST.fetch_add(1, Ordering::Relaxed);
    }
}

/// Waits until all is written, a bounded time.
pub fn flush() {
    let Some(to) = TO.get() else { return };
    let (reply, written) = bounded(1);
    if to.send_timeout(Message::Flush(reply), PATIENCE).is_ok() {
        let _ = written.recv_timeout(PATIENCE);
    }
}

/// The thread is not waited for: it may wait itself, for ever. Where there can be none, all lines are lost.
fn start() -> Sender<Message> {
    let (to, from) = bounded(LINES_MAX);
    let _ = std::thread::Builder::new()
        .name("bypath-log".into())
        .spawn(move || write_all(&from));
    to
}

fn write_all(from: &Receiver<Message>) {
    for message in from {
        match message {
            Message::Line(stream, line) => {
                let lost = LOST.swap(0, Ordering::Relaxed);
                if lost > 0 {
                    write(
                        Stream::Err,
                        &format!("bypath: {lost} lines before this one are lost: nobody read them\n"),
                    );
                }
                write(stream, &line);
            }
            Message::Flush(reply) => drop(reply.send(())),
        }
    }
}

/// Around the buffers of std, whose locks others would wait for.
fn write(stream: Stream, line: &str) {
    let mut rest = line.as_bytes();
    while !rest.is_empty() {
        let written = match stream {
            Stream::Out => rustix::io::write(std::io::stdout(), rest),
            Stream::Err => rustix::io::write(std::io::stderr(), rest),
        };
        match written {
            Ok(bytes) => rest = rest.get(bytes..).unwrap_or_default(),
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return,
        }
    }
}
