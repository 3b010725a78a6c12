//! Too much for a bridge: more addresses than anyone has, and frames that go round. Known stations go on, and when it is
//! over everything is as before. How much of a flood gets through is open, since it is a matter of time and room.

use crate::lab::bridge::{plain_frame, unknown_mac};
use crate::lab::twin::{Share, Twin};
use crate::net::{at, bridge, carried, finish, forwarded, forwards, learn, one_bridge, setup, talk};
use std::time::{Duration, Instant};

/// Sources that were never seen, one to a frame.
fn flood(from: u32, count: u32) -> Vec<Vec<u8>> {
    let source = |number: u32| {
        let [_, a, b, c] = number.to_be_bytes();
        plain_frame(unknown_mac(number as u16), [0x06, 0, 9, a, b, c], 46)
    };
    (from..from + count).map(source).collect()
}

/// New sources in every frame: all are learned, as by the kernel alone, and those who are known go on by bypath.
#[test]
fn many_new_sources() {
    let mut twin = one_bridge("mac_flood", 3);
    let (one, other) = (at(0, 1), at(1, 1));
    learn(&mut twin, &[one, other]);
    for round in 0..80 {
        twin.inject(2, &flood(round * 60, 60));
        talk(&mut twin, one, other, 16);
    }
    let learned = twin.compare_fdbs("after the flood");
    assert!(learned >= 80 * 60, "{learned} learned");
    finish(twin, Share::AtLeast(0.25));
}

/// Where the kernel has a limit, it is the kernel's.
#[test]
fn the_kernels_limit() {
    let mut twin = one_bridge("fdb_max_learned", 3);
    let limited = twin
        .kernel_router()
        .output("ip link set br0 type bridge fdb_max_learned 20", "");
    let command = match limited.status.success() {
        true => "ip link set br0 type bridge fdb_max_learned 20",
        false => {
            println!("SKIPPED the_kernels_limit: this `ip` knows no fdb_max_learned");
            return;
        }
    };
    let (one, other) = (at(0, 1), at(1, 1));
    learn(&mut twin, &[one, other]);
    twin.change(&[command]);
    twin.inject(2, &flood(0, 60));
    talk(&mut twin, one, other, 60);
    // These came too late: they are never learned, so they are punted each time.
    talk(&mut twin, at(0, 5), at(1, 5), 10);
    finish(twin, Share::AtLeast(0.5));
}

/// A flood that nothing waits for, at once with known stations. What is lost is counted, and nothing else is lost.
#[test]
fn a_flood_without_pause() {
    let mut twin = one_bridge("mac_flood_loose", 3);
    let (one, other) = (at(0, 1), at(1, 1));
    learn(&mut twin, &[one, other]);
    talk(&mut twin, one, other, 20);
    twin.settle();
    twin.fail_if_different_so_far();
    let before = forwarded(&twin);
    for round in 0..100 {
        twin.inject_loosely(2, &flood(100_000 + round * 200, 200));
        twin.inject_loosely(0, &carried(one, other, 8));
    }
    if let Some(bypath) = twin.bypath() {
        let until = Instant::now() + Duration::from_secs(5);
        let mut totals = bypath.totals_at_rest();
        while totals.forwarded - before < 600 && Instant::now() < until {
            totals = bypath.totals_at_rest();
        }
        assert!(
            totals.forwarded - before >= 600,
            "known stations did not go on: {totals:?}"
        );
        totals.assert_balanced();
    }
    twin.forget();
    twin.change(&["ip link set br0 type bridge fdb_flush"]);
    learn(&mut twin, &[one, other]);
    talk(&mut twin, one, other, 50);
    twin.settle();
    twin.compare_fdbs("after the flood");
    twin.finish_loosely();
}

/// Two ports of a bridge are one wire: what is flooded goes round for as long as the loop stands, and stations seem to move.
#[test]
fn a_loop() {
    let mut config = bridge(0, &[0, 1]);
    config.extend(
        [
            "ip link add l0 address 02:00:00:00:00:c0 type veth peer name l1 address 02:00:00:00:00:c1",
            "ip link set l0 up",
            "ip link set l1 up",
        ]
        .map(str::to_owned),
    );
    let mut setup = setup("loop", 2, config);
    setup.run = ["d0", "d1", "l0", "l1"].map(str::to_owned).to_vec();
    let mut twin = Twin::start(setup);
    let (one, other) = (at(0, 1), at(1, 1));
    learn(&mut twin, &[one, other]);
    talk(&mut twin, one, other, 20);
    twin.settle();
    twin.fail_if_different_so_far();
    // The storm. It is let go in the tested lab alone, for the machine is shared; the kernel's bridge has no answer to it.
    twin.tested_router().run("ip link set l0 master br0");
    twin.tested_router().run("ip link set l1 master br0");
    let since = Instant::now();
    let router = twin.tested_router().share();
    let cut = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(300));
        router.run("ip link set l1 nomaster");
        router.run("ip link set l0 nomaster");
    });
    twin.inject_tested_loosely(0, &[plain_frame([0xff; 6], one.mac(), 46)]);
    twin.inject_tested_loosely(1, &[plain_frame(unknown_mac(5), other.mac(), 46)]);
    while since.elapsed() < Duration::from_millis(250) {
        twin.inject_tested_loosely(0, &carried(one, other, 4));
        std::thread::sleep(Duration::from_millis(5));
    }
    cut.join().expect("the loop is cut");
    println!("loop: cut after {:?}", since.elapsed());
    if let Some(bypath) = twin.bypath() {
        println!("loop: {:?}", bypath.totals_at_rest());
    }
    twin.forget();
    twin.change(&["ip link set br0 type bridge fdb_flush"]);
    learn(&mut twin, &[one, other]);
    forwards(&mut twin, 190, |twin| talk(twin, one, other, 100));
    twin.compare_fdbs("after the loop");
    twin.finish_loosely();
}
