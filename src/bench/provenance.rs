//! Where numbers are from: machine, kernel, driver, mode, commit, load, versions, commands. A number without these is
//! worth little, so the collector never fails: what cannot be found out is said to be unknown.
//!
//! The commit is the one that was built, where the build put it in (`cargo build --release` of a tree of git's, or with BYPATH_COMMIT;
//! build.rs). Else it is that of the source tree while the program lies in it, and a program that was moved elsewhere has its version
//! alone. `-dirty` is said while the program lies in its tree, and of that as it is now: the build does not know it, so that of a program
//! that was moved it is not known either, and sources that were changed after it was built are told as if it were of them.

mod git;

use super::report::Provenance;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
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
    let tree = Path::new(env!("CARGO_MANIFEST_DIR"));
    let inside = || std::env::current_exe().is_ok_and(|exe| exe.starts_with(tree));
    let tree = inside().then_some(tree);
    let built = option_env!("BYPATH_BUILT_OF").map(str::to_owned);
    named(built.or_else(|| git::describe(tree?)), tree.is_some_and(git::is_dirty))
}

fn named(commit: Option<String>, is_dirty: bool) -> String {
    let version = concat!("v", env!("CARGO_PKG_VERSION"));
    let dirty = if is_dirty { "-dirty" } else { "" };
    commit.map_or_else(|| version.to_owned(), |commit| format!("{version} {commit}{dirty}"))
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
    use std::process::{Command, Stdio};

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

    /// A tree of git's, in a commit.
    fn tree(name: &str) -> Option<std::path::PathBuf> {
        let tree = std::env::temp_dir().join(format!("bypath-commit-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&tree);
        for folder in ["inner", "src", "bpf", "docs"] {
            fs::create_dir_all(tree.join(folder)).unwrap();
        }
        for file in [
            "src/a.rs",
            "bpf/a.h",
            "build.rs",
            "Cargo.toml",
            "Cargo.lock",
            "docs/a.md",
        ] {
            fs::write(tree.join(file), "1").unwrap();
        }
        commit_in(&tree, "git init -q -b main").then_some(())?;
        assert!(commit_in(&tree, "git add .") && commit_in(&tree, "git commit -q -m one"));
        Some(tree)
    }

    /// Runs git in a tree; false where there is no git.
    fn commit_in(tree: &Path, line: &str) -> bool {
        let mut words = line.split(' ');
        let mut command = Command::new(words.next().unwrap());
        command.args(words).current_dir(tree).stdin(Stdio::null());
        // Of a hook that tests, or of a user's configuration: they would name another tree, or sign.
        for name in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"] {
            command.env_remove(name);
        }
        command
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_NOSYSTEM", "1");
        for role in ["AUTHOR", "COMMITTER"] {
            command.env(format!("GIT_{role}_NAME"), "nobody");
            command.env(format!("GIT_{role}_EMAIL"), "nobody@example.org");
        }
        match command.output() {
            Ok(output) => {
                assert!(output.status.success(), "{line}: {output:?}");
                true
            }
            Err(_) => false,
        }
    }

    #[test]
    fn the_commit_is_that_of_the_tree_and_what_it_is_watched_by_is_there() {
        let Some(tree) = tree("watched") else {
            println!("SKIPPED commits: no git");
            return;
        };
        let told = || git::describe(&tree).expect("a commit");
        let seen = || {
            let texts = git::watched(&tree)
                .into_iter()
                .map(|path| fs::read_to_string(path).unwrap());
            texts.collect::<Vec<_>>()
        };
        let first = told();
        assert!(
            first.len() >= 7 && first.chars().all(|c| c.is_ascii_hexdigit()),
            "{first}"
        );
        assert!(seen().len() >= 2, "{:?}", git::watched(&tree));
        let version = concat!("v", env!("CARGO_PKG_VERSION"));
        assert_eq!(named(Some(first.clone()), false), format!("{version} {first}"));
        assert_eq!(named(Some(first.clone()), true), format!("{version} {first}-dirty"));
        assert_eq!(named(None, true), version);
        let mut before = seen();
        // Whatever moves the commit is seen: a commit, another branch, one on a branch that was packed, none of its own.
        for lines in [
            vec!["git commit -q --allow-empty -m two"],
            vec!["git checkout -q -b other", "git commit -q --allow-empty -m three"],
            vec!["git pack-refs --all", "git commit -q --allow-empty -m four"],
            vec!["git checkout -q --detach main"],
        ] {
            let then = told();
            lines.iter().for_each(|line| assert!(commit_in(&tree, line)));
            let now = seen();
            assert!(told() != then && now != before, "{lines:?}: {}", told());
            before = now;
        }
        let then = told();
        for (file, is_source) in [
            ("docs/a.md", false),
            ("src/a.rs", true),
            ("bpf/a.h", true),
            ("build.rs", true),
            ("Cargo.toml", true),
            ("Cargo.lock", true),
        ] {
            assert!(!git::is_dirty(&tree), "{file}");
            fs::write(tree.join(file), "changed").unwrap();
            assert_eq!((git::is_dirty(&tree), told()), (is_source, then.clone()), "{file}");
            fs::write(tree.join(file), "1").unwrap();
        }
        assert!(!git::is_dirty(Path::new("/nowhere")));
        // What was unpacked within somebody else's tree is none of its commits.
        assert_eq!(
            (git::describe(&tree.join("inner")), git::describe(Path::new("/nowhere"))),
            (None, None)
        );
        fs::remove_dir_all(&tree).unwrap();
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
}
