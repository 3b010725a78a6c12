//! tbf, where the configuration determines what becomes of each frame: 64 kbit/s are 8 bytes per millisecond, so what comes at
//! once finds the same tokens in both labs, however busy the machine is.

use crate::net::{Flow, Shaped};
use std::time::Duration;

const QUIET: Duration = Duration::from_millis(500);

fn tbf(name: &str, parameters: &str) -> Shaped {
    let line = format!("tc qdisc add dev d1 root handle 1: tbf {parameters}");
    Shaped::start(name, 2, &[&line])
}

/// 8 frames pass at once, 6 wait, and the rest is dropped, of whatever burst they come in.
#[test]
fn a_burst_passes_waits_and_is_dropped() {
    let mut shaped = tbf("tbf_burst", "rate 64kbit burst 4200 limit 3000");
    shaped.burst(&[(Flow::new(0, 500), 40)]);
    shaped.rest(QUIET);
    assert_eq!(shaped.came(0), 14);
    shaped.same_order();
    shaped.same_times();
    shaped.finish_exact();
}

/// Frames of several lengths: one that is too long for what is left of the queue is dropped, a shorter one behind it is not.
#[test]
fn a_short_frame_finds_room_behind_a_long_one() {
    let mut shaped = tbf("tbf_lengths", "rate 64kbit burst 1600 limit 1700");
    let (long, short) = (Flow::new(0, 1400), Flow::new(1, 150));
    shaped.burst(&[(long, 3), (short, 4), (long, 1), (short, 1)]);
    shaped.rest(QUIET);
    shaped.same_order();
    shaped.same_times();
    shaped.finish_exact();
}

/// Tokens that came while nothing did are there afterwards, and no more of them than the bucket holds. A frame is a quarter of a
/// second here, and each burst finds a third of one beside whole ones: so a stall of some 150 ms changes nothing.
#[test]
fn a_burst_after_silence() {
    let mut shaped = tbf("tbf_silence", "rate 16kbit burst 4200 limit 1100");
    let flow = Flow::new(0, 500);
    for silence_ms in [0, 2000, 825, 3000, 75] {
        shaped.wait(Duration::from_millis(silence_ms));
        shaped.burst(&[(flow, 30)]);
        shaped.rest(QUIET);
    }
    shaped.same_order();
    shaped.finish_exact();
}

/// Longer than what the bucket can ever hold: dropped, and it costs the others nothing.
#[test]
fn a_frame_longer_than_the_bucket() {
    let mut shaped = tbf("tbf_long", "rate 64kbit burst 1000 limit 4000");
    shaped.burst(&[
        (Flow::new(0, 1200), 3),
        (Flow::new(1, 900), 3),
        (Flow::new(2, 1001), 2),
        (Flow::new(3, 990), 1),
    ]);
    shaped.rest(QUIET);
    assert_eq!([0, 1, 2, 3].map(|flow| shaped.came(flow)), [0, 3, 0, 1]);
    shaped.same_order();
    shaped.same_times();
    shaped.finish_exact();
}

/// The second bucket: what the first would let pass at once goes at the rate of the second.
#[test]
fn peakrate() {
    let mut shaped = tbf(
        "tbf_peak",
        "rate 64kbit burst 8000 limit 3000 peakrate 256kbit mtu 1600",
    );
    shaped.burst(&[(Flow::new(0, 700), 3)]);
    shaped.rest(QUIET);
    shaped.burst(&[(Flow::new(1, 700), 20)]);
    shaped.rest(QUIET);
    shaped.same_order();
    shaped.same_times();
    shaped.finish_exact();
}

/// With a peak rate, `mtu` is the longest frame that passes.
#[test]
fn peakrate_and_mtu() {
    let mut shaped = tbf("tbf_mtu", "rate 64kbit burst 8000 limit 6000 peakrate 512kbit mtu 1000");
    shaped.burst(&[
        (Flow::new(0, 1100), 2),
        (Flow::new(1, 990), 4),
        (Flow::new(2, 1400), 1),
        (Flow::new(3, 60), 2),
    ]);
    shaped.rest(QUIET);
    assert_eq!([0, 1, 2, 3].map(|flow| shaped.came(flow)), [0, 4, 0, 2]);
    shaped.same_order();
    shaped.same_times();
    shaped.finish_exact();
}

