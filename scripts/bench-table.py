#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Turns the JSON of `make bench` into a table of README.md or of a page in docs/.
usage: bench-table.py build/bench.json [REGULAR EXPRESSION]   (the rows whose names it matches at their beginning)"""

import json
import re
import sys

SIZES = {1024: "1 Ki", 65536: "64 Ki", 1048576: "1 Mi"}


def cell(row):
    """skep's median, the one it is compared with, and their ratio."""
    medians = dict(row["medians"])
    skep = medians.pop("skep")
    if not medians:
        return f"{skep:.1f}"
    name = next((n for n in ("kernel", "TBB", "floor") if n in medians), next(iter(medians)))
    other = medians[name]
    marks = "" if all(t["met"] for t in row["targets"]) else " \u2717"
    return f"**{skep:.1f}** / {other:.1f} ({other / skep:.1f}x){marks}"


def main():
    rows = json.load(open(sys.argv[1]))["rows"]
    wanted = re.compile(sys.argv[2] if len(sys.argv) > 2 else "")
    table = {}
    for row in rows:
        if not wanted.match(row["what"]):
            continue
        name = row["what"] + (", two threads" if row["threads"] == 2 else "")
        table.setdefault(name, {})[row["entries"]] = cell(row)
    print("| skep / other (times faster) | " + " | ".join(SIZES.values()) + " |")
    print("|---|" + "---:|" * len(SIZES))
    for name, cells in table.items():
        print(f"| {name} | " + " | ".join(cells.get(size, "") for size in SIZES) + " |")


main()
