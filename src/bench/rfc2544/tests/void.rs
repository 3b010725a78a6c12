//! Trials in which the clock jumped: each is made once more, whichever it is, and then nothing is found that would not have been.

use super::*;

#[test]
fn a_trial_that_does_not_count_is_made_once_more_in_whichever_section() {
    let device = |void: Vec<usize>| Device {
        queue: 64.0,
        void,
        ..Device::new(450_000.0, 1_000_000.0)
    };
    let mut all_count = device(vec![]);
    let right = measured(&plan(), &mut all_count);
    for trial in 1..=all_count.asked.len() {
        let mut device = device(vec![trial]);
        let mut result = measured(&plan(), &mut device);
        assert_eq!(device.asked.len(), all_count.asked.len() + 1, "{trial}");
        assert_eq!(device.asked[trial], device.asked[trial - 1], "{trial}");
        assert!(has_note(&result, "were made again"), "{trial}: {result:?}");
        result.notes.retain(|note| !note.contains("were made again"));
        assert_eq!(result, right, "{trial}");
    }
    // One that does not count twice is taken where something must be, and for no delay.
    let first = all_count
        .asked
        .iter()
        .rposition(|asked| *asked == (Rate::Paced(right.throughput_pps), 10.0));
    let delays = first.expect("delays at the whole throughput") + 1;
    let result = measured(&plan(), &mut device(vec![delays, delays + 1]));
    assert_eq!(result.latency[..], right.latency[..right.latency.len() - 1]);
    assert!(has_note(&result, "and that one does not either"), "{result:?}");
}
