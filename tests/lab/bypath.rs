//! A running `bypath run`, in a router's namespace: started, waited for, asked, and stopped, each within a bound.
//!
//! The binary is the one that cargo built for this test. It is forked by a thread that lives as long as it does, and is
//! killed when that thread ends, so that a test that crashes leaves no process behind.

use super::namespace::Namespace;
use super::sys;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The binary under test.
pub const BINARY: &str = env!("CARGO_BIN_EXE_bypath");

const READY_WITHIN: Duration = Duration::from_secs(20);
const STOP_WITHIN: Duration = Duration::from_secs(10);

/// `bypath show totals --json`.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Totals {
    pub received: u64,
    pub forwarded: u64,
    pub punted: BTreeMap<String, u64>,
    pub dropped: BTreeMap<String, u64>,
    pub held: u64,
    /// Workers whose numbers are old, since they did not answer in time.
    #[serde(default)]
    pub stale_workers: Vec<usize>,
}

impl Totals {
    /// All punts, or all drops, that happened, as `reason n, reason n`.
    pub fn list(reasons: &BTreeMap<String, u64>) -> String {
        let happened: Vec<String> = reasons
            .iter()
            .filter(|(_, count)| **count > 0)
            .map(|(reason, count)| format!("{reason} {count}"))
            .collect();
        if happened.is_empty() {
            "none".into()
        } else {
            happened.join(", ")
        }
    }

    /// Panics unless every packet has one verdict.
    pub fn assert_balanced(&self) {
        let punted: u64 = self.punted.values().sum();
        let dropped: u64 = self.dropped.values().sum();
        assert_eq!(
            self.received,
            self.forwarded + punted + dropped + self.held,
            "received = forwarded + punted + dropped + held does not hold: {self:?}"
        );
    }
}

/// A running bypath.
pub struct Bypath {
    namespace: Namespace,
    pid: u32,
    ready: Receiver<()>,
    exited: Receiver<ExitStatus>,
    output: Arc<Mutex<String>>,
    thread: Option<JoinHandle<()>>,
    running: bool,
}

impl Bypath {
    /// Runs `bypath run PORTS ARGUMENTS` in `namespace` and waits for `bypath: ready`. Panics with its output when that does
    /// not come.
    pub fn start(namespace: &Namespace, ports: &[String], arguments: &[String]) -> Self {
        let words = [&["run".to_owned()], ports, arguments].concat();
        let bypath = Self::launch(namespace, &words);
        bypath.wait_ready();
        bypath
    }

    /// Runs `bypath WORDS` in `namespace` and waits for nothing.
    pub fn launch(namespace: &Namespace, words: &[String]) -> Self {
        Self::launch_with(namespace, words, [Stdio::piped(), Stdio::piped()])
    }

    /// The same with a stdout and a stderr of which only what is piped is read.
    pub fn launch_with(namespace: &Namespace, words: &[String], [stdout, stderr]: [Stdio; 2]) -> Self {
        let mut command = Command::new(BINARY);
        command.args(words);
        command.stdin(Stdio::null()).stdout(stdout).stderr(stderr);
        sys::before_exec(&mut command, sys::die_with_parent);
        let output = Arc::new(Mutex::new(String::new()));
        let (started_to, started) = channel();
        let (ready_to, ready) = channel();
        let (exited_to, exited) = channel();
        let thread = std::thread::spawn({
            let (inside, output) = (namespace.share(), output.clone());
            move || {
                inside.join_thread();
                let mut child = command.spawn().unwrap_or_else(|error| panic!("{BINARY}: {error}"));
                let readers = read_output(&mut child, &output, ready_to);
                let _ = started_to.send(child.id());
                let status = child.wait().expect("wait for bypath");
                readers.into_iter().for_each(|reader| drop(reader.join()));
                let _ = exited_to.send(status);
            }
        });
        let pid = started.recv().expect("bypath was started");
        Bypath {
            namespace: namespace.share(),
            pid,
            ready,
            exited,
            output,
            thread: Some(thread),
            running: true,
        }
    }

