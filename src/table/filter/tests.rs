//! Each kind of filter by examples, in frames written out by hand. `properties` has random ones, `tests/filters.rs` the kernel.

use super::flower::{Field, Flower, Rule};
use super::u32::{Key, Link, Mark, Node, Odd, Shift, Table, U32, Variable};
use super::*;

mod properties;

/// UDP from 10.0.0.1 port 1 to 10.0.0.2 port 53, with so many words of IPv4 options.
fn frame(options: u8) -> Vec<u8> {
    let mut bytes = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];
    bytes.extend([
        0x45 + options,
        0x10,
        0,
        28,
        0,
        0,
        0,
        0,
        64,
        17,
        0,
        0,
        10,
        0,
        0,
        1,
        10,
        0,
        0,
        2,
    ]);
    bytes.extend(vec![1; 4 * usize::from(options)]);
    bytes.extend([0, 1, 0, 53, 0, 8, 0, 0]);
    bytes
}

fn tagged(bytes: &[u8]) -> Vec<u8> {
    [&bytes[..12], &[0x81, 0, 0, 7], &bytes[12..]].concat()
}

fn facts(bytes: &[u8], mark: u32) -> Facts<'_> {
    let priority = 0;
    Facts { bytes, mark, priority }
}

fn key(value: u32, mask: u32, offset: i32) -> Key {
    let offset_mask = 0;
    Key {
        value,
        mask,
        offset,
        offset_mask,
    }
}

fn node(keys: &[Key], class: u32) -> Node {
    Node {
        keys: keys.into(),
        class: (class != 0).then_some(Handle(class)),
        ..Node::default()
    }
}

fn tables(tables: Vec<Vec<Vec<Node>>>) -> U32 {
    U32::new(tables.into_iter().map(|buckets| Table { buckets }).collect()).unwrap()
}

fn u32_filter(protocol: u16, root: Vec<Node>) -> Filter {
    let what = Match::U32(tables(vec![vec![root]]));
    Filter { protocol, what }
}

#[test]
fn the_first_that_matches_counts_and_protocols_are_those_of_the_outermost_tag() {
    let filters = [
        u32_filter(0x0800, vec![node(&[key(0x0a00_0002, u32::MAX, 16)], 1)]),
        Filter {
            protocol: 0x8100,
            what: Match::All(Handle(2)),
        },
        Filter::mark(7, Handle(3)),
        Filter::all(Handle(4)),
    ];
    let plain = frame(0);
    assert_eq!(classify(&filters, &facts(&plain, 7)), Some(Handle(1)));
    assert_eq!(classify(&filters[1..], &facts(&plain, 7)), Some(Handle(3)));
    assert_eq!(classify(&filters[1..], &facts(&plain, 8)), Some(Handle(4)));
    assert_eq!(classify(&filters[1..3], &facts(&plain, 8)), None);
    assert_eq!(classify(&filters, &facts(&tagged(&plain), 7)), Some(Handle(2)));
}

#[test]
fn marks_share_a_mask() {
    let marks = Marks::new(0xff, vec![(3, Handle(1)), (0x103, Handle(2)), (3, Handle(3))]);
    let filters = [Filter {
        protocol: PROTOCOL_ALL,
        what: Match::Mark(marks),
    }];
    let of = |filters: &[Filter], mark| classify(filters, &facts(&[], mark));
    assert_eq!(of(&filters, 0x1103), Some(Handle(1)));
    assert_eq!(of(&filters, 2), None);
}

#[test]
fn words_before_the_network_header_are_those_of_a_frame_without_its_tag() {
    let plain = frame(0);
    let words = [
        (-14, 0x0200_0000),
        (-16, 0x0000_0200),
        (-4, 0x0002_0800),
        (-2, 0x0800_4510),
        (-5, 0x0000_0208),
        (0, 0x4510_001c),
    ];
    for (offset, word) in words {
        let filters = [u32_filter(
            PROTOCOL_ALL,
            vec![node(&[key(word, u32::MAX >> (8 * (-14 - offset).max(0)), offset)], 1)],
        )];
        assert_eq!(classify(&filters, &facts(&plain, 0)), Some(Handle(1)), "at {offset}");
        assert_eq!(
            classify(&filters, &facts(&tagged(&plain), 0)),
            Some(Handle(1)),
            "at {offset}, tagged"
        );
    }
}

