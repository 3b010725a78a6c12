"""The report of `bypath bench` (src/bench/report), as Python writes it: the same members, the same meanings.

    Work ── one trial ──> Outcome ── entry ──> Report ── write ──> JSON ──> whatever `bypath bench` makes of one

A test of the tree (tests/trade.rs) reads such a file back with bypath's own types, so a member that is renamed there
fails here. Errors of an operator are one line (`Error`), and `main` prints it and exits with 1.
"""

import errno
import json
import os
import platform
import stat
import sys
import time

VERSION = 1
# Bytes that a wire carries beside what is in memory: the frame check sequence; and around each frame: preamble and gap.
FCS = 4
AROUND = 20

IMIX = ((64, 7), (594, 4), (1518, 1))
SIZE_MIN, SIZE_MAX = 64, 1518

SIZE_NOTE = "sizes are those of RFC 2544, with the frame check sequence: 64 is 60 bytes in memory (`bypath bench` leaves it out)"


class Error(Exception):
    """What went wrong, where, and what to do: one line."""


def main(name, run):
    """Runs a command; its exit code is that of the process."""
    try:
        sys.exit(run(sys.argv[1:]) or 0)
    except Error as error:
        print(f"{name}: error: {' '.join(str(error).split())}", file=sys.stderr)
    except KeyboardInterrupt:
        print(f"{name}: error: interrupted", file=sys.stderr)
    except BrokenPipeError:
        # Nobody reads what is printed any more; that is no error.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.exit(0)
    sys.exit(1)


def size(text):
    """`64`, `imix`: a number of bytes, or "imix"."""
    if text == "imix":
        return text
    if text.isdecimal() and SIZE_MIN <= int(text) <= SIZE_MAX:
        return int(text)
    raise Error(f"size {text}: {SIZE_MIN} to {SIZE_MAX} bytes with the frame check sequence, or imix")


def mean_size(size):
    """Bytes with the frame check sequence, the mean of IMIX."""
    if size != "imix":
        return size
    return sum(bytes * parts for bytes, parts in IMIX) / sum(parts for _, parts in IMIX)


def line_rate_pps(bits_per_second, size):
    """The most frames per second that a wire of that speed carries."""
    return bits_per_second / 8 / (mean_size(size) + AROUND)


def mac(text):
    """`02:00:00:00:00:01` as six numbers."""
    parts = text.split(":")
    if len(parts) != 6 or not all(len(part) == 2 and not set(part) - set("0123456789abcdefABCDEF") for part in parts):
        raise Error(f"address {text}: an Ethernet address is six pairs of hexadecimal digits, as 02:00:00:00:00:01")
    return [int(part, 16) for part in parts]


def work(
    kind,
    size,
    flows,
    rate,
    seconds,
    dst_mac,
    src,
    dst,
    sport,
    dport,
    order="round-robin",
    dsts=1,
    src_mac=None,
    new_per_second=0,
    seed=1,
):
    """As `Work`. `rate` is frames per second, or None for as fast as it goes."""
    return {
        "kind": kind,
        "size": size if size == "imix" else {"bytes": size},
        "flows": {"count": flows, "order": order, "new_per_second": new_per_second},
        "rate": "unpaced" if rate is None else {"paced": float(rate)},
        "duration": {"secs": int(seconds), "nanos": int(round((seconds - int(seconds)) * 1e9))},
        "seed": seed,
        "src_mac": src_mac,
        "dst_mac": dst_mac,
        "src": src,
        "dst": dst,
        "dsts": dsts,
        "sport": sport,
        "dport": dport,
    }


def outcome(
    wanted_pps,
    offered,
    seconds,
    received,
    refused=0,
    reordered=0,
    duplicated=0,
    corrupted=0,
    foreign=0,
    latency=None,
    notes=(),
):
    """As `Outcome`; what is received beyond what was offered is foreign."""
    ours = min(received, offered)
    return {
        "wanted_pps": wanted_pps,
        "offered": offered,
        "refused": refused,
        "seconds": float(seconds),
        "received": ours,
        "lost": offered - ours,
        "reordered": reordered,
        "duplicated": duplicated,
        "corrupted": corrupted,
        "foreign": foreign + received - ours,
        "latency": latency,
        "cpu_ns_per_frame": None,
        "notes": list(notes),
    }


def entry(case, subject, work, outcome, round=1):
    """As `Entry`."""
    return {"case": case, "subject": subject, "round": round, "work": work, "outcome": outcome}


