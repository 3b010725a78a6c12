//! Every shape of set against a scan of its elements.

use super::*;
use proptest::prelude::*;

fn element(kind: Kind, key: &[u8]) -> Element {
    Element {
        kind,
        key: key.into(),
        key_end: None,
        data: Data::Nothing,
        expires_ns: None,
        states: Box::default(),
    }
}

fn spec(key_len: u8, fields: &[u8], interval: bool) -> SetSpec {
    SetSpec {
        key_len,
        fields: fields.into(),
        interval,
        data: DataKind::Nothing,
        ..SetSpec::default()
    }
}

/// Data that tells which element it is.
fn numbered(mut elements: Vec<Element>) -> Vec<Element> {
    for (place, element) in (0u32..).zip(&mut elements) {
        element.data = Data::Value(place.to_ne_bytes().into());
    }
    elements
}

fn answer(set: &Set, key: &[u8], now_ns: u64) -> Option<u32> {
    match set.lookup(key, now_ns)?.data {
        Data::Value(bytes) => Some(u32::from_ne_bytes((**bytes).try_into().unwrap())),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_exact_set_forgets_in_time_and_answers_for_all_others() {
    let mut timed = element(Kind::Key, &[10, 0, 0, 1]);
    timed.expires_ns = Some(100);
    let elements = vec![timed, element(Kind::Key, &[10, 0, 0, 2]), element(Kind::CatchAll, &[])];
    let set = Set::new(spec(4, &[], false), elements).unwrap();
    assert!(set.lookup(&[10, 0, 0, 1], 99).is_some() && set.lookup(&[10, 0, 0, 1], 100).is_none());
    assert!(set.lookup(&[10, 0, 0, 2], u64::MAX - 1).is_some() && set.lookup(&[10, 0, 0, 3], 0).is_none());
    assert!(set.catch_all(0).is_some());
    assert_eq!((set.len(), set.is_empty()), (3, false));
}

#[test]
fn adjacent_intervals_and_one_without_an_end() {
    let keys = [
        (0, Kind::IntervalEnd),
        (10, Kind::Key),
        (20, Kind::IntervalEnd),
        (20, Kind::Key),
        (30, Kind::Key),
    ];
    let elements = keys.iter().map(|(key, kind)| element(*kind, &[*key, 0])).collect();
    let spec = SetSpec {
        data: DataKind::Value(4),
        ..spec(2, &[], true)
    };
    let set = Set::new(spec, numbered(elements)).unwrap();
    let says = |key: u8, low: u8| answer(&set, &[key, low], 0);
    assert_eq!(
        [says(0, 0), says(9, 255), says(10, 0), says(19, 255)],
        [None, None, Some(1), Some(1)]
    );
    assert_eq!(
        [says(20, 0), says(29, 255), says(30, 0), says(255, 255)],
        [Some(3), Some(3), Some(4), Some(4)]
    );
}

#[test]
fn what_does_not_fit_is_an_error() {
    let short = || vec![element(Kind::Key, &[1])];
    assert_eq!(Set::new(spec(4, &[], false), short()).unwrap_err(), SetError::KeyLen);
    assert_eq!(Set::new(spec(4, &[4, 2], true), short()).unwrap_err(), SetError::Fields);
    assert_eq!(Set::new(spec(8, &[4, 0], true), vec![]).unwrap_err(), SetError::Fields);
    let map = SetSpec {
        data: DataKind::Value(4),
        ..spec(1, &[], false)
    };
    assert_eq!(Set::new(map, short()).unwrap_err(), SetError::Data);
}

#[test]
fn what_elements_carry_is_numbered() {
    let counter = |packets| Stateful::Counter { packets, bytes: 0 };
    let mut elements = vec![element(Kind::Key, &[1]), element(Kind::Key, &[2])];
    elements[0].states = [counter(7), counter(8)].into();
    elements[1].states = [counter(9)].into();
    let set = Set::new(spec(1, &[], false), elements).unwrap();
    assert_eq!(set.lookup(&[2], 0).unwrap().states, 2..3);
    assert_eq!(set.states(), [counter(7), counter(8), counter(9)]);
}

/// Of one packet with 100,000 elements: found fast enough that a scan would be noticed.
#[test]
fn a_hundred_thousand_elements() {
    let (mut exact, mut bounds, mut ranges) = (vec![], vec![], vec![]);
    for n in 0..100_000u32 {
        let key = (n << 8).to_be_bytes();
        exact.push(element(Kind::Key, &key));
        bounds.push(element(Kind::Key, &key));
        bounds.push(element(Kind::IntervalEnd, &(n << 8 | 0x80).to_be_bytes()));
        let mut range = element(Kind::Key, &[&key[..], &[0, 80, 0, 0]].concat());
        range.key_end = Some([&(n << 8 | 0x7f).to_be_bytes()[..], &[0, 90, 0, 0]].concat().into());
        ranges.push(range);
    }
    let exact = Set::new(spec(4, &[], false), exact).unwrap();
    let bounds = Set::new(spec(4, &[], true), bounds).unwrap();
    let ranges = Set::new(spec(8, &[4, 2], true), ranges).unwrap();
    for n in 0..300_000u32 {
        let key = (n << 7 | 1).to_be_bytes();
        let even = n < 200_000 && n % 2 == 0;
        assert!(exact.lookup(&key, 0).is_none());
        assert_eq!(bounds.lookup(&key, 0).is_some(), even);
        assert_eq!(ranges.lookup(&[&key[..], &[0, 85, 0, 0]].concat(), 0).is_some(), even);
        assert!(ranges.lookup(&[&key[..], &[0, 91, 0, 0]].concat(), 0).is_none());
    }
}

/// A range of an address and one of a port, with a time; mostly of the forms that people write.
fn range() -> impl Strategy<Value = (u8, u8, u16, u16, Option<u64>)> {
    let address = (any::<u8>(), 0u8..4).prop_map(|(start, form)| match form {
        0 => (start, start),
        1 => (start & 0xf0, start | 0x0f),
        2 => (0, 255),
        _ => (start / 2, start / 2 + 100),
    });
    let port = (any::<u16>(), 0u8..4).prop_map(|(start, form)| match form {
        0 => (start & 0x1f, start & 0x1f),
        1 => (0, 65535),
        2 => (start & 0xfff0, start | 0xf),
        _ => (start / 2, start / 2 + 999),
    });
    (address, port, proptest::option::of(0u64..20)).prop_map(|(a, p, expires)| (a.0, a.1, p.0, p.1, expires))
}

fn key(address: u8, port: u16, padding: u8) -> [u8; 8] {
    let port = port.to_be_bytes();
    [10, 0, 0, address, port[0], port[1], padding, padding]
}

fn change(element: Element, comes: bool) -> Change {
    Change { element, comes }
}

/// Elements of more than one shard and chunk, which come and go in parts: what was there before a change stays as it was.
#[test]
fn a_change_leaves_the_set_before_it_alone() {
    let numbers = || (0..2000u32).map(|n| element(Kind::Key, &n.to_be_bytes()));
    for interval in [false, true] {
        let mut sets = vec![Set::new(spec(4, &[], interval), Vec::new()).unwrap()];
        for part in numbers().collect::<Vec<_>>().chunks(100) {
            let come = part.iter().cloned().map(|element| change(element, true));
            sets.push(sets[sets.len() - 1].changed(come.collect(), 0).unwrap());
        }
        let whole = Set::new(spec(4, &[], interval), numbers().collect()).unwrap();
        assert!(sets[20].has_what(&whole, 0) && whole.has_what(&sets[20], 0));
        assert!(!sets[19].has_what(&whole, 0) && !whole.has_what(&sets[19], 0));
        for (parts, set) in sets.iter().enumerate() {
            assert_eq!(set.len(), parts * 100);
            if !interval {
                let there = (0..2000u32).filter(|n| set.lookup(&n.to_be_bytes(), 0).is_some());
                assert_eq!(there.count(), parts * 100);
            }
        }
        let gone = whole.changed(numbers().map(|element| change(element, false)).collect(), 0);
        assert!(gone.unwrap().is_empty() && whole.len() == 2000);
    }
}

#[test]
fn a_change_that_is_none_is_no_change() {
    let one = || element(Kind::Key, &[10, 0, 0, 1]);
    let with = |spec: SetSpec, elements| Set::new(spec, elements).unwrap();
    for interval in [false, true] {
        let set = with(spec(4, &[], interval), vec![one()]);
        assert!(set.changed(vec![change(one(), true)], 0).is_none(), "it is there");
        let other = element(Kind::Key, &[10, 0, 0, 2]);
        assert!(set.changed(vec![change(other, false)], 0).is_none(), "it is not");
        let long = element(Kind::Key, &[10, 0, 0, 1, 0]);
        assert!(set.changed(vec![change(long, true)], 0).is_none(), "it does not fit");
        let and_back = vec![change(one(), false), change(one(), true)];
        assert_eq!(set.changed(and_back, 0).unwrap().len(), 1);
    }
    let ranges = with(spec(8, &[4, 2], true), Vec::new());
    let range = element(Kind::Key, &[0; 8]);
    assert!(
        ranges.changed(vec![change(range, true)], 0).is_none(),
        "a concatenation of ranges"
    );
    let caught = with(spec(4, &[], false), vec![element(Kind::CatchAll, &[])]);
    assert!(caught.changed(vec![change(one(), true)], 0).is_none(), "a catch-all");
}

/// What is over goes, and what is there gets another time.
#[test]
fn elements_that_end_come_again() {
    let timed = |key: u8, expires: u64| Element {
        expires_ns: Some(expires),
        ..element(Kind::Key, &[key])
    };
    let spec = SetSpec {
        timeout_ms: Some(0),
        ..spec(1, &[], false)
    };
    let set = Set::new(spec, vec![timed(1, 10), timed(2, 20)]).unwrap();
    let set = set
        .changed(vec![change(timed(3, 90), true), change(timed(2, 80), true)], 15)
        .unwrap();
    assert_eq!(set.len(), 2, "the first was over");
    assert!(set.lookup(&[2], 79).is_some() && set.lookup(&[2], 80).is_none());
    assert!(
        set.changed(vec![change(timed(1, 10), false)], 15).is_some(),
        "the kernel had it for longer"
    );
    let map = Set::new(
        SetSpec {
            data: DataKind::Value(4),
            ..set.spec.clone()
        },
        Vec::new(),
    )
    .unwrap();
    assert!(
        map.changed(vec![change(numbered(vec![timed(1, 10)]).remove(0), true)], 0)
            .is_some()
    );
}

proptest! {
    #[test]
    fn changes_come_to_what_a_map_says(
        steps in proptest::collection::vec((any::<bool>(), 0u16..800, any::<u8>()), 0..1500),
        first in proptest::collection::btree_map(0u16..800, any::<u8>(), 0..600),
        at_once in 1usize..40,
        interval in any::<bool>(),
    ) {
        let of = |key: u16, value: u8| Element {
            data: Data::Value([value; 4].into()),
            ..element(Kind::Key, &key.to_be_bytes())
        };
        let spec = SetSpec { data: DataKind::Value(4), ..spec(2, &[], interval) };
        let elements = first.iter().map(|(&key, &value)| of(key, value)).collect();
        let mut set = Set::new(spec, elements).unwrap();
        let mut model = first;
        for steps in steps.chunks(at_once) {
            let mut changes = Vec::new();
            for &(comes, key, value) in steps {
                let is_there = model.contains_key(&key);
                if is_there == comes {
                    continue;
                }
                match comes {
                    true => model.insert(key, value),
                    false => model.remove(&key),
                };
                changes.push(change(of(key, value), comes));
            }
            set = set.changed(changes, 0).unwrap();
            prop_assert_eq!(set.len(), model.len());
            for key in steps.iter().map(|step| step.1).chain([0, 400, 900]) {
                let said = match interval {
                    true => model.range(..=key).next_back().map(|(_, value)| value),
                    false => model.get(&key),
                };
                let found = set.lookup(&key.to_be_bytes(), 0).map(|found| found.data.clone());
                prop_assert_eq!(found, said.map(|value| Data::Value([*value; 4].into())));
            }
        }
        let all = model.iter().map(|(&key, &value)| of(key, value)).collect();
        prop_assert!(set.has_what(&Set::new(set.spec.clone(), all).unwrap(), 0));
    }

    /// Adjacent intervals of which either goes alone: the end of one is not the start of the next.
    #[test]
    fn intervals_that_come_and_go_answer_as_a_scan_does(
        steps in proptest::collection::vec((0u16..40, 1u16..5), 0..200),
    ) {
        let bounds = |first: u16, len: u16, comes| {
            let start = element(Kind::Key, &(first * 4).to_be_bytes());
            let end = element(Kind::IntervalEnd, &(first * 4 + len).to_be_bytes());
            vec![change(start, comes), change(end, comes)]
        };
        let mut set = Set::new(spec(2, &[], true), Vec::new()).unwrap();
        let mut model = [0u16; 40];
        for (first, len) in steps {
            let there = &mut model[usize::from(first)];
            match *there {
                0 => {
                    set = set.changed(bounds(first, len, true), 0).unwrap();
                    *there = len;
                }
                was => {
                    set = set.changed(bounds(first, was, false), 0).unwrap();
                    *there = 0;
                }
            }
            for key in 0..161u16 {
                let said = model.get(usize::from(key / 4)).is_some_and(|&len| key % 4 < len);
                prop_assert_eq!(set.lookup(&key.to_be_bytes(), 0).is_some(), said, "{} of {:?}", key, model);
            }
        }
    }

    #[test]
    fn concatenated_ranges_answer_as_a_scan_does(
        elements in proptest::collection::vec(range(), 0..24),
        keys in proptest::collection::vec((any::<u8>(), any::<u16>(), any::<u8>(), 0u64..20), 64),
    ) {
        let of = |&(first, last, low, high, expires): &(u8, u8, u16, u16, Option<u64>)| Element {
            key_end: Some(key(last, high, 0).into()),
            expires_ns: expires,
            ..element(Kind::Key, &key(first, low, 0))
        };
        let spec = SetSpec { data: DataKind::Value(4), ..spec(8, &[4, 2], true) };
        let set = Set::new(spec, numbered(elements.iter().map(of).collect())).unwrap();
        // Borders are where mistakes are.
        let borders = elements.iter().flat_map(|&(first, last, low, high, _)| {
            [(first, low), (last, high), (last.wrapping_add(1), low), (first, high.wrapping_add(1))]
        });
        let keys = keys.into_iter().chain(borders.map(|(a, p)| (a, p, 0, 10)));
        for (address, port, padding, now) in keys {
            let scan = elements.iter().position(|&(first, last, low, high, expires)| {
                (first..=last).contains(&address)
                    && (low..=high).contains(&port)
                    && expires.is_none_or(|at| at > now)
            });
            prop_assert_eq!(answer(&set, &key(address, port, padding), now), scan.map(|place| place as u32));
        }
    }

    #[test]
    fn intervals_answer_as_a_scan_does(
        cuts in proptest::collection::btree_set(any::<u16>(), 0..24),
        ends in any::<u32>(),
        timed in any::<u32>(),
        keys in proptest::collection::vec((any::<u16>(), 0u64..2), 64),
        shuffle in any::<u64>(),
    ) {
        // Between two cuts is an interval, or nothing; at an end may also be a start.
        let cuts: Vec<u16> = cuts.into_iter().collect();
        let is_start = |place: usize| ends >> place & 1 == 0;
        let expires = |place: usize| (timed >> place & 1 == 1).then_some(1);
        let mut elements: Vec<_> = cuts.iter().enumerate().map(|(place, cut)| Element {
            data: Data::Value((place as u32).to_ne_bytes().into()),
            expires_ns: expires(place),
            ..element(if is_start(place) { Kind::Key } else { Kind::IntervalEnd }, &cut.to_be_bytes())
        }).collect();
        for (place, cut) in cuts.iter().enumerate().filter(|(place, _)| is_start(*place) && place % 2 == 1) {
            elements.insert(place, element(Kind::IntervalEnd, &cut.to_be_bytes()));
        }
        // The order of the dump must not matter.
        elements.sort_by_key(|e| (shuffle ^ u64::from(e.key[1])).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let spec = SetSpec { data: DataKind::Value(4), ..spec(2, &[], true) };
        let set = Set::new(spec, elements).unwrap();
        let borders = cuts.iter().flat_map(|&cut| [(cut, 0), (cut.wrapping_sub(1), 1), (cut.wrapping_add(1), 1)]);
        for (key, now) in keys.into_iter().chain(borders) {
            let last = cuts.iter().rposition(|&cut| cut <= key);
            let scan = last.filter(|&at| is_start(at) && expires(at).is_none_or(|at| at > now));
            prop_assert_eq!(answer(&set, &key.to_be_bytes(), now), scan.map(|place| place as u32));
        }
    }

    #[test]
    fn exact_keys_answer_as_a_scan_does(
        elements in proptest::collection::hash_set(any::<[u8; 2]>(), 0..300),
        keys in proptest::collection::vec(any::<[u8; 2]>(), 64),
    ) {
        let elements: Vec<_> = elements.into_iter().collect();
        let of = elements.iter().map(|key| element(Kind::Key, key)).collect();
        let spec = SetSpec { data: DataKind::Value(4), ..spec(2, &[], false) };
        let set = Set::new(spec, numbered(of)).unwrap();
        for key in keys.into_iter().chain(elements.iter().copied()) {
            let scan = elements.iter().position(|element| *element == key);
            prop_assert_eq!(answer(&set, &key, 0), scan.map(|place| place as u32));
        }
    }
}
