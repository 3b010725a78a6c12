//! The rules, one kernel fact each; then all of them at random against a plain reading of fib_rules_lookup.

use super::super::iface::IfaceIndex;
use super::*;
use proptest::prelude::*;

const LEFT: &str = "a reason";

fn route(kind: RouteKind, mtu: u32) -> Arc<Route> {
    Arc::new(Route {
        kind,
        nexthops: Box::default(),
        mtu,
        left: None,
    })
}

fn left_route() -> Arc<Route> {
    Arc::new(Route {
        left: Some(LEFT.into()),
        ..(*route(RouteKind::Unicast, 9)).clone()
    })
}

/// A routing table 254 with a default route (mtu 1), 10.0.0.0/8 (mtu 2), and, in table 100, 10.1.0.0/16 (mtu 3).
fn fib(rules: impl IntoIterator<Item = Rule>) -> Fib {
    let mut fib = Fib::new(Family::V4);
    let (main, other) = (fib.table(TABLE_MAIN), fib.table(100));
    assert_eq!((main, other), (0, 1));
    fib.tables[main].1.insert(0, 0, route(RouteKind::Unicast, 1));
    fib.tables[main].1.insert(0x0a00_0000, 8, route(RouteKind::Unicast, 2));
    fib.tables[other]
        .1
        .insert(0x0a01_0000, 16, route(RouteKind::Unicast, 3));
    fib.rules = Arc::new(rules.into_iter().collect());
    fib
}

fn key(src: Addr, dst: Addr) -> FibKey {
    FibKey {
        src,
        dst,
        iif: Some(IfaceIndex(1)),
        tos: 0,
    }
}

/// What was found, as the route's mtu or a word.
fn found(fib: &Fib, key: &FibKey) -> String {
    match fib.lookup(key) {
        Found::Route(_, route) => route.mtu.to_string(),
        Found::Refused => "refused".into(),
        Found::Left(why) => why.to_string(),
        Found::Nothing => "nothing".into(),
    }
}

fn dst(fib: &Fib, dst: Addr) -> String {
    found(fib, &key(0xc000_0201, dst))
}

#[test]
fn rules_are_asked_in_order_until_a_route_is_found() {
    let tables = fib([Rule::lookup(1, 1), Rule::lookup(2, 0)]);
    assert_eq!(dst(&tables, 0x0a01_0001), "3");
    assert_eq!(dst(&tables, 0x0a02_0001), "2");
    assert_eq!(dst(&tables, 0x0b00_0001), "1");
    assert_eq!(dst(&fib([Rule::lookup(1, 1)]), 0x0b00_0001), "nothing");
    assert_eq!(dst(&fib([]), 0x0b00_0001), "nothing");
    // A rule may name a table that is not there.
    assert_eq!(dst(&fib([Rule::lookup(1, 7), Rule::lookup(2, 0)]), 0x0b00_0001), "1");
}

#[test]
fn a_new_namespace_has_the_kernels_rules() {
    for (family, numbers) in [(Family::V4, vec![255, 254, 253]), (Family::V6, vec![255, 254])] {
        let mut fib = Fib::with_default_rules(family);
        assert_eq!(fib.tables.iter().map(|table| table.0).collect::<Vec<_>>(), numbers);
        assert!(fib.rules.iter().all(Rule::is_for_all));
        assert!(matches!(fib.lookup(&key(1, 2)), Found::Nothing));
        for (at, number) in numbers.into_iter().enumerate().rev() {
            fib.tables[at].1.insert(0, 0, route(RouteKind::Unicast, number));
            assert_eq!(dst(&fib, 7), number.to_string(), "the earlier rule wins");
        }
    }
}

#[test]
fn selectors_all_have_to_match() {
    let rule = Rule {
        from: Prefix {
            addr: 0xc000_0200,
            len: 24,
        },
        to: Prefix {
            addr: 0x0a01_0000,
            len: 15,
        },
        iif: Some(IfaceIndex(1)),
        tos: 0x10,
        ..Rule::lookup(1, 0)
    };
    let tables = fib([rule]);
    let good = FibKey {
        tos: 0x10,
        ..key(0xc000_02ff, 0x0a00_ffff)
    };
    assert_eq!(found(&tables, &good), "2");
    for bad in [
        FibKey {
            src: 0xc000_0300,
            ..good
        },
        FibKey {
            dst: 0x0a02_0000,
            ..good
        },
        FibKey {
            iif: Some(IfaceIndex(2)),
            ..good
        },
        FibKey { iif: None, ..good },
        FibKey { tos: 0x08, ..good },
        FibKey { tos: 0, ..good },
    ] {
        assert_eq!(found(&tables, &bad), "nothing", "{bad:?}");
    }
}

