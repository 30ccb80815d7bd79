#!/usr/bin/env python3
"""Compares instruction counts with those on record. Run it as ./scripts/instructions.

Reads the benchmarks' summaries, a JSON object a line, from standard input.
"""
import argparse
import json
import os
import sys

# benches/common/parts.rs: every benchmark does so many operations.
OPERATIONS = 1024

# Random hash keys change counts by up to a quarter of a percent (measured, five runs); what one
# does not notice in one commit adds up in ten.
TOLERANCE = 0.03

COMPILER = "compiler"
HEAD = """\
# Instructions for one operation, counted by ./scripts/instructions, and the compiler that was used.
# Do not edit it: ./scripts/instructions --update writes it.
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("compiler", help="version and target of the compiler")
    parser.add_argument("record", help="the file with the counts on record")
    parser.add_argument("--update", action="store_true", help="write that file")
    arguments = parser.parse_args()
    now = counts(sys.stdin)
    if not now:
        sys.exit("error: the benchmarks counted nothing")
    compiler, before = on_record(arguments.record)
    worse, better = compare(before, now)
    unknown = [name for name in now if name not in before]
    gone = [name for name in before if name not in now]
    if arguments.update:
        write(arguments.record, arguments.compiler, now)
        print(f"\nwritten to {arguments.record}")
        return 0
    print()
    for name in worse:
        print(f"WORSE: {name}: {change(before[name], now[name])}")
    for name in better:
        print(f"better: {name}: {change(before[name], now[name])}")
    for name in unknown:
        print(f"NOT ON RECORD: {name}: {now[name]:.1f}")
    for name in gone:
        print(f"NOT COUNTED ANY MORE: {name}")
    if worse:
        print("callgrind_annotate target/gungraun/lotus/instructions/all/NAME/*.out shows where"
              " (NAME with a dot for the slash)")
    if worse or better or unknown or gone:
        print("To put the present counts on record: ./scripts/instructions --update")
    if not worse and not better:
        print(f"all {len(now)} counts are within {TOLERANCE:.0%} of those on record")
    if unknown or gone:
        return 1
    if worse and compiler != arguments.compiler:
        print(f"Not a failure: counted with {arguments.compiler}, on record are counts with"
              f" {compiler}.")
        return 0
    return 1 if worse else 0


def counts(lines):
    """Instructions for an operation, by name."""
    found = {}
    for line in lines:
        summary = json.loads(line)
        name = f"{summary['function_name']}/{summary['id']}"
        [profile] = summary["profiles"]
        found[name] = profile["data"]["total"]["metrics"]["Ir"]["values"]["new"] / OPERATIONS
    return found


def on_record(path):
    """The compiler, and counts by name; none of both if there is no record."""
    compiler, found = None, {}
    if os.path.exists(path):
        with open(path, encoding="utf-8") as file:
            for line in file:
                if line.startswith("#"):
                    continue
                name, value = line.rstrip("\n").split("\t")
                if name == COMPILER:
                    compiler = value
                else:
                    found[name] = float(value)
    return compiler, found


def compare(before, now):
    """Prints all, and returns the names of those that are worse and of those that are better."""
    print(f"\n{'instructions for one operation':32}{'on record':>11}{'now':>11}")
    worse, better = [], []
    for name, count in now.items():
        if name not in before:
            print(f"{name:32}{'-':>11}{count:11.1f}")
            continue
        by = count / before[name] - 1
        print(f"{name:32}{before[name]:11.1f}{count:11.1f}{by:+9.1%}")
        if by > TOLERANCE:
            worse.append(name)
        elif by < -TOLERANCE:
            better.append(name)
    return worse, better


def change(before, now):
    return f"before {before:.1f}, now {now:.1f} ({now / before - 1:+.1%})"


def write(path, compiler, now):
    with open(path, "w", encoding="utf-8") as file:
        file.write(HEAD)
        file.write(f"{COMPILER}\t{compiler}\n")
        for name, count in now.items():
            file.write(f"{name}\t{count:.1f}\n")


if __name__ == "__main__":
    sys.exit(main())
