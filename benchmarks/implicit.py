"""Implicit networks: Lipschitz constants beside NEMON's product, boxes beside what textbooks do, speed."""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import signal
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.implicit_networks import FOLDER, Network, own, shared, trained
from benchmarks.peers import implicit as peers
from benchmarks.peers.implicit import Arrays
from benchmarks.section import Column, Row, Section, Settings, goal, number, ratio, seconds

if TYPE_CHECKING:
    from lipcert.report.report import Report

GLOBAL_TIMEOUT = 20.0
SHARED_TIMEOUT = 60.0
LOCAL_TIMEOUT = 30.0
OVERRUN = 2.0
"""Timeouts after which a run is stopped: its answer is then what it had."""

EPS = 0.05
"""Of pixels in [0, 1]."""

SHARED_EPS = 0.01
"""Of normalised pixels."""

IMAGES = 3
SAMPLES = 10_000
JACOBIANS = 300
SLACK = 1e-8
"""For samples, which are computed in float64."""

TIGHTER = 1.5
LOCAL_GAP = 1.3
REFERENCE_GAP = 1e-3

REACHES = 20
MANY = 10_000
LARGE = 2_000

LIPSCHITZ_COLUMNS = (
    Column("network", "network"),
    Column("accuracy", "accuracy", "{:.0%}".format),
    Column("mu", "mu", ratio),
    Column("nemon", "NEMON", number),
    Column("nemon_searched", "NEMON,\nbest eta", number),
    Column("m_matrix", "M-matrix", number),
    Column("upper", "ours", number),
    Column("method", "method"),
    Column("seconds", "time", seconds),
    Column("attained", "attained", number),
    Column("gain", "best eta /\nours", ratio),
    Column("gap", "ours /\nattained", ratio),
    Column("remark", "remark"),
)
LOCAL_COLUMNS = (
    Column("network", "network"),
    Column("image", "image"),
    *LIPSCHITZ_COLUMNS[6:10],
    Column("sampled", "sampled", number),
    *LIPSCHITZ_COLUMNS[11:],
)
L2_COLUMNS = (
    Column("network", "network"),
    Column("reference", "reference", number),
    *LIPSCHITZ_COLUMNS[6:10],
    Column("excess", "ours /\nreference - 1", number),
    Column("goal", f"within {REFERENCE_GAP:g}", goal),
    Column("remark", "remark"),
)
BOX_COLUMNS = (
    Column("network", "network"),
    Column("eps", "eps", number),
    Column("ours", "ours", number),
    Column("seconds", "time", seconds),
    Column("embedded", "embedded", number),
    Column("unrolled", "unrolled", number),
    Column("attained", "attained", number),
    Column("sampled", "sampled", number),
    Column("embedded_ratio", "embedded /\nours", ratio),
    Column("unrolled_ratio", "unrolled /\nours", ratio),
    Column("gap", "ours /\nattained", ratio),
    Column("contained", "contains\nsamples", lambda x: "yes" if x else "NO"),
    Column("wider", "outputs\nwider", str),
    Column("remark", "remark"),
)
SPEED_COLUMNS = (Column("work", "work"), Column("seconds", "time", seconds), Column("remark", "remark"))
EXPLICIT_COLUMNS = (
    Column("layers", "layers"),
    Column("intervals", "intervals", number),
    Column("embedded", "embedded,\nrelative difference", number),
    Column("kernel", "kernel's box,\nrelative difference", number),
    Column("implicit", "reach, implicit", number),
    Column("explicit", "reach, explicit", number),
)


def suite(settings: Settings) -> list[Section]:
    networks = [*trained(settings), own(settings)]
    others = list(shared(settings))
    return [
        lipschitz(networks, others, settings),
        local(networks, settings),
        l2(others, settings),
        boxes(networks, others, settings),
        speed(settings),
        explicit(settings),
    ]


# Runs of lipcert.


