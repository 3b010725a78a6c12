//! The raw flags, by clap. Nothing is checked here but that a value can be read; what values mean together is
//! `control::config`'s to judge, so that every way to start an instance is judged alike.
//!
//! The comments on commands and flags below are the help that an operator reads.

pub mod bench;

pub use bench::Bench;

use crate::control::api::Show;
use crate::control::config::{Attach, Mode, Poll, RunConfig, WORKERS_MAX, parse_cpus};
use clap::builder::RangedU64ValueParser;
use clap::{CommandFactory, Parser, Subcommand, ValueEnum};
use std::net::{IpAddr, SocketAddr};

const EXAMPLES: &str = "\
Examples:
  bypath doctor eth0 eth1        what of the hardware, the kernel and this user is in the way
  bypath check eth0 eth1         what of the configuration would stay in the kernel
  bypath run eth0 eth1           forward between eth0 and eth1 until Ctrl-C
  bypath show totals             where every frame went
  bypath trace --dst 10.1.0.0/16 --count 3";

/// Forwards for Linux over AF_XDP, with the kernel's own configuration
///
/// bypath carries the packets that this box forwards, just as the kernel would. It takes links, bridges, routes and neighbours,
/// filter and NAT rules, connections and traffic control from the running kernel, and hands back to it every packet that it
/// does not fully understand. Stop it, or kill it, and the kernel forwards as before.
#[derive(Debug, Parser)]
#[command(name = "bypath", version, after_help = EXAMPLES, max_term_width = 100)]
pub struct Args {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    Run(Run),
    Wire(Wire),
    Show(ShowArgs),
    Trace(Trace),
    Conntrack(Conntrack),
    Check(Check),
    Doctor(Doctor),
    Bench(Box<Bench>),
}

/// Whether `name` is a subcommand.
pub fn is_command(name: &str) -> bool {
    Args::command().find_subcommand(name).is_some()
}

/// Forward between ports as the kernel is configured to
///
/// Runs in the foreground; prints `bypath: ready` when all ports are open and those with a carrier forward. SIGINT (Ctrl-C),
/// SIGTERM (`kill`) or SIGHUP (its terminal goes) end it with a summary; the kernel then forwards by itself again. There can be
/// one in a network namespace.
///
/// Ports need an MTU that fits a frame: at most 1762 bytes, or 3810 where one of them has zero-copy; `bypath doctor` looks. Needs
/// CAP_NET_ADMIN, CAP_NET_RAW, CAP_BPF and CAP_IPC_LOCK.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  bypath run eth0 eth1
  bypath run cni0 eth0               all ports of a bridge, and the way out
  bypath run eth0 eth1 --workers 2 --cpus 2-3 --metrics 127.0.0.1:9100
  ip netns exec router bypath run d0 d1 --attach generic")]
pub struct Run {
    /// Interfaces to serve; a bridge stands for all its ports, those that it has and those that it gets
    #[arg(value_name = "PORT", required = true)]
    pub ports: Vec<String>,
    #[command(flatten)]
    pub options: Options,
}

/// Join two ports: frames of A leave on B and back
///
/// Frames pass untouched, but for checksums that the sender left to its network card. Needs no kernel configuration. It starts,
/// says `bypath: ready` and ends as `bypath run` does.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  bypath wire eth0 eth1")]
pub struct Wire {
    /// One end
    pub a: String,
    /// The other end
    pub b: String,
    #[command(flatten)]
    pub options: Options,
}

#[derive(Debug, Default, clap::Args)]
pub struct Options {
    /// How many workers (threads that forward) [default: as many as --cpus names, else as the port with the most queues has, up to
    /// the number of CPUs]
    #[arg(long, value_name = "N", value_parser = workers())]
    pub workers: Option<usize>,
    /// CPUs to pin them to, in order, such as 2,4-5 [default: from the last one down]
    #[arg(long, value_name = "LIST", value_parser = Cpus::parse)]
    pub cpus: Option<Cpus>,
    /// How AF_XDP moves packets
    #[arg(long, value_enum, default_value_t)]
    pub mode: Mode,
    /// Where the XDP program runs
    #[arg(long, value_enum, default_value_t)]
    pub attach: Attach,
    /// How a worker waits for packets
    #[arg(long, value_enum, default_value_t)]
    pub poll: Poll,
    /// Name the control socket @bypath.NAME instead of @bypath
    #[arg(long, value_name = "NAME")]
    pub control: Option<String>,
    /// Serve Prometheus metrics at http://ADDR:PORT/metrics
    #[arg(long, value_name = "ADDR:PORT", value_parser = parse_listen)]
    pub metrics: Option<SocketAddr>,
}

/// Reads 1 to [`WORKERS_MAX`].
fn workers() -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(1..=WORKERS_MAX as u64)
}

