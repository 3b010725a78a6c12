//! A policer against the lines of act_police.c, with tokens in nanoseconds as there, and against what a bucket promises.

use super::*;

const fn rate(bytes_per_second: u64) -> Rate {
    Rate {
        bytes_per_second,
        overhead: 0,
        mpu: 0,
        atm: false,
    }
}

fn police(bytes_per_second: u64, burst: u64) -> Police {
    Police {
        index: 1,
        limit: Some(Limit::Bytes(rate(bytes_per_second))),
        burst_ns: burst * 1_000_000_000 / bytes_per_second,
        peak: None,
        mtu: u32::MAX,
        conforming: Act::Pass,
        exceeding: Act::Drop,
    }
}

/// xorshift.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// tcf_police_act, for rates of which no byte lasts a fraction of a nanosecond.
struct Kernel {
    burst: i64,
    byte_ns: i64,
    peak: Option<(i64, i64)>,
    mtu: u32,
    toks: i64,
    ptoks: i64,
    t_c: i64,
}

impl Kernel {
    fn conforms(&mut self, bytes: u32, now: i64) -> bool {
        if bytes + 14 > self.mtu {
            return false;
        }
        let mut toks = (now - self.t_c).min(self.burst);
        let mut ptoks = 0;
        if let Some((byte_ns, most)) = self.peak {
            ptoks = (toks + self.ptoks).min(most) - i64::from(bytes) * byte_ns;
        }
        toks = (toks + self.toks).min(self.burst) - i64::from(bytes) * self.byte_ns;
        if toks | ptoks < 0 {
            return false;
        }
        (self.t_c, self.toks, self.ptoks) = (now, toks, ptoks);
        true
    }
}

#[test]
fn each_frame_is_judged_as_by_the_kernel() {
    for seed in 1..200 {
        let mut random = Random(seed * 0x9e37_79b9);
        let byte_ns = [1000, 125, 8, 1][random.below(4) as usize];
        let burst_bytes = 1500 + random.below(20_000);
        let peak = (random.below(2) == 1).then(|| (byte_ns.max(2) / 2, 1500));
        let mut config = police(1_000_000_000 / byte_ns, burst_bytes);
        config.mtu = 1200 + random.below(400) as u32;
        config.peak = peak.map(|(ns, bytes)| (rate(1_000_000_000 / ns), bytes * ns));
        let burst = config.burst_ns as i64;
        let policer = Policer::new(config.clone());
        let mut kernel = Kernel {
            burst,
            byte_ns: byte_ns as i64,
            peak: peak.map(|(ns, bytes)| (ns as i64, (bytes * ns) as i64)),
            mtu: config.mtu,
            toks: burst,
            ptoks: peak.map_or(0, |(ns, bytes)| (bytes * ns) as i64),
            t_c: 0,
        };
        let (mut now, mut passed) = (1_000_000_000, 0);
        for _ in 0..2000 {
            let pause = random.below(50) == 0;
            now += random.below(if pause { 3_000_000_000 } else { 1200 * byte_ns });
            let bytes = 46 + random.below(1454) as u32;
            let conforms = policer.police(bytes, now) == Act::Pass;
            assert_eq!(
                conforms,
                kernel.conforms(bytes, now as i64),
                "seed {seed} at {now}: {bytes} of {config:?}"
            );
            passed += u32::from(conforms);
        }
        let counts = policer.counts();
        assert_eq!((counts.packets, counts.exceeded), (2000, u64::from(2000 - passed)));
    }
}

/// At 5 Gbit/s 50 bytes last 80 ns; at odd rates fractions, which are not given away.
#[test]
fn never_more_than_burst_and_rate_and_nearly_no_less() {
    for bytes_per_second in [1_000, 875_000, 12_345_679, 625_000_000, 12_500_000_001] {
        let (burst, begin) = (20_000, 5_000_000_000);
        let policer = Policer::new(police(bytes_per_second, burst));
        let (mut sent, mut now, bytes) = (0u64, begin, 50);
        let step = (bytes * 1_000_000_000 / bytes_per_second / 3).max(1);
        for _ in 0..100_000 {
            if policer.police(bytes as u32, now) == Act::Pass {
                sent += bytes;
            }
            let may = burst as u128 + u128::from(bytes_per_second) * u128::from(now - begin) / 1_000_000_000;
            assert!(u128::from(sent) <= may, "{sent} of {may} bytes at {bytes_per_second}");
            now += step;
        }
        let fair = bytes_per_second as f64 * (now - begin) as f64 / 1e9;
        let offered = 100_000.0 * bytes as f64;
        assert!(
            sent as f64 >= fair.min(offered) * 0.996 - 50.0,
            "{sent} of {fair} bytes at {bytes_per_second}"
        );
    }
}

