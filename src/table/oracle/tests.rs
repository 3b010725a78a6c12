//! What an answer is good for, and what gives way when there is no room.

use super::super::fib::{Gateway, RouteKind};
use super::*;
use std::collections::HashMap;

fn route() -> Arc<Route> {
    Arc::new(Route {
        kind: RouteKind::Unicast,
        nexthops: Box::default(),
        mtu: 0,
        left: None,
    })
}

fn question(i: u32) -> Question {
    Question {
        family: Family::V4,
        src: Addr::from(i),
        dst: 2,
        iif: IfaceIndex(3),
        proto: 6,
        tos: 0,
        sport: 4,
        dport: 5,
        flow_label: 0,
    }
}

fn answer(i: u32) -> Answer {
    Answer::Forward(Nexthop {
        iface: IfaceIndex(i as u16),
        gateway: Gateway::Via(Family::V4, Addr::from(i)),
    })
}

#[test]
fn every_part_of_a_question_counts() {
    let (mut answers, route) = (Answers::new(16), route());
    let asked = question(1);
    answers.insert(asked, route.clone(), 7, Answer::Kernel);
    assert_eq!(answers.get(&asked, &route, 7), Some(Answer::Kernel));
    for other in [
        Question {
            family: Family::V6,
            ..asked
        },
        Question { src: 9, ..asked },
        Question { dst: 9, ..asked },
        Question {
            iif: IfaceIndex(9),
            ..asked
        },
        Question { proto: 9, ..asked },
        Question { tos: 9, ..asked },
        Question { sport: 9, ..asked },
        Question { dport: 9, ..asked },
    ] {
        assert_eq!(answers.get(&other, &route, 7), None, "{other:?}");
    }
}

#[test]
fn an_answer_holds_for_its_route_and_generation_only() {
    let mut answers = Answers::new(16);
    let (first, second) = (route(), route());
    assert_eq!(first, second, "equal is not enough");
    answers.insert(question(1), first.clone(), 7, answer(1));
    assert_eq!(answers.get(&question(1), &first, 7), Some(answer(1)));
    assert_eq!(answers.get(&question(1), &first, 8), None);
    assert_eq!(answers.get(&question(1), &second, 7), None);
    answers.insert(question(1), second.clone(), 8, answer(2));
    assert_eq!(answers.get(&question(1), &second, 8), Some(answer(2)));
    assert_eq!(answers.len(), 1, "the same question keeps its place");
}

#[test]
fn a_route_is_held_so_that_its_address_is_not_given_again() {
    let mut answers = Answers::new(4);
    let first = route();
    answers.insert(question(1), first.clone(), 7, answer(1));
    let address = Arc::as_ptr(&first);
    drop(first);
    for _ in 0..100 {
        let later = route();
        assert_ne!(Arc::as_ptr(&later), address);
        assert_eq!(answers.get(&question(1), &later, 7), None);
    }
}

#[test]
fn room_is_bounded_and_never_a_wrong_answer() {
    for places in [1, 4, 5, 64, 1000] {
        let (mut answers, route) = (Answers::new(places), route());
        assert!(answers.is_empty());
        let capacity = answers.capacity();
        assert!(capacity >= places && capacity < 2 * places.max(4));
        let mut model = HashMap::new();
        let mut seed = 1u32;
        for step in 0..20_000 {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let who = (seed >> 16) % (3 * capacity as u32);
            let generation = u64::from(step / 5000u32);
            match answers.get(&question(who), &route, generation) {
                Some(found) => assert_eq!(Some(&(found, generation)), model.get(&who)),
                None => {
                    answers.insert(question(who), route.clone(), generation, answer(step));
                    model.insert(who, (answer(step), generation));
                    assert_eq!(answers.get(&question(who), &route, generation), Some(answer(step)));
                }
            }
            assert!(answers.len() <= capacity);
        }
        assert!(answers.len() * 10 >= capacity * 9, "the room is used");
        assert_eq!(answers.capacity(), capacity);
    }
}

#[test]
fn what_is_used_stays() {
    // One set: three busy flows outlive a hundred that come once.
    let (mut answers, route) = (Answers::new(4), route());
    for busy in 0..3 {
        answers.insert(question(busy), route.clone(), 7, answer(busy));
    }
    for once in 100..200 {
        for busy in 0..3 {
            assert_eq!(
                answers.get(&question(busy), &route, 7),
                Some(answer(busy)),
                "before {once}"
            );
        }
        answers.insert(question(once), route.clone(), 7, Answer::Kernel);
    }
}

#[test]
fn what_no_longer_holds_goes_first() {
    let (mut answers, route) = (Answers::new(4), route());
    for i in 0..4 {
        answers.insert(question(i), route.clone(), if i == 2 { 6 } else { 7 }, answer(i));
    }
    answers.insert(question(9), route.clone(), 7, Answer::Kernel);
    assert_eq!(answers.get(&question(2), &route, 6), None);
    for i in [0, 1, 3] {
        assert_eq!(answers.get(&question(i), &route, 7), Some(answer(i)));
    }
}
