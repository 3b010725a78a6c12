"""bench/instructions: what callgrind wrote is read right, changes are marked, and errors are one line."""

import importlib.machinery
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import unittest

import report

COMMAND = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "instructions")
loader = importlib.machinery.SourceFileLoader("instructions_command", COMMAND)
command = importlib.util.module_from_spec(importlib.util.spec_from_loader("instructions_command", loader))
loader.exec_module(command)


class Counts(unittest.TestCase):
    def folder(self, *totals):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        for part, total in enumerate(totals, 1):
            with open(os.path.join(folder.name, f"out.{part}"), "w", encoding="utf-8") as file:
                file.write(
                    f"version: 1\npart: {part}\nevents: Ir\nsummary: {total}\n\nfn=(1) x\n1 2\n\ntotals: {total}\n"
                )
        return folder.name

    def test_each_case_has_its_part(self):
        told = "something else\ncase a/b 100\ncase c 3\n"
        self.assertEqual(command.counts(told, self.folder(1234, 10)), {"a/b": 12.34, "c": 3.33})

    def test_nothing(self):
        with self.assertRaisesRegex(report.Error, "case a: callgrind counted nothing"):
            command.counts("case a 1\n", self.folder(0))
        with self.assertRaisesRegex(report.Error, "no case has such a name"):
            command.counts("", self.folder())


class Compared(unittest.TestCase):
    def test_what_changed(self):
        before = {"same": 100, "little": 100, "more": 100, "less": 1000, "gone": 5}
        after = {"same": 100, "little": 102, "more": 102.1, "less": 500, "new": 7}
        head, *lines, end = command.compare(before, after)
        self.assertEqual(head.split(), ["case", "before", "now", "change"])
        by_name = {line.split()[0]: line.split()[1:] for line in lines}
        self.assertEqual(by_name["same"], ["100.0", "100.0", "+0.0%"])
        self.assertEqual(by_name["little"][2:], ["+2.0%"])
        self.assertEqual(by_name["more"][2:], ["+2.1%", "more"])
        self.assertEqual(by_name["less"], ["1,000.0", "500.0", "-50.0%", "less"])
        self.assertEqual((by_name["gone"], by_name["new"]), (["5.0", "gone"], ["7.0", "new"]))
        self.assertEqual(end, "2 of 5 changed by more than 2 %")


class Kept(unittest.TestCase):
    def test_the_newest_counts(self):
        with tempfile.TemporaryDirectory() as folder:
            self.assertIsNone(command.last_kept(folder))
            for name, started in (("2026-01-02-b", 2), ("2026-01-03-a", 1)):
                with open(os.path.join(folder, f"instructions-{name}.json"), "w", encoding="utf-8") as file:
                    json.dump({"started": started, "cases": {}}, file)
            path, kept = command.last_kept(folder)
            self.assertTrue(path.endswith("instructions-2026-01-02-b.json"))
            self.assertEqual(kept["started"], 2)
            with open(path, "w", encoding="utf-8") as file:
                file.write("{")
            with self.assertRaisesRegex(report.Error, "no kept result"):
                command.last_kept(folder)

    def test_what_is_in_the_tree(self):
        kept = command.last_kept()
        if kept:
            self.assertEqual((kept[1]["version"], kept[1]["kind"]), (1, "instructions"))
            self.assertTrue(kept[1]["compiler"] and kept[1]["commit"] and kept[1]["cases"])


class Errors(unittest.TestCase):
    def test_without_valgrind(self):
        ran = subprocess.run([sys.executable, COMMAND], env={"PATH": "/nowhere"}, capture_output=True, text=True)
        self.assertEqual((ran.returncode, ran.stdout), (1, ""))
        wanted = "bench/instructions: error: valgrind: not there: apt-get install valgrind\n"
        self.assertEqual(ran.stderr, wanted)

    def test_a_part_is_not_kept(self):
        ran = subprocess.run([sys.executable, COMMAND, "--keep", "parse"], capture_output=True, text=True)
        self.assertRegex(ran.stderr, "^bench/instructions: error: --keep: of all cases or none")
