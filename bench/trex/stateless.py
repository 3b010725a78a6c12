"""TRex, stateless: the traffic of `bypath bench` as streams of the field engine.

    start -f bench/trex/stateless.py -m 1mpps -t --kind udp --size imix --flows 1000000 --dst-mac 02:00:00:00:00:01

    streams ── one for each size (IMIX: three, in the ratio 7 : 4 : 1), scaled by TRex' -m
            └─ one that is timed (--latency-pps), UDP, never scaled

A flow is a source port and, beyond 64,512 of them or with --dsts, an address: destinations where there are several,
sources else. In round-robin order TRex' tuple generator steps the address first. Identifiers take the place of ports
for ICMP.

What has a checksum over addresses or ports leaves it to the card (STLVmFixChecksumHw). The sum of an ICMP echo stays
what it is, since its sequence number falls as its identifier rises; that of ICMPv6 is made anew by TRex.

Sizes are with the frame check sequence: 64 is 60 bytes handed to the card.
"""

import argparse
import ipaddress
import math

from trex.stl.api import *  # noqa: F403: a profile is written in TRex' names, scapy's among them

PORTS = 64512
IMIX = ((64, 7), (594, 4), (1518, 1))
FCS = 4
ETHERNET_LEN = 14
# What TRex puts behind the headers of a frame that it times.
TIMED_BYTES = 16
LATENCY_GROUP = 7
# Of the wire's rate, so that no rounding makes more of it, which TRex refuses.
WIRE = 1 - 1e-10


def parser():
    """The tunables of the profile, which are also options of bench/trex/rfc2544."""
    parser = argparse.ArgumentParser(prog="stateless.py", description="UDP, TCP SYN or ICMP; sizes, IMIX; flows")
    add_options(parser)
    parser.add_argument("--size", default="64", help="bytes with the frame check sequence, or imix (default: 64)")
    return parser


def add_options(parser):
    """What says which frames there are."""
    add = parser.add_argument
    add("--kind", choices=("udp", "tcp-syn", "icmp"), default="udp", help="what the frames are (default: udp)")
    add("--flows", type=int, default=1, help="how many flows, 1 to 10,000,000 (default: 1)")
    add("--order", choices=("round-robin", "random"), default="round-robin", help="which flow is next")
    add("--src", default="16.0.0.1", help="first source address, IPv4 or IPv6 (default: 16.0.0.1)")
    add("--dst", default="48.0.0.1", help="first destination address (default: 48.0.0.1)")
    add("--dsts", type=int, default=1, help="how many destination addresses follow each other (default: 1)")
    add("--sport", type=int, default=1024, help="first source port (default: 1024)")
    add("--dport", type=int, default=9, help="destination port (default: 9)")
    add("--dst-mac", help="Ethernet address of the next hop (default: as TRex is configured for the port)")
    add(
        "--checksum",
        choices=("nic", "none"),
        default="nic",
        help="none: UDP over IPv4 without one, for cards that do not help",
    )
    add(
        "--latency-pps",
        type=int,
        default=1000,
        help="timed frames per second, beside the others; 0: none (default: 1000)",
    )
    add("--seed", type=int, default=1, help="of random orders (default: 1)")


def check(options):
    """Refuses what cannot be sent; the message is one line."""
    src, dst = ipaddress.ip_address(options.src), ipaddress.ip_address(options.dst)
    if src.version != dst.version:
        raise ValueError(f"--src {src} and --dst {dst}: give both of one family")
    if not 1 <= options.flows <= 10_000_000:
        raise ValueError(f"--flows {options.flows}: 1 to 10000000")
    if not 1 <= options.dsts <= options.flows:
        raise ValueError(f"--dsts {options.dsts}: at least 1, and no more than there are flows ({options.flows})")
    if not (1 <= options.sport <= 65535 and 1 <= options.dport <= 65535):
        raise ValueError(f"--sport {options.sport}, --dport {options.dport}: 1 to 65535")
    addresses, ports = _shape(options)
    if options.sport + ports > 65536:
        raise ValueError(f"{ports} source ports from {options.sport} on: take a lower --sport, or more --dsts")
    for name, first in (("--src", src), ("--dst", dst)):
        if (int(first) & 0xFFFFFFFF) + addresses > 1 << 32:
            raise ValueError(f"{name} {first}: {addresses} addresses from there on do not fit")
    if options.checksum == "none" and (options.kind, src.version) != ("udp", 4):
        raise ValueError("--checksum none: only UDP over IPv4 may do without")


