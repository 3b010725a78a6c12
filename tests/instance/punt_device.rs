//! Somebody sets the punt device down, or takes it away: frames for the kernel must not get lost for longer than it takes to
//! hear of it.

use crate::lab::bypath::Bypath;
use crate::net::Net;
use std::time::{Duration, Instant};

/// Whether the kernel gets the packet that asks for a neighbour: only it can resolve one.
#[track_caller]
fn assert_punted(net: &Net, bypath: &Bypath) {
    let punted = || bypath.totals_at_rest().punted.values().sum::<u64>();
    let until = Instant::now() + Duration::from_secs(5);
    loop {
        net.router.run("ip neigh flush dev d1");
        let before = punted();
        let answered = net.ping(0, "10.0.1.2", 3);
        assert_eq!(answered, 3, "it said:\n{}", bypath.said());
        if punted() > before {
            return;
        }
        assert!(Instant::now() < until, "nothing was punted");
    }
}

#[test]
fn a_punt_device_that_is_set_down_is_set_up_again() {
    let net = Net::new(2);
    let bypath = net.bypath("");
    assert_punted(&net, &bypath);
    for _ in 0..2 {
        net.router.run("ip link set bypath0 down");
        let until = Instant::now() + Duration::from_secs(2);
        while !net.router.run("ip -o link show bypath0").contains(",UP") {
            assert!(Instant::now() < until, "it stays down: {}", bypath.said());
            std::thread::sleep(Duration::from_millis(10));
        }
        assert_punted(&net, &bypath);
    }
    bypath.wait_said("bypath0 was set down, and is set up again");
    bypath.stop();
}

#[test]
fn without_its_punt_device_it_ends_and_the_kernel_forwards() {
    let net = Net::new(2);
    for how in ["ip link del bypath0", "ip link set bypath0 netns"] {
        let bypath = net.bypath("");
        net.ping_until(0, "10.0.1.2");
        let to = if how.ends_with("netns") {
            net.hosts[0].path()
        } else {
            String::new()
        };
        net.router.run(&format!("{how} {to}"));
        let (status, said) = bypath.ended();
        assert_eq!(status.code(), Some(1), "{said}");
        assert!(said.contains("bypath: error: bypath0 is gone"), "{said}");
        net.assert_nothing_left();
        assert_eq!(net.ping(0, "10.0.1.2", 3), 3, "the kernel does not forward again");
    }
}