def _certified(work: Callable[[], Report], limit: float) -> Row:
    """What a run found and its seconds; what it raised, or was stopped, as a remark."""
    began = time.perf_counter()
    row: Row = {}
    try:
        with _stopped(OVERRUN * limit):
            report = work()
    except Exception as error:  # whatever it raises is its result
        row["remark"] = f"{type(error).__name__}: {error}"
    else:
        row |= {"upper": report.upper, "attained": report.lower, "method": report.data["result"].get("method")}
        if report.upper is None:
            reasons = {attempt["reason"] for attempt in report.data["attempts"] if attempt["reason"]}
            row["remark"] = "; ".join(sorted(reasons))
    spent = time.perf_counter() - began
    if spent >= OVERRUN * limit:  # lipcert hands back what it has when it is interrupted
        row["remark"] = "; ".join([f"stopped at {OVERRUN * limit:g} s", *([row["remark"]] if "remark" in row else [])])
    elif spent > OVERRUN / 2 * limit + 5:
        row["remark"] = f"overran its {limit:g} s"
    return row | {"seconds": spent}


@contextlib.contextmanager
def _stopped(limit: float) -> Iterator[None]:
    """What is under way is interrupted after so many seconds."""

    def stop(number: int, frame: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, limit)
    try:
        yield
    except KeyboardInterrupt:
        raise TimeoutError(f"stopped after {limit:g} s") from None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _share(above: float | None, below: float | None) -> float | None:
    return above / below if above is not None and below and math.isfinite(above) else None


def _unsound(row: Row, lower: float, section: Section) -> None:
    """A proven bound below what is attained is a failure."""
    if row.get("upper") is not None and row["upper"] < lower * (1 - SLACK):
        row["remark"] = f"UNSOUND: {1 - row['upper'] / lower:.1e} below"
        section.failures.append(f"{row['network']}: {row['remark']}")


def _medians(rows: list[Row], keys: dict[str, str]) -> list[str]:
    notes = []
    for key, title in keys.items():
        values = [row[key] for row in rows if row.get(key) is not None]
        if values:
            said = f"median {statistics.median(values):.4g}, from {min(values):.4g} to {max(values):.4g}"
            notes.append(f"{title}: {said}, of {len(values)}")
    return notes


# Lipschitz constants.


def lipschitz(networks: list[Network], others: list[Network], settings: Settings) -> Section:
    import lipcert

    section = Section("lipschitz", "Global Lipschitz constants, linf", LIPSCHITZ_COLUMNS)
    section.notes += [
        "mu: the least mu_inf of A over all weights; from 1 on, NEMON has no bound",
        "NEMON: |C| |B| / (1 - mu) with Perron weights; best eta: the least of three weights; M-matrix: "
        "| |C| (I - M)^-1 |B| |; none of them proven. States that do nothing give Perron weights of nearly 0",
        f"ours: lipcert.bound(norm=inf), timeout {GLOBAL_TIMEOUT:g} s, {SHARED_TIMEOUT:g} s for the networks of Revay, "
        "Wang and Manchester",
    ]
    for net in (*networks, *others):
        settings.say(f"{net.name}: linf, global")
        limit = SHARED_TIMEOUT if net in others else GLOBAL_TIMEOUT
        arrays = net.arrays
        row: Row = {"network": net.name, "accuracy": net.accuracy, "mu": peers.perron(arrays.a)[0]}
        row |= {"nemon": peers.nemon(arrays), "nemon_searched": peers.nemon_searched(arrays)}
        row["m_matrix"] = peers.m_matrix(arrays)
        row |= _certified(
            lambda path=net.path, limit=limit: lipcert.bound(path, norm=math.inf, timeout=limit),  # type: ignore[misc]
            limit,
        )
        row |= {
            "gain": _share(row["nemon_searched"], row.get("upper")),
            "gap": _share(row.get("upper"), row.get("attained")),
        }
        rng = np.random.default_rng(0)
        points = np.concatenate([net.images[:10], rng.normal(size=(40, net.images.shape[1]))])
        step = peers.step_for(arrays, net.images[0])
        _unsound(row, max(row.get("attained") or 0.0, peers.jacobian_norms(arrays, points, step).max()), section)
        section.rows.append(row)
    section.notes += _medians(section.rows, {"gain": "NEMON, best eta / ours", "gap": "ours / attained"})
    gains = [row["gain"] for row in section.rows if row["gain"] is not None]
    if gains:
        met = min(gains) >= 1 and statistics.median(gains) >= TIGHTER
        section.notes.append(f"never below 1, at least {TIGHTER} in the median: {goal(met)}")
    return section


