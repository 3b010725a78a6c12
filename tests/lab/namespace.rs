//! A network namespace without a name: made by a thread that unshares, held by a descriptor, gone with the last holder.
//!
//! Work inside it is done by a short-lived thread that joins it first (`enter`); child processes are forked from such a
//! thread and so live in the namespace, and `/proc/sys/net` shows the namespace of the thread that opens it.

use super::sys;
use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::process::{Child, Command, Output, Stdio};

/// A network namespace, with loopback up.
pub struct Namespace {
    file: File,
}

impl Namespace {
    /// A new one.
    pub fn new() -> Self {
        let file = std::thread::spawn(|| {
            sys::unshare_net().expect("unshare(CLONE_NEWNET): the lab needs root");
            File::open("/proc/thread-self/ns/net").expect("open the new namespace")
        })
        .join()
        .expect("the thread that makes a namespace");
        let namespace = Namespace { file };
        namespace.run("ip link set lo up");
        namespace
    }

    /// A path by which a child process can name it (`ip link ... netns PATH`).
    pub fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd())
    }

    /// Runs a closure on a thread inside.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                self.join_thread();
                work()
            });
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Moves the calling thread inside, for threads that stay.
    pub fn join_thread(&self) {
        sys::set_net(self.file.as_raw_fd()).expect("setns");
    }

    /// Another holder of the same namespace.
    pub fn share(&self) -> Self {
        Namespace {
            file: self.file.try_clone().expect("duplicate a descriptor"),
        }
    }

    /// Forks a command inside.
    pub fn spawn(&self, command: &mut Command) -> std::io::Result<Child> {
        self.enter(|| command.spawn())
    }

    /// Runs a command line (words split at spaces), with `input` on stdin; what it said.
    pub fn output(&self, line: &str, input: &str) -> Output {
        let mut words = line.split_whitespace();
        let program = words.next().expect("a command");
        let mut command = Command::new(program);
        command
            .args(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = self
            .spawn(&mut command)
            .unwrap_or_else(|error| panic!("{program}: {error}"));
        let mut stdin = child.stdin.take().expect("stdin is piped");
        std::thread::scope(|scope| {
            // On its own thread: a long input and a long output would block each other. A child that closes its stdin
            // early is judged by its exit code.
            scope.spawn(move || drop(stdin.write_all(input.as_bytes())));
            child.wait_with_output().expect("wait for a child")
        })
    }

    /// Runs a command line; its stdout. Panics when it fails.
    pub fn run(&self, line: &str) -> String {
        self.run_with(line, "")
    }

    /// The same with `input` on stdin.
    pub fn run_with(&self, line: &str, input: &str) -> String {
        let output = self.output(line, input);
        assert!(
            output.status.success(),
            "`{line}` failed: {}{input}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Writes sysctls, `(net.ipv4.ip_forward, 1)` and the like; dots part the words.
    pub fn sysctl(&self, settings: &[(&str, &str)]) {
        self.enter(|| {
            for (name, value) in settings {
                let path = format!("/proc/sys/{}", name.replace('.', "/"));
                std::fs::write(&path, value).unwrap_or_else(|error| panic!("{path} = {value}: {error}"));
            }
        });
    }

    /// Applies a configuration, one command per entry. `ip` lines in a row run as one batch (so `tc` and `bridge`), `sysctl NAME=VALUE` is
    /// written directly, `ruleset WORDS` is an nft file, `iptables-nft-restore WORDS` (and `ip6tables-`) what those read,
    /// everything else (nft, iptables-legacy, ...) is run as it stands.
    pub fn apply(&self, commands: &[String]) {
        let mut rest = commands;
        while let Some(first) = rest.first() {
            let count = match batch_kind(first) {
                Some(kind) => {
                    let count = rest.iter().take_while(|line| batch_kind(line) == Some(kind)).count();
                    let lines: Vec<&str> = rest[..count].iter().map(|line| &line[kind.prefix.len()..]).collect();
                    self.run_with(kind.program, &(lines.join("\n") + "\n"));
                    count
                }
                None => {
                    self.apply_one(first);
                    1
                }
            };
            rest = &rest[count..];
        }
    }

    fn apply_one(&self, line: &str) {
        if let Some(words) = line.strip_prefix("ruleset ") {
            self.run_with("nft -f -", &format!("{words}\n"));
            return;
        }
        for program in ["iptables-nft-restore", "ip6tables-nft-restore"] {
            if let Some(words) = line.strip_prefix(program) {
                self.run_with(program, &format!("{}\n", words.trim_start()));
                return;
            }
        }
        match line.strip_prefix("sysctl ") {
            Some(setting) => {
                let (name, value) = setting.split_once('=').unwrap_or_else(|| panic!("`{line}`: no value"));
                self.sysctl(&[(name, value)]);
            }
            None => drop(self.run(line)),
        }
    }
}

#[derive(Clone, Copy, PartialEq)]
struct BatchKind {
    prefix: &'static str,
    program: &'static str,
}

const BATCHES: [BatchKind; 4] = [
    BatchKind {
        prefix: "bridge ",
        program: "bridge -batch -",
    },
    BatchKind {
        prefix: "ip -6 ",
        program: "ip -6 -batch -",
    },
    BatchKind {
        prefix: "ip ",
        program: "ip -batch -",
    },
    BatchKind {
        prefix: "tc ",
        program: "tc -batch -",
    },
];

fn batch_kind(line: &str) -> Option<BatchKind> {
    // A batch line is split by ip or tc, which know quotes; other lines are split at spaces and must have none.
    BATCHES.into_iter().find(|kind| line.starts_with(kind.prefix))
}
