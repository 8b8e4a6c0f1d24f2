"""Runs one command as a child and prints a JSON line of its wall time, processor time, peak memory and exit status.

A script of its own, of the standard library only: a child's peak memory includes what its parent held when it was
started, so the parent has to be small.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

OUTPUT_TAIL = 500
"""Characters of a child's output that are kept, for the message if it fails."""


@dataclass(frozen=True)
class Finished:
    """A child that has ended."""

    seconds: float
    cpu_seconds: float
    peak_mib: float
    status: int
    output: str


def run(command: list[str], folder: Path) -> Finished:
    """Run the command in `folder` through this script, in a process of its own."""
    launcher = [sys.executable, "-S", str(Path(__file__)), *command]
    done = subprocess.run(launcher, cwd=folder, capture_output=True, text=True, check=True)
    return Finished(**json.loads(done.stdout))


def _main(command: list[str]) -> None:
    began = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as child:
        assert child.stdout is not None
        output = child.stdout.read().decode(errors="replace")
        _, status, usage = os.wait4(child.pid, 0)
        seconds = time.perf_counter() - began
        child.returncode = os.waitstatus_to_exitcode(status)
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB on Linux
    print(
        json.dumps(
            {
                "seconds": seconds,
                "cpu_seconds": usage.ru_utime + usage.ru_stime,
                "peak_mib": usage.ru_maxrss * unit / 2**20,
                "status": child.returncode,
                "output": output[-OUTPUT_TAIL:],
            }
        )
    )


if __name__ == "__main__":
    _main(sys.argv[1:])
