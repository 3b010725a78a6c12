//! Events: who did it, and what was lost.

use super::*;
use bypath::mirror::ctnetlink::{BUFFER_BYTES, Event, EventKind, Events, Heard};
use bypath::packet::Family;
use bypath::table::conntrack::{Record, Status, Tuple};
use bypath::wire::Protocol;

fn record(sport: u16) -> Record {
    let original = Tuple {
        src: 0x0a00_0001,
        dst: 0x0a00_0002,
        sport,
        dport: 53,
        proto: Protocol::UDP.0,
        family: Family::V4,
        zone: 0,
    };
    Record {
        original,
        reply: original.invert().expect("a query"),
        status: Status::CONFIRMED,
        marks: Default::default(),
        deadline: NOW + 12_000,
        mark: 0,
        proto: Default::default(),
        counters: Default::default(),
    }
}

fn hear(events: &mut Events) -> (Vec<Event>, bool) {
    let (mut heard, mut overrun) = (Vec::new(), false);
    loop {
        match events.read(NOW, |event| heard.push(event)).expect("events") {
            Heard::Some => {}
            Heard::Overrun => overrun = true,
            Heard::Nothing => return (heard, overrun),
        }
    }
}

#[test]
fn events_say_who_did_it() {
    let namespace = Namespace::new();
    namespace.run_with(
        "nft -f -",
        "table ip t { chain c { type filter hook forward priority 0; ct state new accept; }; }",
    );
    let mut events = namespace.enter(|| Events::open(BUFFER_BYTES)).expect("events");
    let (mut ctnetlink, own) = open(&namespace);
    let none = |place: usize, errno: i32| panic!("{place} was refused: {errno}");

    let mut record = record(1000);
    ctnetlink
        .create(std::slice::from_ref(&record), NOW, none)
        .expect("create");
    record.status = record.status | Status::SEEN_REPLY;
    ctnetlink
        .update(std::slice::from_ref(&record), NOW, none)
        .expect("update");
    namespace.run("conntrack -U -s 10.0.0.1 -m 77");
    namespace.run("conntrack -D -s 10.0.0.1");
    ctnetlink
        .create(std::slice::from_ref(&record), NOW, none)
        .expect("create");
    ctnetlink.delete(&[record.original], none).expect("delete");
    record.deadline = NOW + 100;
    ctnetlink
        .create(std::slice::from_ref(&record), NOW, none)
        .expect("create");

    let (heard, overrun) = hear(&mut events);
    assert!(!overrun);
    let who = |event: &Event| (event.kind, own.contains(event.port));
    use EventKind::*;
    assert_eq!(
        heard.iter().map(who).collect::<Vec<_>>(),
        [
            (New, true),
            (Update, true),
            (Update, false),
            (Destroy, false),
            (New, true),
            (Destroy, true),
            (New, true)
        ]
    );
    assert!(heard.iter().all(|event| event.port != 0));
    assert_eq!(heard[2].entry.record.mark, 77);
    assert!(heard.iter().all(|event| event.entry.record.original == record.original));
    assert_eq!(heard[0].entry.id, heard[3].entry.id);
    assert!(!heard[0].entry.is_established() && heard[1].entry.is_established());

    // It ends by itself: the kernel looks now and then, and whenever somebody does.
    let end = std::time::Instant::now() + std::time::Duration::from_secs(10);
    let ended = loop {
        assert!(std::time::Instant::now() < end, "no event of an end by time");
        std::thread::sleep(std::time::Duration::from_millis(100));
        dump(&mut ctnetlink);
        if let Some(event) = hear(&mut events).0.pop() {
            break event;
        }
    };
    assert_eq!((ended.kind, ended.port), (Destroy, 0));
}

#[test]
fn lost_events_are_said_to_be() {
    let namespace = Namespace::new();
    namespace.run_with(
        "nft -f -",
        "table ip t { chain c { type filter hook forward priority 0; ct state new accept; }; }",
    );
    let mut events = namespace.enter(|| Events::open(1)).expect("events");
    let (mut ctnetlink, _) = open(&namespace);
    let many: Vec<Record> = (1..500).map(record).collect();
    ctnetlink
        .create(&many, NOW, |place, errno| panic!("{place}: {errno}"))
        .expect("create");
    let (heard, overrun) = hear(&mut events);
    assert!(overrun && heard.len() < many.len());
    assert_eq!(dump(&mut ctnetlink).len(), many.len());
    assert_eq!(hear(&mut events), (vec![], false), "said once");
}
