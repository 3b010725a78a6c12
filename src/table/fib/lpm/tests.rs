//! The table against its specification: a linear search over all prefixes.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

/// The specification.
#[derive(Clone, Default)]
struct Naive(BTreeMap<(Addr, u8), u32>);

impl Naive {
    fn lookup(&self, bits: u8, addr: Addr) -> Option<(u8, &u32)> {
        let matches = self
            .0
            .iter()
            .filter(|&(&(prefix, len), _)| cut(bits, addr, len) == prefix);
        matches
            .map(|(&(_, len), value)| (len, value))
            .max_by_key(|&(len, _)| len)
    }
}

/// The first `len` of the `bits` bits of `addr`.
fn cut(bits: u8, addr: Addr, len: u8) -> Addr {
    if len == 0 {
        0
    } else {
        addr >> (bits - len) << (bits - len)
    }
}

/// Addresses that meet often: few values in few octets.
fn addr(bits: u8) -> impl Strategy<Value = Addr> {
    let octet = prop_oneof![3 => Just(0u8), 2 => 0u8..4, 2 => 0x7eu8..0x82, 1 => Just(0xffu8), 1 => any::<u8>()];
    prop::collection::vec(octet, usize::from(bits / 8))
        .prop_map(|octets| octets.iter().fold(0, |addr, &octet| addr << 8 | Addr::from(octet)))
}

/// Insert (value) or remove (`None`) a prefix, or keep a clone as it is now.
#[derive(Clone, Debug)]
enum Change {
    Insert(Addr, u8, u32),
    Remove(Addr, u8),
    Clone,
}

fn change(bits: u8) -> impl Strategy<Value = Change> {
    let prefix = || {
        (
            addr(bits),
            prop_oneof![4 => 0..=bits, 1 => (0..=bits / 8).prop_map(|octets| octets * 8)],
        )
    };
    prop_oneof![
        8 => (prefix(), any::<u32>()).prop_map(|((addr, len), value)| Change::Insert(addr, len, value)),
        5 => prefix().prop_map(|(addr, len)| Change::Remove(addr, len)),
        1 => Just(Change::Clone),
    ]
}

/// Both hold the same, and every node below the root at least two things.
fn assert_same(bits: u8, table: &Lpm<u32>, naive: &Naive, probes: &[Addr]) {
    assert_eq!(table.len(), naive.0.len());
    let mut all: Vec<_> = table.iter().map(|(addr, len, &value)| ((addr, len), value)).collect();
    all.sort_unstable();
    assert_eq!(
        all,
        naive
            .0
            .iter()
            .map(|(&prefix, &value)| (prefix, value))
            .collect::<Vec<_>>()
    );
    let ends = naive
        .0
        .keys()
        .flat_map(|&(addr, len)| [addr, addr | !cut(bits, Addr::MAX, len) & Addr::MAX >> (128 - bits)]);
    for addr in probes.iter().copied().chain(ends) {
        assert_eq!(table.lookup(addr), naive.lookup(bits, addr), "{addr:x}");
    }
    // It answers nothing; but it must end, whatever the addresses and however many.
    table.descend_together(probes);
    table.descend_together(&probes.repeat(7));
    assert_shape(0, &table.root, true);
}

fn assert_shape(depth: u8, node: &Node<u32>, root: bool) {
    assert_eq!(head(node.path, 8 * depth), node.path);
    assert!(
        root || node.children.len() + node.prefixes.len() >= 2,
        "a node that should be a leaf"
    );
    for (octet, child) in node.children.iter() {
        let here = behind(node.path, depth, octet);
        match child {
            Child::Node(below, child) => {
                assert!(*below > depth && head(child.path, 8 * depth + 8) == here);
                assert_shape(*below, child, false);
            }
            Child::Leaf(leaf) => assert!(leaf.len > 8 * depth + 8 && head(leaf.key, 8 * depth + 8) == here),
            Child::Fringe(_) => {}
        }
    }
}

