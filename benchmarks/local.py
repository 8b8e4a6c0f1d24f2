"""Bounds over regions: Lipschitz constants and boxes beside auto_LiRPA, exactness beside HiGHS, growth with size.

Whatever lipcert says here is proven by its kernel; a peer's values, in float32 and without error bounds, are not.
"""

from __future__ import annotations

import contextlib
import math
import re
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib import util
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.claims import linear_claims, norm_at_center, patient
from benchmarks.local_growth import growth
from benchmarks.networks import ball, find
from benchmarks.peers import lirpa
from benchmarks.section import Column, Row, Section, Settings, number, ratio, seconds

if TYPE_CHECKING:
    from benchmarks.peers.layers import Layers
    from lipcert.frontend import Model
    from lipcert.planning import Outcome
    from lipcert.problem import Ball, Box, Norm, Region
    from lipcert.report import Report

NETWORK = "mnistfc_256x2"
IMAGES = 3
"""The first images of the file; as many of the digits."""
EPS = (0.001, 0.005, 0.01, 0.03)
TIMEOUT, LINEAR_TIMEOUT = 20.0, 30.0
CONVOLUTIONAL, PIXEL = "cifar_base_kw", 1 / 255

HIDDEN = {"digits 2x32": (32, 32), "digits 3x32": (32, 32, 32)}
SEED, EPOCHS, HELD_OUT = 0, 300, 100
RADIUS = 0.1
NORMS: dict[str, Norm] = {"l2": 2.0, "linf": math.inf}
PATIENCE = 60.0
TIGHT = 1.01 * (1 + 1e-6)
"""What --exact stops at, and the room that bounds leave for a checker."""
MIP = ("digits 2x32", "linf")
MIP_TIMEOUT = 120.0

ABSENT = "not installed"
"""In the columns of a peer that is not there."""

LIPSCHITZ_COLUMNS = (
    Column("eps", "eps", number),
    Column("image", "image"),
    Column("center", "at the\ncenter", number),
    Column("attained", "attained", number),
    Column("linear", "linear\nbounds", number),
    Column("linear_seconds", "time", seconds),
    Column("upper", "whole", number),
    Column("gap", "whole /\nattained", lambda x: f"{x:.4g}"),
    Column("pieces", "pieces"),
    Column("seconds", "time", seconds),
    Column("check_seconds", "check", seconds),
    Column("rows", "auto_LiRPA\nrows", lambda x: _given(x, number)),
    Column("rows_seconds", "time", seconds),
    Column("entries", "auto_LiRPA\nentries", lambda x: _given(x, number)),
    Column("entries_seconds", "time", seconds),
    Column("linear_ratio", "linear /\ntheirs", ratio),
    Column("whole_ratio", "whole /\ntheirs", ratio),
    Column("remark", "remark"),
)
EXACT_COLUMNS = (
    Column("network", "network"),
    Column("region", "region"),
    Column("norm", "norm"),
    Column("upper", "upper", lambda x: f"{x:.8g}"),
    Column("attained", "attained", lambda x: f"{x:.8g}"),
    Column("gap", "gap", lambda x: f"{x:.6g}"),
    Column("pieces", "pieces"),
    Column("seconds", "time", seconds),
    Column("tight_seconds", "to 1 %", seconds),
    Column("check_seconds", "check", seconds),
    Column("mip", "HiGHS\n(not proven)", lambda x: f"{x:.8g}"),
    Column("mip_bound", "its own\nbound", lambda x: f"{x:.8g}"),
    Column("mip_seconds", "time", seconds),
    Column("remark", "remark"),
)
BOX_COLUMNS = (
    Column("network", "network"),
    Column("eps", "eps", number),
    Column("image", "image"),
    Column("attained", "attained", number),
    Column("intervals", "intervals", number),
    Column("intervals_seconds", "time", lambda s: f"{s:.3f} s"),
    Column("lines", "CROWN lines", number),
    Column("lines_seconds", "time", lambda s: f"{s:.3f} s"),
    Column("reach", "reach", number),
    Column("reach_seconds", "time", seconds),
    Column("crown", "auto_LiRPA\nCROWN", lambda x: _given(x, number)),
    Column("crown_seconds", "time", lambda s: f"{s:.3f} s"),
    Column("alpha", "auto_LiRPA\nalpha-CROWN", lambda x: _given(x, number)),
    Column("alpha_seconds", "time", seconds),
    Column("lines_ratio", "lines /\nCROWN", lambda x: f"{x:.4g}"),
    Column("reach_ratio", "reach /\nalpha-CROWN", lambda x: f"{x:.4g}"),
    Column("remark", "remark"),
)


