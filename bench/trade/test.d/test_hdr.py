"""bench/trade/hdr.py: buckets, quantiles, the encoding of the field."""

import random
import unittest

from hdr import Histogram, index_of, range_of


class Buckets(unittest.TestCase):
    def test_three_digits(self):
        rng = random.Random(1)
        values = [*range(5000), *(rng.getrandbits(rng.randint(1, 60)) for _ in range(5000))]
        for value in values:
            low, high = range_of(index_of(value))
            self.assertTrue(low <= value <= high)
            self.assertLessEqual(high - low, value / 1000)
        edges = [range_of(index) for index in range(20_000)]
        self.assertTrue(all(before[1] + 1 == after[0] for before, after in zip(edges, edges[1:])))

    def test_quantiles(self):
        histogram = Histogram()
        for value in range(1, 10_001):
            histogram.record(value)
        found = histogram.latency()
        self.assertEqual(
            (found["count"], found["min_ns"], found["max_ns"], found["mean_ns"]), (10_000, 1, 10_000, 5000.5)
        )
        for name, wanted in (
            ("p50_ns", 5000),
            ("p90_ns", 9000),
            ("p99_ns", 9900),
            ("p999_ns", 9990),
            ("p9999_ns", 9999),
        ):
            self.assertAlmostEqual(found[name] / wanted, 1, delta=0.001)

    def test_nothing(self):
        self.assertIsNone(Histogram().latency())
        self.assertEqual(Histogram.decode(Histogram().encode()).total, 0)


class Encoding(unittest.TestCase):
    def test_there_and_back(self):
        rng = random.Random(2)
        for _ in range(50):
            histogram = Histogram()
            for _ in range(rng.randint(0, 300)):
                histogram.record(rng.getrandbits(rng.randint(1, 55)), rng.getrandbits(rng.randint(1, 62)))
            self.assertEqual(Histogram.decode(histogram.encode()).counts, histogram.counts)

    def test_scaled(self):
        us, ns = Histogram(), Histogram()
        us.record(20, 3)
        ns.add(us, scale=1000)
        self.assertEqual((ns.least, ns.total), (20_000, 3))

    def test_what_is_none(self):
        whole = Histogram()
        whole.record(77, 1 << 40)
        for text in ("", "!", "AAAA", whole.encode()[:40], "HISTFAAAAAA="):
            with self.assertRaises(ValueError, msg=text):
                Histogram.decode(text)
