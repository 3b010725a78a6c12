"""As much of TRex' `trex.astf.api` as bench/trex/connections.py uses: records of what was asked for, given back by
`to_json` in the members that TRex' own has. See the stub of `trex.stl.api` beside it.
"""


class TRexError(Exception):
    """TRex' error."""


class TRexTimeoutError(TRexError):
    """Something took longer than it was to."""


class ASTFProgram:
    def __init__(self, file=None, side="c", commands=None, stream=True):
        self.stream, self.fields, self.got = stream, {"commands": []}, 0

    def _add(self, name, **more):
        self.fields["commands"].append({"name": name, **more})

    def send(self, buf, size=0, fill=None):
        self._add("tx", bytes=len(buf))

    def recv(self, bytes, clear=False):
        self.got += bytes
        self._add("rx", min_bytes=self.got)

    def send_msg(self, buf, size=0, fill=None):
        self._add("tx_msg", bytes=len(buf))

    def recv_msg(self, pkts, clear=False):
        self.got += pkts
        self._add("rx_msg", min_pkts=self.got)

    def delay(self, usec):
        self._add("delay", usec=usec)


class ASTFIPGenGlobal:
    def __init__(self, ip_offset="1.0.0.0", ip_offset_server=None):
        self.ip_offset = ip_offset


class ASTFIPGenDist:
    def __init__(self, ip_range, distribution="seq", per_core_distribution=None):
        assert distribution in ("seq", "rand")
        self.ip_range, self.distribution = ip_range, distribution


class ASTFIPGen:
    def __init__(self, dist_client, dist_server, glob=None):
        self.dist_client, self.dist_server, self.glob = dist_client, dist_server, glob


class ASTFAssociationRule:
    def __init__(self, port=80, ip_start=None, ip_end=None, l7_map=None, assoc_id=None):
        self.port = port


class ASTFTCPClientTemplate:
    def __init__(
        self, ip_gen, cluster=None, program=None, port=80, cps=1, glob_info=None, limit=None, cont=None, core_base=None
    ):
        self.ip_gen, self.program, self.port, self.cps, self.limit, self.cont = ip_gen, program, port, cps, limit, cont


class ASTFTCPServerTemplate:
    def __init__(self, program=None, assoc=None, glob_info=None):
        self.program, self.assoc = program, assoc


class ASTFTemplate:
    def __init__(self, client_template=None, server_template=None, tg_name=None):
        assert client_template.program.stream == server_template.program.stream
        self.client, self.server = client_template, server_template


class ASTFProfile:
    def __init__(
        self, default_ip_gen, default_c_glob_info=None, default_s_glob_info=None, templates=None, cap_list=None
    ):
        self.template = templates

    def to_json(self):
        client, server = self.template.client, self.template.server
        addresses = client.ip_gen
        programs = []
        for program in (client.program, server.program):
            commands = [
                {key: value for key, value in command.items() if key != "bytes"}
                for command in program.fields["commands"]
            ]
            programs.append({"commands": commands, **({} if program.stream else {"stream": False})})
        limit = {"limit": client.limit, "cont": client.cont} if client.limit else {}
        return {
            "program_list": programs,
            "ip_gen_dist_list": [
                {
                    "ip_start": dist.ip_range[0],
                    "ip_end": dist.ip_range[1],
                    "distribution": dist.distribution,
                    "dir": side,
                }
                for dist, side in ((addresses.dist_client, "c"), (addresses.dist_server, "s"))
            ],
            "templates": [
                {
                    "client_template": {"port": client.port, "cps": client.cps, **limit},
                    "server_template": {"assoc": [{"port": server.assoc.port}]},
                }
            ],
        }