/// Each frame counts 100 bytes more, and 700 at least.
#[test]
fn overhead_and_mpu() {
    let mut shaped = tbf("tbf_overhead", "rate 64kbit burst 5000 limit 2500 overhead 100 mpu 700");
    shaped.burst(&[(Flow::new(0, 80), 10), (Flow::new(1, 590), 2), (Flow::new(2, 900), 3)]);
    shaped.rest(QUIET);
    shaped.burst(&[(Flow::new(0, 80), 2), (Flow::new(1, 610), 6)]);
    shaped.rest(QUIET);
    shaped.same_order();
    shaped.same_times();
    shaped.finish_exact();
}

/// Frames travel in cells of 53 bytes with 48 of theirs.
#[test]
fn linklayer_atm() {
    let mut shaped = tbf("tbf_atm", "rate 64kbit burst 5000 limit 2500 overhead 8 linklayer atm");
    shaped.burst(&[
        (Flow::new(0, 88), 9),
        (Flow::new(1, 89), 9),
        (Flow::new(2, 137), 9),
        (Flow::new(3, 1000), 3),
    ]);
    shaped.rest(QUIET);
    shaped.burst(&[(Flow::new(0, 88), 60)]);
    shaped.rest(QUIET);
    shaped.same_order();
    shaped.same_times();
    shaped.finish_exact();
}

/// The queue's bound by the time that a frame may wait.
#[test]
fn latency() {
    let mut shaped = tbf("tbf_latency", "rate 64kbit burst 2600 latency 300ms");
    shaped.burst(&[(Flow::new(0, 500), 40)]);
    shaped.rest(QUIET);
    shaped.same_order();
    shaped.same_times();
    shaped.finish_exact();
}

/// Both families pay from one bucket.
#[test]
fn both_families() {
    let line = "tc qdisc add dev d1 root handle 1: tbf rate 64kbit burst 4200 limit 3000";
    let mut shaped = Shaped::start_both("tbf_both", 2, &[line]);
    shaped.burst(&[
        (Flow::new(0, 500), 3),
        (Flow::new(1, 500).v6(), 7),
        (Flow::new(0, 500), 9),
    ]);
    shaped.rest(QUIET);
    shaped.same_order();
    shaped.same_times();
    shaped.finish(1.0);
}

/// What comes by several ports leaves by one bucket; what leaves by the others is not touched.
#[test]
fn one_port_of_three() {
    let line = "tc qdisc add dev d1 root handle 1: tbf rate 64kbit burst 4200 limit 3000";
    let mut shaped = Shaped::start("tbf_one_of_three", 3, &[line]);
    for seq in 0..10 {
        let [first, second] = [Flow::new(0, 500), Flow::new(1, 500).ports(2, 1)];
        shaped.burst(&[(first, 1), (second, 1), (Flow::new(2, 500).ports(1, 2), 10)]);
        if seq == 0 {
            shaped.wait(Duration::from_millis(2));
        }
    }
    shaped.rest(QUIET);
    assert_eq!(shaped.came(2), 100);
    let [kernel, tested] = shaped.sides().map(|side| side.of(0).len() + side.of(1).len());
    assert_eq!((kernel, tested), (14, 14));
    shaped.finish_exact();
}

/// Each frame counts more, as on a line that puts something around it.
#[test]
fn a_root_may_count_more_for_each_frame() {
    let line = "tc qdisc add dev d1 root handle 1: stab overhead 24 tbf rate 64kbit burst 4200 limit 3000";
    let mut shaped = Shaped::start("tbf_overhead_all", 2, &[line]);
    shaped.burst(&[(Flow::new(0, 500), 30)]);
    shaped.rest(QUIET);
    shaped.same_order();
    shaped.same_times();
    shaped.finish_exact();
}

/// A table of sizes is not carried: what leaves by that port is the kernel's, and `check` says so.
#[test]
fn a_table_of_sizes_stays() {
    let line = "tc qdisc add dev d1 root handle 1: stab overhead 24 linklayer atm mtu 2048 tsize 512 tbf rate 64kbit \
                burst 4200 limit 3000";
    let mut shaped = Shaped::start("tbf_stab", 2, &[line]);
    shaped.burst(&[(Flow::new(0, 500), 30)]);
    shaped.rest(QUIET);
    shaped.same_order();
    shaped.stays("d1");
    let totals = shaped.finish(0.0);
    assert_eq!(totals.forwarded, 0, "forwarded around a qdisc that is not carried");
}
