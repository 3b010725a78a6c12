//! The command as a script meets it: exit codes, and errors of one line that say what to do.
//!
//! Needs neither root nor an instance: the ports named here do not exist, or are the loopback, and the control sockets are
//! names that nobody serves.

use std::process::{Command, Output, Stdio};

fn bypath(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_bypath"))
        .args(args)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// Expects one line `bypath: error: ...` on stderr and nothing on stdout; that line without its beginning.
fn error(args: &[&str], code: i32) -> String {
    let output = bypath(args);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{args:?}: {stderr}");
    assert!(
        output.stdout.is_empty(),
        "{args:?}: {:?}",
        String::from_utf8_lossy(&output.stdout)
    );
    let line = stderr
        .strip_suffix('\n')
        .unwrap_or_else(|| panic!("{args:?}: no line in {stderr:?}"));
    assert!(!line.contains('\n'), "{args:?}: more than one line: {stderr}");
    line.strip_prefix("bypath: error: ")
        .unwrap_or_else(|| panic!("{args:?}: {line}"))
        .to_owned()
}

#[test]
fn usage_errors_exit_2_and_point_to_the_help() {
    let cases: &[(&[&str], &str)] = &[
        (&["run"], "PORT"),
        (&["run", "lo", "--frobnicate"], "--frobnicate"),
        (&["run", "lo", "--mode", "fast"], "zerocopy"),
        (&["run", "lo", "--cpus", "3-1"], "backwards"),
        (&["run", "lo", "--metrics", "9100"], "127.0.0.1:9100"),
        (&["run", "lo", "--workers", "0"], "1..=64"),
        (&["run", "lo", "--workers", "65"], "1..=64"),
        (&["wire", "lo"], "<B>"),
        (&["wire", "a", "b", "c"], "'c'"),
        (&["show", "secrets"], "totals"),
        (&["trace", "--proto", "ucp"], "icmpv6"),
        (&["trace", "--src", "10.0.0.0/33"], "prefix length"),
        (&["trace", "--count", "0"], "--count"),
        (&["fly"], "fly"),
    ];
    for (args, part) in cases {
        let line = error(args, 2);
        assert!(line.contains(part) && line.contains("--help`"), "{args:?}: {line}");
    }
}

#[test]
fn conditions_and_ports_where_they_say_nothing_are_usage_errors() {
    let line = error(&["show", "totals", "d0"], 2);
    assert!(line.contains("show qdisc"), "{line}");
    let line = error(&["show", "totals", "--sport", "5"], 2);
    assert!(line.contains("show conntrack"), "{line}");
    let line = error(&["conntrack", "delete"], 2);
    assert!(line.contains("conntrack flush"), "{line}");
}

#[test]
fn wrong_ports_end_the_start_with_1() {
    for command in ["run", "wire", "check"] {
        let line = error(&[command, "nope0", "nope0"], 1);
        assert_eq!(line, "port nope0 is given twice: name each port once");
        let line = error(&[command, "lo", "nope0"], 1);
        assert!(
            line.starts_with("port nope0 does not exist in this network namespace: "),
            "{line}"
        );
    }
    let line = error(&["run", "a-name-far-too-long-for-an-interface"], 1);
    assert!(line.contains("does not exist"), "{line}");
}

#[test]
fn wrong_cpus_and_names_end_the_start_with_1() {
    let cases: &[(&[&str], &str)] = &[
        (&["--cpus", "8191"], "cpu 8191"),
        (&["--workers", "2", "--cpus", "0"], "--cpus names 1"),
        (&["--control", "a b"], "--control"),
    ];
    for (args, part) in cases {
        let line = error(&[&["run", "lo"], *args].concat(), 1);
        assert!(line.contains(part), "{args:?}: {line}");
    }
}

#[test]
fn a_control_socket_that_nobody_serves_is_explained() {
    // Somebody else may run one in this namespace, or tests of the socket.
    let asks = [
        &["show", "totals", "--control", "nobody"][..],
        &["show", "routes", "--json", "--control", "nobody"],
        &["trace", "--control", "nobody"],
    ];
    for ask in asks {
        let line = error(ask, 1);
        let none = "no bypath runs in this network namespace (control socket @bypath.nobody): start it with ";
        let other = "no bypath serves control socket @bypath.nobody in this network namespace, but one serves @bypath";
        assert!(line.starts_with(none) || line.starts_with(other), "{line}");
    }
}

#[test]
fn help_and_version_go_to_stdout_and_exit_0() {
    for (args, part) in [
        (&["--help"][..], "Examples:"),
        (&["run", "--help"], "--cpus <LIST>"),
        (&["show", "--help"], "latency"),
        (&["--version"], env!("CARGO_PKG_VERSION")),
    ] {
        let output = bypath(args);
        let stdout = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(0), "{args:?}");
        assert!(stdout.contains(part) && output.stderr.is_empty(), "{args:?}: {stdout}");
    }
    assert_eq!(bypath(&[]).status.code(), Some(2));
}

#[test]
fn help_that_cannot_be_written_exits_1() {
    for args in [&["--help"][..], &["run", "--help"], &["--version"]] {
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_bypath"));
        let output = command.args(args).stdout(full).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{args:?}: {stderr}");
        assert!(
            stderr.starts_with("bypath: error: cannot write the output"),
            "{args:?}: {stderr}"
        );
    }
}

#[test]
fn doctor_says_what_fails_and_exits_1() {
    let output = bypath(&["doctor", "lo", "nope0"]);
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stdout}");
    for line in stdout.lines() {
        assert!(
            ["ok ", "note ", "fail "].iter().any(|level| line.starts_with(level)),
            "{line}"
        );
    }
    assert!(
        stdout
            .lines()
            .any(|line| line.starts_with("fail  lo ") && line.contains("loopback")),
        "{stdout}"
    );
    assert!(stdout.lines().any(|line| line.starts_with("fail  nope0 ")), "{stdout}");
    assert!(String::from_utf8(output.stderr).unwrap().starts_with("bypath: error: "));
}

#[test]
fn doctor_for_scripts_has_the_same_findings() {
    let output = bypath(&["doctor", "lo", "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let rows: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let rows = rows.as_array().unwrap();
    let text = String::from_utf8(bypath(&["doctor", "lo"]).stdout).unwrap();
    assert_eq!(rows.len(), text.lines().count(), "{text}");
    let loopback = |row: &&serde_json::Value| row["subject"] == "lo";
    let row = rows.iter().find(loopback).unwrap();
    assert!(
        row["level"] == "fail" && row["what"].as_str().unwrap().contains("loopback") && row["fix"].is_string(),
        "{row}"
    );
}

#[test]
fn a_reader_that_closes_the_pipe_is_no_error() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_bypath"))
        .args(["doctor", "lo"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    // It may have written everything before the pipe closed, and then says that the loopback is no port; never a panic.
    assert!(
        stderr.is_empty() && output.status.success() || stderr.starts_with("bypath: error: 1 check"),
        "{stderr}"
    );
}
