"""LipSDP: published optima, speed beside reference solvers and ECLipsE, growth with size, sorting activations.

Whatever is called proven went through lipcert's kernel. Other values are what their tools say, without error bounds.
"""

from __future__ import annotations

import importlib
import json
import math
import os
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from importlib import util
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.measure import Timing
from benchmarks.networks import find
from benchmarks.peers import lmi
from benchmarks.peers.answers import Way
from benchmarks.peers.measured import QUICK, eclipse_ways, measured, presence, times, warm, with_output
from benchmarks.section import Column, Row, Section, Settings, goal, number, ratio, seconds

if TYPE_CHECKING:
    from lipcert.activations.groupwise import GroupFunction
    from lipcert.graph import Elementwise, Graph, Groupwise, Node
    from lipcert.methods.lipsdp.interior_point import Iterate
    from lipcert.methods.lipsdp.program import Program
    from lipcert.problem import Norm, Problem

OPTIMA = {"mlp_L5_W64": 18.522948, "mlp_L17_W32": 3781.443}
"""For the true slopes of these networks, [0.01, 1]; primal and dual solutions agree to 1e-7."""
DIGITS = tuple(f"fnn{layers}_seed{seed}" for layers in (2, 3) for seed in range(5))
DIGITS_OUTPUT = 7
"""The only output that their reference values are for."""
ABOVE = {"mlp": 1e-5, "fnn": 1e-4}
"""Relative distance from the optimum that is asked for, by the beginning of the name."""
DIGITS_GOAL = 0.5

GAP = 1e-6
"""The relative duality gap that searches are timed to; the tolerance of other solvers."""
INPUTS, OUTPUTS = 784, 10
SIZES = ((4, 32), (4, 64), (8, 128), (16, 128))
"""Hidden layers and their width."""
GOALS = {(4, 64): 0.4, (8, 128): 7.0, (16, 128): 60.0}
"""Seconds for build, search and proof."""

DEPTH, WIDTHS = 4, (16, 32, 64, 128, 256, 512)
WIDTH, DEPTHS = 64, (2, 4, 8, 16, 32)
PLOT_ASKED, PLOT = "LIPCERT_BENCH_PLOT", Path(__file__).parent.parent / "docs" / "img" / "lipsdp-growth.svg"

LAYERS, FEATURES = (2, 4, 8), 40
NORMS = {"l2": 2.0, "linf": math.inf}
GAIN, NOISE = 1.05, 0.1
"""Random weights of the sorting networks: GAIN (Q + NOISE G / sqrt(n)), Q orthonormal, G normal."""
TRAINED = ("digits_maxmin", "digits_groupsort", "digits_householder")

PATIENCE = 200.0
"""Seconds after which a search of lipcert is stopped."""
LIMIT, BRIEF = 120.0, 60.0
"""The same for the solvers of others: asked for GAP, and as they come or behind --solver."""

PROVEN, RAW = "proven", "unproven"

