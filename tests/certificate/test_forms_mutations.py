"""Quadratic forms that were tampered with: refused, or what is proven is never below the optimum of all forms."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest

from lipcert.activations import Relu
from lipcert.activations.jacobian import BlockBound, Forms
from lipcert.activations.sorting import GroupSort
from lipcert.certificate import Claim, verify
from lipcert.certificate.arithmetic import Arithmetic
from lipcert.certificate.balls import BallArithmetic
from lipcert.certificate.chains import Setting
from lipcert.certificate.claim import FormChoice, Inequality, Scaling
from lipcert.certificate.encoding import decode_claim, encode
from lipcert.certificate.forms import quadratic_forms
from lipcert.certificate.inequality import inequality_bound
from lipcert.errors import CertificateError, NotProvedError
from lipcert.graph import Graph, Increment
from lipcert.methods import Progress
from lipcert.methods.lipsdp import LipSdpMethod
from lipcert.problem import Ball, Problem, Query, pose
from tests.helpers.claims import through_json
from tests.helpers.exact import is_semidefinite
from tests.helpers.inequalities import NETWORKS, Builder, setting_of
from tests.helpers.operators import as_fractions

ENOUGH = 1e308
OPTIMAL = 1e-5
"""How far above the optimum the solver's value is, at most."""


def mixed(rng: np.random.Generator) -> Graph:
    """A node of slopes, then two of sorted groups."""
    build = Builder(rng)
    at = build.active(build.affine(4, 0), Relu())
    at = build.grouped(build.affine(6, at), GroupSort(3))
    build.affine(2, build.grouped(build.affine(3, at), GroupSort(3)))
    return build.graph()


GRAPHS: dict[str, Callable[[np.random.Generator], Graph]] = {**NETWORKS, "mixed": mixed}
QUERIES = {
    "l2 to l2": Query(),
    "l2 to linf in a ball": Query(2.0, math.inf, Ball(np.full(3, 0.1), 0.5, 2.0)),
    "linf to linf": Query(math.inf, math.inf),
}
SOLVED = [
    ("groupsort of 3", "l2 to l2"),
    ("groupsort of 4", "l2 to l2"),
    ("mixed", "l2 to l2"),
    ("mixed", "linf to linf"),
    ("groupsort of 3", "l2 to linf in a ball"),
]
solved = pytest.mark.parametrize(("network", "asked"), SOLVED)
in_both = pytest.mark.parametrize("arithmetic", [Arithmetic, BallArithmetic], ids=["float64", "balls"])


@cache
def optimum(network: str, asked: str) -> tuple[Problem, Claim]:
    """A problem and the solver's claim about it, which has forms."""
    problem = pose(GRAPHS[network](np.random.default_rng([*network.encode()])), QUERIES[asked])
    claim = list(LipSdpMethod().claims(problem, Progress()))[-1]
    assert isinstance(claim.evidence, Inequality)
    assert all(scaling.forms for scaling in claim.evidence.scalings)
    return problem, claim


def evidence_of(claim: Claim) -> Inequality:
    assert isinstance(claim.evidence, Inequality)
    return claim.evidence


def edited(evidence: Inequality, edit: Callable[[Scaling], Scaling]) -> Inequality:
    return Inequality(tuple(edit(scaling) for scaling in evidence.scalings))


def with_values(scaling: Scaling, edit: Callable[[np.ndarray], Any], place: int | None = None) -> Scaling:
    """The matrices of all choices, or of one, edited."""
    forms = (
        replace(choice, values=edit(choice.values.copy())) if place in (None, i) else choice
        for i, choice in enumerate(scaling.forms)
    )
    return replace(scaling, forms=tuple(forms))


def accepted(
    problem: Problem, claim: Claim, evidence: Inequality, value: float, arithmetic: type[Arithmetic] = Arithmetic
) -> float:
    """What is proven of a claim with other evidence, infinity where nothing is."""
    try:
        return verify(problem, replace(claim, value=value, evidence=evidence), arithmetic())
    except NotProvedError:
        return math.inf


