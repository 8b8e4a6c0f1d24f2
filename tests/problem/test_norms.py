"""Norms are l1, l2 and l-infinity, and nothing else is taken for one of them."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lipcert.errors import UsageError
from lipcert.problem import dual, norm_name, parse_norm

NORMS = [1.0, 2.0, math.inf]


@pytest.mark.parametrize(
    ("text", "norm"),
    [("1", 1), ("l1", 1), (1, 1), ("2", 2), ("l2", 2), ("L2", 2), (2, 2), (2.0, 2)],
)
def test_norms_are_read(text: object, norm: float) -> None:
    assert parse_norm(text) == norm


@pytest.mark.parametrize("text", ["inf", "linf", "l_inf", math.inf])
def test_infinity_is_read(text: object) -> None:
    assert parse_norm(text) == math.inf


@pytest.mark.parametrize(
    "text", ["3", "", "l3", "two", "-1", "0", "nan", " 2", 3, 0, -1.0, math.nan, -math.inf, True, None, 1.5, 2.0000001]
)
def test_anything_else_is_refused_with_the_option_named(text: object) -> None:
    with pytest.raises(UsageError, match=r"--norm: .* is not a norm"):
        parse_norm(text)
    with pytest.raises(UsageError, match="--norm-out: "):
        parse_norm(text, "--norm-out")


@pytest.mark.parametrize("norm", NORMS)
def test_names_and_duals_come_back(norm: float) -> None:
    assert parse_norm(norm_name(norm)) == norm
    assert dual(dual(norm)) == norm
    assert 1 / norm + 1 / dual(norm) == 1


@pytest.mark.parametrize("norm", NORMS)
def test_the_dual_norm_is_the_largest_inner_product_on_the_ball(norm: float) -> None:
    rng = np.random.default_rng(0)
    v = rng.normal(size=6)
    points = rng.normal(size=(2000, 6))
    points = np.vstack([points, np.sign(v), v, np.eye(6)[np.argmax(np.abs(v))] * np.sign(v)])
    points /= np.linalg.norm(points, norm, axis=1, keepdims=True)
    assert np.isclose(np.max(points @ v), np.linalg.norm(v, dual(norm)), rtol=1e-12)
