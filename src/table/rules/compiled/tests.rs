//! The compiled form against the interpreter: random rulesets and packets, and what is easier said than found at random.

mod conditions;
mod packets;
mod rulesets;

use super::super::expr::{Expr, Stateful, Verdict};
use super::super::interpret::tests::{reg, rule, ruleset as chains_of};
use super::super::interpret::{Interpreter, Outcome};
use super::super::keys::MetaKey;
use super::super::program::{JUMPS_MAX, NFPROTO_IPV4, NFPROTO_IPV6, StateId};
use super::super::state::State;
use super::*;
use packets::Fake;
use rand::{RngExt, SeedableRng, rngs::ChaCha8Rng};

/// Random cases of a usual run.
const CASES: u64 = 12_000;
/// Packets that one ruleset gets, one after the other.
const PACKETS: u64 = 20;

/// Runs a packet both ways, from and into the two states, and compares all that can be seen of it.
fn both(
    ruleset: &Ruleset,
    program: &Program,
    states: &[State; 2],
    bases: &[ChainId],
    packet: &Fake,
    now: u64,
) -> Outcome {
    let (mut reference, mut fast) = (packet.clone(), packet.clone());
    let mut interpreter = Interpreter::new(ruleset, &states[0], now);
    let expected = interpreter.hook(bases, &mut reference);
    let changes: Vec<_> = interpreter.into_changes().cells().collect();
    let mut interpreter = Interpreter::new(ruleset, &states[1], now);
    let outcome = program.hook(bases, &mut interpreter, &mut fast);
    assert_eq!(outcome, expected, "{packet:?}");
    assert_eq!(
        interpreter.into_changes().cells().collect::<Vec<_>>(),
        changes,
        "{packet:?}"
    );
    assert_eq!(format!("{:?}", states[1]), format!("{:?}", states[0]), "{packet:?}");
    assert_eq!(fast, reference);
    outcome
}

/// What a family runs of a ruleset: its base chains, compiled with an index wherever there can be one, or with what is usual.
fn program(ruleset: &Ruleset, nfproto: u8, spared_min: usize) -> (Vec<ChainId>, Option<Program>) {
    let bases = ruleset.bases(nfproto, 2);
    let chains = super::super::carried::reachable(ruleset, &bases, nfproto);
    let program = Program::with(ruleset, chains.into_iter(), nfproto, spared_min);
    (bases, program)
}

#[test]
fn it_says_what_the_interpreter_says() {
    // accept, drop by a rule, by policy, reject, nat, punt; chains with an index; rulesets that are not compiled.
    let (mut outcomes, mut indexed, mut refused) = ([0; 6], 0, 0);
    let first: u64 = std::env::var("BYPATH_SEED").map_or(0, |seed| seed.parse().expect("a number"));
    let cases = std::env::var("BYPATH_CASES").map_or(CASES, |cases| cases.parse().expect("a number"));
    for seed in first..first + cases / PACKETS {
        let random = &mut ChaCha8Rng::seed_from_u64(seed);
        let ruleset = rulesets::random(random);
        let nfproto = [NFPROTO_IPV4, NFPROTO_IPV6][random.random_range(0..2)];
        let spared_min = [1, SPARED_MIN][random.random_range(0..2)];
        let (bases, program) = program(&ruleset, nfproto, spared_min);
        let Some(program) = program else {
            refused += 1;
            continue;
        };
        indexed += program
            .chains
            .iter()
            .flatten()
            .filter(|chain| chain.index.is_some())
            .count();
        let states = [State::new(&ruleset, 0), State::new(&ruleset, 0)];
        for step in 0..PACKETS {
            let packet = Fake::random(random, nfproto);
            let run = std::panic::AssertUnwindSafe(|| both(&ruleset, &program, &states, &bases, &packet, step << 28));
            let outcome = std::panic::catch_unwind(run).unwrap_or_else(|_| panic!("BYPATH_SEED={seed}, packet {step}"));
            outcomes[match outcome {
                Outcome::Accept => 0,
                Outcome::Drop(place) if place.rule.is_some() => 1,
                Outcome::Drop(_) => 2,
                Outcome::Reject(..) => 3,
                Outcome::Nat(..) => 4,
                Outcome::Punt(_) => 5,
            }] += 1;
        }
    }
    println!("outcomes {outcomes:?}, {indexed} chains with an index, {refused} rulesets not compiled");
    if cases == CASES {
        let few = outcomes.iter().any(|count| *count < CASES / 200);
        assert!(
            !few && indexed > 200 && refused < CASES / PACKETS / 10,
            "{outcomes:?} {indexed} {refused}"
        );
    }
}