def fresh(network: str, asked: str, arithmetic: type[Arithmetic] = Arithmetic) -> tuple[Setting, Scaling, list[int]]:
    """A setting of its own, the first scaling, and the nodes of groups."""
    problem, claim = optimum(network, asked)
    setting = setting_of(problem, arithmetic())
    query = problem.query
    setting = replace(setting, norm_in=query.norm_in, norm_out=query.norm_out)
    scaling = evidence_of(claim).scalings[0]
    return setting, scaling, [choice.node for choice in scaling.forms]


# Matrices.


@solved
@in_both
def test_what_the_solver_claims_is_accepted_and_nothing_below_it(
    network: str, asked: str, arithmetic: type[Arithmetic]
) -> None:
    problem, claim = optimum(network, asked)
    assert claim.value * (1 - 1e-9) <= verify(problem, claim, arithmetic()) <= claim.value
    for factor in (1 - 1e-8, 0.99, 0.0):
        with pytest.raises(NotProvedError, match="above the claimed"):
            verify(problem, replace(claim, value=claim.value * factor), arithmetic())


@solved
def test_each_entry_changed_by_one_percent_proves_no_less(network: str, asked: str) -> None:
    """Either way, with the entry across the diagonal; outputs are shrunk until something may be proven."""
    problem, claim = optimum(network, asked)
    refused = 0
    size = evidence_of(claim).scalings[0].forms[0].values.shape[1]
    rng = np.random.default_rng(31)
    pairs = [(i, j) for i in range(size) for j in range(i + 1)]
    for i, j in [pairs[k] for k in rng.permutation(len(pairs))[:24]]:
        for factor in (0.99, 1.01):
            for shrink in (1.0, 0.9):

                def edit(q: np.ndarray, i: int = i, j: int = j, factor: float = factor) -> np.ndarray:
                    q[0, i, j] *= factor
                    q[0, j, i] = q[0, i, j]
                    return q

                evidence = edited(
                    evidence_of(claim),
                    lambda s, shrink=shrink, edit=edit: replace(with_values(s, edit, 0), outputs=s.outputs * shrink),
                )
                value = accepted(problem, claim, evidence, ENOUGH)
                assert value >= claim.value * (1 - OPTIMAL)
                refused += value == math.inf
    assert refused


@pytest.mark.one_in(2)
@solved
def test_random_changes_of_matrices_prove_no_less(network: str, asked: str) -> None:
    """By a little or by much; smaller scales of inputs and outputs leave room for them."""
    rng = np.random.default_rng(32)
    problem, claim = optimum(network, asked)
    proven = refused = 0
    for _ in range(60):
        size = 10.0 ** rng.uniform(-9, -1)

        def edit(q: np.ndarray, size: float = size) -> np.ndarray:
            noise = size * rng.normal(size=q.shape)
            k = q.shape[1] // 2
            changed = q + noise + np.swapaxes(noise, 1, 2)
            changed[:, :k, :k] += 4 * size * k * np.eye(k) * rng.integers(2)
            return changed

        for shrink in (1.0, 1 - size, 0.9):
            evidence = edited(
                evidence_of(claim),
                lambda s, shrink=shrink, edit=edit: replace(
                    with_values(s, edit), inputs=s.inputs * shrink, outputs=s.outputs * shrink
                ),
            )
            value = accepted(problem, claim, evidence, ENOUGH)
            assert value >= claim.value * (1 - OPTIMAL)
            proven += value < math.inf
            refused += value == math.inf
    assert refused
    assert proven or asked != "l2 to l2"


@solved
@in_both
@pytest.mark.parametrize("part", ["inputs", "outputs"])
def test_larger_scales_of_inputs_or_outputs_are_refused(
    network: str, asked: str, part: str, arithmetic: type[Arithmetic]
) -> None:
    problem, claim = optimum(network, asked)
    larger = edited(evidence_of(claim), lambda s: replace(s, **{part: getattr(s, part) * 1.01}))
    with pytest.raises(NotProvedError, match="not proven positive definite"):
        verify(problem, replace(claim, value=ENOUGH, evidence=larger), arithmetic())


