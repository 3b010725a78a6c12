"""A TRex client whose TRex is simulated: what is measured forwards so many frames a second, from a queue, after a
delay.

It has the members of TRex' STLClient that bench/trex/rfc2544 uses, and counts as TRex does: timed frames among the
others, delays in microseconds. `noise` is the part by which the capacity differs from trial to trial, from a seed. Ports of
`down` have no link; `ends_after` is a number of trials and what is raised by the next.
"""

import random

from trex.stl.api import STLError

from hdr import Histogram
from engine import packet


class Client:
    def __init__(
        self,
        capacity_pps,
        queue=512,
        delay_us=20,
        speed=10,
        generator_pps=float("inf"),
        noise=0.0,
        hdrh=True,
        foreign=0,
        dead=False,
        down=(),
        ends_after=None,
        seed=1,
    ):
        self.capacity_pps, self.queue, self.delay_us, self.speed = capacity_pps, queue, delay_us, speed
        self.generator_pps, self.noise, self.hdrh, self.foreign, self.dead = generator_pps, noise, hdrh, foreign, dead
        self.down, self.ends_after = down, ends_after
        self.random = random.Random(seed)
        self.calls, self.trials, self.streams, self.stats = [], [], [], {}

    def get_port_info(self, ports):
        link = {True: "DOWN", False: "UP"}
        return [{"speed": self.speed, "driver": "net_simulated", "link": link[port in self.down]} for port in ports]

    def get_server_version(self):
        return {"version": "v0.0"}

    def reset(self, ports):
        self.calls.append("reset")
        self.streams, self.stats = [], {}

    def set_port_attr(self, ports, promiscuous):
        self.calls.append("promiscuous" if promiscuous else "")

    def add_streams(self, streams, ports):
        self.calls.append("add_streams")
        self.streams = streams

    def clear_stats(self):
        self.calls.append("clear_stats")

    def start(self, ports, mult="1", force=False, duration=-1):
        self.calls.append("start")
        assert self.streams, "TRex refuses to start without streams"
        if self.ends_after is not None and len(self.trials) >= self.ends_after[0]:
            raise self.ends_after[1]
        if not force and any(port in self.down for port in ports):
            raise STLError("START: port(s) are down - check the connection or specify 'force'")
        timed = sum(s.fields["mode"]["rate"]["value"] for s in self.streams if s.fields["flow_stats"]["enabled"])
        bursts = [s for s in self.streams if s.fields["mode"]["type"] == "single_burst"]
        if bursts:
            assert (mult, duration) == ("1", -1)
            frames = sum(s.fields["mode"]["total_pkts"] for s in bursts)
            size = sum(s.fields["mode"]["total_pkts"] * (len(packet(s)) + 24) for s in bursts) / frames
            rate = self.speed * 1e9 / 8 / size
            wire = sum(s.fields["mode"]["rate"]["value"] for s in bursts) / 100
        else:
            assert mult.endswith("pps")
            rate = float(mult[:-3])
            assert rate >= timed, "TRex never sends fewer than the timed frames"
            frames = None
            wire = self._wire(rate, timed)
        if not force and wire > 1:
            raise STLError(f"Expected L1 B/W: {wire * self.speed} Gbps exceeds port line rate: {self.speed} Gbps")
        rate = min(rate, self.generator_pps)
        seconds = frames / rate if frames else duration
        self._forward(frames or round(rate * duration), rate, seconds, round(timed * seconds) if not bursts else 0)

    def _wire(self, rate, timed):
        """The part of the wire that a rate takes, the timed frames in it."""
        found = {True: [0, 0], False: [0, 0]}
        for stream in self.streams:
            of = found[stream.fields["flow_stats"]["enabled"]]
            parts = stream.fields["mode"]["rate"]["value"]
            of[0], of[1] = of[0] + parts * (len(packet(stream)) + 24), of[1] + parts
        mean = found[False][0] / found[False][1]
        return 8 * ((rate - timed) * mean + found[True][0]) / (self.speed * 1e9)

    def _forward(self, frames, rate, seconds, timed):
        self.trials.append((frames, rate))
        capacity = self.capacity_pps * (1 + self.noise * self.random.uniform(-1, 1))
        got = 0 if self.dead else min(frames, int(capacity * seconds + self.queue) if rate > capacity else frames)
        # Beside the load, the delay: none in an empty queue, all of it in a full one.
        behind = self.queue if rate > capacity else 1 / max(1e-3, 1 - rate / capacity)
        waiting_us = 1e6 * max(1, behind) / capacity
        stats = {
            0: {"opackets": frames, "ipackets": 0, "oerrors": 0},
            1: {"opackets": 0, "ipackets": got + self.foreign},
        }
        if timed:
            histogram, coarse = Histogram(), {}
            for _ in range(round(timed * got / frames)):
                us = int(self.delay_us + self.random.expovariate(1 / waiting_us))
                histogram.record(us)
                step = 10 ** max(1, len(str(us)) - 1)
                coarse[us // step * step] = coarse.get(us // step * step, 0) + 1
            latency = {"histogram": coarse, **({"hdrh": histogram.encode()} if self.hdrh else {})}
            stats["latency"] = {7: {"err_cntrs": {"dropped": 0, "out_of_order": 3, "dup": 2}, "latency": latency}}
        self.stats = stats

    def wait_on_traffic(self, ports, timeout, rx_delay_ms):
        self.calls.append("wait")
        assert rx_delay_ms > 0

    def sleep(self, seconds):
        """Stands for the time in which what is on its way arrives."""
        assert seconds >= 0.5
        self.calls.append("sleep")

    def get_stats(self):
        self.calls.append("get_stats")
        return self.stats
