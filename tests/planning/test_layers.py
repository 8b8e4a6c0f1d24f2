"""Norms of layers: proven from above, attained from below, and those of the dense matrix where that is small."""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from onnx import helper

import lipcert
from lipcert.errors import LipcertError
from lipcert.frontend import Model
from lipcert.graph import Affine, Node
from lipcert.operators import Identity, LinearOperator, Selection, size_of
from lipcert.planning.layers import LayerNorms
from tests.helpers.onnx_models import model
from tests.helpers.paths import MODELS

SAMPLES = sorted(path.stem for path in MODELS.glob("*.onnx"))

ROUNDING = 1e-9

CONVERGED = 1e-5
"""How far the power iteration of small operators may be from the norm."""

make = helper.make_node


@cache
def sample(name: str) -> Model:
    return lipcert.load(MODELS / f"{name}.onnx")


@cache
def norms_of(name: str) -> list[LayerNorms]:
    return lipcert.layer_norms(sample(name))


def operators(network: Model) -> list[tuple[int, Node, LinearOperator]]:
    """What rows are about: everything that is linear and has weights, in the order of the graph."""
    return [
        (i, node, op)
        for i, node in enumerate(network.graph.nodes)
        if isinstance(node, Affine)
        for op in node.operators
        if not isinstance(op, Identity | Selection)
    ]


def dense(op: LinearOperator) -> np.ndarray:
    """The operator written out column by column, by applying it."""
    return op.matvec(np.eye(op.in_size)).T


def assert_sound(layers: list[LayerNorms], network: Model) -> None:
    """Upper bounds are not below the norms of the dense matrix, and what is attained is not above them."""
    assert len(layers) == len(operators(network))
    for layer, (_, _, op) in zip(layers, operators(network), strict=True):
        matrix = dense(op)
        assert float(np.linalg.norm(matrix, 1)) <= layer.l1 * (1 + 1e-13)
        assert float(np.linalg.norm(matrix, math.inf)) <= layer.linf * (1 + 1e-13)
        assert layer.attained <= layer.l2
        true = float(np.linalg.norm(matrix, 2))
        assert layer.attained <= true * (1 + 1e-13)
        assert true <= layer.l2 * (1 + 1e-13)


@pytest.mark.parametrize("name", SAMPLES)
def test_no_norm_is_below_that_of_the_dense_matrix(name: str) -> None:
    assert_sound(norms_of(name), sample(name))


@pytest.mark.parametrize("name", SAMPLES)
def test_l1_and_linf_are_exact(name: str) -> None:
    """But for what radii of weights add, and for rounding."""
    for layer, (_, _, op) in zip(norms_of(name), operators(sample(name)), strict=True):
        matrix = dense(op)
        assert layer.l1 == pytest.approx(float(np.linalg.norm(matrix, 1)), rel=ROUNDING)
        assert layer.linf == pytest.approx(float(np.linalg.norm(matrix, math.inf)), rel=ROUNDING)


@pytest.mark.parametrize("name", SAMPLES)
def test_l2_of_small_operators_is_tight_from_both_sides(name: str) -> None:
    for layer, (_, _, op) in zip(norms_of(name), operators(sample(name)), strict=True):
        true = float(np.linalg.norm(dense(op), 2))
        assert layer.l2 <= true * (1 + CONVERGED), layer
        assert layer.attained >= true * (1 - CONVERGED), layer
        assert layer.gap is not None
        assert 1 <= layer.gap <= 1 + 2 * CONVERGED


@pytest.mark.parametrize("name", SAMPLES)
def test_the_condition_number_is_that_of_the_dense_matrix(name: str) -> None:
    for layer, (_, _, op) in zip(norms_of(name), operators(sample(name)), strict=True):
        if layer.sampled or layer.condition is None:
            continue
        values = np.linalg.svd(dense(op), compute_uv=False)
        if values[-1] > 1e-12 * values[0]:
            assert layer.condition == pytest.approx(float(values[0] / values[-1]), rel=1e-3)
        else:
            assert layer.condition > 1e11


@pytest.mark.parametrize("name", SAMPLES)
def test_rows_are_in_the_order_of_the_graph_and_say_where_they_come_from(name: str) -> None:
    layers, network = norms_of(name), sample(name)
    assert [layer.node for layer in layers] == sorted(layer.node for layer in layers)
    for layer, (i, node, op) in zip(layers, operators(network), strict=True):
        assert (layer.node, layer.origin, layer.out_shape) == (i, node.origin, node.shape)
        assert layer.origin
        assert size_of(layer.in_shape) == op.in_size
        assert size_of(layer.out_shape) == op.out_size
        assert layer.operator == op.describe()


@pytest.mark.parametrize("name", SAMPLES)
def test_no_time_at_all_still_gives_sound_norms(name: str) -> None:
    quick = lipcert.layer_norms(sample(name), timeout=0)
    assert_sound(quick, sample(name))
    for layer, slow in zip(quick, norms_of(name), strict=True):
        assert slow.l2 <= layer.l2 * (1 + ROUNDING)
        assert (layer.l1, layer.linf) == (slow.l1, slow.linf)
        assert layer.attained <= slow.attained * (1 + ROUNDING)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("shape", [(8, 10), (16, 10), (1, 5), (5, 1), (24, 24), (25, 30)], ids=str)
