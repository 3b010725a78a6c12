//! What cannot be measured, and what is wrong with a measurement: one line each, that names the remedy.

use crate::lab::namespace::Namespace;
use crate::net::{Between, bench, outcome, plain, refusal};
use std::time::{Duration, Instant};

#[test]
fn ports_that_cannot_be_are_named() {
    let here = plain();
    let starts = |words: &str, code: i32, wanted: &str| {
        let line = refusal(&here, words, code);
        assert!(line.starts_with(&format!("bypath: error: {wanted}")), "{words}: {line}");
    };
    starts("--port x0 --port nosuch0", 1, "nosuch0: there is no interface nosuch0");
    starts(
        "--port x0 --port nosuch:y0",
        1,
        "nosuch:y0: there is no network namespace nosuch",
    );
    starts("--port x0 --port x0", 1, "x0 and x0 are one port");
    starts("--port x0 --port lo", 1, "lo carries no Ethernet frames");
    starts("--port x0", 2, "--port is given 1 times");
    starts("--port x0 --port y0 --rate fast", 2, "invalid value 'fast'");
    starts(
        "--port x0 --port y0 --src 10.0.0.1 --dst fd00::1",
        1,
        "--src 10.0.0.1 and --dst fd00::1 are to be of one family",
    );
    starts("--port x0 --port y0 --cpus 4095", 1, "CPU 4095 cannot be used");
}

#[test]
fn a_link_that_is_down_is_named_with_the_command_that_helps() {
    let here = plain();
    here.run("ip link set y0 down");
    let line = refusal(&here, "--port x0 --port y0", 1);
    assert!(line.contains("y0 is down: `ip link set y0 up`"), "{line}");
    here.run("ip link set y0 up");
    here.run("ip link set x0 down");
    let line = refusal(&here, "--port x0 --port y0", 1);
    assert!(
        line.contains("y0 has no carrier") || line.contains("x0 is down"),
        "{line}"
    );
}

/// Waits until the bench has its program on y0, and a second more for frames to be sent.
fn wait_for_program(here: &Namespace) {
    let until = Instant::now() + Duration::from_secs(10);
    while !here.run("ip link show y0").contains("xdp") {
        assert!(Instant::now() < until, "no XDP program comes");
        std::thread::sleep(Duration::from_millis(20));
    }
    std::thread::sleep(Duration::from_secs(1));
}

#[test]
fn a_link_that_goes_down_while_frames_are_sent_is_named() {
    let here = plain();
    let said = std::thread::scope(|scope| {
        let running = scope.spawn(|| bench(&here, "--port x0 --port y0 --rate 1k --seconds 8 --no-own-error"));
        wait_for_program(&here);
        here.run("ip link set y0 down");
        running.join().expect("bench")
    });
    assert_eq!(said.code, Some(1), "{}{}", said.stdout, said.stderr);
    assert!(
        said.stderr.contains("is down") || said.stderr.contains("no carrier"),
        "{}",
        said.stderr
    );
}

#[test]
fn a_receiver_that_sees_nothing_says_where_to_look() {
    let net = Between::routed();
    // To nobody's address: the router does not take the frames.
    let flags = net
        .by_router()
        .replace("--dst-mac", "--dst-mac 02:00:00:00:00:77 --src-mac");
    let line = refusal(&net.client, &format!("{flags} --rate 1k --seconds 1 --no-own-error"), 1);
    assert!(
        line.contains("received none of the ") && line.contains("02:00:00:00:00:77 (--dst-mac)"),
        "{line}"
    );
    assert!(line.contains("10.2.0.2 (--dst)"), "{line}");
}

#[test]
fn a_receiver_that_sees_nothing_is_given_up_soon() {
    let net = Between::bridged();
    net.rules("table bridge t {\n chain f { type filter hook forward priority 0\n drop\n }\n}\n");
    let began = std::time::Instant::now();
    refusal(
        &net.client,
        &format!("{} --rate 1k --seconds 600 --no-own-error", net.ports()),
        1,
    );
    assert!(began.elapsed().as_secs() < 60, "ten minutes of nothing were measured");
}

#[test]
fn a_rate_that_is_not_reached_is_said() {
    let here = plain();
    let of = outcome(&here, "--port x0 --port y0 --rate 900m --seconds 1 --sink count");
    assert!(
        of.notes.iter().any(|note| note.contains("the rate was not reached")),
        "{of:?}"
    );
    assert!(of.offered_pps() < 9e8 && of.wanted_pps == Some(9e8));
}

#[test]
fn a_full_disk_is_said_and_the_table_was_printed() {
    let here = plain();
    let words = "--port x0 --port y0 --rate 1k --seconds 0.3 --no-own-error --json /dev/full";
    let said = bench(&here, words);
    assert_eq!(said.code, Some(1));
    let errors: Vec<&str> = said
        .stderr
        .lines()
        .filter(|line| line.starts_with("bypath: error:"))
        .collect();
    assert!(
        errors.len() == 1 && errors[0].contains("/dev/full") && errors[0].contains("No space left"),
        "{errors:?}"
    );
    assert!(
        said.stdout.contains("x0 to y0"),
        "what was measured is gone: {}",
        said.stdout
    );
    let line = refusal(&here, &words.replace("/dev/full", "/no/such/folder/x"), 1);
    assert!(line.contains("/no/such/folder/x"), "{line}");
}

#[test]
fn a_port_with_another_program_is_left_alone() {
    let here = plain();
    let first: &Namespace = &here;
    let said = std::thread::scope(|scope| {
        let running = scope.spawn(|| bench(first, "--port x0 --port y0 --rate 1k --seconds 8 --no-own-error"));
        wait_for_program(first);
        let line = refusal(
            first,
            "--port x0 --port y0 --rate 1k --seconds 1 --no-own-error --sink count",
            1,
        );
        assert!(line.contains("y0 has another XDP program"), "{line}");
        running.join().expect("bench")
    });
    assert_eq!(said.code, Some(0), "the first was disturbed: {}", said.stderr);
}
