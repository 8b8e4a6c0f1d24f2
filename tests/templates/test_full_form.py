"""The form of the paper has the optimum of the reduced one, and both have the one that lipcert proves with norms alone.

Of sorted groups of three and four lipcert proves less: the optimum of the complete constraint.

The optimum of the full form is usually not attained: gamma, nu and tau go to infinity, and a solver stops early. So
equality is shown from both sides: the reduced form is the full one on a subspace, and from the multipliers of the
reduced form the full one is positive definite at 1e-5 above its optimum, with large free multipliers.
"""

from __future__ import annotations

import numpy as np
import pytest

from lipcert.methods.lipsdp import method
from lipcert.templates import shipped
from tests.helpers.sampling import steepest_jacobians
from tests.templates.lmi import Layer, centre, inequality, lipschitz
from tests.templates.networks import chain, problem_of, proven

CLOSE = 1e-5

NETWORKS = [
    ("slope_restricted", 1, (3, 6, 6, 2)),
    ("abs", 1, (3, 5, 4, 2)),
    ("maxmin", 2, (3, 6, 8, 2)),
    ("groupsort", 3, (3, 6, 6, 2)),
    ("groupsort", 4, (3, 8, 8, 2)),
    ("groupsort", 5, (4, 10, 5, 3)),
    ("householder", 2, (3, 4, 6, 2)),
    ("householder", 3, (3, 6, 9, 2)),
]
networks = pytest.mark.parametrize(("name", "group", "sizes"), NETWORKS)
WITH_LINEAR = [each for each in NETWORKS if each[0] in ("maxmin", "groupsort", "householder")]
PERMUTED = [each for each in NETWORKS if each[0] == "groupsort" and each[1] in (3, 4)]
"""Those whose groups lipcert bounds by more than the norm of their Jacobian."""
seeds = pytest.mark.parametrize("seed", range(3))


@pytest.fixture
def norms_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """lipcert without quadratic forms: a multiplier for each neuron or group."""
    monkeypatch.setattr(method, "quadratic_iterates", lambda program, tick: iter(()))


@seeds
@networks
@pytest.mark.usefixtures("norms_alone")
def test_the_reduced_form_has_the_optimum_that_lipcert_proves_with_norms_alone(
    name: str, group: int, sizes: tuple[int, ...], seed: int
) -> None:
    layers, last = chain(seed, name, group, sizes)
    reduced = lipschitz(layers, last, eliminate=True)
    assert proven(problem_of(layers, last)) == pytest.approx(reduced, rel=1e-6)


@seeds
@networks
def test_lipcert_proves_the_optimum_of_the_reduced_form_or_less_where_permutations_are_listed(
    name: str, group: int, sizes: tuple[int, ...], seed: int
) -> None:
    layers, last = chain(seed, name, group, sizes)
    reduced, ours = lipschitz(layers, last, eliminate=True), proven(problem_of(layers, last))
    assert ours <= reduced * (1 + 1e-6)
    if (name, group, sizes) not in PERMUTED:
        assert ours == pytest.approx(reduced, rel=1e-6)


@seeds
@pytest.mark.parametrize(("name", "group", "sizes"), PERMUTED)
def test_of_sorted_groups_of_three_and_four_lipcert_proves_the_optimum_of_the_complete_constraint(
    name: str, group: int, sizes: tuple[int, ...], seed: int
) -> None:
    """Any Q of a group that is nonnegative at all permutations, with a negative block of what the group returns."""
    layers, last = chain(seed, name, group, sizes)
    complete = [Layer(layer.weights, shipped()["permutations"], group) for layer in layers]
    ours = proven(problem_of(layers, last))
    assert ours == pytest.approx(lipschitz(complete, last), rel=CLOSE)
    assert ours >= steepest_jacobians(problem_of(layers, last), np.random.default_rng(seed), 2000)[2.0, 2.0]


def test_the_complete_constraint_is_sharper() -> None:
    for name, group, sizes in PERMUTED:
        layers, last = chain(0, name, group, sizes)
        assert proven(problem_of(layers, last)) < 0.999 * lipschitz(layers, last, eliminate=True)


@seeds
@networks
@pytest.mark.usefixtures("norms_alone")
def test_the_full_form_is_nowhere_below_the_reduced_one(
    name: str, group: int, sizes: tuple[int, ...], seed: int
) -> None:
    """And a solver gets as near as it can: 5e-4 where the optimum is not attained."""
    layers, last = chain(seed, name, group, sizes)
    full, ours = lipschitz(layers, last), proven(problem_of(layers, last))
    attains = name in ("slope_restricted", "abs")
    assert ours * (1 - 1e-6) <= full <= ours * (1 + (CLOSE if attains else 5e-4))


@seeds
@pytest.mark.parametrize(("name", "group", "sizes"), WITH_LINEAR)
def test_the_full_form_comes_within_1e_5_of_the_reduced_one(
    name: str, group: int, sizes: tuple[int, ...], seed: int
) -> None:
    layers, last = chain(seed, name, group, sizes)
    rho = (lipschitz(layers, last, eliminate=True) * (1 + CLOSE)) ** 2
    multipliers = centre(layers, last, rho)
    assert any(_is_positive(layers, last, rho, multipliers, 10.0**k) for k in range(2, 12))
    below = (lipschitz(layers, last, eliminate=True) * (1 - CLOSE)) ** 2
    assert not any(_is_positive(layers, last, below, multipliers, 10.0**k) for k in range(2, 12))


def _is_positive(
    layers: list[Layer], last: np.ndarray, rho: float, multipliers: list[list[dict[str, float]]], size: float
) -> bool:
    """Whether the full inequality holds, strictly, with nu = tau = size / 2: together -size |K (dv - dw)|^2 / |K|."""
    free = {"gamma": 0.0, "nu": size / 2, "tau": size / 2}
    matrices = [
        [layer.template.form({**each, **free}, layer.group, **layer.of_group(i)) for i, each in enumerate(groups)]
        for layer, groups in zip(layers, multipliers, strict=True)
    ]
    form = inequality(layers, last, rho, matrices)
    diagonal = np.diag(form)
    if np.any(diagonal <= 0):
        return False
    scaled = form / np.sqrt(np.outer(diagonal, diagonal))
    return bool(np.linalg.eigvalsh(scaled)[0] > 1e-14 * len(scaled))


@seeds
def test_the_maximum_of_pairs_is_bounded_by_its_template(seed: int) -> None:
    """lipcert's own bound of a maximum has one multiplier and the norm of its Jacobian: never smaller."""
    layers, last = chain(seed, "max_pool_pairs", 2, (3, 8, 6, 2))
    problem = problem_of(layers, last)
    found = lipschitz(layers, last)
    assert found <= proven(problem) * (1 + 1e-6)
    assert found >= steepest_jacobians(problem, np.random.default_rng(seed), 2000)[2.0, 2.0] * (1 - 1e-7)
