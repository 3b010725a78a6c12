//! Who is the router: the kernel, bypath, the bare forwarder, or a peer by its command line.
//!
//! | subject | what is started |
//! |---|---|
//! | `kernel` | nothing: it forwards in softirq, on the core of the source |
//! | `kernel-rps` | nothing, but d0's packets are steered to the forwarding core (RPS) |
//! | `bypath` | `bypath run`, one worker; `bypath wire` where the case is `wire` |
//! | `wire` | `bypath wire`, whatever the case: bypath's rings without its walk |
//! | `bare` | the example bare_forwarder, whatever the case: AF_XDP and nothing else, the ceiling |
//! | `NAME=COMMAND` | COMMAND by `sh -c`, which prints a line that ends in `: ready` and ends at SIGTERM |
//! | | before that it may print `NAME: version TEXT`, for the report |
//!
//! In COMMAND `{a}` and `{b}` are the ports, `{cpu}` the forwarding core, `{case}` the case, `{a_mac}` and `{b_mac}`
//! the ports' addresses, `{client_mac}` and `{server_mac}` those of the far ends. `NAME@CASE,CASE=COMMAND` says in
//! which cases it can take part; without that it is in all.

use super::case::Case;
use super::process::Process;
use super::topology::Topology;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

/// As long as a subject may take until it is ready: a million routes are read in some seconds, others take longer.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// Steering of packets to cores, of d0's only queue.
const RPS: &str = "/sys/class/net/d0/queues/rx-0/rps_cpus";

/// Who forwards.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Subject {
    /// The kernel, as it comes.
    Kernel,
    /// The kernel, on the forwarding core.
    KernelRps,
    /// `bypath run`.
    Bypath,
    /// `bypath wire`.
    Wire,
    /// The bare AF_XDP forwarder.
    Bare,
    /// Another program.
    Peer(Peer),
}

/// Another program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// Its name in the report.
    pub name: String,
    /// Its command line, for sh, with the words in braces.
    pub command: String,
    /// The cases that it can do; nothing: all.
    pub cases: Option<Vec<Case>>,
}

impl Subject {
    /// Reads `kernel`, `NAME=COMMAND` or `NAME@CASE,CASE=COMMAND`.
    ///
    /// # Errors
    /// One line.
    pub fn parse(text: &str) -> Result<Self, String> {
        let Some((name, command)) = text.split_once('=') else {
            return [
                Subject::Kernel,
                Subject::KernelRps,
                Subject::Bypath,
                Subject::Wire,
                Subject::Bare,
            ]
            .into_iter()
            .find(|subject| subject.name() == text)
            .ok_or_else(|| {
                format!("no subject is called `{text}`: name kernel, kernel-rps, bypath, wire, bare, or NAME=COMMAND")
            });
        };
        let (name, cases) = match name.split_once('@') {
            None => (name, None),
            Some((name, cases)) => (
                name,
                Some(cases.split(',').map(str::parse).collect::<Result<Vec<Case>, _>>()?),
            ),
        };
        let good = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if name.is_empty() || !name.chars().all(good) || Subject::parse(name).is_ok() {
            return Err(format!(
                "`{name}` is no name for a subject: letters, digits and - _ . that are not kernel, bypath, wire or bare"
            ));
        }
        if command.trim().is_empty() {
            return Err(format!("subject {name} has no command: write {name}=COMMAND"));
        }
        Ok(Subject::Peer(Peer {
            name: name.to_owned(),
            command: command.to_owned(),
            cases,
        }))
    }

    /// Its name in the report.
    pub fn name(&self) -> &str {
        match self {
            Subject::Kernel => "kernel",
            Subject::KernelRps => "kernel-rps",
            Subject::Bypath => "bypath",
            Subject::Wire => "wire",
            Subject::Bare => "bare",
            Subject::Peer(peer) => &peer.name,
        }
    }

    /// Whether it is measured in this case. The kernel has no wire.
    pub fn takes(&self, case: Case) -> bool {
        match self {
            Subject::Kernel | Subject::KernelRps => case != Case::Wire,
            Subject::Bypath | Subject::Wire | Subject::Bare => true,
            Subject::Peer(peer) => peer.cases.as_ref().is_none_or(|cases| cases.contains(&case)),
        }
    }

    /// Whether bypath's own counters tell what it did.
    pub fn counts_itself(&self) -> bool {
        matches!(self, Subject::Bypath | Subject::Wire)
    }

    /// What is started, if anything, and the line that says so.
    fn command(&self, case: Case, lab: &Topology, cpu: usize) -> Result<Option<(Command, String)>, String> {
        let cpu = cpu.to_string();
        let (program, words): (PathBuf, Vec<String>) = match self {
            Subject::Kernel | Subject::KernelRps => return Ok(None),
            Subject::Bypath | Subject::Wire => {
                let verb = if *self == Subject::Wire || case == Case::Wire {
                    "wire"
                } else {
                    "run"
                };
                let words = [verb, "d0", "d1", "--workers", "1", "--cpus", &cpu];
                (own_path()?, words.map(String::from).to_vec())
            }
            Subject::Bare => (
                bare_forwarder()?,
                ["d0", "d1", "--cpu", &cpu].map(String::from).to_vec(),
            ),
            Subject::Peer(peer) => (
                "sh".into(),
                vec!["-c".into(), filled_in(&peer.command, case, lab, &cpu)],
            ),
        };
        let line = match self {
            Subject::Peer(_) => format!("{}: {}", self.name(), words[1]),
            _ => format!("{}: {} {}", self.name(), file_name(&program), words.join(" ")),
        };
        let mut command = Command::new(program);
        command.args(words);
        Ok(Some((command, line)))
    }