#[test]
fn a_word_beyond_the_frame_ends_the_search_of_its_tables() {
    let far = node(&[key(0, 0, 100)], 1);
    let filters = [
        u32_filter(0x0800, vec![far, node(&[], 2)]),
        u32_filter(0x0800, vec![node(&[key(1, 1, 0)], 3), node(&[], 4)]),
    ];
    assert_eq!(classify(&filters, &facts(&frame(0), 0)), Some(Handle(4)));
}

#[test]
fn a_link_goes_by_a_hash_and_over_options_and_comes_back() {
    let variable = Variable {
        offset: 0,
        mask: 0x0f00,
        right: 6,
    };
    let link = Link {
        table: 1,
        hash_offset: 8,
        hash_mask: 0x00ff_0000,
        shift: Some(Shift {
            fixed: 0,
            variable: Some(variable),
        }),
        eat: true,
    };
    let leads = Node {
        link: Some(link),
        ..node(&[], 0)
    };
    let both = Node {
        class: Some(Handle(9)),
        ..leads.clone()
    };
    let mut buckets = vec![vec![]; 256];
    buckets[17] = vec![node(&[key(53, 0xffff, 0)], 5)];
    let of = |root: Vec<Node>, bytes: &[u8]| {
        let what = Match::U32(tables(vec![vec![root], buckets.clone()]));
        classify(&[Filter { protocol: 0x0800, what }], &facts(bytes, 0))
    };
    for options in 0..4 {
        assert_eq!(
            of(vec![leads.clone()], &frame(options)),
            Some(Handle(5)),
            "{options} words of options"
        );
    }
    let mut other = frame(0);
    other[37] = 54;
    assert_eq!(of(vec![leads.clone(), node(&[], 6)], &other), Some(Handle(6)));
    assert_eq!(of(vec![both, node(&[], 6)], &other), Some(Handle(9)));
}

#[test]
fn what_is_not_eaten_shifts_nexthdr_even_behind_its_link() {
    let next = Key {
        offset_mask: -1,
        ..key(0x0001_0035, u32::MAX, 0)
    };
    let link = Link {
        table: 1,
        shift: Some(Shift {
            fixed: 20,
            variable: None,
        }),
        ..Link::default()
    };
    let leads = Node {
        link: Some(link),
        ..node(&[], 0)
    };
    let what = Match::U32(tables(vec![vec![vec![leads, node(&[next], 2)]], vec![vec![]]]));
    assert_eq!(
        classify(&[Filter { protocol: 0x0800, what }], &facts(&frame(0), 0)),
        Some(Handle(2))
    );
    assert_eq!(
        classify(&[u32_filter(0x0800, vec![node(&[next], 2)])], &facts(&frame(0), 0)),
        None
    );
}

#[test]
fn marks_of_u32() {
    let marked = Node {
        mark: Mark { value: 2, mask: 3 },
        ..node(&[], 1)
    };
    let filters = [u32_filter(PROTOCOL_ALL, vec![marked])];
    assert_eq!(
        [2, 6, 1].map(|mark| classify(&filters, &facts(&frame(0), mark)).is_some()),
        [true, true, false]
    );
}

