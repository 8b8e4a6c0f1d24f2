"""The command line as a whole: exit statuses, help, tracebacks, interruptions."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from subprocess import PIPE

import numpy as np
import pytest
from onnx import helper

import lipcert as api
from lipcert.certificate import Claim
from lipcert.methods import Progress
from lipcert.methods.product import ProductMethod
from lipcert.planning import METHODS
from lipcert.problem import Problem
from tests.cli.conftest import Command
from tests.helpers.onnx_models import model, one_op, save
from tests.helpers.processes import command_line, environment, run_process

COMMANDS = ("bound", "check", "inspect")


class Silent(ProductMethod):
    """Finds nothing."""

    def claims(self, problem: Problem, progress: Progress) -> Iterator[Claim]:
        return iter(())


class Picky(ProductMethod):
    """Takes no problem."""

    def accepts(self, problem: Problem) -> str | None:
        return "the moon is not full"


class Liar(ProductMethod):
    """Claims half of what it can prove."""

    def claims(self, problem: Problem, progress: Progress) -> Iterator[Claim]:
        for claim in super().claims(problem, progress):
            yield Claim(claim.value / 2, claim.evidence)


class Interrupted(ProductMethod):
    """Ctrl-C after the first claim."""

    def claims(self, problem: Problem, progress: Progress) -> Iterator[Claim]:
        yield next(iter(super().claims(problem, progress)))
        raise KeyboardInterrupt


class InterruptedAtOnce(ProductMethod):
    """Ctrl-C before the first claim."""

    def claims(self, problem: Problem, progress: Progress) -> Iterator[Claim]:
        raise KeyboardInterrupt


def test_status_0_certified_and_within_the_limit(lipcert: Command, relu: Path) -> None:
    assert lipcert("bound", relu, "--max", 1e9).status == 0


def test_status_1_above_the_limit(lipcert: Command, relu: Path) -> None:
    assert lipcert("bound", relu, "--max", 1e-9).status == 1


def test_status_2_wrong_usage(lipcert: Command, relu: Path) -> None:
    assert lipcert("bound", relu, "--norm", "x").status == 2


def test_status_2_an_internal_error(lipcert: Command, relu: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise ZeroDivisionError("two\nlines")

    monkeypatch.setattr("lipcert.api.bounds.load", fail)
    done = lipcert("bound", relu)
    assert done.status == 2
    assert "ZeroDivisionError" in done.error()
    assert "--debug" in done.error()


def test_status_3_no_model(lipcert: Command, tmp_path: Path) -> None:
    (tmp_path / "text.onnx").write_text("this is no model")
    for path in (tmp_path / "missing.onnx", tmp_path / "text.onnx", tmp_path):
        done = lipcert("bound", path)
        assert done.status == 3
        assert str(path) in done.error()


def test_status_3_an_op_that_is_not_understood(lipcert: Command, tmp_path: Path) -> None:
    done = lipcert("bound", save(one_op("Det", [3, 3]), tmp_path))
    assert done.status == 3
    assert all(word in done.error() for word in ("Det", "the_node", "20"))


@pytest.mark.parametrize("method", [Silent, Picky, Liar])
def test_status_4_nothing_could_be_certified(
    lipcert: Command, relu: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, method: type[ProductMethod]
) -> None:
    """An inconclusive run never passes, whatever the limit; its report is no certificate."""
    monkeypatch.setitem(METHODS, "product", method)
    monkeypatch.setitem(METHODS, "lipsdp", Silent)
    report = tmp_path / "report.json"
    done = lipcert("bound", relu, "--max", 1e300, "--json", report)
    assert (done.status, done.err) == (4, "")
    assert "inconclusive" in done.out
    assert ("moon" in done.out) == (method is Picky)
    assert ("above the claimed" in done.out) == (method is Liar)
    assert json.loads(report.read_text())["result"]["status"] == "inconclusive"
    assert lipcert("bound", relu, "--quiet").out == "inconclusive\n"
    monkeypatch.undo()
    assert lipcert("check", report, relu).status == 1


def test_status_4_a_bound_that_overflows(lipcert: Command, tmp_path: Path) -> None:
    """Twenty sigmoids between weights of 1e18: values stay small, but the constant is no float64."""
    names = ["x", *(f"v{i}" for i in range(40))]
    ops = [("MatMul", ["w"]), ("Sigmoid", [])] * 20
    nodes = [helper.make_node(op, [names[i], *rest], [names[i + 1]]) for i, (op, rest) in enumerate(ops)]
    proto = model(nodes, {"x": [1, 1]}, [names[-1]], {"w": np.full((1, 1), 1e18, dtype=np.float32)})
    done = lipcert("bound", save(proto, tmp_path))
    assert (done.status, done.err) == (4, "")
    assert "overflows" in done.out


def test_help_lists_every_command(lipcert: Command) -> None:
    for option in ("--help", "-h"):
        done = lipcert(option)
        assert (done.status, done.err) == (0, "")
        assert all(command in done.out for command in COMMANDS)
        assert all(f"{status} " in done.out for status in range(5))


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command(lipcert: Command, command: str) -> None:
    done = lipcert(command, "--help")
    assert (done.status, done.err) == (0, "")
    assert f"lipcert {command}" in done.out


def test_help_of_bound_names_every_option(lipcert: Command) -> None:
    text = lipcert("bound", "--help").out
    options = "norm norm-in norm-out center eps ball row skip-columns scale layout box spec outputs margin input output"
    for option in (*options.split(), "method", "timeout", "gap", "device", "max", "json", "quiet", "debug"):
        assert f"--{option}" in text


def test_version(lipcert: Command) -> None:
    from importlib.metadata import version

    assert version("lipcert") in lipcert("--version").out


def test_no_command_shows_the_help(lipcert: Command) -> None:
    done = lipcert()
    assert done.status == 2
    assert all(command in done.out + done.err for command in COMMANDS)


@pytest.mark.parametrize("arguments", [["bond"], ["--nothing"], ["bound"], ["bound", "a.onnx", "--eps"]])
def test_wrong_usage_is_one_line_that_points_to_the_help(lipcert: Command, arguments: list[str]) -> None:
    done = lipcert(*arguments)
    assert done.status == 2
    assert "--help" in done.error()


def test_help_imports_nothing_heavy() -> None:
    program = "import sys; from lipcert.cli.main import run; run(['--help']); print(*sys.modules)"
    done = run_process(program=program)
    modules = set(done.stdout.splitlines()[-1].split())
    assert "lipcert.cli.main" in modules
    assert not modules & {"numpy", "torch", "onnx", "onnxruntime", "onnx_ir", "scipy", "cvxpy", "flint", "rich"}


def test_debug_shows_the_traceback_and_keeps_the_status() -> None:
    for arguments in (["--debug", "bound", "missing.onnx"], ["bound", "missing.onnx", "--debug"]):
        done = run_process(*arguments)
        assert "Traceback" in done.stderr
        assert "missing.onnx" in done.stderr
        assert done.returncode == 3


def test_no_traceback_without_debug() -> None:
    done = run_process("bound", "missing.onnx")
    assert done.returncode == 3
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr


def test_an_interrupted_run_reports_the_best_verified_claim(
    lipcert: Command, relu: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(METHODS, "product", Interrupted)
    done = lipcert("bound", relu, "--json", tmp_path / "report.json")
    assert (done.status, done.err) == (0, "")
    assert "interrupted" in done.out
    result = json.loads((tmp_path / "report.json").read_text())["result"]
    assert result["interrupted"] is True
    assert result["status"] == "certified"
    monkeypatch.undo()
    assert lipcert("check", tmp_path / "report.json", relu).status == 0
    assert result["upper"] > api.bound(relu).upper  # type: ignore[operator]


def test_an_interrupted_run_that_has_nothing_is_inconclusive(
    lipcert: Command, relu: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(METHODS, "product", InterruptedAtOnce)
    done = lipcert("bound", relu, "--json", tmp_path / "report.json")
    assert (done.status, done.err) == (4, "")
    result = json.loads((tmp_path / "report.json").read_text())["result"]
    assert (result["interrupted"], result["status"], result["upper"]) == (True, "inconclusive", None)


def test_an_interrupted_import_is_one_line(lipcert: Command, relu: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("lipcert.api.bounds.load", interrupt)
    done = lipcert("bound", relu)
    assert (done.status, done.out) == (4, "")
    assert done.err.strip() == "lipcert: interrupted before anything was certified"  # on a line of its own, after ^C


SLOW = """
import sys, time
from lipcert.cli.main import main
from lipcert.methods.product import ProductMethod
from lipcert.planning import METHODS

class Slow(ProductMethod):
    def claims(self, problem, progress):
        yield next(iter(super().claims(problem, progress)))
        print("waiting", flush=True)
        time.sleep(60)

METHODS["product"] = Slow
main()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT to send")
def test_a_real_ctrl_c(relu: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    command = command_line("bound", relu, "--json", report, program=SLOW)
    with subprocess.Popen(command, stdout=PIPE, stderr=PIPE, text=True, env=environment()) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "waiting\n"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (0, "")
    assert "interrupted" in out
    assert json.loads(report.read_text())["result"]["interrupted"] is True


@pytest.mark.skipif(sys.platform == "win32", reason="pipes differ there")
def test_a_reader_that_goes_away_is_no_crash() -> None:
    """As in `lipcert inspect --ops | head -1`."""
    command = command_line("inspect", "--ops")
    with subprocess.Popen(command, stdout=PIPE, stderr=PIPE, text=True, env=environment()) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert "Traceback" not in process.stderr.read()
