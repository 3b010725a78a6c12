//! What a bridge learns: new stations, those that move, those that fall silent, and entries that were made by hand. bypath
//! learns nothing by itself, so each of these is the kernel's answer to a frame that was punted.

use crate::lab::bridge::{plain_frame, unknown_mac};
use crate::lab::packet::text;
use crate::lab::twin::{Share, Twin};
use crate::net::{
    arp_reply, at, bridge, bridge_with, carried, finish, finish_aged, forwards, forwards_nothing, learn, one_bridge,
    setup, talk, wait_learned,
};
use std::time::{Duration, Instant};

/// An unknown destination is flooded, an unknown source is learned; what is known on both sides is bypath's.
#[test]
fn unknown_is_flooded_known_is_forwarded() {
    let mut twin = one_bridge("learning", 3);
    let (one, other) = (at(0, 1), at(1, 1));
    // Nobody is known: to all ports.
    twin.inject(0, &carried(one, other, 4));
    wait_learned(&twin, [one.mac()]);
    // The answer goes to one port, and is punted, for its source is new.
    twin.inject(1, &carried(other, one, 4));
    wait_learned(&twin, [other.mac()]);
    assert_eq!(twin.compare_fdbs("both are known"), 4, "two stations, two fences");
    forwards(&mut twin, 400, |twin| talk(twin, one, other, 200));
    finish(twin, Share::AtLeast(0.95));
}

/// Hundreds of stations.
#[test]
fn many_stations() {
    let mut twin = one_bridge("many_stations", 4);
    let stations: Vec<_> = (0..4)
        .flat_map(|port| (0..100).map(move |host| at(port, host)))
        .collect();
    for port in 0..4 {
        let frames = stations.iter().filter(|station| station.port == port);
        let frames: Vec<_> = frames
            .map(|station| plain_frame(unknown_mac(1), station.mac(), 46))
            .collect();
        twin.inject(port, &frames);
    }
    wait_learned(&twin, stations.iter().map(|station| station.mac()));
    for round in 0..4usize {
        for port in 0..4 {
            let pairs = (0..100).map(|host| (at(port, host), at((port + 1 + round % 3) % 4, 99 - host)));
            let frames: Vec<_> = pairs.flat_map(|(from, to)| carried(from, to, 1)).collect();
            twin.inject(port, &frames);
        }
    }
    finish(twin, Share::AtLeast(0.75));
}

/// Its entry goes with it at its first frame from there, or its first word by ARP.
#[test]
fn a_station_moves() {
    let mut twin = one_bridge("move", 3);
    let (one, other) = (at(0, 1), at(1, 1));
    learn(&mut twin, &[one, other]);
    talk(&mut twin, one, other, 60);
    // It comes up behind port 2.
    twin.inject(2, &carried(other, one, 1));
    wait_learned(&twin, [other.mac()]);
    twin.inject(0, &carried(one, other, 60));
    twin.inject(2, &carried(other, one, 60));
    // ... and back, by a message that bypath does not see.
    twin.inject(1, &[arp_reply(other, one)]);
    wait_learned(&twin, [other.mac()]);
    talk(&mut twin, one, other, 60);
    finish(twin, Share::AtLeast(0.9));
}

/// Each frame of either moves the entry: bypath forwards from where the kernel has it, and punts from elsewhere.
#[test]
fn two_ports_claim_one_address() {
    let mut twin = one_bridge("two_claims", 3);
    let (one, claimed) = (at(0, 1), at(1, 1));
    learn(&mut twin, &[one, claimed]);
    for round in 0..12 {
        twin.inject(1 + round % 2, &carried(claimed, one, 3));
        wait_learned(&twin, [claimed.mac()]);
        twin.inject(0, &carried(one, claimed, 3));
    }
    // How much more bypath forwards is open: what it is told comes while frames go.
    finish(twin, Share::AtLeast(0.2));
}

fn ageing(name: &str, seconds: u32) -> Twin {
    let config = bridge_with(0, &[0, 1, 2], &format!("ageing_time {}", 100 * seconds));
    Twin::start(setup(name, 3, config))
}

/// Who is silent for the ageing time is forgotten, and flooded to again.
#[test]
fn a_silent_station_ages() {
    let mut twin = ageing("ageing_silent", 3);
    let (one, other) = (at(0, 1), at(1, 1));
    learn(&mut twin, &[one, other]);
    talk(&mut twin, one, other, 50);
    twin.wait(Duration::from_secs(6));
    // All are forgotten, so all hear it, and nothing of it is bypath's.
    forwards_nothing(&mut twin, |twin| {
        twin.inject(0, &carried(one, other, 20));
    });
    twin.compare_fdbs("after the silence");
    learn(&mut twin, &[one, other]);
    forwards(&mut twin, 90, |twin| talk(twin, one, other, 50));
    // Not at the end: entries are of different ages, by some milliseconds.
    finish_aged(twin, Share::AtLeast(0.75));
}