#[test]
fn what_cannot_be_searched_is_refused() {
    let new = |tables: Vec<Vec<Vec<Node>>>| U32::new(tables.into_iter().map(|buckets| Table { buckets }).collect());
    let to = |table| Node {
        link: Some(Link {
            table,
            ..Link::default()
        }),
        ..Node::default()
    };
    let odd = |tables, at| new(tables).err().is_some_and(|(_, odd)| odd == at);
    assert!(odd(
        vec![vec![vec![node(&[key(0, 0x0100_0000, -15)], 1)]]],
        Odd::BeforeFrame
    ));
    assert!(odd(vec![vec![vec![to(1)]]], Odd::NoTable));
    assert!(odd(
        vec![vec![vec![to(1)]], vec![vec![to(2)]], vec![vec![to(1)]]],
        Odd::Circle
    ));
    assert!(new(vec![vec![vec![to(1), to(2)]], vec![vec![to(2)]], vec![vec![]]]).is_ok());
}

#[test]
fn links_deeper_than_the_kernel_goes_find_nothing() {
    let chain = |links: usize| {
        let mut all = Vec::new();
        for table in 1..=links {
            all.push(vec![vec![Node {
                link: Some(Link {
                    table,
                    ..Link::default()
                }),
                ..Node::default()
            }]]);
        }
        all.push(vec![vec![node(&[], 1)]]);
        let what = Match::U32(tables(all));
        classify(
            &[Filter {
                protocol: PROTOCOL_ALL,
                what,
            }],
            &facts(&frame(0), 0),
        )
    };
    assert_eq!(chain(u32::DEPTH_MAX), Some(Handle(1)));
    assert_eq!(chain(u32::DEPTH_MAX + 1), None);
}

#[test]
fn no_frame_is_too_short() {
    let leads = Node {
        link: Some(Link {
            table: 1,
            eat: true,
            hash_mask: 1,
            ..Link::default()
        }),
        ..node(&[key(0, 0, -14)], 0)
    };
    let what = Match::U32(tables(vec![vec![vec![leads]], vec![vec![], vec![]]]));
    let filters = [Filter {
        protocol: PROTOCOL_ALL,
        what,
    }];
    for bytes in [frame(0), tagged(&frame(0))] {
        for length in 0..bytes.len() {
            assert_eq!(classify(&filters, &facts(&bytes[..length], 0)), None);
        }
    }
}

/// A field, its value and its mask.
type Ask<'a> = (Field, &'a [u8], &'a [u8]);

fn rule(asks: &[Ask], class: u32) -> Rule {
    let mut rule = Rule {
        class: Handle(class),
        ..Rule::default()
    };
    for (field, value, mask) in asks {
        rule.fields.set(field, value);
        rule.mask.set(field, mask);
    }
    rule
}

fn flower(rules: Vec<Rule>, bytes: &[u8]) -> Option<Handle> {
    let what = Match::Flower(Flower::new(rules).unwrap());
    let filter = Filter {
        protocol: PROTOCOL_ALL,
        what,
    };
    classify(&[filter], &facts(bytes, 0))
}

