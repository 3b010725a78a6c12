//! Real sockets through a box whose bypath starts, stops, starts again and is killed: a TCP connection that began before goes
//! on through all of it, under rules that would drop what the table does not know (`ct state invalid drop`, loose=0).
//!
//! The connection carries numbered lines there and back. Both tables are printed before and after each step, which is the
//! record of the run that the documentation shows.

use crate::lab::bypath::{BINARY, Bypath};
use crate::lab::conntrack::Connection;
use crate::lab::namespace::Namespace;
use crate::net::Net;
use crate::rules::STRICT;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const PORT: u16 = 7000;
/// How long a line may take there and back, a retransmission or two included.
const LINE_WITHIN: Duration = Duration::from_secs(4);

fn net() -> Net {
    let net = Net::new(2);
    net.router.apply(&[
        format!("ruleset {STRICT}"),
        "sysctl net.netfilter.nf_conntrack_tcp_loose=0".into(),
    ]);
    net
}

/// A connection from host 0 to an echo at host 1, in use until it is ended or breaks.
struct Talk {
    stop: Arc<AtomicBool>,
    lines: Arc<AtomicU64>,
    client: JoinHandle<Result<(), String>>,
}

impl Talk {
    fn begin(net: &Net, to: &str, port: u16) -> Self {
        echo(&net.hosts[1], to, port);
        let (stop, lines) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let (inside, address) = (net.hosts[0].share(), address(to, port));
        let client = std::thread::spawn({
            let (stop, lines) = (stop.clone(), lines.clone());
            move || {
                inside.join_thread();
                talk(&address, &stop, &lines)
            }
        });
        let talk = Talk { stop, lines, client };
        talk.goes_on("at its beginning");
        talk
    }

