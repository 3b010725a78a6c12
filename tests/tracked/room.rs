//! A table without room: who makes some for what begins.

use super::*;

#[test]
fn a_full_table_drops_what_begins_only_if_all_others_are_worth_more() {
    let mut tracker = Tracker::new(Arc::default());
    let begin = |n: u16| packet(Family::V4, 0, &Transport { port: 1024 + n, ..UDP });
    for n in 0..4096 {
        assert_eq!(tracker.walk(0, &begin(n)), OUT, "unreplied ones make room");
    }
    assert_eq!(tracker.table.len(), tracker.table.capacity());
    let guard = tracker.handle.pin();
    for connection in tracker.table.iter(&guard) {
        connection.set_status(Status::ASSURED | Status::SEEN_REPLY);
    }
    drop(guard);
    assert_eq!(tracker.walk(0, &begin(5000)), Verdict::Drop(DropReason::ConntrackFull));
    assert_eq!(tracker.table.len(), tracker.table.capacity());
}

#[test]
fn in_a_full_table_what_is_closing_makes_room() {
    let mut tracker = Tracker::with_room(Arc::default(), 64);
    let of = |port: u16, transport: Transport| Transport { port, ..transport };
    let v4 = |side: u16, port: u16, transport: Transport| packet(Family::V4, side, &of(port, transport));
    for port in 1000..1064 {
        assert_eq!(tracker.walk(0, &v4(0, port, tcp(SYN, 100, 0))), OUT);
        assert_eq!(tracker.walk(1, &v4(1, port, tcp(SYN | ACK, 900, 101))), BACK);
        assert_eq!(tracker.walk(0, &v4(0, port, tcp(ACK, 101, 901))), OUT);
    }
    let full = Verdict::Drop(DropReason::ConntrackFull);
    assert_eq!(tracker.walk(0, &v4(0, 2000, tcp(SYN, 100, 0))), full);
    // One side of ten says that it has nothing more to say.
    for port in 1000..1010 {
        assert_eq!(tracker.walk(1, &v4(1, port, tcp(FIN | ACK, 901, 101))), BACK);
    }
    for port in 3000..3010 {
        assert_eq!(tracker.walk(0, &v4(0, port, tcp(SYN, 100, 0))), OUT);
        assert_eq!(tracker.walk(1, &v4(1, port, tcp(SYN | ACK, 900, 101))), BACK);
        assert_eq!(tracker.walk(0, &v4(0, port, tcp(ACK, 101, 901))), OUT);
    }
    assert_eq!(tracker.walk(0, &v4(0, 4000, tcp(SYN, 100, 0))), full);
    for port in 1010..1064 {
        assert_eq!(tracker.walk(1, &v4(1, port, tcp(ACK, 901, 101))), BACK);
    }
    assert_eq!((tracker.table.len(), tracker.table.counts().early_dropped), (64, 10));
}

#[test]
fn established_connections_go_on_through_a_flood_of_syns() {
    let mut tracker = Tracker::new(stateful());
    let of = |port: u16, transport: Transport| Transport { port, ..transport };
    let established = 1000..1500;
    for port in established.clone() {
        assert_eq!(
            tracker.walk(0, &packet(Family::V4, 0, &of(port, tcp(SYN, 100, 0)))),
            OUT
        );
        assert_eq!(
            tracker.walk(1, &packet(Family::V4, 1, &of(port, tcp(SYN | ACK, 900, 101)))),
            BACK
        );
        assert_eq!(
            tracker.walk(0, &packet(Family::V4, 0, &of(port, tcp(ACK, 101, 901)))),
            OUT
        );
    }
    let mut passed = 0;
    for port in 2000..60_000 {
        passed += u32::from(tracker.walk(0, &packet(Family::V4, 0, &of(port, tcp(SYN, 1, 0)))) == OUT);
        let port = established.start + port % 500;
        assert_eq!(
            tracker.walk(0, &packet(Family::V4, 0, &of(port, tcp(ACK, 101, 901)))),
            OUT
        );
        assert_eq!(
            tracker.walk(1, &packet(Family::V4, 1, &of(port, tcp(ACK, 901, 101)))),
            BACK
        );
    }
    let counts = tracker.table.counts();
    println!("58,000 SYNs on a full table: {passed} passed, {counts:?}");
    assert_eq!(tracker.table.len(), tracker.table.capacity());
    assert!(counts.early_dropped > 50_000);
}