def suite(settings: Settings) -> list[Section]:
    _warm(settings)
    return [_lipschitz(settings), _exactness(settings), _boxes(settings), growth(settings)]


def _given(value: Any, show: Callable[[Any], str]) -> str:
    return value if isinstance(value, str) else show(value)


def _warm(settings: Settings) -> None:
    """Load what the first search of a process loads; importing is not what is measured here."""
    import lipcert

    model = settings.models / "digits_relu.onnx"
    lipcert.bound(model, norm=math.inf, center=0.5, eps=0.01, timeout=2)
    lipcert.reach(model, center=0.5, eps=0.01)


# Runs of lipcert.


def _result(report: Report) -> Row:
    """What a run found; the pieces of the last tree that it grew, where there is one."""
    said = [re.search(r"(\d+) pieces", attempt["reason"] or "") for attempt in report.data["attempts"]]
    return {
        "upper": report.upper,
        "attained": report.lower,
        "gap": report.gap,
        "pieces": next((int(found[1]) for found in reversed(said) if found), None),
        "seconds": report.data["result"]["seconds"],
    }


def _checked(report: Report, load: Callable[[], Model]) -> Row:
    """Seconds of the check, by a model that has seen nothing."""
    import lipcert

    if report.upper is None:
        return {}
    model = load()
    began = time.perf_counter()
    lipcert.check(report, model)
    return {"check_seconds": time.perf_counter() - began}


# Lipschitz constants.


def _lipschitz(settings: Settings) -> Section:
    title = f"Local Lipschitz constants, linf, {NETWORK}: balls of radius eps around {IMAGES} images"
    section = Section("lipschitz", title, LIPSCHITZ_COLUMNS)
    section.notes += [
        f"linear bounds: the best of the first claims of --method local --timeout {LINEAR_TIMEOUT:g}, of the Jacobian "
        f"over the whole ball. whole: --exact --timeout {TIMEOUT:g}, which stops at 1 %; its time has the search for "
        "the attained value",
        "auto_LiRPA, its intermediate bounds optimised, in float32 without error bounds. rows: the l1 norm of each "
        "output's gradient as one quantity; entries: bounds of the Jacobian's entries. Time from the weights on",
        "theirs: the smaller of the two",
        *_presence(settings),
    ]
    for eps, image, around, load in _around_images(NETWORK, EPS, section, settings):
        settings.say(f"{NETWORK}, image {image}, eps {eps}: lipcert")
        row: Row = {"eps": eps, "image": image} | _own_lipschitz(around, load)
        row |= _peer_lipschitz(around, load, settings)
        theirs = [row[key] for key in ("rows", "entries") if isinstance(row[key], float)]
        for key, ours in (("linear_ratio", "linear"), ("whole_ratio", "upper")):
            if theirs and row.get(ours) is not None:
                row[key] = row[ours] / min(theirs)
        row["remark"] = _below_attained(row, ("rows", "entries"))
        section.rows.append(row)
    section.notes += _summary(section.rows, (("linear bounds", "linear_ratio"), ("whole", "whole_ratio")))
    return section


def _presence(settings: Settings) -> list[str]:
    reason = lirpa.available()
    if reason is not None:
        settings.say(f"skipped {lirpa.NAME}: {reason}")
    return [f"{lirpa.NAME} {lirpa.version()}" if reason is None else f"{lirpa.NAME}: {reason}"]


