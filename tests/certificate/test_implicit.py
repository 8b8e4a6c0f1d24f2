"""The theorems of implicit layers, each against samples; and claims that were tampered with."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from lipcert.activations import Activation, Clip, LeakyRelu, Relu, Sigmoid, Sign, Softplus, Tanh
from lipcert.activations.sorting import GroupSort
from lipcert.certificate import BoxClaim, verify_box
from lipcert.certificate.arithmetic import Arithmetic
from lipcert.certificate.boxes import Bounds, propagate
from lipcert.certificate.claim import Equilibrium
from lipcert.certificate.derivative import bound_rows, chain_rule
from lipcert.certificate.implicit import Layer, check_unique, contraction, layers_of, well_posed_form
from lipcert.certificate.linear_bounds import Pieces, in_ramps, linear_boxes, piece_nets, whole_net
from lipcert.certificate.solutions import _faces_hold, check_box, chord_slopes, gains, image, surroundings
from lipcert.certificate.solved import dominated, solved, turned
from lipcert.certificate.witness import derivative_along
from lipcert.errors import NotProvedError
from lipcert.graph import Elementwise, FixedPoint, Graph, Groupwise, Input, Output, State
from lipcert.methods.implicit import with_equilibria
from lipcert.methods.implicit.multipliers import find_multipliers
from lipcert.methods.implicit.solution import values_at
from lipcert.operators import Diagonal
from lipcert.problem import Ball, Box, Problem, Query, pose
from tests.helpers.equilibria import Network, Stage, affine, contracting, determinants, iterated, monotone
from tests.helpers.sampling import random_points

inf = math.inf
ROOM = 1e-9
NONE = np.zeros(0)
ACTIVATIONS: dict[str, Activation] = {
    "relu": Relu(),
    "leaky": LeakyRelu(0.3),
    "leaky down": LeakyRelu(-0.7),
    "leaky up": LeakyRelu(1.8),
    "tanh": Tanh(),
    "sigmoid": Sigmoid(),
    "clip": Clip(-0.4, 0.6),
}
activations = pytest.mark.parametrize("name", ACTIVATIONS)


def network(a: np.ndarray, activation: Activation, rng: np.random.Generator, inputs: int = 2) -> Network:
    n = len(a)
    stage = Stage(a, rng.normal(size=(n, inputs)), rng.normal(size=n), activation)
    return Network((stage,), np.eye(n), np.zeros(n))


def posed(net: Network, region: Ball | Box) -> Problem:
    return pose(net.graph(), Query(region=region))


def layer_of(a: np.ndarray, activation: Activation) -> Layer:
    net = network(np.asarray(a, dtype=float), activation, np.random.default_rng(0))
    (layer,) = layers_of(pose(net.graph(), Query()).graph, Arithmetic()).values()
    return layer


def is_unique(layer: Layer, multipliers: np.ndarray) -> bool:
    try:
        check_unique(layer, multipliers, Arithmetic())
    except NotProvedError:
        return False
    return True


# One solution.


@activations
@pytest.mark.parametrize("n", [1, 3])
def test_what_is_called_well_posed_is_regular_for_all_slopes(name: str, n: int) -> None:
    """Determinants at the corners of the slopes are of one sign; every condition accepts some of these layers."""
    rng = np.random.default_rng([*name.encode(), n])
    accepted = [0, 0]
    for k in range(48):
        scale = 10 ** rng.uniform(-1, 1)
        a = scale * rng.normal(size=(n, n)) - (k % 3) * scale * np.eye(n)
        layer = layer_of(a, ACTIVATIONS[name])
        corners = determinants(a, *(side.astype(float) for side in layer.slopes()))
        regular = bool(np.all(corners > 0) or np.all(corners < 0))
        found = find_multipliers(layer) if k % 8 == 0 else None
        for which, t in ((0, NONE), (1, np.exp(rng.normal(size=n))), (1, np.ones(n)), (1, found)):
            if t is not None and is_unique(layer, t):
                assert regular, (a, t)
                accepted[which] += 1
    assert min(accepted) > 0


@activations
def test_well_posed_layers_are_recognised(name: str) -> None:
    """Contractions in weighted l-infinity; and monotone layers, where slopes are in [0, 1]."""
    rng = np.random.default_rng([*name.encode()])
    for _ in range(10):
        slope = {"leaky up": 1.8, "sigmoid": 0.25}.get(name, 1.0)
        assert is_unique(layer_of(contracting(rng, 5, 0.95, slope), ACTIVATIONS[name]), NONE)
        if name in ("relu", "tanh", "clip", "leaky"):
            layer = layer_of(monotone(rng, 5), ACTIVATIONS[name])
            found = find_multipliers(layer)
            assert found is not None
            assert is_unique(layer, found)


NEAR = 1e-6
ILL: dict[str, np.ndarray] = {
    "2": np.array([[2.0]]),
    "1": np.eye(1),
    "just above 1": (1 + NEAR) * np.eye(2),
    "a cycle": np.array([[0.0, 2.0], [2.0, 0.0]]),
    "a cycle just above 1": np.array([[0.0, 1 + NEAR], [1 + NEAR, 0.0]]),
    "a long cycle": 1.01 * np.roll(np.eye(5), 1, axis=0),
    "rank one": np.full((3, 3), 0.34),
    "huge": np.array([[0.0, 1e150], [1e150, 0.0]]),
    "huge diagonal": np.diag([1e150, -1e150]),
    "scaled cycle": np.array([[0.0, 1e-150], [1.1e150, 0.0]]),
    "a triangle and a loop": np.triu(np.ones((4, 4)), 1) + np.diag([0, 0, 0, 1.0]),
}
WELL: dict[str, np.ndarray] = {
    "zero": np.zeros((3, 3)),
    "just below 1": (1 - NEAR) * np.eye(2),
    "a cycle just below 1": np.array([[0.0, 1 - NEAR], [1 - NEAR, 0.0]]),
    "far below": np.diag([-1e150, -3.0]),
    "rank one": np.full((3, 3), 0.33),
    "triangular": np.triu(np.full((4, 4), 5.0), 1),
}


@pytest.mark.parametrize("name", ILL)
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_ill_posed_layers_are_refused(name: str, sign: float) -> None:
    """As they are for ReLU; of the other sign where it is regular then."""
    layer = layer_of(sign * ILL[name], Relu())
    n = layer.size
    rng = np.random.default_rng(3)
    if sign < 0 and np.all(determinants(sign * ILL[name], np.zeros(n), np.ones(n)) > 0):
        return
    for t in (NONE, np.ones(n), *np.exp(3 * rng.normal(size=(20, n))), 10.0 ** rng.uniform(-150, 150, size=n)):
        assert not is_unique(layer, t)
    with np.errstate(all="ignore"):
        found = find_multipliers(layer)
    assert found is None or not is_unique(layer, found)


@pytest.mark.parametrize("name", ILL)
def test_weights_are_not_trusted(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        sys.modules["lipcert.certificate.implicit"], "majorant_weights", lambda layer, *_: np.ones(layer.size)
    )
    assert not is_unique(layer_of(ILL[name], Relu()), NONE)
    down = layer_of(np.array([[-1.6]]), LeakyRelu(-0.7))  # the slope -0.7 makes 1.12 of it
    assert not is_unique(down, NONE)
    assert contraction(down, np.ones(1)) == pytest.approx(1.12)


@pytest.mark.parametrize("name", WELL)
def test_well_posed_layers_up_to_the_boundary_are_proven(name: str) -> None:
    assert is_unique(layer_of(WELL[name], Relu()), NONE)


def test_unbounded_slopes_and_jumps_are_refused() -> None:
    for activation in (Sign(), Clip(-1.0, 1.0)):
        layer = layer_of(0.1 * np.eye(2), activation)
        for t in (NONE, np.ones(2)):
            assert is_unique(layer, t) == (activation.name == "clip")


@pytest.mark.parametrize(
    "t",
    [[-1.0, 1, 1], [0.0, 1, 1], [np.nan, 1, 1], [inf, 1, 1], [1.0, 1], [1.0, 1, 1, 1], [[1.0, 1, 1]], [-1.0, -1, -1]],
)
def test_multipliers_that_are_none_are_refused(t: list[float]) -> None:
    layer = layer_of(0.1 * np.eye(3), Relu())
    assert is_unique(layer, np.ones(3))
    with pytest.raises(NotProvedError, match="are not a positive number for each neuron"):
        check_unique(layer, np.array(t), Arithmetic())


@activations
def test_the_form_of_well_posedness_is_that_of_the_docstring(name: str) -> None:
    rng = np.random.default_rng(4)
    layer = layer_of(rng.normal(size=(4, 4)), ACTIVATIONS[name])
    low, high = layer.slopes()
    for _ in range(20):
        t, dw = np.exp(rng.normal(size=4)), rng.normal(size=4)
        dv = layer.matrix.value @ dw
        form, error = well_posed_form(layer, t)
        wanted = 2 * np.sum(t * (dw - low * dv) * (dw - high * dv))
        assert abs(dw @ form[0] @ dw - wanted) <= 1e-12 * (1 + np.abs(form).sum())
        assert np.all(error < 1e-12 * (1 + np.abs(form).sum()))


# Where it is.


def around_of(problem: Problem, layer: Layer, by: Arithmetic) -> object:
    boxes = propagate(replace(problem, equilibria=()), by)
    return surroundings(problem, layer, boxes, by)


@activations
@pytest.mark.parametrize("norm", [inf, 2.0, 1.0])
def test_the_image_of_a_box_holds_what_its_points_are_taken_to(name: str, norm: float) -> None:
    rng = np.random.default_rng([*name.encode(), int(min(norm, 3))])
    by, activation = Arithmetic(), ACTIVATIONS[name]
    for _ in range(5):
        a = contracting(rng, 4)
        net = network(a, activation, rng)
        region = Ball(rng.normal(size=2), 0.5, norm)
        problem = posed(net, region)
        (layer,) = layers_of(problem.graph, by).values()
        center = rng.normal(size=4)
        low, high = center - rng.random(4) * 2, center + rng.random(4) * 2
        found = image(problem, layer, (low, high), around_of(problem, layer, by), by)  # type: ignore[arg-type]
        if found is None:
            continue
        s = chord_slopes(activation, low, high)
        w = np.linalg.inv(np.eye(4) - a * s)
        v = rng.uniform(low, high, size=(2000, 4))
        v[:16] = np.where(rng.random((16, 4)) < 0.5, low, high)
        u = random_points(region, 2, rng, 2000) @ net.stages[0].b.T + net.stages[0].bias
        went = v - (v - activation.value(v) @ a.T - u) @ w.T
        assert np.all(went >= found[0] - ROOM)
        assert np.all(went <= found[1] + ROOM)
        planes = solved(layer, (low[None], high[None]))
        assert planes is not None
        rest = activation.value(v) - planes.slopes * v
        assert np.all(rest >= planes.noise[0][0] - ROOM)
        assert np.all(rest <= planes.noise[1][0] + ROOM)
        assert np.all(activation.value(v) >= planes.values[0][0] - ROOM)
        assert np.all(activation.value(v) <= planes.values[1][0] + ROOM)


def test_the_image_of_a_neuron_is_as_wide_as_it_has_to_be() -> None:
    """relu over [-1, 3]: from the chord (v + 1) 3 / 4 it is off by 3/4 at 0, and by nothing at the ends."""
    layer = layer_of(np.zeros((1, 1)), Relu())
    planes = solved(layer, (np.array([[-1.0]]), np.array([[3.0]])))
    assert planes is not None
    assert planes.noise[0][0] == pytest.approx([0.0])
    assert planes.noise[1][0] == pytest.approx([0.75])


def test_gains_are_exact_for_one_neuron() -> None:
    """v = relu(v) / 2 + x, x in [1, 3]: v = 2 x is within 2 of 4, and no less (2.21: one more direction counts)."""
    stage = Stage(np.array([[0.5]]), np.eye(1), np.zeros(1), Relu())
    problem = posed(Network((stage,), np.eye(1), np.zeros(1)), Ball(np.full(1, 2.0), 1.0, inf))
    by = Arithmetic()
    (layer,) = layers_of(problem.graph, by).values()
    found = gains(problem, layer, np.full(1, 4.0), around_of(problem, layer, by), np.ones(1), by)  # type: ignore[arg-type]
    assert found is not None
    assert 2 <= found[0] <= 2.21
    off = gains(problem, layer, np.full(1, 5.0), around_of(problem, layer, by), np.ones(1), by)  # type: ignore[arg-type]
    assert off is not None
    assert off[0] >= 3


@pytest.mark.parametrize("norm", [inf, 2.0, 1.0])
@pytest.mark.parametrize("name", ["relu", "leaky", "tanh", "clip", "leaky up"])
def test_no_solution_is_farther_than_the_gains(name: str, norm: float) -> None:
    """From any point, not only a solution."""
    rng = np.random.default_rng([*name.encode(), int(min(norm, 3))])
    by, closest = Arithmetic(), inf
    for _ in range(5):
        a = monotone(rng, 4, 0.6) - (name == "leaky up") * np.eye(4)
        net = network(a, ACTIVATIONS[name], rng)
        region = Ball(rng.normal(size=2), 10 ** rng.uniform(-2, 0), norm)
        problem = posed(net, region)
        (layer,) = layers_of(problem.graph, by).values()
        t = find_multipliers(layer)
        if t is None:
            continue
        x = random_points(region, 2, rng, 300)
        v = iterated(net.stages[0], x @ net.stages[0].b.T + net.stages[0].bias)
        v = v[~np.isnan(v[:, 0])]
        for middle in (v[0], v.mean(axis=0), v[0] + 0.1 * rng.normal(size=4)):
            found = gains(problem, layer, middle, around_of(problem, layer, by), t, by)  # type: ignore[arg-type]
            if found is None:
                continue
            off = np.abs(v - middle).max(axis=0)
            assert np.all(off <= found * (1 + ROOM))
            closest = min(closest, float((found / off).min()))
    assert closest < 8


def test_a_neuron_that_feeds_back_against_itself_has_its_exact_box_by_faces() -> None:
    """v = -5 relu(v) + x, x in [1, 3]: v = x / 6."""
    stage = Stage(np.array([[-5.0]]), np.eye(1), np.zeros(1), Relu())
    problem = posed(Network((stage,), np.eye(1), np.zeros(1)), Ball(np.full(1, 2.0), 1.0, inf))
    tiny = 1e-12
    by = Arithmetic()
    (layer,) = layers_of(problem.graph, by).values()
    boxes = propagate(problem, by)

    def proven(low: float, high: float, multipliers: np.ndarray) -> bool:
        try:
            check_box(
                problem, layer, Equilibrium(layer.state, multipliers, np.array([low]), np.array([high])), boxes, by
            )
        except NotProvedError:
            return False
        return True

    around = surroundings(problem, layer, boxes, by)
    assert _faces_hold(problem, layer, (np.full(1, 1 / 6 - tiny), np.full(1, 1 / 2 + tiny)), around, by)
    assert not _faces_hold(problem, layer, (np.full(1, 1 / 6 + tiny), np.full(1, 1 / 2 + tiny)), around, by)
    for t in (NONE, np.ones(1)):
        assert proven(1 / 6 - tiny, 1 / 2 + tiny, t)
        assert proven(-1.0, 2.0, t)
        for low, high in ((1 / 6 + tiny, 1 / 2), (1 / 6, 1 / 2 - tiny), (0.3, 0.3), (1.0, 3.0), (-3.0, 0.0)):
            assert not proven(low, high, t)


KINDS: dict[str, Callable[[np.random.Generator], tuple[np.ndarray, Activation]]] = {
    "contracting relu": lambda rng: (contracting(rng, 4), Relu()),
    "contracting tanh": lambda rng: (contracting(rng, 4), Tanh()),
    "contracting down": lambda rng: (contracting(rng, 4), LeakyRelu(-0.7)),
    "own": lambda rng: (contracting(rng, 4, 0.5) - np.diag(5 * rng.random(4)), Relu()),
    "monotone relu": lambda rng: (monotone(rng, 4, 1.0), Relu()),
    "monotone tanh": lambda rng: (monotone(rng, 4, 1.0), Tanh()),
    "softplus": lambda rng: (contracting(rng, 4, 0.5), Softplus()),
}


def tampered(rng: np.random.Generator, box: Bounds) -> Bounds:
    """Moved, narrowed, widened, one side or one entry alone."""
    low, high = box
    width = high - low
    size = width * 10 ** rng.uniform(-6, 0.3) * rng.choice([-1, 1], size=4) * (rng.random(4) < 0.6)
    kind = int(rng.integers(5))
    if kind == 0:
        return low + size, high + size
    if kind == 1:
        return low + np.abs(size), high - np.abs(size)
    if kind == 2:
        return low - np.abs(size), high + size
    if kind == 3:
        return low + size, high
    middle = low + rng.random(4) * width
    return middle - np.abs(size), middle + np.abs(size)


@pytest.mark.one_in(2)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(2))
def test_a_tampered_box_is_refused_or_holds_all_solutions(kind: str, seed: int) -> None:
    rng = np.random.default_rng([*kind.encode(), seed])
    net = network(*KINDS[kind](rng), rng)
    region = Ball(rng.normal(size=2), 0.3, (inf, 2.0, 1.0)[seed])
    by = Arithmetic()
    problem = with_equilibria(posed(net, region), by)
    (layer,) = layers_of(problem.graph, by).values()
    claim = problem.equilibria[0]
    boxes = propagate(problem, by)
    x = random_points(region, 2, rng, 600)
    v = iterated(net.stages[0], x @ net.stages[0].b.T + net.stages[0].bias)
    v = v[~np.isnan(v[:, 0])]
    assert len(v) > 400
    whole = v.min(axis=0), v.max(axis=0)
    t = claim.multipliers if claim.multipliers.size else np.ones(4)
    held = 0
    for k in range(90):
        low, high = tampered(rng, (claim.lower, claim.upper) if k % 2 else whole) if k else (claim.lower, claim.upper)
        changed = replace(claim, lower=low, upper=high, multipliers=t if k % 3 != 1 else NONE)
        try:
            found = check_box(problem, layer, changed, boxes, by)
        except NotProvedError:
            continue
        held += 1
        assert np.all(found[0] <= whole[0] + ROOM)
        assert np.all(found[1] >= whole[1] - ROOM)
    assert held > 0


def changed_boxes(claim: Equilibrium) -> dict[str, Equilibrium]:
    """Claims that no kernel may take."""
    low, high = claim.lower, claim.upper
    nan, one = np.where(np.arange(low.size) == 1, np.nan, 0.0), np.ones(low.size)
    return {
        "nan below": replace(claim, lower=low + nan),
        "nan above": replace(claim, upper=high + nan),
        "upside down": replace(claim, lower=high + 1, upper=low - 1),
        "infinite": replace(claim, lower=-inf * one, upper=inf * one),
        "half infinite": replace(claim, upper=np.where(np.arange(low.size) == 1, inf, high)),
        "at infinity": replace(claim, lower=inf * one, upper=inf * one),
        "too short": replace(claim, lower=low[:-1], upper=high[:-1]),
        "a matrix": replace(claim, lower=low[None], upper=high[None]),
        "one number": replace(claim, lower=low[:1].reshape(()), upper=high[:1].reshape(())),
        "no multipliers": replace(claim, multipliers=NONE),
        "negative": replace(claim, multipliers=-one),
        "nan multipliers": replace(claim, multipliers=nan + 1),
        "short multipliers": replace(claim, multipliers=one[:-1]),
        "other multipliers": replace(claim, multipliers=10.0 ** np.arange(-8, 4 * low.size - 8, 4)),
        "far away": replace(claim, lower=low + 100, upper=high + 100),
        "a point": replace(claim, lower=low / 2 + high / 2, upper=low / 2 + high / 2),
        "huge": replace(claim, lower=-1e308 * one, upper=1e308 * one),
    }


@pytest.fixture(scope="module")
def monotone_problem() -> Problem:
    rng = np.random.default_rng(20)
    net = network(monotone(rng, 4), Relu(), rng)
    found = with_equilibria(posed(net, Ball(rng.normal(size=2), 0.2, 2.0)), Arithmetic())
    assert found.equilibria[0].multipliers.size
    return found


@pytest.mark.parametrize("linear", [False, True])
@pytest.mark.parametrize("name", changed_boxes(Equilibrium(0, NONE, np.zeros(4), np.ones(4))))
def test_what_is_no_claim_is_refused(name: str, linear: bool, monotone_problem: Problem) -> None:
    """With the arithmetic that has seen the right claim, too."""
    by = Arithmetic()
    good = monotone_problem.equilibria[0]
    wide = np.full(4, 1e300)
    claim = BoxClaim(-wide, wide, linear, equilibria=(good,))
    verify_box(monotone_problem, claim, by)
    for arithmetic in (by, Arithmetic()):
        with pytest.raises(NotProvedError):
            verify_box(monotone_problem, replace(claim, equilibria=(changed_boxes(good)[name],)), arithmetic)
    with pytest.raises(NotProvedError):
        verify_box(monotone_problem, replace(claim, equilibria=(changed_boxes(good)[name], good)), by)


@pytest.mark.parametrize("linear", [False, True])
def test_claims_of_other_nodes_prove_nothing(linear: bool, monotone_problem: Problem) -> None:
    good = monotone_problem.equilibria[0]
    wide = np.full(4, 1e300)
    others = [i for i in range(len(monotone_problem.graph.nodes)) if i != good.state]
    for state in others:
        claim = BoxClaim(-wide, wide, linear, equilibria=(replace(good, state=state),))
        with pytest.raises(NotProvedError):
            verify_box(monotone_problem, claim)
    with pytest.raises(NotProvedError):
        verify_box(monotone_problem, BoxClaim(-wide, wide, linear))


@pytest.mark.parametrize("state", [99, -99])
def test_claims_of_nodes_that_are_none_are_refused(state: int, monotone_problem: Problem) -> None:
    wide = np.full(4, 1e300)
    claim = BoxClaim(-wide, wide, True, equilibria=(replace(monotone_problem.equilibria[0], state=state),))
    with pytest.raises(NotProvedError):
        verify_box(monotone_problem, claim)


def test_what_was_proven_of_one_layer_is_not_taken_for_another() -> None:
    """One array of multipliers for both, and one arithmetic: the second layer has no solution for most inputs."""
    good = Stage(0.5 * np.eye(2), np.eye(2), np.zeros(2), Relu())
    bad = Stage(2.0 * np.eye(2), np.eye(2), np.zeros(2), Relu())
    problem = posed(Network((good, bad), np.eye(2), np.zeros(2)), Ball(np.full(2, -2.0), 1.0, inf))
    first, second = sorted(i for i, node in enumerate(problem.graph.nodes) if isinstance(node, State))
    wide = np.full(2, 1e300)
    for t in (np.ones(2), NONE):
        claims = (Equilibrium(first, t, np.full(2, -7.0), np.full(2, 0.0)),)
        by = Arithmetic()
        for linear in (False, True):
            for low, high in ((-1.0, 1.0), (0.0, 0.0), (-4.0, 0.0)):
                both = (*claims, Equilibrium(second, t, np.full(2, low), np.full(2, high)))
                with pytest.raises(NotProvedError, match=r"no weights|not positive definite"):
                    verify_box(problem, BoxClaim(-wide, wide, linear, equilibria=both), by)


def test_without_a_claim_a_state_is_unbounded(monotone_problem: Problem) -> None:
    problem = replace(monotone_problem, equilibria=())
    state = next(i for i, node in enumerate(problem.graph.nodes) if isinstance(node, State))
    low, high = propagate(problem, Arithmetic())[state]
    assert np.all(low == -inf)
    assert np.all(high == inf)
    with pytest.raises(NotProvedError, match="need the box of the fixed point"):
        linear_boxes(problem, Arithmetic())


def test_a_scale_of_the_solution_is_kept_account_of() -> None:
    """z = D relu(A z + B x + b), D unequal: as A D with outputs D w."""
    rng = np.random.default_rng(31)
    a, d = contracting(rng, 3, 0.7), np.array([0.5, -1.2, 2.0])
    a = a / d / 2
    b, bias = rng.normal(size=(3, 2)), rng.normal(size=3)
    nodes = (
        Input("x", (2,)),
        State((3,)),
        affine((1, 0), a, b, bias=bias),
        Elementwise(2, Relu(), (3,)),
        replace(affine((3,), np.eye(3)), operators=(Diagonal(d),)),
        FixedPoint(1, 4, (3,)),
        affine((5,), np.eye(3)),
    )
    region = Ball(rng.normal(size=2), 0.4, inf)
    by = Arithmetic()
    problem = with_equilibria(pose(Graph(nodes, (Output("y", 6),)), Query(region=region)), by)
    v = iterated(Stage(a * d, b, bias, Relu()), random_points(region, 2, rng, 500) @ b.T + bias)
    y = d * np.maximum(v, 0)
    for found in (propagate(problem, by), linear_boxes(problem, by)):
        low, high = found[problem.y]
        assert np.all(low - ROOM <= y)
        assert np.all(y <= high + ROOM)
        assert np.all(high - low < 3 * (y.max(axis=0) - y.min(axis=0)) + 0.5)


# Jacobians.


def test_the_image_of_the_middle_of_slopes_is_no_proof_where_it_is_singular() -> None:
    """A I = 2 I over a box whose chords have slope 1 / 2: I - A S is zero."""
    stage = Stage(2 * np.eye(2), np.eye(2), np.zeros(2), Relu())
    problem = posed(Network((stage,), np.eye(2), np.zeros(2)), Ball(np.zeros(2), 0.1, inf))
    by = Arithmetic()
    (layer,) = layers_of(problem.graph, by).values()
    for low, high in ((-1.0, 1.0), (-1.0, 1.0 + 1e-13)):
        box = np.full(2, low), np.full(2, high)
        found = image(problem, layer, box, around_of(problem, layer, by), by)  # type: ignore[arg-type]
        assert found is None or np.all(found[1] - found[0] > 2)


def test_what_dominates_is_above_every_solution_of_the_inequality() -> None:
    rng = np.random.default_rng(6)
    finite = 0
    for _ in range(200):
        g = np.abs(rng.normal(size=(3, 3))) * (rng.random((3, 3)) < 0.7)
        g *= rng.choice([0.5, 0.9, 0.999, 1.001, 1.5, 3.0]) / max(np.abs(np.linalg.eigvals(g)).max(), 1e-3)
        start = np.abs(rng.normal(size=(2, 3))) * (rng.random((2, 3)) < rng.choice([0.7, 1.0]))
        found = dominated(g[None], start, np.zeros(2, dtype=int))
        radius = np.abs(np.linalg.eigvals(g)).max()
        if radius < 1:
            exact = np.linalg.solve(np.eye(3) - g, start.T).T
            assert np.all(found >= exact)
            finite += int(np.all(np.isfinite(found)))
        else:
            assert not np.any(np.isfinite(found))
    assert finite > 40


def test_zeros_are_dominated_as_well() -> None:
    matrix = np.array([[0.0, 0.3], [0.7, 0.0]])
    for start in ([1.0, 0.0], [0.0, 1.0], [3.0, 1e-13]):
        assert np.all(np.isfinite(dominated(matrix[None], np.array([start]), np.zeros(1, dtype=int))))


@pytest.mark.parametrize("n", [1, 4])
@pytest.mark.parametrize("own", [0.0, 3.0])
def test_the_chain_rule_through_a_layer_holds_every_product(n: int, own: float) -> None:
    """g = S (I - A' S)^-1 scale' c within the values, and g - T r within the noise, piece by piece."""
    rng = np.random.default_rng([n, int(own)])
    by, bounded = Arithmetic(), 0
    for k in range(12):
        a = contracting(rng, n, 0.8) - own * np.diag(rng.random(n))
        layer = layer_of(a, LeakyRelu(0.1) if k % 2 else Relu())
        ends = np.sort(rng.random((2, 2, n)) ** 2, axis=0)
        low, high = ends[0], ends[1]
        high = np.where(rng.random((2, n)) < 0.3, low, high)
        first, width = rng.normal(size=(3, n)), rng.random((3, n)) * rng.choice([0, 0.3], size=(3, n))
        which = np.array([0, 1, 1])
        try:
            found = turned(layer, (low, high), (first - width, first + width), which, 0, by)
        except NotProvedError:
            continue
        bounded += 1
        others = a.T - np.diag(np.diag(a))
        for case, piece in enumerate(which):
            s = rng.uniform(low[piece], high[piece], size=(500, n))
            s[:200] = np.where(rng.random((200, n)) < 0.5, low[piece], high[piece])
            c = first[case] + width[case] * rng.choice([-1, 0.3, 1], size=(500, n))
            g = s * np.linalg.solve(np.eye(n) - a.T * s[:, None, :], c[:, :, None])[:, :, 0]
            rest = g - found.slopes * (g @ others.T + c)
            for value, box in ((g, found.values), (rest, found.noise)):
                low_end, high_end = (side[case] for side in box)
                assert np.all(value >= low_end - ROOM)
                assert np.all(value <= high_end + ROOM)
    assert bounded > 6


def test_a_neuron_that_feeds_back_too_strongly_has_no_bound_of_its_jacobian() -> None:
    layer = layer_of(np.array([[1.5]]), Relu())
    ends = np.zeros((1, 1)), np.ones((1, 1))
    with pytest.raises(NotProvedError, match="feeds back to itself too strongly"):
        turned(layer, ends, (np.ones((1, 1)), np.ones((1, 1))), np.zeros(1, dtype=int), 0, Arithmetic())
    pair = layer_of(np.array([[0.0, 1.2], [1.2, 0.0]]), Relu())
    ends = np.zeros((1, 2)), np.ones((1, 2))
    with pytest.raises(NotProvedError, match="too open for a bound"):
        turned(pair, ends, (np.ones((1, 2)), np.ones((1, 2))), np.zeros(1, dtype=int), 0, Arithmetic())


# Loops that are no layers.

LOOPS = {
    "sorted": (Groupwise(2, GroupSort(2), (4,)),),
    "two activations": (Elementwise(2, Relu(), (4,)), affine((3,), np.eye(4) / 4), Elementwise(4, Relu(), (4,))),
    "no activation": (affine((2,), np.eye(4) / 2),),
    "beside the state": (Elementwise(2, Relu(), (4,)), affine((3, 1), np.eye(4) / 2, np.eye(4) / 4)),
    "a bias behind": (Elementwise(2, Relu(), (4,)), affine((3,), np.eye(4) / 2, bias=np.ones(4))),
    "one neuron": (affine((2,), np.ones((1, 4))), Elementwise(3, Relu(), (1,)), affine((4,), np.ones((4, 1)) / 9)),
}


@pytest.mark.parametrize("name", LOOPS)
def test_loops_of_other_forms_are_refused(name: str) -> None:
    inner = LOOPS[name]
    head = (Input("x", (4,)), State((4,)), affine((1, 0), 0.3 * np.eye(4), np.eye(4)))
    at = len(head) + len(inner)
    tail = (FixedPoint(1, at - 1, (4,)), affine((at,), np.eye(4)))
    graph = Graph((*head, *inner, *tail), (Output("y", at + 1),))
    problem = pose(graph, Query(region=Ball(np.zeros(4), 1.0, inf)))
    with pytest.raises(NotProvedError):
        layers_of(problem.graph, Arithmetic())
    state = next(i for i, node in enumerate(problem.graph.nodes) if isinstance(node, State))
    wide = np.full(4, 1e300)
    for t in (NONE, np.ones(4)):
        claimed = (Equilibrium(state, t, np.full(4, -9.0), np.full(4, 9.0)),)
        for linear in (False, True):
            with pytest.raises(NotProvedError):
                verify_box(problem, BoxClaim(-wide, wide, linear, equilibria=claimed))


def test_a_loop_within_a_loop_is_no_layer() -> None:
    nodes = (
        Input("x", (2,)),
        State((2,), "z"),
        State((2,), "u"),
        affine((2, 1), 0.1 * np.eye(2), np.eye(2)),
        Elementwise(3, Relu(), (2,)),
        FixedPoint(2, 4, (2,), "u"),
        affine((5, 0), 0.1 * np.eye(2), np.eye(2)),
        Elementwise(6, Relu(), (2,)),
        FixedPoint(1, 7, (2,), "z"),
    )
    graph = Graph(nodes, (Output("y", 8),))
    with pytest.raises(NotProvedError):
        layers_of(graph, Arithmetic())


# Inverses that are not what they should be.


def test_an_inverse_that_is_zero_proves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The map is then that of every point to itself."""
    rng = np.random.default_rng(40)
    problem = posed(network(contracting(rng, 4), Relu(), rng), Ball(np.full(2, 5.0), 0.1, inf))
    by = Arithmetic()
    (layer,) = layers_of(problem.graph, by).values()
    around = around_of(problem, layer, by)
    monkeypatch.setattr(np.linalg, "inv", np.zeros_like)
    assert image(problem, layer, (-np.ones(4), np.ones(4)), around, by) is None  # type: ignore[arg-type]


@pytest.mark.parametrize("off", [0.03, 0.3, 3.0])
@pytest.mark.parametrize("seed", range(3))
def test_inverses_may_be_far_off(off: float, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is proven with them holds all the same: of boxes, of the rows of Jacobians, and of a derivative."""
    rng = np.random.default_rng([seed, 41])
    net = network(contracting(rng, 4, 0.6), (Relu(), Tanh(), LeakyRelu(0.2))[seed], rng)
    region = Ball(rng.normal(size=2), 0.3, inf)
    right = np.linalg.inv
    noise = np.random.default_rng(seed)
    y, jacobians, _ = net.run(random_points(region, 2, rng, 300))
    middle, d = region.center, rng.normal(size=2)
    _, there, near = net.run(middle[None])
    assert near[0] > 1e-6

    def held(around: Ball) -> Problem:
        """With a box that faces prove."""
        stage = net.stages[0]
        assert stage.a is not None
        v = iterated(stage, middle[None] @ stage.b.T + stage.bias)[0]
        reach = 1.01 * np.linalg.solve(np.eye(4) - np.abs(stage.a), np.abs(stage.b).sum(axis=1) * around.eps + 1e-6)
        problem = posed(net, around)
        (state,) = (i for i, node in enumerate(problem.graph.nodes) if isinstance(node, State))
        return replace(problem, equilibria=(Equilibrium(state, NONE, v - reach, v + reach),))

    problem, single = held(region), held(Ball(middle, 0.0, inf))

    def wrong(matrix: np.ndarray) -> np.ndarray:
        found = right(matrix)
        return np.asarray(found * (1 + off * noise.normal(size=found.shape)))

    monkeypatch.setattr(np.linalg, "inv", wrong)
    by = Arithmetic()
    low, high = linear_boxes(problem, by)[problem.y]
    assert np.all(low - ROOM <= y)
    assert np.all(y <= high + ROOM)
    again = in_ramps(problem, by)
    try:
        net_of = whole_net(problem, by)
        rows = bound_rows(again, chain_rule(again, by), net_of, np.arange(4)[None], 3, by)
        least, most = rows.entries()
        assert np.all(least[0] - ROOM <= jacobians)
        assert np.all(jacobians <= most[0] + ROOM)
    except NotProvedError:
        assert off > 0.1
    try:
        slope = derivative_along(single, middle, d, by)
    except NotProvedError:
        return
    assert np.all(slope.lower() - ROOM <= there[0] @ d)
    assert np.all(there[0] @ d <= slope.upper() + ROOM)


# Pieces of a region.


def cut_pieces(graph: Graph, values: list[np.ndarray], rng: np.random.Generator) -> tuple[Pieces, np.ndarray]:
    """Six pieces, cut at any nodes where values go or at zero, and (pieces, K) which points are in them."""
    count, total = 6, len(values[0])
    ends: dict[int, Bounds] = {}
    inside = np.ones((count, total), dtype=bool)
    for b in range(count):
        for _ in range(int(rng.integers(1, 4))):
            node = int(rng.integers(len(graph.nodes)))
            entry, below = int(rng.integers(graph.size(node))), bool(rng.integers(2))
            v = values[node][:, entry]
            at = 0.0 if rng.random() < 0.4 and v.min() < 0 < v.max() else float(rng.choice(v))
            if node not in ends:
                shape = count, graph.size(node)
                ends[node] = np.full(shape, -inf), np.full(shape, inf)
            low, high = ends[node]
            if below:
                high[b, entry] = min(high[b, entry], at)
                inside[b] &= v <= at
            else:
                low[b, entry] = max(low[b, entry], at)
                inside[b] &= v >= at
    return Pieces(count, ends), inside


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(3))
def test_pieces_hold_the_solutions_and_the_jacobians_in_them(kind: str, seed: int) -> None:
    rng = np.random.default_rng([*kind.encode(), seed, 1])
    net = network(*KINDS[kind](rng), rng)
    region = Ball(rng.normal(size=2), 0.3, (inf, 2.0, 1.0)[seed])
    by = Arithmetic()
    problem = with_equilibria(posed(net, region), by)
    posed_again = in_ramps(problem, by)
    whole = whole_net(problem, by)
    x = random_points(region, 2, rng, 400)
    y, jacobians, near = net.run(x)
    values = values_at(posed_again, x, by)
    good = np.all(np.abs(values[posed_again.y] - y) < 1e-8, axis=1) & (near > 1e-9)
    assert good.sum() > 200
    values, jacobians = [v[good] for v in values], jacobians[good]
    rule = chain_rule(posed_again, by)
    seen = 0
    for steps in range(8):
        pieces, inside = cut_pieces(posed_again.graph, values, rng)
        bounded = piece_nets(problem, pieces, whole, by)
        assert not np.any(inside[bounded.empty])
        try:
            rows = bound_rows(posed_again, rule, bounded.net, np.tile(np.arange(4), (pieces.count, 1)), steps, by)
        except NotProvedError:
            rows = None
        for b, points in enumerate(inside):
            if bounded.empty[b] or not points.any():
                continue
            for i, (low, high) in enumerate(bounded.net.boxes):
                box = (low[b], high[b]) if len(low) > 1 else (low[0], high[0])
                assert np.all(values[i][points] >= box[0] - ROOM), (i, b)
                assert np.all(values[i][points] <= box[1] + ROOM), (i, b)
            if rows is not None:
                low, high = rows.entries()
                assert np.all(jacobians[points] >= low[b] - ROOM), (steps, b)
                assert np.all(jacobians[points] <= high[b] + ROOM), (steps, b)
                seen += 1
    assert seen > 0
