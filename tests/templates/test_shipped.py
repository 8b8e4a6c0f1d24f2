"""No random increment of a true activation violates its template, and wrong templates are caught."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from lipcert.activations import Abs, Activation, Clip, Gelu, LeakyRelu, Relu, Sigmoid, Tanh
from lipcert.activations.groupwise import GroupFunction
from lipcert.activations.householder import Householder
from lipcert.activations.sorting import GroupMax, GroupSort
from lipcert.arithmetic.enclosure import exact
from lipcert.templates import read_template, sampled_violation, shipped
from lipcert.templates.library import folder

ROUNDING = 1e-10
CAUGHT = 1e-3

RNG = np.random.default_rng(0)
NORMALS = {g: h / np.linalg.norm(h) for g in (1, 2, 3, 5) for h in [RNG.normal(size=g)]}


@dataclass(frozen=True)
class Case:
    """An activation that obeys a template."""

    template: str
    group: int
    activation: Activation | GroupFunction
    parameters: dict[str, np.ndarray] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.template}-{self.group}-{self.activation.name}"

    @property
    def function(self) -> Callable[[np.ndarray], np.ndarray]:
        return self.activation.value


def slopes(group: int, a: float, b: float) -> dict[str, np.ndarray]:
    return {"a": np.full(group, a), "b": np.full(group, b)}


def householder(group: int) -> Case:
    h = NORMALS[group]
    return Case("householder", group, Householder(exact(h[None]), exact(2 * h[None])), {"h": h})


CASES = [
    Case("slope_restricted", 1, Relu(), slopes(1, 0, 1)),
    Case("slope_restricted", 3, Relu(), slopes(3, 0, 1)),
    Case("slope_restricted", 3, Relu(), slopes(3, 1, 0)),
    Case("slope_restricted", 2, LeakyRelu(0.1), slopes(2, 0.1, 1)),
    Case("slope_restricted", 2, LeakyRelu(-0.5), slopes(2, -0.5, 1)),
    Case("slope_restricted", 2, Tanh(), slopes(2, 0, 1)),
    Case("slope_restricted", 2, Sigmoid(), slopes(2, 0, 0.25)),
    Case("slope_restricted", 1, Gelu(), slopes(1, -0.13, 1.13)),
    Case("slope_restricted", 1, Clip(-1.0, 0.5), slopes(1, 0, 1)),
    *(Case("abs", g, Abs()) for g in (1, 3)),
    Case("abs", 2, Relu()),
    *(Case("groupsort", g, GroupSort(g)) for g in (1, 2, 3, 5, 8)),
    Case("maxmin", 2, GroupSort(2)),
    *(householder(g) for g in (1, 2, 3, 5)),
    Case("max_pool_pairs", 2, GroupMax(2)),
    *(Case("permutations", g, GroupSort(g)) for g in (3, 4)),
]


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("seed", range(3))
def test_no_increment_of_the_true_activation_violates_its_template(case: Case, seed: int) -> None:
    rng = np.random.default_rng([seed, 5])
    template = shipped()[case.template]
    assert sampled_violation(template, case.function, case.group, rng=rng, parameters=case.parameters) < ROUNDING


def test_every_template_is_tried() -> None:
    assert {case.template for case in CASES} == set(shipped())


GROUPSORT, PERMUTATIONS = Case("groupsort", 3, GroupSort(3)), Case("permutations", 3, GroupSort(3))
MAXMIN, POOL, HOUSEHOLDER = Case("maxmin", 2, GroupSort(2)), Case("max_pool_pairs", 2, GroupMax(2)), householder(3)
RELU, ABS = Case("slope_restricted", 2, LeakyRelu(0.1), slopes(2, 0.1, 1)), Case("abs", 2, Abs())

WRONG = [
    (RELU, 'VV = "-2*lambda*diag(a*b)"', 'VV = "-2*lambda*diag(b*b)"', None),
    (RELU, 'VV = "-2*lambda*diag(a*b)"', 'VV = "-3*lambda*diag(a*b)"', None),
    (RELU, "diag(a) + diag(b)", "diag(a) - diag(b)", None),
    (RELU, "diag(a) + diag(b)", "2*diag(a) + 0*diag(b)", None),
    (RELU, 'WW = "-2*lambda*I"', 'WW = "-3*lambda*I"', None),
    (RELU, 'lambda = "nonnegative"', 'lambda = "free"', None),
    (RELU, "diag(a) + diag(b)", "J - I + diag(a) + diag(b)", None),
    (ABS, 'VV = "lambda*I"', 'VV = "lambda*I/2"', None),
    (ABS, 'VW = "0"', 'VW = "lambda*I"', None),
    (ABS, 'VV = "lambda*I"', 'VV = "-lambda*I"', None),
    (ABS, 'lambda = "nonnegative"', 'lambda = "free"', None),
    (GROUPSORT, 'K = "J"', 'K = "I"', None),
    (GROUPSORT, 'K = "J"', 'K = "J - I"', None),
    (GROUPSORT, 'T = "lambda*I + gamma*K"', 'T = "lambda*K + gamma*I"', None),
    (GROUPSORT, 'S = "nu*K"', 'S = "nu*I"', None),
    (GROUPSORT, 'P = "tau*K"', 'P = "tau*I"', None),
    (GROUPSORT, 'VV = "T - 2*S"', 'VV = "T + 2*S"', None),
    (GROUPSORT, 'VV = "T - 2*S"', 'VV = "T - 2*P"', None),
    (GROUPSORT, 'WW = "-T - 2*P"', 'WW = "-T - 2*S"', None),
    (GROUPSORT, 'WW = "-T - 2*P"', 'WW = "T - 2*P"', None),
    (GROUPSORT, 'VW = "P + S"', 'VW = "P - S"', None),
    (GROUPSORT, 'VW = "P + S"', 'VW = "2*P + S"', None),
    (GROUPSORT, 'lambda = "nonnegative"', 'lambda = "free"', None),
    (GROUPSORT, 'w = "J"', 'w = "I"', None),
    (GROUPSORT, 'v = "J"', 'v = "2*J"', None),
    (MAXMIN, 'K = "J"', 'K = "I"', None),
    (MAXMIN, 'WW = "-T - 2*P"', 'WW = "-T/2 - 2*P"', None),
    (HOUSEHOLDER, 'K = "I - outer(h, h)"', 'K = "I"', None),
    (HOUSEHOLDER, 'K = "I - outer(h, h)"', 'K = "outer(h, h)"', None),
    (HOUSEHOLDER, 'K = "I - outer(h, h)"', 'K = "I - 2*outer(h, h)"', None),
    (HOUSEHOLDER, 'K = "I - outer(h, h)"', 'K = "J + 0*outer(h, h)"', None),
    (HOUSEHOLDER, 'VV = "T - 2*S"', 'VV = "T - S"', None),
    (HOUSEHOLDER, 'w = "I - outer(h, h)"', 'w = "outer(h, h)"', None),
    (POOL, 'VV = "lambda*(I - J)"', 'VV = "lambda*(J - I)"', None),
    (POOL, 'VV = "lambda*(I - J)"', 'VV = "-lambda*I"', None),
    (POOL, 'VW = "lambda*J"', 'VW = "-lambda*J"', None),
    (POOL, 'WW = "-2*lambda*I"', 'WW = "-3*lambda*I"', None),
    (POOL, 'lambda = "nonnegative"', 'lambda = "free"', None),
    (PERMUTATIONS, 'jacobians = "permutations"', 'jacobians = ["I"]', None),
    (PERMUTATIONS, 'jacobians = "permutations"', 'jacobians = ["I", "J - I"]', None),
    (PERMUTATIONS, 'v = "J"', 'v = "I"', None),
    # the right template, and an activation that is not the one it is for
    (GROUPSORT, "", "", lambda x: 1.1 * np.sort(x, axis=-1)),
    (GROUPSORT, "", "", lambda x: np.sort(x, axis=-1) ** 2),
    (GROUPSORT, "", "", HOUSEHOLDER.function),
    (PERMUTATIONS, "", "", lambda x: 1.1 * np.sort(x, axis=-1)),
    (PERMUTATIONS, "", "", HOUSEHOLDER.function),
    (HOUSEHOLDER, "", "", GROUPSORT.function),
    (RELU, "", "", lambda x: np.maximum(x, 0)),
    (RELU, "", "", lambda x: 1.1 * x),
    (POOL, "", "", lambda x: x.sum(axis=-1, keepdims=True)),
    (POOL, "", "", lambda x: -x.max(axis=-1, keepdims=True)),
]


@pytest.mark.parametrize(
    ("case", "old", "new", "activation"),
    WRONG,
    ids=[f"{i}-{case}-{new}" for i, (case, _, new, _) in enumerate(WRONG)],
)
def test_a_wrong_template_is_caught(
    case: Case, old: str, new: str, activation: Callable[[np.ndarray], np.ndarray] | None, tmp_path: Path
) -> None:
    text = (folder() / f"{case.template}.toml").read_text()
    assert old in text
    path = tmp_path / "wrong.toml"
    path.write_text(text.replace(old, new, 1))
    rng = np.random.default_rng(7)
    found = sampled_violation(
        read_template(path), activation or case.function, case.group, rng=rng, parameters=case.parameters
    )
    assert found > CAUGHT


def test_lower_and_upper_maximum_obey_the_same_template() -> None:
    """The increments of a minimum lie between those of the entries, too."""
    rng = np.random.default_rng(3)
    least = sampled_violation(shipped()["max_pool_pairs"], lambda x: x.min(axis=-1, keepdims=True), 2, rng=rng)
    assert least < ROUNDING


def test_a_template_of_reflections_is_complete_with_two_jacobians(tmp_path: Path) -> None:
    text = (folder() / "permutations.toml").read_text()
    text = text.replace('"permutations"\n\n', '["I", "I - 2*outer(h, h)"]\n\n').replace("[3, 4]", '"any"')
    text = text.replace('"J"', '"I - outer(h, h)"')
    text += '\n[parameters.h]\nkind = "unit"\nmeaning = "normal"\n'
    path = tmp_path / "reflections.toml"
    path.write_text(text)
    rng = np.random.default_rng(4)
    template = read_template(path)
    assert sampled_violation(template, HOUSEHOLDER.function, 3, rng=rng, parameters=HOUSEHOLDER.parameters) < ROUNDING
    assert sampled_violation(template, GROUPSORT.function, 3, rng=rng, parameters=HOUSEHOLDER.parameters) > CAUGHT
