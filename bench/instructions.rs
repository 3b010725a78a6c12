//! Instructions per operation of every table and stage, as callgrind counts them: the same from run to run, where time on a
//! shared machine is not. `bench/instructions` runs this under valgrind, keeps what was counted and compares.
//!
//! ```text
//!  case: set-up, once to warm up │ measured(run) ... │ finish(name, operations)
//!                 not counted    │ counted           │ callgrind writes down the count and begins anew
//! ```
//!
//! callgrind knows [`measured`] and [`finish`] by their names (`--toggle-collect`, `--dump-before`), so nothing of valgrind is
//! linked. What it counts are instructions of this program, not time: a miss of the cache costs nothing here, and neither does
//! the kernel. Set-ups are those of the criterion benches (`bench/setup`), with smaller tables where their size changes no
//! instruction, since all of it runs 50 times slower. Without valgrind it runs each case and counts nothing.

#[path = "cases/boxes.rs"]
mod boxes;
#[path = "../tests/box/bridge.rs"]
mod bridge;
#[path = "setup/connections.rs"]
mod connections;
#[path = "setup/frames.rs"]
mod frames;
#[path = "../tests/box/mod.rs"]
mod lab;
#[path = "setup/qdiscs.rs"]
mod qdiscs;
#[path = "setup/routes.rs"]
mod routes;
#[path = "../tests/box/rules.rs"]
mod rules;
#[path = "setup/rulesets.rs"]
mod rulesets;
#[path = "cases/stages.rs"]
mod stages;
#[path = "cases/tables.rs"]
mod tables;
#[allow(dead_code)]
#[path = "../tests/shaping/tree.rs"]
mod tree;
#[path = "setup/walks.rs"]
mod walks;

use std::hint::black_box;

/// What is counted is what runs in here.
#[inline(never)]
fn measured(run: &mut dyn FnMut()) {
    run();
    // Not a tail call: callgrind sees the end by the return.
    black_box(());
}

/// A case is over.
#[inline(never)]
fn finish(name: &str, operations: u64) {
    println!("case {name} {operations}");
}

/// The cases that are asked for.
pub struct Count {
    filters: Vec<String>,
}

impl Count {
    fn is_wanted(&self, name: &str) -> bool {
        self.filters.is_empty() || self.filters.iter().any(|filter| name.starts_with(filter.as_str()))
    }

    /// Whether any case of a group is: its set-up may be left out. A group is what stands before the first slash.
    pub fn is_group_wanted(&self, group: &str) -> bool {
        self.is_wanted(group) || self.filters.iter().any(|filter| filter.starts_with(group))
    }

    /// One case: so many operations by each run.
    pub fn case(&mut self, name: &str, operations: usize, mut run: impl FnMut()) {
        if self.is_wanted(name) {
            run();
            measured(&mut run);
            finish(name, operations as u64);
        }
    }

    /// One case that gives away what is to be run, time after time; each has so many operations.
    pub fn bursts(
        &mut self,
        name: &str,
        operations: usize,
        bursts: impl FnOnce(usize, &mut dyn FnMut(&mut dyn FnMut())),
    ) {
        const BURSTS: usize = 16;
        if self.is_wanted(name) {
            let mut before = 0;
            bursts(2 * BURSTS, &mut |run| {
                before += 1;
                if before <= BURSTS { run() } else { measured(run) }
            });
            finish(name, (BURSTS * operations) as u64);
        }
    }
}

fn main() {
    // `cargo bench` says so itself; everything else begins a name.
    let filters = std::env::args()
        .skip(1)
        .filter(|argument| !argument.starts_with('-'))
        .collect();
    let mut count = Count { filters };
    stages::wire(&mut count);
    tables::all(&mut count);
    stages::all(&mut count);
    boxes::all(&mut count);
}
