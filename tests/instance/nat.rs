//! NAT on an address of the box itself: masqueraded connections, and the box's own, side by side behind one address, while
//! bypath starts, stops and is killed.
//!
//! ```text
//!   host 0 (clients) == d0 [router, 10.0.1.1 on d1, masquerade] d1 == host 1 (servers, and a client of the router's)
//! ```
//!
//! Each connection carries numbered lines there and back. It is broken when it ends, when another line comes back than was
//! sent, or when none comes for `LINE_WITHIN`, retransmissions included. A question by UDP is asked again as a resolver would.

use crate::lab::bypath::Bypath;
use crate::lab::namespace::Namespace;
use crate::net::Net;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const LINE_WITHIN: Duration = Duration::from_secs(6);
/// The box's address that all share.
pub const SHARED: &str = "10.0.1.1";
pub const SERVER: &str = "10.0.1.2";
/// Lines that must come back between two steps.
const LINES: u64 = 15;
/// What the box's resolver waits for an answer, and how often it asks.
const ANSWER_WITHIN: Duration = Duration::from_millis(500);
const TRIES: u32 = 4;

pub fn net() -> Net {
    let net = Net::new(2);
    let ruleset = "table inet nat {
        chain postrouting {
            type nat hook postrouting priority srcnat; policy accept;
            oifname \"d1\" masquerade
        }
        chain forward {
            type filter hook forward priority filter; policy drop;
            ct state vmap { established : accept, related : accept, invalid : drop }
            iifname \"d0\" oifname \"d1\" accept
        }
        chain input {
            type filter hook input priority filter; policy accept;
            ct state invalid drop
        }
    }";
    net.router.apply(&[format!("ruleset {ruleset}")]);
    net
}

/// Sends every line back to whoever connects, for as long as the test runs.
pub fn echo(host: &Namespace, port: u16) {
    let listener = host.enter(|| TcpListener::bind(("0.0.0.0", port))).expect("listen");
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            let Ok(socket) = socket else { return };
            std::thread::spawn(move || {
                socket.set_nodelay(true)?;
                // The first line says who came.
                let mut output = socket.try_clone()?;
                output.write_all(format!("{}\n", socket.peer_addr()?.ip()).as_bytes())?;
                for line in BufReader::new(socket).lines() {
                    output.write_all(format!("{}\n", line?).as_bytes())?;
                }
                std::io::Result::Ok(())
            });
        }
    });
}

/// A connection in use.
pub struct Talk {
    pub name: String,
    stop: Arc<AtomicBool>,
    lines: Arc<AtomicU64>,
    begun: Instant,
    client: JoinHandle<Result<(), String>>,
}

