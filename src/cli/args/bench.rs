//! The flags of `bypath bench`, by clap: raw, nothing checked but that a value can be read. `bypath bench` sends one work (or
//! one for each size), `bench rfc2544` searches rates, `--lab` builds its own namespaces and compares subjects in them; all
//! three share what is sent, by which ports, and where the report goes.

use super::Cpus;
use crate::bench::sink::SinkKind;
use crate::bench::work::{Kind, Order, Rate, Size};
use clap::ValueEnum;
use std::net::IpAddr;
use std::path::PathBuf;

/// Measure a path: send frames in at one port, judge what comes out at another
///
/// Frames bear a number and the time of sending. The receiving port counts loss, reordering, duplicates and corruption, and
/// takes the one-way delay of each frame. Both ports are of this machine, each in its own network namespace if need be.
/// With --lab everything is made here: namespaces, links, and each subject in turn.
#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = "Examples:
  bypath bench --port eth0 --port eth1 --dst-mac 02:00:00:00:00:01 --dst 10.2.0.2
  bypath bench --port client:c0 --port server:s0 --rate 100k --sink xsk --seconds 10
  bypath bench --port eth0 --port eth1 --size 64,imix,1518 --flows 1000000 --order zipf --html report.html
  bypath bench --lab
  bypath bench rfc2544 --lab --size 64,1518"
)]
pub struct Bench {
    #[command(subcommand)]
    pub command: Option<BenchCommand>,
    #[command(flatten)]
    pub path: Path,
    #[command(flatten)]
    pub work: WorkArgs,
    /// Frames per second, such as 100k or 1.5m, or max
    #[arg(long, default_value = "max", value_parser = parse_rate, help_heading = "Work")]
    pub rate: Rate,
    #[command(flatten)]
    pub lab: Lab,
    #[command(flatten)]
    pub forms: Forms,
}

#[derive(Debug, clap::Subcommand)]
pub enum BenchCommand {
    Rfc2544(Box<Rfc2544>),
    Report(ReportOf),
}

/// Make the forms of a report anew, of files that --json wrote
///
/// Several files of one kind become one report: the n-th run of a subject is a pair with the n-th of another, in the order of the
/// files, and the ratios are of these pairs. Subjects are told apart by their names (--subject-name); what has no partner is left out.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  bypath bench report run.json --html report.html --markdown report.md
  bypath bench report kernel.json bypath.json bypath-2.json kernel-2.json --html report.html")]
pub struct ReportOf {
    /// What --json wrote, or a tool of bench/trex or bench/pktgen
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,
    #[command(flatten)]
    pub forms: Forms,
}

/// Run the tests of RFC 2544: throughput, latency, frame loss, back-to-back
///
/// Throughput (section 26.1) is the highest rate without loss, found by binary search. Latency (26.2) is taken at shares of it,
/// frame loss (26.3) at falling rates, and back-to-back (26.4) is the longest burst without loss.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  bypath bench rfc2544 --port eth0 --port eth1 --dst-mac 02:00:00:00:00:01 --dst 10.2.0.2
  bypath bench rfc2544 --lab --subject kernel --subject bypath --seconds 5 --html report.html")]
pub struct Rfc2544 {
    #[command(flatten)]
    pub path: Path,
    #[command(flatten)]
    pub work: WorkArgs,
    #[command(flatten)]
    pub lab: Lab,
    /// The search ends when its bounds are so close, as a part of the rate
    #[arg(long, value_name = "PART", default_value_t = 0.01, value_parser = positive)]
    pub resolution: f64,
    /// The loss that passes for none, in percent of what was offered
    #[arg(long, value_name = "PERCENT", default_value_t = 0.0)]
    pub accepted_loss: f64,
    /// The highest rate to try; without it what the source reaches unpaced
    #[arg(long, value_name = "RATE", value_parser = parse_pps)]
    pub max_rate: Option<f64>,
    /// The lowest rate to try: where it loses too, no rate is without loss
    #[arg(long, value_name = "RATE", default_value = "1k", value_parser = parse_pps)]
    pub min_rate: f64,
    /// For how long, each trial of the search; what it finds is sent once more for --seconds [default: that of --seconds]
    #[arg(long, value_name = "S", value_parser = positive)]
    pub search_seconds: Option<f64>,
    /// How often a trial of the search that loses little is sent anew before it counts; RFC 2544 has 0
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub retry: u32,
    /// The loss curve falls by this, in percent of the highest rate
    #[arg(long, value_name = "PERCENT", default_value_t = 10.0)]
    pub loss_step: f64,
    /// Latency is taken at these shares of the throughput, in percent; RFC 2544 has 100 alone
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "10,50,90,100")]
    pub shares: Vec<f64>,
    /// How often the longest burst is sought; RFC 2544 wants 50
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    pub repeat: u32,
    /// Which tests
    #[arg(
        long,
        value_enum,
        value_name = "LIST",
        value_delimiter = ',',
        default_value = "throughput,latency,loss,back-to-back"
    )]
    pub tests: Vec<Test>,
    #[command(flatten)]
    pub forms: Forms,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Test {
    /// Section 26.1
    Throughput,
    /// Section 26.2
    Latency,
    /// Section 26.3
    Loss,
    /// Section 26.4
    BackToBack,
}

