//! The tests of RFC 2544 on simulated devices, of which the right answer is known.

use super::*;
use device::Device;

mod device;
mod ended;
mod void;

fn plan() -> Plan {
    Plan {
        sizes: vec![Size::Bytes(64)],
        seconds: 10.0,
        bursts: 5,
        ..Plan::default()
    }
}

fn measured(plan: &Plan, device: &mut Device) -> Rfc2544 {
    let mut seen = 0;
    let (mut results, ended) = run(plan, "route", "device", device, &mut |_| seen += 1);
    assert_eq!(ended, Ok(()));
    assert_eq!(seen, device.asked.len(), "each trial is told of, once");
    assert_eq!(results.len(), 1);
    let result = results.remove(0);
    assert_eq!((result.case.as_str(), result.subject.as_str()), ("route", "device"));
    result
}

fn has_note(result: &Rfc2544, part: &str) -> bool {
    result.notes.iter().any(|note| note.contains(part))
}

#[test]
fn the_throughput_of_a_hard_limit_is_found_from_below_within_the_resolution() {
    for limit in [1_100.0, 9_000.0, 250_000.0, 651_234.0, 990_000.0, 999_000.0] {
        for resolution in [0.05, 0.01, 0.001] {
            let mut device = Device::new(limit, 1_000_000.0);
            let plan = Plan {
                resolution,
                bursts: 0,
                loss_step: 0.0,
                latency_shares: vec![],
                ..plan()
            };
            let result = measured(&plan, &mut device);
            let pps = result.throughput_pps;
            // One frame of a trial more or less is 0.1 per second.
            assert!(pps <= limit + 0.2, "{pps} of {limit}: {result:?}");
            assert!(
                pps >= limit * (1.0 - 1.01 * resolution) - 0.2,
                "{pps} of {limit}: {result:?}"
            );
            assert!(
                device.asked.len() <= 20,
                "{limit} {resolution}: {} trials",
                device.asked.len()
            );
            assert_eq!(result.search.len(), device.asked.len());
            assert_eq!(result.notes, [""; 0]);
        }
    }
}

#[test]
fn a_few_lost_per_million_at_any_rate_are_forgiven_only_where_it_was_said_so() {
    let noisy = || Device {
        noise: 3e-6,
        ..Device::new(500_000.0, 1_000_000.0)
    };
    let strict = measured(&plan(), &mut noisy());
    assert!(
        strict.throughput_pps < 250_000.0,
        "15 frames are lost of each trial near the limit"
    );
    let forgiving = Plan {
        accepted_loss: 10e-6,
        ..plan()
    };
    let result = measured(&forgiving, &mut noisy());
    assert!((495_000.0..500_010.0).contains(&result.throughput_pps), "{result:?}");
    assert!(
        has_note(&result, "up to 10.0 ppm of lost frames were accepted"),
        "{result:?}"
    );
}

#[test]
fn a_trial_that_loses_by_chance_may_be_repeated() {
    let device = || Device {
        flake: Some(2),
        ..Device::new(500_000.0, 1_000_000.0)
    };
    let once = measured(&plan(), &mut device());
    assert!(once.throughput_pps < 494_000.0, "{once:?}");
    let again = Plan { repeats: 1, ..plan() };
    let result = measured(&again, &mut device());
    assert!((495_000.0..500_000.1).contains(&result.throughput_pps), "{result:?}");
}

#[test]
fn a_rate_is_not_found_by_a_repeat_that_was_never_offered_at_it() {
    // Whichever trial the source is held up in: of the search, a repeat, or of the full time.
    let throughput_only = |plan| Plan {
        repeats: 1,
        bursts: 0,
        loss_step: 0.0,
        latency_shares: vec![],
        ..plan
    };
    let full = throughput_only(plan());
    let short = throughput_only(Plan {
        search_seconds: 1.0,
        seconds: 20.0,
        ..plan()
    });
    let capped = throughput_only(Plan {
        pps_max: Some(502_000.0),
        ..plan()
    });
    for (plan, queue) in [(&full, 0.0), (&short, 5_000.0), (&capped, 0.0)] {
        for trial in 2..16 {
            let mut device = Device {
                queue,
                held_up: Some((trial, 0.6)),
                ..Device::new(500_000.0, 1_000_000.0)
            };
            let result = measured(plan, &mut device);
            // The queue is worth 250 frames a second of a trial of 20 seconds.
            let most = 500_000.0 + queue / plan.seconds + 0.2;
            let right = 494_000.0..=most;
            assert!(right.contains(&result.throughput_pps), "{trial}, {queue}: {result:?}");
        }
    }
}

