"""`lipcert inspect`: what the import made of a model."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from onnx import helper

import lipcert as api
from tests.cli.conftest import Command
from tests.helpers.onnx_models import model, save
from tests.helpers.paths import MODELS


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


def rows(out: str) -> list[list[str]]:
    """The cells of the table of norms."""
    return [re.split(r"\s{2,}", line.strip()) for line in out.splitlines() if re.match(r"\s*\d+\s", line)]


@pytest.mark.parametrize("name", ["digits_relu", "digits_conv", "digits_resnet", "digits_maxmin"])
def test_the_table_of_norms_shows_what_the_api_returns(lipcert: Command, name: str) -> None:
    """Rounded outward: what is shown is never better than what is proven."""
    path = MODELS / f"{name}.onnx"
    done = lipcert("inspect", path, "--norms")
    assert (done.status, done.err) == (0, "")
    layers = api.layer_norms(path)
    assert len(rows(done.out)) == len(layers)
    for cells, layer in zip(rows(done.out), layers, strict=True):
        assert (int(cells[0]), cells[1], cells[-1]) == (layer.node, layer.operator, layer.origin)
        l1, l2, attained, linf = (float(cells[i]) for i in (4, 5, 6, 8))
        for text, upper in ((l1, layer.l1), (l2, layer.l2), (linf, layer.linf)):
            assert upper * (1 - 1e-9) <= text <= upper * (1 + 1e-4)
        assert layer.attained * (1 - 1e-4) <= attained <= layer.attained * (1 + 1e-9)
    assert "proven upper bounds" in done.out.splitlines()[-1]


def test_norms_without_time_are_still_proven(lipcert: Command, conv: Path) -> None:
    done = lipcert("inspect", conv, "--norms", "--timeout", "0")
    assert (done.status, done.err) == (0, "")
    slow = api.layer_norms(conv)
    assert len(rows(done.out)) == len(slow)
    for cells, layer in zip(rows(done.out), slow, strict=True):
        assert float(cells[5]) >= layer.attained


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--norms"], "model"),
        (["--norms", "--timeout", "-1", "model.onnx"], "--timeout"),
        (["--norms", "--timeout", "soon", "model.onnx"], "--timeout"),
        (["--norm", "2", "model.onnx"], "--norm"),
        (["--norms", "one.onnx", "two.onnx"], "two.onnx"),
    ],
    ids=str,
)
def test_wrong_options_of_norms_are_one_line_and_status_2(lipcert: Command, arguments: list[str], word: str) -> None:
    done = lipcert("inspect", *arguments)
    assert done.status == 2
    assert word in done.error()


def test_norms_of_what_is_no_model_are_refused(lipcert: Command, tmp_path: Path) -> None:
    (tmp_path / "text.onnx").write_text("not a model")
    for name in ("missing.onnx", "text.onnx"):
        done = lipcert("inspect", tmp_path / name, "--norms")
        assert done.status == 3
        assert name in done.error()
    proto = model([helper.make_node("Round", ["x"], ["y"], name="only")], {"x": (1, 3)}, ["y"])
    done = lipcert("inspect", save(proto, tmp_path), "--norms")
    assert done.status == 3
    assert "only" in done.error()


def test_a_network_without_linear_operators_has_no_norms(lipcert: Command, tmp_path: Path) -> None:
    path = save(model([helper.make_node("Relu", ["x"], ["y"])], {"x": (1, 3)}, ["y"]), tmp_path)
    done = lipcert("inspect", path, "--norms")
    assert (done.status, done.err) == (0, "")
    assert rows(done.out) == []
