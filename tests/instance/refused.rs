//! What an operator can get wrong at the start: one line that says what, where, and what to do, and exit code 1.
//!
//! Where the words are ours alone the whole line is compared, since scripts and people rely on it; where the kernel or the
//! link adds some, the words that name the place and the remedy.

use crate::lab::bypath::BINARY;
use crate::net::Net;

/// Runs `bypath WORDS`, which must end with 1 and this one line.
#[track_caller]
fn assert_refused(net: &Net, words: &str, line: &str) {
    let (code, said) = net.command(words);
    assert_eq!((code, said.trim_end()), (Some(1), line), "`bypath {words}`");
}

#[test]
fn ports_that_cannot_be() {
    let net = Net::new(2);
    assert_refused(
        &net,
        "run d0 d7",
        "bypath: error: port d7 does not exist in this network namespace: `ip -br link` lists what there is",
    );
    assert_refused(
        &net,
        "run d0 d0",
        "bypath: error: port d0 is given twice: name each port once",
    );
    net.router.run("ip link property add dev d0 altname other");
    assert_refused(
        &net,
        "run d0 other",
        "bypath: error: port other is given twice: name each port once",
    );
    net.router.run("ip tuntap add t0 mode tun");
    net.router.run("ip link set t0 up");
    let (code, said) = net.command("run d0 t0");
    assert_eq!(code, Some(1), "{said}");
    assert_one_line(&said, &["port t0 cannot be used", "Ethernet"]);
    net.router.run("ip link set d1 mtu 9000");
    let (code, said) = net.command("run d0 d1");
    assert_eq!(code, Some(1), "{said}");
    assert_one_line(&said, &["port d1 cannot be used", "9000", "ip link set d1 mtu"]);
    net.router.run("ip link set d1 mtu 1500");
    net.assert_nothing_left();
    // After all that was refused, it starts.
    net.bypath("").stop();
}

/// One line of error, with all these words; lines on ports that wait may come before.
fn assert_one_line(said: &str, words: &[&str]) {
    let errors: Vec<&str> = said
        .lines()
        .filter(|line| line.starts_with("bypath: error: "))
        .collect();
    assert_eq!(errors.len(), 1, "{said}");
    assert!(!said.contains("panicked"), "{said}");
    for word in words {
        assert!(errors[0].contains(word), "`{word}` is not in: {}", errors[0]);
    }
}

#[test]
fn a_second_instance_in_the_namespace() {
    let net = Net::new(3);
    let first = crate::lab::bypath::Bypath::start(&net.router, &["d0".into(), "d1".into()], &[]);
    let line = format!(
        "bypath: error: another bypath runs in this network namespace (the device bypath0 exists): stop it first, `kill {}`",
        first.pid()
    );
    assert_refused(&net, "run d0 d1", &line);
    assert_refused(&net, "run d2 --control other", &line);
    net.ping_until(0, "10.0.1.2");
    let before = first.totals_at_rest().forwarded;
    assert_eq!(net.ping(0, "10.0.1.2", 3), 3);
    assert!(first.totals_at_rest().forwarded >= before + 6);
    first.stop();
    net.assert_nothing_left();
}

#[test]
fn an_instance_under_another_name_is_named() {
    let net = Net::new(2);
    let bypath =
        crate::lab::bypath::Bypath::start(&net.router, &["d0".into(), "d1".into()], &["--control=left".into()]);
    let line = "bypath: error: no bypath serves control socket @bypath in this network namespace, but one serves @bypath.left: ask with --control left";
    assert_refused(&net, "show totals", line);
    let (code, said) = net.command("show totals --control left");
    assert_eq!(code, Some(0), "{said}");
    let (code, said) = net.command("doctor d0");
    assert_eq!(code, Some(1), "{said}");
    let words = format!(
        "a bypath runs in this network namespace (@bypath.left): stop it first, `kill {}`",
        bypath.pid()
    );
    assert!(
        said.contains(&words) && said.contains("that of the running bypath most likely"),
        "{said}"
    );
    bypath.stop();
    let _other = net.router.run("ip tuntap add bypath0 mode tap");
    let (code, said) = net.command("doctor d0");
    assert!(
        code == Some(1) && said.contains("(the device bypath0 exists)"),
        "{said}"
    );
}

#[test]
fn missing_capabilities() {
    let net = Net::new(2);
    for (drop, named) in [
        ("cap_net_raw", "CAP_NET_RAW"),
        ("cap_net_admin", "CAP_NET_ADMIN"),
        ("cap_bpf,cap_sys_admin", "CAP_BPF"),
        ("cap_net_admin,cap_net_raw", "CAP_NET_ADMIN, CAP_NET_RAW"),
    ] {
        // The words of a command line are split at spaces: the program for the shell comes on its stdin.
        let output = net.router.output(
            &format!("capsh --drop={drop} --"),
            &format!("exec {BINARY} run d0 d1\n"),
        );
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        let names = named.replace(", ", ",").to_lowercase();
        let line = format!(
            "bypath: error: missing {named} in this process: run bypath as root, or with `setcap {names}+ep` on its binary"
        );
        assert_eq!(said.trim_end(), line);
    }
}

#[test]
fn commands_without_an_instance() {
    let net = Net::new(2);
    for words in ["show totals", "trace"] {
        let (code, said) = net.command(words);
        assert_eq!(code, Some(1), "{said}");
        assert_one_line(&said, &["no bypath runs in this network namespace"]);
    }
}