    /// Waits for `bypath: ready`. Panics with its output when that does not come.
    pub fn wait_ready(&self) {
        if self.ready.recv_timeout(READY_WITHIN).is_err() {
            panic!("bypath did not get ready; it said:\n{}", self.said());
        }
    }

    /// Whether it has said `bypath: ready` since this was last asked.
    pub fn is_ready(&self) -> bool {
        self.ready.try_recv().is_ok()
    }

    /// Waits until it has written `words`. Panics with its output when that does not come.
    pub fn wait_said(&self, words: &str) {
        let until = Instant::now() + STOP_WITHIN;
        while !self.said().contains(words) {
            assert!(
                Instant::now() < until,
                "bypath did not say `{words}` but:\n{}",
                self.said()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Sends it a signal.
    pub fn signal(&self, number: i32) {
        sys::signal(self.pid, number).expect("signal bypath");
    }

    /// Waits for its end, within a bound; how it ended and what it said.
    pub fn ended(mut self) -> (ExitStatus, String) {
        let Ok(status) = self.exited.recv_timeout(STOP_WITHIN) else {
            panic!("bypath did not end; it said:\n{}", self.said());
        };
        self.running = false;
        (status, self.said())
    }

    /// What it has written so far, both streams.
    pub fn said(&self) -> String {
        self.output.lock().expect("no holder panics").clone()
    }

    /// Where it runs.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Its counters.
    pub fn totals(&self) -> Totals {
        let text = self.namespace.run(&format!("{BINARY} show totals --json"));
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("show totals --json: {error}: {text}"))
    }

    /// Its counters once they no longer change (they are published a little after the packets).
    pub fn totals_at_rest(&self) -> Totals {
        let mut before = self.totals();
        for _ in 0..20 {
            std::thread::sleep(Duration::from_millis(50));
            let now = self.totals();
            let is_new = now.stale_workers.is_empty() && before.stale_workers.is_empty();
            if is_new && (now.received, now.forwarded, now.held) == (before.received, before.forwarded, before.held) {
                return now;
            }
            before = now;
        }
        before
    }

    /// Ends it by SIGTERM; panics unless it leaves with 0 in time.
    pub fn stop(mut self) {
        sys::signal(self.pid, libc::SIGTERM).expect("signal bypath");
        let since = Instant::now();
        let Ok(status) = self.exited.recv_timeout(STOP_WITHIN) else {
            panic!(
                "bypath did not end within {:?} of SIGTERM; it said:\n{}",
                since.elapsed(),
                self.said()
            );
        };
        self.running = false;
        assert!(
            status.success(),
            "bypath ended with {status} on SIGTERM; it said:\n{}",
            self.said()
        );
    }
}

impl Drop for Bypath {
    fn drop(&mut self) {
        if self.running {
            let _ = sys::signal(self.pid, libc::SIGKILL);
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn read_output(
    child: &mut Child,
    output: &Arc<Mutex<String>>,
    ready: std::sync::mpsc::Sender<()>,
) -> Vec<JoinHandle<()>> {
    let (of_stdout, of_stderr) = (output.clone(), output.clone());
    let stdout = child.stdout.take().map(|stdout| {
        std::thread::spawn(move || {
            each_line(stdout, &of_stdout, |line| {
                if line == "bypath: ready" {
                    let _ = ready.send(());
                }
            });
        })
    });
    let stderr = child.stderr.take();
    let stderr = stderr.map(|stderr| std::thread::spawn(move || each_line(stderr, &of_stderr, |_| {})));
    stdout.into_iter().chain(stderr).collect()
}

fn each_line(stream: impl Read, output: &Mutex<String>, see: impl Fn(&str)) {
    for line in BufReader::new(stream).lines() {
        let Ok(line) = line else { return };
        {
            let mut output = output.lock().expect("no holder panics");
            output.push_str(&line);
            output.push('\n');
        }
        see(&line);
    }
}
