"""The frames of bench/trex/stateless.py: addresses, sizes, flows, checksums, rates."""

import itertools
import unittest

import stateless
import trex.stl.api as api
from engine import frames, packet, program, right
from scapy.all import ICMP, IP, TCP, UDP, Ether, ICMPv6EchoRequest, IPv6

MAC = "02:00:00:00:00:01"
V6 = ["--src", "2001:db8::1", "--dst", "2001:db8:1::1"]


def options(*arguments):
    return stateless.parser().parse_args(["--dst-mac", MAC, *arguments])


def streams(*arguments):
    found = options(*arguments)
    return stateless.streams(found, found.size if found.size == "imix" else int(found.size))


def sent(stream, count):
    """Frames with all checksums as a receiver wants them; what is not right fails."""
    found = []
    for frame in frames(stream, count, api):
        assert frame == right(frame), f"a checksum is wrong: {Ether(frame)!r}"
        found.append(Ether(frame))
    return found


def flow(of):
    ip = of[IP] if IP in of else of[IPv6]
    if ICMP in of:
        return ip.src, ip.dst, of[ICMP].id
    if ICMPv6EchoRequest in of:
        return ip.src, ip.dst, of[ICMPv6EchoRequest].id
    l4 = of[UDP] if UDP in of else of[TCP]
    return ip.src, ip.dst, l4.sport, l4.dport


class Frames(unittest.TestCase):
    def test_one_flow_is_as_asked_for(self):
        main, timed = streams("--src", "10.0.0.7", "--dst", "10.1.0.8", "--sport", "2000", "--dport", "53")
        got = sent(main, 1)[0]
        self.assertEqual((got.dst, got[IP].src, got[IP].dst), (MAC, "10.0.0.7", "10.1.0.8"))
        self.assertEqual((got[UDP].sport, got[UDP].dport, got[IP].ttl), (2000, 53, 64))
        self.assertEqual(program(main), [])
        self.assertFalse(main.fields["flow_stats"]["enabled"])
        self.assertEqual(timed.fields["flow_stats"]["stream_id"], stateless.LATENCY_GROUP)
        self.assertEqual(timed.fields["mode"]["rate"], {"type": "pps", "value": 1000})

    def test_sizes_leave_out_the_frame_check_sequence(self):
        for kind, size, family in itertools.product(("udp", "tcp-syn", "icmp"), (64, 128, 1518), ([], V6)):
            main = streams("--kind", kind, "--size", str(size), *family)[0]
            got = sent(main, 1)[0]
            # TCP over IPv6 alone is longer than the smallest frame.
            wanted = max(size - 4, 74 if kind == "tcp-syn" and family else 0, 62 if family else 0)
            self.assertEqual(len(got), wanted, (kind, size, family))

    def test_a_syn_is_one(self):
        got = sent(streams("--kind", "tcp-syn")[0], 1)[0]
        self.assertEqual((str(got[TCP].flags), got[TCP].dport), ("S", 9))

    def test_imix_is_seven_four_one(self):
        found = streams("--size", "imix", "--latency-pps", "0")
        self.assertEqual([len(packet(stream)) for stream in found], [60, 590, 1514])
        self.assertEqual([stream.fields["mode"]["rate"]["value"] for stream in found], [7, 4, 1])

    def test_timed_frames_have_room_for_the_time(self):
        for arguments in ([], ["--kind", "tcp-syn"], ["--kind", "icmp"], V6, [*V6, "--kind", "icmp"]):
            timed = streams(*arguments)[-1]
            got = Ether(bytes(packet(timed)))
            self.assertGreaterEqual(len(got[UDP].payload), stateless.TIMED_BYTES, arguments)

    def test_no_frame_is_timed_where_none_shall_be(self):
        self.assertEqual(len(streams("--latency-pps", "0")), 1)


