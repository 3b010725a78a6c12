"""What the commands of bench/trex have in common about a TRex server: TRex' own modules, and its ports' links."""

import importlib
import os
import sys

import report


def load(api, profile):
    """TRex' own module of that name (`trex.stl.api`, `trex.astf.api`), and the profile of this folder on it."""
    folder = os.environ.get("TREX", "")
    path = os.path.join(folder, "automation", "trex_control_plane", "interactive")
    if folder and not os.path.isdir(os.path.join(path, "trex")):
        raise report.Error(f"TREX={folder}: no TRex there: name the folder that has t-rex-64 in it")
    if folder:
        sys.path.insert(0, path)
    try:
        return importlib.import_module(api), importlib.import_module(profile)
    except ImportError as error:
        raise report.Error(f"TRex' modules ({error}): set TREX to the folder that has t-rex-64 in it") from error


def links_up(client, ports):
    """Refuses ports without a link: TRex looks after those that send alone. A driver that does not tell (N/A) is
    believed."""
    for port, info in zip(ports, client.get_port_info(ports)):
        if info.get("link") == "DOWN":
            raise report.Error(
                f"TRex port {port} ({info.get('driver', '')}): its link is down: see the cable and the port at its other end "
                "(`ip link set DEV up` on what is measured)"
            )
