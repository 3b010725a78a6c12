"""As much of TRex' `trex.stl.api` as bench/trex/stateless.py uses, for tests on machines without TRex: plain records of
what was asked for, with TRex' own names of arguments and members, so that the tests run over TRex' own modules, too
(TREX=FOLDER). Nothing is sent.
"""

from scapy.all import ICMP, IP, TCP, UDP, Ether, ICMPv6EchoRequest, IPv6, Raw  # noqa: F401


class STLError(Exception):
    """TRex' error."""


class STLScVmRaw:
    def __init__(self, list_of_commands=None, cache_size=None):
        self.commands = list_of_commands or []


class STLVmFlowVar:
    def __init__(
        self,
        name,
        init_value=None,
        min_value=0,
        max_value=255,
        size=4,
        step=1,
        op="inc",
        value_list=None,
        split_to_cores=True,
        next_var=None,
    ):
        assert op in ("inc", "dec", "random") and size in (1, 2, 4, 8) and min_value <= max_value < 1 << 8 * size
        self.name, self.min_value, self.max_value, self.size, self.step, self.op = (
            name,
            min_value,
            max_value,
            size,
            step,
            op,
        )


class STLVmTupleGen:
    def __init__(
        self, name, ip_min="0.0.0.1", ip_max="0.0.0.10", port_min=1025, port_max=65535, limit_flows=100000, flags=0
    ):
        assert ip_min <= ip_max < 1 << 32 and port_min <= port_max < 1 << 16
        self.name, self.ip_min, self.ip_max = name, ip_min, ip_max
        self.port_min, self.port_max, self.limit_flows = port_min, port_max, limit_flows


class STLVmWrFlowVar:
    def __init__(self, fv_name, pkt_offset, offset_fixup=0, add_val=0, is_big=True):
        self.fv_name, self.pkt_offset, self.offset_fixup, self.add_val = fv_name, pkt_offset, offset_fixup, add_val


class CTRexVmInsFixHwCs:
    L4_TYPE_UDP, L4_TYPE_TCP = 11, 13


class STLVmFixChecksumHw:
    def __init__(self, l3_offset, l4_offset, l4_type):
        self.l3_offset, self.l4_offset, self.l4_type = l3_offset, l4_offset, l4_type


class STLVmFixIpv4:
    def __init__(self, offset):
        self.offset = offset


class STLVmFixIcmpv6:
    def __init__(self, l3_offset, l4_offset):
        self.l3_offset, self.l4_offset = l3_offset, l4_offset


class STLPktBuilder:
    def __init__(
        self, pkt=None, pkt_buffer=None, vm=None, path_relative_to_profile=False, build_raw=False, remove_fcs=True
    ):
        self.pkt, self.vm_scripts = pkt, [vm] if vm else []


class STLTXCont:
    def __init__(self, pps):
        self.fields = {"type": "continuous", "rate": {"type": "pps", "value": pps}}


class STLTXSingleBurst:
    def __init__(self, total_pkts=1, percentage=None):
        assert isinstance(total_pkts, int) and 0 < percentage <= 100
        rate = {"type": "percentage", "value": percentage}
        self.fields = {"type": "single_burst", "total_pkts": total_pkts, "rate": rate}


class STLFlowLatencyStats:
    def __init__(self, pg_id, vxlan=False, ieee_1588=False):
        self.fields = {"enabled": True, "rule_type": "latency", "stream_id": pg_id}


class STLStream:
    def __init__(self, name=None, packet=None, mode=None, isg=0.0, flow_stats=None, next=None, random_seed=0):
        assert packet is not None and mode is not None
        self.name, self.scapy_pkt_builder = name, packet
        stats = flow_stats.fields if flow_stats else {"enabled": False}
        self.fields = {"mode": mode.fields, "flow_stats": stats, "random_seed": random_seed}
