//! Recorded rulesets, whole and broken. `testdata/*.bin` is what Linux 6.18 answered to the dumps of [`load`], in its order,
//! after `nft -f` of the ruleset of that name in tests/nft/rulesets.rs: netlink messages, one after the other.

use super::super::super::nlattr::{HEADER_LEN, Messages};
use super::super::SUBSYS;
use super::*;
use crate::table::rules::expr::{Base, ChecksumFix};
use crate::table::rules::interpret::{Interpreter, Outcome};
use crate::table::rules::keys::{CtKey, MetaKey};
use crate::table::rules::packet::{Answer, Fact, Packet};
use crate::table::rules::state::State;
use rand::rngs::ChaCha8Rng;
use rand::{Rng, RngExt, SeedableRng};

const RECORDED: [&[u8]; 2] = [
    include_bytes!("../testdata/expressions.bin"),
    include_bytes!("../testdata/kube.bin"),
];

/// What a recording leads to; an error where the kernel's answer would be one.
fn replay(bytes: &[u8]) -> Result<Ruleset, NftError> {
    let mut loading = Loading::default();
    for m in Messages(bytes) {
        let family = m.payload.first().copied().unwrap_or(0);
        match m.kind.wrapping_sub(SUBSYS) {
            0 => loading.table(family, &m)?,
            3 => loading.chain(family, &m)?,
            18 => loading.object(family, &m)?,
            9 => loading.set(family, &m)?,
            6 => loading.rule(family, &m)?,
            _ => {}
        }
    }
    loading.mark_dynamic();
    let mut sets = Vec::new();
    for spec in std::mem::take(&mut loading.sets) {
        let place = [&loading.tables[spec.table.0 as usize].name, &spec.name].map(|name| name.to_string());
        let mut elements = Elements::new(spec, &loading.names, 0);
        for m in Messages(bytes).filter(|m| m.kind == SUBSYS | 12) {
            let attrs = m.attrs(GENMSG_LEN);
            if [1, 2].map(|kind| attrs.find(kind).map(get_str).unwrap_or_default()) == place {
                elements.add(attrs.find(3).unwrap_or_default());
            }
        }
        sets.push(Arc::new(elements.finish()));
    }
    Ok(loading.finish(1, sets))
}

/// A packet that knows an answer to everything, and lets everything be done.
struct Anything;

impl Packet for Anything {
    fn nfproto(&self) -> u8 {
        2
    }

    fn length(&self) -> u32 {
        1500
    }

    fn l4proto(&self) -> Option<u8> {
        Some(6)
    }

    fn is_later_fragment(&self) -> bool {
        false
    }

    fn payload(&self, _: Base, offset: usize, out: &mut [u8]) -> Answer {
        // A TCP header of 60 bytes, and some of its options.
        for (at, byte) in (offset..).zip(out) {
            *byte = if at == 12 { 0xf0 } else { at as u8 % 5 };
        }
        Answer::Done
    }

    fn meta(&self, key: MetaKey) -> Fact {
        if key.width() == 16 {
            Fact::name("eth0")
        } else {
            Fact::U32(1)
        }
    }

    fn ct(&self, _: CtKey, _: Option<bool>) -> Fact {
        Fact::U64(4)
    }

    fn random(&mut self) -> Option<u32> {
        Some(1)
    }

    fn set_meta(&mut self, _: MetaKey, _: [u8; 4]) -> Answer {
        Answer::Done
    }

    fn set_ct(&mut self, _: CtKey, _: Option<bool>, _: [u8; 16]) -> Answer {
        Answer::Done
    }

    fn store(&mut self, _: Base, _: usize, _: &[u8], _: ChecksumFix) -> Answer {
        Answer::Done
    }

    fn store_tcp(&mut self, _: usize, _: &[u8]) -> Answer {
        Answer::Done
    }

    fn notrack(&mut self) -> Answer {
        Answer::Done
    }
}

/// Runs every rule by itself, so that none hides behind another; how many of them the kernel would have to run.
fn run_all(ruleset: &Ruleset) -> usize {
    let rules: Vec<_> = ruleset
        .chains
        .iter()
        .flat_map(|chain| chain.rules.iter().cloned())
        .collect();
    let mut alone = ruleset.clone();
    let table = TableId(0);
    alone.chains = alone
        .chains
        .iter()
        .map(|chain| Chain {
            rules: Box::default(),
            ..chain.clone()
        })
        .chain(rules.into_iter().map(|rule| Chain {
            table,
            name: "alone".into(),
            base: None,
            rules: [rule].into(),
        }))
        .collect();
    let state = State::new(&alone, 0);
    (ruleset.chains.len()..alone.chains.len())
        .filter(|&chain| {
            let outcome = Interpreter::new(&alone, &state, 5).chain(ChainId(chain as u32), &mut Anything);
            matches!(outcome, Outcome::Punt(_))
        })
        .count()
}

#[test]
fn recordings_are_understood() {
    for (bytes, sizes) in RECORDED.into_iter().zip([(2, 4, 7, 3), (1, 15, 11, 0)]) {
        let ruleset = replay(bytes).unwrap();
        let found = (
            ruleset.tables.len(),
            ruleset.chains.len(),
            ruleset.sets.len(),
            ruleset.objects.len(),
        );
        assert_eq!(found, sizes);
        assert!(
            ruleset
                .sets
                .iter()
                .all(|set| set.spec.opaque.is_none() || &*set.spec.name == "affinity-a")
        );
        assert!(run_all(&ruleset) < 20);
    }
}

/// A message cut anywhere, or with any bytes changed, is an error, or something in it is uncarried; and whatever is taken as
/// understood can be run.
#[test]
fn broken_recordings_do_no_harm() {
    let mut rng = ChaCha8Rng::seed_from_u64(4);
    let (mut errors, mut read) = (0, 0);
    for round in 0..4000 {
        let mut bytes = RECORDED[round % 2].to_vec();
        if round % 8 == 0 {
            bytes.truncate(rng.random_range(0..bytes.len()));
        }
        for _ in 0..rng.random_range(1..6) {
            break_one(&mut bytes, &mut rng);
        }
        match replay(&bytes) {
            Ok(ruleset) => {
                read += 1;
                run_all(&ruleset);
            }
            Err(_) => errors += 1,
        }
    }
    assert!(read > 1000 && errors > 100, "{read} read, {errors} refused");
}

/// Changes a word, or a byte, of one message behind its header; mostly to something that means something.
fn break_one(bytes: &mut [u8], rng: &mut ChaCha8Rng) {
    let starts: Vec<_> = Messages(bytes)
        .scan(0, |at, m| {
            let start = *at;
            *at += (HEADER_LEN + m.payload.len()).next_multiple_of(4);
            Some((start, m.payload.len()))
        })
        .filter(|(_, len)| *len > GENMSG_LEN)
        .collect();
    if starts.is_empty() {
        return;
    }
    let (start, len) = starts[rng.random_range(0..starts.len())];
    let at = start + HEADER_LEN + rng.random_range(0..len);
    if rng.random_range(0..3) == 0 {
        bytes[at] = rng.next_u32() as u8;
        return;
    }
    let word = at & !3;
    if let Some(place) = bytes.get_mut(word..word + 4) {
        let value = [0, 1, 2, 4, 8, 23, 64, 255, u32::MAX, rng.next_u32()][rng.random_range(0..10)];
        place.copy_from_slice(&value.to_be_bytes());
    }
}
