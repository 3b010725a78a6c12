"""bench/trex/rfc2544 against a simulated TRex: what it finds is what was built in, and what it writes is a report."""

import importlib.machinery
import importlib.util
import json
import os
import stat
import subprocess
import sys
import tempfile
import unittest

import report
import stateless
from trex.stl.api import STLError

from rfc2544 import Plan, Run
from simulated import Client

HERE = os.path.dirname(os.path.abspath(__file__))
COMMAND = os.path.join(HERE, "..", "rfc2544")
loader = importlib.machinery.SourceFileLoader("trex_rfc2544", COMMAND)
command = importlib.util.module_from_spec(importlib.util.spec_from_loader("trex_rfc2544", loader))
loader.exec_module(command)

SMALL = ["--dst-mac", "02:00:00:00:00:01", "--seconds", "1", "--curve", "4", "--shares", "0.5,1"]


def measurement(client, *arguments):
    options = command.arguments([*SMALL, *arguments], stateless)
    return command.Measurement(client, stateless, options, sleep=client.sleep)


def measure(client, *arguments):
    made = measurement(client, *arguments)
    made.run()
    return made.report()


class Throughput(unittest.TestCase):
    def test_found_within_the_resolution(self):
        for capacity in (1_000_000, 5_555_555, 14_000_000):
            client = Client(capacity, queue=0)
            (found,) = measure(client, "--sizes", "64", "--resolution", "0.001")["rfc2544"]
            line = report.line_rate_pps(10e9, 64)
            self.assertLessEqual(found["throughput_pps"], capacity)
            self.assertGreaterEqual(found["throughput_pps"], 0.9989 * capacity)
            self.assertLessEqual(len(found["search"]), 16)
            self.assertEqual(found["search"][0][0], line if capacity > line else found["search"][0][0])

    def test_a_slow_device_is_known_as_exactly_as_a_fast_one(self):
        for capacity in (5_000, 70_000, 500_000):
            client = Client(capacity, queue=0)
            (found,) = measure(client, "--sizes", "64", "--max-rate", "148809523", "--curve", "0")["rfc2544"]
            self.assertTrue(0.994 * capacity <= found["throughput_pps"] <= capacity, found["throughput_pps"])
            self.assertLessEqual(len(found["search"]), 26)

    def test_no_rate_without_loss_is_said(self):
        (found,) = measure(Client(500, queue=0), "--sizes", "64", "--curve", "0")["rfc2544"]
        self.assertEqual((found["throughput_pps"], found["latency"]), (0, []))
        self.assertRegex(found["notes"][0], "no rate without loss: the lowest tried, 2000 frames a second, lost, too")

    def test_shares_below_the_least_rate_are_left_out(self):
        (found,) = measure(Client(3_000, queue=0), "--sizes", "64", "--curve", "0")["rfc2544"]
        self.assertEqual([share for share, _ in found["latency"]], [1])
        self.assertTrue(any("no delays at 0.5 of the throughput" in note for note in found["notes"]))

    def test_a_line_that_is_slower_than_what_is_measured(self):
        client = Client(100e6)
        (found,) = measure(client, "--sizes", "1518")["rfc2544"]
        self.assertAlmostEqual(found["throughput_pps"], 10e9 / 8 / 1538, delta=2)
        self.assertEqual(len(found["search"]), 1)
        self.assertEqual(found["notes"], [])

    def test_a_generator_that_is_slower_is_said(self):
        (found,) = measure(Client(100e6, generator_pps=3e6), "--sizes", "64")["rfc2544"]
        self.assertAlmostEqual(found["throughput_pps"], 3e6, delta=1)
        self.assertRegex(found["notes"][0], "the generator is the limit: 3000000 of 14880952")

    def test_accepted_loss(self):
        strict = measure(Client(1e6, queue=0), "--sizes", "64")["rfc2544"][0]["throughput_pps"]
        lax = measure(Client(1e6, queue=0), "--sizes", "64", "--loss", "0.1")["rfc2544"][0]["throughput_pps"]
        self.assertAlmostEqual(lax / strict, 1 / 0.9, delta=0.1)

    def test_noise_moves_it_no_further_than_the_noise(self):
        for seed in range(20):
            (found,) = measure(Client(5e6, noise=0.02, seed=seed), "--sizes", "64", "--curve", "0")["rfc2544"]
            self.assertTrue(4.8e6 < found["throughput_pps"] < 5.2e6, (seed, found["throughput_pps"]))

    def test_nothing_arrives(self):
        client = Client(1e6, dead=True)
        with self.assertRaisesRegex(report.Error, "nothing arrives of 14880952 frames of size 64: .*--dst-mac"):
            measure(client, "--sizes", "64,128,256", "--bursts", "50")
        self.assertEqual(len(client.trials), 1)


