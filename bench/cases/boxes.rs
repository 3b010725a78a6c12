//! Cases of the walk: the boxes alone, with connections and NAT, between stations of a bridge, on a wire, in a whole worker.

use super::walks::{FRAMES, Kind, Phase, Turn, bridged, frames, tracked};
use super::{Count, lab, tree};
use bypath::packet::{BURST, Family, PortIndex, Verdict};
use bypath::stage::routing::Flows;
use bypath::worker::pipeline::{Here, Unobserved, walk};
use std::hint::black_box;
use std::sync::Arc;

/// All of them.
pub fn all(count: &mut Count) {
    walks(count);
    for (kind, word) in [
        (Kind::Untracked, "none"),
        (Kind::Udp, "udp"),
        (Kind::Tcp, "tcp"),
        (Kind::Nat, "nat"),
    ] {
        for (phase, when) in [(Phase::First, "first"), (Phase::Established, "established")] {
            if kind != Kind::Untracked || when == "established" {
                let name = format!("tracked/{word}/{when}");
                count.bursts(&name, BURST, |bursts, each| tracked(4096, kind, phase, bursts, each));
            }
        }
    }
    count.bursts("bridged/100", BURST, |bursts, each| bridged(100, false, bursts, each));
    count.bursts("bridged/wire", BURST, |bursts, each| bridged(100, true, bursts, each));
    for shaped in [false, true] {
        let mut snapshot = lab::snapshot(1_000, lab::FAR);
        if shaped {
            Arc::make_mut(&mut snapshot.ifaces)[1].shaping = tree::tbf(tree::NEVER_BINDS);
        }
        let name = if shaped { "turn/shaped" } else { "turn/plain" };
        count.bursts(name, BURST, |bursts, each| {
            let mut turn = Turn::new(snapshot);
            for _ in 0..bursts {
                turn.offer();
                each(&mut || turn.run());
            }
            turn.assert_all_forwarded();
        });
    }
}

fn walks(count: &mut Count) {
    const WALKS: usize = 20;
    if !count.is_group_wanted("walk") {
        return;
    }
    for (family, name) in [(Family::V4, "ipv4"), (Family::V6, "ipv6")] {
        let snapshot = lab::snapshot(1_000, lab::mac(0));
        let mut state = Flows::new(0, 1024);
        for known in [true, false] {
            let word = if known { "known" } else { "new" };
            // New frames each time, so that no hop limit runs low.
            let (mut frames, packets) = frames(family, 1_000);
            count.bursts(&format!("walk/{name}/{word}"), FRAMES * WALKS, |bursts, each| {
                for _ in 0..bursts {
                    let filled = frames.iter_mut().zip(&packets);
                    filled.for_each(|(frame, packet)| frame.fill(packet));
                    let mut here = Here::new(PortIndex(0), &snapshot);
                    here.by_destination = [known; 2];
                    each(&mut || {
                        for _ in 0..WALKS {
                            for frame in &mut frames {
                                let verdict = walk(frame, &here, &mut state, &mut Unobserved);
                                assert_eq!(black_box(verdict), Verdict::Forward(PortIndex(1)));
                            }
                        }
                    });
                }
            });
        }
    }
}