OPTIMA_COLUMNS = (
    Column("network", "network"),
    Column("way", "way"),
    Column("kind", "kind"),
    Column("optimum", "optimum", lambda x: f"{x:.8g}"),
    Column("value", "value", lambda x: f"{x:.8g}"),
    Column("above", "value / optimum - 1", lambda x: f"{x:+.1e}"),
    Column("dual", "dual bound", lambda x: f"{x:.8g}"),
    Column("seconds", "time", lambda s: f"{s:.3f} s"),
    Column("met", "goal", goal),
    Column("remark", "remark"),
)
SPEED_COLUMNS = (
    Column("network", "network"),
    Column("neurons", "neurons"),
    Column("way", "way"),
    Column("kind", "kind"),
    Column("value", "value", lambda x: f"{x:.8g}"),
    Column("above", "value / ours - 1", lambda x: f"{x:+.1e}"),
    Column("build", "build", seconds),
    Column("search", "search", seconds),
    Column("proof", "proof", seconds),
    Column("seconds", "total", seconds),
    Column("times", "total /\nours", ratio),
    Column("met", "goal", goal),
    Column("remark", "remark"),
)
GROWTH_COLUMNS = (
    Column("sweep", "sweep"),
    Column("network", "network"),
    Column("neurons", "neurons"),
    Column("build", "build", seconds),
    Column("search", "search", seconds),
    Column("iterations", "iterations"),
    Column("power", "search grows\nlike neurons ^", lambda x: f"{x:.1f}"),
    Column("gap", "duality gap", lambda x: f"{x:.1e}"),
    Column("value", "sqrt(objective)", number),
    Column("product", "product\n(proven)", number),
    Column("gain", "product /\nlipsdp", ratio),
    Column("remark", "remark"),
)
ACTIVATION_COLUMNS = (
    Column("network", "network"),
    Column("norm", "norm"),
    Column("attained", "attained", number),
    Column("lipsdp", "lipsdp", lambda x: f"{x:.8g}"),
    Column("product", "product", lambda x: f"{x:.8g}"),
    Column("gain", "product /\nlipsdp", ratio),
    Column("one_ramp", "one ramp:\nlipsdp / ours", lambda x: f"{x:.7f}"),
    Column("two_ramps", "two ramps:\nlipsdp / ours", lambda x: f"{x:.4f}"),
    Column("two_ramps_product", "two ramps:\nproduct / ours", ratio),
    Column("seconds", "lipsdp\ntime", seconds),
    Column("remark", "remark"),
)


def suite(settings: Settings) -> list[Section]:
    return [_optima(settings), _speed(settings), _growth(settings), _activations(settings)]


# Known optima.


@dataclass(frozen=True, eq=False)
class Known:
    """A network whose optimum is published; of its outputs, only `output` counts where one is given."""

    name: str
    optimum: float
    load: Callable[[], Graph]
    output: int | None = None

    def problem(self) -> Problem:
        from lipcert.problem import AllOutputs, Query, SomeOutputs, pose

        outputs = AllOutputs() if self.output is None else SomeOutputs((self.output,))
        return pose(self.load(), Query(outputs=outputs))


def _optima(settings: Settings) -> Section:
    section = Section("optima", "LipSDP, l2 global: networks with a published optimum", OPTIMA_COLUMNS)
    section.notes.append(
        "time: all of one method, found and verified, in a warm process; of peers, from the weights on"
    )
    section.notes.append(
        "mlp: LeakyReLU, slopes in [0.01, 1]; eclipse-nn reads [0, 1], for which the optimum is larger"
    )
    section.notes += presence(settings)
    for known in _known(settings):
        section.rows += _own_rows(known, section, settings)
        for way, work in _optimum_peers(known):
            settings.say(f"{known.name}: {way}")
            row: Row = {"network": known.name, "way": way, "kind": RAW, "optimum": known.optimum}
            section.rows.append(row | measured(work, settings))
    for row in section.rows:
        if row.get("value") is not None:
            row["above"] = row["value"] / row["optimum"] - 1
    return section


def _known(settings: Settings) -> Iterator[Known]:
    from lipcert.frontend import load_file

    for name, optimum in OPTIMA.items():
        path = find(name, settings)
        if path is not None:
            yield Known(name, optimum, lambda path=path: load_file(path, check=False).graph)  # type: ignore[misc]
    folder = settings.data / "glipsdp" if settings.data else None
    if folder is None or not (folder / "reference.json").is_file():
        settings.say("skipped fnn2, fnn3: no data folder with glipsdp/ (--data, or LIPCERT_TEST_DATA)")
        return
    reference = json.loads((folder / "reference.json").read_text())["networks"]
    for name in DIGITS:
        with np.load(folder / f"{name}.npz") as stored:
            count = sum(key.startswith("W") for key in stored.files)
            weights = [stored[f"W{i + 1}"].astype(np.float64) for i in range(count)]
        optimum = reference[name]["lipsdp"]
        yield Known(name, optimum, lambda weights=weights: _chain(weights), DIGITS_OUTPUT)  # type: ignore[misc]


