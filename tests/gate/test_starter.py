"""`lipcert init` writes a policy that the gate passes, about the models that are there."""

from __future__ import annotations

from pathlib import Path

import pytest
from onnx import helper

from lipcert.cli.main import run
from lipcert.gate import starter
from lipcert.gate.policy import read_policy
from tests.gate.conftest import Gate, network
from tests.helpers.onnx_models import model, save


@pytest.fixture
def folder(repository: Path) -> Path:
    (repository / "lipcert.toml").unlink()
    return repository


def test_the_gate_passes_what_is_written(gate: Gate, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    network(2.0, folder, 'my "net".onnx')
    (folder / "bad.onnx").write_bytes(b"no model")
    save(model([helper.make_node("Sign", ["x"], ["y"])], {"x": [1, 4]}, ["y"]), folder, "sign.onnx")
    assert run(["init"]) == 0
    said = capsys.readouterr().out
    assert "lipcert.toml: 5 models, 3 with limits" in said
    text = (folder / "lipcert.toml").read_text()
    assert "# bad.onnx: not an ONNX file" in text
    assert "# x [1, 4] -> y [1, 3]" in text
    checks = read_policy(folder / "lipcert.toml").checks
    assert [check.models for check in checks] == [('my "net".onnx',), ("nets/large.onnx",), ("nets/small.onnx",)]
    assert gate("--select", "nets/small.onnx").status == 0
    limits = [check.maximum for check in checks]
    assert limits == sorted(limits, key=lambda limit: [2, 10, 1].index(round(limit / 0.6933)))


def test_every_commented_key_is_one(folder: Path) -> None:
    """Those of the head and of the regions are read where they are taken out of the comment."""
    assert run(["init"]) == 0
    text = (folder / "lipcert.toml").read_text()
    for line in starter.HEAD.splitlines():
        if line.startswith("# ") and " = " in line:
            (folder / "lipcert.toml").write_text(text.replace(line, line[2:]))
            assert read_policy(folder / "lipcert.toml")


def test_nothing_is_overwritten(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "lipcert.toml").write_text("mine")
    assert run(["init"]) == 2
    assert "there is a policy already" in capsys.readouterr().err
    assert (folder / "lipcert.toml").read_text() == "mine"
    (folder / "lipcert.toml").unlink()
    (folder / "pyproject.toml").write_text("[tool.lipcert]\n")
    assert run(["init"]) == 2
    assert "pyproject.toml: there is a policy already" in capsys.readouterr().err


def test_a_folder_without_models(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["init", str(tmp_path)]) == 2
    assert "no ONNX files" in capsys.readouterr().err
    assert run(["init", str(tmp_path / "absent")]) == 2
    assert "no such folder" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_no_more_models_are_looked_at_than_a_person_waits_for(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(starter, "MAX_MODELS", 1)
    assert run(["init"]) == 0
    assert [check.name for check in read_policy(folder / "lipcert.toml").checks] == ["large"]
    assert "# not looked at\n# [[check]]" in (folder / "lipcert.toml").read_text()


def test_names_of_checks_are_told_apart() -> None:
    taken: set[str] = set()
    names = [starter._name(path, taken) for path in ("a/x.onnx", "b/x.onnx", "c/x.onnx", "ü.onnx", "d/x y.onnx")]
    assert names == ["x", "x-2", "x-3", "model", "x-y"]
