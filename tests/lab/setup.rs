//! What a twin is made of, and what comes of it.

use super::bypath::Totals;
use super::plan;
use super::router::Layout;
use std::net::IpAddr;

/// Which second lab a twin has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// With bypath.
    Bypath,
    /// A second kernel, to judge the harness; by `BYPATH_TWIN=kernel` only.
    Kernel,
}

impl Mode {
    /// What the environment says.
    pub fn from_env() -> Self {
        match std::env::var("BYPATH_TWIN").as_deref() {
            Err(std::env::VarError::NotPresent) | Ok("" | "bypath") => Mode::Bypath,
            Ok("kernel") => Mode::Kernel,
            other => panic!("BYPATH_TWIN is `bypath` (default) or `kernel`, not {other:?}"),
        }
    }
}

/// Arguments of `bypath run` by a seed: most seeds run with one worker in the native hook, some with two, and a few in the generic hook.
pub fn seeded_arguments(seed: u64) -> Vec<String> {
    let text = match seed % 8 {
        1 | 5 => "--workers 2",
        3 => "--attach generic",
        _ => "",
    };
    text.split_whitespace().map(str::to_string).collect()
}

/// How much of what was injected bypath must have forwarded.
#[derive(Clone, Copy, Debug)]
pub enum Share {
    /// At least this part, 0.0 to 1.0.
    AtLeast(f64),
    /// Nothing at all: something that is not carried stands in the path of every frame.
    Nothing,
}

/// What follows a window of which not everything was answered, so that both labs are known to have handled it (`tables`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fence {
    /// A short pause.
    None,
    /// A packet of IPv4 that is always punted; the family must be tracked.
    V4,
    /// One of IPv6.
    V6,
    /// A frame that a bridge floods, behind every window (`bridge`).
    Flood,
}

/// What a twin is made of.
pub struct Setup {
    /// Names the test in output and file names.
    pub name: String,
    /// The links.
    pub layout: Layout,
    /// The router's configuration (`Namespace::apply`).
    pub config: Vec<String>,
    /// What `bypath run` is given as ports; all of the layout's where it is empty.
    pub run: Vec<String>,
    /// Extra arguments of `bypath run`.
    pub arguments: Vec<String>,
    /// What the clock decides is free: redirects, and questions for neighbours (`compare`).
    pub clock_free: bool,
    /// Frames of one flow must come in the kernel's order.
    pub ordered: bool,
    /// Connections are tracked, and rules drop packets: bypath may.
    pub filters: bool,
    /// What is dropped without a rule may be dropped by bypath, too: a bridge's ports have reasons of their own.
    pub drops: bool,
    /// See there.
    pub fence: Fence,
    /// What replays this run, for the report.
    pub seed: Option<u64>,
}

impl Setup {
    /// A twin of `ports` ports with this configuration and nothing special.
    pub fn new(name: &str, ports: usize, config: Vec<String>) -> Self {
        Setup {
            name: name.into(),
            layout: Layout::ports(ports),
            config,
            run: Vec::new(),
            arguments: Vec::new(),
            clock_free: false,
            ordered: false,
            filters: false,
            drops: false,
            fence: Fence::None,
            seed: None,
        }
    }

    /// A twin with the plan's configuration and this ruleset (the words of an nft file) in both routers.
    pub fn tracked(name: &str, ports: usize, ruleset: &str) -> Self {
        let config = plan::config_with(ports, &[&format!("ruleset {ruleset}")]);
        Setup {
            filters: true,
            fence: Fence::V4,
            ..Self::new(name, ports, config)
        }
    }

    /// What `bypath run` is given as ports.
    pub fn ports(&self) -> Vec<String> {
        match self.run.is_empty() {
            true => (0..self.layout.ports).map(|port| format!("d{port}")).collect(),
            false => self.run.clone(),
        }
    }

    /// With more commands behind its configuration.
    pub fn with(mut self, more: &[&str]) -> Self {
        self.config.extend(more.iter().map(|line| line.to_string()));
        self
    }
}

/// What came of a twin without a divergence.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Frames injected into each lab.
    pub injected: u64,
    /// Frames that each lab sent to its far ends (noise aside).
    pub sent: u64,
    /// bypath's counters; zeros without bypath.
    pub totals: Totals,
}

impl Outcome {
    /// Forwarded over injected.
    pub fn share(&self) -> f64 {
        self.totals.forwarded as f64 / self.injected.max(1) as f64
    }
}

/// The address that a configuration line adds, though a later one may take it away again.
pub(super) fn added_address(line: &str) -> Option<IpAddr> {
    let (_, rest) = line.split_once(" addr add ")?;
    rest.split(['/', ' ']).next()?.parse().ok()
}
