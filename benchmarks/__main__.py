"""`python -m benchmarks`: runs the suites, prints tables, writes results.json beside this file."""

from __future__ import annotations

import argparse
import datetime
import importlib
import json
import os
import platform
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.section import Section, Settings

# Suites import numpy only when they run; what it reads from the environment is set before.
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, os.environ.get("OMP_NUM_THREADS", "2"))

SUITES = {
    "startup": "benchmarks.startup",
    "importing": "benchmarks.importing",
    "product": "benchmarks.product",
    "peers": "benchmarks.peers.suite",
    "convolutions": "benchmarks.convolutions",
    "lipsdp": "benchmarks.lipsdp",
    "local": "benchmarks.local",
    "many": "benchmarks.many",
    "implicit": "benchmarks.implicit",
}
"""The module of each suite; it has `suite(settings) -> list[Section]`."""

WIDTH = 200
"""Of tables in a file or a pipe."""

HERE = Path(__file__).parent
RESULTS = HERE / "results.json"


def main() -> int:
    arguments = _arguments()
    console, stderr = Console(), Console(stderr=True)
    if not console.is_terminal:
        console = Console(width=WIDTH)
    settings = Settings(
        repeat=arguments.repeat,
        models=HERE.parent / "models",
        data=arguments.data,
        say=lambda text: stderr.print(text, style="dim", highlight=False, markup=False),
        peers=arguments.peers,
    )
    failures = []
    for name in arguments.suite or SUITES:
        load = os.getloadavg()[0]
        sections = importlib.import_module(SUITES[name]).suite(settings)
        for section in sections:
            show(section, console)
            failures += section.failures
        _write(name, sections, arguments.repeat, load)
    return 1 if failures else 0


def show(section: Section, console: Console) -> None:
    """Print a section as a table, with its notes and failures below."""
    table = Table(title=section.title, title_justify="left", caption_justify="left")
    for column in section.columns:
        values = [row.get(column.key) for row in section.rows]
        numeric = all(isinstance(v, int | float | None) and not isinstance(v, bool) for v in values)
        table.add_column(column.title, justify="right" if numeric else "left", overflow="fold")
    for row in section.rows:
        shown = (None if row.get(c.key) is None else c.show(row[c.key]) for c in section.columns)
        table.add_row(*("" if text is None else text for text in shown))
    if section.rows:
        console.print(table)
    for note in section.notes:
        console.print(note, style="dim", highlight=False, markup=False)
    for failure in section.failures:
        console.print(f"FAILED {failure}", style="red", highlight=False, markup=False)
    console.print()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Speed and tightness of lipcert.")
    parser.add_argument("--suite", action="append", choices=list(SUITES), help="only this one (repeatable)")
    parser.add_argument("--repeat", type=_count, default=5, metavar="N", help="runs per measurement (default: 5)")
    parser.add_argument(
        "--data",
        type=Path,
        default=os.environ.get("LIPCERT_TEST_DATA"),
        metavar="DIR",
        help="folder with models/ and images/ from outside (default: LIPCERT_TEST_DATA)",
    )
    parser.add_argument(
        "--peers",
        type=Path,
        default=os.environ.get("LIPCERT_PEERS"),
        metavar="DIR",
        help="folder with peers that are no packages: lip4conv/ and lipbound/ (default: LIPCERT_PEERS)",
    )
    arguments = parser.parse_args()
    for option in ("data", "peers"):
        given = getattr(arguments, option)
        if given is not None and not Path(given).is_dir():
            parser.error(f"--{option}: there is no such folder")
    return arguments


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of runs")
    return int(text)


def _write(suite: str, sections: list[Section], repeat: int, load: float) -> None:
    """Put a suite's rows into results.json; the other suites' stay."""
    results: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    results[suite] = {
        "date": datetime.date.today().isoformat(),
        "repeat": repeat,
        "load_before": round(load, 2),
        "environment": _environment(),
        "sections": {s.name: {"rows": s.rows, "notes": s.notes, "failures": s.failures} for s in sections},
    }
    RESULTS.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


def _environment() -> dict[str, str | int | None]:
    return {
        "cores": os.cpu_count(),
        "threads": os.environ["OMP_NUM_THREADS"],
        "machine": platform.machine(),
        "python": platform.python_version(),
        **{package: version(package) for package in ("lipcert", "numpy", "torch")},
    }


if __name__ == "__main__":
    sys.exit(main())