impl Talk {
    /// From `from` to `address`, where it must come from `seen_as`.
    pub fn begin(name: String, from: &Namespace, address: (&'static str, u16), seen_as: &str) -> Self {
        Self::of_size(name, from, address, seen_as, |number| (number % 900) as usize)
    }

    /// The same with lines of this length, by their number.
    pub fn of_size(
        name: String,
        from: &Namespace,
        address: (&'static str, u16),
        seen_as: &str,
        size: fn(u64) -> usize,
    ) -> Self {
        let (stop, lines) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let socket = from.enter(|| TcpStream::connect(address));
        let socket = socket.unwrap_or_else(|error| panic!("{name}: {error}"));
        let mut input = BufReader::new(socket.try_clone().expect("a second handle"));
        socket.set_read_timeout(Some(LINE_WITHIN)).expect("a timeout");
        let mut peer = String::new();
        input
            .read_line(&mut peer)
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(peer.trim(), seen_as, "{name}");
        let client = std::thread::spawn({
            let (stop, lines) = (stop.clone(), lines.clone());
            move || talk(socket, input, &stop, &lines, size).map_err(|error| error.to_string())
        });
        Talk {
            name,
            stop,
            lines,
            begun: Instant::now(),
            client,
        }
    }

    /// Whether more lines come back, or it is broken.
    pub fn goes_on(&self) -> bool {
        let (before, until) = (self.lines.load(Relaxed), Instant::now() + LINE_WITHIN);
        while self.lines.load(Relaxed) < before + LINES {
            if self.client.is_finished() || Instant::now() > until {
                return false;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        true
    }

    pub fn end(self) {
        self.stop.store(true, Relaxed);
        let name = self.name;
        let done = self.client.join().unwrap_or_else(|_| panic!("{name}: the client"));
        done.unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}

fn talk(
    mut socket: TcpStream,
    mut input: BufReader<TcpStream>,
    stop: &AtomicBool,
    lines: &AtomicU64,
    size: fn(u64) -> usize,
) -> std::io::Result<()> {
    socket.set_nodelay(true)?;
    while !stop.load(Relaxed) {
        let number = lines.load(Relaxed);
        let sent = format!("line {number} {}\n", "x".repeat(size(number)));
        socket.write_all(sent.as_bytes())?;
        let mut back = String::new();
        input.read_line(&mut back)?;
        if back != sent {
            let short = |line: &str| line.trim().chars().take(40).collect::<String>();
            let what = format!("`{}` came back for `{}`", short(&back), short(&sent));
            return Err(std::io::Error::other(what));
        }
        lines.store(number + 1, Relaxed);
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// Answers datagrams with themselves, for as long as the test runs.
fn answer(host: &Namespace, port: u16) {
    let socket = host.enter(|| UdpSocket::bind(("0.0.0.0", port))).expect("bind");
    std::thread::spawn(move || {
        let mut question = [0; 100];
        while let Ok((length, from)) = socket.recv_from(&mut question) {
            let _ = socket.send_to(&question[..length], from);
        }
    });
}

/// Questions of the box's, each from a socket of its own, every other one connected; how often one had to be asked again.
struct Resolver {
    stop: Arc<AtomicBool>,
    asked: Arc<AtomicU64>,
    thread: JoinHandle<Result<u64, String>>,
}

impl Resolver {
    fn start(router: &Namespace, port: u16) -> Self {
        let (stop, asked) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let (inside, stopped, count) = (router.share(), stop.clone(), asked.clone());
        let thread = std::thread::spawn(move || {
            inside.join_thread();
            let mut again = 0;
            while !stopped.load(Relaxed) {
                let number = count.load(Relaxed);
                again += u64::from(ask(port, number).map_err(|error| format!("question {number}: {error}"))?);
                count.store(number + 1, Relaxed);
                std::thread::sleep(Duration::from_millis(20));
            }
            Ok(again)
        });
        Resolver { stop, asked, thread }
    }

    fn end(self) -> u64 {
        self.stop.store(true, Relaxed);
        self.thread
            .join()
            .expect("the resolver")
            .unwrap_or_else(|error| panic!("{error}"))
    }
}

/// Asks until it is answered; how often in vain.
fn ask(port: u16, number: u64) -> std::io::Result<u32> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.set_read_timeout(Some(ANSWER_WITHIN))?;
    let connected = number.is_multiple_of(2);
    if connected {
        socket.connect((SERVER, port))?;
    }
    let mut error = None;
    for tried in 0..TRIES {
        let question = number.to_be_bytes();
        match connected {
            true => socket.send(&question)?,
            false => socket.send_to(&question, (SERVER, port))?,
        };
        match socket.recv_from(&mut [0; 100]) {
            Ok(_) => return Ok(tried),
            Err(in_vain) => error = Some(in_vain),
        }
    }
    Err(error.unwrap_or_else(|| std::io::ErrorKind::TimedOut.into()))
}

#[test]
fn all_that_share_an_address_go_on() {
    let net = net();
    for port in [7000, 7100] {
        echo(&net.hosts[1], port);
    }
    echo(&net.router, 22);
    answer(&net.hosts[1], 5300);
    let begin_all = |when: &str| -> Vec<Talk> {
        let name = |what: &str| format!("{what}, begun {when}");
        let mut talks: Vec<Talk> = (0..4)
            .map(|_| Talk::begin(name("a client's"), &net.hosts[0], (SERVER, 7000), SHARED))
            .collect();
        talks.push(Talk::begin(name("to the box"), &net.hosts[1], (SHARED, 22), SERVER));
        talks.push(Talk::begin(
            name("to the box from within"),
            &net.hosts[0],
            ("10.0.0.1", 22),
            "10.0.0.2",
        ));
        talks.push(Talk::begin(name("the box's own"), &net.router, (SERVER, 7100), SHARED));
        talks
    };
    let mut talks = begin_all("before");
    let resolver = Resolver::start(&net.router, 5300);
    let go_on = |talks: &[Talk], when: &str| {
        for talk in talks {
            assert!(talk.goes_on(), "{} stands still {when}", talk.name);
        }
        let before = resolver.asked.load(Relaxed);
        let until = Instant::now() + LINE_WITHIN;
        while resolver.asked.load(Relaxed) < before + 5 {
            assert!(Instant::now() < until, "questions stay without answers {when}");
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    go_on(&talks, "before the start");
    for round in 0..3 {
        let bypath = net.bypath("");
        go_on(&talks, &format!("after start {round}"));
        talks.extend(begin_all(&format!("after start {round}")));
        go_on(&talks, &format!("with bypath, round {round}"));
        assert_carries(&bypath);
        bypath.stop();
        go_on(&talks, &format!("after stop {round}"));
    }
    let count = talks.len();
    let asked = resolver.asked.load(Relaxed);
    let again = resolver.end();
    talks.into_iter().for_each(Talk::end);
    println!(
        "{count} connections behind one address through three starts and stops, none broke; {asked} questions of the box, {again} asked again"
    );
    net.assert_nothing_left();
}

pub fn assert_carries(bypath: &Bypath) {
    let before = bypath.totals().forwarded;
    let until = Instant::now() + Duration::from_secs(5);
    while bypath.totals().forwarded < before + 50 {
        assert!(Instant::now() < until, "bypath forwards nothing: {:?}", bypath.totals());
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Killed while a hundred masqueraded connections are in use: those that were two seconds old go on.
#[test]
fn killed_with_a_hundred_masqueraded_connections() {
    const OLD: usize = 80;
    const YOUNG: usize = 20;
    const OLD_ENOUGH: Duration = Duration::from_secs(2);
    let net = net();
    echo(&net.hosts[1], 7000);
    let bypath = net.bypath("");
    let begin = |at: usize| Talk::begin(format!("client {at}"), &net.hosts[0], (SERVER, 7000), SHARED);
    let mut talks: Vec<Talk> = (0..OLD).map(begin).collect();
    std::thread::sleep(OLD_ENOUGH);
    talks.extend((OLD..OLD + YOUNG).map(begin));
    assert_carries(&bypath);
    let killed = Instant::now();
    bypath.signal(libc::SIGKILL);
    bypath.ended();
    let ages: Vec<Duration> = talks.iter().map(|talk| killed - talk.begun).collect();
    let go_on = go_on(&talks);
    let (mut old, mut young) = ([0; 2], [0; 2]);
    for (age, goes_on) in ages.iter().zip(&go_on) {
        let of = if *age >= OLD_ENOUGH { &mut old } else { &mut young };
        of[0] += 1;
        of[1] += usize::from(*goes_on);
    }
    println!(
        "kill -9 with {} masqueraded connections: of {} that were 2 s old {} went on, of {} younger ones {}",
        talks.len(),
        old[0],
        old[1],
        young[0],
        young[1]
    );
    assert!(old[0] >= OLD && young[0] > 0, "{ages:?}");
    assert_eq!(old[0], old[1], "connections broke that were old enough");
    net.assert_nothing_left();
}

/// Which of them go on. All are looked at at once: each may take as long as its retransmissions do.
pub fn go_on(talks: &[Talk]) -> Vec<bool> {
    std::thread::scope(|scope| {
        let threads: Vec<_> = talks.iter().map(|talk| scope.spawn(|| talk.goes_on())).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().expect("a look"))
            .collect()
    })
}

/// Stopped while a hundred masqueraded connections are in use, ten of them in bulk: the kernel goes on with all of them, and so
/// does bypath when it is continued, though it has not seen what they carried meanwhile.
#[test]
fn stopped_and_continued_under_a_hundred_masqueraded_connections() {
    const COUNT: usize = 100;
    const BULK: usize = 10;
    const OLD_ENOUGH: Duration = Duration::from_secs(3);
    const STOPPED: Duration = Duration::from_secs(4);
    let net = net();
    echo(&net.hosts[1], 7000);
    let bypath = net.bypath("");
    let begin = |at: usize| {
        let (name, to) = (format!("client {at}"), (SERVER, 7000));
        match at {
            ..BULK => Talk::of_size(name, &net.hosts[0], to, SHARED, |_| 50_000),
            _ => Talk::begin(name, &net.hosts[0], to, SHARED),
        }
    };
    let talks: Vec<Talk> = (0..COUNT).map(begin).collect();
    std::thread::sleep(OLD_ENOUGH);
    assert_carries(&bypath);
    for round in 0..2 {
        bypath.signal(libc::SIGSTOP);
        let broken = |go_on: Vec<bool>| go_on.into_iter().filter(|goes_on| !goes_on).count();
        let by_the_kernel = broken(go_on(&talks));
        std::thread::sleep(STOPPED);
        bypath.signal(libc::SIGCONT);
        let continued = broken(go_on(&talks));
        println!(
            "kill -STOP {round} with {COUNT} masqueraded connections, {BULK} in bulk: {by_the_kernel} broke while it stood \
             still, {continued} when it went on"
        );
        assert_eq!((by_the_kernel, continued), (0, 0));
        assert_carries(&bypath);
    }
    talks.into_iter().for_each(Talk::end);
    bypath.stop();
    net.assert_nothing_left();
}
