//! Reading all routes of a family anew while notifications go on.
//!
//! Needed at the start, after a netlink overrun, and whenever the kernel may have changed routes without a word: it does so
//! for IPv4 when a link goes down, an address or a nexthop object goes (fib_flush), and marks nexthops dead or alive.
//!
//! ```text
//!  dump ----------> shadow store ---------------+
//!  notifications -> live store and tables       | replayed on the shadow once the event socket is empty
//!               \-> log ------------------------+--> differences go into the live ones
//! ```
//!
//! A notification may be older or newer than what the dump says of its prefix; since all that happened before the dump's end
//! is in the log by then, replaying it leaves the shadow as the kernel is. What can be lost is an entry that the dump jumped
//! over because its neighbourhood changed meanwhile (fib_trie resumes by count within a leaf, fib6_walk by count within the
//! table). So where something changed nearby, nothing is taken away, and another read follows, a little later. It is not
//! waited for when a new event asks for a read: a link that went down and came up again within milliseconds leaves doubt
//! about the first read, and only the second one tells that its nexthops are alive.
//!
//! A read that is given up (an overrun, a log that is too long) or that the kernel has no memory for leaves its socket in the
//! midst of a dump; the next one has a fresh socket.
//!
//! Bounds: [`STEP_DATAGRAMS`] per step; the log by [`LOG_MAX`]; reads take at most half of the time, a fifth for doubt.

use super::fibs::{Routes, Update, World, to_update};
use super::netlink::{Channel, Progress, af};
use super::route::{Key, Shape};
use super::store::Store;
use super::{MirrorError, route4, route6};
use crate::packet::{Addr, Family};
use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Datagrams of a dump per step: 32 KiB each, about 400 routes.
const STEP_DATAGRAMS: usize = 32;
/// The longest log; a read that gets more notifications starts over.
const LOG_MAX: usize = 2_000_000;
/// The least pause before a read for doubt.
const DOUBT_PAUSE: Duration = Duration::from_millis(30);
/// The pause behind a read that failed.
pub const FAILED_PAUSE: Duration = Duration::from_millis(100);

/// The state of reading anew.
#[derive(Debug)]
pub struct Reread {
    channel: Channel,
    wanted: bool,
    /// When the next one may start.
    not_before: Instant,
    /// When it may start if an event wants it.
    event_not_before: Instant,
    running: Option<Running>,
    /// The last one failed.
    is_failing: bool,
    completed: u64,
}

#[derive(Debug)]
struct Running {
    started: Instant,
    shadow: Store,
    log: Vec<Update>,
    dumped: bool,
}

impl Reread {
    /// One is wanted.
    pub fn new() -> Result<Self, MirrorError> {
        let channel = Channel::for_requests()?;
        Ok(Self {
            channel,
            wanted: true,
            not_before: Instant::now(),
            event_not_before: Instant::now(),
            running: None,
            is_failing: false,
            completed: 0,
        })
    }

    /// Another one is needed; one that is going on does not count.
    pub fn want(&mut self) {
        self.wanted = true;
        self.not_before = self.not_before.min(self.event_not_before);
    }

    /// Notifications were lost: what is going on is worthless.
    pub fn restart(&mut self) {
        self.wanted = true;
        self.running = None;
        self.not_before = Instant::now();
    }

    /// The kernel could not tell: another one is needed, after a pause.
    pub fn failed(&mut self) {
        self.restart();
        self.is_failing = true;
        self.not_before += FAILED_PAUSE;
        self.event_not_before = self.not_before;
    }

    /// Whether the last one failed.
    pub fn is_failing(&self) -> bool {
        self.is_failing
    }

    /// Whether none is wanted or going on.
    pub fn is_settled(&self) -> bool {
        !self.wanted && self.running.is_none()
    }

    /// Whether there is something to do right now.
    pub fn is_due(&self) -> bool {
        self.running.is_some() || (self.wanted && self.not_before <= Instant::now())
    }

    /// How many were completed.
    pub fn completed(&self) -> u64 {
        self.completed
    }