def _around_images(
    name: str, radii: tuple[float, ...], section: Section, settings: Settings
) -> Iterator[tuple[float, int, Ball, Callable[[], Model]]]:
    """Each radius with each image, in float32: the same ball for a peer that works in it. And how to load the network.

    A graph keeps what was computed with it, so that each run wants its own.
    """
    path = find(name, settings)
    if path is None:
        section.notes.append(f"skipped: {name} is not there (--data, or LIPCERT_TEST_DATA)")
        return
    from lipcert.problem import Ball

    for eps in radii:
        for image in range(IMAGES):
            around = ball(name, _loaded(path), eps, settings, row=image)
            yield eps, image, Ball(around.center.astype(np.float32).astype(float), eps, math.inf), lambda: _loaded(path)


def _loaded(path: Path) -> Model:
    from lipcert.frontend import load_file

    return load_file(path, check=False)


def _own_lipschitz(around: Ball, load: Callable[[], Model]) -> Row:
    import lipcert

    report = lipcert.bound(load(), norm=math.inf, region=around, exact=True, timeout=TIMEOUT)
    row = _result(report) | _checked(report, load)
    return row | _linear(load(), around)


def _linear(model: Model, around: Ball) -> Row:
    """The best linear bounds, the seconds after which they were there, and the norm at the center."""
    from lipcert.methods import OutOfTime, Unsuitable
    from lipcert.problem import Query, pose

    problem = pose(model.graph, Query(math.inf, math.inf, around))
    row: Row = {}
    taken = 0.0
    with contextlib.suppress(OutOfTime, Unsuitable):  # what was there before counts
        for claim, spent in linear_claims(problem, patient(LINEAR_TIMEOUT)):
            taken += spent
            if claim.value < row.get("linear", math.inf):
                row = {"linear": claim.value, "linear_seconds": taken}
    return row | {"center": norm_at_center(problem)}


def _layers(model: Model) -> Layers:
    from benchmarks.peers.layers import layers

    return layers(model.graph)


def _peer_lipschitz(around: Ball, load: Callable[[], Model], settings: Settings) -> Row:
    if lirpa.available() is not None:
        return {"rows": ABSENT, "entries": ABSENT}
    ways = dict(lirpa.local_linf(_layers(load()), around.center, around.eps))
    row: Row = {}
    for key, way in (("rows", lirpa.ROWS), ("entries", lirpa.ENTRIES)):
        settings.say(f"  {lirpa.NAME}: {way}")
        row |= _measured(key, lambda way=way: ways[f"{way}, optimised"]()[0])  # type: ignore[misc]
    return row


def _measured(key: str, work: Callable[[], float]) -> Row:
    """A peer's value and time, or what it raised."""
    began = time.perf_counter()
    try:
        return {key: work(), f"{key}_seconds": time.perf_counter() - began}
    except Exception as error:  # whatever a peer raises is its result
        return {key: "failed", "remark": f"{lirpa.NAME}: {type(error).__name__}: {error}"}


def _below_attained(row: Row, keys: tuple[str, ...]) -> str:
    """What there is to say of peers' values that are wrong, or what they raised."""
    attained = row.get("attained", 0.0)
    wrong = {key: 1 - row[key] / attained for key in keys if isinstance(row.get(key), float) and row[key] < attained}
    said = [f"UNSOUND: {key} {by:.1e} below" for key, by in wrong.items()]
    return "; ".join(said) or row.get("remark", "")


# Exactness.


def _exactness(settings: Settings) -> Section:
    title = "Exactness: --exact, which stops where upper / attained is at most 1.01"
    section = Section("exactness", title, EXACT_COLUMNS)
    section.notes += [
        f"digits: ReLU networks trained here (seed {SEED}) on scikit-learn's digits, pixels / 16; balls of {RADIUS} "
        f"around {IMAGES} images that they were not trained on; acasxu_1_1 over the box of prop_3; --timeout "
        f"{PATIENCE:g}",
        f"pieces: bounded by branching, of all outputs together. HiGHS: --method mip --timeout {MIP_TIMEOUT:g}, half "
        "of which it may take; its time has that of the first claim",
    ]
    section.rows += _digits(section, settings)
    section.rows += _acasxu(section, settings)
    return section


