//! When a dump of forwarding databases begins and ends, what an audit takes out, and tables that were replaced: with messages as
//! the kernel sends them. The kernel itself is asked for the socket that a dump comes by, and in one test for that dump. What is
//! read of a dump, tests/mirror compares with a kernel.

use super::*;
use crate::mirror::fixtures::{bridge, entry, message, port};

const BRIDGE: u32 = 9;
const A: Mac = [2, 0, 0, 0, 1, 0xa];
const B: Mac = [2, 0, 0, 0, 1, 0xb];
const C: Mac = [2, 0, 0, 0, 1, 0xc];

/// A bridge with the ports 3 and 4, of which all was read; A and B are behind port 3.
struct Known {
    links: Links,
    fdbs: Fdbs,
}

impl Known {
    fn new() -> Self {
        let mut links = Links::default();
        for link in [bridge(BRIDGE, false), port(3, BRIDGE), port(4, BRIDGE)] {
            links.apply(message(libc::RTM_NEWLINK, &link));
        }
        let fdbs = Fdbs::new().unwrap();
        let mut new = Self { links, fdbs };
        new.fdbs.follow(&new.links, BRIDGE);
        (new.fdbs.wanted, new.fdbs.reading) = (false, Some(Reading::new(false)));
        [A, B].iter().for_each(|mac| new.told(libc::RTM_NEWNEIGH, 3, mac));
        new.dumped(false, &[A, B]);
        new.fdbs.step(&new.links, true).unwrap();
        assert!(new.fdbs.is_settled() && new.table().is_whole());
        new
    }

    fn table(&self) -> Arc<Fdb> {
        self.fdbs.get(BRIDGE).unwrap().clone()
    }

    fn told(&mut self, kind: u16, port: u32, mac: &Mac) {
        self.fdbs.event(&self.links, message(kind, &entry(BRIDGE, port, mac)));
    }

    /// A dump has just said all that it will, these.
    fn dumped(&mut self, is_audit: bool, seen: &[Mac]) {
        self.fdbs.reading = Some(Reading {
            dumped: true,
            seen: seen.iter().map(|&mac| (BRIDGE, mac, 0)).collect(),
            ..Reading::new(is_audit)
        });
    }

    /// By which of its ports an address is reached.
    fn by(&self, fdb: &Fdb, mac: &Mac) -> Option<u32> {
        let port = fdb.lookup(mac, 0)?.entry.port;
        self.links
            .iter()
            .find(|link| link.index == Some(port))
            .map(|link| link.info.ifindex)
    }
}

#[test]
fn a_dump_begins_only_when_no_event_is_left() {
    let mut here = Known::new();
    here.fdbs.restart();
    assert!(here.fdbs.is_due() && !here.table().is_whole());
    here.fdbs.step(&here.links, false).unwrap();
    assert!(
        here.fdbs.reading.is_none(),
        "what is queued may be older than what was lost"
    );
    here.fdbs.step(&here.links, true).unwrap();
    assert!(here.fdbs.reading.is_some());
}

#[test]
fn a_deletion_that_is_told_behind_the_dumps_end_leaves_doubt() {
    let mut here = Known::new();
    // C went ahead of the dump, which passed over B for that.
    here.dumped(false, &[A]);
    here.fdbs.step(&here.links, false).unwrap();
    assert!(!here.fdbs.is_settled(), "its end is not that of the events");
    here.told(libc::RTM_DELNEIGH, 3, &C);
    here.fdbs.step(&here.links, true).unwrap();
    assert_eq!(here.by(&here.table(), &B), None);
    assert!(
        here.fdbs.wanted && here.fdbs.reading.is_none(),
        "another one brings it back"
    );
}

#[test]
fn an_audit_is_due_from_time_to_time() {
    let mut here = Known::new();
    here.fdbs.not_before = Instant::now();
    assert!(!here.fdbs.is_due());
    here.fdbs.audit_at = Instant::now();
    assert!(here.fdbs.is_due());
    here.fdbs.tables.clear();
    assert!(!here.fdbs.is_due(), "there is nothing to look after");
}

#[test]
fn an_audit_takes_out_what_the_kernel_does_not_know_but_not_in_doubt() {
    for doubt in [false, true] {
        let mut here = Known::new();
        here.dumped(true, &[A]);
        if doubt {
            here.told(libc::RTM_DELNEIGH, 3, &C);
        }
        here.fdbs.step(&here.links, true).unwrap();
        assert_eq!(here.by(&here.table(), &A), Some(3));
        assert_eq!(here.by(&here.table(), &B), doubt.then_some(3));
        assert!(here.fdbs.is_settled() && here.table().is_whole());
    }
}

#[test]
fn what_larger_tables_replaced_is_right_until_the_next_snapshot() {
    let mut here = Known::new();
    let old = here.table();
    for n in 0..old.capacity() as u16 {
        let [high, low] = n.to_be_bytes();
        here.told(libc::RTM_NEWNEIGH, 3, &[2, 0, 0, 0, 2 + high, low]);
    }
    let new = here.table();
    assert!(new.capacity() > old.capacity() && here.fdbs.change.replaced);
    here.told(libc::RTM_NEWNEIGH, 4, &A);
    here.told(libc::RTM_DELNEIGH, 3, &B);
    here.told(libc::RTM_NEWNEIGH, 4, &C);
    for fdb in [&old, &new] {
        assert_eq!((here.by(fdb, &A), here.by(fdb, &B)), (Some(4), None));
    }
    assert_eq!(
        (here.by(&old, &C), here.by(&new, &C)),
        (None, Some(4)),
        "no room for news"
    );
    here.fdbs.published();
    here.told(libc::RTM_NEWNEIGH, 3, &A);
    assert_eq!((here.by(&old, &A), here.by(&new, &A)), (Some(4), Some(3)));
}
