//! Random filters and frames of few values, so that many match: what searches many at once (the index of u32, preferences that are
//! joined, rules of flower sorted by their fields) says what asking one after the other does. The models are a loop each, written
//! without anything of what they judge but the fields that flower takes a frame apart into.

use super::super::flower::{Field, Fields};
use super::*;
use proptest::prelude::*;

fn any_frame() -> impl Strategy<Value = Vec<u8>> {
    let fields = (
        0..3u8,
        0..3u8,
        prop_oneof![Just(6u8), Just(17)],
        0..3u8,
        any::<bool>(),
        14..60usize,
    );
    fields.prop_map(|(source, port, protocol, fragment, tag, length)| {
        let mut bytes = frame(0);
        bytes.resize(58, 0);
        (bytes[29], bytes[37], bytes[23], bytes[21]) = (source, port, protocol, fragment / 2);
        bytes.truncate(length);
        if tag { tagged(&bytes) } else { bytes }
    })
}

fn any_key() -> impl Strategy<Value = Key> {
    let source = (0..3u32).prop_map(|host| key(0x0a00_0000 + host, u32::MAX, 12));
    let protocol = prop_oneof![Just(6u32), Just(17)].prop_map(|protocol| key(protocol << 16, 0xff_0000, 8));
    let port = (0..3u32).prop_map(|port| key(port, 0xffff, 20));
    let far = (0..2u32).prop_map(|value| key(value, 0xff, 30));
    let ether = (1..3u32).prop_map(|station| key(station << 16, 0xffff_0000, -10));
    let next = (0..3u32).prop_map(|port| Key {
        offset_mask: -1,
        ..key(port, 0xff, 20)
    });
    prop_oneof![4 => source, 2 => protocol, 4 => port, 1 => far, 1 => ether, 1 => next]
}

fn any_node() -> impl Strategy<Value = Node> {
    let mark = prop_oneof![4 => Just(Mark::default()), 1 => Just(Mark { value: 1, mask: 1 })];
    let keys = prop::collection::vec(any_key(), 0..3);
    (mark, keys, prop::option::weighted(0.9, 1..9u32)).prop_map(|(mark, keys, class)| Node {
        mark,
        keys: keys.into(),
        class: class.map(Handle),
        link: None,
    })
}

/// A frame's word, from the network header: the plain way.
fn word(bytes: &[u8], offset: i32) -> Option<u32> {
    let is_tagged = bytes[12..14] == [0x81, 0];
    let plain = if is_tagged {
        [&bytes[..12], &bytes[16..]].concat()
    } else {
        bytes.to_vec()
    };
    let at = (14 + offset) as usize;
    Some(u32::from_be_bytes(plain.get(at..at + 4)?.try_into().unwrap()))
}

/// One after the other, without links.
fn plainly(nodes: &[Node], bytes: &[u8], mark: u32) -> Option<Handle> {
    'nodes: for node in nodes.iter().filter(|node| mark & node.mark.mask == node.mark.value) {
        for key in &node.keys {
            if word(bytes, key.offset)? & key.mask != key.value & key.mask {
                continue 'nodes;
            }
        }
        if node.class.is_some() {
            return node.class;
        }
    }
    None
}

fn any_rule() -> impl Strategy<Value = Rule> {
    let ask = prop_oneof![
        (0..3u8).prop_map(|host| (Field::IPV4_SRC, vec![10, 0, 0, host], vec![255; 4])),
        (0..3u8).prop_map(|port| (Field::PORT_DST, vec![0, port], vec![255; 2])),
        prop_oneof![Just(6u8), Just(17)].prop_map(|protocol| (Field::IP_PROTOCOL, vec![protocol], vec![255])),
        (0..3u8).prop_map(|station| (Field::ETH_SRC, vec![2, 0, 0, 0, 0, station], vec![255; 6])),
    ];
    let range = prop::option::weighted(0.2, (0..3u16, 0..3u16));
    (prop::collection::vec(ask, 1..3), range, 1..4u32).prop_map(|(asks, range, class)| {
        let asks: Vec<Ask> = asks
            .iter()
            .map(|(field, value, mask)| (field.clone(), &value[..], &mask[..]))
            .collect();
        let ports = [None, range.map(|(a, b)| (a.min(b), a.max(b)))];
        Rule {
            ports,
            ..rule(&asks, class)
        }
    })
}

fn any_filter() -> impl Strategy<Value = Filter> {
    let nodes = prop::collection::vec(any_node(), 1..3);
    let marks = prop::collection::vec((0..4u32, 1..9u32), 1..3);
    let what = prop_oneof![
        6 => nodes.prop_map(|root| Match::U32(tables(vec![vec![root]]))),
        3 => marks.prop_map(|marks| {
            let classes = marks.into_iter().map(|(mark, class)| (mark, Handle(class)));
            Match::Mark(Marks::new(3, classes.collect()))
        }),
        3 => any_rule().prop_map(|rule| Match::Flower(Flower::new(vec![rule]).unwrap())),
        1 => (1..9u32).prop_map(|class| Match::All(Handle(class))),
    ];
    let protocol = prop_oneof![3 => Just(PROTOCOL_ALL), 3 => Just(0x0800), 1 => Just(0x8100)];
    (protocol, what).prop_map(|(protocol, what)| Filter { protocol, what })
}

proptest! {
    #[test]
    fn many_of_u32_are_tried_as_if_one_after_the_other(
        nodes in prop::collection::vec(any_node(), 0..60),
        frames in prop::collection::vec((any_frame(), 0..2u32), 20),
    ) {
        let filters = [u32_filter(PROTOCOL_ALL, nodes.clone())];
        for (bytes, mark) in &frames {
            prop_assert_eq!(classify(&filters, &facts(bytes, *mark)), plainly(&nodes, bytes, *mark));
        }
    }

    #[test]
    fn filters_joined_say_what_they_say_each_by_itself(
        filters in prop::collection::vec(any_filter(), 0..40),
        frames in prop::collection::vec((any_frame(), 0..4u32), 20),
    ) {
        let joined = join(filters.clone());
        prop_assert!(joined.len() <= filters.len());
        for (bytes, mark) in &frames {
            let facts = facts(bytes, *mark);
            prop_assert_eq!(classify(&joined, &facts), classify(&filters, &facts));
        }
    }

    #[test]
    fn rules_of_flower_are_found_as_if_one_after_the_other(
        rules in prop::collection::vec(any_rule(), 0..12),
        frames in prop::collection::vec(any_frame(), 20),
    ) {
        let Ok(flower) = Flower::new(rules.clone()) else { return Ok(()) };
        for bytes in &frames {
            let fields = Fields::of(&View::new(&facts(bytes, 0)));
            let hit = rules.iter().find(|rule| {
                let masked = fields.and(&rule.mask);
                masked == rule.fields.and(&rule.mask) && rule.takes_ports(&fields)
            });
            prop_assert_eq!(flower.find(&View::new(&facts(bytes, 0))), hit.map(|rule| rule.class));
        }
    }
}
