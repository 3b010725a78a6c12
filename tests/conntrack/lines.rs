//! The judge judged: lines are read right, and tables that differ are told apart.

use crate::flow::{CLIENT, Flow, SERVER};
use crate::lab::conntrack::{Connection, Free, Listing};
use crate::lab::twin::{Setup, Twin};
use crate::rules::STRICT;

const TCP: &str = "tcp      6 431999 ESTABLISHED src=10.0.0.1 dst=10.0.0.2 sport=1 dport=2 src=10.0.0.2 dst=10.0.0.1 sport=2 \
                   dport=1 [ASSURED] mark=7 use=1";
const COUNTED: &str = "icmpv6   58 29 src=::1 dst=0:0::2 type=128 code=0 id=9 packets=1 bytes=84 [UNREPLIED] src=::2 dst=::1 \
                       type=129 code=0 id=9 packets=0 bytes=0 mark=0 zone=3 use=2";

fn listing(lines: &[&str]) -> Listing {
    Listing::take(|| vec![lines.join("\n")])
}

fn differences(one: &[&str], two: &[&str]) -> usize {
    listing(one).compare(&listing(two), Free::default()).len()
}

#[test]
fn lines_are_read() {
    let tcp = Connection::read(TCP).expect("a line");
    assert_eq!(
        (tcp.number, tcp.timeout, tcp.brief()),
        (6, Some(431_999), "ESTABLISHED ASSURED".into())
    );
    assert_eq!(tcp.tuples[1], "src=10.0.0.2 dst=10.0.0.1 sport=2 dport=1");
    assert_eq!(tcp.rest, "mark=7");
    let counted = Connection::read(COUNTED).expect("a line");
    assert_eq!((counted.number, counted.brief()), (58, "UNREPLIED".into()));
    assert_eq!(counted.tuples[0], "src=::1 dst=::2 type=128 code=0 id=9");
    assert_eq!(counted.counters[0], "packets=1 bytes=84");
    assert_eq!(counted.rest, "mark=0 zone=3");
    for bad in [
        "",
        "tcp",
        "tcp 6 9",
        "tcp 6 9 X src=1.2.3.4 dst=1.2.3.5",
        "tcp 6 9 what src=a dst=b",
        "usage: bypath",
    ] {
        assert!(Connection::read(bad).is_err(), "`{bad}` is no line");
    }
}

#[test]
fn what_differs_is_seen() {
    assert_eq!(differences(&[TCP, COUNTED], &[COUNTED, TCP]), 0);
    assert_eq!(differences(&[TCP], &[]), 1);
    assert_eq!(differences(&[], &[TCP]), 1);
    let changed = |from: &str, to: &str| differences(&[TCP], &[&TCP.replace(from, to)]);
    assert_eq!(changed("use=1", "use=3"), 0);
    assert_eq!(changed("431999", "431998"), 0);
    assert_eq!(changed("431999", "431996"), 1);
    assert_eq!(changed("ESTABLISHED", "FIN_WAIT"), 1);
    assert_eq!(changed("[ASSURED] ", ""), 1);
    assert_eq!(changed("mark=7", "mark=8"), 1);
    assert_eq!(changed("sport=1 ", "sport=3 "), 2, "another connection");
    let short = TCP.replace("431999", "1");
    assert_eq!(differences(&[&short], &[]), 0, "it is about to end");
}

#[test]
fn the_side_that_began_counts_unless_it_is_free() {
    let turned = "tcp      6 431999 ESTABLISHED src=10.0.0.2 dst=10.0.0.1 sport=2 dport=1 src=10.0.0.1 dst=10.0.0.2 sport=1 \
                  dport=2 [ASSURED] mark=7 use=1";
    assert_eq!(differences(&[TCP], &[turned]), 1);
    let free = Free {
        direction: true,
        ..Free::default()
    };
    assert!(listing(&[TCP]).compare(&listing(&[turned]), free).is_empty());
}

#[test]
fn of_two_lines_the_first_counts() {
    let table = listing(&[TCP, &TCP.replace("ESTABLISHED", "FIN_WAIT")]);
    assert_eq!(table.connections.len(), 1);
    assert_eq!(
        table.connections.values().next().map(Connection::brief).as_deref(),
        Some("ESTABLISHED ASSURED")
    );
}

#[test]
#[should_panic(expected = "differences between tables")]
fn a_connection_of_one_lab_is_seen() {
    let mut twin = Twin::start(Setup::tracked("a_connection_of_one_lab", 2, STRICT));
    let flow = Flow::new(true);
    twin.send(CLIENT, [flow.udp(CLIENT, 10)]);
    twin.send(SERVER, [flow.udp(SERVER, 10)]);
    let listing = twin.kernel_router().run("conntrack -L -p udp");
    assert!(listing.contains(&format!("src={}", flow.ends[0])), "{listing}");
    twin.kernel_router()
        .run(&format!("conntrack -D -p udp -s {}", flow.ends[0]));
    twin.compare_tables("after a deletion in one lab", Free::default());
}