#[test]
fn a_device_that_loses_at_every_rate_is_said_to_have_no_throughput() {
    let mut device = Device {
        noise: 0.01,
        ..Device::new(500_000.0, 1_000_000.0)
    };
    let result = measured(&plan(), &mut device);
    assert_eq!(result.throughput_pps, 0.0);
    let lowest = result.search.iter().map(|&(pps, _)| pps).fold(f64::MAX, f64::min);
    assert!(lowest <= plan().pps_min, "tried down to {lowest}");
    assert!(has_note(&result, "no rate without loss"), "{result:?}");
    assert!(
        result.latency.is_empty() && has_note(&result, "no delays"),
        "{result:?}"
    );
    assert!(result.loss_curve.iter().all(|&(_, loss)| loss > 0.0));
    assert_eq!(result.back_to_back.len(), 5);
}

#[test]
fn a_source_slower_than_the_device_measures_itself_and_says_so() {
    let mut device = Device::new(1_000_000.0, 400_000.0);
    let result = measured(&plan(), &mut device);
    assert!((result.throughput_pps - 400_000.0).abs() < 1.0, "{result:?}");
    assert!(has_note(&result, "that is the source's limit"), "{result:?}");
    assert!(
        result.back_to_back.is_empty() && has_note(&result, "no back-to-back"),
        "{result:?}"
    );

    let asked = Plan {
        pps_max: Some(2_000_000.0),
        ..plan()
    };
    let result = measured(&asked, &mut Device::new(1_000_000.0, 400_000.0));
    assert!((result.throughput_pps - 400_000.0).abs() < 1.0, "{result:?}");
    assert!(
        has_note(&result, "offered 400000 frames per second where 2000000 were asked for"),
        "{result:?}"
    );
    assert!(has_note(&result, "that is the source's limit"), "{result:?}");
}

#[test]
fn a_source_that_is_slower_when_paced_is_not_taken_for_the_devices_limit() {
    let mut device = Device {
        paced_pps: 600_000.0,
        ..Device::new(800_000.0, 1_000_000.0)
    };
    let result = measured(&plan(), &mut device);
    assert!((result.throughput_pps - 600_000.0).abs() < 1.0, "{result:?}");
    assert!(has_note(&result, "that is the source's limit"), "{result:?}");
    // Every rate that the result has was offered.
    let rates = result.search.iter().chain(&result.loss_curve[1..]);
    assert!(rates.skip(1).all(|&(pps, _)| pps <= 600_000.1), "{result:?}");
}

#[test]
fn the_highest_rate_that_is_to_be_tried_is_no_limit_of_the_source() {
    let capped = Plan {
        pps_max: Some(300_000.0),
        ..plan()
    };
    let mut device = Device::new(500_000.0, 1_000_000.0);
    let result = measured(&capped, &mut device);
    assert!((result.throughput_pps - 300_000.0).abs() < 1.0, "{result:?}");
    assert!(has_note(&result, "the highest rate that was to be tried"), "{result:?}");
    assert!(
        device
            .asked
            .iter()
            .all(|&(rate, _)| matches!(rate, Rate::Paced(pps) if pps <= 300_000.0))
    );
}

#[test]
fn what_short_trials_hide_in_a_queue_the_full_time_brings_out() {
    let long = Plan {
        search_seconds: 1.0,
        seconds: 20.0,
        ..plan()
    };
    let mut device = Device {
        queue: 20_000.0,
        ..Device::new(100_000.0, 1_000_000.0)
    };
    let result = measured(&long, &mut device);
    assert!((99_500.0..=101_000.0).contains(&result.throughput_pps), "{result:?}");
    assert!(
        has_note(&result, "came through for 1 s, but not for 20 s"),
        "{result:?}"
    );
}

