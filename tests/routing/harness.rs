//! The judge judged: a twin whose labs differ must say so.

use crate::lab::packet::{ip, router_mac, udp};
use crate::lab::twin::{Setup, Share, Twin};
use crate::lab::{compare::Rules, plan};

#[test]
#[should_panic(expected = "divergences")]
fn a_difference_is_seen() {
    let mut twin = Twin::start(Setup::new("a_difference_is_seen", 2, plan::config(2)));
    twin.tested_router().run("ip route del 10.101.0.0/16");
    twin.wait_in_force();
    twin.send(0, [udp(plan::behind4(0, 1), plan::behind4(1, 1), (1, 2), 10)]);
    twin.finish(Share::AtLeast(0.0));
}

#[test]
fn one_byte_one_copy_and_the_order_are_compared() {
    let rules = Rules::default();
    let frame = |id: u16| {
        udp(ip("10.0.0.1"), ip("10.0.0.2"), (1, 2), 10)
            .with(|packet| packet.id = id)
            .build()
    };
    let sees = |kernel: &[Vec<u8>], bypath: &[Vec<u8>]| rules.compare(kernel, bypath, true).count();
    assert_eq!(sees(&[frame(1), frame(2)], &[frame(1), frame(2)]), 0);
    assert_eq!(sees(&[frame(1), frame(2)], &[frame(1), frame(3)]), 1, "a byte");
    assert_eq!(sees(&[frame(1)], &[frame(1), frame(1)]), 1, "a copy");
    assert_eq!(sees(&[frame(1), frame(2)], &[frame(2), frame(1)]), 1, "the order");
    assert_eq!(
        rules
            .compare(&[frame(1), frame(2)], &[frame(2), frame(1)], false)
            .count(),
        0,
        "where it counts"
    );
}

#[test]
fn only_the_routers_own_identification_is_free() {
    let rules = Rules {
        own: [ip("10.0.0.1")].into(),
        clock_free: false,
        reassembles: false,
    };
    // As the router sends them: what bears a station's address it has bridged.
    let frame = |src, id| {
        let mut frame = udp(ip(src), ip("10.0.0.9"), (1, 2), 10)
            .with(|packet| packet.id = id)
            .build();
        frame[6..12].copy_from_slice(&router_mac(0));
        frame
    };
    assert!(
        rules
            .compare(&[frame("10.0.0.1", 1)], &[frame("10.0.0.1", 2)], true)
            .is_empty()
    );
    assert!(
        !rules
            .compare(&[frame("10.0.0.2", 1)], &[frame("10.0.0.2", 2)], true)
            .is_empty()
    );
}
