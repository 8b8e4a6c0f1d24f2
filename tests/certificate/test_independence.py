"""What a check rests on: the kernel and the import; neither a method, nor torch, nor a solver is even loaded."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import lipcert
from tests.helpers.paths import MODELS
from tests.helpers.processes import run_process

MODEL = MODELS / "digits_conv.onnx"

FORBIDDEN = {
    "torch",
    "cvxpy",
    "scs",
    "clarabel",
    "mosek",
    "scipy",
    "lipcert.methods",
    "lipcert.planning",
    "lipcert.operators.torch_view",
    "lipcert.frontend.torch_export",
}

PROGRAM = """
import json, sys
from lipcert.cli.main import run
status = run(sys.argv[1:])
print(json.dumps({"status": status, "modules": sorted(sys.modules)}))
"""


def modules_of(*arguments: str) -> tuple[int, set[str]]:
    """The exit status of a command in a fresh process, and all that it imported."""
    done = run_process(*arguments, program=PROGRAM)
    found = json.loads(done.stdout.splitlines()[-1])
    return found["status"], set(found["modules"])


def forbidden(modules: set[str]) -> set[str]:
    return {m for m in modules if any(m == name or m.startswith(f"{name}.") for name in FORBIDDEN)}


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.json"
    path.write_text(lipcert.bound(MODEL, norm="inf", center=np.full(64, 0.5), eps=0.01).to_json())
    return path


@pytest.mark.parametrize("strict", [[], ["--strict"]], ids=["float64", "strict"])
def test_check_loads_no_method_no_torch_and_no_solver(report: Path, strict: list[str]) -> None:
    status, modules = modules_of("check", *strict, str(report), str(MODEL))
    assert status == 0
    assert {"lipcert.certificate.verify", "numpy"} <= modules
    assert not forbidden(modules)


def test_nor_does_check_of_robust_accuracy(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    data = {"data": MODELS / "digits_test.csv", "labels_column": 0, "scale": 16.0, "rows": (0, 3)}
    path.write_text(lipcert.certify(MODEL, eps=0.02, norm="inf", local=True, timeout=0, **data).to_json())
    status, modules = modules_of("check", str(path), str(MODEL))
    assert status == 0
    assert {"lipcert.certificate.robustness", "numpy"} <= modules
    assert not forbidden(modules)


def test_bound_loads_what_check_does_not() -> None:
    """The test above would notice."""
    status, modules = modules_of("bound", "--quiet", str(MODELS / "digits_relu.onnx"))
    assert status == 0
    assert {"lipcert.methods", "lipcert.planning", "torch"} <= forbidden(modules)
