//! Seeded random qdiscs and arrivals: tbf with all its parameters, trees of htb, leaves of all kinds; bursts of random flows and
//! lengths at random times. Which frames came, of each flow and in which order, must be the same.
//!
//! Rates are low and bursts short, so that a frame's tokens take tens of milliseconds, against some hundredths of one that the
//! arrivals differ by. `BYPATH_TWIN_SEED=N` replays one; `BYPATH_SHAPE_SEEDS=A-B` runs others.

use crate::net::{Flow, Shaped};
use rand::{RngExt, SeedableRng, rngs::ChaCha8Rng};
use std::time::Duration;

type Random = ChaCha8Rng;

const FLOWS: u16 = 6;
const BURSTS: usize = 8;

/// Those that are asked for, or so many.
pub fn seeds(most: u64) -> Vec<u64> {
    let number = |text: &str| text.parse().unwrap_or_else(|_| panic!("`{text}` is no seed"));
    if let Ok(seed) = std::env::var("BYPATH_TWIN_SEED") {
        return vec![number(&seed)];
    }
    match std::env::var("BYPATH_SHAPE_SEEDS") {
        Ok(range) => {
            let (first, last) = range.split_once('-').expect("A-B");
            (number(first)..=number(last)).collect()
        }
        Err(_) => (1..=most).collect(),
    }
}

fn leaf(random: &mut Random) -> Option<String> {
    match random.random_range(0..5) {
        0 => None,
        1 => Some(format!("bfifo limit {}", random.random_range(600..5000))),
        2 => Some(format!("pfifo_head_drop limit {}", random.random_range(1..9))),
        _ => Some(format!("pfifo limit {}", random.random_range(1..9))),
    }
}

/// Sizes of frames as the link counts them.
fn sizes(random: &mut Random) -> String {
    match random.random_range(0..4) {
        0 => format!(
            "overhead {} mpu {}",
            random.random_range(0..60),
            random.random_range(0..300)
        ),
        1 => format!("overhead {} linklayer atm", random.random_range(0..40)),
        _ => String::new(),
    }
}

fn tbf(random: &mut Random) -> Vec<String> {
    let rate = random.random_range(32..200);
    let burst = random.random_range(700..6000);
    let bound = match random.random_bool(0.5) {
        true => format!("limit {}", random.random_range(800..8000)),
        false => format!("latency {}ms", random.random_range(50..500)),
    };
    let peak = match random.random_bool(0.3) {
        true => format!(
            "peakrate {}kbit mtu {}",
            rate * random.random_range(2..6),
            random.random_range(900..1700)
        ),
        false => String::new(),
    };
    let sizes = sizes(random);
    let mut lines = vec![format!(
        "tc qdisc add dev d1 root handle 1: tbf rate {rate}kbit burst {burst} {bound} {peak} {sizes}"
    )];
    if let Some(leaf) = random.random_bool(0.4).then(|| leaf(random)).flatten() {
        lines.push(format!("tc qdisc add dev d1 parent 1:1 handle 10: {leaf}"));
    }
    lines
}

/// A class below `parent`: its line.
fn class(random: &mut Random, parent: &str, id: u32) -> String {
    let rate = random.random_range(24..130);
    let ceil = rate + random.random_range(0..3) * random.random_range(0..100);
    let (burst, cburst) = (random.random_range(600..5000), random.random_range(600..5000));
    let (prio, quantum, sizes) = (random.random_range(0..3), random.random_range(300..4000), sizes(random));
    format!(
        "tc class add dev d1 parent {parent} classid 1:{id:x} htb rate {rate}kbit ceil {ceil}kbit burst {burst} \
         cburst {cburst} prio {prio} quantum {quantum} {sizes}"
    )
}

fn htb(random: &mut Random) -> Vec<String> {
    let default = [0x20, 0x21, 0x22, 0x99][random.random_range(0..4)];
    let mut lines = vec![format!("tc qdisc add dev d1 root handle 1: htb default {default:x}")];
    let inner = random.random_range(0..3);
    let mut parents = vec!["1:".to_string()];
    for number in 0..inner {
        let parent = parents[random.random_range(0..parents.len())].clone();
        lines.push(class(random, &parent, 1 + number));
        parents.push(format!("1:{}", 1 + number));
    }
    let leaves = random.random_range(1..5);
    let mut with_leaves = std::collections::BTreeSet::new();
    for number in 0..leaves {
        let parent = parents[random.random_range(0..parents.len())].clone();
        lines.push(class(random, &parent, 0x20 + number));
        with_leaves.insert(parent);
        if let Some(leaf) = leaf(random) {
            lines.push(format!(
                "tc qdisc add dev d1 parent 1:{:x} handle {:x}: {leaf}",
                0x20 + number,
                0x20 + number
            ));
        }
    }
    for flow in 0..FLOWS {
        let target = match random.random_range(0..8) {
            0 => continue,
            1 => "1:98".to_string(),
            2 => "1:0".to_string(),
            _ => format!("1:{:x}", 0x20 + random.random_range(0..leaves)),
        };
        let port = 5000 + flow;
        lines.push(format!(
            "tc filter add dev d1 parent 1: protocol ip prio 1 u32 match ip dport {port} 0xffff flowid {target}"
        ));
    }
    lines
}

fn run(seed: u64) {
    let mut random = Random::seed_from_u64(seed);
    let lines = match random.random_bool(0.35) {
        true => tbf(&mut random),
        false => htb(&mut random),
    };
    println!("seed {seed}:\n  {}", lines.join("\n  "));
    let words: Vec<&str> = lines.iter().map(String::as_str).collect();
    let mut shaped = Shaped::start(&format!("shape_seed_{seed}"), 2, &words);
    for _ in 0..BURSTS {
        let bursts: Vec<(Flow, u64)> = (0..random.random_range(1..5))
            .map(|_| {
                let bytes = [60, 200, 500, 777, 1000, 1514][random.random_range(0..6)];
                let tos = [0, 0x10, 0x08][random.random_range(0..3)];
                (
                    Flow::new(random.random_range(0..FLOWS), bytes).tos(tos),
                    random.random_range(1..14),
                )
            })
            .collect();
        shaped.burst(&bursts);
        shaped.wait(Duration::from_millis(random.random_range(5..600)));
    }
    shaped.rest(Duration::from_millis(1200));
    shaped.same_frames();
    shaped.same_times();
    shaped.finish_exact();
}

#[test]
fn random_qdiscs() {
    for seed in seeds(8) {
        println!("replay: BYPATH_TWIN_SEED={seed}");
        run(seed);
    }
}
