//! What an operator can do wrong, or the machine can refuse: typed, and each with its remedy in one line,
//! `what, where, and what to do`. The command line prints it behind `bypath: error: ` and exits with 1.
//! A programmer's mistake is an assertion, not one of these.

use super::api::Served;
use std::io;

/// Why control could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The name is no interface here.
    #[error("port {port} does not exist in this network namespace: `ip -br link` lists what there is")]
    PortMissing {
        /// The name as given.
        port: String,
    },
    /// The same interface twice, by one name or two.
    #[error("port {port} is given twice: name each port once")]
    PortTwice {
        /// The second name.
        port: String,
    },
    /// More or fewer ports than the command takes.
    #[error("{given} ports given, {wanted}")]
    PortCount {
        /// How many were given.
        given: usize,
        /// What would be right, and what to name.
        wanted: String,
    },
    /// The interface is of a kind that cannot be a port.
    #[error("port {port} cannot be used, {why}")]
    PortUnfit {
        /// The interface.
        port: String,
        /// Why, and what to do.
        why: String,
    },
    /// A CPU that the process may not run on.
    #[error(
        "cpu {cpu} (--cpus) is not one this process may run on: name some of {available}, or give it more (taskset, CPUAffinity= of \
         its unit, the cpuset of its container)"
    )]
    CpuMissing {
        /// The number as given.
        cpu: usize,
        /// Those there are, as a list.
        available: String,
    },
    /// Fewer CPUs than workers.
    #[error("{workers} workers (--workers) need as many cpus, --cpus names {cpus}: name more, or run fewer workers")]
    CpusTooFew {
        /// Workers asked for.
        workers: usize,
        /// CPUs named.
        cpus: usize,
    },
    /// The control name does not fit a socket name.
    #[error("control name {name:?} (--control) is not usable: letters, digits, `.`, `_` and `-`, at most {max}")]
    ControlName {
        /// As given.
        name: String,
        /// The most bytes.
        max: usize,
    },
    /// Capabilities that are not there.
    #[error("missing {missing} in this process: run bypath as root, or with `setcap {setcap}+ep` on its binary")]
    Capabilities {
        /// Their names, comma separated.
        missing: String,
        /// The same, as setcap spells them.
        setcap: String,
    },
    /// Somebody listens on the control socket already, or has the punt device.
    #[error("another bypath runs in this network namespace ({sign}): {stop}")]
    AlreadyRunning {
        /// By what that is known.
        sign: String,
        /// How to stop it.
        stop: String,
    },
    /// Nobody listens on the control socket, nor on another of ours.
    #[error("no bypath runs in this network namespace (control socket {socket}): start it with `bypath run PORT PORT`")]
    NotRunning {
        /// Its name as `ss -xl` shows it.
        socket: String,
    },
    /// Nobody listens on the control socket, but somebody does on another of ours.
    #[error("no bypath serves control socket {socket} in this network namespace, but one serves {others}: ask {ask}")]
    RunsElsewhere {
        /// Its name as `ss -xl` shows it.
        socket: String,
        /// Those that are served.
        others: String,
        /// By what option the first of them.
        ask: String,
    },
    /// The control socket is there but does not answer as it should.
    #[error("control socket {socket}: {why}")]
    Control {
        /// Its name.
        socket: String,
        /// What it did, and what to do.
        why: String,
    },
    /// The metrics address cannot be used.
    #[error("cannot serve metrics on {addr} (--metrics), {source}: name a free address of this box")]
    Metrics {
        /// As given.
        addr: std::net::SocketAddr,
        /// What bind said.
        source: io::Error,
    },
    /// A system call failed where none of the above says it better.
    #[error("{what}, {source}: {remedy}")]
    System {
        /// What was tried, and on what.
        what: String,
        /// What the kernel said.
        source: io::Error,
        /// What to do.
        remedy: String,
    },
    /// Something else, said in full: what, where, and what to do.
    #[error("{0}")]
    Other(String),
    /// This binary was built without the part.
    #[error("this bypath was built without {what}: build it with the default features")]
    NotBuilt {
        /// The part.
        what: &'static str,
    },
}

impl Error {
    /// There is an instance already, as `sign` says.
    pub(super) fn already_running(sign: impl Into<String>) -> Self {
        Self::AlreadyRunning {
            sign: sign.into(),
            stop: Served::how_to_stop(),
        }
    }

    /// Nobody serves `socket`: names those that are served.
    pub(super) fn not_running(socket: String) -> Self {
        let served: Vec<String> = Served::list().into_iter().map(|served| served.socket).collect();
        let Some(first) = served.first() else {
            return Self::NotRunning { socket };
        };
        Self::RunsElsewhere {
            socket,
            others: served.join(", "),
            ask: match first.strip_prefix("@bypath.") {
                Some(name) => format!("with --control {name}"),
                None => "without --control".into(),
            },
        }
    }
}
