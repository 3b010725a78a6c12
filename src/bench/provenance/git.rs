//! The commit of a source tree, as git tells it: also a part of build.rs, which puts it into the program.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What the program is built of.
const SOURCES: [&str; 5] = ["src", "bpf", "build.rs", "Cargo.toml", "Cargo.lock"];

/// `708b10b`, `v0.2-7-g708b10b`; nothing where the tree is not one of git's (a tarball, also one that lies within another tree), or
/// git is not there.
pub fn describe(tree: &Path) -> Option<String> {
    tree.join(".git").exists().then_some(())?;
    git(tree, &["describe", "--always", "--tags"])
}

/// Whether the sources of a tree are otherwise than they were committed last. Documents, tests and benchmarks may be: nothing that runs
/// is of them. A file that git does not know is not seen.
#[allow(dead_code, reason = "the program alone asks")]
pub fn is_dirty(tree: &Path) -> bool {
    let mut diff = command(tree, &["diff", "--quiet", "HEAD", "--"]);
    // 1 is yes, and what is more an error.
    let status = diff.args(SOURCES).stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.code() == Some(1))
}

/// The files that change with the commit. All of them are there: one that is not would have cargo build each time.
#[allow(dead_code, reason = "build.rs alone asks")]
pub fn watched(tree: &Path) -> Vec<PathBuf> {
    let path = |name: &str| {
        let path = tree.join(git(tree, &["rev-parse", "--git-path", name])?);
        path.is_file().then_some(path)
    };
    // Where HEAD is a branch, its file; that comes with the next commit where branches were packed, and the log tells of that.
    let branch = git(tree, &["symbolic-ref", "-q", "HEAD"]).and_then(|name| path(&name));
    let found = [path("HEAD"), path("logs/HEAD"), branch, path("packed-refs")];
    found.into_iter().flatten().collect()
}

/// The first line that git says of a tree.
fn git(tree: &Path, args: &[&str]) -> Option<String> {
    let output = command(tree, args).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let line = text.lines().next()?.trim().to_owned();
    (output.status.success() && !line.is_empty()).then_some(line)
}

fn command(tree: &Path, args: &[&str]) -> Command {
    let mut command = Command::new("git");
    command.arg("-C").arg(tree).args(args).stdin(Stdio::null());
    // Of a hook that builds: they would name another tree. Nor is anything written for the looking.
    for name in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"] {
        command.env_remove(name);
    }
    command.env("GIT_OPTIONAL_LOCKS", "0");
    command
}
