//! Entries go in and come back equal; what is refused is said.

use super::*;
use bypath::mirror::ctnetlink::{Oddity, Protoinfo};
use bypath::packet::Family;
use bypath::table::conntrack::{Record, Status, Tuple};
use bypath::wire::Protocol;

fn tracking() -> Namespace {
    let namespace = Namespace::new();
    let rules = "table inet t { chain c { type filter hook forward priority 0; ct state invalid drop; }; }";
    namespace.run_with("nft -f -", rules);
    namespace
}

fn record(family: Family, proto: Protocol, sport: u16, dport: u16, state: Option<Protoinfo>) -> Record {
    let original = Tuple {
        src: 0x0a01_0203,
        dst: 0x0a04_0506,
        sport,
        dport,
        proto: proto.0,
        family,
        zone: 0,
    };
    Record {
        original,
        reply: original.invert().expect("a query"),
        status: Status::SEEN_REPLY | Status::ASSURED | Status::CONFIRMED,
        marks: Default::default(),
        deadline: NOW + 30_000,
        mark: 0,
        proto: state.map_or_else(Default::default, Protoinfo::to_state),
        counters: Default::default(),
    }
}

fn tcp(state: u8) -> Option<Protoinfo> {
    Some(Protoinfo::Tcp {
        state,
        wscale: [7, 8],
        flags: [3, 3],
    })
}

/// One of everything, all of them different.
fn various() -> Vec<Record> {
    let mut records = Vec::new();
    for family in Family::ALL {
        let (icmp, echo) = match family {
            Family::V4 => (Protocol::ICMP, 0x0800),
            Family::V6 => (Protocol::ICMPV6, 0x8000),
        };
        for state in 1..=8 {
            records.push(record(family, Protocol::TCP, 1000 + u16::from(state), 80, tcp(state)));
        }
        let sctp = Protoinfo::Sctp {
            state: 4,
            vtag: [0x0102_0304, 5],
        };
        records.push(record(family, Protocol::SCTP, 9, 10, Some(sctp)));
        for proto in [Protocol::UDP, Protocol::UDPLITE] {
            records.push(record(family, proto, 53, 5353, None));
        }
        records.push(record(family, icmp, 77, echo, None));
        records.push(record(family, Protocol::ESP, 0, 0, None));
        let mut zoned = record(family, Protocol::UDP, 53, 5353, None);
        (zoned.original.zone, zoned.reply.zone, zoned.mark) = (7, 7, 0xdead_beef);
        records.push(zoned);
        let mut unreplied = record(family, Protocol::UDP, 1, 2, None);
        unreplied.status = Status::CONFIRMED;
        records.push(unreplied);
        let mut moved = record(family, Protocol::TCP, 2000, 80, tcp(3));
        (moved.reply.dst, moved.reply.dport) = (0xc000_0201, 4000);
        moved.status = moved.status | Status::SRC_NAT;
        records.push(moved.clone());
        (moved.original.sport, moved.reply.dport) = (2001, 4001);
        (moved.reply.src, moved.reply.sport) = (0xc000_0202, 8080);
        moved.status = moved.status | Status::DST_NAT;
        records.push(moved);
        let mut ping = record(family, icmp, 78, echo, None);
        (ping.reply.dst, ping.reply.sport) = (0xc000_0201, 99);
        ping.status = ping.status | Status::SRC_NAT;
        records.push(ping);
    }
    records
}

fn by_tuple(mut entries: Vec<Entry>) -> Vec<Entry> {
    entries.sort_by_key(|e| {
        let t = e.record.original;
        (t.family as u8, t.proto, t.zone, t.sport, t.dport)
    });
    entries
}

/// Without what the kernel adds by itself: that NAT was decided, and the flag that makes it liberal.
fn plain(record: &Record) -> Record {
    let done = Status::SRC_NAT_DONE | Status::DST_NAT_DONE;
    let state = Protoinfo::of_state(record.original.proto, &record.proto).map(|told| match told {
        Protoinfo::Tcp { state, wscale, flags } => Protoinfo::Tcp {
            state,
            wscale,
            flags: flags.map(|flags| flags & 3),
        },
        other => other,
    });
    Record {
        status: Status(record.status.0 & !done.0),
        proto: state.map_or_else(Default::default, Protoinfo::to_state),
        ..record.clone()
    }
}

