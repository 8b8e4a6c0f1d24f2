"""The complete constraint of GroupSort(3) against the single multiplier of the paper."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lipcert.templates import read_template, shipped
from lipcert.templates.library import folder
from tests.helpers.sampling import steepest_jacobians
from tests.templates.lmi import Layer, lipschitz
from tests.templates.networks import chain, problem_of

SIZES = (3, 6, 6, 2)


def both(seed: int) -> tuple[float, float, float]:
    """The bound of the complete constraint, of the single multiplier, and the largest slope seen."""
    layers, last = chain(seed, "groupsort", 3, SIZES)
    complete = [Layer(layer.weights, shipped()["permutations"], 3) for layer in layers]
    seen = steepest_jacobians(problem_of(layers, last), np.random.default_rng(seed), 2000)[2.0, 2.0]
    return lipschitz(complete, last, eliminate=True), lipschitz(layers, last, eliminate=True), seen


@pytest.mark.parametrize("seed", range(10))
def test_it_lies_between_the_largest_slope_seen_and_the_single_multiplier(seed: int) -> None:
    complete, single, seen = both(seed)
    assert seen * (1 - 1e-6) <= complete <= single * (1 + 1e-6)


def test_it_is_tighter() -> None:
    complete, single, _ = both(0)
    assert complete < single * 0.999


@pytest.mark.parametrize("seed", range(3))
def test_of_pairs_the_single_multiplier_is_complete(seed: int, tmp_path: Path) -> None:
    text = (folder() / "permutations.toml").read_text().replace("group = [3, 4]", "group = 2")
    (tmp_path / "pairs.toml").write_text(text)
    layers, last = chain(seed, "maxmin", 2, (3, 6, 4, 2))
    complete = [Layer(layer.weights, read_template(tmp_path / "pairs.toml"), 2) for layer in layers]
    assert lipschitz(complete, last, eliminate=True) == pytest.approx(lipschitz(layers, last, eliminate=True), rel=1e-6)
