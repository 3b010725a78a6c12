//! Flags and states of ports: each as the kernel has it, from the start and switched while stations talk.

use crate::lab::bridge::{plain_frame, unknown_mac};
use crate::lab::packet::text;
use crate::lab::twin::{Share, Twin};
use crate::net::{Station, at, bridge, carried, finish, forwards, learn, one_bridge, setup, talk};

const PORTS: usize = 4;

/// Two stations behind each port.
fn stations() -> Vec<Station> {
    (0..PORTS).flat_map(|port| [at(port, 1), at(port, 2)]).collect()
}

/// Every station to every other, those behind the same port too, and to nobody.
fn all_talk(twin: &mut Twin, count: usize) {
    for from in stations() {
        let others = stations().into_iter().filter(|to| *to != from);
        let mut frames: Vec<_> = others.flat_map(|to| carried(from, to, count)).collect();
        frames.push(plain_frame(unknown_mac(0x100), from.mac(), 50));
        frames.push(plain_frame([0xff; 6], from.mac(), 50));
        twin.inject(from.port, &frames);
    }
}

/// Port flags from the start, then all of them off, then on again.
fn judge(name: &str, flags: &[(usize, &str, &str)], share: f64) {
    let on: Vec<String> = flags
        .iter()
        .map(|(port, on, _)| format!("bridge link set dev d{port} {on}"))
        .collect();
    let off: Vec<String> = flags
        .iter()
        .map(|(port, _, off)| format!("bridge link set dev d{port} {off}"))
        .collect();
    let words = |lines: &[String]| lines.iter().map(|line| line.to_owned()).collect::<Vec<_>>();
    let mut config = bridge(0, &[0, 1, 2, 3]);
    config.extend(words(&on));
    let mut twin = Twin::start(setup(name, PORTS, config));
    for commands in [&[][..], &off, &on] {
        if !commands.is_empty() {
            twin.change(&commands.iter().map(String::as_str).collect::<Vec<_>>());
        }
        learn(&mut twin, &stations());
        all_talk(&mut twin, 8);
        twin.compare_fdbs(name);
    }
    finish(twin, Share::AtLeast(share));
}

#[test]
fn isolated() {
    judge(
        "isolated",
        &[(0, "isolated on", "isolated off"), (1, "isolated on", "isolated off")],
        0.5,
    );
}

#[test]
fn hairpin() {
    judge("hairpin", &[(1, "hairpin on", "hairpin off")], 0.6);
}

#[test]
fn hairpin_and_isolated() {
    judge(
        "hairpin_isolated",
        &[
            (1, "hairpin on isolated on", "hairpin off isolated off"),
            (2, "isolated on", "isolated off"),
        ],
        0.5,
    );
}

#[test]
fn learning_off() {
    judge("learning_off", &[(1, "learning off", "learning on")], 0.5);
}

/// Where nothing is learned, what is known of the source is not asked: a station may speak from where it is not.
#[test]
fn learning_off_everywhere_with_static_entries() {
    let mut config = bridge(0, &[0, 1, 2, 3]);
    config.extend((0..PORTS).map(|port| format!("bridge link set dev d{port} learning off")));
    config.extend(stations().iter().map(|station| {
        format!(
            "bridge fdb add {} dev d{} master static",
            text(station.mac()),
            station.port
        )
    }));
    let mut twin = Twin::start(setup("learning_off_static", PORTS, config));
    all_talk(&mut twin, 8);
    twin.inject(2, &carried(at(0, 1), at(3, 1), 60));
    finish(twin, Share::AtLeast(0.7));
}

#[test]
fn locked() {
    let known = format!("bridge fdb add {} dev d1 master static", text(at(1, 1).mac()));
    let learned = format!("bridge fdb add {} dev d1 master dynamic", text(at(1, 2).mac()));
    let mut config = bridge(0, &[0, 1, 2, 3]);
    config.push("bridge link set dev d1 locked on".into());
    let mut twin = Twin::start(setup("locked", PORTS, config));
    let others: Vec<_> = stations().into_iter().filter(|station| station.port != 1).collect();
    learn(&mut twin, &others);
    all_talk(&mut twin, 6);
    twin.change(&[&known]);
    all_talk(&mut twin, 6);
    twin.change(&[&learned]);
    all_talk(&mut twin, 6);
    // One who is known elsewhere comes to the locked port.
    twin.inject(1, &carried(at(0, 1), at(2, 1), 10));
    twin.change(&["bridge link set dev d1 learning off"]);
    all_talk(&mut twin, 6);
    twin.change(&["bridge link set dev d1 locked off learning on"]);
    learn(&mut twin, &stations());
    all_talk(&mut twin, 6);
    finish(twin, Share::AtLeast(0.5));
}

/// `mab`: a locked port makes entries of those whom it does not let in.
#[test]
fn locked_with_mab() {
    let mut twin = one_bridge("mab", PORTS);
    learn(&mut twin, &stations());
    let has_mab = twin
        .kernel_router()
        .output("bridge link set dev d3 learning on locked on mab on", "");
    if !has_mab.status.success() {
        println!("SKIPPED locked_with_mab: this `bridge` knows no mab");
        return;
    }
    twin.change(&[
        "bridge link set dev d3 learning on locked on mab on",
        "bridge fdb flush dev br0",
    ]);
    learn(&mut twin, &stations());
    all_talk(&mut twin, 8);
    finish(twin, Share::AtLeast(0.3));
}

#[test]
fn states() {
    // 0 disabled, 1 listening, 2 learning, 3 forwarding, 4 blocking.
    for (state, share) in [(0, 0.4), (1, 0.4), (2, 0.4), (4, 0.4)] {
        let on = format!("state {state}");
        judge(&format!("state_{state}"), &[(1, &on, "state 3")], share);
    }
}

/// What a port does not flood does not concern what is known.
#[test]
fn flood_flags() {
    judge("flood_off", &[(1, "flood off", "flood on")], 0.6);
    judge(
        "mcast_flood_off",
        &[(1, "mcast_flood off bcast_flood off", "mcast_flood on bcast_flood on")],
        0.6,
    );
}

/// Guards of spanning tree and snooping, and answers in place of a station: none stands in the way of a known unicast frame.
#[test]
fn other_flags() {
    judge(
        "guard",
        &[(1, "guard on root_block on", "guard off root_block off")],
        0.6,
    );
    judge("neigh_suppress", &[(1, "neigh_suppress on", "neigh_suppress off")], 0.6);
    judge(
        "mcast_to_unicast",
        &[(
            1,
            "mcast_to_unicast on fastleave on",
            "mcast_to_unicast off fastleave off",
        )],
        0.6,
    );
}

/// A flag that changes between two frames of a flow holds from the second on.
#[test]
fn a_flag_holds_at_once() {
    let mut twin = one_bridge("flags_live", PORTS);
    learn(&mut twin, &stations());
    let (one, other) = (at(0, 1), at(1, 1));
    for flags in [
        "isolated on",
        "isolated off",
        "learning off",
        "learning on",
        "locked on",
        "locked off",
        "state 4",
        "state 3",
        "hairpin on",
        "hairpin off",
    ] {
        talk(&mut twin, one, other, 20);
        twin.change(&[
            &format!("bridge link set dev d1 {flags}"),
            "bridge link set dev d0 isolated on",
        ]);
        // What a state takes away is learned again.
        learn(&mut twin, &[one, other]);
        talk(&mut twin, one, other, 20);
        twin.inject(1, &carried(at(1, 2), other, 10));
    }
    forwards(&mut twin, 90, |twin| talk(twin, one, other, 50));
    finish(twin, Share::AtLeast(0.4));
}
