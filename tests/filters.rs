//! What `classify` says of a frame, against what the kernel does with it: random filters of tc, read back by netlink as bypath
//! reads them; random frames, sent through a bridge of the kernel to a port with htb and those filters. Frame for frame the same
//! class, as the counters of the classes tell: so many packets and bytes in each, no difference.
//!
//! Needs root, `ip`, `bridge` and `tc`; the namespaces are unnamed and end with their test. A kind of filter that the kernel has
//! not is skipped, and said so: `scripts/vm` has them all. One seed gives one run; `BYPATH_SEED` sets it, `BYPATH_ROUNDS` its length.

#[path = "env/mod.rs"]
mod env;
#[path = "filters/frames.rs"]
mod frames;
#[path = "filters/lab.rs"]
mod lab;
#[path = "filters/texts.rs"]
mod texts;

use bypath::mirror::filters::read;
use bypath::table::filter::{Facts, Filter, classify};
use bypath::table::qdisc::Handle;
use env::number;
use frames::{Frame, Random};
use lab::{CLASSES, DEFAULT, DIRECT, Lab, namespace};
use std::collections::BTreeMap;

/// Frames for each set of filters.
const FRAMES: usize = 200;
const ROUNDS: u64 = 40;

/// The class that a frame goes to in the end: what no filter places, or places nowhere, goes to the default.
fn class(filters: &[Filter], frame: &Frame) -> u32 {
    let facts = Facts {
        bytes: &frame.bytes,
        mark: frame.mark,
        priority: 0,
    };
    let said = classify(filters, &facts).map_or(0, |class| class.0);
    if (DIRECT..=DIRECT + CLASSES).contains(&said) {
        said
    } else {
        DEFAULT
    }
}

/// Packets and bytes by class.
type Counts = BTreeMap<u32, (u64, u64)>;

fn expected(filters: &[Filter], frames: &[Frame]) -> Counts {
    let mut counts = Counts::new();
    for frame in frames {
        let count = counts.entry(class(filters, frame)).or_default();
        count.0 += 1;
        count.1 += frame.counted() as u64;
    }
    counts
}

/// Sends frames through the kernel; the first that it takes for another class, in words.
fn difference(lab: &mut Lab, filters: &[Filter], frames: &[Frame]) -> Option<String> {
    if lab.classes_of(frames) == expected(filters, frames) {
        return None;
    }
    for frame in frames {
        let one = std::slice::from_ref(frame);
        let (kernel, ours) = (lab.classes_of(one), expected(filters, one));
        if kernel != ours {
            return Some(format!("kernel {kernel:x?}, classify {ours:x?}: {frame:?}"));
        }
    }
    Some("in sum, but in no single frame".into())
}

fn random_filters(kinds: &[&str]) {
    let seed = number("BYPATH_SEED", 6);
    let rounds = number("BYPATH_ROUNDS", ROUNDS);
    for kind in kinds {
        let (mut placed, mut carried) = (0, 0);
        let mut lab = Lab::new();
        if !lab.has(kind) {
            eprintln!("SKIPPED {kind}: this kernel has no such filter (scripts/vm has)");
            continue;
        }
        for round in 0..rounds {
            let mut random = Random::new(seed ^ round << 8);
            let frames = frames::many(&mut random, FRAMES);
            let text = texts::filters(&mut random, kind, &frames);
            lab.set(&text);
            let listed = lab.listing();
            let filters = match read(lab.ifindex(), Handle::qdisc(1)) {
                Ok(filters) => filters,
                Err(why) => {
                    assert!(
                        texts::may_be_refused(&why),
                        "seed {seed} round {round}: {why}\n{listed}"
                    );
                    continue;
                }
            };
            carried += 1;
            placed += frames.iter().filter(|frame| class(&filters, frame) != DEFAULT).count();
            if let Some(difference) = difference(&mut lab, &filters, &frames) {
                panic!("seed {seed} round {round}: {difference}\n{text}\n{listed}\n{filters:#?}");
            }
        }
        eprintln!("seed {seed}: {kind}: {carried} sets of filters, {placed} frames placed by them");
        assert!(carried > 0 && placed > 0);
    }
}

#[test]
fn u32_as_the_kernel_classifies() {
    namespace(|| random_filters(&["u32"]));
}

#[test]
fn fw_and_matchall_as_the_kernel_classifies() {
    namespace(|| random_filters(&["fw", "matchall"]));
}

#[test]
fn flower_as_the_kernel_classifies() {
    namespace(|| random_filters(&["flower"]));
}

#[test]
fn kinds_beside_each_other_as_the_kernel_classifies() {
    namespace(|| random_filters(&["any"]));
}

#[test]
fn what_is_not_carried_is_named() {
    namespace(|| {
        let mut lab = Lab::new();
        let refused = |lab: &mut Lab, text: &str, words: &[&str]| {
            if !lab.try_set(text) {
                eprintln!("SKIPPED `{text}`: this kernel does not take it");
                return;
            }
            let why = read(lab.ifindex(), Handle::qdisc(1)).expect_err(text);
            assert!(words.iter().all(|word| why.contains(word)), "`{text}`: {why}");
        };
        refused(
            &mut lab,
            "pref 5 u32 match u32 0 0 flowid 1:1 action drop",
            &["pref 5 u32", "fh 800::800", "gact"],
        );
        refused(
            &mut lab,
            "pref 5 u32 match u32 0 0 flowid 1:1 indev ia",
            &["fh 800::800", "came from"],
        );
        refused(
            &mut lab,
            "pref 5 u32 match u32 0 0 action mirred egress redirect dev ib",
            &["mirred"],
        );
        refused(
            &mut lab,
            "pref 5 u32 match u32 0 0 at -20 flowid 1:1",
            &["before the Ethernet header"],
        );
        refused(
            &mut lab,
            "pref 5 chain 3 u32 match u32 0 0 flowid 1:1",
            &["chain 3", "only chain 0"],
        );
        refused(
            &mut lab,
            "pref 7 protocol ipv6 bpf bytecode \"1,6 0 0 1\" flowid 1:1",
            &["protocol ipv6 pref 7 bpf"],
        );
        refused(
            &mut lab,
            "pref 5 matchall action drop",
            &["pref 5 matchall", "handle 0x1", "gact"],
        );
        refused(&mut lab, "pref 5 flower ct_state +trk classid 1:1", &["pref 5 flower"]);
        refused(
            &mut lab,
            "pref 5 handle 3 fw police rate 1mbit burst 10k drop",
            &["pref 5 fw", "handle 0x3"],
        );
    });
}

#[test]
fn filters_in_hardware_alone_match_nothing() {
    namespace(|| {
        let mut lab = Lab::new();
        let text = "pref 5 u32 match u32 0 0 flowid 1:1 skip_sw\npref 6 u32 match u32 0 0 flowid 1:2 skip_hw";
        if !lab.try_set(text) {
            eprintln!("SKIPPED skip_sw: no port here takes it");
            return;
        }
        let filters = read(lab.ifindex(), Handle::qdisc(1)).unwrap();
        let frames = frames::many(&mut Random::new(1), 20);
        assert_eq!(difference(&mut lab, &filters, &frames), None);
        assert!(frames.iter().all(|frame| class(&filters, frame) != 0x1_0001));
        assert!(frames.iter().any(|frame| class(&filters, frame) == 0x1_0002));
    });
}