def test_what_is_attained_is_close_to_the_norm_of_a_small_matrix(shape: tuple[int, int], seed: int) -> None:
    """The two largest singular values differ by 1e-3 only: 30 steps of power iteration are far from the first one."""
    rng = np.random.default_rng([seed, *shape])
    u, _ = np.linalg.qr(rng.standard_normal((shape[0], min(shape))))
    v, _ = np.linalg.qr(rng.standard_normal((shape[1], min(shape))))
    values = np.linspace(0.5, 0.9, min(shape))
    values[-2:] = (0.999, 1.0)[-min(shape) :]
    weights = (u * values @ v.T).astype(np.float32)
    proto = model([make("MatMul", ["x", "w"], ["y"])], {"x": [1, shape[0]]}, ["y"], {"w": weights})
    (layer,) = lipcert.layer_norms(proto)
    true = float(np.linalg.norm(weights.astype(float), 2))
    assert true * (1 - CONVERGED) <= layer.attained <= true * (1 + 1e-13)
    assert true <= layer.l2 * (1 + 1e-13)
    assert layer.l2 <= true * (1 + CONVERGED)
    assert layer.condition == pytest.approx(1 / np.linalg.svd(weights.astype(float), compute_uv=False)[-1], rel=1e-5)


CONVOLUTIONS = {
    "zero padding": {"pads": [1, 1, 1, 1]},
    "stride": {"strides": [2, 2], "pads": [1, 1, 1, 1]},
    "dilation": {"dilations": [2, 2]},
    "pads of their own": {"pads": [0, 2, 1, 0]},
    "groups": {"group": 2},
}


@pytest.mark.parametrize("options", CONVOLUTIONS.values(), ids=CONVOLUTIONS)
@pytest.mark.parametrize("op", ["Conv", "ConvTranspose"])
def test_convolutions_have_the_norms_of_their_matrices(op: str, options: dict[str, object]) -> None:
    groups = int(options.get("group", 1))  # type: ignore[call-overload]
    weights = np.random.default_rng(5).standard_normal((4, 4 // groups, 3, 3)).astype(np.float32)
    proto = model([make(op, ["x", "w"], ["y"], **options)], {"x": [1, 4, 7, 6]}, ["y"], {"w": weights})
    network = lipcert.load(proto)
    for timeout in (0.0, None):
        layers = lipcert.layer_norms(network, timeout=timeout)
        assert_sound(layers, network)
        (layer,) = layers
        if timeout is None:
            assert layer.gap is not None
            assert layer.gap <= 1 + 2 * CONVERGED


def test_a_convolution_of_large_maps_is_bounded_by_its_symbol_and_says_so() -> None:
    """Its dense form has 25 million entries. A positive kernel: on large maps the norm is close to the sum of taps."""
    weights = np.random.default_rng(6).random((8, 3, 3, 3)).astype(np.float32)
    proto = model([make("Conv", ["x", "w"], ["y"], pads=[1] * 4)], {"x": [1, 3, 32, 32]}, ["y"], {"w": weights})
    (layer,) = lipcert.layer_norms(proto)
    supremum = float(np.linalg.norm(weights.astype(float).sum(axis=(2, 3)), 2))
    assert 0.98 * supremum <= layer.attained <= layer.l2 <= supremum * (1 + 1e-6)
    assert "symbol" in layer.rule
    assert layer.sampled
    assert layer.condition is not None
    assert layer.condition > 1


@pytest.mark.parametrize("scale", [0.0, 1e-200, 1e-30, 1e30])
def test_weights_of_any_size_have_sound_norms(scale: float) -> None:
    weights = np.random.default_rng(7).standard_normal((4, 3)) * scale
    nodes = [make("MatMul", ["x", "w"], ["y"])]
    network = lipcert.load(model(nodes, {"x": [1, 4]}, ["y"], {"w": weights}, element=11))
    (layer,) = lipcert.layer_norms(network)
    true = float(np.linalg.norm(weights / scale, 2)) * scale if scale else 0.0
    assert layer.attained <= true * (1 + 1e-13)
    assert true <= layer.l2 * (1 + 1e-13)
    assert scale == 0 or layer.l1 == pytest.approx(float(np.abs(weights).sum(axis=1).max()), rel=ROUNDING)


def test_each_finished_operator_is_told_in_turn() -> None:
    told: list[str] = []
    layers = lipcert.layer_norms(sample("digits_resnet"), on_step=told.append)
    assert len(told) == len(layers)
    assert all(layer.origin in words for layer, words in zip(layers, told, strict=True))


def test_a_model_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LipcertError, match=r"missing\.onnx"):
        lipcert.layer_norms(tmp_path / "missing.onnx")