/// By which ports.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Ports")]
pub struct Path {
    /// Twice: the port that sends and the one that receives. NAME:PORT is one of the namespace NAME (as `ip netns` has
    /// it) or of the process NAME (a number)
    #[arg(
        long = "port",
        value_name = "PORT",
        required_unless_present = "lab",
        conflicts_with = "lab"
    )]
    pub ports: Vec<String>,
    /// How frames are made: by the kernel (default), or in an AF_XDP ring (default of a paced lab)
    #[arg(long, value_enum)]
    pub source: Option<Source>,
    /// How they are judged: looked at in an AF_XDP ring (default), counted and dropped in XDP, or counted by the link
    /// itself (default of an unpaced lab)
    #[arg(long, value_enum)]
    pub sink: Option<Sink>,
    /// CPUs in the order SENDER,RECEIVER, and with --lab FORWARDER as a third
    #[arg(long, value_name = "LIST", value_parser = Cpus::parse)]
    pub cpus: Option<Cpus>,
    /// Ethernet source; without it that of the sending port
    #[arg(long, value_name = "MAC", value_parser = parse_mac)]
    pub src_mac: Option<Mac>,
    /// Ethernet destination, the next hop's; without it that of the receiving port, as through a wire
    #[arg(long, value_name = "MAC", value_parser = parse_mac)]
    pub dst_mac: Option<Mac>,
    /// Who is measured, in the report [default: the ports]
    #[arg(long, value_name = "NAME", conflicts_with = "lab")]
    pub subject_name: Option<String>,
    /// What it does, in the report: route, bridge, nat ... [default: send, and of rfc2544 path]
    #[arg(long, value_name = "NAME", conflicts_with = "lab")]
    pub case_name: Option<String>,
    /// Do not measure first what the measurement itself gets wrong
    #[arg(long)]
    pub no_own_error: bool,
}

/// Which source; as in `bench::source`, which needs the AF_XDP parts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Source {
    /// The kernel makes frames by BPF_PROG_RUN: the fastest
    #[default]
    Live,
    /// An AF_XDP transmit ring
    Xsk,
}

/// Which sink.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Sink {
    /// Count and drop in XDP: the cheapest; sees loss alone
    Count,
    /// Of the lab alone: the link's own counter, and a rule that drops
    Link,
    /// Look at every frame: loss, reordering, duplicates, corruption, delay
    #[default]
    Xsk,
}

impl From<Sink> for SinkKind {
    fn from(sink: Sink) -> Self {
        match sink {
            Sink::Count => SinkKind::Count,
            Sink::Link => SinkKind::Link,
            Sink::Xsk => SinkKind::Xsk,
        }
    }
}

/// What is sent.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Work")]
pub struct WorkArgs {
    /// What the frames are
    #[arg(long, value_enum, default_value_t)]
    pub kind: FrameKind,
    /// Sizes in bytes, with the Ethernet header and without the checksum of the wire, or imix; a trial for each
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "64", value_parser = parse_size)]
    pub size: Vec<Size>,
    /// Number of flows, 1 to 10,000,000; the lab takes several, one after the other
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "1", value_parser = parse_flows)]
    pub flows: Vec<u32>,
    /// Which flow is next: round-robin, random, zipf or zipf:EXPONENT
    #[arg(long, default_value = "round-robin", value_parser = parse_order)]
    pub order: Order,
    /// So many flows a second are new
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub new_flows: u32,
    /// For how long, each trial; RFC 2544 wants 60
    #[arg(long, value_name = "S", default_value_t = 5.0, value_parser = positive)]
    pub seconds: f64,
    /// Of random orders: the same seed gives the same frames
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// First source address; 198.18.0.1 or 2001:2::1, which are for benchmarks, where none is given
    #[arg(long, value_name = "ADDR")]
    pub src: Option<IpAddr>,
    /// First destination address; 198.19.0.1 or 2001:2:0:8000::1 where none is given
    #[arg(long, value_name = "ADDR")]
    pub dst: Option<IpAddr>,
    /// IPv6, where no address says so
    #[arg(short = '6', long)]
    pub ipv6: bool,
    /// So many destination addresses follow each other
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub dsts: u32,
    /// First source port; 1024 where none is given
    #[arg(long, value_name = "PORT")]
    pub sport: Option<u16>,
    /// Destination port; 9 where none is given
    #[arg(long, value_name = "PORT")]
    pub dport: Option<u16>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum FrameKind {
    /// UDP datagrams
    #[default]
    Udp,
    /// TCP segments that ask for a connection
    TcpSyn,
    /// TCP segments as in the middle of a connection
    TcpAck,
    /// Echo requests
    Icmp,
}