def _own_rows(known: Known, section: Section, settings: Settings) -> Iterator[Row]:
    about: Row = {"network": known.name, "kind": PROVEN, "optimum": known.optimum}
    for method, solver in (("lipsdp", "native"), ("product", "native"), ("lipsdp", "scs"), ("lipsdp", "clarabel")):
        way = f"lipcert --method {method}" + (f" --solver {solver}" if solver != "native" else "")
        row = about | {"way": way}
        rows = _program(known.problem()).size
        if rows > lmi.LARGEST.get(solver, math.inf):
            yield row | {"remark": f"skipped: {rows} rows, at most {lmi.LARGEST[solver]} are tried"}
            continue
        settings.say(f"{known.name}: {way}")
        value, timing, remark = _bound(known.problem, method, settings, solver)
        row |= {"value": value, "remark": remark} | times(timing)
        if value is not None and value < known.optimum * (1 - 1e-7) and method == "lipsdp":
            section.failures.append(f"{known.name}: {way}: proven {value!r}, below the optimum {known.optimum!r}")
        if (method, solver) == ("lipsdp", "native"):
            slow = known.name in DIGITS and timing.median > DIGITS_GOAL
            row["dual"] = _dual(known)
            row["met"] = value is not None and value <= known.optimum * (1 + ABOVE[known.name[:3]]) and not slow
            if value is None:
                section.failures.append(f"{known.name}: {remark}")
        yield row


def _dual(known: Known) -> float:
    """What the search shows to be out of reach of all multipliers; not proven."""
    from lipcert.methods.lipsdp.interior_point import solve

    return math.sqrt(max((iterate.dual for iterate in solve(_program(known.problem()), close=GAP)), default=0.0))


def _optimum_peers(known: Known) -> Iterator[Way]:
    from benchmarks.peers.layers import layers

    chain = layers(known.load())
    if known.output is not None:
        chain = with_output(chain, known.output)
    yield from eclipse_ways(chain)
    if lmi.available() is None:
        yield from lmi.as_they_come(chain, _program(known.problem()), BRIEF)


# Speed.


def _speed(settings: Settings) -> Section:
    title = f"LipSDP, l2 global: ReLU networks, weights of He et al., {INPUTS} inputs, {OUTPUTS} outputs"
    section = Section("speed", title, SPEED_COLUMNS)
    section.notes.append(
        f"lipcert, gap {GAP:g}: build (increments and program), search to that relative duality gap, proof of the "
        "method's claim as `check` does it; the value is what the search ends with. The method's total is a run of its "
        "own, with every attempt at a proof"
    )
    section.notes.append("a peer's total is from the weights on; inputs are reduced to the width of the first layer")
    section.notes += presence(settings)
    for size in SIZES:
        section.rows += _speed_rows(size, section, settings)
    return section


def _speed_rows(size: tuple[int, int], section: Section, settings: Settings) -> list[Row]:
    depth, width = size
    name = f"{depth} x {width}"
    about: Row = {"network": name, "neurons": depth * width}
    settings.say(f"{name}: lipcert, search")
    found = _search(size, settings)
    settings.say(f"{name}: lipcert, the method")
    proven = _claimed(size, settings)
    ours: Row = about | {"way": f"lipcert, gap {GAP:g}", "kind": RAW, "value": found.value, "remark": found.remark}
    ours |= {"build": found.build, "search": found.seconds, "proof": proven.proof}
    method: Row = about | {"way": "lipcert --method lipsdp", "kind": PROVEN, "value": proven.value}
    method |= {"proof": proven.proof, "seconds": proven.seconds, "remark": proven.remark}
    rows = [ours, method]
    if proven.value is None:
        section.failures.append(f"{name}: {proven.remark}")
    if proven.proof is not None and found.value is not None:
        ours["seconds"] = found.build + found.seconds + proven.proof
    if size in GOALS:
        ours["met"] = ours.get("seconds", math.inf) < GOALS[size] and found.gap < GAP
    for way, work in _speed_peers(size):
        settings.say(f"{name}: {way}")
        rows.append(about | {"way": way, "kind": RAW} | measured(work, settings))
    for row in rows[1:]:
        if row.get("value") is not None and found.value is not None:
            row["above"] = row["value"] / found.value - 1
        if row.get("seconds") is not None and ours.get("seconds") is not None:
            row["times"] = row["seconds"] / ours["seconds"]
    return rows