def local(networks: list[Network], settings: Settings) -> Section:
    import lipcert

    section = Section("local", f"Local Lipschitz constants, linf: balls of {EPS} around images", LOCAL_COLUMNS)
    section.notes.append(
        f"ours: timeout {LOCAL_TIMEOUT:g} s. sampled: the largest norm of Jacobians at {JACOBIANS} points of the ball, "
        "in float64; ours / attained: over the larger of both"
    )
    rng = np.random.default_rng(0)
    for net in networks:
        step = peers.step_for(net.arrays, net.images[0])
        for k, image in enumerate(net.images[:IMAGES]):
            settings.say(f"{net.name}: linf, image {k}")
            row: Row = {"network": net.name, "image": k}
            row |= _certified(
                lambda path=net.path, x=image: lipcert.bound(  # type: ignore[misc]
                    path, norm=math.inf, center=x, eps=EPS, timeout=LOCAL_TIMEOUT
                ),
                LOCAL_TIMEOUT,
            )
            row["sampled"] = float(
                peers.jacobian_norms(net.arrays, _points(image, EPS, JACOBIANS, rng), step).max(initial=0.0)
            )
            best = max(row["sampled"], row.get("attained") or 0.0)
            row["gap"] = _share(row.get("upper"), best)
            _unsound(row, best, section)
            section.rows.append(row)
    section.notes += _medians(section.rows, {"gap": "ours / attained"})
    gaps = [row["gap"] for row in section.rows]
    within = sum(gap is not None and gap <= LOCAL_GAP for gap in gaps)
    section.notes.append(f"at most {LOCAL_GAP}: {within} of {len(gaps)}")
    return section


def l2(others: list[Network], settings: Settings) -> Section:
    import lipcert

    section = Section("l2", "Global Lipschitz constants, l2, beside LipSDP's optimum", L2_COLUMNS)
    if not others or settings.data is None:
        return section
    reference = json.loads((settings.data / "implicit" / "reference.json").read_text())["files"]
    for net in others:
        settings.say(f"{net.name}: l2")
        row: Row = {"network": net.name, "reference": reference[f"{net.name}.npz"]["lipsdp_l2"]}
        row |= _certified(lambda path=net.path: lipcert.bound(path, timeout=SHARED_TIMEOUT), SHARED_TIMEOUT)  # type: ignore[misc]
        if row.get("upper") is not None:
            row["excess"] = row["upper"] / row["reference"] - 1
        row["goal"] = row.get("excess") is not None and abs(row["excess"]) <= REFERENCE_GAP
        _unsound(row, reference[f"{net.name}.npz"]["jacobian_lower_bound"], section)
        section.rows.append(row)
    return section


# Boxes.


def boxes(networks: list[Network], others: list[Network], settings: Settings) -> Section:
    section = Section("boxes", "Boxes: mean widths of the outputs over linf balls around the first image", BOX_COLUMNS)
    section.notes += [
        "embedded: the embedded network and the natural inclusion of the head, as in immrax; nothing where mu >= 1",
        f"unrolled: interval propagation of {peers.UNROLLED} steps of the averaged iteration; nothing where infinite",
        f"attained: what lipcert.reach found and proved. sampled: the hull of {SAMPLES} fixed points, half of them of "
        "corners; not proven",
        "outputs wider: how many intervals of ours exceed the embedded or the unrolled one",
    ]
    for net, eps in [(n, eps) for n in networks for eps in (SHARED_EPS, EPS)] + [(n, SHARED_EPS) for n in others]:
        settings.say(f"{net.name}: box, eps {eps}")
        section.rows.append(_box(net, eps, section))
    keys = {"embedded_ratio": "embedded / ours", "unrolled_ratio": "unrolled / ours", "gap": "ours / attained"}
    section.notes += _medians(section.rows, keys)
    return section