class Links(unittest.TestCase):
    def test_a_port_without_a_link_is_named_before_anything_is_sent(self):
        for port in (0, 1):
            client = Client(1e6, down=(port,))
            with self.assertRaisesRegex(report.Error, rf"TRex port {port} \(net_simulated\): its link is down: .*cable"):
                measure(client)
            self.assertEqual(client.calls, [])

    def test_one_that_goes_down_is_seen_by_trex(self):
        client = Client(1e6)
        made = measurement(client, "--sizes", "64")
        client.down = (0,)
        with self.assertRaisesRegex(STLError, "check the connection"):
            made.run()

    def test_no_rounding_is_beyond_the_wire(self):
        v6 = ["--src", "2001:db8::1", "--dst", "2001:db8::2"]
        for speed, more in ((1, []), (10, []), (100, []), (0.1, []), (10, v6), (10, ["--kind", "icmp"])):
            sizes = "64,65,127,333,1280,1518,imix"
            found = measure(Client(1e9, speed=speed), "--sizes", sizes, "--bursts", "1", "--curve", "3", *more)["rfc2544"]
            for one in found:
                size = one["size"] if one["size"] == "imix" else int(one["size"])
                wire = report.line_rate_pps(speed * 1e9, size)
                self.assertTrue(0.97 * wire < one["throughput_pps"] <= wire, (speed, size, one["throughput_pps"]))


class Ended(unittest.TestCase):
    """An error or Ctrl-C in the middle of it: what was measured is written, and says what is missing."""

    ARGUMENTS = ("--sizes", "64,128", "--bursts", "1")

    def written(self, after, error):
        said, client = [], Client(5e6, ends_after=(after, error))
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "report.json")
            with self.assertRaises(type(error)):
                report.kept(measurement(client, *self.ARGUMENTS), path, said.append)
            if not os.path.exists(path):
                return None
            self.assertEqual((os.listdir(folder), said), (["report.json"], [f"what was measured until then is in {path}"]))
            with open(path, encoding="utf-8") as file:
                return json.load(file)

    def test_what_is_there_is_kept(self):
        client = Client(5e6)
        whole = measure(client, *self.ARGUMENTS)
        self.assertFalse([note for note in whole["notes"] if note.startswith("ended in")])
        per_size = len(client.trials) // 2
        first = whole["rfc2544"][0]
        for error in (KeyboardInterrupt(), STLError("the server went away")):
            self.assertIsNone(self.written(0, error), "there is nothing to write")
            searching = self.written(3, error)
            self.assertEqual((len(searching["entries"]), searching["rfc2544"]), (3, []))
            self.assertIn("ended in throughput of size 64: that and what follows is missing", searching["notes"])
            (found,) = self.written(len(first["search"]) + 1, error)["rfc2544"]
            self.assertEqual((found["throughput_pps"], found["search"]), (first["throughput_pps"], first["search"]))
            self.assertEqual((found["latency"], found["loss_curve"]), ([], []))
            self.assertIn("ended in latency: what would have come from there on is missing", found["notes"])
            second = self.written(per_size + 2, error)
            self.assertEqual([second["rfc2544"][0]["back_to_back"], len(second["rfc2544"])], [first["back_to_back"], 1])
            self.assertIn("ended in throughput of size 128: that and what follows is missing", second["notes"])
            (found,) = self.written(per_size - 1, error)["rfc2544"]
            self.assertEqual((found["loss_curve"], found["back_to_back"]), (first["loss_curve"], []))
            self.assertIn("ended in back-to-back: what would have come from there on is missing", found["notes"])

    def test_where_it_shall_be_written_is_tried_at_the_start(self):
        with tempfile.TemporaryDirectory() as folder:
            old = os.path.join(folder, "old.json")
            with open(old, "w", encoding="utf-8") as file:
                file.write("of the run before")
            for path in (old, os.path.join(folder, "new.json"), "-", "/dev/null"):
                report.can_write(path)
            with open(old, encoding="utf-8") as file:
                self.assertEqual((os.listdir(folder), file.read()), (["old.json"], "of the run before"))
            for path, why in ((os.path.join(folder, "missing", "x.json"), "No such file"), (folder, "Is a directory")):
                with self.assertRaisesRegex(report.Error, f"report {path}: {why}.*: give another place with --out"):
                    report.can_write(path)


