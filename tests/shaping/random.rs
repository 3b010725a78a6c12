//! Random traffic, configurations and rings: whatever happens, each packet is counted once, and each frame is somewhere.

use super::env::number;
use super::{BURST, Bench, DropReason, Fault, PortIndex, assert_balanced, lab, lost, publish, set, shaped, tree};
use bypath::packet::Family;
use bypath::table::qdisc::Shaping;
use rand::{RngExt, SeedableRng, rngs::ChaCha8Rng};
use std::sync::Arc;

fn shaping(rng: &mut ChaCha8Rng) -> Shaping {
    let rate = 10u64.pow(rng.random_range(3..10));
    match rng.random_range(0..5) {
        0 => Shaping::Unshaped,
        1 => tree::fifo(rng.random_range(0..2000)),
        2 => tree::tbf(rate),
        3 => tree::htb(rng.random_range(1..8), rng.random_range(0..8), rate),
        _ => {
            let mut child = |_| match shaping(rng) {
                Shaping::Root(root) => Some(root),
                _ => None,
            };
            Shaping::Queues((0..2).map(&mut child).collect())
        }
    }
}

#[test]
fn no_frame_is_lost_without_a_count() {
    let seed = number("BYPATH_SEED", 1);
    println!("seed {seed}");
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut now_ns = 1_000_000_000;
    let mut gone = 0;
    for _ in 0..30 {
        let mut bench = Bench::new(shaped(shaping(&mut rng)), &[]);
        for _ in 0..400 {
            now_ns += 10u64.pow(rng.random_range(0..8));
            match rng.random_range(0..20) {
                0 => publish(&bench, |snapshot| {
                    let port = PortIndex(rng.random_range(0..2));
                    set(snapshot, port, shaping(&mut rng));
                }),
                1 => {
                    let faults = [
                        Fault::None,
                        Fault::None,
                        Fault::Slow(7),
                        Fault::Down,
                        Fault::DropEvery(3),
                    ];
                    bench.ports[rng.random_range(0..2)].set_fault(faults[rng.random_range(0..5)]);
                }
                2 => publish(&bench, |snapshot| {
                    Arc::make_mut(&mut snapshot.ifaces)[1].up = rng.random_ratio(4, 5);
                }),
                _ => {}
            }
            for _ in 0..rng.random_range(0..BURST) {
                let family = Family::ALL[rng.random_range(0..2)];
                let packet = lab::udp(family, lab::gateway(family), rng.random_range(18..1400));
                assert!(bench.ports[0].push(&packet), "the fill ring ran dry");
            }
            bench.turn_at(now_ns);
            assert_balanced(&bench);
        }
        gone += lost(&bench, DropReason::QdiscGone);
        bench.ports.iter().for_each(|port| port.set_fault(Fault::None));
        bench.assert_audit();
    }
    assert!(gone > 1_000, "{gone} frames waited in a qdisc that went");
}