impl From<FrameKind> for Kind {
    fn from(kind: FrameKind) -> Self {
        match kind {
            FrameKind::Udp => Kind::Udp,
            FrameKind::TcpSyn => Kind::TcpSyn,
            FrameKind::TcpAck => Kind::TcpAck,
            FrameKind::Icmp => Kind::Icmp,
        }
    }
}

/// The namespaces that are made here.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Lab")]
pub struct Lab {
    /// Build client, router and server of namespaces, and compare subjects on the same work
    #[arg(long)]
    pub lab: bool,
    /// What the router does: wire, route, route-1m, bridge, nat, nat-1000-rules, nat-tbf
    #[arg(
        long,
        value_name = "LIST",
        value_delimiter = ',',
        default_value = "wire,route,nat",
        requires = "lab",
        conflicts_with = "ports"
    )]
    pub cases: Vec<String>,
    /// Who does it: kernel, kernel-rps (the kernel on the forwarding core), bypath, wire, bare (the example bare_forwarder), or
    /// NAME=COMMAND, where {a} and {b} are the ports, {cpu} the core and {case} the case, and which prints a line that ends
    /// in `: ready`; NAME@CASE,CASE=COMMAND is measured in these cases alone. May be given again; kernel, bypath and wire
    /// where none is
    #[arg(
        long = "subject",
        value_name = "NAME[@CASES][=COMMAND]",
        requires = "lab",
        conflicts_with = "ports"
    )]
    pub subjects: Vec<String>,
    /// Rounds; each has every subject once, every other in reverse order
    #[arg(long, value_name = "N", default_value_t = 5, requires = "lab", conflicts_with = "ports", value_parser = clap::value_parser!(u32).range(1..))]
    pub rounds: u32,
    /// Keep the forwarding core busy with another process, the same for all
    #[arg(long, requires = "lab", conflicts_with = "ports")]
    pub loaded: bool,
}

/// Where the report goes; a table goes to stdout anyhow. `-` is stdout, and then there is no table.
#[derive(Debug, Default, clap::Args)]
#[command(next_help_heading = "Report")]
pub struct Forms {
    /// Everything, for programs
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// A row for each trial and each conclusion
    #[arg(long, value_name = "FILE")]
    pub csv: Option<PathBuf>,
    /// Delays, as HdrHistogram's plotter reads them; with more than one trial a number is put before the extension
    #[arg(long, value_name = "FILE")]
    pub hgrm: Option<PathBuf>,
    /// Delays of all trials, as HdrHistogram's log
    #[arg(long, value_name = "FILE")]
    pub hlog: Option<PathBuf>,
    /// A page with charts
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Tables for a README
    #[arg(long, value_name = "FILE")]
    pub markdown: Option<PathBuf>,
}

/// An Ethernet address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mac(pub [u8; 6]);

fn parse_mac(text: &str) -> Result<Mac, String> {
    let byte = |part: &str| (part.len() <= 2).then(|| u8::from_str_radix(part, 16).ok())?;
    let bytes: Option<Vec<u8>> = text.split(':').map(byte).collect();
    let mac = bytes.and_then(|bytes| <[u8; 6]>::try_from(bytes).ok()).map(Mac);
    mac.ok_or_else(|| "not an Ethernet address such as 02:00:00:00:00:01".into())
}

fn positive(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if value > 0.0 && value.is_finite() => Ok(value),
        _ => Err("not a number above 0".into()),
    }
}

fn parse_flows(text: &str) -> Result<u32, String> {
    let count = text.replace('_', "").parse();
    count
        .ok()
        .filter(|count| (1..=10_000_000).contains(count))
        .ok_or_else(|| "not a number from 1 to 10,000,000".into())
}

fn parse_size(text: &str) -> Result<Size, String> {
    if text == "imix" {
        return Ok(Size::Imix);
    }
    match text.parse() {
        Ok(bytes @ 64..=1518) => Ok(Size::Bytes(bytes)),
        _ => Err("neither 64 to 1518 bytes nor imix".into()),
    }
}