    /// Whether notifications may be older than what is known.
    pub fn is_replay(&self) -> bool {
        self.completed == 0 || self.running.is_some()
    }

    /// Notes a notification for the replay.
    pub fn log(&mut self, update: Update) {
        let Some(running) = &mut self.running else { return };
        running.log.push(update);
        if running.log.len() > LOG_MAX {
            self.running = None;
            self.wanted = true;
        }
    }
}

impl Routes {
    /// Starts a read if one is due, and reads a bounded part of it. One starts only when the event socket has just been seen
    /// empty: behind an overrun there may be events in it that others, which were lost, have outdated.
    pub fn reread_step(&mut self, drained: bool) -> Result<(), MirrorError> {
        if self.reread.running.is_none() {
            if !drained || !self.reread.is_due() {
                return Ok(());
            }
            let mut rtmsg = [0; 12];
            rtmsg[0] = af(self.family);
            self.reread.channel.request(libc::RTM_GETROUTE, &rtmsg)?;
            self.reread.wanted = false;
            let started = Instant::now();
            self.reread.running = Some(Running {
                started,
                shadow: Store::default(),
                log: Vec::new(),
                dumped: false,
            });
        }
        let (family, shapes) = (self.family, &mut self.shapes);
        let Some(running) = self.reread.running.as_mut().filter(|running| !running.dumped) else {
            return Ok(());
        };
        for _ in 0..STEP_DATAGRAMS {
            let progress = self.reread.channel.read(false, |message| {
                if let Some(update) = to_update(family, shapes, message) {
                    insert_dumped(family, &mut running.shadow, update);
                }
            })?;
            match progress {
                Progress::More => {}
                Progress::Wait => break,
                Progress::Done { consistent } => {
                    running.dumped = true;
                    self.reread.wanted |= !consistent;
                    break;
                }
            }
        }
        Ok(())
    }

    /// Completes a read, once the event socket has been seen empty after the dump's end.
    pub fn reread_finish(&mut self, world: &World) {
        if !self.reread.running.as_ref().is_some_and(|running| running.dumped) {
            return;
        }
        let Some(Running {
            started,
            mut shadow,
            log,
            ..
        }) = self.reread.running.take()
        else {
            return;
        };
        for update in &log {
            update.apply(self.family, &mut shadow);
        }
        let near = Near::new(self.family, &log);
        let mut doubt = self.family == Family::V6 && !log.is_empty() && self.reread.completed == 0;
        let mut differ: Vec<(u32, Key)> = Vec::new();
        for (table, key, routes) in shadow.iter() {
            if self.store.get(table, key) != routes {
                differ.push((table, key));
            }
        }
        for (table, key, _) in self.store.iter() {
            if shadow.get(table, key).is_empty() {
                differ.push((table, key));
            }
        }
        for (table, key) in differ {
            let (old, new) = (self.store.get(table, key), shadow.get(table, key));
            if near.touches(key) && !old.iter().all(|route| has(new, route)) {
                doubt = true;
                continue;
            }
            let new = new.to_vec();
            self.store.change(table, key, |routes| *routes = new);
            self.select_prefix(table, key, world);
        }
        self.reread.completed += 1;
        self.reread.is_failing = false;
        let took = started.elapsed();
        let now = Instant::now();
        self.reread.event_not_before = now + took;
        self.reread.not_before = now + took;
        if doubt {
            // What came while this one was going on may not wait: it was wanted before the doubt.
            if !self.reread.wanted {
                self.reread.not_before = now + (4 * took).max(DOUBT_PAUSE);
            }
            self.reread.wanted = true;
        }
    }
}

/// A route of a dump into a store.
fn insert_dumped(family: Family, shadow: &mut Store, update: Update) {
    shadow.change(update.table, update.key, |routes| match family {
        Family::V4 => update
            .entries
            .into_iter()
            .for_each(|entry| route4::add_dumped(routes, entry)),
        Family::V6 => drop(route6::add(routes, update.entries, 0)),
    });
}