#[test]
fn the_loss_curve_falls_with_the_rate_and_ends_after_two_rates_without_loss() {
    let result = measured(&plan(), &mut Device::new(450_000.0, 1_000_000.0));
    let curve = &result.loss_curve;
    // 100 % to 50 % lose, 40 % and 30 % do not.
    assert_eq!(curve.len(), 8, "{curve:?}");
    assert!(
        curve.windows(2).all(|w| w[0].0 > w[1].0 && w[0].1 >= w[1].1),
        "{curve:?}"
    );
    for &(pps, loss) in curve {
        let right = (1.0 - 450_000.0 / pps).max(0.0);
        assert!((loss - right).abs() < 1e-4, "{loss} for {right} at {pps}");
    }
}

#[test]
fn a_loss_curve_alone_seeks_no_throughput() {
    let alone = Plan {
        throughput: false,
        latency_shares: vec![],
        bursts: 0,
        ..plan()
    };
    let result = measured(&alone, &mut Device::new(450_000.0, 1_000_000.0));
    assert_eq!((result.loss_curve.len(), result.search.len()), (8, 0));
    assert_eq!(result.notes, [""; 0]);
}

#[test]
fn the_longest_burst_fills_the_queue_while_the_device_forwards() {
    for (limit, queue) in [
        (500_000.0, 1_000.0),
        (900_000.0, 256.0),
        (10_000.0, 64.0),
        (250_000.0, 1.0),
    ] {
        let mut device = Device {
            queue,
            ..Device::new(limit, 1_000_000.0)
        };
        let result = measured(&plan(), &mut device);
        let right = queue / (1.0 - limit / 1_000_000.0);
        assert_eq!(result.back_to_back.len(), 5);
        for &frames in &result.back_to_back {
            // A part of a frame is not lost, hence up to one frame more in the queue.
            let (low, high) = (right * 0.99 - 1.0, right + 1.0 / (1.0 - limit / 1_000_000.0));
            assert!((low..=high).contains(&(frames as f64)), "{frames} for {right}");
        }
        let trials = device.asked.iter().filter(|asked| asked.1 == 0.0).count();
        assert!(trials <= 25 + 4 * 14, "{trials} bursts");
        assert!(has_note(&result, "(RFC 9004)"), "{result:?}");
    }
}

#[test]
fn a_queue_longer_than_the_longest_burst_is_said_to_be() {
    let short = Plan {
        burst_seconds_max: 0.01,
        ..plan()
    };
    let mut device = Device {
        queue: 1e6,
        ..Device::new(500_000.0, 1_000_000.0)
    };
    let result = measured(&short, &mut device);
    assert_eq!(result.back_to_back, [10_000]);
    assert!(has_note(&result, "its queue is longer"), "{result:?}");
}

#[test]
fn delays_are_taken_at_shares_of_the_throughput_for_the_full_time() {
    let shares = Plan {
        latency_shares: vec![0.1, 0.5],
        loss_step: 0.0,
        bursts: 0,
        ..plan()
    };
    let mut device = Device::new(500_000.0, 1_000_000.0);
    let result = measured(&shares, &mut device);
    let pps = result.throughput_pps;
    let asked = &device.asked[device.asked.len() - 2..];
    assert_eq!(asked, [(Rate::Paced(0.1 * pps), 10.0), (Rate::Paced(0.5 * pps), 10.0)]);
    let found: Vec<(f64, u64)> = result.latency.iter().map(|(share, l)| (*share, l.count)).collect();
    assert_eq!(found.iter().map(|f| f.0).collect::<Vec<_>>(), [0.1, 0.5]);
    assert!(found[1].1.abs_diff((5.0 * pps) as u64) <= 1, "{found:?}");

    device.timed = false;
    let result = measured_again(&shares, &mut device);
    assert!(
        result.latency.is_empty() && has_note(&result, "the receiver only counts"),
        "{result:?}"
    );
}

fn measured_again(plan: &Plan, device: &mut Device) -> Rfc2544 {
    device.asked.clear();
    measured(plan, device)
}

