"""Measures how long the command line takes to start, over a bare interpreter: wall-clock seconds, commands in turn."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

RUNS = 11
FDF = str(Path(sys.executable).with_name("fdf"))
BARE = "python -c pass"
COMMANDS = {
    BARE: [sys.executable, "-c", "pass"],
    "fdf --help": [FDF, "--help"],
    "fdf ops list": [FDF, "ops", "list"],
}


def main() -> None:
    """Print the table of docs/benchmarks.md."""
    seconds: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(RUNS):
        for name, command in COMMANDS.items():
            started = time.perf_counter()
            subprocess.run(command, stdout=subprocess.DEVNULL, check=True)  # noqa: S603 (our own commands)
            seconds[name].append(time.perf_counter() - started)
    bare = statistics.median(seconds[BARE])
    print("| command | median s | min | max | over a bare interpreter |\n|---|---|---|---|---|")
    for name, taken in seconds.items():
        median = statistics.median(taken)
        print(f"| `{name}` | {median:.2f} | {min(taken):.2f} | {max(taken):.2f} | {median - bare:.2f} |")


if __name__ == "__main__":
    main()
