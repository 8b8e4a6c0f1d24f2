"""Whole commands as a user runs them: wall time and peak memory, imports included."""

from __future__ import annotations

import statistics
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.child import Finished, run
from benchmarks.networks import find
from benchmarks.section import Column, Row, Section, Settings, goal, seconds

COLUMNS = (
    Column("command", "command"),
    Column("seconds", "median", seconds),
    Column("fastest", "fastest", seconds),
    Column("cpu_seconds", "processor time", seconds),
    Column("peak_mib", "peak memory", lambda mib: f"{mib:.0f} MiB"),
    Column("runs", "runs"),
    Column("goal", "goal"),
    Column("met", "", goal),
)


@dataclass(frozen=True)
class Case:
    """A command line (of shown words, some of which stand for paths) and its limits, where it has any."""

    words: tuple[str | Path, ...]
    max_seconds: float | None = None
    max_mib: float | None = None

    @property
    def title(self) -> str:
        return " ".join(word.name if isinstance(word, Path) else word for word in ("lipcert", *self.words))


def suite(settings: Settings) -> list[Section]:
    section = Section("commands", "Whole commands, in a process of their own", COLUMNS)
    with tempfile.TemporaryDirectory() as folder:
        for case in _cases(settings, Path(folder) / "out.json"):
            settings.say(case.title)
            results = [run([*lipcert_command(), *map(str, case.words)], Path.cwd()) for _ in range(settings.repeat)]
            failed = next((r for r in results if r.status != 0), None)
            if failed is not None:
                section.failures.append(f"{case.title}: status {failed.status}: {failed.output.strip()}")
                continue
            section.rows.append(_row(case, results))
    return [section]


def _cases(settings: Settings, report: Path) -> Iterator[Case]:
    yield Case(("--help",), max_seconds=0.3)
    yield Case(("bound", settings.models / "digits_relu.onnx", "--method", "product"))
    large = find("mnistfc_256x4", settings)
    if large is not None:
        command = ("bound", large, "--norm", "2", "--method", "product", "--json", report)
        yield Case(command, max_seconds=6.0, max_mib=1024.0)
        yield Case(("check", report, large))


def lipcert_command() -> list[str]:
    """The installed command, or the same through the interpreter where it is not installed."""
    script = Path(sys.executable).with_name("lipcert")
    return [str(script)] if script.exists() else [sys.executable, "-c", "from lipcert.cli.main import main; main()"]


def _row(case: Case, results: list[Finished]) -> Row:
    middle = statistics.median(r.seconds for r in results)
    peak = max(r.peak_mib for r in results)
    limits = []
    if case.max_seconds is not None:
        limits.append((f"{case.max_seconds:g} s", middle < case.max_seconds))
    if case.max_mib is not None:
        limits.append((f"{case.max_mib:g} MiB", peak < case.max_mib))
    return {
        "command": case.title,
        "seconds": middle,
        "fastest": min(r.seconds for r in results),
        "cpu_seconds": statistics.median(r.cpu_seconds for r in results),
        "peak_mib": peak,
        "runs": len(results),
        "goal": "under " + ", ".join(text for text, _ in limits) if limits else None,
        "met": all(met for _, met in limits) if limits else None,
    }