#[test]
fn what_trials_say_is_said_of_the_result_once_for_each_kind() {
    let mut device = Device {
        says: Some((2, "frames arrived that the receiver had no time to look at")),
        queue: 64.0,
        ..Device::new(500_000.0, 1_000_000.0)
    };
    let result = measured(&plan(), &mut device);
    // Those of delays, four here, stand beside their shares.
    let trials = device.asked.len() - 4;
    let of_all = format!(
        "in {} of {trials} trials, in the first of them: 2 frames arrived",
        trials - 1
    );
    let like = |part: &str| result.notes.iter().filter(|note| note.contains(part)).count();
    assert_eq!((like(&of_all), like("had no time")), (1, 1 + 4), "{:?}", result.notes);

    let mut last = Device {
        says: Some((device.asked.len(), "frames, at the last of the bursts")),
        queue: 64.0,
        ..Device::new(500_000.0, 1_000_000.0)
    };
    let result = measured(&plan(), &mut last);
    assert!(has_note(&result, &format!("in 1 of {trials} trials: ")), "{result:?}");

    let mut unreached = Device {
        says: Some((1, "frames: the rate was not reached")),
        ..Device::new(500_000.0, 1_000_000.0)
    };
    let result = measured(&plan(), &mut unreached);
    assert!(!has_note(&result, "the rate was not reached"), "{result:?}");
}

#[test]
fn a_path_that_carries_nothing_ends_the_run_with_one_line() {
    let error = |device: &mut dyn Trial| {
        let (results, ended) = run(&plan(), "route", "device", device, &mut |_| ());
        assert_eq!(results.len(), 0);
        ended.unwrap_err()
    };
    let dead = error(&mut Device::new(0.0, 1_000_000.0));
    assert!(
        dead.contains("none of 10000000 frames of size 64 arrived: see whether"),
        "{dead}"
    );
    let silent = error(&mut Device::new(1.0, 0.0));
    assert!(
        silent.contains("sent no frame of size 64: see whether its port is up"),
        "{silent}"
    );

    struct Broken;
    impl Trial for Broken {
        fn send(&mut self, _: Size, _: Rate, _: f64) -> Result<Outcome, String> {
            Err("the port went away".into())
        }
    }
    assert_eq!(error(&mut Broken), "the port went away");
}

#[test]
fn each_size_is_measured_and_named() {
    let sizes = Plan {
        sizes: vec![Size::Bytes(64), Size::Imix, Size::Bytes(1518)],
        ..plan()
    };
    let mut names = Vec::new();
    let results = run(&sizes, "route", "device", &mut Device::new(5e5, 1e6), &mut |step| {
        if names.last() != Some(&step.size) {
            names.push(step.size);
        }
    });
    let sizes_found: Vec<String> = results.0.into_iter().map(|result| result.size).collect();
    assert_eq!(sizes_found, ["64", "imix", "1518"]);
    assert_eq!(names, sizes.sizes);
}

#[test]
fn a_plan_that_cannot_be_carried_out_is_refused_with_what_to_change() {
    let wrong = [
        (
            Plan {
                throughput: false,
                ..plan()
            },
            "measure that too",
        ),
        (
            Plan {
                sizes: vec![],
                ..plan()
            },
            "no frame size",
        ),
        (Plan { seconds: 0.0, ..plan() }, "the trial time is 0"),
        (
            Plan {
                resolution: 0.0,
                ..plan()
            },
            "the resolution is 0: give 0.0001 to 0.5",
        ),
        (
            Plan {
                accepted_loss: -1.0,
                ..plan()
            },
            "the accepted loss is -1",
        ),
        (
            Plan {
                pps_max: Some(10.0),
                ..plan()
            },
            "the highest rate, 10, is not above the lowest",
        ),
        (
            Plan {
                latency_shares: vec![1.5],
                ..plan()
            },
            "a share of the throughput is 1.5",
        ),
        (
            Plan {
                loss_step: f64::NAN,
                ..plan()
            },
            "the step of the loss curve is NaN",
        ),
        (
            Plan {
                throughput: false,
                latency_shares: vec![],
                bursts: 0,
                loss_step: 0.0,
                ..plan()
            },
            "nothing is to be measured",
        ),
        (
            Plan {
                pps_min: f64::INFINITY,
                ..plan()
            },
            "the lowest rate is inf",
        ),
    ];
    for (plan, message) in wrong {
        let mut device = Device::new(5e5, 1e6);
        let error = run(&plan, "route", "device", &mut device, &mut |_| ()).1.unwrap_err();
        assert!(error.contains(message), "{error}");
        assert!(device.asked.is_empty(), "nothing was sent");
    }
}