#[test]
fn a_lookup_without_iif_comes_from_the_loopback() {
    let mut tables = fib([Rule {
        iif: Some(IfaceIndex(0)),
        ..Rule::lookup(1, 0)
    }]);
    let validation = FibKey { iif: None, ..key(1, 2) };
    assert_eq!(found(&tables, &validation), "nothing");
    tables.loopback = Some(IfaceIndex(0));
    assert_eq!(found(&tables, &validation), "1");
    assert_eq!(found(&tables, &key(1, 2)), "nothing");
}

#[test]
fn tos_is_three_bits_in_ipv4_and_dscp_in_ipv6() {
    let mut tables = fib([Rule {
        tos: 0x10,
        ..Rule::lookup(1, 0)
    }]);
    let with = |tos| FibKey { tos, ..key(1, 2) };
    assert_eq!(found(&tables, &with(0x13)), "1", "ECN does not matter");
    assert_eq!(found(&tables, &with(0xf0)), "1", "nor does the old precedence");
    assert_eq!(found(&tables, &with(0x14)), "nothing");
    tables.family = Family::V6;
    assert_eq!(found(&tables, &with(0x13)), "1");
    assert_eq!(found(&tables, &with(0xf0)), "nothing");
}

#[test]
fn ipv6_prefixes_are_128_bits_wide() {
    let net = 0x2001_0db8_u128 << 96;
    let mut fib = Fib::new(Family::V6);
    let table = fib.table(TABLE_MAIN);
    fib.tables[table].1.insert(net, 32, route(RouteKind::Unicast, 1));
    fib.rules = Arc::new(vec![Rule {
        from: Prefix { addr: net, len: 127 },
        ..Rule::lookup(1, table)
    }]);
    assert_eq!(found(&fib, &key(net | 1, net | 7)), "1");
    assert_eq!(found(&fib, &key(net | 2, net | 7)), "nothing");
}

#[test]
fn suppressed_routes_do_not_count() {
    // As wg-quick does: main without its default route, then another table.
    let suppress = |len| Rule {
        suppress_prefix_len: len,
        ..Rule::lookup(1, 0)
    };
    let tables = fib([suppress(0), Rule::lookup(2, 1)]);
    assert_eq!(dst(&tables, 0x0a01_0001), "2");
    assert_eq!(dst(&tables, 0x0b00_0001), "nothing");
    let tables = fib([suppress(8), Rule::lookup(2, 1)]);
    assert_eq!(dst(&tables, 0x0a01_0001), "3");
    assert_eq!(dst(&tables, 0x0a02_0001), "nothing");
}

#[test]
fn errors_are_not_suppressed() {
    let mut tables = fib([
        Rule {
            suppress_prefix_len: 8,
            ..Rule::lookup(1, 0)
        },
        Rule::lookup(2, 0),
    ]);
    tables.tables[0].1.insert(0x0a00_0000, 8, route(RouteKind::Refused, 4));
    assert_eq!(dst(&tables, 0x0a01_0001), "4");
}

#[test]
fn throw_goes_on_with_the_next_rule() {
    let mut tables = fib([Rule::lookup(1, 1), Rule::lookup(2, 0)]);
    tables.tables[1].1.insert(0x0a01_0100, 24, route(RouteKind::Throw, 5));
    assert_eq!(dst(&tables, 0x0a01_0001), "3");
    assert_eq!(
        dst(&tables, 0x0a01_0101),
        "2",
        "not the shorter prefix of the same table"
    );
}

#[test]
fn a_left_route_ends_the_search() {
    let mut tables = fib([
        Rule {
            suppress_prefix_len: 32,
            ..Rule::lookup(1, 1)
        },
        Rule::lookup(2, 0),
    ]);
    assert_eq!(dst(&tables, 0x0a01_0001), "2");
    tables.tables[1].1.insert(0x0a01_0000, 16, left_route());
    assert_eq!(dst(&tables, 0x0a01_0001), "9");
}

#[test]
fn a_left_rule_takes_what_its_selectors_match() {
    let rule = Rule {
        to: Prefix {
            addr: 0x0a01_0000,
            len: 16,
        },
        left: Some(LEFT.into()),
        ..Rule::lookup(1, 1)
    };
    let tables = fib([rule.clone(), Rule::lookup(2, 0)]);
    assert_eq!(dst(&tables, 0x0a01_0001), LEFT);
    assert_eq!(dst(&tables, 0x0a02_0001), "2");
    let tables = fib([
        Rule {
            to: Prefix::ALL,
            ..rule
        },
        Rule::lookup(2, 0),
    ]);
    assert_eq!(dst(&tables, 0x0a02_0001), LEFT);
}

