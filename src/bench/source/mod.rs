//! Where the frames of a trial come from: a source is opened on a port once, and sends one [`Work`] after the other.
//!
//! ```text
//!   run(work, run, limit) ── Frames ──> one thread on its core ──> port          the caller's thread looks on, and may stop it
//! ```
//!
//! The frames are those of `frames.rs`, with the tag of `tag.rs` in each: the trial's number `run`, and a sequence number
//! that counts from 0 without a gap over all frames that were offered. What was late and left out has no number.

#[cfg(feature = "xdp")]
mod live;
#[cfg(feature = "xdp")]
mod watch;
#[cfg(feature = "xdp")]
mod xsk;

#[cfg(feature = "xdp")]
pub use live::LiveSource;
#[cfg(feature = "xdp")]
pub use xsk::XskSource;

use super::work::{Rate, Work};
use std::time::Duration;
#[cfg(feature = "xdp")]
use {super::order::Picker, crate::port::link::Link};

/// How frames are made and sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceKind {
    /// A BPF program that the kernel runs in live-frame mode: the fastest on veth, and no system call per frame.
    Live,
    /// The transmit ring of an AF_XDP socket.
    Xsk,
}

/// How a source is opened.
#[derive(Clone, Copy, Debug)]
pub struct SourceOptions {
    /// How frames are made and sent.
    pub kind: SourceKind,
    /// The core that it runs on.
    pub cpu: Option<usize>,
    /// Write the send time into each frame; it costs about 30 ns per frame. Without it the time is 0.
    pub timed: bool,
    /// The transmit queue, for AF_XDP.
    pub queue: u32,
}

/// When a run ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// After so long.
    Time(Duration),
    /// After so many frames offered.
    Frames(u64),
}

/// What was sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// Frames that were given to the port: the sequence numbers are 0 to `offered - 1`.
    pub offered: u64,
    /// Of these, how many the port said it dropped at once: its ring, or on veth the ring of its peer, was full.
    pub refused: u64,
    /// Frames of a paced work that were over 5 ms late and left out; they are not offered and have no number.
    pub missed: u64,
    /// When the first frame was sent, nanoseconds of CLOCK_MONOTONIC.
    pub first_ns: u64,
    /// When the last was.
    pub last_ns: u64,
    /// What is to be said of it, one line each: a rate that was not reached, a size that was raised.
    pub notes: Vec<String>,
}

impl Sent {
    /// Seconds from the first frame to the last.
    pub fn seconds(&self) -> f64 {
        self.last_ns.saturating_sub(self.first_ns) as f64 / 1e9
    }

    /// Says it where frames were left out, and that the rate was not reached where they are more than one in a thousand.
    pub fn note_rate(&mut self, rate: Rate) {
        let Rate::Paced(wanted) = rate else { return };
        let share = self.missed as f64 / (self.offered + self.missed).max(1) as f64;
        if self.missed > 0 && share <= 0.001 {
            self.notes.push(format!(
                "{} of {} frames were over 5 ms late and left out: the source was held up",
                self.missed,
                self.offered + self.missed
            ));
        }
        if share > 0.001 {
            self.notes.push(format!(
                "the rate was not reached: {wanted:.0} frames per second were asked for, {:.0} were sent ({:.1} % were over 5 ms \
                 late and left out)",
                wanted * (1.0 - share),
                share * 100.0
            ));
        }
    }
}

/// A port that frames are sent by.
pub trait Source: Send {
    /// Sends frames of `work`, as its rate says, until `limit` (its duration is not looked at). `run` marks the frames.
    /// Blocks; `progress` is called with the number of frames offered so far, once the first has left and then about ten
    /// times a second, and ends the run by `false`.
    ///
    /// # Errors
    /// One line that names the remedy.
    fn run(
        &mut self,
        work: &Work,
        run: u16,
        limit: Limit,
        progress: &mut dyn FnMut(u64) -> bool,
    ) -> Result<Sent, String>;
}

/// Opens a source on the interface `port`, in the calling thread's network namespace.
///
/// # Errors
/// One line that names the remedy: there is no such interface, it is down, or the kernel refuses.
#[cfg(feature = "xdp")]
pub fn open(port: &str, options: SourceOptions) -> Result<Box<dyn Source>, String> {
    Ok(match options.kind {
        SourceKind::Live => Box::new(LiveSource::open(port, options)?),
        SourceKind::Xsk => Box::new(XskSource::open(port, options)?),
    })
}

/// The interface of that name, if it can send.
#[cfg(feature = "xdp")]
fn sending_link(port: &str) -> Result<Link, String> {
    let link = Link::query(port).map_err(|e| e.to_string())?;
    link.check_ethernet().map_err(|e| e.to_string())?;
    if !link.up {
        return Err(format!("{port} is down: ip link set {port} up"));
    }
    if !link.running {
        return Err(format!("{port} has no carrier: plug in the cable, or set its peer up"));
    }
    Ok(link)
}

/// The order of a work: the one that was made last, where it suits.
#[cfg(feature = "xdp")]
fn picker_for<'a>(kept: &'a mut Option<Picker>, work: &Work) -> Result<&'a Picker, String> {
    if !kept.as_ref().is_some_and(|picker| picker.suits(&work.flows, work.seed)) {
        *kept = None;
    }
    match kept {
        Some(picker) => Ok(picker),
        none => Ok(none.insert(Picker::new(&work.flows, work.seed)?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_that_was_not_reached_and_each_frame_that_was_left_out_is_said() {
        let sent = |missed| {
            let mut sent = Sent {
                offered: 9_000,
                missed,
                ..Sent::default()
            };
            sent.note_rate(Rate::Paced(10_000.0));
            sent.notes
        };
        assert_eq!(sent(0), [""; 0]);
        assert_eq!(
            sent(9),
            ["9 of 9009 frames were over 5 ms late and left out: the source was held up"]
        );
        assert_eq!(sent(1_000).len(), 1);
        assert!(sent(1_000)[0].contains("9000 were sent (10.0 %"), "{:?}", sent(1_000));
        let mut unpaced = Sent {
            missed: 5,
            ..Sent::default()
        };
        unpaced.note_rate(Rate::Unpaced);
        assert_eq!(unpaced.notes, [""; 0]);
    }
}
