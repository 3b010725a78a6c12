//! Where numbers are from: machine, kernel, driver, mode, commit, load, versions, commands. A number without these is
//! worth little, so the collector never fails: what cannot be found out is said to be unknown.
//!
//! The commit is that of the source tree while the program lies in it, as it does after `cargo build`; a program that
//! was installed elsewhere has its version.

use super::report::Provenance;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::available_parallelism;
use std::time::{SystemTime, UNIX_EPOCH};

const UNKNOWN: &str = "unknown";

impl Provenance {
    /// Of this process, here and now; take it before anything is measured, as the load is a part of it. `drivers` are
    /// those of the ports, `mode` is how AF_XDP moves frames.
    pub fn collect<'a>(drivers: impl IntoIterator<Item = &'a str>, mode: &str) -> Self {
        let mut drivers: Vec<&str> = drivers.into_iter().filter(|driver| !driver.is_empty()).collect();
        drivers.sort_unstable();
        drivers.dedup();
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        Provenance {
            started: since.map_or(0, |since| since.as_secs()),
            machine: machine(&read("/proc/cpuinfo")),
            kernel: line("/proc/sys/kernel/osrelease"),
            driver: drivers.join(", "),
            mode: mode.to_owned(),
            commit: commit(),
            load: load(&read("/proc/loadavg")),
            versions: BTreeMap::new(),
            commands: vec![command_line(std::env::args())],
        }
    }

    /// Adds the version of a program: the first line that `command` prints, such as `["nft", "--version"]`. A program
    /// that is not there is left out.
    pub fn add_version(&mut self, name: &str, command: &[&str]) {
        if let Some(version) = first_line(command) {
            self.versions.insert(name.to_owned(), version);
        }
    }
}

/// The load of the last minute.
fn load(loadavg: &str) -> f64 {
    let first = loadavg.split_whitespace().next();
    first.and_then(|word| word.parse().ok()).unwrap_or(0.0)
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn line(path: &str) -> String {
    match read(path).lines().next() {
        Some(line) if !line.is_empty() => line.to_owned(),
        _ => UNKNOWN.to_owned(),
    }
}

/// The processor's name, whether it is a virtual one, and the cores that this process may use.
fn machine(cpuinfo: &str) -> String {
    let field = |name: &str| {
        cpuinfo
            .lines()
            .filter_map(|line| line.split_once(':'))
            .find(|(key, _)| key.trim() == name)
            .map(|(_, value)| value.trim())
    };
    // Arm has no name there, but for some boards.
    let model = field("model name")
        .or_else(|| field("Model"))
        .unwrap_or(std::env::consts::ARCH);
    let is_virtual = field("flags").is_some_and(|flags| flags.split(' ').any(|flag| flag == "hypervisor"));
    let kind = if is_virtual { "virtual " } else { "" };
    let cores = available_parallelism().map_or(0, usize::from);
    let s = if cores == 1 { "" } else { "s" };
    format!("{model}, {cores} {kind}core{s}")
}

fn commit() -> String {
    let version = concat!("v", env!("CARGO_PKG_VERSION"));
    let tree = Path::new(env!("CARGO_MANIFEST_DIR"));
    let inside = std::env::current_exe().is_ok_and(|exe| exe.starts_with(tree));
    let described = || {
        let tree = tree.to_str()?;
        first_line(&["git", "-C", tree, "describe", "--always", "--dirty", "--tags"])
    };
    match inside.then(described).flatten() {
        Some(commit) => format!("{version} {commit}"),
        None => version.to_owned(),
    }
}

/// The first line that a command prints, on stdout or else on stderr; nothing where it cannot be run or fails.
fn first_line(command: &[&str]) -> Option<String> {
    let (program, args) = command.split_first()?;
    let output = Command::new(program).args(args).stdin(Stdio::null()).output().ok()?;
    let text = [output.stdout, output.stderr].concat();
    let line = String::from_utf8_lossy(&text).lines().next()?.trim().to_owned();
    (output.status.success() && !line.is_empty()).then_some(line)
}

/// Arguments as a shell would take them.
pub fn command_line(args: impl IntoIterator<Item = String>) -> String {
    let quoted = |arg: String| {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:,=+@%".contains(c);
        match !arg.is_empty() && arg.chars().all(is_plain) {
            true => arg,
            false => format!("'{}'", arg.replace('\'', "'\\''")),
        }
    };
    args.into_iter().map(quoted).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_tells_of_this_machine_is_all_there() {
        let found = Provenance::collect(["veth", "", "ice", "veth"], "copy");
        assert_eq!((found.driver.as_str(), found.mode.as_str()), ("ice, veth", "copy"));
        assert!(found.started > 1_700_000_000);
        assert!(
            found.kernel.starts_with(|c: char| c.is_ascii_digit()),
            "{}",
            found.kernel
        );
        assert!(found.machine.contains("core"), "{}", found.machine);
        assert!(found.commit.starts_with("v0."), "{}", found.commit);
        assert!(found.commands[0].contains("bypath"), "{:?}", found.commands);
    }

    #[test]
    fn the_load_is_that_of_the_last_minute() {
        assert_eq!((load("0.25 1 2 3/4 5"), load("")), (0.25, 0.0));
    }

    #[test]
    fn a_processor_is_named_and_a_virtual_one_is_said_to_be() {
        let info = "processor\t: 0\nmodel name\t: Some CPU @ 2 GHz\nflags\t\t: fpu hypervisor sse\n";
        let cores = available_parallelism().unwrap();
        assert!(machine(info).starts_with(&format!("Some CPU @ 2 GHz, {cores} virtual core")));
        assert!(machine("flags : fpu\n").starts_with(&format!("{}, {cores} core", std::env::consts::ARCH)));
    }

    #[test]
    fn a_command_can_be_pasted_into_a_shell_as_it_is_printed() {
        let args = ["bypath", "bench", "--subject", "peer=l3fwd {a} {b}", "it's", ""];
        let line = command_line(args.map(str::to_owned));
        assert_eq!(line, r"bypath bench --subject 'peer=l3fwd {a} {b}' 'it'\''s' ''");
        let echo = Command::new("sh")
            .args(["-c", &format!("printf '%s|' {line}")])
            .output()
            .unwrap();
        assert_eq!(
            String::from_utf8_lossy(&echo.stdout),
            args.map(|arg| format!("{arg}|")).concat()
        );
    }

    #[test]
    fn versions_are_those_of_programs_that_there_are() {
        let mut found = Provenance::default();
        found.add_version("shell", &["sh", "-c", "echo one 1.2; echo two"]);
        found.add_version("none", &["/nonexistent/program", "--version"]);
        found.add_version("failing", &["sh", "-c", "echo no; exit 1"]);
        assert_eq!(found.versions, BTreeMap::from([("shell".into(), "one 1.2".into())]));
    }
}