def provenance(driver, versions, mode="", commands=None):
    """As `Provenance`, of this machine: the generator's. What was measured may be another, and is in `versions`."""
    return {
        "started": int(time.time()),
        "machine": f"{_processor()}, {os.cpu_count()} cores",
        "kernel": platform.release(),
        "driver": driver,
        "mode": mode,
        "commit": _commit(),
        "load": os.getloadavg()[0],
        "versions": versions,
        "commands": commands or [" ".join(sys.argv)],
    }


def report(kind, provenance, entries=(), rfc2544=(), notes=()):
    """As `Report`."""
    return {
        "version": VERSION,
        "kind": kind,
        "provenance": provenance,
        "own_error": [],
        "entries": list(entries),
        "ratios": [],
        "rfc2544": list(rfc2544),
        "notes": [SIZE_NOTE, *notes],
    }


def kept(measurement, path, say):
    """Runs a measurement (`run`, `entries`, `report`) and writes its report, also of what there is when an error or Ctrl-C
    ends it: hours of trials are not lost to the last one."""
    whole = False
    try:
        measurement.run()
        whole = True
    finally:
        if measurement.entries:
            write(measurement.report(), path)
            if not whole:
                say(f"what was measured until then is in {'what was printed' if path == '-' else path}")


def can_write(path):
    """Refuses a place where `write` will find no way in: ask before anything is measured. What is there stays."""
    if path == "-":
        return
    try:
        if os.path.isdir(path):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if os.path.exists(path):
            # At the worst it is written into.
            if not os.access(path, os.W_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            return
        with open(path, "x", encoding="utf-8"):
            pass
        os.unlink(path)
    except OSError as error:
        raise _failed(path, error) from error


def _is_replaced(path):
    """Whether a new file takes its place: of a regular one, or of none yet. Not of one that is reached as a descriptor of this process."""
    descriptors = ("/dev/stdout", "/dev/stderr", "/dev/fd/", "/proc/")
    return not path.startswith(descriptors) and (os.path.isfile(path) or not os.path.exists(path))


def _failed(path, error):
    return Error(f"report {path}: {error.strerror}: give another place with --out")


def write(report, path):
    """Writes it whole or not at all, as src/bench/report/files.rs does: beside what is there, then in its place, with the owner, the
    group and the mode that it had; into it where no such file can be begun beside it. `-` is standard output."""
    text = json.dumps(report, indent=1) + "\n"
    if path == "-":
        sys.stdout.write(text)
        return
    try:
        place = os.path.realpath(path)
        begun = _begin(place) if _is_replaced(path) else None
        if begun is None:
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)
            return
        try:
            with begun as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            os.replace(begun.name, place)
        except OSError as error:
            os.unlink(begun.name)
            if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS, errno.EBUSY, errno.EXDEV):
                raise
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)
    except OSError as error:
        raise _failed(path, error) from error


def _begin(place):
    """An empty file beside `place`, of its owner, group and mode, by a name that no file of the user's has; None where there can be none.
    No room for it is an error: then there is none for the text either."""
    folder, name = os.path.split(place)
    beside = os.path.join(folder, f".{name}.{os.getpid()}.part")
    try:
        file = open(beside, "x", encoding="utf-8")
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        return None
    try:
        if os.path.exists(place):
            was = os.stat(place)
            os.fchown(file.fileno(), was.st_uid, was.st_gid)
            os.fchmod(file.fileno(), stat.S_IMODE(was.st_mode))
    except OSError:
        file.close()
        os.unlink(beside)
        return None
    return file


def _processor():
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.machine()


def _commit():
    """The tree's commit, read from .git without running git; empty where there is none."""
    root = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
    try:
        folder = os.path.join(root, ".git")
        if os.path.isfile(folder):
            folder = os.path.join(root, _first(folder).split(": ", 1)[1])
        head = _first(os.path.join(folder, "HEAD"))
        if not head.startswith("ref: "):
            return head[:12]
        common = os.path.join(folder, "commondir")
        if os.path.isfile(common):
            folder = os.path.join(folder, _first(common))
        loose = os.path.join(folder, head[5:])
        if os.path.isfile(loose):
            return _first(loose)[:12]
        with open(os.path.join(folder, "packed-refs"), encoding="utf-8") as file:
            return next(line[:12] for line in file if line.strip().endswith(head[5:]))
    except (OSError, IndexError, StopIteration):
        return ""


def _first(path):
    with open(path, encoding="utf-8") as file:
        return file.readline().strip()