fn assert_equal(told: &[Entry], meant: &[Record]) {
    let meant: Vec<Entry> = meant
        .iter()
        .map(|record| Entry {
            record: record.clone(),
            id: 0,
            protoinfo: None,
            marked: true,
            oddity: None,
        })
        .collect();
    let (told, meant) = (by_tuple(told.to_vec()), by_tuple(meant));
    assert_eq!(told.len(), meant.len());
    for (told, meant) in told.iter().zip(&meant) {
        let (deadline, lost) = (
            told.record.deadline,
            told.record.deadline.wrapping_sub(meant.record.deadline),
        );
        assert!(lost.wrapping_neg() <= 200, "{told:?}");
        let meant = Record {
            deadline,
            ..plain(&meant.record)
        };
        assert_eq!(plain(&told.record), meant);
        assert_eq!(told.oddity, None);
    }
}

#[test]
fn what_is_entered_comes_back() {
    let namespace = tracking();
    let (mut ctnetlink, _) = open(&namespace);
    assert_eq!(dump(&mut ctnetlink), []);
    let records = various();
    let refuse = |place: usize, errno| panic!("{:?} was refused: {errno}", records[place]);
    ctnetlink.create(&records, NOW, refuse).expect("create");
    assert_equal(&dump(&mut ctnetlink), &records);

    let tuples: Vec<Tuple> = records.iter().map(|record| record.reply).collect();
    let mut got = Vec::new();
    let take = |_, entry: Option<Entry>| got.extend(entry);
    ctnetlink.get(&tuples, NOW, take).expect("get");
    assert_equal(&got, &records);
}

#[test]
fn changes_and_deletions_touch_their_own() {
    let namespace = tracking();
    let (mut ctnetlink, _) = open(&namespace);
    let mut records = various();
    let none = |place: usize, errno: i32| panic!("{place} was refused: {errno}");
    ctnetlink.create(&records, NOW, none).expect("create");
    for record in &mut records {
        record.status = record.status | Status::SEEN_REPLY | Status::ASSURED;
        record.deadline += 5_000;
        record.mark ^= 5;
        if record.original.proto == Protocol::TCP.0 {
            record.proto = tcp(4).expect("a state").to_state();
        }
    }
    ctnetlink.update(&records, NOW, none).expect("update");
    assert_equal(&dump(&mut ctnetlink), &records);

    let (gone, kept) = records.split_at(records.len() / 2);
    let tuples: Vec<Tuple> = gone.iter().map(|record| record.original).collect();
    ctnetlink.delete(&tuples, none).expect("delete");
    assert_equal(&dump(&mut ctnetlink), kept);
    let mut refused = Vec::new();
    ctnetlink
        .delete(&tuples, |place, errno| refused.push((place, errno)))
        .expect("delete");
    let all: Vec<_> = (0..tuples.len()).map(|place| (place, libc::ENOENT)).collect();
    assert_eq!(refused, all);
    let mut refused = 0;
    ctnetlink
        .update(gone, NOW, |_, errno| refused += i32::from(errno == libc::ENOENT))
        .expect("update");
    assert_eq!(refused as usize, gone.len());

    ctnetlink.flush(Some(Family::V4)).expect("flush");
    let left = dump(&mut ctnetlink);
    assert!(!left.is_empty() && left.iter().all(|entry| entry.record.original.family == Family::V6));
    ctnetlink.flush(None).expect("flush");
    assert_eq!(dump(&mut ctnetlink), []);
}

#[test]
fn many_go_in_batches_and_a_taken_tuple_is_refused_alone() {
    let namespace = tracking();
    let (mut ctnetlink, _) = open(&namespace);
    let many: Vec<Record> = (0..1037)
        .map(|port| record(Family::V4, Protocol::UDP, 1024 + port, 53, None))
        .collect();
    let third: Vec<Record> = many.iter().step_by(3).cloned().collect();
    ctnetlink
        .create(&third, NOW, |place, errno| panic!("{place}: {errno}"))
        .expect("create");
    let mut refused = Vec::new();
    ctnetlink
        .create(&many, NOW, |place, errno| refused.push((place, errno)))
        .expect("create");
    let taken: Vec<_> = (0..many.len()).step_by(3).map(|place| (place, libc::EEXIST)).collect();
    assert_eq!(refused, taken);
    assert_eq!(dump(&mut ctnetlink).len(), many.len());
}

#[test]
fn what_a_record_cannot_say_is_odd() {
    let namespace = tracking();
    let (mut ctnetlink, _) = open(&namespace);
    let entry = "-s 10.0.0.1 -d 10.0.0.2 -p udp --sport 1 --dport 2 -t 100";
    namespace.run(&format!("conntrack -I {entry} --orig-zone 3"));
    let [told] = &dump(&mut ctnetlink)[..] else {
        panic!("one entry")
    };
    assert_eq!(told.oddity, Some(Oddity::DirectionalZone));
}
