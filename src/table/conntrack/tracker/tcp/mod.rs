//! TCP, as nf_conntrack_proto_tcp.c has it: a table of states, and windows.
//!
//! The box stands between the two ends and sees what each sent, but not whether it arrived. After Guido van Rooij's "Real
//! stateful TCP packet filtering in IP Filter" it keeps, for each side:
//!
//! ```text
//!  end      the highest seq + len that it sent
//!  maxend   the highest ack + window that the other side sent: it may send up to there
//!  maxwin   the largest window that it offered
//!  maxack   the highest ack that it sent
//! ```
//!
//! and takes a segment of the sender for one of the connection if
//!
//! ```text
//!  I    seq        <= sender.maxend                     not beyond what the receiver allowed
//!  II   seq + len  >= sender.end - receiver.maxwin      not before what it may still be sent again
//!  III  (s)ack     <= receiver.end                      not of data that was never seen
//!  IV   (s)ack     >= receiver.end - max(maxwin, 66000) not too old
//! ```
//!
//! What fails I or III is invalid; what fails II or IV is only late, passes, and changes nothing. `transitions` is the table,
//! `window` the inequalities, `track` the order of it all, `established` its short cut, `state` how it is packed.

mod established;
mod state;
#[cfg(test)]
mod tests;
mod track;
mod transitions;
mod window;

pub use state::{
    Side, Tcp, WORDS, can_early_drop, closed, exported, flag, forget_windows, imported, is_beginning, is_closing,
    number, state,
};
pub(super) use track::{in_the_middle, track};
