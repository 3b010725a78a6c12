//! Who is looked at in this turn, of many things that the kernel does not tell changes of: what has to be asked for one by one,
//! many times a second, is shared out over several turns, so that it costs the same however many ports there are.
//!
//! [`LEAST`] are looked at each time; of more, a quarter. So nothing is older than four turns. What the kernel does tell changes of
//! is read then, and now and then all the same ([`Lookout`]): an event can be lost, and some changes have none.

use std::time::{Duration, Instant};

/// So many are looked at in every turn.
pub const LEAST: usize = 16;
/// After so many turns everything has been looked at.
const TURNS: usize = 4;

/// Goes round.
#[derive(Clone, Copy, Debug, Default)]
pub struct Turns {
    next: usize,
}

impl Turns {
    /// The next turn of `all` things; whether the one at a place is due in it.
    pub fn take(&mut self, all: usize) -> impl Fn(usize) -> bool + use<> {
        let count = all.div_ceil(TURNS).max(LEAST);
        let first = self.next.checked_rem(all).unwrap_or(0);
        self.next = first + count;
        move |place| {
            (place + all - first)
                .checked_rem(all)
                .is_some_and(|after| after < count)
        }
    }
}

/// When to read again what there are events about.
#[derive(Clone, Copy, Debug)]
pub struct Lookout {
    after: Duration,
    read: Option<Instant>,
}

impl Lookout {
    /// Reads `after` the last time, if there was no event.
    pub fn new(after: Duration) -> Self {
        Self { after, read: None }
    }

    /// Whether to read now; `news`: something has changed. Yes the first time.
    pub fn is_due(&mut self, news: bool) -> bool {
        let is_due = news || self.read.is_none_or(|at| at.elapsed() >= self.after);
        if is_due {
            self.read = Some(Instant::now());
        }
        is_due
    }

    /// What was read does not count: the next time is due.
    pub fn forget(&mut self) {
        self.read = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_are_due_in_each_turn_and_many_within_four() {
        let mut turns = Turns::default();
        for all in [0, 1, 16, 17, 64, 250, 3] {
            let mut seen = vec![0; all];
            let mut most = 0;
            for _ in 0..4 {
                let is_due = turns.take(all);
                let due: Vec<usize> = (0..all).filter(|&place| is_due(place)).collect();
                most = most.max(due.len());
                due.into_iter().for_each(|place| seen[place] += 1);
            }
            assert!(seen.iter().all(|&times| times > 0), "{all}: {seen:?}");
            assert!(most <= all.div_ceil(4).max(LEAST), "{all}: {most}");
            assert!(all > LEAST || seen.iter().all(|&times| times == 4), "{all}: {seen:?}");
        }
    }

    #[test]
    fn what_has_events_is_read_at_first_by_them_and_now_and_then() {
        let mut rare = Lookout::new(Duration::from_secs(3600));
        assert_eq!(
            [false, false, true, false].map(|news| rare.is_due(news)),
            [true, false, true, false]
        );
        rare.forget();
        assert!(rare.is_due(false));
        let mut ever = Lookout::new(Duration::ZERO);
        assert!((0..3).all(|_| ever.is_due(false)));
    }
}
