//! Seeded random bridges: members, flags, entries made by hand, MTUs, rules; stations that talk, are new, or move; frames of
//! every kind; and changes of all that between rounds. One seed makes all of it.
//!
//! | variable | default | what |
//! |---|---|---|
//! | BYPATH_TWIN_CONFIGS | 12 | configurations |
//! | BYPATH_TWIN_PACKETS | 24000 | packets over all configurations |
//! | BYPATH_TWIN_SEED | 1 | the seed of the first configuration; the others follow. Printed; replays with CONFIGS=1 |
//!
//! A frame that moves a station comes alone, with a pause behind it: until the kernel's word of it has come, bypath sends to
//! where the station was.

#[path = "random/config.rs"]
mod config;
#[path = "random/traffic.rs"]
mod traffic;

use crate::lab::bypath::Totals;
use crate::lab::env::number;
use crate::lab::packet::Mac;
use crate::lab::twin::{Mode, Share, Twin};
use crate::net::{setup, wait_learned};
use config::Network;
use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};
use std::collections::BTreeMap;
use std::time::Instant;

/// The packets of a configuration come in so many parts, with a change between two.
const ROUNDS: usize = 4;
/// What bypath at least must have decided about by itself, of the packets of all configurations that can be carried.
const SHARE_LEAST: f64 = 0.7;

/// One of them.
fn pick<'a, T>(random: &mut ChaCha8Rng, from: &'a [T]) -> &'a T {
    &from[random.random_range(0..from.len())]
}

#[derive(Default)]
struct Sums {
    injected: u64,
    forwarded: u64,
    entries: usize,
    punted: BTreeMap<String, u64>,
    dropped: BTreeMap<String, u64>,
}

impl Sums {
    fn add(&mut self, other: Sums) {
        self.injected += other.injected;
        self.forwarded += other.forwarded;
        self.entries += other.entries;
        for (into, from) in [(&mut self.punted, other.punted), (&mut self.dropped, other.dropped)] {
            for (reason, count) in from {
                *into.entry(reason).or_default() += count;
            }
        }
    }

    /// What bypath decided about, of all: forwarded, or dropped as the kernel's bridge drops it.
    fn share(&self) -> f64 {
        (self.forwarded + self.dropped.values().sum::<u64>()) as f64 / self.injected.max(1) as f64
    }
}

#[test]
fn random_bridges() {
    let configs = number("BYPATH_TWIN_CONFIGS", 12);
    let packets = number("BYPATH_TWIN_PACKETS", 24_000).div_ceil(configs) as usize;
    let first = number("BYPATH_TWIN_SEED", 1);
    let since = Instant::now();
    let (mut all, mut carriable) = (Sums::default(), Sums::default());
    for seed in first..first + configs {
        let (sums, can_be_carried) = run(seed, packets);
        if can_be_carried {
            carriable.add(sums);
        } else {
            all.add(sums);
        }
    }
    let share = carriable.share();
    let (left, carried) = (all.injected, carriable.injected);
    all.add(carriable);
    println!(
        "twin bridge random: {} packets over {configs} configurations (seeds from {first}), {} entries learned, 0 divergences, \
         {:.1} % forwarded; decided {:.1} %, and {:.1} % of the {carried} that can be carried (not {left}); punted: {}; dropped: {}; \
         {:.0?}",
        all.injected,
        all.entries,
        all.forwarded as f64 * 100.0 / all.injected as f64,
        all.share() * 100.0,
        share * 100.0,
        Totals::list(&all.punted),
        Totals::list(&all.dropped),
        since.elapsed(),
    );
    let is_judged = Mode::from_env() == Mode::Bypath && carried > 0;
    assert!(
        !is_judged || share >= SHARE_LEAST,
        "decided {share:.3}, wanted {SHARE_LEAST}"
    );
}

/// The address of Ethernet that a frame is from.
fn source(frame: &[u8]) -> Mac {
    frame[6..12].try_into().expect("six bytes")
}

/// One configuration and its packets; whether it can be carried.
fn run(seed: u64, packets: usize) -> (Sums, bool) {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut network = Network::random(&mut random);
    let mut setup = setup(&format!("random_{seed}"), network.ports, network.commands());
    setup.layout.mtu = network.mtu.clone();
    setup.seed = Some(seed);
    setup.clock_free = true;
    // What is dropped by a rule where that is stateless, bypath may drop.
    setup.arguments = match seed % 8 {
        1 | 5 => vec!["--workers".into(), "2".into()],
        3 => vec!["--attach".into(), "generic".into()],
        _ => Vec::new(),
    };
    let mut twin = Twin::start(setup);
    for round in 0..ROUNDS {
        if round > 0 {
            let change = network.change(&mut random);
            twin.change(&change.iter().map(String::as_str).collect::<Vec<_>>());
        }
        twin.settle_links();
        let mut heard = Vec::new();
        for port in 0..network.ports {
            let frames = traffic::hello(&network, port);
            twin.inject(port, &frames);
            heard.extend(frames.iter().map(|frame| source(frame)));
        }
        wait_learned(&twin, heard);
        let mut left = packets / ROUNDS;
        while left > 0 {
            let port = random.random_range(0..network.ports);
            if random.random_bool(0.03) {
                let frame = traffic::moving(&mut random, &mut network, port);
                let heard = source(&frame);
                twin.inject(port, &[frame]);
                wait_learned(&twin, [heard]);
                left -= 1;
                continue;
            }
            let frames = traffic::burst(&mut random, &network, port, left.min(64));
            left -= frames.len();
            twin.inject(port, &frames);
        }
        twin.compare_fdbs(&format!("after round {round}"));
    }
    twin.settle();
    let entries = twin.compare_fdbs("at the end");
    let outcome = twin.finish(Share::AtLeast(0.0));
    let sums = Sums {
        injected: outcome.injected,
        forwarded: outcome.totals.forwarded,
        entries,
        punted: outcome.totals.punted,
        dropped: outcome.totals.dropped,
    };
    (sums, network.can_be_carried)
}
