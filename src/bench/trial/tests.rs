//! Trials without a kernel: a source and a sink joined by a counter, which lose, repeat, stall and fail as a test says.

use super::*;
use crate::bench::record::Record;
use crate::bench::tag::{Seen, Tag, time_field};
use crate::bench::work::{Flows, Kind, Order};
use crate::port::wait::monotonic_ns;
use std::sync::Mutex;

/// What is between both ends: numbers on their way.
#[derive(Default)]
struct Path {
    way: Mutex<Vec<(u16, u64)>>,
}

/// What the source does with each number.
type Fate = fn(u64) -> usize;

struct FakeSource {
    path: Arc<Path>,
    fate: Fate,
    frames: u64,
    /// How long it makes itself ready.
    ready: Duration,
}

impl Source for FakeSource {
    fn run(
        &mut self,
        _work: &Work,
        run: u16,
        limit: Limit,
        progress: &mut dyn FnMut(u64) -> bool,
    ) -> Result<Sent, String> {
        let frames = match limit {
            Limit::Frames(frames) => frames,
            Limit::Time(_) => self.frames,
        };
        std::thread::sleep(self.ready);
        let first_ns = monotonic_ns();
        let mut offered = 0;
        for number in 0..frames {
            let copies = (self.fate)(number);
            let mut way = self.path.way.lock().unwrap();
            way.extend(std::iter::repeat_n((run, number), copies));
            drop(way);
            offered += 1;
            if offered == 1 {
                progress(offered);
            }
            if frames == u64::MAX {
                std::thread::sleep(Duration::from_millis(10));
                if !progress(offered) {
                    break;
                }
            }
        }
        progress(offered);
        Ok(Sent {
            offered,
            first_ns,
            last_ns: first_ns + 1_000_000_000,
            ..Sent::default()
        })
    }
}

struct FakeSink {
    path: Arc<Path>,
    record: Record,
    run: u16,
    arrived: u64,
}

impl Sink for FakeSink {
    fn begin(&mut self, run: u16, flows: u32) -> Result<(), String> {
        (self.record, self.run, self.arrived) = (Record::new(flows), run, 0);
        Ok(())
    }

    fn turn(&mut self) -> usize {
        let way = std::mem::take(&mut *self.path.way.lock().unwrap());
        for &(run, number) in &way {
            let tag = Tag {
                run,
                sequence: number as u32,
                time: time_field(1),
                flow: Some(0),
            };
            let seen = if run == self.run {
                Seen::Intact(tag)
            } else {
                Seen::Foreign
            };
            self.record.take(seen, 1000, || 0);
            self.arrived += u64::from(run == self.run);
        }
        way.len()
    }

    fn pause(&self) -> Duration {
        Duration::from_micros(100)
    }

    fn arrived(&mut self) -> Result<u64, String> {
        Ok(self.arrived)
    }

    fn end(&mut self) -> Result<Found, String> {
        Ok(Found {
            arrived: self.arrived,
            record: Some(self.record.clone()),
            ..Found::default()
        })
    }
}

fn work() -> Work {
    Work {
        kind: Kind::Udp,
        size: Size::Bytes(64),
        flows: Flows {
            count: 1,
            order: Order::RoundRobin,
            new_per_second: 0,
        },
        rate: Rate::Unpaced,
        duration: Duration::from_secs(1),
        seed: 1,
        src_mac: None,
        dst_mac: [2, 0, 0, 0, 0, 9],
        src: [10, 0, 0, 1].into(),
        dst: [10, 0, 0, 2].into(),
        dsts: 1,
        sport: 1024,
        dport: 9,
    }
}

/// Two ends, the links of which are `up`.
fn pair(frames: u64, fate: Fate, up: fn() -> Result<(), String>) -> Pair {
    pair_ready_after(Duration::ZERO, frames, fate, up)
}

fn pair_ready_after(ready: Duration, frames: u64, fate: Fate, up: fn() -> Result<(), String>) -> Pair {
    let path = Arc::new(Path::default());
    let source = FakeSource {
        path: path.clone(),
        fate,
        frames,
        ready,
    };
    let sink = FakeSink {
        path,
        record: Record::new(1),
        run: 0,
        arrived: 0,
    };
    let sender = End::<dyn Source> {
        name: "x0".into(),
        open: Box::new(|| Ok(Box::new(source))),
        check: Box::new(up),
    };
    let receiver = End::<dyn Sink> {
        name: "y0".into(),
        open: Box::new(|| Ok(Box::new(sink))),
        check: Box::new(|| Ok(())),
    };
    Pair::open(sender, receiver, work(), 7).unwrap()
}

#[test]
fn what_a_path_loses_and_repeats_is_counted() {
    let mut pair = pair(
        1000,
        |number| {
            if number % 10 == 3 {
                0
            } else {
                1 + usize::from(number == 500)
            }
        },
        || Ok(()),
    );
    for _ in 0..2 {
        let outcome = pair.send(Size::Bytes(64), Rate::Unpaced, 1.0).unwrap();
        assert_eq!((outcome.offered, outcome.received, outcome.lost), (1000, 900, 100));
        assert_eq!((outcome.duplicated, outcome.reordered, outcome.corrupted), (1, 0, 0));
        assert_eq!(outcome.loss(), 0.1);
        assert!(outcome.notes.is_empty(), "{outcome:?}");
    }
}