fn has(routes: &[Arc<Shape>], route: &Shape) -> bool {
    routes.iter().any(|other| other.is_same(route))
}

/// Where notifications came while a dump was running.
enum Near {
    /// IPv4: at these addresses, whatever the prefix length: they share a leaf.
    At(HashSet<Addr>),
    /// IPv6: anywhere, or nowhere.
    Anywhere(bool),
}

impl Near {
    fn new(family: Family, log: &[Update]) -> Self {
        match family {
            Family::V4 => Near::At(log.iter().map(|update| update.key.addr()).collect()),
            Family::V6 => Near::Anywhere(!log.is_empty()),
        }
    }

    fn touches(&self, key: Key) -> bool {
        match self {
            Near::At(addrs) => addrs.contains(&key.addr()),
            Near::Anywhere(somewhere) => *somewhere,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::route::Hop;
    use super::*;

    const MAIN: u32 = 254;

    fn blackhole(priority: u32) -> Arc<Shape> {
        let hop = Hop {
            oif: 0,
            gateway: None,
            dead: false,
            encap: 0,
            weight: 0,
        };
        Arc::new(Shape {
            kind: libc::RTN_BLACKHOLE,
            scope: 0,
            protocol: 3,
            tos: 0,
            priority,
            prefsrc: 0,
            src: (0, 0),
            nh_id: 0,
            hops: [hop].into(),
            mtu: 0,
            mtu_locked: false,
            realm: false,
            until: 0,
            unknown: 0,
        })
    }

    fn update(len: u8, new: bool) -> Update {
        Update {
            table: MAIN,
            key: Key::new(0x0a00_0000, len),
            entries: vec![blackhole(1)],
            new,
            flags: 0,
        }
    }

    /// Routes of which the live store has 10.0.0.0/8, with a dump that has said `dumped` and notifications `log`.
    fn routes(family: Family, dumped: &[Update], log: Vec<Update>) -> Routes {
        let world = World::default();
        let mut routes = Routes::new(family).unwrap();
        routes.reread.wanted = false;
        let mut shadow = Store::default();
        dumped
            .iter()
            .for_each(|update| insert_dumped(family, &mut shadow, update.clone()));
        for update in std::iter::once(&update(8, true)).chain(&log) {
            update.apply(family, &mut routes.store);
            routes.select_prefix(update.table, update.key, &world);
        }
        routes.reread.running = Some(Running {
            started: Instant::now(),
            shadow,
            log,
            dumped: true,
        });
        routes.reread_finish(&world);
        routes
    }

    fn has(routes: &Routes, len: u8) -> bool {
        routes.tables[0].1.get(0x0a00_0000, len).is_some()
            && !routes.store.get(MAIN, Key::new(0x0a00_0000, len)).is_empty()
    }

    #[test]
    fn what_a_dump_lacks_is_gone_where_nothing_moved() {
        let routes = routes(Family::V4, &[update(16, true)], vec![]);
        assert!(!has(&routes, 8) && has(&routes, 16) && routes.reread.is_settled());
    }

    #[test]
    fn where_something_moved_nothing_is_taken_away_and_another_read_is_wanted() {
        for family in Family::ALL {
            let routes = routes(family, &[], vec![update(16, true)]);
            assert!(has(&routes, 8) && has(&routes, 16), "{family:?}");
            assert!(!routes.reread.is_settled());
        }
    }

    #[test]
    fn one_that_fails_is_wanted_again_after_a_pause() {
        let mut reread = Reread::new().unwrap();
        assert!(reread.is_due());
        reread.failed();
        reread.want();
        assert!(reread.is_failing() && !reread.is_settled() && !reread.is_due());
        std::thread::sleep(FAILED_PAUSE);
        assert!(reread.is_due());
    }

    #[test]
    fn notifications_go_before_the_dump() {
        // The dump still had the route; it was deleted behind its back.
        let routes = routes(
            Family::V4,
            &[update(8, true), update(16, true)],
            vec![update(16, true), update(16, false)],
        );
        assert!(has(&routes, 8) && !has(&routes, 16) && routes.reread.is_settled());
    }
}