def flows_of(options):
    """How many flows there are indeed: in random order, and of ICMP, a few more than asked for."""
    addresses, ports = _shape(options)
    exact = options.order == "round-robin" and options.kind != "icmp"
    return options.flows if exact else addresses * ports


def streams(options, size, frames=None):
    """The streams for one size, or "imix". `frames`: no stream without end, but one burst of so many at line rate."""
    check(options)
    parts = IMIX if size == "imix" else ((int(size), 1),)
    total = sum(part for _, part in parts)
    found, left = [], frames
    for at, (bytes, part) in enumerate(parts):
        packet = STLPktBuilder(pkt=_packet(options, options.kind, bytes), vm=_engine(options))
        if frames is None:
            mode = STLTXCont(pps=part)
        else:
            mine = left if at == len(parts) - 1 else frames * part // total
            left -= mine
            if mine == 0:
                continue
            share = bytes_on_wire(bytes) * part / sum(bytes_on_wire(b) * p for b, p in parts)
            mode = STLTXSingleBurst(total_pkts=mine, percentage=100.0 * WIRE * share)
        found.append(STLStream(name=f"frames-{bytes}", packet=packet, mode=mode, random_seed=options.seed))
    if options.latency_pps and frames is None:
        found.append(_timed(options, _commonest(size)))
    return found


def line_rate_pps(options, size, bits_per_second):
    """The most frames per second that a wire carries, the timed ones among them: either can be longer than its size, by
    the headers of IPv6 or by the time."""
    parts = IMIX if size == "imix" else ((int(size), 1),)
    longer = [(len(_packet(options, options.kind, bytes)) + FCS, part) for bytes, part in parts]
    mean = sum(bytes_on_wire(bytes) * part for bytes, part in longer) / sum(part for _, part in parts)
    timed = bytes_on_wire(len(_packet(options, "udp", _commonest(size), TIMED_BYTES)) + FCS)
    return WIRE * (bits_per_second / 8 - options.latency_pps * max(0, timed - mean)) / mean


def _commonest(size):
    return max(IMIX, key=lambda part: part[1])[0] if size == "imix" else int(size)


def bytes_on_wire(size):
    """With preamble and gap."""
    return size + 20


def _timed(options, size):
    """A stream whose frames carry a time. TRex wants room behind the headers for it, so it is UDP, and may be longer."""
    packet = _packet(options, "udp", size, TIMED_BYTES)
    return STLStream(
        name="timed",
        packet=STLPktBuilder(pkt=packet),
        mode=STLTXCont(pps=options.latency_pps),
        flow_stats=STLFlowLatencyStats(pg_id=LATENCY_GROUP),
    )


def _packet(options, kind, size, payload_min=0):
    v6 = ipaddress.ip_address(options.src).version == 6
    ether = Ether(dst=options.dst_mac) if options.dst_mac else Ether()
    ip = IPv6(src=options.src, dst=options.dst) if v6 else IP(src=options.src, dst=options.dst)
    if kind == "udp":
        l4 = UDP(sport=options.sport, dport=options.dport)
        if options.checksum == "none":
            l4.chksum = 0
    elif kind == "tcp-syn":
        l4 = TCP(sport=options.sport, dport=options.dport, flags="S", seq=1, window=65535)
    elif v6:
        l4 = ICMPv6EchoRequest(id=options.sport, seq=1)
    else:
        # The first of the pair whose sum stays; see _engine.
        l4 = ICMP(type=8, id=options.sport, seq=options.sport + _shape(options)[1] - 1)
    packet = ether / ip / l4
    return packet / Raw(load=b"\0" * max(payload_min, size - FCS - len(packet)))