#[test]
fn every_field_of_flower_is_where_it_should_be() {
    const FULL: [u8; 16] = [0xff; 16];
    let mut six = frame(0)[..12].to_vec();
    six.extend([0x86, 0xdd, 0x6b, 0x80, 0, 0, 0, 28, 0, 9]);
    six.extend([0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    six.extend([0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
    six.extend([
        6, 0, 1, 4, 0, 0, 0, 0, 0, 22, 0x14, 0xe9, 0, 0, 0, 1, 0, 0, 0, 0, 0x51, 2, 0, 0, 0, 0, 0, 0,
    ]);
    let four = frame(3);
    let asks: &[(&[u8], Ask)] = &[
        (&four, (Field::ETH_DST, &[2, 0, 0, 0, 0, 1], &FULL)),
        (&four, (Field::ETH_SRC, &[2, 0, 0, 0, 0, 2], &FULL)),
        (&four, (Field::ETH_TYPE, &[8, 0], &FULL)),
        (&four, (Field::IP_PROTOCOL, &[17], &FULL)),
        (&four, (Field::ADDRESSES, &[4], &FULL)),
        (&four, (Field::IPV4_SRC, &[10, 0, 0, 9], &[255, 255, 255, 0])),
        (&four, (Field::IPV4_DST, &[10, 0, 0, 2], &FULL)),
        (&four, (Field::PORT_SRC, &[0, 1], &FULL)),
        (&four, (Field::PORT_DST, &[0, 53], &FULL)),
        (&four, (Field::TOS, &[0x13], &[0xfc])),
        (&four, (Field::TTL, &[64], &FULL)),
        (&six, (Field::ADDRESSES, &[6], &FULL)),
        (
            &six,
            (
                Field::IPV6_SRC,
                &[0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
                &FULL,
            ),
        ),
        (&six, (Field::IPV6_DST, &[0x20, 1, 0x0d, 0xb8], &[255; 4])),
        (&six, (Field::IP_PROTOCOL, &[6], &FULL)),
        (&six, (Field::PORT_SRC, &[0, 22], &FULL)),
        (&six, (Field::PORT_DST, &[0x14, 0xe9], &FULL)),
        (&six, (Field::TCP_FLAGS, &[1, 2], &FULL)),
        (&six, (Field::TOS, &[0xb8], &FULL)),
        (&six, (Field::TTL, &[9], &FULL)),
    ];
    for (bytes, ask) in asks {
        assert_eq!(
            flower(vec![rule(std::slice::from_ref(ask), 1)], bytes),
            Some(Handle(1)),
            "{ask:?}"
        );
        let mut other = rule(std::slice::from_ref(ask), 1);
        other.fields.set(&ask.0, &[ask.1[0] ^ 0xc0]);
        assert_eq!(flower(vec![other], bytes), None, "not {ask:?}");
    }
}

#[test]
fn ports_of_fragments_are_none_and_ranges_have_two_ends() {
    let ports = |bytes: &[u8], range| {
        let ports = Rule {
            ports: [None, Some(range)],
            ..rule(&[(Field::IP_PROTOCOL, &[17], &[255])], 1)
        };
        flower(vec![ports], bytes).is_some()
    };
    let mut bytes = frame(0);
    assert!(ports(&bytes, (53, 60)) && ports(&bytes, (50, 53)) && ports(&bytes, (53, 53)));
    assert!(!ports(&bytes, (54, 60)) && !ports(&bytes, (1, 52)));
    bytes[20] = 0x20;
    assert!(ports(&bytes, (0, 1)) && !ports(&bytes, (53, 60)));
}

#[test]
fn rules_whose_order_would_matter_are_refused() {
    let source = |class| rule(&[(Field::IPV4_SRC, &[10, 0, 0, 1], &[255; 4])], class);
    let destination = |class| rule(&[(Field::IPV4_DST, &[10, 0, 0, 2], &[255; 4])], class);
    let net = rule(&[(Field::IPV4_SRC, &[10, 0, 1, 0], &[255, 255, 255, 0])], 3);
    assert_eq!(Flower::new(vec![source(1), net.clone(), destination(2)]), Err(2));
    assert!(Flower::new(vec![source(1), net, destination(1)]).is_err_and(|at| at == 2));
    assert!(Flower::new(vec![source(1), destination(1)]).is_ok());
    let range = |least, most, class| Rule {
        ports: [Some((least, most)), None],
        ..rule(&[(Field::IP_PROTOCOL, &[6], &[255])], class)
    };
    assert!(Flower::new(vec![range(1, 9, 1), range(10, 11, 2)]).is_ok());
    assert_eq!(Flower::new(vec![range(1, 9, 1), range(9, 11, 2)]), Err(1));
}

#[test]
fn lengths_are_protocols_of_their_own() {
    let mut bytes = frame(0);
    bytes[12..16].copy_from_slice(&[0, 46, 0xaa, 0xaa]);
    let on = |protocol| {
        [Filter {
            protocol,
            what: Match::All(Handle(1)),
        }]
    };
    assert!(classify(&on(4), &facts(&bytes, 0)).is_some() && classify(&on(46), &facts(&bytes, 0)).is_none());
    bytes[14..16].copy_from_slice(&[0xff; 2]);
    assert!(classify(&on(1), &facts(&bytes, 0)).is_some());
}
