//! Bytecode as the kernel dumps it, and what it is compiled to.

use super::super::expr::LIST_ELEM;
use super::super::expr::tests::{attrs, expr};
use super::*;

const REG1: [u8; 4] = [0, 0, 0, 1];

fn be(number: u32) -> [u8; 4] {
    number.to_be_bytes()
}

fn list(exprs: &[Vec<u8>]) -> Vec<u8> {
    let elements: Vec<_> = exprs.iter().map(|e| (LIST_ELEM, &e[..])).collect();
    attrs(&elements)
}

fn ct(key: u32) -> Vec<u8> {
    expr("ct", &attrs(&[(1, &REG1), (2, &be(key))]))
}

fn meta(key: u32, to: u32) -> Vec<u8> {
    expr("meta", &attrs(&[(1, &be(to)), (2, &be(key))]))
}

fn data(bytes: &[u8]) -> Vec<u8> {
    attrs(&[(DATA_VALUE, bytes)])
}

fn cmp_of(reg: u32, op: u32, bytes: &[u8]) -> Vec<u8> {
    expr("cmp", &attrs(&[(1, &be(reg)), (2, &be(op)), (3, &data(bytes))]))
}

fn bits(mask: u32, xor: u32) -> Vec<u8> {
    let [mask, xor] = [mask, xor].map(|word| data(&word.to_ne_bytes()));
    expr(
        "bitwise",
        &attrs(&[(1, &REG1), (2, &REG1), (3, &be(4)), (4, &mask), (5, &xor), (6, &be(0))]),
    )
}

fn verdict_data(code: i32) -> Vec<u8> {
    attrs(&[(DATA_VERDICT, &attrs(&[(1, &be(code as u32))]))])
}

fn says(code: i32) -> Vec<u8> {
    expr("immediate", &attrs(&[(1, &be(0)), (2, &verdict_data(code))]))
}

fn looks_up(map: bool, flags: u32) -> Vec<u8> {
    let (dreg, flags) = (be(0), be(flags));
    let mut data = vec![(1, &b"__set0\0"[..]), (2, &REG1[..])];
    if map {
        data.push((3, &dreg));
    }
    data.push((5, &flags));
    expr("lookup", &attrs(&data))
}

fn set(elements: &[(&[u8], Option<i32>)]) -> Set {
    let mut set = Set::new();
    for (key, code) in elements {
        let key = data(key);
        let verdict = code.map(verdict_data);
        let mut element = vec![(1, &key[..])];
        element.extend(verdict.iter().map(|verdict| (2, &verdict[..])));
        assert!(set.add(&attrs(&element)));
    }
    set
}

fn compile(exprs: &[Vec<u8>]) -> Result<Vec<Rule>, String> {
    rule(&list(exprs), |_| None)
}

fn compile_with(set: &Set, exprs: &[Vec<u8>]) -> Result<Vec<Rule>, String> {
    rule(&list(exprs), |name| (name == "__set0").then_some(set))
}

fn state(mask: u32, value: u32, equal: bool) -> Condition {
    Condition::State { mask, value, equal }
}

fn named(bytes: &[u8], equal: bool) -> Name {
    let bytes = bytes.into();
    Name { bytes, equal }
}

fn padded(name: &str) -> Vec<u8> {
    let mut bytes = name.as_bytes().to_vec();
    bytes.resize(IFNAMSIZ, 0);
    bytes
}

fn accept(conditions: &[Condition]) -> Rule {
    Rule {
        conditions: conditions.into(),
        verdict: FilterVerdict::Accept,
    }
}

fn drop(conditions: &[Condition]) -> Rule {
    Rule {
        verdict: FilterVerdict::Drop,
        ..accept(conditions)
    }
}

#[test]
fn states() {
    // ct state established,related accept
    assert_eq!(
        compile(&[ct(0), bits(6, 0), cmp_of(1, 1, &0u32.to_ne_bytes()), says(1)]),
        Ok(vec![accept(&[state(6, 0, false)])])
    );
    // ct state != new drop
    assert_eq!(
        compile(&[ct(0), cmp_of(1, 1, &8u32.to_ne_bytes()), says(0)]),
        Ok(vec![drop(&[state(!0, 8, false)])])
    );
    // ((s & 6) ^ 5) & 3 ^ 1 == 2: of s & 2 nothing but 1 ^ 1 ^ 2 may be left.
    assert_eq!(
        compile(&[
            ct(0),
            bits(6, 5),
            bits(3, 1),
            cmp_of(1, 0, &2u32.to_ne_bytes()),
            says(1)
        ]),
        Ok(vec![accept(&[state(2, 2, true)])])
    );
}