#[test]
fn cpu_time_is_that_of_the_sending_and_not_of_the_waiting_around_it() {
    // It makes itself ready for as long as what was lost is waited for, and somebody spins all the while.
    let mut pair = pair_ready_after(QUIET, u64::MAX, |number| usize::from(number > 0), || Ok(()));
    let mut ticks = 0;
    pair.on_tick(Box::new(move |tick| {
        ticks += u32::from(tick.offered > 0);
        ticks < 2
    }));
    let over = AtomicBool::new(false);
    let (outcome, all_ns) = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Relaxed) {
                std::hint::spin_loop();
            }
        });
        let before = busy_ns().unwrap();
        let outcome = pair.send(Size::Bytes(64), Rate::Unpaced, 3600.0);
        let all_ns = busy_ns().unwrap() - before;
        over.store(true, Relaxed);
        (outcome.unwrap(), all_ns)
    });
    assert_eq!(outcome.lost, 1);
    let charged_ns = outcome.cpu_ns_per_frame.unwrap() * outcome.received as f64;
    assert!(charged_ns < all_ns / 2.0, "{charged_ns} of {all_ns} ns");
}

#[test]
fn a_burst_has_just_so_many_frames() {
    let mut pair = pair(5, |_| 1, || Ok(()));
    let outcome = pair.burst(Size::Imix, 321).unwrap();
    assert_eq!((outcome.offered, outcome.received, outcome.lost), (321, 321, 0));
}

#[test]
fn a_receiver_that_never_saw_anything_is_an_error_and_later_a_note() {
    let mut deaf = pair(100, |_| 0, || Ok(()));
    let error = deaf.send(Size::Bytes(64), Rate::Unpaced, 1.0).unwrap_err();
    assert!(
        error.starts_with("y0 received none of the 100 frames that x0 sent"),
        "{error}"
    );
    assert!(
        error.contains("02:00:00:00:00:09") && error.contains("10.0.0.2") && !error.contains('\n'),
        "{error}"
    );

    static CUT: AtomicBool = AtomicBool::new(false);
    let mut cut = pair(100, |_| usize::from(!CUT.load(Relaxed)), || Ok(()));
    assert_eq!(cut.send(Size::Bytes(64), Rate::Unpaced, 1.0).unwrap().received, 100);
    CUT.store(true, Relaxed);
    let outcome = cut.send(Size::Bytes(64), Rate::Unpaced, 1.0).unwrap();
    assert_eq!((outcome.received, outcome.lost), (0, 100));
    assert_eq!(outcome.notes, ["nothing of this trial arrived at y0"]);
}

#[test]
fn a_rate_that_was_not_reached_is_said() {
    let mut pair = pair(1000, |_| 1, || Ok(()));
    let outcome = pair.send(Size::Bytes(64), Rate::Paced(1000.0), 1.0).unwrap();
    assert!(outcome.notes.is_empty(), "{:?}", outcome.notes);
    let outcome = pair.send(Size::Bytes(64), Rate::Paced(2000.0), 1.0).unwrap();
    assert_eq!(outcome.wanted_pps, Some(2000.0));
    assert!(outcome.notes[0].contains("not reached: 2000 frames per second were asked for, 1000 were sent"));
}

#[test]
fn a_trial_in_which_the_clock_jumped_does_not_count() {
    let mut pair = pair(1000, |_| 1, || Ok(()));
    // Twice read for each trial: the second one takes nine seconds by the one clock, and a second by the other.
    let mut readings = [(1, 1), (2, 2), (10, 10), (19, 11), (20, 12), (21, 13)].into_iter();
    pair.clock = Box::new(move || {
        let (monotonic, raw) = readings.next().expect("two readings for each of three trials");
        Clocks::at(monotonic, raw)
    });
    let mut void = || {
        let outcome = pair.send(Size::Bytes(64), Rate::Unpaced, 1.0).unwrap();
        (outcome.void, outcome.notes.join("; "))
    };
    assert_eq!(void(), (false, String::new()));
    let (is_void, notes) = void();
    assert!(
        is_void && notes.starts_with("does not count: the clock jumped by +8.000 s"),
        "{notes}"
    );
    assert_eq!(void(), (false, String::new()));
}

#[test]
fn a_link_that_is_down_is_an_error_of_one_line() {
    let mut pair = pair(1000, |_| 1, || Err("x0 is down: `ip link set x0 up`".into()));
    let error = pair.send(Size::Bytes(64), Rate::Unpaced, 1.0).unwrap_err();
    assert_eq!(error, "x0 is down: `ip link set x0 up`");
}

#[test]
fn a_trial_can_be_ended_from_outside() {
    let mut pair = pair(u64::MAX, |_| 1, || Ok(()));
    let mut ticks = 0;
    pair.on_tick(Box::new(move |tick| {
        ticks += 1;
        assert!(tick.seconds == Some(3600.0) && tick.elapsed > 0.0);
        ticks < 3
    }));
    let outcome = pair.send(Size::Bytes(64), Rate::Unpaced, 3600.0).unwrap();
    assert_eq!(outcome.lost, 0);
    assert!(
        outcome.notes[0].starts_with("this trial was ended after 0."),
        "{:?}",
        outcome.notes
    );
}

#[test]
fn an_end_that_cannot_be_opened_says_why() {
    let sender = End::<dyn Source> {
        name: "x0".into(),
        open: Box::new(|| Err("no such port".into())),
        check: Box::new(|| Ok(())),
    };
    let path = Arc::new(Path::default());
    let receiver = End::<dyn Sink> {
        name: "y0".into(),
        open: Box::new(move || {
            Ok(Box::new(FakeSink {
                path,
                record: Record::new(1),
                run: 0,
                arrived: 0,
            }))
        }),
        check: Box::new(|| Ok(())),
    };
    assert_eq!(
        Pair::open(sender, receiver, work(), 0).err(),
        Some("no such port".into())
    );
}
