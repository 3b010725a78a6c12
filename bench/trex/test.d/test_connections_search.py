"""bench/trex/connections-search against a simulated TRex: what it finds is what was built in, and what it writes is a report.

The simulated client has the members of TRex' ASTFClient that the command uses. What is measured opens so many connections a second and
has room for some more; the others are never opened.
"""

import importlib.machinery
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import unittest

import connections
import report
import trex.astf.api as api
from trex.astf.api import TRexError, TRexTimeoutError

HERE = os.path.dirname(os.path.abspath(__file__))
COMMAND = os.path.join(HERE, "..", "connections-search")
loader = importlib.machinery.SourceFileLoader("trex_connections_search", COMMAND)
command = importlib.util.module_from_spec(importlib.util.spec_from_loader("trex_connections_search", loader))
loader.exec_module(command)


class Client:
    def __init__(self, capacity, room=0, generator=float("inf"), down=(), hangs=None, ends_after=None, counts=None):
        self.capacity, self.room, self.generator, self.down, self.hangs = capacity, room, generator, down, hangs
        self.ends_after, self.counts = ends_after, counts or {}
        self.calls, self.rates, self.profile, self.slept = [], [], None, 0

    def get_port_info(self, ports):
        return [{"driver": "net_simulated", "link": "DOWN" if port in self.down else "UP"} for port in ports]

    def get_server_version(self):
        return {"version": "v0.0"}

    def load_profile(self, profile):
        self.profile = profile.to_json()

    def clear_stats(self):
        self.calls.append("clear_stats")

    def start(self, mult, duration):
        self.calls.append("start")
        if self.ends_after is not None and len(self.rates) >= self.ends_after[0]:
            raise self.ends_after[1]
        rate = min(mult * self.profile["templates"][0]["client_template"]["cps"], self.generator)
        self.rates.append(rate)
        asked = round(rate * duration)
        opened = min(asked, int(self.capacity * duration) + self.room)
        client = {"tcps_connattempt": asked, "tcps_connects": opened, "udps_connects": asked, "udps_rcvpkt": opened}
        # TRex leaves out what is 0.
        self.stats = {"client": {k: v for k, v in client.items() if v}, "server": {}}
        for name, value in self.counts.items():
            self.stats["client"][name] = value(rate) if callable(value) else value
        self.stats["client"] = {k: v for k, v in self.stats["client"].items() if v}

    def wait_on_traffic(self, timeout):
        self.calls.append("wait")
        if self.hangs is not None and self.rates[-1] > self.hangs:
            raise TRexTimeoutError(timeout)

    def get_traffic_stats(self):
        self.calls.append("stats")
        return self.stats

    def is_traffic_stats_error(self, stats):
        wrong = {name: "told by TRex" for name in stats["client"] if name.startswith("err_") or name == "tcps_drops"}
        return bool(wrong), {"client": wrong, "server": {}}

    def stop(self):
        self.calls.append("stop")

    def sleep(self, seconds):
        self.slept += seconds


def measurement(client, *arguments):
    options = command.arguments([*arguments], connections)
    return command.Measurement(client, api, connections, options, sleep=client.sleep)


def measure(client, *arguments):
    made = measurement(client, *arguments)
    made.run()
    return made.report()