fn run(bits: u8, changes: Vec<Change>, probes: &[Addr]) {
    let mut table = Lpm::new(bits);
    let mut naive = Naive::default();
    let mut clones = Vec::new();
    for change in changes {
        match change {
            Change::Insert(addr, len, value) => {
                assert_eq!(table.get(addr, len), naive.0.get(&(cut(bits, addr, len), len)));
                assert_eq!(
                    table.insert(addr, len, value),
                    naive.0.insert((cut(bits, addr, len), len), value)
                );
            }
            Change::Remove(addr, len) => {
                assert_eq!(table.remove(addr, len), naive.0.remove(&(cut(bits, addr, len), len)));
            }
            Change::Clone => clones.push((table.clone(), naive.clone())),
        }
    }
    clones.push((table.clone(), naive.clone()));
    for (table, naive) in &clones {
        assert_same(bits, table, naive, probes);
    }
    // Taking everything out again leaves the shape of an empty table, and the clones as they were.
    for &(addr, len) in naive.0.keys() {
        assert!(table.remove(addr, len).is_some());
        assert_shape(0, &table.root, true);
    }
    assert!(table.is_empty() && table.root.children.len() + table.root.prefixes.len() == 0);
    for (table, naive) in &clones {
        assert_same(bits, table, naive, probes);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn ipv4_is_a_linear_search(
        changes in prop::collection::vec(change(32), 0..150),
        probes in prop::collection::vec(addr(32), 20),
    ) {
        run(32, changes, &probes);
    }

    #[test]
    fn ipv6_is_a_linear_search(
        changes in prop::collection::vec(change(128), 0..150),
        probes in prop::collection::vec(addr(128), 20),
    ) {
        run(128, changes, &probes);
    }
}

#[test]
fn every_length_of_one_address_nests() {
    for bits in [32, 128] {
        let addr = 0x2001_0db8_ffff_8000_a5a5_0000_0000_0001 & Addr::MAX >> (128 - bits);
        let mut table = Lpm::new(bits);
        for len in 0..=bits {
            assert_eq!(table.insert(addr, len, len), None);
            assert_eq!(table.lookup(addr), Some((len, &len)));
        }
        for len in (0..bits).rev() {
            let other = addr ^ 1 << (bits - len - 1);
            assert_eq!(table.lookup(other), Some((len, &len)));
        }
        for len in (1..=bits).rev() {
            assert_eq!(table.remove(addr, len), Some(len));
            assert_eq!(table.lookup(addr), Some((len - 1, &(len - 1))));
        }
    }
}

#[test]
fn a_change_copies_its_path_only() {
    let mut table = Lpm::new(32);
    for i in 0..200u32 {
        for j in 0..50 {
            table.insert(Addr::from(i << 24 | j << 16), 24, i);
            table.insert(Addr::from(i << 24 | j << 16 | 1 << 8), 24, i);
        }
    }
    let before = table.clone();
    table.insert(0x0707_0700, 24, 1);
    let changed = |a: &Node<u32>, b: &Node<u32>| -> Vec<u8> {
        let pairs = a.children.iter().zip(b.children.iter());
        let moved = pairs.filter(|((_, a), (_, b))| match (a, b) {
            (Child::Node(_, a), Child::Node(_, b)) => !Arc::ptr_eq(a, b),
            _ => true,
        });
        moved.map(|((octet, _), _)| octet).collect()
    };
    assert_eq!(changed(&before.root, &table.root), [7]);
    assert_eq!(before.lookup(0x0707_0701), None);
    assert_eq!(table.lookup(0x0707_0701), Some((24, &1)));

    // In one batch a node is copied once: the second change of it finds it its own.
    let root = Arc::as_ptr(&table.root);
    table.insert(0x0807_0700, 24, 1);
    assert_eq!(Arc::as_ptr(&table.root), root);
}

#[test]
fn values_are_counted_right() {
    let route = Arc::new(());
    let mut table = Lpm::new(128);
    for i in 0..1000u128 {
        table.insert(i << 77, 64, Arc::clone(&route));
        table.insert(i << 77, 48 + (i % 64) as u8, Arc::clone(&route));
    }
    let held = table.len();
    assert_eq!(Arc::strong_count(&route), 1 + held);
    let copy = table.clone();
    assert_eq!(Arc::strong_count(&route), 1 + held, "a clone shares");
    table.remove(5 << 77, 64);
    drop(copy);
    assert_eq!(Arc::strong_count(&route), held);
}