/// Reads an address and a port.
fn parse_listen(text: &str) -> Result<SocketAddr, String> {
    text.parse()
        .map_err(|_| "an address and a port look like 127.0.0.1:9100 or [::1]:9100".into())
}

impl Options {
    /// The request for `ports` with these options, not validated yet.
    pub fn config(self, ports: Vec<String>, wire: bool) -> RunConfig {
        let Options {
            workers,
            cpus,
            mode,
            attach,
            poll,
            control,
            metrics,
        } = self;
        let cpus = cpus.map(|cpus| cpus.0).unwrap_or_default();
        RunConfig {
            ports,
            workers,
            cpus,
            mode,
            attach,
            poll,
            control,
            metrics,
            wire,
        }
    }
}

/// Show what a running bypath counts and knows
///
/// With --json, `totals` and --count are one object, and everything else an array of objects.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  bypath show totals
  bypath show latency --json
  bypath show conntrack -p tcp --state ESTABLISHED
  bypath show rules
  bypath show qdisc eth0
  bypath show routes | grep left")]
pub struct ShowArgs {
    /// What to show
    #[arg(value_enum)]
    pub what: What,
    /// Of qdisc: only this port
    pub port: Option<String>,
    /// For scripts: JSON instead of text
    #[arg(long)]
    pub json: bool,
    /// Ask the instance that was started with --control NAME
    #[arg(long, value_name = "NAME")]
    pub control: Option<String>,
    #[command(flatten)]
    pub select: Select,
}

/// Which connections.
#[derive(Clone, Debug, Default, PartialEq, clap::Args)]
#[command(next_help_heading = "Connections")]
pub struct Select {
    /// Only IPv4
    #[arg(short = '4', conflicts_with = "ipv6")]
    pub ipv4: bool,
    /// Only IPv6
    #[arg(short = '6')]
    pub ipv6: bool,
    /// Only of this protocol: tcp, udp, icmp, icmpv6, sctp, gre, esp or a number
    #[arg(short, long, value_parser = super::trace::parse_proto)]
    pub proto: Option<u8>,
    /// Only from this address or prefix, as the first packet was
    #[arg(short, long, value_name = "ADDR[/LEN]", value_parser = super::trace::parse_prefix)]
    pub src: Option<(IpAddr, u8)>,
    /// Only to this address or prefix
    #[arg(short, long, value_name = "ADDR[/LEN]", value_parser = super::trace::parse_prefix)]
    pub dst: Option<(IpAddr, u8)>,
    /// Only from this port
    #[arg(long, value_name = "PORT", visible_alias = "orig-port-src")]
    pub sport: Option<u16>,
    /// Only to this port
    #[arg(long, value_name = "PORT", visible_alias = "orig-port-dst")]
    pub dport: Option<u16>,
    /// Only in this state, such as ESTABLISHED
    #[arg(long, value_parser = super::conntrack::parse_state)]
    pub state: Option<String>,
    /// Only with this mark
    #[arg(short, long, value_name = "MARK[/MASK]", value_parser = super::conntrack::parse_mark)]
    pub mark: Option<(u32, u32)>,
    /// Only how many there are, without those that the kernel decides about
    #[arg(long)]
    pub count: bool,
}

impl Select {
    /// Whether no condition is given.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum What {
    /// Where every frame went
    Totals,
    /// Interfaces and their queues
    Ports,
    /// Threads, their CPUs and frames
    Workers,
    /// Where frames are lost, the kernel's rings included
    Drops,
    /// Routes as mirrored from the kernel
    Routes,
    /// Resolved neighbours as mirrored from the kernel
    Neighbors,
    /// Bridges and their ports, in the words of `bridge -d link`
    Bridge,
    /// What bridges know, in the words of `bridge fdb show`
    Fdb,
    /// Qdiscs and classes by which ports are shaped, in the words of `tc -s qdisc` and `tc -s class`
    Qdisc,
    /// Rules that are run here, with what they counted
    Rules,
    /// Connections, in the lines of `conntrack -L`
    Conntrack,
    /// Time from arrival to transmit, per egress port
    Latency,
}

impl What {
    /// The table that it is; connections are asked for in another way.
    pub fn table(self) -> Option<Show> {
        Some(match self {
            What::Conntrack => return None,
            What::Totals => Show::Totals,
            What::Ports => Show::Ports,
            What::Workers => Show::Workers,
            What::Drops => Show::Drops,
            What::Routes => Show::Routes,
            What::Neighbors => Show::Neighbors,
            What::Bridge => Show::Bridge,
            What::Fdb => Show::Fdb,
            What::Qdisc => Show::Qdisc,
            What::Rules => Show::Rules,
            What::Latency => Show::Latency,
        })
    }
}

