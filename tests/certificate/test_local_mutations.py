"""Trees that were tampered with: they are refused, or what they prove is above all that is attained."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest

import lipcert
from lipcert.activations import Abs, Clip, Tanh
from lipcert.certificate import Claim, verify
from lipcert.certificate.arithmetic import Arithmetic
from lipcert.certificate.balls import BallArithmetic
from lipcert.certificate.claim import Local, Rows, RowScaling, Tree
from lipcert.certificate.encoding import decode_claim, encode, encode_array
from lipcert.errors import CertificateError, NotProvedError
from lipcert.methods import OutOfTime, Progress
from lipcert.methods.lipsdp import LipSdpMethod
from lipcert.planning import METHODS
from lipcert.problem import Ball, Box, Problem, Query, pose
from lipcert.report import parse_report
from tests.certificate.test_linear_bounds import layered
from tests.helpers.claims import through_json
from tests.helpers.compositions import with_norms
from tests.helpers.inequalities import NETWORKS
from tests.helpers.pieces import ENOUGH, WHOLE
from tests.helpers.reports import model_of, report_of
from tests.helpers.sampling import Ratios, merge, steepest_jacobians, steepest_pairs

inf = math.inf
MARGIN = 1 - 1e-9
QUERIES: dict[str, tuple[str, Query]] = {
    "relu, linf": ("relu", Query(inf, inf, Ball(np.full(3, 0.1), 0.4, inf))),
    "relu, l2": ("relu", Query(2.0, 2.0, Ball(np.full(3, 0.1), 0.5, 2.0))),
    "abs, l1": ("abs", Query(1.0, 1.0, Ball(np.zeros(3), 0.7, 1.0))),
    "maxmin, box": ("maxmin", Query(2.0, inf, Box(np.full(3, -1.0), np.full(3, 1.0)))),
    "max of 3, linf": ("max of 3", Query(inf, inf, Ball(np.zeros(3), 1.0, inf))),
    "forked, l2": ("forked", Query(2.0, 2.0, Ball(np.zeros(3), 0.3, 2.0))),
    "clip, linf": ("clip", Query(inf, inf, Ball(np.zeros(2), 0.08, inf))),
}
asked = pytest.mark.parametrize("name", QUERIES)


def graph_of(name: str) -> Any:
    rng = np.random.default_rng([*name.encode(), 5])
    if name != "clip":
        return NETWORKS[name](rng)
    a, b, c = ((rng.normal(size=(m, n)), 0.3 * rng.normal(size=m)) for n, m in ((2, 5), (5, 5), (5, 2)))
    return layered(a, Clip(-0.4, 0.5), b, Tanh(), c, inputs=2)


@cache
def branched(name: str) -> tuple[Problem, Claim, Ratios]:
    """A problem, what branching claims about it, and what was sampled."""
    network, query = QUERIES[name]
    problem = pose(graph_of(network), query)
    claims = []
    found = METHODS["local"]().claims(problem, Progress(time.monotonic() + 6, exact=True, gap=1.02))
    while True:
        try:
            claims.append(next(found))
        except (StopIteration, OutOfTime):
            break
    rng = np.random.default_rng(1)
    seen = merge(steepest_jacobians(problem, rng, 20000), steepest_pairs(problem, rng, 3000))
    return problem, claims[-1], seen


def parts_of(claim: Claim) -> tuple[Rows, ...]:
    assert isinstance(claim.evidence, Local)
    assert all(isinstance(part, Rows) for part in claim.evidence.parts)
    return claim.evidence.parts  # type: ignore[return-value]


def with_trees(claim: Claim, edit: Callable[[Tree], Tree]) -> Claim:
    """The same edit of the trees of all parts, whatever it proves."""
    parts = tuple(replace(part, tree=edit(part.tree)) for part in parts_of(claim))
    return replace(claim, value=ENOUGH, evidence=Local(parts))


def with_splits(claim: Claim, edit: Callable[[np.ndarray], np.ndarray]) -> Claim:
    return with_trees(claim, lambda tree: replace(tree, splits=edit(tree.splits)))


def with_multipliers(claim: Claim, edit: Callable[[np.ndarray], np.ndarray]) -> Claim:
    return with_trees(claim, lambda tree: replace(tree, multipliers=edit(tree.multipliers)))


def attained(name: str) -> float:
    problem, _, seen = branched(name)
    return seen[problem.query.norm_in, problem.query.norm_out]


def assert_refused_or_above(name: str, claim: Claim) -> bool:
    """Whether it was refused."""
    problem = branched(name)[0]
    try:
        found = verify(problem, claim)
    except NotProvedError:
        return True
    assert found >= attained(name) * MARGIN
    return False


@pytest.mark.one_in(2)
@asked
@pytest.mark.parametrize("arithmetic", [Arithmetic, BallArithmetic], ids=["float64", "balls"])
def test_what_branching_claims_is_proven_and_nothing_below_it(name: str, arithmetic: type[Arithmetic]) -> None:
    problem, claim, _ = branched(name)
    assert max(len(part.tree.splits) for part in parts_of(claim)) > 1
    proven = verify(problem, claim, arithmetic())
    assert attained(name) * MARGIN <= proven <= claim.value <= attained(name) * 1.5
    for factor in (1 - 1e-6, 0.99, 0.5, 0.0):
        with pytest.raises(NotProvedError, match="above the claimed"):
            verify(problem, replace(claim, value=proven * factor), arithmetic())
    with pytest.raises(NotProvedError, match="planes"):
        verify(problem, replace(claim, linear=False), arithmetic())
    with pytest.raises(NotProvedError, match="bounded region"):
        verify(problem, replace(claim, anywhere=True), arithmetic())
    whole = with_trees(claim, lambda tree: WHOLE)
    assert verify(problem, whole, arithmetic()) >= proven * MARGIN


@asked
def test_the_claim_survives_json(name: str) -> None:
    problem, claim, _ = branched(name)
    again = through_json(claim)
    for ours, theirs in zip(parts_of(claim), parts_of(again), strict=True):
        assert np.array_equal(ours.tree.splits, theirs.tree.splits)
        assert np.array_equal(ours.tree.multipliers, theirs.tree.multipliers)
        assert (ours.outputs, ours.steps, ours.spectral) == (theirs.outputs, theirs.steps, theirs.spectral)
    assert verify(problem, again) == verify(problem, claim)


@asked
def test_dropped_rows_of_a_tree_are_refused(name: str) -> None:
    """A cut, or a piece: what is left is no tree, or covers the region."""
    problem, claim, _ = branched(name)
    rng, refused = np.random.default_rng(2), 0
    most = max(len(part.tree.splits) for part in parts_of(claim))
    for _ in range(8):
        k = int(rng.integers(most))
        dropped = with_trees(
            claim, lambda tree, k=k: replace(tree, splits=np.delete(tree.splits, k % len(tree.splits), 0))
        )
        with pytest.raises(NotProvedError):
            verify(problem, dropped)
        swapped = with_splits(claim, lambda splits, k=k: np.roll(splits, k, 0))
        refused += k > 0 and assert_refused_or_above(name, swapped)
    assert refused


@asked
def test_a_piece_that_holds_inputs_may_not_be_called_empty(name: str) -> None:
    """One after the other, with multipliers of all sizes: of those that are large enough to hold a sampled point."""
    claim = branched(name)[1]
    rng, refused, tried = np.random.default_rng(3), 0, 0
    for at, part in enumerate(parts_of(claim)):
        paths = paths_of(part.tree)
        kept = [k for k, row in enumerate(part.tree.splits) if row[0] == -1 and row[1] == 0]
        for k in rng.permutation(kept)[:8]:
            before = sum(
                len(paths[i]) for i in range(k) if part.tree.splits[i][0] == -1 and part.tree.splits[i][1] == 1
            )
            splits = part.tree.splits.copy()
            splits[k, 1] = 1.0
            depth = len(paths[k])
            weights = [np.zeros(depth), rng.random(depth), np.full(depth, 1e6), np.eye(depth, 1)[:, 0]][tried % 4]
            tree = Tree(splits, np.insert(part.tree.multipliers, before, weights))
            parts = tuple(replace(p, tree=tree) if i == at else p for i, p in enumerate(parts_of(claim)))
            refused += assert_refused_or_above(name, replace(claim, value=ENOUGH, evidence=Local(parts)))
            tried += 1
    assert refused >= 0.8 * tried


def paths_of(tree: Tree) -> dict[int, list[tuple[int, bool]]]:
    """For each row of a tree, the cuts that lead to it."""
    found: dict[int, list[tuple[int, bool]]] = {}
    waiting: list[list[tuple[int, bool]]] = [[]]
    for k, row in enumerate(tree.splits):
        found[k] = waiting.pop()
        if row[0] != -1:
            waiting += [[*found[k], (k, False)], [*found[k], (k, True)]]
    return found


EDITS: dict[str, Callable[[np.ndarray, np.random.Generator], np.ndarray]] = {
    "halved": lambda m, rng: m * 0.5,
    "tiny": lambda m, rng: m * 1e-300,
    "huge": lambda m, rng: np.minimum(m, 1.0) * 1e300,
    "a little off": lambda m, rng: m * (1 + 0.01 * rng.normal(size=m.shape)),
    "shuffled": lambda m, rng: rng.permutation(m),
    "zero": lambda m, rng: np.zeros_like(m),
    "random": lambda m, rng: rng.random(m.shape),
}
REFUSED: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "negated": lambda m: -m - 1e-300,
    "one below zero": lambda m: np.where(np.arange(m.size) == m.size // 2, -1e-9, m),
    "NaN": lambda m: np.where(np.arange(m.size) == m.size // 2, np.nan, m),
    "infinite": lambda m: np.where(np.arange(m.size) == m.size // 2, np.inf, m),
    "one missing": lambda m: m[:-1],
    "one more": lambda m: np.append(m, 1.0),
    "none": lambda m: m[:0],
    "a column": lambda m: m[:, None],
}


@asked
def test_multipliers_that_are_none_are_refused(name: str) -> None:
    problem, claim, _ = branched(name)
    with_some = [part for part in parts_of(claim) if part.tree.multipliers.size]
    for edit in REFUSED.values() if with_some else ():
        with pytest.raises(NotProvedError):
            verify(
                problem, with_trees(claim, lambda tree, edit=edit: replace(tree, multipliers=edit(tree.multipliers)))
            )
    rng = np.random.default_rng(4)
    for edit in EDITS.values():
        assert_refused_or_above(name, with_multipliers(claim, lambda m, edit=edit: edit(m, rng)))


def test_some_of_these_trees_have_multipliers() -> None:
    assert sum(part.tree.multipliers.any() for name in QUERIES for part in parts_of(branched(name)[1])) >= 1


@asked
@pytest.mark.parametrize("size", [1e-12, 1e-2, 1.0])
def test_cuts_that_are_moved_never_prove_less_than_is_attained(name: str, size: float) -> None:
    """A cut may be anywhere: pieces are other ones, then, and slopes at kinks are those of both sides."""
    claim, rng = branched(name)[1], np.random.default_rng([5, *name.encode()])
    for turn in (0, 3):

        def moved(tree: Tree, turn: int = turn) -> Tree:
            splits, cut = tree.splits.copy(), tree.splits[:, 0] >= 0
            splits[cut, 2] += size * rng.normal(size=cut.sum()) * (rng.random(cut.sum()) < (0.2 if turn % 2 else 1.0))
            as_it_was = turn < 2
            return Tree(splits if as_it_was else without_empty(splits), tree.multipliers if as_it_was else np.zeros(0))

        assert_refused_or_above(name, with_trees(claim, moved))


def without_empty(splits: np.ndarray) -> np.ndarray:
    """No piece is said to be empty."""
    return np.where((splits[:, :1] == -1) & (np.arange(3) == 1), 0.0, splits)


@asked
def test_cuts_of_other_entries_never_prove_less_than_is_attained(name: str) -> None:
    problem, claim, _ = branched(name)
    rng = np.random.default_rng([6, *name.encode()])

    def elsewhere(tree: Tree) -> Tree:
        splits = without_empty(tree.splits)
        cut = np.flatnonzero(splits[:, 0] >= 0)
        for k in rng.permutation(cut)[: max(1, len(cut) // 3)]:
            splits[k, 1] = rng.integers(2)
            splits[k, 0] = rng.integers(1, len(problem.graph.nodes))
        return Tree(splits, np.zeros(0))

    for _ in range(4):
        assert not assert_refused_or_above(name, with_trees(claim, elsewhere))


@pytest.mark.parametrize(
    "row", [(-2, 0, 0), (1e9, 0, 0), (0.5, 0, 0), (2, 1e9, 0), (2, -1, 0), (2, 0.25, 0), (2, 0, np.nan), (2, 0, np.inf)]
)
def test_cuts_of_what_is_not_there_are_refused(row: tuple[float, ...]) -> None:
    problem, claim, _ = branched("relu, l2")

    def broken(tree: Tree) -> Tree:
        splits = tree.splits.copy()
        splits[0] = row
        return replace(tree, splits=splits)

    with pytest.raises(NotProvedError):
        verify(problem, with_trees(claim, broken))


def three_outputs() -> Problem:
    rng = np.random.default_rng(8)
    a, b = rng.normal(size=(6, 2)), rng.normal(size=(3, 6))
    graph = layered((a, 0.3 * rng.normal(size=6)), Abs(), (b, np.zeros(3)), inputs=2)
    return pose(graph, Query(inf, inf, Ball(np.zeros(2), 0.5, inf)))


def rows(*outputs: int, steps: int = 1, spectral: float = 0.0) -> Rows:
    return Rows(outputs, WHOLE, steps, spectral)


SHARED = {
    "nothing": (),
    "one missing": (rows(0), rows(2)),
    "one twice": (rows(0, 1), rows(1, 2)),
    "one twice in a part": (rows(0, 1, 1, 2),),
    "all twice": (rows(0, 1, 2), rows(0, 1, 2)),
    "one too many": (rows(0, 1, 2, 3),),
    "one below zero": (rows(0, 1, 2, -1),),
    "last by -1": (rows(0, 1), rows(-1)),
    "a part of none, another missing": (rows(), rows(0, 1)),
    "steps below zero": (rows(0, 1, 2, steps=-1),),
    "eight steps": (rows(0, 1, 2, steps=8),),
}


@pytest.mark.parametrize("name", SHARED)
def test_parts_that_do_not_share_the_outputs_are_refused(name: str) -> None:
    problem = three_outputs()
    for norm_out in (inf, 2.0, 1.0):
        with pytest.raises(NotProvedError):
            verify(with_norms(problem, inf, norm_out), Claim(ENOUGH, Local(SHARED[name]), linear=True))


def test_several_parts_bound_outputs_in_linf_only() -> None:
    problem = three_outputs()
    parts = Local((rows(2), rows(0, 1)))
    together = verify(problem, Claim(ENOUGH, Local((rows(1, 0, 2),)), linear=True))
    assert verify(problem, Claim(ENOUGH, parts, linear=True)) == pytest.approx(together, rel=1e-12)
    for norm_in, norm_out in ((inf, 2.0), (2.0, 2.0), (1.0, 1.0)):
        with pytest.raises(NotProvedError, match="infinity only"):
            verify(with_norms(problem, norm_in, norm_out), Claim(ENOUGH, parts, linear=True))


def test_a_part_of_no_outputs_is_refused_or_adds_nothing() -> None:
    problem = three_outputs()
    claim = Claim(ENOUGH, Local((rows(0, 1, 2), rows())), linear=True)
    try:
        found = verify(problem, claim)
    except NotProvedError:
        return
    assert found == verify(problem, Claim(ENOUGH, Local((rows(0, 1, 2),)), linear=True))


@pytest.mark.parametrize("spectral", [-1.0, 1e-9, 0.5, 0.9, 1 - 1e-9, 1.0, 1.1, math.nan, inf, -inf])
def test_a_spectral_value_proves_no_less_than_is_attained(spectral: float) -> None:
    problem = with_norms(three_outputs(), 2.0, 2.0)
    least = steepest_jacobians(problem, np.random.default_rng(9), 5000)[2.0, 2.0]
    for steps in range(8):
        evidence = Local((rows(0, 1, 2, steps=steps, spectral=spectral * least),))
        assert verify(problem, Claim(ENOUGH, evidence, linear=True)) >= least * MARGIN
        if spectral < 1:
            with pytest.raises(NotProvedError):
                verify(problem, Claim(least * 0.999, evidence, linear=True))


def test_a_scaling_of_one_output_bounds_that_output_alone() -> None:
    problem = with_norms(three_outputs(), 2.0, inf)
    inequality = list(LipSdpMethod().claims(problem, Progress()))[-1].evidence
    least = steepest_jacobians(problem, np.random.default_rng(9), 5000)[2.0, inf]
    scaled = tuple(RowScaling(j, inequality) for j in range(3))  # type: ignore[arg-type]
    assert verify(problem, Claim(ENOUGH, Local(scaled), linear=True)) >= least * MARGIN
    assert verify(problem, Claim(ENOUGH, Local((*scaled[:2], rows(2))), linear=True)) >= least * MARGIN
    for parts in (scaled[:2], (*scaled, scaled[0]), (scaled[0], rows(0, 1, 2)), (RowScaling(3, scaled[0].inequality),)):
        with pytest.raises(NotProvedError):
            verify(problem, Claim(ENOUGH, Local(parts), linear=True))
    with pytest.raises(NotProvedError):
        verify(with_norms(problem, 2.0, 2.0), Claim(ENOUGH, Local(scaled), linear=True))


@asked
def test_trees_of_one_network_prove_nothing_false_about_another(name: str) -> None:
    claim = branched(name)[1]
    network, query = QUERIES[name]
    if network == "clip":
        return
    for seed in range(2):
        other = pose(NETWORKS[network](np.random.default_rng(seed)), query)
        least = steepest_jacobians(other, np.random.default_rng(1), 3000)[query.norm_in, query.norm_out]
        try:
            assert verify(other, replace(claim, value=ENOUGH)) >= least * MARGIN
        except NotProvedError:
            continue


DAMAGE: dict[str, Any] = {
    "no parts": lambda evidence: evidence.pop("parts"),
    "a part that is none": lambda evidence: evidence["parts"].append({"is": "Spectral", "sigma": "0x1p0"}),
    "parts that are one": lambda evidence: evidence.update(parts=evidence["parts"][0]),
    "a part without a tree": lambda evidence: evidence["parts"][0].pop("tree"),
    "a tree that is a list": lambda evidence: evidence["parts"][0].update(tree=[]),
    "a tree without multipliers": lambda evidence: evidence["parts"][0]["tree"].pop("multipliers"),
    "cuts as a list": lambda evidence: evidence["parts"][0]["tree"].update(splits=[["-0x1p0", "0x0p0", "0x0p0"]]),
    "outputs as numbers with a point": lambda evidence: evidence["parts"][0].update(outputs=[0.0, 1.0]),
    "outputs that are true": lambda evidence: evidence["parts"][0].update(outputs=[True]),
    "steps with a point": lambda evidence: evidence["parts"][0].update(steps=1.0),
    "a spectral value that is a number": lambda evidence: evidence["parts"][0].update(spectral=0.0),
    "one more field": lambda evidence: evidence["parts"][0].update(center=True),
    "a digest of another array": lambda evidence: evidence["parts"][0]["tree"]["splits"].update(
        zlib=encode_array(np.zeros((7, 3)))["zlib"]
    ),
    "a shape with fewer cuts": lambda evidence: evidence["parts"][0]["tree"]["splits"].update(shape=[1, 3]),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_evidence_is_not_read(damage: str) -> None:
    data = json.loads(json.dumps(encode(branched("relu, l2")[1])))
    DAMAGE[damage](data["evidence"])
    with pytest.raises(CertificateError):
        decode_claim(data)


def test_reports_are_checked_and_tampered_ones_refused() -> None:
    """In both arithmetics; a tree is cut short in the file, and the value lowered."""
    problem, claim, _ = branched("relu, l2")
    network, query = QUERIES["relu, l2"]
    model = model_of(graph_of(network), network)
    report = report_of(model, query, claim)
    for strict in (False, True):
        found = lipcert.check(parse_report(report.to_json(), "report.json"), model, strict=strict)
        assert found.upper == pytest.approx(claim.value, rel=1e-9)
    lowered = claim.value * 0.97
    for edit in ({"splits": encode_array(WHOLE.splits), "multipliers": encode_array(WHOLE.multipliers)}, {}):
        data = json.loads(report.to_json())
        data["certificate"]["evidence"]["parts"][0]["tree"].update(edit)
        data["certificate"]["value"] = lowered.hex()
        data["result"]["upper"] = lowered
        if data["result"]["gap"] is not None:
            data["result"]["gap"] = lowered / data["result"]["lower"]
        for strict in (False, True):
            with pytest.raises(CertificateError):
                lipcert.check(parse_report(json.dumps(data), "report.json"), model, strict=strict)
    assert problem.query.region is query.region