fn parse_order(text: &str) -> Result<Order, String> {
    let (name, exponent) = text.split_once(':').unwrap_or((text, "1.0"));
    match (name, positive(exponent)) {
        ("round-robin", _) if !text.contains(':') => Ok(Order::RoundRobin),
        ("random", _) if !text.contains(':') => Ok(Order::Random),
        ("zipf", Ok(exponent)) => Ok(Order::Zipf { exponent }),
        _ => Err("neither round-robin, random, zipf nor zipf:EXPONENT".into()),
    }
}

/// Frames per second: a number, which may end in k or m.
fn parse_pps(text: &str) -> Result<f64, String> {
    let lower = text.to_ascii_lowercase();
    let (number, factor) = match lower.strip_suffix(['k', 'm']) {
        Some(number) if lower.ends_with('k') => (number, 1e3),
        Some(number) => (number, 1e6),
        None => (lower.as_str(), 1.0),
    };
    match positive(number) {
        Ok(value) if (1.0..=1e9).contains(&(value * factor)) => Ok(value * factor),
        _ => Err("not a rate such as 50000, 100k or 1.5m".into()),
    }
}

fn parse_rate(text: &str) -> Result<Rate, String> {
    match text {
        "max" => Ok(Rate::Unpaced),
        _ => parse_pps(text)
            .map(Rate::Paced)
            .map_err(|_| "neither max nor a rate such as 50000, 100k or 1.5m".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Args, Command};
    use super::*;
    use clap::Parser;

    fn bench(line: &str) -> Result<Bench, String> {
        let words = ["bypath", "bench"].into_iter().chain(line.split_whitespace());
        match Args::try_parse_from(words).map_err(|error| error.to_string())?.command {
            Command::Bench(bench) => Ok(*bench),
            other => Err(format!("{other:?}")),
        }
    }

    #[test]
    fn what_is_sent_is_read() {
        let read =
            bench("--port a --port blue:b --size 64,imix --rate 1.5m --order zipf:0.9 --flows 1_000_000").unwrap();
        assert_eq!(read.path.ports, ["a", "blue:b"]);
        assert_eq!(read.work.size, [Size::Bytes(64), Size::Imix]);
        assert_eq!(read.rate, Rate::Paced(1.5e6));
        assert_eq!(read.work.order, Order::Zipf { exponent: 0.9 });
        assert_eq!(read.work.flows, [1_000_000]);
        assert_eq!(bench("--port a --port b").unwrap().rate, Rate::Unpaced);
        let path = bench("--port a --port b --subject-name kernel --case-name route")
            .unwrap()
            .path;
        assert_eq!(
            path.subject_name.zip(path.case_name),
            Some(("kernel".into(), "route".into()))
        );
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for bad in [
            "",
            "--port a --port b --rate 0",
            "--port a --port b --rate fast",
            "--port a --port b --rate 2g",
            "--port a --port b --size 63",
            "--port a --port b --size 1519",
            "--port a --port b --flows 0",
            "--port a --port b --flows 10000001",
            "--port a --port b --order random:2",
            "--port a --port b --order zipf:-1",
            "--port a --port b --seconds 0",
            "--port a --port b --seconds inf",
            "--port a --port b --dst-mac 1:2:3:4:5",
            "--port a --port b --rounds 3",
            "--port a --lab",
            "--lab --subject-name kernel",
            "--lab --case-name route",
            "report",
            "rfc2544",
        ] {
            assert!(bench(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn rfc2544_and_the_lab_are_reached() {
        let read =
            bench("rfc2544 --port a --port b --resolution 0.005 --shares 25,50 --tests throughput,loss").unwrap();
        let Some(BenchCommand::Rfc2544(rfc)) = read.command else {
            panic!("not rfc2544");
        };
        assert_eq!((rfc.resolution, rfc.shares), (0.005, vec![25.0, 50.0]));
        assert_eq!(rfc.tests, [Test::Throughput, Test::Loss]);
        let read =
            bench("--lab --cases wire,nat --subject kernel --subject mine=./x_{a}_{b}_{cpu} --rounds 3").unwrap();
        assert_eq!(read.lab.cases, ["wire", "nat"]);
        assert_eq!(read.lab.subjects, ["kernel", "mine=./x_{a}_{b}_{cpu}"]);
        assert_eq!(parse_mac("02:0:0:00:00:01"), Ok(Mac([2, 0, 0, 0, 0, 1])));
        assert!(parse_mac("02-00-00-00-00-01").is_err() && parse_mac("2:0:0:0:0:001").is_err());
    }
}
