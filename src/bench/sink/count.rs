//! The sink that only counts: an XDP program drops what arrives, and this reads its counters. No thread, no ring and no copy
//! take part, so that what is measured has the machine to itself.

use super::program::{Counts, Program};
use super::{Found, Sink};
use crate::port::link::Link;
use std::time::Duration;

/// A port that counts and drops.
#[derive(Debug)]
pub(super) struct Count {
    program: Program,
    before: Counts,
}

impl Count {
    pub(super) fn open(name: &str, first: u16) -> Result<Self, String> {
        let link = Link::query(name).map_err(|error| error.to_string())?;
        link.check_ethernet().map_err(|error| error.to_string())?;
        Ok(Self {
            program: Program::attach(&link, false, first)?,
            before: Counts::default(),
        })
    }
}

impl Sink for Count {
    fn begin(&mut self, run: u16, _flows: u32) -> Result<(), String> {
        self.program.set_run(run)?;
        self.before = self.program.counts()?;
        Ok(())
    }

    fn turn(&mut self) -> usize {
        0
    }

    fn pause(&self) -> Duration {
        Duration::from_millis(5)
    }

    fn arrived(&mut self) -> Result<u64, String> {
        Ok(self.program.counts()?.since(self.before).ours)
    }

    fn end(&mut self) -> Result<Found, String> {
        let counts = self.program.counts()?.since(self.before);
        Ok(Found {
            arrived: counts.ours,
            foreign: counts.foreign,
            ..Found::default()
        })
    }
}