#[test]
fn interfaces() {
    assert_eq!(
        compile(&[
            meta(6, 1),
            cmp_of(1, 0, b"eth"),
            meta(7, 2),
            cmp_of(2, 1, &padded("d1")),
            meta(4, 9),
            cmp_of(9, 0, &7u32.to_ne_bytes()),
            meta(5, 23),
            cmp_of(23, 1, &9u32.to_ne_bytes()),
            says(1)
        ]),
        // Register 9 lies in register 1, and register 23 in register 4.
        Ok(vec![accept(&[
            Condition::Iifname(named(b"eth", true)),
            Condition::Oifname(named(&padded("d1"), false)),
            Condition::Iif(7, true),
            Condition::Oif(9, false),
        ])])
    );
}

#[test]
fn a_rule_that_decides_nothing_is_none() {
    assert_eq!(compile(&[]), Ok(vec![]));
    assert_eq!(compile(&[ct(0), cmp_of(1, 0, &8u32.to_ne_bytes())]), Ok(vec![]));
    assert_eq!(compile(&[says(0)]), Ok(vec![drop(&[])]));
}

#[test]
fn sets_of_states_are_masks() {
    let some = set(&[(&8u32.to_ne_bytes(), None), (&2u32.to_ne_bytes(), None)]);
    assert_eq!(
        compile_with(&some, &[ct(0), looks_up(false, 0), says(1)]),
        Ok(vec![accept(&[state(10, 0, false)])])
    );
    assert_eq!(
        compile_with(&some, &[ct(0), looks_up(false, 1), says(0)]),
        Ok(vec![drop(&[state(1 | 4 | 64, 0, false)])])
    );
    let map = set(&[
        (&8u32.to_ne_bytes(), Some(1)),
        (&1u32.to_ne_bytes(), Some(0)),
        (&2u32.to_ne_bytes(), Some(1)),
    ]);
    assert_eq!(
        compile_with(&map, &[ct(0), looks_up(true, 0)]),
        Ok(vec![accept(&[state(10, 0, false)]), drop(&[state(1, 0, false)])])
    );
}

#[test]
fn sets_of_names_and_numbers_are_rules() {
    let [d0, d1] = ["d0", "d1"].map(padded);
    let some = set(&[(&d0, None), (&d1, None)]);
    let is = |bytes: &[u8], equal| Condition::Iifname(named(bytes, equal));
    assert_eq!(
        compile_with(&some, &[meta(6, 1), looks_up(false, 0), says(1)]),
        Ok(vec![accept(&[is(&d0, true)]), accept(&[is(&d1, true)])])
    );
    assert_eq!(
        compile_with(&some, &[meta(6, 1), looks_up(false, 1), says(1)]),
        Ok(vec![accept(&[is(&d0, false), is(&d1, false)])])
    );
    let map = set(&[(&3u32.to_ne_bytes(), Some(0)), (&4u32.to_ne_bytes(), Some(1))]);
    assert_eq!(
        compile_with(&map, &[meta(5, 1), looks_up(true, 0)]),
        Ok(vec![
            drop(&[Condition::Oif(3, true)]),
            accept(&[Condition::Oif(4, true)])
        ])
    );
    let none = set(&[]);
    assert_eq!(
        compile_with(&none, &[meta(6, 1), looks_up(false, 0), says(1)]),
        Ok(vec![])
    );
    let names: Vec<_> = (0..BRANCHES_MAX + 1).map(|n| padded(&format!("d{n}"))).collect();
    let many: Vec<_> = names.iter().map(|name| (&name[..], None)).collect();
    let refused = compile_with(&set(&many), &[meta(6, 1), looks_up(false, 0), says(1)]);
    assert_eq!(refused, Err("lookup in set __set0".into()));
}