class Flows(unittest.TestCase):
    def distinct(self, count, *arguments):
        """Sends so many frames twice: the second time none is new, the first time none came twice."""
        stream = streams("--flows", str(count), *arguments)[0]
        found = [flow(one) for one in sent(stream, 2 * count)]
        self.assertEqual(len(set(found[:count])), count, arguments)
        self.assertEqual(found[count:], found[:count], arguments)
        return found[:count]

    def test_few_flows_differ_by_port(self):
        for kind, family in itertools.product(("udp", "tcp-syn", "icmp"), ([], V6)):
            found = self.distinct(300, "--kind", kind, *family)
            self.assertEqual(sorted(one[2] for one in found), list(range(1024, 1324)), kind)
            self.assertEqual(len({one[:2] for one in found}), 1)

    def test_destinations_follow_each_other(self):
        for kind, family in itertools.product(("udp", "tcp-syn"), ([], V6)):
            found = self.distinct(120, "--kind", kind, "--dsts", "40", *family)
            self.assertEqual(len({one[1] for one in found}), 40)
            self.assertEqual(len({one[0] for one in found}), 1)
            self.assertEqual(len({one[2] for one in found}), 3)

    def test_flows_that_destinations_do_not_divide(self):
        self.distinct(101, "--dsts", "40")

    def test_many_flows_take_more_sources(self):
        found = options("--flows", "10000000")
        self.assertEqual(stateless.flows_of(found), 10_000_000)
        command = program(stateless.streams(found, 64)[0])[0]
        self.assertEqual(command.ip_max - command.ip_min + 1, 156)
        self.assertGreaterEqual((command.port_max - command.port_min + 1) * 156, 10_000_000)
        self.assertEqual(command.limit_flows, 10_000_000)
        self.assertLessEqual(command.port_max, 65535)

    def test_many_flows_of_icmp_are_all_pairs(self):
        found = options("--kind", "icmp", "--flows", "160", "--dsts", "40")
        count = stateless.flows_of(found)
        self.assertEqual(count, 40 * 7)
        self.assertEqual(len({flow(one) for one in sent(stateless.streams(found, 64)[0], count)}), count)

    def test_random_order_is_repeatable_and_stays_within(self):
        stream, again, other = (
            streams("--flows", "50", "--order", "random", "--seed", seed)[0] for seed in ("1", "1", "2")
        )
        first = [flow(one) for one in sent(stream, 400)]
        self.assertEqual(first, [flow(one) for one in sent(again, 400)])
        self.assertNotEqual(first, [flow(one) for one in sent(other, 400)])
        self.assertEqual({one[2] for one in first}, set(range(1024, 1074)))
        self.assertNotEqual(first[:50], sorted(first[:50]))

    def test_udp_without_a_checksum(self):
        got = next(frames(streams("--flows", "9", "--checksum", "none")[0], 1, api))
        self.assertEqual(Ether(got)[UDP].chksum, 0)


class Bursts(unittest.TestCase):
    def test_a_burst_has_just_so_many_frames_and_fills_the_line(self):
        for size in (64, "imix"):
            found = stateless.streams(options(), size, frames=1001)
            self.assertEqual(sum(stream.fields["mode"]["total_pkts"] for stream in found), 1001)
            self.assertAlmostEqual(sum(stream.fields["mode"]["rate"]["value"] for stream in found), 100)
            self.assertTrue(all(not stream.fields["flow_stats"]["enabled"] for stream in found))


class Console(unittest.TestCase):
    def test_the_other_direction_is_turned_round(self):
        profile = stateless.register()
        ahead, back = (
            profile.get_streams(direction=direction, tunables=["--size", "128", "--dst-mac", MAC], port_id=direction)[0]
            for direction in (0, 1)
        )
        self.assertEqual(flow(packet(ahead))[:2], flow(packet(back))[:2][::-1])


class Refused(unittest.TestCase):
    def test_what_cannot_be_sent(self):
        for wrong, arguments in (
            ("one family", ["--dst", "2001:db8::1"]),
            ("1 to 10000000", ["--flows", "0"]),
            ("1 to 10000000", ["--flows", "10000001"]),
            ("no more than there are flows", ["--dsts", "2"]),
            ("take a lower --sport", ["--flows", "60000", "--sport", "10000"]),
            ("do not fit", ["--flows", "200000", "--src", "255.255.255.254"]),
            ("may do without", ["--kind", "tcp-syn", "--checksum", "none"]),
        ):
            with self.assertRaisesRegex(ValueError, wrong):
                streams(*arguments)