def _shape(options):
    """How many addresses, and how many ports with each."""
    addresses = options.dsts if options.dsts > 1 else math.ceil(options.flows / PORTS)
    ports = math.ceil(options.flows / addresses)
    if options.kind == "icmp":
        # Both are stepped by each frame: every pair of them comes only where they have no common divisor.
        while math.gcd(addresses, ports) > 1:
            ports += 1
    return addresses, ports


def _engine(options):
    """The field engine's program that makes one flow after the other; None for a single flow."""
    addresses, ports = _shape(options)
    if addresses * ports == 1:
        return None
    op = "random" if options.order == "random" else "inc"
    v6 = ipaddress.ip_address(options.src).version == 6
    ip = "IPv6" if v6 else "IP"
    l4 = {"udp": "UDP", "tcp-syn": "TCP"}.get(options.kind)
    # The offsets of ICMP's fields are given as numbers, since they have no fixed names in all versions of scapy.
    icmp = ETHERNET_LEN + (40 if v6 else 20)
    port = f"{l4}.sport" if l4 else icmp + 4
    end = "dst" if options.dsts > 1 else "src"
    first = int(ipaddress.ip_address(getattr(options, end))) & 0xFFFFFFFF
    last_port = options.sport + ports - 1
    into = {"pkt_offset": f"{ip}.{end}", "offset_fixup": 12 if v6 else 0}
    program = []
    if addresses > 1 and op == "inc" and options.kind != "icmp":
        program += [
            STLVmTupleGen(
                name="flow",
                ip_min=first,
                ip_max=first + addresses - 1,
                port_min=options.sport,
                port_max=last_port,
                limit_flows=options.flows,
            ),
            STLVmWrFlowVar(fv_name="flow.ip", **into),
            STLVmWrFlowVar(fv_name="flow.port", pkt_offset=port),
        ]
    else:
        if addresses > 1:
            program += [
                STLVmFlowVar(name="address", min_value=first, max_value=first + addresses - 1, size=4, op=op),
                STLVmWrFlowVar(fv_name="address", **into),
            ]
        if ports > 1 and options.kind == "icmp" and not v6:
            # The identifier rises and the sequence number falls, so random identifiers cannot be had: their sum would
            # not stay.
            program += [
                STLVmFlowVar(name="port", min_value=options.sport, max_value=last_port, size=2, op="inc"),
                STLVmFlowVar(name="sequence", min_value=options.sport, max_value=last_port, size=2, op="dec"),
                STLVmWrFlowVar(fv_name="port", pkt_offset=port),
                STLVmWrFlowVar(fv_name="sequence", pkt_offset=icmp + 6),
            ]
        elif ports > 1:
            program += [
                STLVmFlowVar(name="port", min_value=options.sport, max_value=last_port, size=2, op=op),
                STLVmWrFlowVar(fv_name="port", pkt_offset=port),
            ]
    return STLScVmRaw(program + _checksums(options, ip, l4 or icmp, v6))


def _checksums(options, ip, l4, v6):
    if options.kind == "icmp":
        return [STLVmFixIcmpv6(l3_offset=ETHERNET_LEN, l4_offset=l4)] if v6 else [STLVmFixIpv4(offset=ip)]
    if options.checksum == "none":
        return [STLVmFixIpv4(offset=ip)]
    kind = CTRexVmInsFixHwCs.L4_TYPE_UDP if options.kind == "udp" else CTRexVmInsFixHwCs.L4_TYPE_TCP
    return [STLVmFixChecksumHw(l3_offset=ip, l4_offset=l4, l4_type=kind)]


class Profile:
    """What TRex' console loads."""

    def get_streams(self, direction=0, tunables=(), **kwargs):
        """Traffic in direction 1 goes the other way: source and destination are exchanged."""
        options = parser().parse_args(list(tunables))
        if direction == 1:
            options.src, options.dst = options.dst, options.src
        return streams(options, options.size if options.size == "imix" else int(options.size))


def register():
    """TRex' way to ask for the profile."""
    return Profile()
