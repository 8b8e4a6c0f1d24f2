"""How the linear bounds of method `local` grow with width and depth: each network in a process of its own.

`python -m benchmarks.local_growth` with the JSON of a case bounds that one, and prints a JSON line.
"""

from __future__ import annotations

import itertools
import json
import math
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import child
from benchmarks.claims import linear_claims, norm_at_center, patient
from benchmarks.networks import ball, find
from benchmarks.section import Column, Row, Section, Settings, number, seconds

if TYPE_CHECKING:
    from lipcert.graph import Graph, Node
    from lipcert.problem import Ball, Problem

INPUTS, OUTPUTS = 784, 10
DEPTH, WIDTHS = 2, (64, 128, 256, 512)
WIDTH, DEPTHS = 128, (2, 4, 6, 8)
RADII = (0.001, 0.01)

NETWORKS, PIXEL = ("cifar_base_kw", "cifar_resnet_2b"), 1 / 255

TIMEOUT = 120.0

COLUMNS = (
    Column("network", "network"),
    Column("eps", "eps", number),
    Column("neurons", "neurons"),
    Column("open", "open"),
    Column("center", "at the\ncenter", number),
    Column("plain", "plain lines", number),
    Column("plain_seconds", "time", seconds),
    Column("chosen", "chosen slopes", number),
    Column("chosen_seconds", "time", seconds),
    Column("check_seconds", "check", seconds),
    Column("peak_mib", "peak\nmemory", lambda x: f"{x:.0f} MiB"),
    Column("remark", "remark"),
)


def growth(settings: Settings) -> Section:
    section = Section("growth", "Linear bounds of the Jacobian, linf: growth with width, depth and size", COLUMNS)
    section.notes += [
        f"depth x width: hidden layers of random ReLU networks, {INPUTS} inputs, {OUTPUTS} outputs, normal weights of "
        "variance 2 / n, biases a tenth of that size; balls around a random point of the unit cube",
        f"the first two claims of --method local --timeout {TIMEOUT:g}, found and verified: by plain lines, then by "
        "slopes that are searched for (the time beyond that), in a warm process. open: activations whose slope is not "
        "known. check: of the last claim, by fresh arithmetic. peak memory: of a process with all, torch included",
    ]
    idle = _child({})
    section.notes.append(f"a process that has imported all and bounded nothing else: {idle['peak_mib']:.0f} MiB")
    for name, case in _cases(settings):
        settings.say(f"growth: {name}, eps {case['eps']:.4g}")
        section.rows.append({"network": name, "eps": case["eps"]} | _child(case))
    section.failures += [f"{row['network']}: {row['remark']}" for row in section.rows if row.get("failed")]
    return section


def _cases(settings: Settings) -> list[tuple[str, dict[str, Any]]]:
    sizes = dict.fromkeys([(DEPTH, width) for width in WIDTHS] + [(depth, WIDTH) for depth in DEPTHS])
    cases: list[tuple[str, dict[str, Any]]] = [
        (f"{depth} x {width}", {"depth": depth, "width": width, "eps": eps}) for eps in RADII for depth, width in sizes
    ]
    for name in NETWORKS:
        if find(name, settings) is not None:
            about = {"models": str(settings.models), "data": str(settings.data)}
            cases.append((name, {"name": name, "eps": PIXEL} | about))
    return cases


def _child(case: dict[str, Any]) -> Row:
    root = Path(__file__).parent.parent
    done = child.run([sys.executable, "-W", "ignore", "-m", "benchmarks.local_growth", json.dumps(case)], root)
    row: Row = {"peak_mib": done.peak_mib}
    if done.status:
        return row | {"failed": True, "remark": f"status {done.status}: {done.output.strip().splitlines()[-1:]}"}
    return row | json.loads(done.output.strip().splitlines()[-1])


# In the process of its own.


def _main(case: dict[str, Any]) -> None:
    _claims(_random(2, 16, 0.05))  # imports all that a search needs
    print(json.dumps(_claims(_named(case) if "name" in case else _random(**case)) if case else {}))


def _claims(problem: Problem) -> Row:
    from lipcert.certificate import verify
    from lipcert.certificate.linear_bounds import whole_net
    from lipcert.methods import OutOfTime, Unsuitable

    progress = patient(TIMEOUT)
    row: Row = {"center": norm_at_center(problem)}
    try:
        for key, (claim, taken) in zip(("plain", "chosen"), linear_claims(problem, progress), strict=False):
            row |= {key: claim.value, f"{key}_seconds": taken}
    except (OutOfTime, Unsuitable) as reason:
        return row | {"remark": str(reason) or f"stopped, {TIMEOUT:g} s are over"}
    slopes = whole_net(problem, progress.arithmetic).slopes.values()
    row |= {"neurons": sum(low.size for low, _ in slopes), "open": sum(int((lo < hi).sum()) for lo, hi in slopes)}
    began = time.perf_counter()
    verify(problem, claim)
    return row | {"check_seconds": time.perf_counter() - began}


def _named(case: dict[str, Any]) -> Problem:
    from lipcert.frontend import load_file

    settings = Settings(1, Path(case["models"]), Path(case["data"]), lambda text: None)
    path = find(case["name"], settings)
    assert path is not None  # it was there
    model = load_file(path, check=False)
    return _posed(model.graph, ball(case["name"], model, case["eps"], settings))


def _random(depth: int, width: int, eps: float) -> Problem:
    import numpy as np

    from lipcert.activations import Relu
    from lipcert.arithmetic.enclosure import exact
    from lipcert.graph import Affine, Elementwise, Graph, Input, Output
    from lipcert.operators import Dense
    from lipcert.problem import Ball

    random = np.random.default_rng(0)
    nodes: list[Node] = [Input("x", (INPUTS,))]
    for n, m in itertools.pairwise([INPUTS, *[width] * depth, OUTPUTS]):
        if len(nodes) > 1:
            nodes.append(Elementwise(len(nodes) - 1, Relu(), (n,)))
        weight = random.standard_normal((m, n)) * math.sqrt(2 / n)
        bias = random.standard_normal(m) * math.sqrt(2 / n) / 10
        nodes.append(Affine((len(nodes) - 1,), (Dense(weight),), exact(bias), (m,)))
    graph = Graph(tuple(nodes), (Output("y", len(nodes) - 1),))
    return _posed(graph, Ball(random.uniform(0, 1, INPUTS), eps, math.inf))


def _posed(graph: Graph, region: Ball) -> Problem:
    from lipcert.problem import Query, pose

    return pose(graph, Query(math.inf, math.inf, region))


if __name__ == "__main__":
    _main(json.loads(sys.argv[1]))
