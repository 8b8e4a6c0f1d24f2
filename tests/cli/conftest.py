"""Commands as a user types them, run in this process."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lipcert.cli.main import run
from tests.helpers.paths import MODELS

MOST = 500
"""Characters of a line that a person reads."""


@dataclass(frozen=True)
class Done:
    """A finished command."""

    status: int
    out: str
    err: str

    def error(self) -> str:
        """Its one line on stderr, having printed nothing else."""
        assert self.out == ""
        assert self.err.startswith("lipcert: "), self.err
        assert self.err.count("\n") == 1, self.err
        assert self.err.endswith("\n")
        assert len(self.err) < MOST, self.err[:MOST]
        return self.err[len("lipcert: ") : -1]


Command = Callable[..., Done]


@pytest.fixture
def lipcert(capsys: pytest.CaptureFixture[str]) -> Command:
    """lipcert("bound", path, ...) runs a command."""

    def command(*arguments: object) -> Done:
        capsys.readouterr()
        status = run([str(a) for a in arguments])
        written = capsys.readouterr()
        return Done(status, written.out, written.err)

    return command


@pytest.fixture
def bound_json(lipcert: Command) -> Callable[..., dict[str, Any]]:
    """The report of `lipcert bound ... --json -`, with nothing else on stdout or stderr."""

    def command(*arguments: object) -> dict[str, Any]:
        done = lipcert("bound", *arguments, "--json", "-")
        assert (done.status, done.err) == (0, "")
        return json.loads(done.out)

    return command


@pytest.fixture(scope="session")
def relu() -> Path:
    """A dense network, 64 inputs and 10 outputs."""
    return MODELS / "digits_relu.onnx"


@pytest.fixture(scope="session")
def conv() -> Path:
    """A convolutional one, inputs 1 x 8 x 8."""
    return MODELS / "digits_conv.onnx"


@pytest.fixture(scope="session")
def images() -> Path:
    """A csv file of images: the label, then 64 pixels 0..16."""
    return MODELS / "digits_test.csv"
