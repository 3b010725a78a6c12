//! Bridges that change: members come and go, links go down and up, a bridge is made, taken down or deleted, between frames
//! and among them.

use crate::lab::bridge::plain_frame;
use crate::lab::twin::{Share, Twin};
use crate::net::{at, bridge, carried, finish, forwards, forwards_nothing, learn, nf_call, one_bridge, setup, talk};

/// Each step, then the same talk.
fn steps(twin: &mut Twin, changes: &[&[&str]]) {
    let (one, other, third) = (at(0, 1), at(1, 1), at(2, 1));
    for commands in changes {
        twin.change(commands);
        learn(twin, &[one, other, third]);
        talk(twin, one, other, 30);
        talk(twin, one, third, 30);
        twin.inject(0, &[plain_frame([0xff; 6], one.mac(), 46)]);
        twin.compare_fdbs(&commands.join("; "));
    }
}

#[test]
fn members_come_and_go() {
    let mut twin = one_bridge("members", 3);
    steps(
        &mut twin,
        &[
            &[],
            &["ip link set d1 nomaster"],
            &["ip link set d1 master br0"],
            &["ip link set d2 nomaster", "ip link set d2 master br0"],
            &["ip link set d0 nomaster", "ip link set d1 nomaster"],
            &["ip link set d0 master br0", "ip link set d1 master br0"],
        ],
    );
    forwards(&mut twin, 90, |twin| talk(twin, at(0, 1), at(1, 1), 50));
    finish(twin, Share::AtLeast(0.5));
}

#[test]
fn links_go_down_and_up() {
    let mut twin = one_bridge("links", 3);
    steps(
        &mut twin,
        &[
            &["ip link set d1 down"],
            &["ip link set d1 up"],
            &["ip link set d1 down", "ip link set d1 up"],
            &["ip link set br0 down"],
            &["ip link set br0 up"],
        ],
    );
    forwards(&mut twin, 90, |twin| talk(twin, at(0, 1), at(1, 1), 50));
    finish(twin, Share::AtLeast(0.4));
}

/// Its ports lose their carrier at the far end.
#[test]
fn the_far_end_goes_down() {
    let mut twin = one_bridge("carrier", 3);
    let (one, other) = (at(0, 1), at(1, 1));
    learn(&mut twin, &[one, other]);
    talk(&mut twin, one, other, 30);
    for up in [false, true, false, true] {
        twin.switch_far_end(1, up);
        learn(&mut twin, &[one, at(2, 1)]);
        twin.inject(0, &carried(one, other, 20));
        twin.inject(2, &carried(at(2, 1), other, 20));
    }
    learn(&mut twin, &[one, other]);
    forwards(&mut twin, 90, |twin| talk(twin, one, other, 50));
    finish(twin, Share::AtLeast(0.3));
}

/// Deleted and made anew, by the same name and by another.
#[test]
fn a_bridge_is_deleted_and_made() {
    let mut twin = one_bridge("deleted", 3);
    let (one, other) = (at(0, 1), at(1, 1));
    learn(&mut twin, &[one, other]);
    talk(&mut twin, one, other, 50);
    twin.change(&["ip link del br0"]);
    forwards_nothing(&mut twin, |twin| talk(twin, one, other, 20));
    for name in [0, 0, 1] {
        let lines = bridge(name, &[0, 1, 2]);
        twin.change(&lines.iter().map(String::as_str).collect::<Vec<_>>());
        learn(&mut twin, &[one, other]);
        forwards(&mut twin, 90, |twin| talk(twin, one, other, 50));
        twin.change(&[&format!("ip link del br{name}")]);
    }
    finish(twin, Share::AtLeast(0.6));
}

/// Ports go over to another bridge, which knows other stations.
#[test]
fn ports_go_over_to_another_bridge() {
    let mut config = bridge(0, &[0, 1]);
    config.extend(bridge(1, &[2, 3]));
    let mut twin = Twin::start(setup("over", 4, config));
    let stations = [at(0, 1), at(1, 1), at(2, 1), at(3, 1)];
    for round in 0..4usize {
        learn(&mut twin, &stations);
        for from in stations {
            for to in stations.into_iter().filter(|to| *to != from) {
                twin.inject(from.port, &carried(from, to, 20));
            }
        }
        twin.compare_fdbs("between two moves");
        let (port, to) = [(1, 1), (2, 0), (1, 0), (2, 1)][round];
        twin.change(&[&format!("ip link set d{port} master br{to}")]);
    }
    finish(twin, Share::AtLeast(0.3));
}

/// A loose stretch: commands among frames that are not judged. What follows is.
fn under_traffic(name: &str, rounds: usize, commands: impl Fn(usize) -> Vec<String>) {
    let mut twin = one_bridge(name, 3);
    let (one, other) = (at(0, 1), at(1, 1));
    learn(&mut twin, &[one, other]);
    talk(&mut twin, one, other, 100);
    twin.settle();
    twin.fail_if_different_so_far();
    for round in 0..rounds {
        twin.inject_loosely(0, &carried(one, other, 32));
        twin.inject_loosely(1, &carried(other, one, 32));
        let lines = commands(round);
        twin.change_at_once(&lines.iter().map(String::as_str).collect::<Vec<_>>());
    }
    twin.inject_loosely(0, &carried(one, other, 64));
    twin.wait_in_force();
    twin.forget();
    twin.change(&["ip link set br0 type bridge fdb_flush"]);
    learn(&mut twin, &[one, other]);
    forwards(&mut twin, 190, |twin| talk(twin, one, other, 100));
    finish(twin, Share::AtLeast(0.0));
}

#[test]
fn members_change_under_traffic() {
    under_traffic("members_under_traffic", 20, |round| {
        vec![match round % 2 {
            0 => "ip link set d1 nomaster".into(),
            _ => "ip link set d1 master br0".into(),
        }]
    });
}

#[test]
fn a_bridge_is_deleted_under_traffic() {
    under_traffic("deleted_under_traffic", 10, |round| match round % 2 {
        0 => vec!["ip link del br0".into()],
        _ => bridge(0, &[0, 1, 2]),
    });
}

#[test]
fn links_change_under_traffic() {
    under_traffic("links_under_traffic", 12, |round| {
        vec![
            [
                "ip link set d1 down",
                "ip link set d1 up",
                "ip link set br0 down",
                "ip link set br0 up",
            ][round % 4]
                .into(),
        ]
    });
}

#[test]
fn flags_change_under_traffic() {
    under_traffic("flags_under_traffic", 24, |round| {
        let flags = [
            "isolated on",
            "isolated off",
            "state 4",
            "state 3",
            "learning off",
            "learning on",
        ];
        vec![format!("bridge link set dev d1 {}", flags[round % flags.len()])]
    });
}

/// `bridge-nf-call-*` is switched on and off; nothing stands at the hooks, so bridging goes on either way.
#[test]
fn nf_call_is_switched() {
    let mut twin = one_bridge("nf_call", 3);
    let (one, other) = (at(0, 1), at(1, 1));
    learn(&mut twin, &[one, other]);
    for on in [true, false, true] {
        let lines = nf_call(on);
        twin.change(&lines.iter().map(String::as_str).collect::<Vec<_>>());
        talk(&mut twin, one, other, 60);
    }
    finish(twin, Share::AtLeast(0.8));
}
