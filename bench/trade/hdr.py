"""Histograms of delays as the report keeps them: HdrHistogram's buckets with three significant digits.

    value ── index ──> counts ── encode ──> base64(zlib(zigzag LEB128 of the counts)), the V2 form of the field
                          └── quantile ──> p50 ... p99.99

Follows the format's own description (HdrHistogram, V2 encoding): what TRex sends (`--hdrh`) is read, and what is
written is read by the `hdrhistogram` crate, by HdrHistogram's log and by its plotter. Nothing but Python's own library
is needed. Bounded by 64-bit values: some 55,000 counts at most.
"""

import base64
import math
import struct
import zlib

V2 = 0x1C849303 | 0x10
V2_COMPRESSED = 0x1C849304 | 0x10

DIGITS = 3
# Buckets of 2048 values of one width each: enough for three digits. The lower half of each but the first is in the one
# before.
SUB_BITS = 11
HALF_BITS = SUB_BITS - 1
HALF = 1 << HALF_BITS


def index_of(value):
    """Where a value is counted."""
    bucket = max(0, value.bit_length() - SUB_BITS)
    return (bucket << HALF_BITS) + (value >> bucket)


def range_of(index):
    """The smallest and the largest value that are counted there."""
    bucket = max(0, (index >> HALF_BITS) - 1)
    low = (index - (bucket << HALF_BITS)) << bucket
    return low, low + (1 << bucket) - 1


class Histogram:
    """Counts of whole, non-negative values."""

    def __init__(self):
        self.counts = {}
        self.total = 0
        self.sum = 0
        self.least = None
        self.most = None

    def record(self, value, count=1):
        """Counts one value, or `count` of it."""
        value = int(value)
        if value < 0 or count <= 0:
            return
        index = index_of(value)
        self.counts[index] = self.counts.get(index, 0) + count
        self.total += count
        self.sum += value * count
        self.least = value if self.least is None else min(self.least, value)
        self.most = value if self.most is None else max(self.most, value)

    def add(self, other, scale=1):
        """Counts all of another histogram, each value `scale` times as large (microseconds to nanoseconds: 1000)."""
        for index, count in sorted(other.counts.items()):
            low, high = range_of(index)
            self.record((low + high) // 2 * scale, count)

    def quantile(self, share):
        """The largest value that is in the bucket where `share` of all values end; 0 for none."""
        wanted = max(1, math.ceil(share * self.total))
        seen = 0
        for index, count in sorted(self.counts.items()):
            seen += count
            if seen >= wanted:
                return min(range_of(index)[1], self.most)
        return 0

    def latency(self):
        """As the report's `Latency`, with the values taken for nanoseconds; None for no value."""
        if not self.total:
            return None
        return {
            "count": self.total,
            "min_ns": self.least,
            "p50_ns": self.quantile(0.5),
            "p90_ns": self.quantile(0.9),
            "p99_ns": self.quantile(0.99),
            "p999_ns": self.quantile(0.999),
            "p9999_ns": self.quantile(0.9999),
            "max_ns": self.most,
            "mean_ns": self.sum / self.total,
            "hdr": self.encode(),
        }

    def encode(self):
        """The V2 form, compressed, in base64."""
        payload = bytearray()
        at = 0
        for index, count in sorted(self.counts.items()):
            if index > at:
                payload += _write(at - index)
            payload += _write(count)
            at = index + 1
        highest = max(2 * HALF, range_of(max(self.counts, default=0))[1])
        head = struct.pack(">iiiiqqd", V2, len(payload), 0, DIGITS, 1, highest, 1.0)
        data = zlib.compress(head + bytes(payload))
        return base64.b64encode(struct.pack(">ii", V2_COMPRESSED, len(data)) + data).decode()

    @classmethod
    def decode(cls, text):
        """Reads the V2 form, compressed or not. Raises ValueError for anything else."""
        try:
            data = base64.b64decode(text, validate=True)
            if struct.unpack_from(">i", data)[0] == V2_COMPRESSED:
                data = zlib.decompress(data[8 : 8 + struct.unpack_from(">i", data, 4)[0]])
            cookie, length, offset, digits, lowest, _, ratio = struct.unpack_from(">iiiiqqd", data)
        except (ValueError, struct.error, zlib.error) as error:
            raise ValueError(f"no HdrHistogram: {error}") from error
        if cookie != V2 or (offset, digits, lowest, ratio) != (0, DIGITS, 1, 1.0):
            raise ValueError(f"an HdrHistogram of another kind (cookie {cookie:#x}, {digits} digits, from {lowest})")
        found = cls()
        at, index, end = 40, 0, 40 + length
        while at < end:
            count, at = _read(data, at)
            if count > 0:
                low, high = range_of(index)
                found.record((low + high) // 2, count)
                index += 1
            else:
                index += -count
        return found


def _write(number):
    """ZigZag, then seven bits a byte; the ninth byte, if there is one, has eight."""
    number = ((number << 1) ^ (number >> 63)) & (1 << 64) - 1
    out = bytearray()
    while number > 0x7F and len(out) < 8:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return out


def _read(data, at):
    number = shift = 0
    while True:
        if at >= len(data):
            raise ValueError("an HdrHistogram that is cut off")
        byte = data[at]
        at += 1
        last = shift == 56
        number |= (byte if last else byte & 0x7F) << shift
        shift += 7
        if last or byte < 0x80:
            return (number >> 1) ^ -(number & 1), at
