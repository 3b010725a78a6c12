"""TRex' field engine, stepped: which frames a stream sends, one after the other. As TRex does it on one core: all
variables are stepped, then written. Checksums that TRex leaves to the card, or makes itself, are made by scapy.
"""

import random

from scapy.all import ICMP, TCP, UDP, Ether, ICMPv6EchoRequest, IP, IPv6


def packet(stream):
    """The frame as it was before the engine."""
    return stream.scapy_pkt_builder.pkt


def program(stream):
    """The engine's commands; none for a stream of equal frames."""
    return [command for script in stream.scapy_pkt_builder.vm_scripts for command in script.commands]


def frames(stream, count, api):
    """The bytes of the first `count` frames."""
    base, commands = bytes(packet(stream)), program(stream)
    rng = random.Random(stream.fields["random_seed"])
    steps = {command.name: _values(command, rng, api) for command in commands if hasattr(command, "name")}
    for _ in range(count):
        now, out = {}, bytearray(base)
        for name, values in steps.items():
            now.update(next(values))
        for command in commands:
            if isinstance(command, api.STLVmWrFlowVar):
                value, size = now[command.fv_name]
                at = _offset(packet(stream), command.pkt_offset) + command.offset_fixup
                out[at : at + size] = (value + command.add_val).to_bytes(size, "big")
            elif isinstance(command, api.STLVmFixIpv4):
                at = _offset(packet(stream), command.offset)
                out[at + 10 : at + 12] = _sum(out[at : at + 10] + out[at + 12 : at + 20])
            elif isinstance(command, (api.STLVmFixChecksumHw, api.STLVmFixIcmpv6)):
                out = bytearray(right(bytes(out)))
        yield bytes(out)


def right(frame):
    """The frame with all checksums as they must be."""
    found = Ether(frame)
    for layer, field in (
        (IP, "chksum"),
        (UDP, "chksum"),
        (TCP, "chksum"),
        (ICMP, "chksum"),
        (ICMPv6EchoRequest, "cksum"),
    ):
        if layer in found:
            delattr(found[layer], field)
    return bytes(found)


def _values(command, rng, api):
    if isinstance(command, api.STLVmTupleGen):
        yield from _tuples(command)
    value = command.min_value if command.op == "inc" else command.max_value
    while True:
        if command.op == "random":
            value = rng.randint(command.min_value, command.max_value)
        yield {command.name: (value, command.size)}
        value += command.step if command.op == "inc" else -command.step
        if not command.min_value <= value <= command.max_value:
            value = command.min_value if command.op == "inc" else command.max_value


def _tuples(command):
    while True:
        address, port = command.ip_min, command.port_min
        for _ in range(command.limit_flows):
            yield {f"{command.name}.ip": (address, 4), f"{command.name}.port": (port, 2)}
            address += 1
            if address > command.ip_max:
                address, port = command.ip_min, port + 1
                if port > command.port_max:
                    port = command.port_min


def _offset(of, where):
    if isinstance(where, int):
        return where
    layer, _, field = where.partition(".")
    fields = {"IP.src": 12, "IP.dst": 16, "IPv6.src": 8, "IPv6.dst": 24, "UDP.sport": 0, "TCP.sport": 0}
    if layer in ("UDP", "TCP"):
        return 14 + (40 if IPv6 in of else 20) + fields[where]
    assert {"IP": IP, "IPv6": IPv6}[layer] in of, f"{where} of a packet that has none"
    return 14 + (fields[where] if field else 0)


def _sum(data):
    total = sum(int.from_bytes(data[at : at + 2], "big") for at in range(0, len(data), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return (~total & 0xFFFF).to_bytes(2, "big")
