//! Requests read back as what they were made of, and nothing that the kernel could send makes the reader panic.

use super::attr::{cta, nat};
use super::message::entry;
use super::*;
use crate::mirror::nlattr::{Attrs, HEADER_LEN, Messages};
use crate::table::conntrack::{Marks, Status};
use crate::wire::Protocol;

const NOW: Ticks = u32::MAX - 50;

fn record(family: Family, proto: Protocol, sport: u16, dport: u16, zone: u16) -> Record {
    let original = Tuple {
        src: 0x0a00_0001,
        dst: 0x0a00_0102,
        sport,
        dport,
        proto: proto.0,
        family,
        zone,
    };
    let protoinfo = match proto {
        Protocol::TCP => Some(Protoinfo::Tcp {
            state: 3,
            wscale: [7, 9],
            flags: [0x0b, 0x0b],
        }),
        Protocol::SCTP => Some(Protoinfo::Sctp {
            state: 4,
            vtag: [0xdead_beef, 5],
        }),
        _ => None,
    };
    Record {
        original,
        reply: original.invert().unwrap(),
        status: Status::SEEN_REPLY | Status::ASSURED | Status::CONFIRMED,
        marks: Marks::default(),
        deadline: NOW.wrapping_add(12_000),
        mark: 0x1234,
        proto: protoinfo.map_or_else(Default::default, Protoinfo::to_state),
        counters: Default::default(),
    }
}

fn records() -> Vec<Record> {
    let mut records = Vec::new();
    for family in Family::ALL {
        let (icmp, echo) = match family {
            Family::V4 => (Protocol::ICMP, 0x0800),
            Family::V6 => (Protocol::ICMPV6, 0x8000),
        };
        records.extend([
            record(family, Protocol::TCP, 40_000, 443, 0),
            record(family, Protocol::UDP, 53, 53, 7),
            record(family, Protocol::UDPLITE, 1, 2, 0),
            record(family, Protocol::SCTP, 3, 4, 0),
            record(family, Protocol::GRE, 5, 6, 0),
            record(family, icmp, 77, echo, 0),
            record(family, Protocol::ESP, 0, 0, 65_535),
        ]);
    }
    records
}

fn parsed(request: Request) -> Option<Entry> {
    let bytes = request.finish(1);
    let message = Messages(&bytes).next()?;
    entry(&message, NOW)
}

#[test]
fn a_created_connection_reads_back() {
    for record in records() {
        let told = parsed(request::create(&record, NOW).unwrap()).unwrap();
        assert_eq!(told.record, record);
        assert_eq!(told.oddity, None);
        assert!(told.is_established());
    }
}

#[test]
fn a_connection_without_an_answer_is_not_told_to_have_one() {
    let mut record = record(Family::V4, Protocol::UDP, 1, 2, 0);
    record.status = Status::CONFIRMED | Status::SRC_NAT_DONE | Status::DST_NAT_DONE;
    let told = parsed(request::create(&record, NOW).unwrap()).unwrap();
    assert_eq!(told.record.status, Status::CONFIRMED);
    assert!(!told.is_established());
}

/// The NAT attributes of a request: which, address, port.
fn nat_of(record: &Record) -> Vec<(u16, Vec<u8>, Option<Vec<u8>>)> {
    let bytes = request::create(record, NOW).unwrap().finish(1);
    let message = Messages(&bytes).next().unwrap();
    let told = entry(&message, NOW).unwrap().record;
    assert_eq!(Some(told.reply), record.original.invert(), "untranslated");
    let nats = message
        .attrs(4)
        .filter(|(kind, _)| [cta::NAT_SRC, cta::NAT_DST].contains(kind));
    nats.map(|(kind, payload)| {
        let attrs = Attrs(payload);
        let least = attrs.find(nat::V4_IP[0]).unwrap();
        assert_eq!(attrs.find(nat::V4_IP[1]), Some(least));
        let port = attrs.find(nat::PROTO).map(|ports| {
            let least = Attrs(ports).find(nat::PORT[0]).unwrap();
            assert_eq!(Attrs(ports).find(nat::PORT[1]), Some(least));
            least.to_vec()
        });
        (kind, least.to_vec(), port)
    })
    .collect()
}

#[test]
fn nat_goes_by_its_own_attributes_and_only_where_there_is_any() {
    let plain = record(Family::V4, Protocol::TCP, 1000, 80, 0);
    assert_eq!(nat_of(&plain), []);

    let mut source = plain.clone();
    (source.reply.dst, source.reply.dport) = (0xcb00_7101, 2000);
    let by_source = (cta::NAT_SRC, vec![0xcb, 0, 0x71, 1], Some(vec![7, 0xd0]));
    assert_eq!(nat_of(&source), std::slice::from_ref(&by_source));

    let mut both = source.clone();
    both.reply.sport = 8080;
    let by_port = (cta::NAT_DST, vec![10, 0, 1, 2], Some(vec![0x1f, 0x90]));
    assert_eq!(nat_of(&both), [by_port, by_source]);

    let mut ping = record(Family::V4, Protocol::ICMP, 5, 0x0800, 0);
    (ping.reply.dst, ping.reply.sport) = (0xcb00_7101, 6);
    let by_id = (cta::NAT_SRC, vec![0xcb, 0, 0x71, 1], Some(vec![0, 6]));
    assert_eq!(nat_of(&ping), [by_id]);
    ping.reply.src += 1;
    let by_address = (cta::NAT_DST, vec![10, 0, 1, 3], None);
    assert_eq!(nat_of(&ping)[0], by_address);

    let mut esp = record(Family::V4, Protocol::ESP, 0, 0, 0);
    esp.reply.dst = 0xcb00_7101;
    assert_eq!(nat_of(&esp), [(cta::NAT_SRC, vec![0xcb, 0, 0x71, 1], None)]);
}

#[test]
fn a_time_left_is_never_none() {
    assert_eq!(timeout_s(NOW.wrapping_add(101), NOW), 2);
    assert_eq!(timeout_s(NOW.wrapping_add(100), NOW), 1);
    assert_eq!(timeout_s(NOW, NOW), 1);
    assert_eq!(timeout_s(NOW.wrapping_sub(500), NOW), 1);
}

#[test]
fn every_cut_and_every_changed_byte_ends_without_a_panic() {
    for record in records().iter_mut().take(7) {
        record.reply.dst ^= 1;
        let whole = request::create(record, NOW).unwrap().finish(1);
        for cut in 0..whole.len() {
            if let Some(m) = Messages(&whole[..cut]).next() {
                entry(&m, NOW);
            }
            let mut bad = whole.clone();
            for byte in [0, 1, 0x7f, 0xff] {
                bad[cut] = byte;
                if let Some(m) = Messages(&bad).next() {
                    entry(&m, NOW);
                }
            }
            // A message that ends there, and says so.
            let mut short = whole[..cut].to_vec();
            if cut >= HEADER_LEN {
                short[..4].copy_from_slice(&(cut as u32).to_ne_bytes());
                entry(&Messages(&short).next().unwrap(), NOW);
            }
        }
    }
}

#[test]
fn own_sockets_are_known_and_not_without_end() {
    let own = Own::default();
    (1..=100).for_each(|port| own.add(port));
    assert!(own.contains(100) && !own.contains(1) && !own.contains(0));
    assert_eq!(own.0.lock().unwrap().len(), OWN_MAX);
}
