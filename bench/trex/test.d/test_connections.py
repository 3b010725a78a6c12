"""The profile of bench/trex/connections.py: addresses, what both ends do, rates."""

import unittest

import connections


def profile(*tunables):
    return connections.register().get_profile(tunables=tunables).to_json()


def names(found, end):
    return [command["name"] for command in found["program_list"][end]["commands"]]


class Profile(unittest.TestCase):
    def test_addresses_and_rate(self):
        found = profile("--cps", "250000", "--clients", "10.0.0.1-10.0.3.254", "--servers", "10.9.0.1", "--port", "443")
        client, server = found["ip_gen_dist_list"]
        self.assertEqual((client["ip_start"], client["ip_end"], client["dir"]), ("10.0.0.1", "10.0.3.254", "c"))
        self.assertEqual((server["ip_start"], server["ip_end"], server["dir"]), ("10.9.0.1", "10.9.0.1", "s"))
        (template,) = found["templates"]
        self.assertEqual((template["client_template"]["cps"], template["client_template"]["port"]), (250000, 443))
        self.assertNotIn("limit", template["client_template"])
        self.assertEqual(template["server_template"]["assoc"], [{"port": 443}])

    def test_tcp_asks_and_answers(self):
        found = profile("--request", "100", "--response", "200", "--hold-us", "50")
        self.assertEqual(names(found, 0), ["tx", "rx"])
        self.assertEqual(names(found, 1), ["rx", "delay", "tx"])
        self.assertEqual(found["program_list"][0]["commands"][1]["min_bytes"], 200)
        self.assertEqual(found["program_list"][1]["commands"][0]["min_bytes"], 100)
        self.assertEqual(found["program_list"][1]["commands"][1]["usec"], 50)

    def test_udp_asks_and_answers(self):
        found = profile("--kind", "udp", "--limit", "64")
        self.assertEqual((names(found, 0), names(found, 1)), (["tx_msg", "rx_msg"], ["rx_msg", "tx_msg"]))
        self.assertTrue(all(program["stream"] is False for program in found["program_list"]))
        self.assertEqual(found["templates"][0]["client_template"]["limit"], 64)

    def test_what_cannot_be(self):
        for wrong, tunables in (
            ("at least 0.5", ["--cps", "0.1"]),
            ("at least a byte", ["--request", "0"]),
            ("two IPv4 addresses", ["--clients", "here"]),
            ("before the first", ["--servers", "10.0.0.9-10.0.0.1"]),
        ):
            with self.assertRaisesRegex(ValueError, wrong):
                profile(*tunables)
