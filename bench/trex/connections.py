"""TRex, advanced stateful: connections that are opened, used and closed, for NAT and connections per second.

    start -f bench/trex/connections.py -m 1 -d 30 -t --cps 100000 --kind tcp

    client (TRex port 0)                          server (TRex port 1)
      SYN, or the first datagram ──> NAT, conntrack ──> sees whatever address the client was given
      request ─────────────────────────────────────────> response
      FIN ─────────────────────────────────────────────> FIN

Both ends keep their own state and find a connection by what arrives, so addresses and ports may change on the way.
Client addresses follow each other; a connection takes the next source port of its client. A source that must be seen to
be the NAT's own is told by what is measured (`bypath show conntrack`), not by TRex.
"""

import argparse
import ipaddress

from trex.astf.api import *  # noqa: F403: a profile is written in TRex' names


def parser():
    """The tunables of the profile, which are also options of bench/trex/connections-search."""
    parser = argparse.ArgumentParser(
        prog="connections.py", description="connections per second, through NAT or without"
    )
    add_options(parser)
    return parser


def add_options(parser):
    """What says which connections there are."""
    add = parser.add_argument
    add("--kind", choices=("tcp", "udp"), default="tcp", help="what the connections are (default: tcp)")
    add("--cps", type=float, default=1000, help="connections per second, times TRex' -m (default: 1000)")
    add("--request", type=int, default=64, help="bytes that the client sends (default: 64)")
    add("--response", type=int, default=64, help="bytes that the server answers (default: 64)")
    add("--clients", default="16.0.0.1-16.0.15.254", help="the clients' addresses (default: 16.0.0.1-16.0.15.254)")
    add("--servers", default="48.0.0.1-48.0.0.254", help="the servers' addresses (default: 48.0.0.1-48.0.0.254)")
    add("--port", type=int, default=80, help="the servers' port (default: 80)")
    add(
        "--limit",
        type=int,
        default=0,
        help="connections that are open at once, at most; 0: as many as come (default: 0)",
    )
    add("--hold-us", type=int, default=0, help="microseconds that the server waits before it answers (default: 0)")


def ends(name, text):
    """`FIRST-LAST` as TRex wants them."""
    first, _, last = text.partition("-")
    try:
        first, last = ipaddress.IPv4Address(first), ipaddress.IPv4Address(last or first)
    except ValueError as error:
        raise ValueError(f"{name} {text}: FIRST-LAST, two IPv4 addresses") from error
    if last < first:
        raise ValueError(f"{name} {text}: the last address is before the first")
    return [str(first), str(last)]


def profile(options):
    """The profile for these tunables."""
    if options.cps < 0.5:
        raise ValueError(f"--cps {options.cps:g}: at least 0.5, which is what TRex can do")
    if options.request < 1 or options.response < 1:
        raise ValueError("--request, --response: at least a byte each")
    stream = options.kind == "tcp"
    client, server = ASTFProgram(stream=stream), ASTFProgram(stream=stream)
    request, response = b"q" * options.request, b"a" * options.response
    if stream:
        client.send(request)
        client.recv(len(response))
        server.recv(len(request))
        if options.hold_us:
            server.delay(options.hold_us)
        server.send(response)
    else:
        client.send_msg(request)
        client.recv_msg(1)
        server.recv_msg(1)
        if options.hold_us:
            server.delay(options.hold_us)
        server.send_msg(response)
    addresses = ASTFIPGen(
        glob=ASTFIPGenGlobal(ip_offset="1.0.0.0"),
        dist_client=ASTFIPGenDist(ip_range=ends("--clients", options.clients), distribution="seq"),
        dist_server=ASTFIPGenDist(ip_range=ends("--servers", options.servers), distribution="seq"),
    )
    limit = {"limit": options.limit, "cont": True} if options.limit else {}
    template = ASTFTemplate(
        client_template=ASTFTCPClientTemplate(
            program=client, ip_gen=addresses, port=options.port, cps=options.cps, **limit
        ),
        server_template=ASTFTCPServerTemplate(program=server, assoc=ASTFAssociationRule(port=options.port)),
    )
    return ASTFProfile(default_ip_gen=addresses, templates=template)


class Profile:
    """What TRex' console loads."""

    def get_profile(self, tunables=(), **kwargs):
        """The profile for these tunables."""
        return profile(parser().parse_args(list(tunables)))


def register():
    """TRex' way to ask for the profile."""
    return Profile()