def _speed_peers(size: tuple[int, int]) -> Iterator[Way]:
    from benchmarks.peers.layers import layers

    chain = layers(_he(*size))
    yield from eclipse_ways(chain)
    if lmi.available() is None:
        yield from lmi.global_l2(chain, _program(_posed(_he(*size))), GAP, LIMIT)


@dataclass(frozen=True)
class Found:
    """Where a search ended; `remark` says so if it was stopped."""

    value: float | None
    gap: float
    iterations: int
    build: float
    seconds: float
    remark: str


def _search(size: tuple[int, int], settings: Settings) -> Found:
    """Build and search on networks that nothing is cached for; medians where it is quick."""
    first = _searched(size)
    more = settings.repeat - 1 if first.seconds < QUICK else 0
    all_of_them = [first, *(_searched(size) for _ in range(more))]
    build, taken = (statistics.median(getattr(f, key) for f in all_of_them) for key in ("build", "seconds"))
    return replace(first, build=build, seconds=taken)


def _searched(size: tuple[int, int]) -> Found:
    from lipcert.arithmetic.threads import one_thread
    from lipcert.methods import OutOfTime
    from lipcert.methods.lipsdp.interior_point import solve

    graph = _he(*size)
    began = time.perf_counter()
    program = _program(_posed(graph))
    built = time.perf_counter()

    def tick() -> None:
        if time.perf_counter() > built + PATIENCE:
            raise OutOfTime

    last: Iterate | None = None
    count, remark = -1, ""  # the start is no iteration
    try:
        with one_thread():  # as the method does: small products on one core, large ones on those that are free
            for iterate in solve(program, tick, close=GAP):
                last, count = iterate, count + 1
    except OutOfTime:
        remark = f"stopped after {PATIENCE:g} s"
    ended = time.perf_counter()
    if last is None:
        return Found(None, math.inf, 0, built - began, ended - built, remark or "no feasible start")
    if not last.gap < GAP:
        remark = remark or f"ended at a gap of {last.gap:.1e}"
    return Found(math.sqrt(last.objective), last.gap, count, built - began, ended - built, remark)


@dataclass(frozen=True)
class Claimed:
    """What the method by itself claims, with the seconds for it and for a proof from the evidence alone."""

    value: float | None
    seconds: float | None
    proof: float | None
    remark: str


def _claimed(size: tuple[int, int], settings: Settings) -> Claimed:
    from lipcert.certificate import verify
    from lipcert.methods import OutOfTime, Progress, Unsuitable
    from lipcert.methods.lipsdp import LipSdpMethod

    problem, claims = _posed(_he(*size)), []
    began, remark = time.perf_counter(), ""
    try:
        for claim in LipSdpMethod().claims(problem, Progress(time.monotonic() + PATIENCE)):
            claims.append(claim)
    except OutOfTime:
        remark = f"stopped after {PATIENCE:g} s"
    except Unsuitable as reason:
        remark = str(reason)
    taken = time.perf_counter() - began
    if not claims:
        return Claimed(None, None, None, remark or "no claim")
    fresh = _posed(_he(*size))
    value, timing = warm(lambda: verify(fresh, claims[-1]), settings.repeat)
    return Claimed(value, taken, timing.median, remark)


# Growth.


def _growth(settings: Settings) -> Section:
    title = f"LipSDP, growth: the same networks, {DEPTH} layers of growing width, then layers {WIDTH} wide"
    section = Section("growth", title, GROWTH_COLUMNS)
    section.notes.append(f"search to a relative duality gap of {GAP:g}, or {PATIENCE:g} s; without the proof")
    sweeps = {"width": [(DEPTH, width) for width in WIDTHS], "depth": [(depth, WIDTH) for depth in DEPTHS]}
    for sweep, sizes in sweeps.items():
        rows = [_growth_row(sweep, size, settings) for size in sizes]
        for before, row in pairwise(rows):
            if before["remark"] or row["remark"]:
                continue  # a search that was stopped says nothing about growth
            growth = math.log(row["neurons"] / before["neurons"])
            row["power"] = math.log(row["search"] / before["search"]) / growth
        section.rows += rows
    section.notes.append(_plot(section.rows))
    return section