#[test]
fn refuse_goto_and_nop() {
    let act = |action| Rule {
        action,
        ..Rule::lookup(1, 0)
    };
    assert_eq!(
        dst(&fib([act(Action::Nop), act(Action::Refuse), act(Action::Lookup(0))]), 1),
        "refused"
    );
    assert_eq!(
        dst(
            &fib([act(Action::Goto(2)), act(Action::Refuse), act(Action::Lookup(0))]),
            1
        ),
        "1"
    );
    // The target's own selectors are asked.
    let target = Rule {
        to: Prefix {
            addr: 0x0a00_0000,
            len: 8,
        },
        ..Rule::lookup(2, 1)
    };
    let tables = fib([act(Action::Goto(2)), act(Action::Refuse), target, Rule::lookup(3, 0)]);
    assert_eq!(
        (dst(&tables, 0x0a01_0001), dst(&tables, 0x0b00_0000)),
        ("3".into(), "1".into())
    );
    // A goto that the kernel would not take, backwards or behind the end, ends all the same.
    assert_eq!(
        dst(
            &fib([act(Action::Nop), act(Action::Goto(0)), act(Action::Lookup(0))]),
            1
        ),
        "1"
    );
    assert_eq!(dst(&fib([act(Action::Goto(9)), act(Action::Lookup(0))]), 1), "nothing");
}

fn any_rule() -> impl Strategy<Value = Rule> {
    let prefix = || {
        prop_oneof![3 => Just(Prefix::ALL), 1 => (0u128..4, 30u8..=32).prop_map(|(addr, len)| Prefix {
        addr: addr >> (32 - len) << (32 - len), len })]
    };
    let action = prop_oneof![
        6 => (0usize..3).prop_map(Action::Lookup),
        1 => Just(Action::Refuse),
        1 => (0usize..8).prop_map(Action::Goto),
        1 => Just(Action::Nop)
    ];
    let iif = prop::option::weighted(0.2, (0u16..3).prop_map(IfaceIndex));
    let tos = prop_oneof![3 => Just(0u8), 1 => Just(8u8)];
    let left = prop::option::weighted(0.1, Just(Arc::from(LEFT)));
    let invert = prop::bool::weighted(0.2);
    (prefix(), prefix(), iif, tos, invert, action, -1i16..33, left).prop_map(
        |(from, to, iif, tos, invert, action, suppress_prefix_len, left)| Rule {
            pref: 0,
            from,
            to,
            iif,
            tos,
            invert,
            action,
            suppress_prefix_len,
            left,
        },
    )
}

/// fib_rules_lookup, read aloud: from rule `at` on.
fn aloud(fib: &Fib, key: &FibKey, at: usize) -> String {
    let Some(rule) = fib.rules.get(at) else {
        return "nothing".into();
    };
    let inside = |prefix: Prefix, addr: Addr| (0..prefix.len).all(|bit| (prefix.addr ^ addr) >> (31 - bit) & 1 == 0);
    let selected = inside(rule.from, key.src)
        && inside(rule.to, key.dst)
        && rule.iif.is_none_or(|iif| Some(iif) == key.iif)
        && (rule.tos == 0 || rule.tos == key.tos & 0x1c);
    if selected == rule.invert {
        return aloud(fib, key, at + 1);
    }
    if rule.left.is_some() {
        return LEFT.into();
    }
    match rule.action {
        Action::Refuse => return "refused".into(),
        Action::Goto(target) if target > at => return aloud(fib, key, target),
        Action::Lookup(table) => {
            if let Some((len, route)) = fib.tables.get(table).and_then(|(_, table)| table.lookup(key.dst)) {
                let error = route.kind == RouteKind::Refused;
                let suppressed = !error && i16::from(len) <= rule.suppress_prefix_len;
                if route.left.is_some() || route.kind != RouteKind::Throw && !suppressed {
                    return route.mtu.to_string();
                }
            }
        }
        Action::Goto(_) | Action::Nop => {}
    }
    aloud(fib, key, at + 1)
}

proptest! {
    #[test]
    fn lookup_is_what_the_kernel_does(
        rules in prop::collection::vec(any_rule(), 0..8),
        routes in prop::collection::vec((0usize..2, 0u128..4, prop_oneof![Just(0u8), 29u8..=32], 0usize..5), 0..12),
        keys in prop::collection::vec((0u128..6, 0u128..6, prop::option::of(0u16..3), 0u8..16), 16),
    ) {
        let mut fib = Fib::new(Family::V4);
        fib.tables = vec![(254, Lpm::new(32)), (100, Lpm::new(32))];
        for (i, &(table, addr, len, kind)) in routes.iter().enumerate() {
            let kinds = [RouteKind::Unicast, RouteKind::Local, RouteKind::Refused, RouteKind::Throw];
            let route = kinds.get(kind).map_or_else(left_route, |&kind| route(kind, 100 + i as u32));
            fib.tables[table].1.insert(addr, len, route);
        }
        fib.rules = Arc::new(rules);
        for (src, dst, iif, tos) in keys {
            let key = FibKey { src, dst, iif: iif.map(IfaceIndex), tos };
            prop_assert_eq!(found(&fib, &key), aloud(&fib, &key, 0));
        }
    }
}
