"""Reading large models: a ResNet-50 in shape and size with random weights, and constants from long chains."""

from __future__ import annotations

import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx

from benchmarks.child import run
from benchmarks.large_models import bjorck, resnet50
from benchmarks.section import Column, Section, Settings, goal, seconds

COLUMNS = (
    Column("model", "model"),
    Column("parameters", "parameters", lambda n: f"{n:,}"),
    Column("load_seconds", "lipcert.load", seconds),
    Column("seconds", "whole process", seconds),
    Column("peak_mib", "peak memory", lambda mib: f"{mib:.0f} MiB"),
    Column("runs", "runs"),
    Column("goal", "goal"),
    Column("met", "", goal),
)

LOAD = "import sys, time; import lipcert; t = time.monotonic(); lipcert.load(sys.argv[1]); print(time.monotonic() - t)"

MAX_SECONDS, MAX_MIB = 10.0, 3072.0


def suite(settings: Settings) -> list[Section]:
    section = Section("importing", "Import of large models, in a process of their own", COLUMNS)
    makers: dict[str, tuple[Callable[[], onnx.ModelProto], bool]] = {
        "resnet50, random weights": (resnet50, True),
        "bjorck 128x128, 15 steps": (lambda: bjorck(128, 15), False),
    }
    with tempfile.TemporaryDirectory() as folder:
        for name, (make, limited) in makers.items():
            settings.say(name)
            model = make()
            path = Path(folder) / "model.onnx"
            onnx.save(model, str(path))
            results = [run([sys.executable, "-c", LOAD, str(path)], Path.cwd()) for _ in range(settings.repeat)]
            failed = next((r for r in results if r.status != 0), None)
            if failed is not None:
                section.failures.append(f"{name}: {failed.output.strip()[-500:]}")
                continue
            loads = [float(r.output.split()[-1]) for r in results]
            peak = max(r.peak_mib for r in results)
            whole = statistics.median(r.seconds for r in results)
            section.rows.append(
                {
                    "model": name,
                    "parameters": sum(int(np.prod(t.dims)) for t in model.graph.initializer),
                    "load_seconds": statistics.median(loads),
                    "seconds": whole,
                    "peak_mib": peak,
                    "runs": len(results),
                    "goal": f"under {MAX_SECONDS:g} s, {MAX_MIB:g} MiB" if limited else None,
                    "met": whole < MAX_SECONDS and peak < MAX_MIB if limited else None,
                }
            )
    return [section]
