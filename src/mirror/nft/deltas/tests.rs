//! Commits as the kernel tells of them, in order and out of it, against rules that have a set of each kind.

use super::*;
use crate::mirror::nlattr::{HEADER_LEN, Messages, Request};
use crate::table::rules::program::{NFPROTO_INET, Ruleset, Table, TableId};
use crate::table::rules::set::{DataKind, Set, SetSpec};

const PLAIN: &str = "plain";
const NEWRULE: u16 = SUBSYS | 6;

fn set(name: &str, spec: SetSpec) -> Set {
    let spec = SetSpec {
        table: TableId(0),
        name: name.into(),
        key_len: 4,
        ..spec
    };
    Set::new(spec, Vec::new()).unwrap()
}

/// Of generation 7.
fn rules() -> Rules {
    let interval = SetSpec {
        interval: true,
        ..SetSpec::default()
    };
    let timed = |spec: &SetSpec| SetSpec {
        timeout_ms: Some(0),
        ..spec.clone()
    };
    let verdicts = SetSpec {
        data: DataKind::Verdict,
        ..SetSpec::default()
    };
    let sets = [
        set(PLAIN, SetSpec::default()),
        set("timed", timed(&SetSpec::default())),
        set("interval", interval.clone()),
        set("timed interval", timed(&interval)),
        set("verdicts", verdicts),
        Set::opaque(SetSpec {
            name: "opaque".into(),
            opaque: Some("packets add to it".into()),
            ..SetSpec::default()
        }),
    ];
    let table = Table {
        family: NFPROTO_INET,
        name: "t".into(),
        dormant: false,
    };
    let ruleset = Ruleset {
        generation: 7,
        tables: [table].into(),
        sets: sets.map(std::sync::Arc::new).into(),
        ..Ruleset::default()
    };
    Rules::new(ruleset, None, 0)
}

/// A message of a generation.
fn message(kind: u16, generation: u32, attrs: &[(u16, &[u8])]) -> Vec<u8> {
    let [high, low] = (generation as u16).to_be_bytes();
    let request = Request::new(kind, 0, &[NFPROTO_INET, 0, high, low]);
    let with = |request: Request, (kind, value): &(u16, &[u8])| request.attr(*kind, value);
    attrs.iter().fold(request, with).finish(0)
}

fn nested(attrs: &[(u16, &[u8])]) -> Vec<u8> {
    message(0, 0, attrs).split_off(HEADER_LEN + GENMSG_LEN)
}

/// An element that comes or goes, with more attributes than its key.
fn element(kind: u16, generation: u32, set: &str, key: u32, more: &[(u16, &[u8])]) -> Vec<u8> {
    let key = nested(&[(1, &nested(&[(1, &key.to_be_bytes())]))]);
    let list = nested(&[(1, &[key, nested(more)].concat())]);
    let name = format!("{set}\0");
    message(kind, generation, &[(1, b"t\0"), (2, name.as_bytes()), (3, &list)])
}

fn end(generation: u32) -> Vec<u8> {
    message(NEWGEN, generation, &[(1, &generation.to_be_bytes())])
}

fn take(commits: &mut Commits, messages: &[Vec<u8>]) {
    for message in messages.iter().flat_map(|bytes| Messages(bytes)) {
        commits.take(&message);
    }
    commits.heard(Heard {
        any: true,
        lost: false,
        drained: true,
    });
}

/// What these messages make of the rules: their generation, or that they have to be read.
fn after(messages: &[Vec<u8>]) -> Result<Option<(u32, Rules)>, HasToBeRead> {
    let mut commits = Commits::default();
    take(&mut commits, messages);
    commits.apply(&rules(), 7, 0)
}

fn has(rules: &Rules, set: &str, key: u32) -> bool {
    let set = rules.ruleset.sets.iter().find(|it| *it.spec.name == *set).unwrap();
    set.lookup(&key.to_be_bytes(), 1).is_some()
}

#[test]
fn elements_come_and_go_by_commits_that_follow_each_other() {
    let told = [
        // Of the generation that is at hand: it is in it already.
        element(NEWSETELEM, 7, PLAIN, 1, &[]),
        end(7),
        element(NEWSETELEM, 8, PLAIN, 2, &[]),
        element(NEWSETELEM, 8, PLAIN, 3, &[]),
        element(NEWSETELEM, 8, "interval", 10, &[]),
        element(NEWSETELEM, 8, "interval", 20, &[(3, &[0, 0, 0, 1])]),
        end(8),
        element(DESTROYSETELEM, 9, PLAIN, 2, &[]),
        element(NEWSETELEM, 9, "timed", 5, &[(5, &9u64.to_be_bytes())]),
        end(9),
        // This one has not come to its end.
        element(DELSETELEM, 10, PLAIN, 3, &[]),
    ];
    let mut commits = Commits::default();
    take(&mut commits, &told);
    let (generation, rules) = commits.apply(&rules(), 7, 0).unwrap().unwrap();
    assert_eq!((generation, rules.ruleset.generation, rules.taken.deltas), (9, 9, 2));
    assert_eq!([1, 2, 3].map(|key| has(&rules, PLAIN, key)), [false, false, true]);
    assert_eq!(
        [9, 10, 19, 20].map(|key| has(&rules, "interval", key)),
        [false, true, true, false]
    );
    assert!(has(&rules, "timed", 5));
    let timed = &rules.ruleset.sets[1];
    assert!(timed.lookup(&[0, 0, 0, 5], 9_000_000).is_none(), "its time is over");
    assert!(commits.apply(&rules, 9, 0).unwrap().is_none(), "nothing new");
    take(&mut commits, &[end(10)]);
    let (_, rules) = commits.apply(&rules, 9, 0).unwrap().unwrap();
    assert!(!has(&rules, PLAIN, 3));
}