def _digits(section: Section, settings: Settings) -> Iterator[Row]:
    if not util.find_spec("sklearn"):
        section.notes.append("skipped digits: scikit-learn is not installed")
        return
    from lipcert.problem import Ball

    images, labels = _data()
    with tempfile.TemporaryDirectory() as folder:
        for name, hidden in HIDDEN.items():
            settings.say(f"{name}: training")
            path, accuracy = _trained(hidden, Path(folder) / f"{name}.onnx", images, labels)
            section.notes.append(f"{name}: accuracy {accuracy:.0%} on {HELD_OUT} images that it was not trained on")
            for norm, p in NORMS.items():
                for image in range(IMAGES):
                    region = Ball(images[image].astype(float), RADIUS, p)
                    row: Row = {"network": name, "region": f"image {image}", "norm": norm}
                    row |= _exact(lambda path=path: _loaded(path), p, region, row, settings)  # type: ignore[misc]
                    if (name, norm) == MIP:
                        row |= _by_mip(_loaded(path), p, region)
                    yield row


def _data() -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(SEED).permutation(len(labels))
    return (images[order] / 16).astype(np.float32), labels[order]


def _trained(hidden: tuple[int, ...], path: Path, images: np.ndarray, labels: np.ndarray) -> tuple[Path, float]:
    """A network of these layers, trained with Adam on all images at once, and its accuracy on those held out."""
    import onnx
    import torch
    from torch import nn

    from lipcert.frontend.torch_export import export

    torch.manual_seed(SEED)
    sizes = (images.shape[1], *hidden)
    modules = [part for n, m in zip(sizes, hidden, strict=False) for part in (nn.Linear(n, m), nn.ReLU())]
    network = nn.Sequential(*modules, nn.Linear(hidden[-1], int(labels.max()) + 1))
    x, y = torch.tensor(images), torch.tensor(labels)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01, weight_decay=1e-3)
    for _ in range(EPOCHS):
        loss = nn.functional.cross_entropy(network(x[HELD_OUT:]), y[HELD_OUT:])
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
    right = network(x[:HELD_OUT]).argmax(dim=1) == y[:HELD_OUT]
    onnx.save(export(network, x[:1]), path)
    return path, float(right.double().mean())


def _acasxu(section: Section, settings: Settings) -> Iterator[Row]:
    path, region = _prop_3(section, settings)
    if path is None or region is None:
        return
    for norm, p in NORMS.items():
        row: Row = {"network": "acasxu_1_1", "region": "prop_3", "norm": norm}
        yield row | _exact(lambda path=path: _loaded(path), p, region, row, settings)  # type: ignore[misc]


def _prop_3(section: Section, settings: Settings) -> tuple[Path | None, Box | None]:
    """acasxu_1_1 and the box of prop_3, or None after a note."""
    path = find("acasxu_1_1", settings)
    spec = path.with_name("prop_3.vnnlib") if path else None
    if path is None or spec is None or not spec.is_file():
        section.notes.append("skipped acasxu_1_1: the network or prop_3.vnnlib is not there (--data)")
        return None, None
    from lipcert.problem.reading import read_vnnlib

    return path, read_vnnlib(str(spec), math.prod(_loaded(path).inputs[0].shape))


def _exact(load: Callable[[], Model], p: Norm, region: Region, about: Row, settings: Settings) -> Row:
    import lipcert

    settings.say(", ".join(about.values()))
    report = lipcert.bound(load(), norm=p, region=region, exact=True, timeout=PATIENCE)
    row = _result(report) | _checked(report, load)
    if row["gap"] is not None and row["gap"] <= TIGHT:
        row["tight_seconds"] = row["seconds"]
    return row


def _by_mip(model: Model, p: Norm, region: Region) -> Row:
    """What HiGHS says and its time, with that of the first claim."""
    import lipcert

    def stop(what: str, outcome: Outcome) -> None:
        if outcome.attempts:
            raise KeyboardInterrupt  # what was found until here is kept: it has the answer

    report = lipcert.bound(model, norm=p, region=region, method="mip", timeout=MIP_TIMEOUT, on_step=stop)
    first = report.data["attempts"][0]
    said = re.search(r"HiGHS says (\S+), at most (\S+)", first["reason"] or "")
    if said is None:
        return {"remark": f"mip: {first['reason']}"}
    return {"mip": float(said[1]), "mip_bound": float(said[2]), "mip_seconds": first["seconds"]}


