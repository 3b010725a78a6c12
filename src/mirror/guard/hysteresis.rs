//! htb's hysteresis: a parameter of the module, one for the whole machine, that may be written at any time, of which nothing tells.
//! Where it is not 0, a class keeps its mode until it owes `burst` or `cburst` (htb_lowater, htb_hiwater of sch_htb.c), and
//! bursts are up to twice as long. The htb here has none, so with it a tree that has an htb is the kernel's.
//!
//! The file stays open, and a reading is one `pread`. What cannot be read counts as on.

use super::super::sysctl::Watched;

const PATH: &str = "/sys/module/sch_htb/parameters/htb_hysteresis";

/// Reads the parameter.
#[derive(Debug)]
pub(super) struct Hysteresis(Watched);

impl Hysteresis {
    /// Opens the file when it is first read: the module may come with the first htb.
    pub(super) fn new() -> Self {
        Self(Watched::at(PATH))
    }

    /// Why no htb is carried, if that is so.
    pub(super) fn why(&mut self) -> Option<String> {
        let value = self.0.read().or_else(|| {
            // The module that it was of may be gone and have come again.
            self.0 = Watched::at(PATH);
            self.0.read()
        });
        match value {
            Some(0) => None,
            Some(value) => Some(format!("htb_hysteresis is {value}")),
            None => Some(format!("{PATH} cannot be read")),
        }
    }
}
