"""Twelve networks that others made (VNN-COMP, ERAN, VeriVITAL, OVAL, GLipSDP): they import, and equal onnxruntime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from lipcert.frontend import TensorInfo, load_file
from lipcert.graph import Elementwise
from lipcert.operators import size_of
from tests.helpers.onnx_models import assert_same, session

MNIST, CIFAR = (1, 1, 28, 28), (1, 3, 32, 32)
NETWORKS: dict[str, tuple[TensorInfo, TensorInfo]] = {
    "acasxu_1_1": (TensorInfo("input", (1, 1, 1, 5)), TensorInfo("linear_7_Add", (1, 5))),
    "acasxu_3_3": (TensorInfo("input", (1, 1, 1, 5)), TensorInfo("linear_7_Add", (1, 5))),
    "cifar_base_kw": (TensorInfo("input.1", CIFAR), TensorInfo("16", (1, 10))),
    "cifar_resnet_2b": (TensorInfo("input.1", CIFAR), TensorInfo("33", (1, 10))),
    "cnn_C3_CH8": (TensorInfo("input", MNIST), TensorInfo("logits", (1, 10))),
    "cnn_C5_CH16": (TensorInfo("input", MNIST), TensorInfo("logits", (1, 10))),
    "mlp_L17_W32": (TensorInfo("input", MNIST), TensorInfo("logits", (1, 10))),
    "mlp_L5_W64": (TensorInfo("input", MNIST), TensorInfo("logits", (1, 10))),
    "mnist_convnet_avgpool": (TensorInfo("input", MNIST), TensorInfo("output", (1, 10))),
    "mnist_sigmoid_6x200": (TensorInfo("input", MNIST), TensorInfo("output", (1, 10))),
    "mnistfc_256x2": (TensorInfo("0", (1, 784, 1)), TensorInfo("12", (1, 10))),
    "mnistfc_256x4": (TensorInfo("0", (1, 784, 1)), TensorInfo("20", (1, 10))),
}


def images(folder: Path, shape: tuple[int, ...], count: int = 20) -> list[np.ndarray]:
    """The first test images that fit this shape, scaled to [0, 1]; points of a box for ACAS Xu."""
    if size_of(shape) == 5:
        return list(np.random.default_rng(0).uniform(-0.5, 0.5, (count, *shape)).astype(np.float32))
    name = "cifar10_100.csv" if size_of(shape) == 3072 else "mnist_100.csv"
    rows = np.loadtxt(folder / "images" / name, delimiter=",", dtype=np.float32, max_rows=count)
    pixels = rows[:, 1:] / np.float32(255)
    if size_of(shape) == 3072:
        pixels = pixels.reshape(-1, 32, 32, 3).transpose(0, 3, 1, 2)
    return list(pixels.reshape(-1, *shape))


def test_there_are_no_other_networks(test_data: Path) -> None:
    assert {p.stem for p in (test_data / "models").glob("*.onnx")} == set(NETWORKS)


@pytest.mark.parametrize("name", NETWORKS)
def test_network_imports_and_agrees_at_images(name: str, test_data: Path) -> None:
    path = test_data / "models" / f"{name}.onnx"
    expected_input, expected_output = NETWORKS[name]
    imported = load_file(path)
    assert imported.inputs == (expected_input,)
    assert imported.outputs == (expected_output,)
    assert imported.check is not None
    assert imported.check.worst < 1e-5
    activations = [n for n in onnx.load(path).graph.node if n.op_type in ("Relu", "LeakyRelu", "Sigmoid", "Tanh")]
    assert sum(isinstance(n, Elementwise) for n in imported.graph.nodes) == len(activations)
    points = [{expected_input.name: image} for image in images(test_data, expected_input.shape)]
    assert_same(imported, session(str(path)), points, tolerance=1e-5)


@pytest.mark.parametrize("name", ["mlp_L17_W32", "mlp_L5_W64"])
def test_weights_normalised_in_the_graph_are_folded(name: str, test_data: Path) -> None:
    imported = load_file(test_data / "models" / f"{name}.onnx")
    assert imported.folded
    assert set(imported.external_data) == {f"{name}.onnx.data"}
