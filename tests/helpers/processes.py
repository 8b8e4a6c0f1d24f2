"""lipcert in a fresh process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.helpers.paths import PACKAGE

MAIN = "from lipcert.cli.main import main; main()"


def environment() -> dict[str, str]:
    """The variables of a process that imports the package under test."""
    path = os.pathsep.join(p for p in (str(PACKAGE), os.environ.get("PYTHONPATH")) if p)
    return {**os.environ, "PYTHONPATH": path}


def command_line(*arguments: object, program: str = MAIN) -> list[str]:
    """What to start: the command line, or another program that is given the arguments."""
    return [sys.executable, "-c", program, *map(str, arguments)]


def run_process(
    *arguments: object, program: str = MAIN, folder: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run it to its end."""
    return subprocess.run(
        command_line(*arguments, program=program),
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
