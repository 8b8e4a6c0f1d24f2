"""Models that are read in part or not at all, and nodes that no bound exists for: what the commands say."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import NodeProto, TensorProto, helper

from tests.cli.conftest import Command
from tests.helpers.onnx_models import model, random_weights, save

node = helper.make_node

THREE = [
    node("Round", ["x"], ["a"], name="first"),
    node("Relu", ["a"], ["b"]),
    node("Floor", ["b"], ["c"], name="second"),
    node("Hardmax", ["c"], ["y"], name="third"),
]


def three_problems(folder: Path) -> Path:
    return save(model(THREE, {"x": (1, 3)}, ["y"], {"axis": np.array(1)}), folder)


def test_inspect_lists_every_node_that_is_not_understood(lipcert: Command, tmp_path: Path) -> None:
    path = three_problems(tmp_path)
    done = lipcert("inspect", path)
    assert (done.status, done.err) == (3, "")
    head, *lines = done.out.splitlines()
    assert "3 problems" in head
    assert len(lines) == 3
    for line, words in zip(lines, (("Round", "first"), ("Floor", "second"), ("Hardmax", "third")), strict=True):
        assert all(word in line for word in (*words, str(path), "opset 20"))


def test_bound_names_the_first_and_counts_the_others(lipcert: Command, tmp_path: Path) -> None:
    done = lipcert("bound", three_problems(tmp_path))
    assert done.status == 3
    message = done.error()
    assert all(word in message for word in ("Round", "first", "2 more problems", "lipcert inspect"))
    assert "second" not in message


def test_a_single_problem_is_one_line_on_stderr(lipcert: Command, tmp_path: Path) -> None:
    proto = model([node("Round", ["x"], ["y"], name="only")], {"x": (1, 3)}, ["y"])
    done = lipcert("inspect", save(proto, tmp_path))
    assert done.status == 3
    message = done.error()
    assert "only" in message
    assert "more problem" not in message


def classifier() -> onnx.ModelProto:
    """As scikit-learn exports one: a label that jumps, and probabilities."""
    nodes = [
        node("MatMul", ["x", "w"], ["h"]),
        node("ArgMax", ["h"], ["label"], axis=1, name="pick"),
        node("Softmax", ["h"], ["probabilities"]),
    ]
    proto = model(nodes, {"x": (1, 3)}, ["label", "probabilities"], {"w": random_weights(3, 4)})
    proto.graph.output[0].type.tensor_type.elem_type = TensorProto.INT64
    return proto


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    return save(classifier(), tmp_path)


def test_a_label_is_noted_and_the_probabilities_are_certified(
    lipcert: Command, bound_json: Callable[..., dict[str, Any]], labels: Path
) -> None:
    shown = lipcert("inspect", labels)
    assert shown.status == 0
    notes = " ".join(line.strip() for line in shown.out.splitlines())
    assert "output label is not read" in notes
    assert "ArgMax" in notes
    report = bound_json(labels, "--output", "probabilities")
    assert report["result"]["status"] == "certified"
    assert bound_json(labels)["result"]["upper"] == report["result"]["upper"]


@pytest.mark.parametrize("name", ["label", "missing"])
def test_an_output_that_is_not_read_is_refused(lipcert: Command, labels: Path, name: str) -> None:
    done = lipcert("bound", labels, "--output", name)
    assert done.status == (3 if name == "label" else 2)  # there is one of that name, which is not understood
    message = done.error()
    assert repr(name) in message
    assert "probabilities" in message


def through(*ops: NodeProto) -> onnx.ModelProto:
    return model(list(ops), {"x": (1, 2)}, ["y"], {"c": np.array(1.5, np.float32), "w": random_weights(2, 2)})


OBSTACLES: dict[str, tuple[onnx.ModelProto, float, float]] = {
    # the network, a box on which it is Lipschitz, and the derivative of its last node there, at most
    "exp": (through(node("Exp", ["x"], ["y"], name="trouble")), -1.0, np.exp(1.0)),
    "log": (through(node("Log", ["x"], ["y"], name="trouble")), 2.0, 1.0),
    "sqrt": (through(node("Sqrt", ["x"], ["y"], name="trouble")), 1.25, 1.0),
    "reciprocal": (through(node("Reciprocal", ["x"], ["y"], name="trouble")), 2.0, 1.0),
    "square": (through(node("Mul", ["x", "x"], ["y"], name="trouble")), 1.0, 4.0),
    "thresholded relu": (through(node("ThresholdedRelu", ["x"], ["y"], name="trouble", alpha=1.0)), 3.0, 1.0),
    "shrink": (through(node("Shrink", ["x"], ["y"], name="trouble", lambd=0.5)), 2.0, 1.0),
    "product": (
        through(node("MatMul", ["x", "w"], ["h"]), node("Mul", ["x", "h"], ["y"], name="trouble")),
        1.0,
        20.0,
    ),
}


@pytest.mark.parametrize("name", OBSTACLES)
def test_a_node_without_a_bound_everywhere_is_named(lipcert: Command, tmp_path: Path, name: str) -> None:
    path = save(OBSTACLES[name][0], tmp_path)
    done = lipcert("bound", path)
    assert done.status == 3
    message = done.error()
    assert "'trouble'" in message
    assert "--center" in message


@pytest.mark.parametrize("name", OBSTACLES)
def test_a_region_that_excludes_the_trouble_is_certified(
    bound_json: Callable[..., dict[str, Any]], tmp_path: Path, name: str
) -> None:
    """Within 1/2 of a center."""
    proto, center, most = OBSTACLES[name]
    path, where = save(proto, tmp_path), tmp_path / "center.npy"
    np.save(where, np.full((1, 2), center, np.float32))
    result = bound_json(path, "--center", where, "--eps", 0.5, "--norm", "inf")["result"]
    assert result["status"] == "certified"
    assert 0 < result["upper"] <= most * (1 + 1e-6)


@pytest.mark.parametrize("name", ["log", "thresholded relu", "shrink", "sqrt", "reciprocal"])
def test_a_region_that_does_not_exclude_it_is_refused(lipcert: Command, tmp_path: Path, name: str) -> None:
    path, where = save(OBSTACLES[name][0], tmp_path), tmp_path / "center.npy"
    np.save(where, np.full((1, 2), 0.5, np.float32))
    done = lipcert("bound", path, "--center", where, "--eps", 0.75, "--norm", "inf", "--timeout", 1)
    assert done.status == 3
    message = done.error()
    assert "'trouble'" in message
    assert "smaller region" in message