    /// Its command line in this case, for the report.
    pub(super) fn line(&self, case: Case, lab: &Topology, cpu: usize) -> Result<Option<String>, String> {
        Ok(self.command(case, lab, cpu)?.map(|(_, line)| line))
    }

    /// Starts it and waits until it is ready.
    pub(super) fn start(&self, case: Case, lab: &Topology, cpu: usize) -> Result<Running, String> {
        if *self == Subject::KernelRps {
            steer_packets(&mask(cpu))?;
        }
        let process = match self.command(case, lab, cpu)? {
            None => None,
            Some((command, line)) => {
                let mut process = Process::start(command, &line)?;
                process.wait_ready(READY_WITHIN)?;
                Some(process)
            }
        };
        Ok(Running {
            process,
            steered: *self == Subject::KernelRps,
        })
    }
}

/// A subject that forwards.
pub(super) struct Running {
    process: Option<Process>,
    steered: bool,
}

impl Running {
    /// The version that it told.
    pub fn version(&self) -> Option<String> {
        self.process.as_ref().and_then(Process::version)
    }

    /// Whether it still runs; an error is one line with what it said last.
    pub fn check(&mut self) -> Result<(), String> {
        self.process.as_mut().map_or(Ok(()), Process::check)
    }

    /// Ends it, and waits until it is gone.
    pub fn stop(self) -> Result<(), String> {
        if self.steered {
            steer_packets("0")?;
        }
        self.process.map_or(Ok(()), Process::stop)
    }
}

fn steer_packets(cores: &str) -> Result<(), String> {
    std::fs::write(RPS, cores).map_err(|error| format!("cannot write {RPS}, {error}: leave out the subject kernel-rps"))
}

/// One core as the kernel reads a set of them: hexadecimal, a comma behind each 32 bits (Documentation/core-api/printk-formats.rst,
/// bitmap).
fn mask(cpu: usize) -> String {
    format!("{:x}{}", 1u32 << (cpu % 32), ",00000000".repeat(cpu / 32))
}

/// The words in braces, as they are in this lab. Ports are the names in the router.
fn filled_in(command: &str, case: Case, lab: &Topology, cpu: &str) -> String {
    let [client, a, b, server] = lab.macs().map(mac);
    let words: [(&str, &str); 8] = [
        ("{a}", "d0"),
        ("{b}", "d1"),
        ("{cpu}", cpu),
        ("{case}", case.word()),
        ("{client_mac}", &client),
        ("{a_mac}", &a),
        ("{b_mac}", &b),
        ("{server_mac}", &server),
    ];
    words
        .iter()
        .fold(command.to_owned(), |text, (word, value)| text.replace(word, value))
}

fn mac(bytes: [u8; 6]) -> String {
    bytes.map(|byte| format!("{byte:02x}")).join(":")
}

/// This program.
pub(super) fn own_path() -> Result<PathBuf, String> {
    std::env::current_exe().map_err(|error| format!("cannot find this program, {error}: start it by its path"))
}

/// The ceiling is an example of this tree: beside the program, as cargo puts it, or where an installation has it.
fn bare_forwarder() -> Result<PathBuf, String> {
    let own = own_path()?;
    let folder = own.parent().map(PathBuf::from).unwrap_or_default();
    [
        folder.join("examples/bare_forwarder"),
        folder.join("bare_forwarder"),
        PathBuf::from("/usr/lib/bypath/bare_forwarder"),
    ]
    .into_iter()
    .find(|path| path.is_file())
    .ok_or_else(|| {
        format!(
            "the subject bare is not beside {}: build it (cargo build --example bare_forwarder) or leave it out",
            own.display()
        )
    })
}

fn file_name(path: &std::path::Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_are_read() {
        assert_eq!(Subject::parse("kernel"), Ok(Subject::Kernel));
        assert_eq!(Subject::parse("kernel-rps"), Ok(Subject::KernelRps));
        let peer = |cases| {
            Ok(Subject::Peer(Peer {
                name: "testpmd".into(),
                command: "testpmd --x=1 {a}".into(),
                cases,
            }))
        };
        assert_eq!(Subject::parse("testpmd=testpmd --x=1 {a}"), peer(None));
        assert_eq!(
            Subject::parse("testpmd@wire,route=testpmd --x=1 {a}"),
            peer(Some(vec![Case::Wire, Case::Route]))
        );
    }

    #[test]
    fn what_is_no_subject_is_refused_with_a_way_out() {
        for (text, says) in [
            ("vpp", "name kernel"),
            ("=x", "no name"),
            ("kernel=x", "no name"),
            ("a b=x", "no name"),
            ("vpp=", "no command"),
            ("vpp@sale=x", "no case is called `sale`"),
        ] {
            let error = Subject::parse(text).unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
    }

    #[test]
    fn sets_of_cores_have_a_comma_behind_each_32() {
        for (cpu, right) in [
            (0, "1"),
            (5, "20"),
            (31, "80000000"),
            (32, "1,00000000"),
            (63, "80000000,00000000"),
            (64, "1,00000000,00000000"),
        ] {
            assert_eq!(mask(cpu), right, "{cpu}");
        }
    }

    #[test]
    fn the_kernel_is_no_wire() {
        assert!(!Subject::Kernel.takes(Case::Wire) && Subject::Kernel.takes(Case::Nat));
        assert!(Subject::Bypath.takes(Case::Wire));
        let peer = Subject::parse("x@bridge=x").unwrap();
        assert!(peer.takes(Case::Bridge) && !peer.takes(Case::Route));
    }
}