def _box(net: Network, eps: float, section: Section) -> Row:
    import lipcert

    arrays, image = net.arrays, net.images[0]
    row: Row = {"network": net.name, "eps": eps}
    began = time.perf_counter()
    try:
        with _stopped(OVERRUN * SHARED_TIMEOUT):
            report = lipcert.reach(net.path, center=image, eps=eps)
        low, high = report.lower, report.upper
    except Exception as error:  # whatever it raises is its result
        return row | {"remark": f"{type(error).__name__}: {error}", "seconds": time.perf_counter() - began}
    row |= {"seconds": time.perf_counter() - began, "ours": _width(low, high)}
    if report.attained is not None:
        row["attained"] = _width(*report.attained)
    step = peers.step_for(arrays, image)
    theirs = {
        "embedded": peers.embedded(arrays, image - eps, image + eps),
        "unrolled": peers.unrolled(arrays, image - eps, image + eps, step),
    }
    wider = np.zeros(len(low), dtype=bool)
    for key, box in theirs.items():
        if box is None or not (np.all(np.isfinite(box[0])) and np.all(np.isfinite(box[1]))):
            continue
        row |= {key: _width(*box), f"{key}_ratio": _share(_width(*box), row["ours"])}
        wider |= high - low > (box[1] - box[0]) * (1 + SLACK)
    points = _points(image, eps, SAMPLES, np.random.default_rng(1))
    values = arrays.outputs(peers.fixed_points(arrays, points, step))
    room = SLACK * (1 + np.abs(values).max(axis=0))
    row["contained"] = bool(np.all(values >= low - room) and np.all(values <= high + room))
    row |= {"sampled": _width(values.min(axis=0), values.max(axis=0)), "wider": int(wider.sum())}
    row["gap"] = _share(row["ours"], row.get("attained"))
    if not row["contained"]:
        section.failures.append(f"{net.name}, eps {eps}: a fixed point lies outside of its box")
    return row