class Delays(unittest.TestCase):
    def test_whole_histogram(self):
        (found,) = measure(Client(5e6, delay_us=100), "--sizes", "64")["rfc2544"]
        (half, low), (all_of_it, high) = found["latency"]
        self.assertEqual((half, all_of_it), (0.5, 1))
        self.assertEqual(low["count"], 1000)
        self.assertTrue(100_000 <= low["min_ns"] <= low["p50_ns"] < 102_000, low["p50_ns"])
        self.assertGreaterEqual(high["p99_ns"], low["p99_ns"])
        self.assertTrue(low["hdr"].startswith("HISTFAAAA"))

    def test_coarse_steps_say_so_and_are_never_better(self):
        found = measure(Client(5e6, delay_us=123, hdrh=False), "--sizes", "64")
        (low, _) = found["rfc2544"][0]["latency"]
        self.assertEqual(low[1]["p50_ns"] // 1000, 200)
        self.assertTrue(any("start TRex with --hdrh" in note for note in found["entries"][-1]["outcome"]["notes"]))

    def test_no_timed_frames(self):
        (found,) = measure(Client(5e6), "--sizes", "64", "--latency-pps", "0")["rfc2544"]
        self.assertEqual(found["latency"], [])
        self.assertRegex(found["notes"][0], "no delays")


class Curve(unittest.TestCase):
    def test_falls_and_ends_after_two_without_loss(self):
        (found,) = measure(Client(7e6, queue=0), "--sizes", "64", "--curve", "10")["rfc2544"]
        rates, losses = zip(*found["loss_curve"])
        self.assertEqual(sorted(rates, reverse=True), list(rates))
        self.assertEqual(sorted(losses, reverse=True), list(losses))
        self.assertEqual([loss == 0 for loss in losses][-3:], [False, True, True])
        self.assertAlmostEqual(losses[0], 1 - 7e6 / report.line_rate_pps(10e9, 64), places=3)


class Bursts(unittest.TestCase):
    def test_longest_is_what_the_queue_takes(self):
        client = Client(1e6, queue=2000)
        (found,) = measure(client, "--sizes", "64", "--bursts", "3", "--curve", "0")["rfc2544"]
        # While a burst comes in, a part of it has left already.
        wanted = 2000 / (1 - 1e6 / report.line_rate_pps(10e9, 64))
        self.assertEqual(len(found["back_to_back"]), 3)
        for frames in found["back_to_back"]:
            self.assertAlmostEqual(frames / wanted, 1, delta=0.02)


class Trials(unittest.TestCase):
    def test_each_begins_with_clean_ports_and_ends_with_what_was_on_its_way(self):
        client = Client(1e6)
        measure(client, "--sizes", "64,imix")
        whole = ["reset", "promiscuous", "add_streams", "clear_stats", "start", "wait", "sleep", "get_stats"]
        self.assertEqual(client.calls, whole * (len(client.calls) // len(whole)))

    def test_rates_hold_the_timed_frames(self):
        client = Client(1e6)
        found = measure(client, "--sizes", "64", "--max-rate", "500000")
        self.assertEqual(found["entries"][0]["outcome"]["offered"], 500_000)
        self.assertEqual(found["entries"][0]["outcome"]["wanted_pps"], 500_000)
        self.assertEqual(client.trials[0], (500_000, 500_000))

    def test_foreign_frames_are_no_frames_of_ours(self):
        outcome = measure(Client(1e9, foreign=5), "--sizes", "64")["entries"][0]["outcome"]
        self.assertEqual((outcome["lost"], outcome["foreign"]), (0, 5))
        self.assertTrue(any("something else is on that wire" in note for note in outcome["notes"]))

    def test_errors_are_one_line(self):
        for wrong, arguments in (
            ("64 to 1518", ["--sizes", "63"]),
            ("hexadecimal", ["--dst-mac", "02:00"]),
            ("one family", ["--dst", "2001:db8::1"]),
            ("each above 0", ["--shares", "0,1"]),
            ("--seconds above 0", ["--seconds", "0"]),
            ("timed frames", ["--sizes", "64", "--max-rate", "900"]),
        ):
            with self.assertRaisesRegex(report.Error, wrong):
                measure(Client(1e6), *arguments)


class Report(unittest.TestCase):
    def test_as_bypath_reads_it(self):
        """tests/trade.rs reads this very file with bypath's own types."""
        found = measure(
            Client(5e6, noise=0.01), "--sizes", "64,imix", "--bursts", "1", "--flows", "1000", "--case", "nat"
        )
        self.assertEqual([(one["kind"], one["size"]) for one in found["rfc2544"]], [("udp", "64"), ("udp", "imix")])
        self.assertEqual(found["kind"], "rfc2544")
        for entry in found["entries"]:
            outcome = entry["outcome"]
            self.assertEqual(outcome["offered"], outcome["received"] + outcome["lost"])
            self.assertEqual(entry["work"]["flows"], {"count": 1000, "order": "round-robin", "new_per_second": 0})
            self.assertEqual(entry["work"]["dst_mac"], [2, 0, 0, 0, 0, 1])
        kept = os.path.join(HERE, "report.json")
        with open(kept, encoding="utf-8") as file:
            told = json.load(file)
        self.assertEqual(shape(told), shape(found), f"{kept} is not what is written now: make it anew")

    def test_a_full_disk_leaves_nothing(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "missing", "report.json")
            with self.assertRaisesRegex(report.Error, "No such file or directory: give another place with --out"):
                report.write(report.report("send", {}), path)
            self.assertEqual(os.listdir(folder), [])
        if stat.S_ISCHR(os.stat("/dev/full").st_mode):
            with self.assertRaisesRegex(report.Error, "report /dev/full: No space left on device: give another place"):
                report.write(report.report("send", {}), "/dev/full")

    def test_what_is_there_keeps_its_mode_and_no_other_file_is_touched(self):
        with tempfile.TemporaryDirectory() as folder:
            path, link = os.path.join(folder, "report.json"), os.path.join(folder, "link.json")
            others = [f"{path}.part", os.path.join(folder, ".report.json.part")]
            long = os.path.join(folder, "n" * 250)
            for name in (path, long, *others):
                with open(name, "w", encoding="utf-8") as file:
                    file.write("of the user")
            os.chmod(path, 0o640)
            os.symlink("report.json", link)
            for name in (link, long):
                report.can_write(name)
                report.write({"of": "this run"}, name)
                with open(name, encoding="utf-8") as file:
                    self.assertEqual(json.load(file), {"of": "this run"})
            self.assertTrue(os.path.islink(link))
            self.assertEqual(stat.S_IMODE(os.stat(path).st_mode), 0o640)
            for name in others:
                with open(name, encoding="utf-8") as file:
                    self.assertEqual(file.read(), "of the user")
            self.assertEqual(len(os.listdir(folder)), 5)

    def test_a_full_disk_leaves_the_report_before(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "report.json")
            report.write({"of": "the run before"}, path)
            program = f"import report, resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); " \
                f"resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0)); report.write({{'of': 'this run'}}, {path!r})"
            trade = os.path.dirname(os.path.abspath(report.__file__))
            ran = subprocess.run([sys.executable, "-B", "-c", program], cwd=trade, capture_output=True, text=True)
            self.assertRegex(ran.stderr, "report .*report.json: File too large: give another place")
            with open(path, encoding="utf-8") as file:
                self.assertEqual((json.load(file), os.listdir(folder)), ({"of": "the run before"}, ["report.json"]))

    def test_without_trex(self):
        for environment in ({}, {"TREX": "/nowhere"}):
            ran = subprocess.run(
                [sys.executable, COMMAND], env={**os.environ, "TREX": "", **environment}, capture_output=True, text=True
            )
            self.assertEqual(ran.returncode, 1)
            self.assertRegex(ran.stderr, r"^bench/trex/rfc2544: error: TREX?.*TREX?.*folder.*\n$|^.*t-rex-64 in it\n$")
            self.assertEqual(ran.stderr.count("\n"), 1)


class Searches(unittest.TestCase):
    def test_a_trial_that_offers_nothing_ends(self):
        class Silent:
            def send(self, size, rate, seconds):
                return report.outcome(rate, 0, seconds, 0)

        found = Run(Silent(), {"case": "route", "subject": "x", "flows": 1}, 64, 1e6, Plan(curve_steps=0)).run()
        self.assertEqual(found["throughput_pps"], 0)
        self.assertRegex(found["notes"][0], "the generator is the limit: 0 of 1000000")


def merged(shapes):
    """One shape of several that differ in what may be missing."""
    if all(isinstance(one, dict) for one in shapes):
        keys = [key for one in shapes for key in one]
        return {key: merged([one[key] for one in shapes if key in one]) for key in dict.fromkeys(keys)}
    if all(isinstance(one, list) for one in shapes):
        inner = [part for one in shapes for part in one]
        return [merged(inner)] if inner else []
    kinds = sorted({str(one) for one in shapes if one != "NoneType"})
    return kinds[0] if len(kinds) == 1 else kinds


def shape(value):
    """The members and kinds of a report, without its numbers."""
    if isinstance(value, dict):
        return {key: shape(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [merged([shape(inner) for inner in value])] if value else []
    return "number" if isinstance(value, (int, float)) and not isinstance(value, bool) else type(value).__name__