/// Delete connections, or watch them come and go
///
/// Both tables are meant, that of bypath and the kernel's copies.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  bypath conntrack flush
  bypath conntrack delete -p tcp -s 10.0.0.0/24
  bypath conntrack events -p udp --json")]
pub struct Conntrack {
    #[command(subcommand)]
    pub command: ConntrackCommand,
    /// For scripts: JSON objects, one per line
    #[arg(long, global = true)]
    pub json: bool,
    /// Ask the instance that was started with --control NAME
    #[arg(long, value_name = "NAME", global = true)]
    pub control: Option<String>,
}

#[derive(Debug, Subcommand)]
pub enum ConntrackCommand {
    /// Delete all connections
    Flush,
    /// Delete the connections that all conditions hold for
    Delete(Select),
    /// Print connections as they begin, change and end, in the lines of `conntrack -E`, until Ctrl-C
    Events(Select),
}

/// Print the way of packets through a running bypath, one line per box
///
/// Shows what each box looked up, what it rewrote, and the verdict with its reason (docs/REASONS.md). All conditions given must
/// hold. What steer passes to the kernel is not seen here: `bypath show ports` counts it.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  bypath trace --count 1
  bypath trace --port eth0 --proto tcp --dst 10.1.0.0/16
  bypath trace --src 2001:db8::1 --json")]
pub struct Trace {
    /// Only packets that arrive on this port
    #[arg(long)]
    pub port: Option<String>,
    /// Only this protocol: tcp, udp, icmp, icmpv6, sctp, gre, esp or a number
    #[arg(long, value_parser = super::trace::parse_proto)]
    pub proto: Option<u8>,
    /// Only from this address or prefix
    #[arg(long, value_name = "ADDR[/LEN]", value_parser = super::trace::parse_prefix)]
    pub src: Option<(IpAddr, u8)>,
    /// Only to this address or prefix
    #[arg(long, value_name = "ADDR[/LEN]", value_parser = super::trace::parse_prefix)]
    pub dst: Option<(IpAddr, u8)>,
    /// End after N packets
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    /// For scripts: one JSON object per line
    #[arg(long)]
    pub json: bool,
    /// Ask the instance that was started with --control NAME
    #[arg(long, value_name = "NAME")]
    pub control: Option<String>,
}

/// Tell what of these ports' traffic would stay in the kernel, and why
///
/// Needs no running instance and changes nothing. Exits with 0 when all is carried, with 3 when something stays.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  bypath check eth0 eth1 && bypath run eth0 eth1")]
pub struct Check {
    /// Interfaces that `bypath run` would serve
    #[arg(value_name = "PORT", required = true)]
    pub ports: Vec<String>,
    /// For scripts: a JSON array
    #[arg(long)]
    pub json: bool,
}

/// Tell what of hardware, kernel and permissions is in the way, and how to mend it
///
/// Needs no running instance and changes nothing. Exits with 1 when something would stop `bypath run`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  bypath doctor eth0 eth1")]
pub struct Doctor {
    /// Interfaces that `bypath run` would serve
    #[arg(value_name = "PORT", required = true)]
    pub ports: Vec<String>,
    /// For scripts: a JSON array
    #[arg(long)]
    pub json: bool,
}

/// A list of CPUs that was read; clap would take a bare `Vec` for a repeated flag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cpus(pub Vec<usize>);

impl Cpus {
    fn parse(list: &str) -> Result<Self, String> {
        parse_cpus(list).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definitions_hold_together() {
        Args::command().debug_assert();
    }

    #[test]
    fn the_unit_s_command_line_is_one() {
        let unit = include_str!("../../docs/bypath.service");
        let line = unit
            .lines()
            .find_map(|line| line.strip_prefix("ExecStart=/usr/local/bin/"));
        let args = Args::try_parse_from(line.expect("ExecStart").split_whitespace()).unwrap();
        assert!(matches!(args.command, Command::Run(Run { ports, .. }) if ports == ["eth0", "eth1"]));
    }

    #[test]
    fn every_flag_of_the_contract_reaches_the_config() {
        let line = "bypath run a b --workers 2 --cpus 0,2-3 --mode copy --attach generic --poll spin --control x \
                    --metrics 127.0.0.1:9100";
        let Command::Run(Run { ports, options }) = Args::try_parse_from(line.split_whitespace()).unwrap().command
        else {
            panic!("not run");
        };
        let wanted = RunConfig {
            ports: vec!["a".into(), "b".into()],
            workers: Some(2),
            cpus: vec![0, 2, 3],
            mode: Mode::Copy,
            attach: Attach::Generic,
            poll: Poll::Spin,
            control: Some("x".into()),
            metrics: Some(([127, 0, 0, 1], 9100).into()),
            wire: false,
        };
        assert_eq!(options.config(ports, false), wanted);
    }
}