def _growth_row(sweep: str, size: tuple[int, int], settings: Settings) -> Row:
    name = f"{size[0]} x {size[1]}"
    settings.say(f"growth with {sweep}: {name}")
    found = _search(size, settings)
    product, _, _ = _bound(lambda: _posed(_he(*size)), "product", replace(settings, repeat=1))
    row: Row = {"sweep": sweep, "network": name, "depth": size[0], "width": size[1], "neurons": size[0] * size[1]}
    row |= {"build": found.build, "search": found.seconds, "iterations": found.iterations, "remark": found.remark}
    row |= {"gap": found.gap if math.isfinite(found.gap) else None, "value": found.value, "product": product}
    if product is not None and found.value is not None:
        row["gain"] = product / found.value
    return row


def _plot(rows: list[Row]) -> str:
    """Draw the growth where it is asked for; what there is to say about it."""
    if not os.environ.get(PLOT_ASKED):
        return f"no plot: {PLOT_ASKED}=1 draws docs/img/{PLOT.name}"
    if util.find_spec("matplotlib") is None:
        return "no plot: matplotlib is not installed"
    importlib.import_module("matplotlib").use("svg")
    figure, (left, right) = importlib.import_module("matplotlib.pyplot").subplots(1, 2, figsize=(9, 3.6))
    for sweep, label in (("width", f"{DEPTH} layers"), ("depth", f"layers {WIDTH} wide")):
        line = [row for row in rows if row["sweep"] == sweep and not row["remark"]]
        neurons = [row["neurons"] for row in line]
        left.loglog(neurons, [row["build"] + row["search"] for row in line], "o-", label=label)
        right.loglog(neurons, [row.get("gain") for row in line], "o-", label=label)
    left.set(xlabel="neurons", ylabel="seconds", title=f"build and search, gap {GAP:g}")
    right.set(xlabel="neurons", ylabel="product / LipSDP", title="factor gained over the product")
    ticks = sorted({row["neurons"] for row in rows})
    for axes in (left, right):
        axes.set_xticks(ticks, labels=[str(tick) for tick in ticks])
        axes.set_xticks([], minor=True)
        axes.grid(alpha=0.3, which="both")
        axes.legend()
    figure.tight_layout()
    PLOT.parent.mkdir(exist_ok=True)
    figure.savefig(PLOT, metadata={"Date": None})
    return f"plot: docs/img/{PLOT.name}"


# Sorting and reflecting.


def _activations(settings: Settings) -> Section:
    section = Section("activations", "LipSDP for sorting and reflecting networks, global", ACTIVATION_COLUMNS)
    section.notes.append(
        f"random: {FEATURES} wide, weights {GAIN:g} (Q + {NOISE:g} G / sqrt(n)) with Q orthonormal, G normal; "
        "layers are matrices; MaxMin is GroupSort(2); all bounds proven"
    )
    section.notes.append("ramps: MaxMin rewritten as a residual ReLU network (benchmarks/peers/residual.py)")
    for name, load in _sorting(settings):
        for norm, p in NORMS.items():
            settings.say(f"{name}, {norm}")
            section.rows.append({"network": name, "norm": norm} | _sorting_row(load, p, settings))
    return section


def _sorting(settings: Settings) -> Iterator[tuple[str, Callable[[], Graph]]]:
    from lipcert.frontend import load_file

    for name in ("MaxMin", "GroupSort(5)", "Householder"):
        for layers in LAYERS:
            yield f"{name}, {layers} layers", lambda name=name, layers=layers: _random(name, layers)  # type: ignore[misc]
    for name in TRAINED:
        path = settings.models / f"{name}.onnx"
        if path.is_file():
            yield name, lambda path=path: load_file(path, check=False).graph  # type: ignore[misc]
        else:
            settings.say(f"skipped {name}: the models folder has no {path.name}")


