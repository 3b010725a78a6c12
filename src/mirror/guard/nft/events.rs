//! Follows a ruleset whose sets change by the events of commits, and has it read now and then all the same.
//!
//! ```text
//!  generation asked for --> events taken in, until the rules are of it --> they are at hand, and nothing was read
//!                       \-> anything else was told, or the rest does not come --> a whole reading
//! ```
//!
//! The kernel raises the generation before it tells of the commit, so what is told may come a moment after what is asked:
//! it is waited for, [`TOLD_WITHIN`]. Rules that were followed for [`AUDIT_EVERY`] are compared with a reading; one that fails,
//! for the ruleset changes meanwhile, is tried again after that time.

use super::{Ruleset, generation, load};
use crate::mirror::nft::Nft as Reader;
use crate::mirror::nft::deltas::{Commits, HasToBeRead, is_later};
use crate::mirror::nlsock::{Listener, NlSock};
use crate::port::wait::monotonic_ns;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// For how long what the kernel has begun to tell is waited for.
const TOLD_WITHIN: Duration = Duration::from_millis(5);
/// The pause between two looks at it.
const LOOK_EVERY: Duration = Duration::from_micros(200);
/// How long rules are followed before they are compared with a reading.
const AUDIT_EVERY: Duration = Duration::from_secs(60);
/// Room for what is not taken yet, in bytes: some ten thousand commits of an element.
pub(in super::super) const ROOM: usize = 16 << 20;

/// See the file's head. Hears nothing where the kernel has no nf_tables.
#[derive(Debug)]
pub(super) struct Events {
    listener: Option<Listener>,
    commits: Commits,
    /// When the rules were read last, or compared with a reading.
    read: Instant,
}

impl Events {
    pub(super) fn new(listener: Option<Listener>) -> Self {
        Self {
            listener,
            commits: Commits::default(),
            read: Instant::now(),
        }
    }

    pub(super) fn fd(&self) -> Option<RawFd> {
        self.listener.as_ref().map(AsRawFd::as_raw_fd)
    }

    /// Takes in what was told; whether there was anything.
    pub(super) fn hear(&mut self) -> bool {
        let Some(listener) = &mut self.listener else {
            return false;
        };
        let heard = listener.hear(|message| self.commits.take(message));
        self.commits.heard(heard);
        heard.any
    }

    /// Brings a ruleset to the generation `asked`, or a later one, by what was told; false if it has to be read.
    pub(super) fn follow(&mut self, ruleset: &mut Ruleset, asked: u32) -> bool {
        let until = Instant::now() + TOLD_WITHIN;
        loop {
            self.hear();
            match self.commits.apply(&ruleset.rules, ruleset.generation, monotonic_ns()) {
                Ok(Some((generation, rules))) => (ruleset.generation, ruleset.rules) = (generation, Arc::new(rules)),
                Ok(None) => {}
                Err(HasToBeRead) => return false,
            }
            if !is_later(asked, ruleset.generation) {
                return true;
            }
            if self.listener.is_none() || Instant::now() > until {
                return false;
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// All is about to be read.
    pub(super) fn forget(&mut self) {
        self.commits.forget();
        self.read = Instant::now();
    }

    /// Compares rules that were followed with a reading, if that is due; where they differ, the reading counts.
    pub(super) fn audit(&mut self, sock: &mut NlSock, reader: &mut Reader, ruleset: &mut Ruleset) {
        if self.read.elapsed() < AUDIT_EVERY {
            return;
        }
        self.read = Instant::now();
        let fresh = load(sock, reader, Some(&ruleset.rules), ruleset.generation);
        if let Ok(fresh) = fresh
            && generation(sock).is_ok_and(|now| now == ruleset.generation)
        {
            adopt_if_other(ruleset, fresh);
        }
    }
}

/// Takes `fresh` for a ruleset of the same generation if its sets have other elements.
fn adopt_if_other(ruleset: &mut Ruleset, mut fresh: Ruleset) {
    let now_ns = monotonic_ns();
    let [ours, theirs] = [&ruleset.rules, &fresh.rules].map(|rules| &rules.ruleset.sets);
    if ours.len() == theirs.len() && ours.iter().zip(theirs).all(|(a, b)| a.has_what(b, now_ns)) {
        return;
    }
    if let Some(rules) = Arc::get_mut(&mut fresh.rules) {
        rules.taken.divergences += 1;
    }
    *ruleset = fresh;
}