class Search(unittest.TestCase):
    def test_found_within_the_resolution(self):
        for capacity in (1_500, 40_000, 333_333, 1_900_000):
            for kind in ("tcp", "udp"):
                client = Client(capacity)
                (found,) = measure(client, "--kind", kind, "--resolution", "0.01")["rfc2544"]
                self.assertEqual(found["kind"], {"tcp": "tcp-syn", "udp": "udp"}[kind])
                self.assertTrue(0.989 * capacity <= found["throughput_pps"] <= capacity, (kind, capacity, found))
                # From below: nothing was asked for beyond the first rate that failed.
                self.assertLess(max(client.rates), 2.01 * capacity)
                self.assertLessEqual(len(client.rates), 20)
                self.assertEqual(client.slept, 10 * sum(part > 0 for _, part in found["search"]))

    def test_the_ends_of_the_range_are_said(self):
        (found,) = measure(Client(100))["rfc2544"]
        self.assertEqual(found["throughput_pps"], 0)
        self.assertRegex(found["notes"][0], "no rate without failures: of the lowest, 1000 a second")
        (found,) = measure(Client(1e9), "--max-cps", "50000")["rfc2544"]
        self.assertEqual(found["throughput_pps"], 50_000)
        self.assertRegex(found["notes"][0], "none failed at 50000 a second, the highest rate to try")
        (found,) = measure(Client(1e9, generator=77_000))["rfc2544"]
        self.assertEqual(found["throughput_pps"], 77_000)
        self.assertRegex(found["notes"][0], "TRex is the limit: it asked for 77000 of 128000")

    def test_accepted_failures(self):
        (found,) = measure(Client(90_000), "--loss", "0.1", "--resolution", "0.001")["rfc2544"]
        self.assertAlmostEqual(found["throughput_pps"] / 100_000, 1, delta=0.002)
        self.assertIn("up to 0.1 of the connections were allowed to fail", found["notes"])

    def test_what_is_dropped_later_and_errors_of_trex_fail(self):
        for name in ("tcps_drops", "err_flow_overflow"):
            client = Client(1e9, counts={name: lambda rate: 3 if rate > 20_000 else 0})
            found = measure(client, "--resolution", "0.01")
            self.assertAlmostEqual(found["rfc2544"][0]["throughput_pps"] / 20_000, 1, delta=0.011)
            notes = [note for entry in found["entries"] for note in entry["outcome"]["notes"]]
            self.assertIn(f"TRex, client: {name} 3 (told by TRex)", notes)

    def test_segments_that_are_sent_again_are_said_and_fail_nothing(self):
        found = measure(Client(1e9, counts={"tcps_sndrexmitpack": 5}), "--max-cps", "4000")
        self.assertEqual(found["rfc2544"][0]["throughput_pps"], 4_000)
        self.assertEqual(found["entries"][0]["outcome"]["notes"], ["5 segments were sent again"])

    def test_connections_that_do_not_end_are_cut_off_after_they_were_counted(self):
        client = Client(1e9, hangs=0)
        found = measure(client, "--max-cps", "1000")
        self.assertEqual(client.calls, ["clear_stats", "start", "wait", "stats", "stop"])
        self.assertIn("still open 60 s after", found["entries"][0]["outcome"]["notes"][0])
        # All were opened, and none was dropped: it has failed nevertheless.
        self.assertEqual(found["entries"][0]["outcome"]["lost"], 0)
        self.assertEqual(found["rfc2544"][0]["throughput_pps"], 0)
        self.assertRegex(found["rfc2544"][0]["notes"][0], "no rate without failures: of the lowest, 1000 a second")

    def test_a_rate_at_which_connections_do_not_end_has_not_passed(self):
        for kind in ("tcp", "udp"):
            for accepted in ("0", "0.5"):
                client = Client(1e9, hangs=20_000)
                arguments = ("--kind", kind, "--loss", accepted, "--resolution", "0.01")
                (found,) = measure(client, *arguments)["rfc2544"]
                self.assertAlmostEqual(found["throughput_pps"] / 20_000, 1, delta=0.011)
                # After each that failed it is left alone.
                self.assertEqual(client.slept, 10 * sum(rate > 20_000 for rate in client.rates))


class Ended(unittest.TestCase):
    def test_nothing_is_opened(self):
        client = Client(0)
        with self.assertRaisesRegex(report.Error, "none of 10000 connections was opened: .*the way back"):
            measure(client)
        self.assertEqual(len(client.rates), 1)

    def test_a_port_without_a_link(self):
        for port in (0, 1):
            with self.assertRaisesRegex(report.Error, rf"TRex port {port} \(net_simulated\): its link is down"):
                measure(Client(1e6, down=(port,)))

    def test_what_is_there_is_kept(self):
        for error in (KeyboardInterrupt(), TRexError("the server went away")):
            with tempfile.TemporaryDirectory() as folder:
                path, said = os.path.join(folder, "report.json"), []
                client = Client(1e6, ends_after=(3, error))
                with self.assertRaises(type(error)):
                    report.kept(measurement(client), path, said.append)
                with open(path, encoding="utf-8") as file:
                    told = json.load(file)
                self.assertEqual((len(told["entries"]), told["rfc2544"]), (3, []))
                self.assertIn("ended while searching: the rate is not known", told["notes"])

    def test_errors_are_one_line(self):
        for wrong, arguments in (
            ("less than the lowest rate", ["--max-cps", "10"]),
            ("--seconds above 0", ["--seconds", "0"]),
            ("at least a byte", ["--request", "0"]),
            ("two IPv4 addresses", ["--clients", "here"]),
        ):
            with self.assertRaisesRegex(report.Error, wrong):
                measure(Client(1e6), *arguments)

    def test_without_trex(self):
        ran = subprocess.run(
            [sys.executable, COMMAND], env={**os.environ, "TREX": "/nowhere"}, capture_output=True, text=True
        )
        self.assertEqual((ran.returncode, ran.stderr.count("\n")), (1, 1))
        self.assertRegex(ran.stderr, "^bench/trex/connections-search: error: TREX=/nowhere: no TRex there")


class Report(unittest.TestCase):
    def test_as_bypath_reads_it(self):
        """tests/trade.rs reads this very file with bypath's own types."""
        found = measure(Client(345_000), "--case", "nat")
        kept = os.path.join(HERE, "connections.json")
        with open(kept, encoding="utf-8") as file:
            told = json.load(file)
        for key in ("entries", "rfc2544", "notes", "kind", "version"):
            self.assertEqual(told[key], found[key], f"{kept} is not what is written now: make it anew")
