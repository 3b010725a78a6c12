"""bench/pktgen against a tree of plain files that stands for /proc/net/pktgen: the very lines that it writes, what it
makes of pktgen's answers, one line for each error, and nothing left behind. pktgen itself was not run.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
RUN = os.path.join(HERE, "..", "run")
GIVEN = ["--dev", "p0", "--dst-mac", "02:00:00:00:00:01", "--dst", "10.2.0.2", "--seconds", "1"]

SHOWN = """Params: count 0  min_pkt_size: 60  max_pkt_size: 60
     frags: 0  delay: 0  clone_skb: 0  ifname: p0@{thread}
Current:
     pkts-sofar: {sent}  errors: {errors}
     started: 5000000us  stopped: {stopped}us idle: 25us
Result: OK: 1000000(c999975+d25) usec, {sent} (60byte,0frags)
  {sent}pps 480Mb/sec (480000000bps) errors: {errors}
"""


# In the kernel `stop` returns when all is counted; a file does not wait. So the time in which frames on their way arrive is,
# here, that in which the thread below has seen to it.
SLEEP = """#!/bin/sh
[ "$1" = drain ] || exec /bin/sleep "$@"
for _ in $(seq 600); do [ ! -e "$PKTGEN_PROC/../settled" ] || exit 0; /bin/sleep 0.05; done
exit 1
"""


class Tree:
    """The files, and a thread that does for pgctrl what the kernel does: at `start` frames arrive, at `stop` all is counted."""

    def __init__(self, threads=2, sent=1000, arrived=990, errors=3, microseconds=1_000_000):
        self.folder = tempfile.TemporaryDirectory()
        self.proc, self.sys = (os.path.join(self.folder.name, name) for name in ("pktgen", "net"))
        self.sent, self.arrived, self.errors, self.microseconds, self.threads = (
            sent,
            arrived,
            errors,
            microseconds,
            threads,
        )
        os.mkdir(self.proc)
        for thread in range(threads):
            self.write(f"{self.proc}/kpktgend_{thread}", "Running: \nStopped: \nResult: NA\n")
            self.write(f"{self.proc}/p0@{thread}", "Result: Idle\n")
        for port in ("p0", "p1"):
            os.makedirs(f"{self.sys}/{port}/statistics")
            self.write(f"{self.sys}/{port}/flags", "0x1003\n")
            self.write(f"{self.sys}/{port}/carrier", "1\n")
            self.write(f"{self.sys}/{port}/statistics/rx_packets", "50\n")
        self.write(f"{self.folder.name}/sleep", SLEEP)
        os.chmod(f"{self.folder.name}/sleep", 0o755)
        os.mkfifo(f"{self.proc}/pgctrl")
        self.controls, self.fifo = [], os.open(f"{self.proc}/pgctrl", os.O_RDWR)
        threading.Thread(target=self.control, daemon=True).start()

    @staticmethod
    def write(path, text):
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)

    def control(self):
        with open(self.fifo, encoding="utf-8") as file:
            for line in file:
                self.controls.append(line.strip())
                if line == "end\n":
                    return
                if line == "start\n":
                    self.write(f"{self.sys}/p1/statistics/rx_packets", f"{50 + self.arrived}\n")
                if line == "stop\n" and "stop" not in self.controls[:-1]:
                    for thread in range(self.threads):
                        with open(f"{self.proc}/p0@{thread}", "a", encoding="utf-8") as shown:
                            stopped = 5_000_000 + self.microseconds
                            shown.write(
                                SHOWN.format(thread=thread, sent=self.sent, errors=self.errors, stopped=stopped)
                            )
                    self.write(f"{self.folder.name}/settled", "")

    def written(self, name):
        """The lines that were written into a file, but for what stood there and what pktgen shows at the end."""
        with open(f"{self.proc}/{name}", encoding="utf-8") as file:
            text = file.read()
        return (
            text.partition("Result: Idle\n" if "@" in name else "Result: NA\n")[2].partition("Params:")[0].splitlines()
        )

    def environment(self):
        return {
            **os.environ,
            "PATH": f"{self.folder.name}:{os.environ['PATH']}",
            "PKTGEN_PROC": self.proc,
            "PKTGEN_SYS": self.sys,
            "PKTGEN_DRAIN": "drain",
        }

    def run(self, *arguments):
        return subprocess.run(
            [RUN, *GIVEN, *arguments], env=self.environment(), capture_output=True, text=True, timeout=60
        )

    def told(self, lines):
        """What was written into pgctrl, once there are so many lines."""
        for _ in range(200):
            if len(self.controls) >= lines:
                break
            time.sleep(0.05)
        return self.controls

    def close(self):
        self.write(f"{self.proc}/pgctrl", "end\n")
        self.folder.cleanup()


class WithTree(unittest.TestCase):
    def tree(self, **what):
        tree = Tree(**what)
        self.addCleanup(tree.close)
        return tree

    def good(self, tree, *arguments):
        ran = tree.run(*arguments)
        self.assertEqual(ran.returncode, 0, ran.stderr)
        return json.loads(ran.stdout)

    def bad(self, tree, wanted, *arguments, code=1):
        ran = tree.run(*arguments)
        self.assertEqual((ran.returncode, ran.stdout), (code, ""), ran.stderr)
        self.assertRegex(ran.stderr.splitlines()[0], f"^pktgen: error: {wanted}")
        if code == 1:
            self.assertEqual(ran.stderr.count("\n"), 1, ran.stderr)


class Lines(WithTree):
    def test_64_bytes_one_flow(self):
        tree = self.tree()
        self.good(tree)
        self.assertEqual(
            tree.written("p0@0"),
            [
                "count 0",
                "clone_skb 0",
                "dst_mac 02:00:00:00:00:01",
                "pkt_size 60",
                "dst_min 10.2.0.2",
                "dst_max 10.2.0.2",
                "udp_dst_min 9",
                "udp_dst_max 9",
                "udp_src_min 1024",
                "udp_src_max 1025",
                "flag QUEUE_MAP_CPU",
                "flag NO_TIMESTAMP",
            ],
        )
        self.assertEqual(tree.written("kpktgend_0"), ["add_device p0@0", "rem_device_all"])
        self.assertEqual(tree.written("kpktgend_1"), [])
        self.assertEqual(tree.told(3), ["start", "stop", "stop"])

    def test_imix_many_flows_two_threads_and_a_rate(self):
        tree = self.tree()
        flows = ["--flows", "40000", "--dsts", "20", "--order", "random"]
        self.good(tree, "--imix", *flows, "--threads", "2", "--rate", "100001", "--src", "10.1.0.2", "--dport", "53")
        for thread, low in ((0, 1024), (1, 2024)):
            self.assertEqual(
                tree.written(f"p0@{thread}")[2:],
                [
                    "dst_mac 02:00:00:00:00:01",
                    "imix_weights 60,7 590,4 1514,1",
                    "dst_min 10.2.0.2",
                    # Random addresses are below the last.
                    "dst_max 10.2.0.22",
                    "src_min 10.1.0.2",
                    "src_max 10.1.0.2",
                    "udp_dst_min 53",
                    "udp_dst_max 53",
                    f"udp_src_min {low}",
                    f"udp_src_max {low + 1000}",
                    "flag UDPSRC_RND",
                    "flag IPDST_RND",
                    "flag QUEUE_MAP_CPU",
                    "flag NO_TIMESTAMP",
                    "ratep 50001",
                ],
            )
            self.assertEqual(tree.written(f"kpktgend_{thread}"), [f"add_device p0@{thread}", "rem_device_all"])

    def test_flows_in_turn_are_all_pairs(self):
        tree = self.tree()
        found = self.good(tree, "--flows", "300", "--dsts", "100")
        # Three ports with a hundred addresses have no common divisor.
        self.assertIn("udp_src_max 1027", tree.written("p0@0"))
        self.assertIn("dst_max 10.2.0.101", tree.written("p0@0"))
        self.assertEqual(found["entries"][0]["work"]["flows"]["count"], 300)
        tree = self.tree()
        found = self.good(tree, "--flows", "400", "--dsts", "100")
        # Four have one, and so have five and six: it takes seven.
        self.assertIn("udp_src_max 1031", tree.written("p0@0"))
        self.assertEqual(found["entries"][0]["work"]["flows"]["count"], 700)

    def test_flows_of_a_length(self):
        tree = self.tree()
        self.good(tree, "--flows", "1000", "--dsts", "1000", "--flow-length", "8")
        lines = tree.written("p0@0")
        self.assertEqual(
            [line for line in lines if "flow" in line or "FLOW" in line], ["flows 1000", "flowlen 8", "flag FLOW_SEQ"]
        )
        self.assertIn("dst_max 10.2.3.233", lines)

    def test_ipv6_has_a_checksum_and_bursts_are_copies(self):
        tree = self.tree()
        self.good(tree, "--dst", "2001:db8::2", "--src", "2001:db8::1", "--size", "128", "--burst", "32")
        lines = tree.written("p0@0")
        self.assertEqual(
            lines[2:7],
            ["burst 32", "dst_mac 02:00:00:00:00:01", "pkt_size 124", "dst6 2001:db8::2", "src6 2001:db8::1"],
        )
        self.assertIn("flag UDPCSUM", lines)


class Reports(WithTree):
    def test_sent_by_all_threads_and_what_arrived(self):
        found = self.good(
            self.tree(arrived=1990), "--threads", "2", "--rx", "p1", "--case", "nat", "--subject", "bypath"
        )
        (entry,) = found["entries"]
        outcome = entry["outcome"]
        self.assertEqual((entry["case"], entry["subject"], found["kind"]), ("nat", "bypath", "send"))
        counts = [outcome[name] for name in ("offered", "refused", "received", "lost", "foreign", "seconds")]
        self.assertEqual(counts, [2000, 6, 1990, 10, 0, 1.0])
        self.assertEqual(entry["work"]["size"], {"bytes": 64})
        self.assertEqual(entry["work"]["rate"], "unpaced")
        self.assertEqual(outcome["notes"], [])

    def test_what_is_to_be_said(self):
        tree = self.tree(microseconds=500_000)
        (entry,) = self.good(tree, "--rate", "9000")["entries"]
        self.assertEqual(entry["work"]["rate"], {"paced": 9000.0})
        notes = " | ".join(entry["outcome"]["notes"])
        for wanted in (
            "stopped after 0.5 of 1 s",
            "sent 2000 frames a second of the 9000 asked for",
            "was not counted",
        ):
            self.assertIn(wanted, notes)
        self.assertEqual((entry["outcome"]["received"], entry["outcome"]["lost"]), (0, 0))

    def test_nothing_arrives(self):
        ran = self.tree(arrived=0).run("--rx", "p1")
        self.assertIn("pktgen: nothing arrives: cables, --dst-mac", ran.stderr)
        self.assertEqual(json.loads(ran.stdout)["entries"][0]["outcome"]["lost"], 1000)

    def test_into_a_file(self):
        tree = self.tree()
        path = os.path.join(tree.folder.name, "report.json")
        ran = tree.run("--out", path)
        self.assertEqual((ran.returncode, ran.stdout), (0, ""), ran.stderr)
        with open(path, encoding="utf-8") as file:
            self.assertEqual(json.load(file)["version"], 1)
        self.bad_place(tree)

    def bad_place(self, tree):
        ran = tree.run("--out", "/nowhere/report.json")
        self.assertEqual(ran.returncode, 1)
        self.assertRegex(
            ran.stderr, "pktgen: error: report /nowhere/report.json: No such file or directory: give another place"
        )


class Refused(WithTree):
    def test_options(self):
        tree = self.tree()
        for wanted, arguments in (
            ("--size 63: a whole number, 64 to 1518", ["--size", "63"]),
            ("--dst-mac 02:0: six pairs", ["--dst-mac", "02:0"]),
            ("--dst 10.2.0.256: no IPv4 address", ["--dst", "10.2.0.256"]),
            (
                "--dst 255.255.255.255: no IPv4 address from which 2",
                ["--dst", "255.255.255.255", "--flows", "2", "--dsts", "2"],
            ),
            ("--dst 2001:db8::2: .* give --src", ["--dst", "2001:db8::2", "--size", "128"]),
            ("--size 64: at least 82 with IPv6", ["--dst", "2001:db8::2", "--src", "2001:db8::1"]),
            ("--dsts 2: no more than", ["--dsts", "2"]),
            ("--flows 64512: at most 64511", ["--flows", "64512"]),
            ("--burst 4: .* leave out --flows", ["--burst", "4", "--flows", "2"]),
            ("--burst 4: .* leave out --imix", ["--burst", "4", "--imix"]),
            ("--flow-length: .* as many --dsts", ["--flow-length", "4", "--flows", "2"]),
            ("--latency: say with --rx", ["--latency"]),
            ("--rate 09: a whole number", ["--rate", "09"]),
            ("--order zipf: round-robin or random", ["--order", "zipf"]),
        ):
            self.bad(tree, wanted, *arguments)
        self.bad(tree, "--no: no such option", "--no", code=2)
        self.bad(tree, "--flows: its value is missing", "--flows", code=2)
        self.assertEqual((tree.controls, tree.written("kpktgend_0")), ([], []))

    def test_no_module(self):
        tree = self.tree()
        os.unlink(f"{tree.proc}/pgctrl")
        self.bad(tree, ".*/pktgen: the kernel has no pktgen: modprobe pktgen")
        Tree.write(f"{tree.proc}/pgctrl", "")

    def test_ports(self):
        tree = self.tree()
        Tree.write(f"{tree.sys}/p0/flags", "0x1002\n")
        self.bad(tree, "port p0: down: ip link set p0 up")
        Tree.write(f"{tree.sys}/p0/flags", "0x1003\n")
        Tree.write(f"{tree.sys}/p1/carrier", "0\n")
        self.bad(tree, "port p1: no link", "--rx", "p1")
        self.bad(tree, "port p9: not there", "--dev", "p9")

    def test_threads(self):
        tree = self.tree()
        self.bad(tree, ".*/kpktgend_2: no such thread: .* --threads", "--threads", "3", "--flows", "9")
        self.assertEqual(tree.written("kpktgend_1"), ["add_device p0@1", "rem_device_all"])
        Tree.write(f"{tree.proc}/kpktgend_0", "Running: \nStopped: eth7@0 \nResult: NA\n")
        self.bad(tree, "kpktgend_0 has eth7@0 already: .*echo reset")

    def test_what_pktgen_makes_another_number_of(self):
        tree = self.tree()
        Tree.write(f"{tree.proc}/p0@0", "Result: OK: udp_src_max=1025\n")
        self.good(tree)
        tree = self.tree()
        Tree.write(f"{tree.proc}/p0@0", "Result: OK: udp_src_max=0\n")
        self.bad(tree, 'p0@0: "udp_src_max 1025": pktgen made 0 of it')
        self.assertEqual(tree.told(1), ["stop"])

    def test_what_pktgen_refuses(self):
        tree = self.tree()
        Tree.write(f"{tree.proc}/p0@0", "Result: ERROR: node not possible\n")
        self.bad(tree, 'p0@0: "count 0": pktgen says: ERROR: node not possible')
        self.assertEqual(tree.told(1), ["stop"])
        # A file that no write succeeds on stands for a line that the kernel does not know.
        os.unlink(f"{tree.proc}/p0@0")
        os.symlink("/dev/full", f"{tree.proc}/p0@0")
        self.bad(tree, 'p0@0: "count 0": No space left on device')
        for line, wanted in (
            ("imix_weights 60,7", "5.15 or newer: give one --size"),
            ("burst 8", "leave out --burst"),
            ("add_device p0@0", "Ethernet, up"),
        ):
            script = f"PROC={tree.proc} SYS=/; source {HERE}/../proc.sh; put p0@0 '{line}'"
            ran = subprocess.run(["bash", "-c", script], capture_output=True, text=True)
            self.assertEqual((ran.returncode, ran.stderr.count("\n")), (1, 1))
            self.assertIn(wanted, ran.stderr)

    def test_an_error_at_the_end(self):
        tree = self.tree()
        tree.threads = 0
        ran = tree.run()
        self.assertEqual(ran.returncode, 1)
        self.assertRegex(ran.stderr, "^pktgen: error: p0@0: pktgen says: Idle\n$")


class Teardown(WithTree):
    def test_whatever_ends_it(self):
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            tree = self.tree()
            arguments = [RUN, *GIVEN, "--seconds", "60"]
            running = subprocess.Popen(
                arguments,
                env=tree.environment(),
                stderr=subprocess.PIPE,
                stdout=subprocess.PIPE,
                start_new_session=True,
            )
            for _ in range(200):
                if "start" in tree.controls:
                    break
                time.sleep(0.05)
            running.send_signal(number)
            out, _ = running.communicate(timeout=60)
            self.assertEqual((running.returncode, out), (130 if number == signal.SIGINT else 143, b""))
            self.assertEqual(tree.told(2), ["start", "stop"])
            self.assertEqual(tree.written("kpktgend_0"), ["add_device p0@0", "rem_device_all"])


class Receiver(unittest.TestCase):
    """The delays, over a veth pair in a namespace of its own."""

    def test_delays_over_a_veth(self):
        if os.geteuid() or subprocess.run(["unshare", "--net", "true"], capture_output=True).returncode:
            self.skipTest("it makes a network namespace, which needs root")
        live = ["unshare", "--net", sys.executable, os.path.join(HERE, "live.py")]
        ran = subprocess.run(live, capture_output=True, text=True, timeout=120)
        self.assertEqual(ran.returncode, 0, ran.stderr)
        found = json.loads(ran.stdout)
        # 100 frames of IPv4, 100 of IPv6, 50 of another port or without a time, 3 that come from the future.
        self.assertEqual(found["latency"]["count"], 200)
        self.assertEqual((found["early"], found["dropped"]), (3, 0))
        self.assertGreaterEqual(found["foreign"], 50)
        # They were stamped 5 ms before they were sent.
        self.assertGreaterEqual(found["latency"]["min_ns"], 5_000_000)
        self.assertLess(found["latency"]["p50_ns"], 1_000_000_000)

    def test_a_port_that_is_not_there(self):
        ran = subprocess.run(
            [sys.executable, os.path.join(HERE, "..", "receive"), "p77", "9"], capture_output=True, text=True
        )
        self.assertEqual((ran.returncode, ran.stderr.count("\n")), (1, 1))
        self.assertRegex(ran.stderr, "^pktgen: error: port p77: |^pktgen: error: .*root")
