"""The matrices of templates are those of the formulas, and what does not fit is said."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from lipcert.errors import UsageError
from lipcert.templates import shipped

J3, I3 = np.ones((3, 3)), np.eye(3)


def test_slope_restricted_is_the_product_of_the_distances_to_the_slopes() -> None:
    rng = np.random.default_rng(0)
    a, b, dv, dw = rng.normal(size=(4, 3))
    matrix = shipped()["slope_restricted"].form({"lambda": 1.5}, 3, a=a, b=b)
    z = np.concatenate([dv, dw])
    assert z @ matrix @ z == pytest.approx(2 * 1.5 * np.sum((dw - a * dv) * (b * dv - dw)))


@pytest.mark.parametrize("name", ["groupsort", "householder"])
def test_the_form_of_pauli_et_al_is_that_of_the_paper(name: str) -> None:
    lam, gamma, nu, tau = 0.7, -1.1, 2.3, 0.4
    h = np.array([2.0, -1.0, 2.0]) / 3
    parameters = {"h": h} if name == "householder" else {}
    k = I3 - np.outer(h, h) if name == "householder" else J3
    t, s, p = lam * I3 + gamma * k, nu * k, tau * k
    expected = np.block([[t - 2 * s, p + s], [p + s, -t - 2 * p]])
    found = shipped()[name].form({"lambda": lam, "gamma": gamma, "nu": nu, "tau": tau}, 3, **parameters)
    np.testing.assert_allclose(found, expected)


def test_maxmin_is_groupsort_of_two() -> None:
    two, any_size = shipped()["maxmin"].basis(2), shipped()["groupsort"].basis(2)
    assert two.keys() == any_size.keys()
    for key, part in two.items():
        np.testing.assert_array_equal(part, any_size[key])


def test_the_maximum_lies_between_the_entries() -> None:
    rng = np.random.default_rng(1)
    one, two, w = rng.normal(size=3)
    matrix = shipped()["max_pool_pairs"].form({"lambda": 1.0}, 2)
    z = np.array([one, two, w])
    assert z @ matrix @ z == pytest.approx(2 * (w - two) * (one - w))


@pytest.mark.parametrize(("name", "group"), [("groupsort", 2), ("groupsort", 5), ("maxmin", 2), ("householder", 4)])
def test_without_the_linear_directions_one_multiplier_remains(name: str, group: int) -> None:
    h = np.random.default_rng(2).normal(size=group)
    parameters = {"h": h / np.linalg.norm(h)} if name == "householder" else {}
    template = shipped()[name]
    reduced = template.reduced_basis(group, **parameters)
    assert list(reduced) == ["lambda"]
    kept = 1 if name == "householder" else group - 1
    # lambda (|N' dv|^2 - |p|^2)
    onto = template.elimination(group, **parameters).onto
    expected = np.zeros((group + kept, group + kept))
    expected[:group, :group] = onto @ onto.T
    expected[group:, group:] = -np.eye(kept)
    np.testing.assert_allclose(reduced["lambda"], expected, atol=1e-12)


def test_the_elimination_keeps_the_mean_of_a_sorted_group() -> None:
    found = shipped()["groupsort"].elimination(3)
    np.testing.assert_allclose(found.through, J3 / 3, atol=1e-15)
    np.testing.assert_allclose(found.onto.T @ found.onto, np.eye(2), atol=1e-15)
    np.testing.assert_allclose(found.onto.sum(axis=0), 0, atol=1e-15)


def test_without_equalities_nothing_is_eliminated() -> None:
    found = shipped()["max_pool_pairs"].elimination(2)
    np.testing.assert_array_equal(found.through, np.zeros((1, 2)))
    np.testing.assert_array_equal(np.abs(found.onto), np.eye(1))


def test_the_complete_constraint_of_sorting_contains_the_single_multiplier() -> None:
    template = shipped()["permutations"]
    assert len(template.conditions(3)) == 7
    assert len(template.conditions(4)) == 25
    signs = template.signs(3)
    assert len(signs) == 21
    assert set(signs.values()) == {"free"}
    single = shipped()["groupsort"].form({"lambda": 1.0, "gamma": -0.2, "nu": 0.3, "tau": 0.1}, 3)
    values = {
        key: float(single[place]) for key, place in zip(signs, zip(*np.triu_indices(6), strict=True), strict=True)
    }
    np.testing.assert_allclose(template.form(values, 3), single)
    with pytest.raises(UsageError, match="conditions of the extreme Jacobians"):
        template.form({key: -value for key, value in values.items()}, 3)


def test_its_jacobians_are_all_permutations() -> None:
    ends = [c.columns[3:] for c in shipped()["permutations"].conditions(3)[1:]]
    expected = {tuple(I3[list(p)].ravel()) for p in itertools.permutations(range(3))}
    assert {tuple(end.ravel()) for end in ends} == expected


UNIT: dict[str, Any] = {"h": np.array([1.0, 0.0])}


@pytest.mark.parametrize(
    ("name", "group", "multipliers", "parameters", "words"),
    [
        ("maxmin", 3, {}, {}, "group: it speaks of groups of 2, not of 3"),
        ("permutations", 5, {}, {}, "groups of 3 or 4, not of 5"),
        ("groupsort", 0, {}, {}, "groups have 1 to 256 entries"),
        ("groupsort", 257, {}, {}, "groups have 1 to 256 entries"),
        ("abs", 2, {}, {}, "multipliers: lambda is not given"),
        ("abs", 2, {"lambda": 1.0, "mu": 1.0}, {}, "multipliers: mu is unknown"),
        ("abs", 2, {"lambda": -1.0}, {}, "multipliers: lambda = -1.0 is not nonnegative and finite"),
        ("abs", 2, {"lambda": float("nan")}, {}, "is not nonnegative and finite"),
        ("abs", 2, {"lambda": 1.0}, UNIT, "parameters: h is unknown"),
        ("householder", 2, {}, {}, "parameters: h is not given"),
        ("householder", 3, {}, UNIT, "parameters: h: 3 finite numbers"),
        ("householder", 2, {}, {"h": np.array([1.0, 0.1])}, "parameters: h: its norm is not 1"),
        ("householder", 2, {}, {"h": np.array([1.0, np.nan])}, "parameters: h: 2 finite numbers"),
    ],
)
def test_what_does_not_fit_is_said(
    name: str, group: int, multipliers: dict[str, float], parameters: dict[str, Any], words: str
) -> None:
    with pytest.raises(UsageError) as caught:
        shipped()[name].form(multipliers, group, **parameters)
    assert words in str(caught.value)
    assert f"{name}.toml: " in str(caught.value)