    /// Panics unless some more lines come back.
    fn goes_on(&self, when: &str) {
        let before = self.lines.load(Ordering::Relaxed);
        let until = Instant::now() + LINE_WITHIN;
        while self.lines.load(Ordering::Relaxed) < before + 20 {
            assert!(Instant::now() < until, "the connection stands still {when}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Panics if lines still come back a little later.
    fn stands_still(&self, when: &str) {
        let until = Instant::now() + LINE_WITHIN;
        std::thread::sleep(Duration::from_millis(700));
        loop {
            let before = self.lines.load(Ordering::Relaxed);
            std::thread::sleep(Duration::from_millis(800));
            if self.lines.load(Ordering::Relaxed) == before {
                return;
            }
            assert!(Instant::now() < until, "the connection goes on {when}");
        }
    }

    fn end(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.client.join().expect("the client").expect("the connection");
        self.lines.load(Ordering::Relaxed)
    }

    /// Ends a connection that is known to be broken.
    fn abandon(self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn address(to: &str, port: u16) -> String {
    if to.contains(':') {
        format!("[{to}]:{port}")
    } else {
        format!("{to}:{port}")
    }
}

/// Accepts one connection and sends every line back. Ends with it.
fn echo(host: &Namespace, to: &str, port: u16) {
    let listener = host.enter(|| TcpListener::bind(address(to, port))).expect("listen");
    std::thread::spawn(move || {
        let (socket, _) = listener.accept()?;
        socket.set_nodelay(true)?;
        let mut output = socket.try_clone()?;
        for line in BufReader::new(socket).lines() {
            output.write_all(format!("{}\n", line?).as_bytes())?;
        }
        std::io::Result::Ok(())
    });
}

fn talk(address: &str, stop: &AtomicBool, lines: &AtomicU64) -> Result<(), String> {
    let fail = |error: std::io::Error| error.to_string();
    let mut socket = TcpStream::connect(address).map_err(fail)?;
    socket.set_nodelay(true).map_err(fail)?;
    socket.set_read_timeout(Some(Duration::from_secs(30))).map_err(fail)?;
    let mut input = BufReader::new(socket.try_clone().map_err(fail)?);
    let mut number = 0u64;
    while !stop.load(Ordering::Relaxed) {
        let sent = format!("line {number} {}\n", "x".repeat((number % 900) as usize));
        socket.write_all(sent.as_bytes()).map_err(fail)?;
        let mut back = String::new();
        input.read_line(&mut back).map_err(fail)?;
        if back != sent {
            return Err(format!("`{}` came back for `{}`", back.trim(), sent.trim()));
        }
        number += 1;
        lines.store(number, Ordering::Relaxed);
        std::thread::sleep(Duration::from_millis(3));
    }
    Ok(())
}

/// Both tables, printed; those of the kernel and those of bypath.
fn tables(net: &Net, when: &str, running: bool) -> [Vec<Connection>; 2] {
    let read = |text: String| -> Vec<Connection> {
        let line = |line: &str| Connection::read(line).unwrap_or_else(|error| panic!("{error}"));
        text.lines().map(line).collect()
    };
    let kernel = net.router.run("conntrack -L -p tcp");
    println!("{when}\n$ conntrack -L -p tcp\n{}", kernel.trim_end());
    let ours = if running {
        let text = net.router.run(&format!("{BINARY} show conntrack -p tcp"));
        println!("$ bypath show conntrack -p tcp\n{}", text.trim_end());
        text
    } else {
        String::new()
    };
    [read(kernel), read(ours)]
}

#[track_caller]
fn assert_known(table: &[Connection], who: &str) {
    let port = format!("dport={PORT}");
    let known: Vec<_> = table
        .iter()
        .filter(|connection| connection.tuples[0].contains(&port))
        .collect();
    assert_eq!(known.len(), 1, "{who} knows {known:?}");
    assert_eq!(known[0].brief(), "ESTABLISHED ASSURED", "{who}: {}", known[0].line);
}

/// Waits until bypath forwards the connection's packets itself.
fn assert_carried(bypath: &Bypath) {
    let before = bypath.totals().forwarded;
    let until = Instant::now() + Duration::from_secs(5);
    while bypath.totals().forwarded < before + 50 {
        assert!(Instant::now() < until, "bypath forwards nothing: {:?}", bypath.totals());
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn lives_through_start_stop_start(to: &str) {
    let net = net();
    let talk = Talk::begin(&net, to, PORT);
    assert_known(&tables(&net, "before the start", false)[0], "the kernel");
    for round in ["first", "second"] {
        let bypath = net.bypath("");
        talk.goes_on(&format!("after the {round} start"));
        assert_carried(&bypath);
        assert_known(&tables(&net, &format!("after the {round} start"), true)[1], "bypath");
        talk.goes_on("before the stop");
        bypath.stop();
        assert_known(
            &tables(&net, &format!("after the {round} stop"), false)[0],
            "the kernel",
        );
        talk.goes_on(&format!("after the {round} stop"));
    }
    println!("{} lines went there and back over {to}", talk.end());
}

#[test]
fn start_stop_start() {
    lives_through_start_stop_start("10.0.1.2");
}

#[test]
fn start_stop_start_ipv6() {
    lives_through_start_stop_start("fd00:0:0:1::2");
}

/// Until the connection is in the kernel's table, as it is.
fn written_behind(net: &Net) {
    std::thread::sleep(Duration::from_secs(3));
    let until = Instant::now() + LINE_WITHIN;
    let list = format!("conntrack -L -p tcp --dport {PORT}");
    while !net.router.run(&list).contains("ESTABLISHED") {
        assert!(Instant::now() < until, "the kernel knows of no connection");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// What began while bypath ran is the kernel's after a kill: it was written behind.
#[test]
fn killed() {
    let net = net();
    let bypath = net.bypath("");
    let talk = Talk::begin(&net, "10.0.1.2", PORT);
    assert_carried(&bypath);
    written_behind(&net);
    tables(&net, "before the kill", true);
    bypath.signal(libc::SIGKILL);
    bypath.ended();
    assert_known(&tables(&net, "after the kill", false)[0], "the kernel");
    talk.goes_on("after the kill");
    let bypath = net.bypath("");
    talk.goes_on("after the next start");
    assert_carried(&bypath);
    talk.end();
    bypath.stop();
}

/// What began before, and has left the windows behind that the kernel knew then, is the kernel's after a kill, too.
#[test]
fn killed_after_it_was_taken_over() {
    let net = net();
    let talk = Talk::begin(&net, "10.0.1.2", PORT);
    let bypath = net.bypath("");
    assert_carried(&bypath);
    // Some 150 kB a second there and back: windows are 64 kB wide at first.
    std::thread::sleep(Duration::from_secs(4));
    bypath.signal(libc::SIGKILL);
    bypath.ended();
    assert_known(&tables(&net, "after the kill", false)[0], "the kernel");
    talk.goes_on("after the kill");
    talk.end();
}

/// What began while bypath ran goes on after a clean stop at once, however young.
#[test]
fn young_at_the_stop() {
    let net = net();
    let bypath = net.bypath("");
    let talk = Talk::begin(&net, "10.0.1.2", PORT);
    bypath.stop();
    assert_known(&tables(&net, "after the stop", false)[0], "the kernel");
    talk.goes_on("after the stop");
    talk.end();
}

#[test]
fn flushed_by_the_user() {
    let net = net();
    let bypath = net.bypath("");
    let talk = Talk::begin(&net, "10.0.1.2", PORT);
    assert_carried(&bypath);
    written_behind(&net);
    tables(&net, "before the flush", true);
    net.router.run("conntrack -F");
    talk.stands_still("after conntrack -F");
    let [kernel, ours] = tables(&net, "after conntrack -F", true);
    assert!(kernel.is_empty() && ours.is_empty(), "something is left");
    let next = Talk::begin(&net, "10.0.1.2", PORT + 1);
    assert_carried(&bypath);
    net.router.run(&format!("{BINARY} conntrack flush"));
    next.stands_still("after bypath conntrack flush");
    let [kernel, ours] = tables(&net, "after bypath conntrack flush", true);
    assert!(kernel.is_empty() && ours.is_empty(), "something is left");
    talk.abandon();
    next.abandon();
    bypath.stop();
}

/// What is deleted in bypath's table alone is deleted in the kernel's copy, too.
#[test]
fn deleted_by_the_user() {
    let net = net();
    let bypath = net.bypath("");
    let talk = Talk::begin(&net, "10.0.1.2", PORT);
    assert_carried(&bypath);
    written_behind(&net);
    net.router
        .run(&format!("{BINARY} conntrack delete -p tcp --dport {PORT}"));
    talk.stands_still("after bypath conntrack delete");
    let [kernel, ours] = tables(&net, "after bypath conntrack delete", true);
    assert!(kernel.is_empty() && ours.is_empty(), "something is left");
    talk.abandon();
    bypath.stop();
}

/// Bulk by iperf3 in both directions while bypath stops and starts.
#[test]
fn bulk() {
    let net = net();
    let bypath = net.bypath("");
    std::thread::scope(|scope| {
        let there = scope.spawn(|| net.iperf(0, 1, "-t 6"));
        std::thread::sleep(Duration::from_secs(2));
        tables(&net, "bulk, before the stop", true);
        bypath.stop();
        std::thread::sleep(Duration::from_secs(1));
        tables(&net, "bulk, after the stop", false);
        let bypath = net.bypath("");
        std::thread::sleep(Duration::from_secs(1));
        tables(&net, "bulk, after the start", true);
        let bits = there.join().expect("iperf3");
        println!("iperf3 through a stop and a start: {:.2} Gbit/s", bits / 1e9);
        bypath.stop();
    });
}
