//! The judge judged: a twin whose bridges differ must say so.

use crate::lab::packet::text;
use crate::lab::twin::Share;
use crate::net::{at, carried, finish, learn, one_bridge, talk};

/// An entry in one of the databases alone, though no frame was sent that asks about it.
#[test]
#[should_panic(expected = "forwarding databases differ")]
fn an_entry_more_is_seen() {
    let mut twin = one_bridge("harness_entry", 2);
    learn(&mut twin, &[at(0, 1)]);
    let mac = text(at(1, 1).mac());
    twin.tested_router()
        .run(&format!("bridge fdb add {mac} dev d1 master static"));
    finish(twin, Share::AtLeast(0.0));
}

/// Frames that come out of one lab alone. (A port without a spanning tree does not stay blocking, state 4: it forwards at once.)
#[test]
#[should_panic(expected = "divergences")]
fn a_blocked_port_is_seen() {
    let mut twin = one_bridge("harness_port", 2);
    learn(&mut twin, &[at(0, 1), at(1, 1)]);
    talk(&mut twin, at(0, 1), at(1, 1), 4);
    twin.tested_router().run("bridge link set dev d1 state 1");
    twin.wait_in_force();
    twin.inject(0, &carried(at(0, 1), at(1, 1), 4));
    finish(twin, Share::AtLeast(0.0));
}
