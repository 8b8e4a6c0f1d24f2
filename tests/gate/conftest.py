"""Small repositories with a policy, and gates run on them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper

from lipcert.cli.main import run
from tests.helpers.onnx_models import model, random_weights, save


@dataclass(frozen=True)
class Gated:
    """A finished `lipcert gate`."""

    status: int
    out: str
    err: str
    document: dict[str, Any]

    @property
    def verdicts(self) -> dict[str, str]:
        return {result["id"]: result["verdict"] for result in self.document["results"]}

    def result(self, name: str) -> dict[str, Any]:
        return next(result for result in self.document["results"] if result["id"] == name)

    def error(self) -> str:
        """Its one line on stderr; nothing else was written."""
        assert (self.out, self.document) == ("", {})
        assert self.err.startswith("lipcert: "), self.err
        assert self.err.count("\n") == 1
        return self.err


Gate = Callable[..., Gated]


def network(gain: float, folder: Path, name: str) -> Path:
    """A small dense network; `gain` multiplies its l2 constant."""
    first, second = random_weights(6, 4), random_weights(3, 6, seed=2)
    scale = np.float32(gain / (np.linalg.norm(first, 2) * np.linalg.norm(second, 2)))
    nodes = [
        helper.make_node("Gemm", ["x", "w1"], ["h"], transB=1),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("Gemm", ["r", "w2"], ["y"], transB=1),
    ]
    weights = {"w1": first, "w2": (second * scale).astype(np.float32)}
    return save(model(nodes, {"x": [1, 4]}, ["y"], weights), folder, name)


@pytest.fixture(autouse=True)
def outside_github(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two networks (constants at most 1 and 10) in the current folder, whose policy bounds both by 5."""
    folder = tmp_path / "repository"
    (folder / "nets").mkdir(parents=True)
    (folder / ".git").mkdir()
    network(1.0, folder / "nets", "small.onnx")
    network(10.0, folder / "nets", "large.onnx")
    write_policy(folder, '[[check]]\nname = "global"\nmodels = "nets/*.onnx"\nmax = 5\n')
    monkeypatch.chdir(folder)
    return folder


def write_policy(folder: Path, checks: str, defaults: str = 'method = "product"\n') -> None:
    (folder / "lipcert.toml").write_text(f"[defaults]\n{defaults}\n{checks}")


@pytest.fixture
def gate(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Gate:
    """gate("--option", ...) runs `lipcert gate` in the current folder."""

    def command(*arguments: object) -> Gated:
        path = tmp_path / "verdicts.json"
        path.unlink(missing_ok=True)
        capsys.readouterr()
        status = run(["gate", "--json", str(path), *map(str, arguments)])
        written = capsys.readouterr()
        return Gated(status, written.out, written.err, json.loads(path.read_text()) if path.exists() else {})

    return command
