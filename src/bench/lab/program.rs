//! The programs by which namespaces, links and rules are made (`ip`, `nft`, `tc`, `ethtool`, `bridge`, `conntrack`,
//! `mount`): as an operator would type them, with one line of error that names the package where one is missing.
//!
//! They are run in the namespaces of this process or in those of another one, and waited for: none outlives the lab.

use std::io::{ErrorKind, Write};
use std::process::{Command, Stdio};

/// The packages of Debian in which the programs are.
const PACKAGES: [(&str, &str); 7] = [
    ("ip", "iproute2"),
    ("tc", "iproute2"),
    ("bridge", "iproute2"),
    ("nft", "nftables"),
    ("ethtool", "ethtool"),
    ("conntrack", "conntrack"),
    ("mount", "mount"),
];

/// Runs a line (words parted at spaces) with `input` on stdin, in the namespaces of the calling thread.
pub fn run(line: &str, input: &str) -> Result<(), String> {
    output(line, input).map(drop)
}

/// The same; what it wrote to stdout.
pub fn output(line: &str, input: &str) -> Result<String, String> {
    let mut words = line.split_whitespace();
    let name = words.next().unwrap_or_default();
    let mut command = Command::new(name);
    command.args(words);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| match error.kind() {
        ErrorKind::NotFound => format!("`{name}` is not there, and the lab needs it: install {}", package(name)),
        _ => format!("cannot run `{line}`, {error}: see whether {name} is a program that this user may run"),
    })?;
    // On its own thread, for a long input and a long output would block each other. A child that closes its stdin early
    // is judged by its exit code.
    let stdin = child.stdin.take();
    let output = std::thread::scope(|scope| {
        scope.spawn(move || stdin.map(|mut stdin| stdin.write_all(input.as_bytes())));
        child.wait_with_output()
    });
    let output = output.map_err(|error| format!("cannot wait for `{line}`, {error}: try once more"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let first = said
        .lines()
        .find(|line| !line.trim().is_empty())
        .unwrap_or("it said nothing");
    Err(format!(
        "`{line}` failed in the lab, {}: {}",
        output.status,
        first.trim()
    ))
}

fn package(name: &str) -> &str {
    let known = PACKAGES.iter().find(|(program, _)| *program == name);
    known.map_or("its package", |(_, package)| package)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_is_one_line() {
        assert_eq!(output("cat -", "words").unwrap(), "words");
        let missing = run("no-such-program x", "").unwrap_err();
        assert!(missing.contains("`no-such-program` is not there"), "{missing}");
        let failed = run("ls /no/such/folder", "").unwrap_err();
        assert!(failed.contains("No such file") && !failed.contains('\n'), "{failed}");
    }

    #[test]
    fn a_long_input_that_nobody_reads_blocks_nothing() {
        assert_eq!(run("true", &"x".repeat(1 << 20)), Ok(()));
    }
}
