//! What is left of a measurement that an error ends: a device that goes away at the first trial of each section in turn. The
//! sections before it are found as they are of a whole run, the section is named, and the sizes before it are untouched. Where
//! not even a throughput was found there is nothing.

use super::*;

/// A device that goes away after so many trials.
struct Leaves {
    device: Device,
    after: usize,
}

impl Leaves {
    fn stays(&self) -> Result<(), String> {
        match self.device.asked.len() < self.after {
            true => Ok(()),
            false => Err("the port went away".into()),
        }
    }
}

impl Trial for Leaves {
    fn send(&mut self, size: Size, rate: Rate, seconds: f64) -> Result<Outcome, String> {
        self.stays()?;
        self.device.send(size, rate, seconds)
    }

    fn burst(&mut self, size: Size, frames: u64) -> Result<Outcome, String> {
        self.stays()?;
        self.device.burst(size, frames)
    }
}

#[test]
fn what_was_concluded_before_an_error_is_found_and_says_where_it_ended() {
    let two_sizes = Plan {
        sizes: vec![Size::Bytes(64), Size::Bytes(128)],
        ..plan()
    };
    let device = || Device {
        queue: 64.0,
        ..Device::new(450_000.0, 1_000_000.0)
    };
    let mut steps = Vec::new();
    let (whole, ended) = run(&plan(), "route", "device", &mut device(), &mut |step| {
        steps.push(step.test)
    });
    assert_eq!(ended, Ok(()));
    let mut after = 0;
    for test in [Test::Throughput, Test::Latency, Test::Loss, Test::BackToBack] {
        // At the first trial of each section, and of the next size at the last.
        let ended_in = |after: usize| {
            let mut leaves = Leaves {
                device: device(),
                after,
            };
            let (results, ended) = run(&two_sizes, "route", "device", &mut leaves, &mut |_| ());
            assert_eq!(ended, Err("the port went away".into()));
            results
        };
        let results = ended_in(after);
        after += steps.iter().filter(|step| **step == test).count();
        let Some(result) = results.first() else {
            assert_eq!(test, Test::Throughput, "the throughput was thrown away");
            continue;
        };
        assert_eq!(result.throughput_pps, whole[0].throughput_pps);
        let found = (result.latency.len(), result.loss_curve.len(), result.back_to_back.len());
        let right = match test {
            Test::Latency => (0, 0, 0),
            Test::Loss => (4, 0, 0),
            _ => (4, whole[0].loss_curve.len(), 0),
        };
        assert_eq!(found, right, "{test:?}");
        assert!(has_note(result, &format!("ended in {}: ", test.name())), "{result:?}");
        assert_eq!(ended_in(steps.len()), whole, "the next size took it along");
    }
}