# Boxes.


def _boxes(settings: Settings) -> Section:
    title = "Boxes: the mean width of the outputs' intervals over linf balls of radius eps, and over the box of prop_3"
    section = Section("boxes", title, BOX_COLUMNS)
    section.notes += [
        "attained: between values that `lipcert.reach` found and proved at points; its time has the search for them",
        "auto_LiRPA: a new module for each call, in its time; convolutions as they are",
        *_presence(settings),
    ]
    for name, radii in ((NETWORK, EPS), (CONVOLUTIONAL, (PIXEL,))):
        for eps, image, around, load in _around_images(name, radii, section, settings):
            settings.say(f"boxes of {name}, image {image}, eps {eps:.4g}")
            row: Row = {"network": name, "eps": eps, "image": image}
            section.rows.append(row | _own_boxes(around, load) | _peer_boxes(around, load))
    section.rows += _acasxu_boxes(section, settings)
    for row in section.rows:
        for key, ours, theirs in (("lines_ratio", "lines", "crown"), ("reach_ratio", "reach", "alpha")):
            if isinstance(row[theirs], float):
                row[key] = row[ours] / row[theirs]
        row["remark"] = _below_attained(row, ("crown", "alpha"))
    section.notes += _summary(section.rows, (("CROWN lines", "lines_ratio"), ("reach", "reach_ratio")))
    return section


def _acasxu_boxes(section: Section, settings: Settings) -> Iterator[Row]:
    from lipcert.problem import Box

    path, region = _prop_3(section, settings)
    if path is not None and region is not None:
        settings.say("boxes of acasxu_1_1, prop_3")
        near = Box(*(end.astype(np.float32).astype(float) for end in (region.lower, region.upper)))
        row: Row = {"network": "acasxu_1_1"}
        yield row | _own_boxes(near, lambda: _loaded(path)) | _peer_boxes(near, lambda: _loaded(path))


def _own_boxes(around: Region, load: Callable[[], Model]) -> Row:
    import lipcert
    from lipcert.certificate.arithmetic import Arithmetic
    from lipcert.certificate.boxes import propagate
    from lipcert.certificate.linear_bounds import linear_boxes
    from lipcert.problem import Query, pose

    row: Row = {}
    for key, boxes in (("intervals", propagate), ("lines", linear_boxes)):
        problem = pose(load().graph, Query(region=around))
        began = time.perf_counter()
        low, high = boxes(problem, Arithmetic())[problem.y]
        row |= {f"{key}_seconds": time.perf_counter() - began, key: _width(low, high)}
    report = lipcert.reach(load(), region=around)
    row |= {"reach": _width(report.lower, report.upper), "reach_seconds": report.data["result"]["seconds"]}
    return row if report.attained is None else row | {"attained": _width(*report.attained)}


def _peer_boxes(around: Ball | Box, load: Callable[[], Model]) -> Row:
    if lirpa.available() is not None:
        return {"crown": ABSENT, "alpha": ABSENT}
    from benchmarks.peers.layers import modules

    ways = dict(lirpa.boxes(modules(load().graph), around))
    row: Row = {}
    for key, way in (("crown", lirpa.CROWN), ("alpha", lirpa.ALPHA)):
        row |= _measured(key, lambda way=way: _width(*ways[way]()))  # type: ignore[misc]
    return row


def _width(low: np.ndarray, high: np.ndarray) -> float:
    return float(np.mean(np.asarray(high, dtype=float) - np.asarray(low, dtype=float)))


# Ours beside theirs.


def _summary(rows: list[Row], ratios: tuple[tuple[str, str], ...]) -> list[str]:
    """The median and the worst of ratios."""
    notes = []
    for name, key in ratios:
        values = [row[key] for row in rows if key in row]
        if values:
            notes.append(f"{name}, ours / theirs: median {statistics.median(values):.4g}, worst {max(values):.4g}")
    return notes
