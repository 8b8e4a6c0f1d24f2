"""Implicit layers that are ill-posed, or barely not: of each a proof or one clear refusal, by every command."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

import lipcert as api
from lipcert.frontend import load_proto
from lipcert.nn import LBEN, MonDEQ
from tests.cli.conftest import Command
from tests.helpers.loop_models import PASSED_ON, F, contraction, fixed_point, loop_of, nested, node
from tests.helpers.onnx_models import save, session

NEAR = 1e-6
SKEW = np.array([[0.0, 5.0], [-5.0, 0.0]])

WELL = {
    "just below one": (1 - NEAR) * np.eye(2),
    "in l2 just below one": (1 - NEAR) * np.eye(2) + SKEW,
    "rank one": np.full((3, 3), 0.33),
    "far below": -1e30 * np.eye(3),
}
ILL = {
    "just above one": (1 + NEAR) * np.eye(2),
    "in l2 just above one": (1 + NEAR) * np.eye(2) + SKEW,
    "rank one": np.full((3, 3), 0.34),
    "huge": 1e30 * np.random.default_rng(1).normal(size=(3, 3)),
}
REGION = ["--center", 0.3, "--eps", 0.1]


@pytest.mark.parametrize("name", WELL)
def test_a_layer_that_is_well_posed_is_proven(lipcert: Command, tmp_path: Path, name: str) -> None:
    path = save(fixed_point(WELL[name]), tmp_path)
    assert "proven" in lipcert("inspect", path).out.split("proven:")[0]
    for command in (["bound", path, "--norm", "inf", "--timeout", 1], ["reach", path, *REGION]):
        run = lipcert(*command)
        assert run.status == 0, run.out + run.err
        assert "certified" in run.out


@pytest.mark.parametrize("name", ILL)
def test_a_layer_that_is_not_is_refused(lipcert: Command, tmp_path: Path, name: str) -> None:
    """With the two numbers, which do not read 1 where they are above it; and each reason once."""
    path = save(fixed_point(ILL[name]), tmp_path)
    wanted = "1.000001" if "just above" in name else "(A + A')"
    assert "not shown" in (seen := lipcert("inspect", path).out)
    assert wanted in " ".join(seen.split())
    run = lipcert("reach", path, *REGION)
    assert run.status == 4
    assert wanted in run.error()
    run = lipcert("bound", path, *REGION, "--timeout", 1)
    assert run.status == 4
    assert run.out.count("local: ") == 1
    assert wanted in " ".join(run.out.split())


def test_a_nilpotent_layer_of_huge_entries_is_well_posed(lipcert: Command, tmp_path: Path) -> None:
    """As explicit layers one after another are: weights that are right but for roundings do not show it."""
    path = save(fixed_point(np.triu(np.full((4, 4), 1e10), 1)), tmp_path)
    assert "in l-infinity, proven" in lipcert("inspect", path).out


def test_inside_of_a_loop_other_things_are_bounded_by_lipsdp_alone(lipcert: Command, tmp_path: Path) -> None:
    two = [*F, node("Neg", ["f"], ["g"]), node("Tanh", ["g"], ["z_next"]), PASSED_ON]
    for k, proto in enumerate((loop_of(two, trips=3), nested(1, trips=2))):
        path = save(proto, tmp_path, f"{k}.onnx")
        assert "LipSDP alone" in lipcert("inspect", path).out
        assert lipcert("bound", path, "--timeout", 1).status == 0
        run = lipcert("reach", path, *REGION)
        assert run.status == 4
        assert "--unrolled" in run.error()
        assert lipcert("reach", path, *REGION, "--unrolled", "--timeout", 0.2).status == 0
    product = [*F, node("Mul", ["f", "z"], ["p"]), node("Tanh", ["p"], ["z_next"]), PASSED_ON]
    run = lipcert("bound", save(loop_of(product), tmp_path), *REGION)
    assert run.status == 3
    assert "--unrolled" in run.error()


def sorting(a: np.ndarray) -> onnx.ModelProto:
    """z = MaxMin(A z + u), the first half of the entries beside the second."""
    body = [
        *F[:2],
        node("Split", ["v"], ["a", "b"], axis=1, num_outputs=2),
        node("Max", ["a", "b"], ["hi"]),
        node("Min", ["a", "b"], ["lo"]),
        node("Concat", ["hi", "lo"], ["z_next"], axis=1),
        PASSED_ON,
    ]
    return loop_of(body, weights={"At": a.T.astype(np.float32)}, trips=200)


@pytest.mark.parametrize("seed", range(2))
def test_no_ratio_of_a_sorting_loop_exceeds_the_bound(seed: int) -> None:
    proto = sorting(contraction(seed=seed, norm=0.7))
    report = api.bound(load_proto(proto), norm=2, timeout=5)
    assert report.upper is not None
    run = session(proto)
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(400, 1, 4)).astype(np.float32)
    y = np.array([run.run(None, {"u": u})[0] for u in points])
    apart = np.linalg.norm((y[1:] - y[:-1]).reshape(-1, 4), axis=1)
    ratios = apart / np.linalg.norm((points[1:] - points[:-1]).reshape(-1, 4), axis=1)
    assert 0.5 * report.upper <= ratios.max() <= report.upper * (1 + 1e-5)


@pytest.mark.parametrize("kind", ["monDEQ", "LBEN"])
def test_a_weight_for_slopes_is_not_one_for_sorting(kind: str) -> None:
    """I - A has a positive symmetric part, which says nothing of permutations: no bound, or a smaller A."""
    import torch

    torch.manual_seed(0)
    layer = MonDEQ(4) if kind == "monDEQ" else LBEN(2, 4, 2, 1.0)
    a = layer.weight.detach().numpy().astype(float)
    a = a / np.linalg.norm(a, 2)
    large = api.bound(load_proto(sorting(6 * a)), norm=2, timeout=1)
    assert large.status == "inconclusive"
    small = api.bound(load_proto(sorting(0.8 * a)), norm=2, timeout=1)
    assert small.upper is not None
    assert small.upper <= 1 / (1 - 0.8) * (1 + NEAR)