#[test]
fn a_rule_that_reads_what_it_has_not_written_is_the_interpreters() {
    let stale = rule([Expr::MetaSet {
        key: MetaKey::Mark,
        source: reg(1),
    }]);
    let ruleset = chains_of(vec![vec![stale]]);
    assert!(program(&ruleset, NFPROTO_IPV4, 1).1.is_none());
}

/// As in the interpreter: so many jumps, and no more; a loop without jumps back ends, too.
#[test]
fn jumps_are_bounded() {
    let enter = |verdict| vec![rule([Expr::Verdict(verdict)])];
    for depth in [JUMPS_MAX as u32, JUMPS_MAX as u32 + 1] {
        let jumps = (0..depth).map(|n| enter(Verdict::Jump(ChainId(n + 1))));
        let ruleset = chains_of(jumps.chain([enter(Verdict::Accept)]).collect());
        let (bases, program) = program(&ruleset, NFPROTO_IPV4, 1);
        let states = [State::new(&ruleset, 0), State::new(&ruleset, 0)];
        let random = &mut ChaCha8Rng::seed_from_u64(1);
        let packet = Fake::random(random, NFPROTO_IPV4);
        both(
            &ruleset,
            &program.expect("it stands alone"),
            &states,
            &bases,
            &packet,
            0,
        );
    }
    let mut around = chains_of(vec![vec![
        rule([Expr::State(StateId(0))]),
        rule([Expr::Verdict(Verdict::Goto(ChainId(0)))]),
    ]]);
    around.states = [Stateful::Counter { packets: 3, bytes: 4 }].into();
    let (bases, program) = program(&around, NFPROTO_IPV4, 1);
    let state = State::new(&around, 0);
    let mut packet = Fake::random(&mut ChaCha8Rng::seed_from_u64(1), NFPROTO_IPV4);
    let outcome =
        program
            .expect("it stands alone")
            .hook(&bases, &mut Interpreter::new(&around, &state, 0), &mut packet);
    assert!(matches!(outcome, Outcome::Punt(_)));
    assert_eq!(state.cell(StateId(0)).counted(), Some((3, 4)));
}

/// What is compared with one field takes one lookup, whatever is around it, and rules of the other family are not there.
#[test]
fn a_field_is_looked_up() {
    let saddr = |n: u32| conditions::saddr(&n.to_be_bytes());
    let mut rules: Vec<_> = (0..100)
        .map(|n| rule([saddr(n), vec![Expr::Verdict(Verdict::Drop)]].concat()))
        .collect();
    rules.insert(50, rule([Expr::Verdict(Verdict::Continue)]));
    rules.insert(0, rule([conditions::nfproto(NFPROTO_IPV6), saddr(1)].concat()));
    let ruleset = chains_of(vec![rules]);
    let (_, program) = program(&ruleset, NFPROTO_IPV4, SPARED_MIN);
    let program = program.expect("it stands alone");
    let chain = program.chains[0].as_ref().expect("it is a base chain");
    assert_eq!((chain.rules.len(), program.loads.len()), (101, 1));
    let mut packet = Fake::random(&mut ChaCha8Rng::seed_from_u64(1), NFPROTO_IPV4);
    packet.bytes[12..16].copy_from_slice(&70u32.to_be_bytes());
    let mut loaded = load::Loaded::new(&program.loads);
    let mut cursors = index::Cursors::default();
    let index = chain.index.as_ref().expect("it spares some");
    let mut next = |at| cursors.next(index, at, &mut loaded, &packet);
    // The rule without a condition, and number 70, which is behind it.
    assert_eq!([next(0), next(51), next(72)], [50, 71, index::END]);
}
