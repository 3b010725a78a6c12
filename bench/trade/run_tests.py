"""Runs the tests of bench/trade, bench/pktgen, bench/trex and bench/instructions, and says what came of them in the
words of Rust's libtest, which scripts/test counts. Those of bench/trex want scapy; with TREX=FOLDER they go over TRex'
own modules instead of the records of what was asked for that stand in for them.
"""

import os
import sys
import unittest

BENCH = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")
TREX = os.environ.get("TREX")
STUB = os.path.join(BENCH, "trex", "test.d", "stub")
API = os.path.join(TREX, "automation", "trex_control_plane", "interactive") if TREX else STUB


def main():
    sys.dont_write_bytecode = True
    sys.path[:0] = [API, os.path.join(BENCH, "trex"), os.path.join(BENCH, "trade")]
    folders, passed = ["trade/test.d", "pktgen/test.d", "instructions.d"], 0
    try:
        import scapy  # noqa: F401

        folders.append("trex/test.d")
    except ImportError:
        # One that skipped itself counts as passed in libtest's words.
        print("SKIPPED TRex profiles: no scapy: apt-get install python3-scapy")
        passed = 1
    suite = unittest.TestSuite()
    for folder in folders:
        tests = os.path.join(BENCH, folder)
        suite.addTests(unittest.TestLoader().discover(tests, pattern="test_*.py"))
    result = unittest.TextTestRunner(verbosity=1).run(suite)
    failed = len(result.failures) + len(result.errors)
    for case, why in result.skipped:
        print(f"SKIPPED {case.id()}: {why}")
    passed += result.testsRun - failed
    print(f"test result: {'FAILED' if failed else 'ok'}. {passed} passed; {failed} failed; 0 ignored")
    return 1 if failed or not result.testsRun else 0


if __name__ == "__main__":
    sys.exit(main())