/// Who only sends by bypath does not age, for it tells the kernel; who is only sent to does.
#[test]
fn a_station_in_use_does_not_age() {
    let mut twin = ageing("ageing_in_use", 4);
    let (one, other, silent) = (at(0, 1), at(1, 1), at(2, 1));
    let since = Instant::now();
    learn(&mut twin, &[one, other, silent]);
    while since.elapsed() < Duration::from_secs(8) {
        twin.inject(0, &carried(one, other, 10));
        twin.inject(1, &carried(other, one, 10));
        // Not when it is about to be forgotten: neither lab's clock is the other's.
        if !(3..6).contains(&since.elapsed().as_secs()) {
            twin.inject(0, &carried(one, silent, 2));
        }
        twin.wait(Duration::from_millis(500));
    }
    let [kernel, tested] =
        [twin.kernel_router(), twin.tested_router()].map(|router| router.run("bridge fdb show br br0"));
    for (who, is_there) in [(one, true), (other, true), (silent, false)] {
        for fdb in [&kernel, &tested] {
            assert_eq!(fdb.contains(&text(who.mac())), is_there, "{who:?}:\n{fdb}");
        }
    }
    forwards(&mut twin, 40, |twin| talk(twin, one, other, 20));
    finish_aged(twin, Share::AtLeast(0.6));
}

/// With an ageing time of 0 nothing is learned at all: a hub.
#[test]
fn without_ageing_time_nothing_is_learned() {
    let mut twin = ageing("ageing_none", 0);
    learn(&mut twin, &[at(0, 1), at(1, 1)]);
    talk(&mut twin, at(0, 1), at(1, 1), 30);
    finish(twin, Share::Nothing);
}

/// The ageing time becomes shorter, then long again, while stations talk.
#[test]
fn the_ageing_time_changes() {
    let mut twin = one_bridge("ageing_changes", 3);
    let (one, other) = (at(0, 1), at(1, 1));
    learn(&mut twin, &[one, other]);
    twin.change(&["ip link set br0 type bridge ageing_time 500"]);
    for _ in 0..10 {
        talk(&mut twin, one, other, 10);
        twin.wait(Duration::from_millis(700));
    }
    twin.change(&["ip link set br0 type bridge ageing_time 30000"]);
    talk(&mut twin, one, other, 50);
    finish_aged(twin, Share::AtLeast(0.6));
}

fn by_hand(twin: &mut Twin, entry: &str) {
    twin.change(&[&format!("bridge fdb replace {} {entry}", text(at(1, 9).mac()))]);
}

/// `static` does not age, and moves; `permanent` is the bridge's own; `sticky` neither ages nor moves.
#[test]
fn entries_by_hand() {
    for (entry, share) in [
        ("dev d1 master static", 0.6),
        ("dev d1 master static sticky", 0.6),
        ("dev d1 master dynamic sticky", 0.6),
        ("dev d1 master dynamic", 0.6),
        ("dev d1 master permanent", 0.2),
        ("dev br0 self permanent", 0.2),
        ("dev d1 master extern_learn", 0.6),
    ] {
        let name = entry.replace(' ', "_");
        let mut twin = Twin::start(setup(&format!("entry_{name}"), 3, bridge(0, &[0, 1, 2])));
        let (one, known, two) = (at(0, 1), at(1, 9), at(2, 1));
        learn(&mut twin, &[one, two]);
        by_hand(&mut twin, entry);
        // To it, and from where it is.
        talk(&mut twin, one, known, 40);
        talk(&mut twin, two, known, 40);
        // From elsewhere: moves it, or not.
        twin.inject(2, &carried(known, one, 5));
        wait_learned(&twin, [known.mac()]);
        twin.compare_fdbs("after a frame from elsewhere");
        talk(&mut twin, one, known, 40);
        twin.inject(2, &carried(known, one, 40));
        twin.change(&[
            "ip link set br0 type bridge fdb_flush",
            &format!("bridge fdb replace {} dev d1 master static", text(known.mac())),
        ]);
        learn(&mut twin, &[one, two]);
        talk(&mut twin, one, known, 40);
        // What is deleted is flooded.
        twin.change(&[&format!("bridge fdb del {} dev d1 master", text(known.mac()))]);
        twin.inject(0, &carried(one, known, 5));
        finish(twin, Share::AtLeast(share));
    }
}

/// A station's entry is deleted, and all of them, while it talks.
#[test]
fn entries_are_deleted_and_flushed() {
    let mut twin = one_bridge("flush", 3);
    let (one, other) = (at(0, 1), at(1, 1));
    for command in [
        format!("bridge fdb del {} dev d0 master", text(one.mac())),
        "bridge fdb flush dev br0".into(),
        "ip link set d1 type bridge_slave fdb_flush".into(),
        "ip link set br0 type bridge fdb_flush".into(),
    ] {
        learn(&mut twin, &[one, other]);
        talk(&mut twin, one, other, 50);
        twin.change(&[&command]);
        twin.compare_fdbs(&command);
        twin.inject(1, &carried(other, one, 2));
        std::thread::sleep(Duration::from_millis(60));
    }
    finish(twin, Share::AtLeast(0.8));
}

/// The kernel refuses sources that are none, and those of its own.
#[test]
fn sources_that_are_none() {
    let mut twin = one_bridge("odd_sources", 3);
    let other = at(1, 1);
    learn(&mut twin, &[at(0, 1), other]);
    let from = |src: [u8; 6]| {
        let mut frames = carried(at(0, 1), other, 4);
        frames.iter_mut().for_each(|frame| frame[6..12].copy_from_slice(&src));
        frames
    };
    for src in [
        [0; 6],
        [0xff; 6],
        [1, 0, 0x5e, 0, 0, 1],
        [3, 0, 0, 1, 0, 0],
        crate::net::bridge_mac(0),
        crate::net::port_mac(0),
        crate::net::port_mac(1),
        other.mac(),
    ] {
        twin.inject(0, &from(src));
        std::thread::sleep(Duration::from_millis(60));
    }
    twin.inject(1, &carried(other, other, 4));
    learn(&mut twin, &[other]);
    talk(&mut twin, at(0, 1), other, 100);
    finish(twin, Share::AtLeast(0.7));
}
