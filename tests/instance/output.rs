//! What bypath says goes into a pipe that is closed, or that nobody reads: nothing of what it does may depend on that. And where
//! its control loop does not go on, whatever the reason, the kernel forwards, with the rules that came meanwhile.

use crate::lab::bypath::{BINARY, Bypath};
use crate::net::Net;
use std::io::{BufRead, BufReader, PipeWriter, Write, pipe};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// What a pipe holds; pipe(7).
const PIPE_BYTES: usize = 1 << 16;

const DROP: &str = "add table ip t\nadd chain ip t f { type filter hook forward priority 0; policy drop; }\n";

/// `bypath run d0 d1` with both streams into `output`, once both ports are open.
fn launch(net: &Net, output: &PipeWriter) -> Bypath {
    let stream = || Stdio::from(output.try_clone().expect("duplicate a pipe"));
    let words = ["run".into(), "d0".into(), "d1".into()];
    let bypath = Bypath::launch_with(&net.router, &words, [stream(), stream()]);
    let until = Instant::now() + Duration::from_secs(10);
    let is_up = |port: &serde_json::Value| port["state"] == "up";
    loop {
        let output = net.router.output(&format!("{BINARY} show ports --json"), "");
        let ports: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        if ports.as_array().is_some_and(|ports| ports.iter().all(is_up)) {
            return bypath;
        }
        assert!(Instant::now() < until, "the ports are not open: {ports}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Pings until they go through bypath.
#[track_caller]
fn assert_carries(net: &Net, bypath: &Bypath) {
    let until = Instant::now() + Duration::from_secs(5);
    loop {
        let before = bypath.totals().forwarded;
        let answered = net.ping(0, "10.0.1.2", 4);
        let forwarded = bypath.totals_at_rest().forwarded - before;
        if answered == 4 && forwarded >= 8 {
            return;
        }
        assert!(
            Instant::now() < until,
            "{answered} of 4 answered, {forwarded} forwarded"
        );
    }
}

/// The first thread, which is that of control, and no other is stopped until this is dropped. By ptrace from another process: who
/// waits for the end of bypath here would be told of the stop.
struct StoppedControl(Child);

const STOPPER: &str = "
import ctypes, os, sys
pid = int(sys.argv[1])
ptrace = ctypes.CDLL(None).ptrace
ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
SEIZE, INTERRUPT, WALL = 0x4206, 0x4207, 0x40000000
assert ptrace(SEIZE, pid, None, None) == 0 and ptrace(INTERRUPT, pid, None, None) == 0
os.waitpid(pid, WALL)
print('stopped', flush=True)
sys.stdin.read()
";

impl StoppedControl {
    fn stop(bypath: &Bypath) -> Self {
        let mut command = Command::new("python3");
        command.args(["-c", STOPPER, &bypath.pid().to_string()]);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3");
        let mut line = String::new();
        let said = child.stdout.take().expect("stdout is piped");
        BufReader::new(said).read_line(&mut line).expect("a line");
        assert_eq!(line, "stopped\n");
        Self(child)
    }
}

impl Drop for StoppedControl {
    fn drop(&mut self) {
        // Its end sets the thread free.
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

/// Gives bypath something to say: a port goes down and comes up.
fn disturb(net: &Net) {
    for state in ["down", "up"] {
        net.router.run(&format!("ip link set d1 {state}"));
        std::thread::sleep(Duration::from_millis(200));
    }
}

#[test]
fn a_closed_pipe_changes_nothing() {
    let net = Net::new(2);
    let (reader, writer) = pipe().expect("a pipe");
    drop(reader);
    let bypath = launch(&net, &writer);
    disturb(&net);
    assert_carries(&net, &bypath);
    bypath.stop();
    net.assert_nothing_left();
    assert_eq!(net.ping(0, "10.0.1.2", 2), 2, "the kernel does not forward again");
}

#[test]
fn a_pipe_that_nobody_reads_keeps_no_rule_from_its_place() {
    let net = Net::new(2);
    let (_reader, mut writer) = pipe().expect("a pipe");
    writer.write_all(&[b'.'; PIPE_BYTES]).expect("fill a pipe");
    let bypath = launch(&net, &writer);
    disturb(&net);
    assert_carries(&net, &bypath);
    net.router.run_with("nft -f -", DROP);
    // Long before the worker would leave all to the kernel, since it hears nothing of control.
    let until = Instant::now() + Duration::from_secs(2);
    while net.ping(0, "10.0.1.2", 1) > 0 {
        assert!(Instant::now() < until, "the firewall is not in force");
    }
    assert_eq!(net.ping(0, "10.0.1.2", 3), 0, "forwarded around a firewall");
    net.router.run("nft flush ruleset");
    net.ping_until(0, "10.0.1.2");
    bypath.stop();
    net.assert_nothing_left();
}

#[test]
fn control_that_does_not_go_on_leaves_all_to_the_kernel() {
    let net = Net::new(2);
    let bypath = net.bypath("--workers 2");
    assert_carries(&net, &bypath);
    let stopped = StoppedControl::stop(&bypath);
    net.router.run_with("nft -f -", DROP);
    std::thread::sleep(Duration::from_millis(4000));
    let until = Instant::now() + Duration::from_secs(6);
    while net.ping(0, "10.0.1.2", 1) > 0 {
        assert!(Instant::now() < until, "workers forward without control");
    }
    assert_eq!(net.ping(0, "10.0.1.2", 3), 0, "forwarded around a firewall");
    let before = bypath.totals_at_rest().received;
    net.router.run("nft flush ruleset");
    assert_eq!(net.ping(0, "10.0.1.2", 3), 3, "the kernel does not forward");
    assert_eq!(bypath.totals_at_rest().received, before);
    drop(stopped);
    bypath.wait_said("the kernel forwarded meanwhile");
    assert_carries(&net, &bypath);
    let said = bypath.said();
    assert!(!said.contains("stalls"), "{said}");
    net.assert_audit(&bypath);
    bypath.stop();
}