#[test]
fn elements_that_are_more_than_a_key_are_refused() {
    let key = data(&8u32.to_ne_bytes());
    for (kind, value) in [(3, &be(1)[..]), (4, &[0; 8]), (7, &[]), (10, &key), (11, &[])] {
        assert!(!Set::new().add(&attrs(&[(1, &key), (kind, value)])), "attribute {kind}");
    }
    assert!(
        !Set::new().add(&attrs(&[(2, &verdict_data(1))])),
        "a catch-all has no key"
    );
    assert!(!Set::new().add(&attrs(&[(1, &key), (2, &verdict_data(-3))])), "a jump");
    assert!(Set::new().add(&attrs(&[(1, &key), (6, b"comment")])));
}

#[test]
fn everything_else_is_named() {
    let refused = |exprs: &[Vec<u8>]| compile(exprs).unwrap_err();
    for name in ["counter", "log", "limit", "payload", "nat", "notrack", "x"] {
        assert_eq!(refused(&[expr(name, &[]), says(1)]), name);
    }
    assert_eq!(
        refused(&[expr("match", &attrs(&[(1, b"conntrack\0")]))]),
        "xt match conntrack"
    );
    for (code, name) in [
        (-1, "continue"),
        (-3, "jump"),
        (-4, "goto"),
        (-5, "return"),
        (3, "queue"),
    ] {
        assert_eq!(refused(&[says(code)]), name);
    }
    assert_eq!(
        refused(&[expr("immediate", &attrs(&[(1, &REG1), (2, &data(&[0; 4]))]))]),
        "immediate"
    );
    assert_eq!(refused(&[ct(3)]), "ct mark");
    let sets = expr("ct", &attrs(&[(2, &be(3)), (4, &REG1)]));
    assert_eq!(refused(&[sets]), "ct set");
    assert_eq!(refused(&[meta(15, 1)]), "meta nfproto");
    assert_eq!(refused(&[meta(99, 1)]), "meta of an unknown kind");
    assert_eq!(refused(&[ct(99)]), "ct of an unknown kind");
    assert_eq!(refused(&[expr("meta", &attrs(&[(2, &be(6)), (3, &REG1)]))]), "meta set");
    assert_eq!(refused(&[says(1), says(1)]), "something behind a verdict");
    assert_eq!(
        refused(&[ct(0), looks_up(false, 0)]),
        "lookup in set __set0",
        "an unknown set"
    );
}

#[test]
fn comparisons_with_what_is_not_there_are_refused() {
    let zero = 0u32.to_ne_bytes();
    let cmps: &[&[Vec<u8>]] = &[
        // A register that this rule has not loaded, or overwritten, or of which a part was read.
        &[cmp_of(1, 0, &zero)],
        &[meta(6, 1), meta(4, 10), cmp_of(1, 0, b"d")],
        &[meta(4, 10), meta(6, 1), cmp_of(10, 0, &zero)],
        &[meta(6, 1), cmp_of(9, 0, &zero)],
        // Less than, a state of another length, a name too long, a number of another length.
        &[ct(0), cmp_of(1, 2, &zero)],
        &[ct(0), cmp_of(1, 0, &[0; 2])],
        &[meta(6, 1), cmp_of(1, 0, &[0; 17])],
        &[meta(4, 1), cmp_of(1, 0, &[0; 8])],
    ];
    for exprs in cmps {
        assert_eq!(compile(exprs), Err("cmp".into()), "{exprs:?}");
    }
    let shift = expr(
        "bitwise",
        &attrs(&[(1, &REG1), (2, &REG1), (3, &be(4)), (6, &be(1)), (7, &data(&zero))]),
    );
    assert_eq!(compile(&[ct(0), shift]), Err("bitwise".into()));
    assert_eq!(compile(&[meta(4, 1), bits(1, 0)]), Err("bitwise".into()));
}

#[test]
fn every_cut_ends_without_a_panic() {
    let whole = list(&[
        ct(0),
        bits(6, 0),
        cmp_of(1, 1, &0u32.to_ne_bytes()),
        looks_up(true, 0),
        says(1),
    ]);
    let some = set(&[(&8u32.to_ne_bytes(), Some(1))]);
    for cut in 0..whole.len() {
        let _ = rule(&whole[..cut], |_| Some(&some));
        let mut bad = whole.clone();
        for flip in [1, 0x80, 0xff] {
            bad[cut] ^= flip;
            let _ = rule(&bad, |_| Some(&some));
        }
    }
}