#[test]
fn whatever_is_not_expected_has_all_read() {
    let plain = |generation| element(NEWSETELEM, generation, PLAIN, 1, &[]);
    let counter = nested(&[(1, b"counter\0")]);
    for (what, told) in [
        (
            "a rule among elements",
            vec![plain(8), message(NEWRULE, 8, &[]), end(8)],
        ),
        ("a rule alone", vec![message(NEWRULE, 8, &[]), end(8)]),
        ("a gap", vec![plain(9), end(9)]),
        ("a gap behind a commit", vec![plain(8), end(8), plain(10), end(10)]),
        ("an element of another generation", vec![plain(9), end(8)]),
        ("nothing at all", vec![end(8)]),
        ("no generation", vec![plain(8), message(NEWGEN, 8, &[])]),
        ("another set", vec![element(NEWSETELEM, 8, "unknown", 1, &[]), end(8)]),
        (
            "one that packets add to",
            vec![element(NEWSETELEM, 8, "opaque", 1, &[]), end(8)],
        ),
        (
            "an interval that ends in time",
            vec![element(NEWSETELEM, 8, "timed interval", 1, &[]), end(8)],
        ),
        (
            "a map of verdicts",
            vec![element(NEWSETELEM, 8, "verdicts", 1, &[]), end(8)],
        ),
        ("one that is there", vec![plain(8), plain(8), end(8)]),
        ("one that is not", vec![element(DELSETELEM, 8, PLAIN, 1, &[]), end(8)]),
        (
            "a catch-all",
            vec![element(NEWSETELEM, 8, PLAIN, 1, &[(3, &[0, 0, 0, 2])]), end(8)],
        ),
        (
            "a flag that is not known",
            vec![element(NEWSETELEM, 8, PLAIN, 1, &[(3, &[0, 0, 1, 0])]), end(8)],
        ),
        (
            "an expression",
            vec![element(NEWSETELEM, 8, PLAIN, 1, &[(7, &counter)]), end(8)],
        ),
        (
            "an attribute that is not known",
            vec![element(NEWSETELEM, 8, PLAIN, 1, &[(40, &[0])]), end(8)],
        ),
    ] {
        assert_eq!(after(&told).err(), Some(HasToBeRead), "{what}");
    }
    assert!(after(&[plain(8), end(8)]).unwrap().is_some());
}

#[test]
fn a_loss_has_all_read_until_the_socket_was_empty() {
    let heard = |lost, drained| Heard {
        any: true,
        lost,
        drained,
    };
    let mut commits = Commits::default();
    commits.heard(heard(true, false));
    commits.forget();
    take(&mut commits, &[element(NEWSETELEM, 8, PLAIN, 1, &[]), end(8)]);
    assert!(commits.apply(&rules(), 7, 0).is_err(), "more may have been lost");
    commits.heard(heard(false, true));
    commits.forget();
    take(&mut commits, &[element(NEWSETELEM, 8, PLAIN, 1, &[]), end(8)]);
    assert!(commits.apply(&rules(), 7, 0).unwrap().is_some());
}

#[test]
fn what_is_read_meanwhile_is_not_taken_in_twice() {
    let mut commits = Commits::default();
    // The reading is of generation 8, whose commit is still being told.
    take(&mut commits, &[element(NEWSETELEM, 8, PLAIN, 1, &[])]);
    commits.forget();
    take(&mut commits, &[element(NEWSETELEM, 8, PLAIN, 2, &[]), end(8)]);
    assert!(commits.apply(&rules(), 8, 0).unwrap().is_none());
}

#[test]
fn generations_go_round_without_zero() {
    let mut commits = Commits::default();
    take(&mut commits, &[element(NEWSETELEM, 1, PLAIN, 1, &[]), end(1)]);
    let (generation, _) = commits.apply(&rules(), u32::MAX, 0).unwrap().unwrap();
    assert_eq!(generation, 1);
    assert!(is_later(1, u32::MAX) && !is_later(u32::MAX, 1) && !is_later(5, 5));
}

#[test]
fn too_many_elements_are_read() {
    let mut commits = Commits::default();
    let one = element(NEWSETELEM, 8, PLAIN, 1, &[]);
    let message = Messages(&one).next().unwrap();
    (0..=ELEMENTS_MAX).for_each(|_| commits.take(&message));
    assert_eq!(commits.open.len(), ELEMENTS_MAX);
    take(&mut commits, &[end(8)]);
    assert!(commits.apply(&rules(), 7, 0).is_err());
    assert_eq!(commits.elements, 0);
}
