"""For test_pktgen: a veth pair, the receiver at one end, frames as pktgen makes them at the other. Runs in a new
namespace."""

import os
import signal
import socket
import struct
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
MAGIC = 0xBE9BE955
EARLIER_NS, LATER_NS = 5_000_000, 3_600_000_000_000


def frame(v6, port, sequence, sent_ns, magic=MAGIC):
    data = struct.pack("!IIII", magic, sequence, sent_ns // 1_000_000_000, sent_ns // 1000 % 1_000_000)
    udp = struct.pack("!HHHH", 1024, port, 8 + len(data), 0) + data
    if v6:
        ip = struct.pack("!IHBB", 6 << 28, len(udp), 17, 32) + bytes(32)
    else:
        ip = struct.pack("!BBHHHBBHII", 0x45, 0, 20 + len(udp), 0, 0, 32, 17, 0, 1, 2)
    return b"\x02" + bytes(11) + (b"\x86\xdd" if v6 else b"\x08\x00") + ip + udp


def main():
    for command in ("link add v0 type veth peer name v1", "link set v0 up", "link set v1 up"):
        subprocess.run(["ip", *command.split()], check=True)
    receiver = subprocess.Popen(
        [sys.executable, os.path.join(HERE, "..", "receive"), "v1", "9"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert receiver.stderr.readline() == b"ready\n"
    port = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    port.bind(("v0", 0))
    for number in range(200):
        port.send(frame(number % 2, 9, number, time.time_ns() - EARLIER_NS))
    for number in range(25):
        port.send(frame(False, 10, number, time.time_ns()))
        port.send(frame(True, 9, number, 0))
    for number in range(3):
        port.send(frame(False, 9, number, time.time_ns() + LATER_NS))
    time.sleep(0.3)
    receiver.send_signal(signal.SIGINT)
    print(receiver.communicate(timeout=20)[0].decode(), end="")
    return receiver.returncode


if __name__ == "__main__":
    sys.exit(main())
