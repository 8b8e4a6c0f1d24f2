"""`lipcert inspect`: what the import made of a model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from onnx import helper

from tests.cli.conftest import Command
from tests.helpers.onnx_models import model, save


def test_the_model_as_lipcert_sees_it(lipcert: Command, conv: Path) -> None:
    done = lipcert("inspect", conv)
    assert (done.status, done.err) == (0, "")
    for words in (str(conv), "image [1, 1, 8, 8]", "logits [1, 10]", "9,674", "agree with onnxruntime"):
        assert words in done.out
    for words in ("convolution", "relu", "dense", "Input", "Affine", "Elementwise", "Output"):
        assert words in done.out


def test_the_ops_that_are_read(lipcert: Command) -> None:
    done = lipcert("inspect", "--ops")
    assert (done.status, done.err) == (0, "")
    ops = {line.split()[0] for line in done.out.splitlines()}
    assert {"Gemm", "MatMul", "Conv", "Relu", "LeakyRelu", "Sigmoid", "Tanh", "Add", "BatchNormalization"} <= ops


def test_no_model_is_wrong_usage(lipcert: Command) -> None:
    done = lipcert("inspect")
    assert done.status == 2
    assert "inspect" in done.error()


def test_a_model_that_is_not_there(lipcert: Command, tmp_path: Path) -> None:
    done = lipcert("inspect", tmp_path / "missing.onnx")
    assert done.status == 3
    assert "missing.onnx" in done.error()


def test_names_are_not_sent_to_the_terminal_as_they_are(lipcert: Command, tmp_path: Path) -> None:
    """A model of someone else's cannot clear the screen, nor write a verdict of its own."""
    name = "x\x1b[2J\ncertified"
    proto = model([helper.make_node("MatMul", [name, "w"], ["y"])], {name: [1, 2]}, ["y"], {"w": np.eye(2, dtype="f4")})
    path = save(proto, tmp_path)
    for done in (lipcert("inspect", path), lipcert("bound", path)):
        assert done.status in (0, 3)
        assert "\x1b" not in done.out + done.err
        assert not any(line.startswith("certified") and "Lipschitz" not in line for line in done.out.splitlines())