/// What is punted pays here, and no second time when the kernel's policer has passed it; what that does not pass costs nothing.
#[test]
fn what_is_punted_pays_once_and_is_not_counted() {
    let (policer, second) = (Policer::new(police(1_000, 2_000)), 1_000_000_000);
    for passed in [(1_500, 1), (0, 0), (500, 1)] {
        assert_eq!(policer.police(1_500, second), Act::Pass);
        policer.punted(1_500);
        policer.settle(Some(passed), second, second);
        assert_eq!(policer.counts(), Counts::default());
        policer.bucket.give_back(Limit::Bytes(rate(1_000)).cost_of(passed));
    }
    assert_eq!(
        [2_000, 1].map(|bytes| policer.police(bytes, second)),
        [Act::Pass, Act::Drop]
    );
}

#[test]
fn what_the_kernel_passed_is_owed() {
    let policer = Policer::new(police(1_000, 2_000));
    let second = 1_000_000_000;
    policer.settle(Some((2_500, 2)), second, second);
    assert_eq!(policer.police(1, second), Act::Drop);
    assert_eq!(policer.police(1, second + second / 2), Act::Drop);
    assert_eq!(policer.police(100, second + 6 * second / 10), Act::Pass);
    // Bounded by a minute beyond an empty bucket.
    policer.settle(Some((u64::MAX, 1)), 10 * second, 10 * second);
    assert_eq!(policer.police(1, 69 * second), Act::Drop);
    assert_eq!(policer.police(1_000, 71 * second), Act::Pass);
}

/// The time in which the kernel passed it has paid for it, however long it is told afterwards.
#[test]
fn what_is_told_late_is_not_owed_once_more() {
    let (policer, second) = (Policer::new(police(1_000, 2_000)), 1_000_000_000);
    policer.settle(Some((29_000, 29)), second, 30 * second);
    assert_eq!(policer.police(2_000, 30 * second), Act::Pass);
}

/// The kernel's policer passes 3/10 of the rate, which is told 20 times a second and is more than the bucket holds; half of the rate
/// that comes here conforms. More than the rate does not.
#[test]
fn what_is_taken_at_once_costs_no_frame_that_conforms() {
    for (burst, ours, least, most) in [
        (10_000, 50, 1.0, 1.0),
        (10_000, 200, 0.34, 0.36),
        (100_000, 200, 0.34, 0.37),
    ] {
        let bytes_per_second = 1_250_000;
        let policer = Policer::new(police(bytes_per_second, burst));
        let (begin, look) = (1_000_000_000, 50_000_000);
        let gap = 1_000 * 1_000_000_000 / bytes_per_second * 100 / ours;
        let (mut sent, mut passed, mut next) = (0u32, 0u32, begin + look);
        for now in (begin..begin + 20_000_000_000).step_by(gap as usize) {
            if now >= next {
                let kernels = bytes_per_second * 3 / 10 / 20;
                policer.settle(Some((kernels, kernels / 500)), next - look, next);
                next += look;
            }
            sent += 1;
            passed += u32::from(policer.police(1_000, now) == Act::Pass);
        }
        let share = f64::from(passed) / f64::from(sent);
        assert!(
            (least..=most).contains(&share),
            "{share} of {ours} % with a burst of {burst}"
        );
    }
}

#[test]
fn packets_and_overhead_are_counted() {
    let mut config = police(1_000, 2_000);
    (config.limit, config.burst_ns) = (Some(Limit::Packets(10)), 300_000_000);
    let policer = Policer::new(config.clone());
    let passed = |policer: &Policer, now| (0..9).filter(|_| policer.police(1_000, now) == Act::Pass).count();
    assert_eq!([1, 2, 200_000_002].map(|now| passed(&policer, now)), [3, 0, 2]);
    config.limit = Some(Limit::Bytes(Rate {
        overhead: 100,
        mpu: 500,
        ..rate(1_000)
    }));
    config.burst_ns = 1_000_000_000;
    let of = |bytes, many: usize| {
        let policer = Policer::new(config.clone());
        (0..many).filter(|_| policer.police(bytes, 1) == Act::Pass).count()
    };
    assert_eq!([of(50, 9), of(400, 9), of(401, 9), of(901, 9)], [2, 2, 1, 0]);
}

#[test]
fn without_a_rate_only_the_length_counts() {
    let mut config = police(1_000, 0);
    (config.limit, config.mtu) = (None, 1000);
    let policer = Policer::new(config.clone());
    assert_eq!([986, 987].map(|bytes| policer.police(bytes, 1)), [Act::Pass, Act::Drop]);
    (config.conforming, config.exceeding) = (Act::Drop, Act::Pass);
    let turned = Policer::new(config);
    assert_eq!([986, 987].map(|bytes| turned.police(bytes, 1)), [Act::Drop, Act::Pass]);
}

/// Several workers take from one bucket at once.
#[test]
fn workers_share_a_bucket() {
    let policer = Policer::new(police(1_000, 100_000));
    let passed: usize = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..3)
            .map(|_| scope.spawn(|| (0..1_000).filter(|_| policer.police(100, 1) == Act::Pass).count()))
            .collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).sum()
    });
    assert_eq!(passed, 1_000);
    assert_eq!(policer.counts().exceeded, 2_000);
}