def _points(center: np.ndarray, eps: float, count: int, rng: np.random.Generator) -> np.ndarray:
    """Of a ball, the second half of them corners."""
    moves = rng.uniform(-1, 1, size=(count, len(center)))
    moves[count // 2 :] = np.sign(moves[count // 2 :])
    return np.asarray(center + eps * moves)


def _width(low: np.ndarray, high: np.ndarray) -> float:
    return float(np.mean(high - low))


# Speed.


def speed(settings: Settings) -> Section:
    import lipcert

    section = Section("speed", "Speed: random contracting layers (mu = 0.5)", SPEED_COLUMNS)
    rng = np.random.default_rng(0)
    net, path = contracting(80, 784, rng), FOLDER / "contracting_80.onnx"
    _write(net, path)
    centers = rng.uniform(0, 1, size=(REACHES, 784))
    loaded = lipcert.load(path)
    lipcert.reach(loaded, center=centers[0], eps=SHARED_EPS)
    settings.say(f"{REACHES} boxes")
    began = time.perf_counter()
    for x in centers:
        lipcert.reach(loaded, center=x, eps=SHARED_EPS)
    spent = (time.perf_counter() - began) / REACHES
    section.rows.append({"work": "box of 80 states, 784 inputs, eps 0.01, one call", "seconds": spent})
    remark = f"{REACHES} calls extrapolated"
    section.rows.append({"work": f"{MANY} of them", "seconds": spent * MANY, "remark": remark})
    for states in (500, LARGE):
        settings.say(f"linf, {states} states")
        net, path = contracting(states, 100, rng), FOLDER / f"contracting_{states}.onnx"
        _write(net, path)
        row = _certified(lambda path=path: lipcert.bound(path, norm=math.inf, timeout=5), 20)  # type: ignore[misc]
        ways = {"NEMON": peers.nemon(net), "M-matrix": peers.m_matrix(net), "ours": row.get("upper")}
        said = [f"{way} {value:.5g}" for way, value in ways.items() if value is not None]
        remark = "; ".join([*said, row.get("method") or "", row.get("remark", "")]).strip("; ")
        section.rows.append(
            {"work": f"linf of {states} states, timeout 5 s", "seconds": row["seconds"], "remark": remark}
        )
    return section


def contracting(states: int, inputs: int, rng: np.random.Generator, mu: float = 0.5) -> Arrays:
    """A random NEMON layer with trained-looking weights."""
    matrix = rng.normal(size=(states, states)) / states
    scales = np.exp(rng.normal(size=states) / 4)
    a = matrix * scales[:, None] / scales + np.diag(mu - np.abs(matrix).sum(axis=1))
    b = rng.normal(size=(states, inputs)) / math.sqrt(inputs)
    return Arrays(a, b, rng.normal(size=states), rng.normal(size=(10, states)) / math.sqrt(states), np.zeros(10))


def _write(net: Arrays, path: Path) -> None:
    import onnx

    from models.export_implicit import build

    FOLDER.mkdir(exist_ok=True)
    onnx.save(build({"W": net.a, "U": net.b, "b": net.bias, "Wo": net.c, "bo": net.offset}), path)


# Explicit networks.


def explicit(settings: Settings) -> Section:
    """Of chains of ReLU layers, and the same as one implicit layer with a strictly block triangular matrix."""
    import lipcert
    from lipcert.certificate.arithmetic import Arithmetic
    from lipcert.certificate.boxes import propagate
    from lipcert.problem import Box, Query, pose

    section = Section("explicit", "Explicit networks as implicit layers: mean widths", EXPLICIT_COLUMNS)
    section.notes.append(
        "intervals: of the chain. embedded: the embedded network. kernel's box: lipcert.certificate.boxes of the "
        "implicit layer; below 0 where it is narrower. reach: linear bounds"
    )
    rng = np.random.default_rng(0)
    for depth in (1, 2, 4):
        settings.say(f"explicit, {depth} layers")
        sizes = [8, *[20] * depth, 5]
        weights = [rng.normal(size=(m, n)) / math.sqrt(n) for n, m in itertools.pairwise(sizes)]
        biases = [rng.normal(size=len(w)) / 10 for w in weights]
        net = _as_implicit(weights, biases)
        center = rng.normal(size=8)
        low, high = center - EPS, center + EPS
        box = low, high
        for k, (w, bias) in enumerate(zip(weights, biases, strict=True)):
            box = peers.affine(w, *box)
            box = box[0] + bias, box[1] + bias
            if k < depth:
                box = np.maximum(box[0], 0), np.maximum(box[1], 0)
        width = _width(*box)
        embedded = peers.embedded(net, low, high)
        assert embedded is not None
        path = FOLDER / f"explicit_{depth}.onnx"
        _write(net, path)
        row: Row = {"layers": depth, "intervals": width, "embedded": _apart(embedded, box)}
        from lipcert.methods.implicit import with_equilibria

        by = Arithmetic()
        problem = with_equilibria(pose(lipcert.load(path).graph, Query(region=Box(low, high))), by)
        kernel = propagate(problem, by)[problem.y]
        row["kernel"] = _width(*kernel) / width - 1
        for key, model in (("implicit", path), ("explicit", _chain(weights, biases, FOLDER / f"chain_{depth}.onnx"))):
            report = lipcert.reach(model, center=center, eps=EPS)
            row[key] = _width(report.lower, report.upper)
        if row["kernel"] > SLACK:
            section.failures.append(f"explicit, {depth} layers: the kernel's box is wider than interval propagation's")
        section.rows.append(row)
    return section


def _apart(box: peers.Interval, other: peers.Interval) -> float:
    return float(max(np.abs(b - o).max() for b, o in zip(box, other, strict=True)) / np.abs(other).max())


def _as_implicit(weights: list[np.ndarray], biases: list[np.ndarray]) -> Arrays:
    sizes = [len(w) for w in weights[:-1]]
    ends = np.cumsum([0, *sizes])
    a, b = np.zeros((ends[-1], ends[-1])), np.zeros((ends[-1], weights[0].shape[1]))
    c = np.zeros((len(weights[-1]), ends[-1]))
    b[: sizes[0]] = weights[0]
    for k, w in enumerate(weights[1:-1], start=1):
        a[ends[k] : ends[k + 1], ends[k - 1] : ends[k]] = w
    c[:, ends[-2] :] = weights[-1]
    return Arrays(a, b, np.concatenate(biases[:-1]), c, biases[-1])


def _chain(weights: list[np.ndarray], biases: list[np.ndarray], path: Path) -> Path:
    import onnx
    from onnx import helper, numpy_helper

    nodes, stored, name = [], [], "x"
    for k, (w, bias) in enumerate(zip(weights, biases, strict=True)):
        stored += [numpy_helper.from_array(w, f"w{k}"), numpy_helper.from_array(bias, f"b{k}")]
        nodes.append(helper.make_node("Gemm", [name, f"w{k}", f"b{k}"], [f"v{k}"], transB=1))
        name = f"v{k}"
        if k + 1 < len(weights):
            nodes.append(helper.make_node("Relu", [name], [f"z{k}"]))
            name = f"z{k}"
    double = onnx.TensorProto.DOUBLE
    ends = [helper.make_tensor_value_info(n, double, [1, s]) for n, s in (("x", 8), (name, len(weights[-1])))]
    graph = helper.make_graph(nodes, "chain", ends[:1], ends[1:], stored)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return path
