//! What the trials of a search say: a receiver that had no time to look, frames that the source left out, a clock that
//! jumped. A search has tens of them, and bursts hundreds, so that each kind of note is kept once, with the number of
//! trials that had one like it. Notes are of one kind where only their numbers differ.
//!
//! Left out are rates that were not reached: the search sees to them, and says it where that is what it ends with. Trials
//! of delays are not heard here, since their notes stand beside their share of the throughput.

use crate::bench::outcome::Outcome;

/// What was said so far.
#[derive(Default)]
pub(super) struct Said {
    trials: u32,
    kinds: Vec<Kind>,
}

struct Kind {
    without_numbers: String,
    first: String,
    trials: u32,
}

/// Whether a note is of a rate that was not reached.
pub(super) fn is_of_rate(note: &str) -> bool {
    note.contains("rate was not reached")
}

impl Said {
    /// Hears a trial.
    pub(super) fn hear(&mut self, outcome: &Outcome) {
        self.trials += 1;
        for note in outcome.notes.iter().filter(|note| !is_of_rate(note)) {
            let without_numbers: String = note.chars().filter(|c| !c.is_ascii_digit()).collect();
            let known = self
                .kinds
                .iter_mut()
                .find(|kind| kind.without_numbers == without_numbers);
            match known {
                Some(kind) => kind.trials += 1,
                None => self.kinds.push(Kind {
                    without_numbers,
                    first: note.clone(),
                    trials: 1,
                }),
            }
        }
    }

    /// A line for each kind.
    pub(super) fn notes(&self) -> Vec<String> {
        let line = |kind: &Kind| match kind.trials {
            1 => format!("in 1 of {} trials: {}", self.trials, kind.first),
            many => format!(
                "in {many} of {} trials, in the first of them: {}",
                self.trials, kind.first
            ),
        };
        self.kinds.iter().map(line).collect()
    }
}