def sharpened(k: int, by: float) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    """Changes that would make P larger, so that it is the conditions of the forms that refuse them."""

    def less_of_dv(q: np.ndarray) -> np.ndarray:
        q[:, :k, :k] -= by * np.eye(k)
        return q

    def less_along_one(q: np.ndarray) -> np.ndarray:
        q[:, 0, 0] -= by
        return q

    def more_negative(q: np.ndarray) -> np.ndarray:
        q[:, k:, k:] -= by * np.eye(k)
        return q

    def all_negative(q: np.ndarray) -> np.ndarray:
        return q - by * np.eye(2 * k)

    return {
        "less of |dv|^2": less_of_dv,
        "less along one entry": less_along_one,
        "more of -|dw|^2": more_negative,
        "less of both": all_negative,
    }


CHANGES = ("less of |dv|^2", "less along one entry", "more of -|dw|^2", "less of both")


@solved
@in_both
@pytest.mark.parametrize("change", CHANGES)
def test_matrices_that_say_more_than_is_true_are_refused(
    network: str, asked: str, change: str, arithmetic: type[Arithmetic]
) -> None:
    problem, claim = optimum(network, asked)
    for by in (1e-3, 0.1, 10.0):
        evidence = edited(
            evidence_of(claim),
            lambda s, by=by: with_values(s, lambda q: sharpened(q.shape[1] // 2, by)[change](q)),
        )
        with pytest.raises(NotProvedError, match="not proven nonnegative at an extreme Jacobian"):
            verify(problem, replace(claim, value=ENOUGH, evidence=evidence), arithmetic())


@solved
@in_both
def test_convex_forms_are_refused(network: str, asked: str, arithmetic: type[Arithmetic]) -> None:
    """Positive at all permutations, but not at means: dw needs a negative block in every direction."""
    problem, claim = optimum(network, asked)
    rng = np.random.default_rng(33)
    for size in (1e-12, 1e-3, 1.0, 1e3):
        for entries in ("all", "one direction"):

            def edit(q: np.ndarray, size: float = size, entries: str = entries) -> np.ndarray:
                k = q.shape[1] // 2
                if entries == "all":
                    q[:, k:, k:] = size * np.eye(k)
                else:
                    values, vectors = np.linalg.eigh(q[:, k:, k:])
                    values[:, int(rng.integers(k))] = size
                    q[:, k:, k:] = vectors @ (values[:, :, None] * np.swapaxes(vectors, 1, 2))
                    q[:, k:, k:] = (q[:, k:, k:] + np.swapaxes(q[:, k:, k:], 1, 2)) / 2
                q[:, :k, :k] += (100 + 100 * size + 100 * np.abs(q).max()) * np.eye(k)
                return q

            evidence = edited(evidence_of(claim), lambda s, edit=edit: with_values(s, edit))
            with pytest.raises(NotProvedError, match="not proven negative in what the node returns"):
                verify(problem, replace(claim, value=ENOUGH, evidence=evidence), arithmetic())


BROKEN: dict[str, tuple[Callable[[np.ndarray], Any], str]] = {
    "asymmetric across": (lambda q: _set(q, (0, 0, -1), q[0, 0, -1] * (1 + 1e-15) + 1e-300), "symmetric matrices"),
    "asymmetric in dv": (lambda q: _set(q, (-1, 0, 1), q[-1, 0, 1] + 1e-9), "symmetric matrices"),
    "nan": (lambda q: _set(q, (0, 0, 0), np.nan), "not finite float64"),
    "nan everywhere": (lambda q: q * np.nan, "not finite float64"),
    "infinite": (lambda q: _set(q, (0, 0, 0), np.inf), "not finite float64"),
    "minus infinite": (lambda q: _set(q, (-1, -1, -1), -np.inf), "not finite float64"),
    "float32": (lambda q: q.astype(np.float32), "not finite float64"),
    "longdouble": (lambda q: q.astype(np.longdouble), "not finite float64"),
    "integers": (lambda q: np.rint(q).astype(np.int64), "not finite float64"),
    "other bytes": (lambda q: q.astype(">f8"), "not finite float64"),
    "flat": (lambda q: q.reshape(-1), "symmetric matrices"),
    "a group missing": (lambda q: q[1:], "symmetric matrices"),
    "a group more": (lambda q: np.concatenate([q, q[:1]]), "symmetric matrices"),
    "one matrix": (lambda q: q[0], "symmetric matrices"),
    "one matrix for all": (lambda q: np.ascontiguousarray(q[:1]), "symmetric matrices"),
    "a row missing": (lambda q: q[:, 1:], "symmetric matrices"),
    "the block of dv alone": (lambda q: q[:, : q.shape[1] // 2, : q.shape[1] // 2], "symmetric matrices"),
    "an axis more": (lambda q: q[None], "symmetric matrices"),
    "empty": (lambda q: q[:0], "symmetric matrices"),
    "a number": (lambda q: np.array(1.0), "symmetric matrices"),
}


def _set(q: np.ndarray, place: tuple[int, ...], value: float) -> np.ndarray:
    q[place] = value
    return q


@in_both
@pytest.mark.parametrize("how", BROKEN)
def test_what_are_no_matrices_of_the_groups_is_refused(how: str, arithmetic: type[Arithmetic]) -> None:
    problem, claim = optimum("groupsort of 3", "l2 to l2")
    edit, words = BROKEN[how]
    evidence = edited(evidence_of(claim), lambda s: with_values(s, edit, 1))
    with pytest.raises(NotProvedError, match=words):
        verify(problem, replace(claim, value=ENOUGH, evidence=evidence), arithmetic())


@in_both
@pytest.mark.parametrize("size", [1e-320, 1e-300, 1e-160, 1e160, 1e300, 1.7e308])
def test_matrices_of_any_size_prove_no_less(size: float, arithmetic: type[Arithmetic]) -> None:
    """All of them, or of one node: products underflow or overflow, and nothing is proven."""
    problem, claim = optimum("groupsort of 3", "l2 to l2")
    for place in (None, 0, 1):
        with np.errstate(over="ignore"):
            evidence = edited(evidence_of(claim), lambda s, place=place: with_values(s, lambda q: q * size, place))
        assert accepted(problem, claim, evidence, ENOUGH, arithmetic) >= claim.value * (1 - OPTIMAL)
    assert accepted(problem, claim, evidence, claim.value, arithmetic) == math.inf


# Which nodes.


@in_both
def test_forms_of_other_nodes_are_refused(arithmetic: type[Arithmetic]) -> None:
    setting, scaling, (first, second) = fresh("mixed", "l2 to l2", arithmetic)
    slopes = next(i for i in setting.increments.nonlinear if i not in (first, second))
    others = [-1, 0, len(setting.graph.nodes), 10**30, first - 1, setting.y]
    for node in others:
        forms = (replace(scaling.forms[0], node=node), scaling.forms[1])
        with pytest.raises(NotProvedError, match="not those of nonlinear nodes, each once"):
            inequality_bound(setting, Inequality((replace(scaling, forms=forms),)))
    for forms in (scaling.forms + scaling.forms[:1], scaling.forms[:1] * 2):
        with pytest.raises(NotProvedError, match="not those of nonlinear nodes, each once"):
            inequality_bound(setting, Inequality((replace(scaling, forms=forms),)))
    forms = (replace(scaling.forms[0], node=slopes), scaling.forms[1])
    with pytest.raises(NotProvedError, match=rf"node {slopes} has no quadratic forms"):
        inequality_bound(setting, Inequality((replace(scaling, forms=forms),)))
    swapped = (replace(scaling.forms[0], node=second), replace(scaling.forms[1], node=first))
    with pytest.raises(NotProvedError, match="symmetric matrices"):
        inequality_bound(setting, Inequality((replace(scaling, forms=swapped),)))


@pytest.mark.parametrize("network", ["maxmin", "max of 3", "householder", "relu"])
def test_nodes_without_forms_have_none(network: str) -> None:
    setting = setting_of(pose(GRAPHS[network](np.random.default_rng(34)), Query()))
    neurons = sum(setting.graph.size(node) for node in setting.increments.nonlinear)
    for node in setting.increments.nonlinear:
        q = np.tile(np.diag([1.1, 1.1, -1.0, -1.0]), (2, 1, 1))
        scaling = Scaling(np.full(3, 1e-3), np.ones(neurons), np.full(2, 1e-3), (FormChoice(node, q),))
        with pytest.raises(NotProvedError, match="has no quadratic forms"):
            inequality_bound(setting, Inequality((scaling,)))


@solved
def test_left_out_forms_prove_no_less(network: str, asked: str) -> None:
    """Then the norm of the Jacobian is all that is known, and the scales are not those for it."""
    problem, claim = optimum(network, asked)
    for place in (0, -1, None):

        def edit(s: Scaling, place: int | None = place) -> Scaling:
            left = () if place is None else tuple(f for f in s.forms if f is not s.forms[place])
            return replace(s, forms=left)

        for shrink in (1.0, 0.5):
            evidence = edited(
                edited(evidence_of(claim), edit), lambda s, shrink=shrink: replace(s, outputs=s.outputs * shrink)
            )
            assert accepted(problem, claim, evidence, ENOUGH) >= claim.value * (1 - OPTIMAL)
            assert accepted(problem, claim, evidence, claim.value) == math.inf


@in_both
@pytest.mark.parametrize("network", ["groupsort of 3", "groupsort of 4"])
def test_scales_that_differ_within_a_group_are_refused(network: str, arithmetic: type[Arithmetic]) -> None:
    setting, scaling, _ = fresh(network, "l2 to l2", arithmetic)
    for place in range(scaling.hidden.size):
        hidden = scaling.hidden.copy()
        hidden[place] = np.nextafter(hidden[place], 0)
        with pytest.raises(NotProvedError, match=r"scales of a group of node \d+ differ"):
            inequality_bound(setting, Inequality((replace(scaling, hidden=hidden),)))


@in_both
@pytest.mark.parametrize("size", [5e-324, 1e-310, 1e-200, 1e-150, 1e150, 1e200, 1.7e308])
def test_scales_of_groups_at_the_ends_of_the_numbers_are_refused(size: float, arithmetic: type[Arithmetic]) -> None:
    setting, scaling, nodes = fresh("groupsort of 3", "l2 to l2", arithmetic)
    width = setting.graph.size(nodes[0])
    for own in (slice(0, 3), slice(0, width), slice(width, None), slice(None)):
        hidden = scaling.hidden.copy()
        hidden[own] = size
        with pytest.raises(NotProvedError, match=r"the scales of node \d+ are too large or too small for forms"):
            inequality_bound(setting, Inequality((replace(scaling, hidden=hidden),)))


# What is remembered.


@in_both
@pytest.mark.parametrize("what", ["sharper", "convex", "none", "swapped groups", "nan", "in place"])
def test_other_forms_on_the_same_setting_are_proven_anew(what: str, arithmetic: type[Arithmetic]) -> None:
    """The scales are those that were proven: what is remembered is not what is read."""
    setting, scaling, _ = fresh("groupsort of 3", "l2 to l2", arithmetic)
    own = with_values(scaling, lambda q: q)
    assert math.isfinite(inequality_bound(setting, Inequality((own,))))

    def convex(q: np.ndarray) -> np.ndarray:
        q[:, 3:, 3:] *= -1
        return q

    changed = {
        "sharper": lambda: with_values(own, lambda q: q - 0.1 * np.eye(6)),
        "convex": lambda: with_values(own, convex),
        "none": lambda: replace(own, forms=()),
        "swapped groups": lambda: with_values(own, lambda q: q[::-1]),
        "nan": lambda: with_values(own, lambda q: q * np.nan),
        "in place": lambda: own,
    }[what]()
    if what == "in place":
        own.forms[1].values[:] -= 0.1 * np.eye(6)
    for inputs in (changed.inputs, changed.inputs * (1 - 2.0**-40)):
        with pytest.raises(NotProvedError):
            inequality_bound(setting, Inequality((replace(changed, inputs=inputs),)))
    assert math.isfinite(inequality_bound(setting, Inequality((scaling,))))


def test_forms_that_were_remembered_are_not_proven_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    setting, scaling, _ = fresh("groupsort of 3", "l2 to l2")
    value = inequality_bound(setting, Inequality((scaling,)))
    monkeypatch.setattr(setting.by, "proves_positive", lambda form: False)
    monkeypatch.setattr(setting.by, "prove_positive", lambda matrices, errors: False)
    assert inequality_bound(setting, Inequality((scaling,))) == value
    with pytest.raises(NotProvedError):
        inequality_bound(setting, Inequality((with_values(scaling, lambda q: q * (1 + 2.0**-50)),)))


# What is known of a node.


def known(setting: Setting, node: int, forms: Forms | None) -> Setting:
    """The setting with other forms of a node."""
    nodes = list(setting.graph.nodes)
    body = nodes[node]
    assert isinstance(body, Increment)
    assert isinstance(body.bound, BlockBound)
    nodes[node] = replace(body, bound=replace(body.bound, forms=forms))
    return replace(setting, increments=replace(setting.increments, graph=Graph(tuple(nodes), setting.graph.outputs)))


def forms_of(setting: Setting, node: int) -> Forms:
    bound = setting.increments.bound(node)
    assert isinstance(bound, BlockBound)
    assert bound.forms is not None
    return bound.forms


@in_both
def test_groups_without_a_jacobian_are_refused(arithmetic: type[Arithmetic]) -> None:
    """Of which any matrix would be a form."""
    setting, scaling, (first, _) = fresh("groupsort of 3", "l2 to l2", arithmetic)
    forms = forms_of(setting, first)
    assert forms.possible is not None
    for groups in (slice(None), slice(0, 1), slice(1, 2)):
        possible = forms.possible.copy()
        possible[groups] = False
        with pytest.raises(NotProvedError, match=rf"a group of node {first} has no Jacobian"):
            inequality_bound(known(setting, first, replace(forms, possible=possible)), Inequality((scaling,)))


@in_both
def test_possible_jacobians_are_those_of_each_group(arithmetic: type[Arithmetic]) -> None:
    """Of the first group the identity alone: the second is held to all."""
    setting, scaling, (first, _) = fresh("groupsort of 3", "l2 to l2", arithmetic)
    forms = forms_of(setting, first)
    assert forms.possible is not None
    assert forms.extremes is not None
    for group in (0, 1):
        possible = np.ones_like(forms.possible)
        possible[group, 1:] = False
        fewer = known(setting, first, replace(forms, possible=possible))
        for spoilt in (0, 1):

            def edit(q: np.ndarray, spoilt: int = spoilt) -> np.ndarray:
                at = np.hstack([np.eye(3), forms.extremes[0].T]) @ q[spoilt] @ np.vstack([np.eye(3), forms.extremes[0]])  # type: ignore[index]
                q[spoilt, :3, :3] -= at - 1e-3 * np.eye(3)  # 1e-3 |dv|^2 at the identity, and less elsewhere
                q[spoilt] = (q[spoilt] + q[spoilt].T) / 2
                return q

            changed = with_values(scaling, edit, 0)
            changed = replace(changed, inputs=changed.inputs * 1e-3, outputs=changed.outputs * 1e-3)
            if spoilt == group:
                assert math.isfinite(inequality_bound(fewer, Inequality((changed,))))
            else:
                with pytest.raises(NotProvedError, match="at an extreme Jacobian"):
                    inequality_bound(fewer, Inequality((changed,)))


@in_both
def test_no_possible_jacobians_given_means_all(arithmetic: type[Arithmetic]) -> None:
    setting, scaling, (first, _) = fresh("groupsort of 3", "l2 to l2", arithmetic)
    forms = replace(forms_of(setting, first), possible=None)
    every = known(setting, first, forms)
    assert inequality_bound(every, Inequality((scaling,))) == inequality_bound(setting, Inequality((scaling,)))
    with pytest.raises(NotProvedError, match="at an extreme Jacobian"):
        inequality_bound(every, Inequality((with_values(scaling, lambda q: q - 0.01 * np.eye(6)),)))
    with pytest.raises(NotProvedError, match=rf"node {first} has no quadratic forms"):
        inequality_bound(known(setting, first, None), Inequality((scaling,)))


BASIS_BROKEN: dict[str, tuple[Callable[[np.ndarray], np.ndarray], str]] = {
    "negative": (lambda y: _set(y, (0, 0), -1e-9), "multiplier of node .* is negative"),
    "the least negative": (lambda y: _set(y, (1, 0), -5e-324), "multiplier of node .* is negative"),
    "all negative": (lambda y: -y, "multiplier of node .* is negative"),
    "nan": (lambda y: _set(y, (0, 0), np.nan), "not finite float64"),
    "infinite": (lambda y: _set(y, (0, 0), np.inf), "not finite float64"),
    "float32": (lambda y: y.astype(np.float32), "not finite float64"),
    "a group missing": (lambda y: y[1:], "do not fit its groups"),
    "one for all": (lambda y: np.ascontiguousarray(y[:1]), "do not fit its groups"),
    "one more": (lambda y: np.hstack([y, y]), "do not fit its groups"),
    "flat": (lambda y: y.reshape(-1), "do not fit its groups"),
}


def spanned(arithmetic: type[Arithmetic]) -> tuple[Setting, Scaling, int]:
    """The first groups known by |dv|^2 - |dw|^2 alone, with its multipliers."""
    setting, scaling, (first, _) = fresh("groupsort of 3", "l2 to l2", arithmetic)
    basis = np.tile(np.diag([1.0] * 3 + [-1.0] * 3)[None], (2, 1, 1, 1))
    changed = known(setting, first, Forms(basis=basis, nonnegative=np.array([True])))
    forms = (FormChoice(first, np.ones((2, 1))), *scaling.forms[1:])
    return changed, replace(scaling, inputs=scaling.inputs * 0.1, forms=forms), first


@in_both
@pytest.mark.parametrize("how", BASIS_BROKEN)
def test_multipliers_of_a_basis_that_are_none_are_refused(how: str, arithmetic: type[Arithmetic]) -> None:
    setting, scaling, _ = spanned(arithmetic)
    small = replace(scaling, outputs=scaling.outputs * 1e-3)
    edit, words = BASIS_BROKEN[how]
    with pytest.raises(NotProvedError, match=words):
        inequality_bound(setting, Inequality((with_values(small, edit, 0),)))


@in_both
def test_matrices_are_no_multipliers_and_multipliers_no_matrices(arithmetic: type[Arithmetic]) -> None:
    setting, scaling, first = spanned(arithmetic)
    plain, full, _ = fresh("groupsort of 3", "l2 to l2", arithmetic)
    assert full.forms[0].node == first
    with pytest.raises(NotProvedError, match="do not fit its groups"):
        inequality_bound(setting, Inequality((full,)))
    with pytest.raises(NotProvedError, match="symmetric matrices"):
        inequality_bound(plain, Inequality((scaling,)))


# Rounding.


@in_both
def test_errors_count_where_small_matrices_are_proven_positive(arithmetic: type[Arithmetic]) -> None:
    by = arithmetic()
    eye = np.tile(np.eye(3), (4, 1, 1))
    assert by.prove_positive(eye, np.full((4, 3), 0.9))
    for place in range(4):
        errors, matrices = np.zeros((4, 3)), eye.copy()
        errors[place] = 1.1
        matrices[place, 2, 2] = -1e-9
        assert not by.prove_positive(eye, errors)
        assert not by.prove_positive(matrices, np.zeros((4, 3)))


@in_both
@pytest.mark.parametrize("size", [1e3, 1e8, 1e14])
def test_matrices_whose_blocks_cancel_at_the_extreme_jacobian_are_forms(
    size: float, arithmetic: type[Arithmetic]
) -> None:
    """At the identity, the only one possible here, a form of about the roundings of its blocks is left."""
    rng = np.random.default_rng(35)
    setting, _, (first, _) = fresh("groupsort of 3", "l2 to l2", arithmetic)
    forms = forms_of(setting, first)
    assert forms.possible is not None
    setting = known(setting, first, replace(forms, possible=np.arange(6) * forms.possible[:, :1] < 1))
    both, unit = np.hstack([as_fractions(np.eye(3))] * 2), np.eye(3)
    accepted, wrong = 0, 0
    for _ in range(400):
        x = size * rng.normal(size=(2, 3, 3))
        x = x + np.swapaxes(x, 1, 2)
        root = rng.normal(size=(2, 3, 3))
        own = unit + root @ np.swapaxes(root, 1, 2)
        own = (own + np.swapaxes(own, 1, 2)) / 2
        left = np.array([10.0 ** rng.uniform(-16.5, -13.5), 1e-12])[:, None, None] * size
        across = (own + left * unit - x) / 2
        q = np.block([[x, across], [across, -own]])
        true = is_semidefinite(both @ as_fractions(q[0]) @ both.T)
        wrong += not true
        try:
            quadratic_forms(setting, FormChoice(first, q), np.ones(6))
        except NotProvedError:
            continue
        accepted += 1
        assert true
    assert accepted
    assert wrong


# In reports.


@solved
def test_evidence_and_claim_survive_json(network: str, asked: str) -> None:
    problem, claim = optimum(network, asked)
    again = through_json(claim)
    pairs = zip(evidence_of(claim).scalings, evidence_of(again).scalings, strict=True)
    for ours, theirs in ((a, b) for s, t in pairs for a, b in zip(s.forms, t.forms, strict=True)):
        assert ours.node == theirs.node
        assert np.array_equal(ours.values, theirs.values)
    assert verify(problem, again) == verify(problem, claim)


DAMAGE: dict[str, Callable[[dict[str, Any]], Any]] = {
    "no forms field": lambda scaling: scaling.pop("forms"),
    "forms that are one": lambda scaling: scaling.update(forms=scaling["forms"][0]),
    "a node that is a float": lambda scaling: scaling["forms"][0].update(node=4.0),
    "a node that is true": lambda scaling: scaling["forms"][0].update(node=True),
    "no node": lambda scaling: scaling["forms"][0].pop("node"),
    "values as a list": lambda scaling: scaling["forms"][0].update(values=[1.0]),
    "one more field": lambda scaling: scaling["forms"][0].update(possible=[]),
    "another kind": lambda scaling: scaling["forms"][0].update({"is": "Scaling"}),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_evidence_is_not_read(damage: str) -> None:
    _, claim = optimum("groupsort of 3", "l2 to l2")
    data = json.loads(json.dumps(encode(claim)))
    DAMAGE[damage](data["evidence"]["scalings"][0])
    with pytest.raises(CertificateError):
        decode_claim(data)


def test_forms_found_in_a_ball_prove_nothing_false_elsewhere() -> None:
    """Where more permutations are possible: refused, or proven anew."""
    problem, claim = optimum("groupsort of 3", "l2 to linf in a ball")
    least = optimum("groupsort of 3", "l2 to l2")[1].value
    moved = replace(problem, query=replace(problem.query, region=Ball(np.full(3, 5.0), 0.5, 2.0)))
    for other in (moved, replace(problem, query=Query(2.0, math.inf))):
        local = list(LipSdpMethod().claims(other, Progress()))[-1].value
        assert accepted(other, claim, evidence_of(claim), ENOUGH) >= local * (1 - OPTIMAL)
    assert accepted(
        replace(problem, query=Query()), claim, Inequality(evidence_of(claim).scalings[:1]), ENOUGH
    ) >= least * (1 - OPTIMAL)