def _sorting_row(load: Callable[[], Graph], p: Norm, settings: Settings) -> Row:
    from benchmarks.peers.residual import FORMS, rewritten
    from lipcert.planning import solve

    value, timing, remark = _bound(lambda: _posed(load(), p), "lipsdp", settings)
    product = solve(_posed(load(), p), method="product")
    row: Row = {"attained": product.lower, "lipsdp": value, "product": product.upper, "remark": remark} | times(timing)
    if value is None:
        return row
    row["gain"] = None if product.upper is None else product.upper / value
    for form, key in zip(FORMS, ("one_ramp", "two_ramps"), strict=True):
        other = rewritten(load(), form)
        if other is not None:
            lipsdp, naive = (solve(_posed(other, p), method=m, lower=False).upper for m in ("lipsdp", "product"))
            row[key] = None if lipsdp is None else lipsdp / value
            row[f"{key}_product"] = None if naive is None else naive / value
    return row


def _random(name: str, layers: int) -> Graph:
    rng = np.random.default_rng([layers, 5])
    sizes = [FEATURES] * layers + [OUTPUTS]
    weights = []
    for n, m in pairwise(sizes):
        rotation = np.linalg.qr(rng.standard_normal((n, n)))[0][:m]
        weights.append(GAIN * (rotation + NOISE * rng.standard_normal((m, n)) / math.sqrt(n)))
    return _chain(weights, lambda: _function(name, rng))


def _function(name: str, rng: np.random.Generator) -> GroupFunction:
    from lipcert.activations.householder import Householder
    from lipcert.activations.sorting import GroupSort
    from lipcert.arithmetic.enclosure import exact

    if name != "Householder":
        return GroupSort(2 if name == "MaxMin" else 5)
    angles = rng.uniform(0, 2 * math.pi, FEATURES // 2)
    normals = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    return Householder(exact(normals), exact(2 * normals))


# Networks, and what all sections measure with.


def _he(depth: int, width: int) -> Graph:
    """Normal weights with the variance of He, Zhang, Ren, Sun (2015)."""
    rng = np.random.default_rng(0)
    sizes = [INPUTS, *[width] * depth, OUTPUTS]
    return _chain([rng.standard_normal((m, n)) * math.sqrt(2 / n) for n, m in pairwise(sizes)])


def _chain(weights: Iterable[np.ndarray], function: Callable[[], GroupFunction] | None = None) -> Graph:
    """Dense layers without biases, which no global bound depends on, and ReLU or `function` between them."""
    from lipcert.arithmetic.enclosure import exact
    from lipcert.graph import Affine, Graph, Input, Output
    from lipcert.operators import Dense

    nodes: list[Node] = []
    for weight in weights:
        m, n = weight.shape
        nodes.append(_between(len(nodes) - 1, n, function) if nodes else Input("x", (n,)))
        nodes.append(Affine((len(nodes) - 1,), (Dense(weight),), exact(np.zeros(m)), (m,)))
    return Graph(tuple(nodes), (Output("y", len(nodes) - 1),))


def _between(source: int, size: int, function: Callable[[], GroupFunction] | None) -> Elementwise | Groupwise:
    from lipcert.activations import Relu
    from lipcert.graph import Elementwise, Groupwise

    return Elementwise(source, Relu(), (size,)) if function is None else Groupwise(source, function(), (size,))


def _posed(graph: Graph, p: Norm = 2.0) -> Problem:
    from lipcert.problem import Query, pose

    return pose(graph, Query(norm_in=p, norm_out=p))


def _program(problem: Problem) -> Program:
    from lipcert.certificate.arithmetic import Arithmetic
    from lipcert.certificate.boxes import propagate
    from lipcert.certificate.chains import prepare
    from lipcert.methods.lipsdp.program import build

    by = Arithmetic()
    return build(prepare(problem, propagate(problem, by), True, by))


def _bound(
    posed: Callable[[], Problem], method: str, settings: Settings, solver: str = "native"
) -> tuple[float | None, Timing, str]:
    """The verified bound of a method, its time without the loading, and what is said beside it."""
    from lipcert.planning import solve

    timeout = PATIENCE if solver == "native" else BRIEF
    fresh = iter([posed() for _ in range(settings.repeat + 1)])  # a graph keeps what was computed
    outcome, timing = warm(
        lambda: solve(next(fresh), method=method, solver=solver, timeout=timeout, lower=False), settings.repeat
    )
    reasons = [attempt.reason for attempt in outcome.attempts if attempt.reason]
    return outcome.upper, timing, "; ".join(reasons) if outcome.upper is None or solver != "native" else ""
