"""Every reader of what comes from outside, given damaged inputs: how many it takes, and whether one makes it fail.

    python -m bench fuzz [--inputs 10000] [--only "rule pack"] [--seed 1]

``inputs`` are for each reader. A crash is any other error than the reader's own; the first of each reader is shown with
its input, and the exit code is then 1.
"""

import argparse
import sys
import tempfile
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from random import Random

from tests.fixtures.damage import damaged
from tests.fixtures.readers import Reader, readers


@dataclass
class Found:
    """What came of one reader's inputs; the slowest in seconds."""

    inputs: int = 0
    refused: int = 0
    crashes: int = 0
    seconds: float = 0.0
    slowest: float = 0.0


def tried(reader: Reader, inputs: int, seed: int, scratch: Path) -> Found:
    """Give a reader so many damaged inputs."""
    found, chance = Found(), Random(f"{seed}/{reader.name}")
    for _ in range(inputs):
        content = damaged(chance, reader.good)
        with tempfile.TemporaryDirectory(dir=scratch) as folder:
            began = time.perf_counter()
            try:
                reader.read(content, Path(folder))
            except reader.errors:
                found.refused += 1
            except Exception:  # noqa: BLE001 - these are what we look for
                found.crashes += 1
                if found.crashes == 1:
                    print(f"{reader.name}: {content!r}\n{traceback.format_exc()}", file=sys.stderr)
            took = time.perf_counter() - began
        found.inputs += 1
        found.seconds += took
        found.slowest = max(found.slowest, took)
    return found


def main() -> int:
    """Try all and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=10_000)
    parser.add_argument("--only", help="one reader, by its name")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    chosen = [reader for reader in readers() if options.only in (None, reader.name)]
    if not chosen:
        parser.error(f"no reader {options.only}: there are {', '.join(reader.name for reader in readers())}")
    print("| reader | inputs | refused | crashes | seconds | slowest, ms |\n|---|---|---|---|---|---|", flush=True)
    whole = Found()
    with tempfile.TemporaryDirectory() as scratch:
        for reader in chosen:
            found = tried(reader, options.inputs, options.seed, Path(scratch))
            print(_line(reader.name, found), flush=True)
            whole = Found(
                whole.inputs + found.inputs,
                whole.refused + found.refused,
                whole.crashes + found.crashes,
                whole.seconds + found.seconds,
                max(whole.slowest, found.slowest),
            )
    print(_line("all", whole))
    return 1 if whole.crashes else 0


def _line(name: str, found: Found) -> str:
    figures = (
        f"{found.inputs:,} | {found.refused:,} | {found.crashes:,} | {found.seconds:.1f} | {found.slowest * 1000:.0f}"
    )
    return f"| {name} | {figures} |"


if __name__ == "__main__":
    sys.exit(main())
