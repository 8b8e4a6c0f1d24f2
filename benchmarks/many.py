"""Many regions at a time: what the device claims in a second, what the kernel proves in one, beside auto_LiRPA.

The device's values are no proof; the kernel's, of the same slopes, are.
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.networks import ball, find
from benchmarks.peers import lirpa
from benchmarks.section import Column, Row, Section, Settings, number, ratio, seconds

if TYPE_CHECKING:
    from lipcert.certificate.claim import Slopes
    from lipcert.frontend import Model
    from lipcert.problem import Problem

CASES = (("mnistfc_256x2", 0.005, 20, 2), ("mnistfc_256x2", 0.03, 20, 2), ("cifar_base_kw", 1 / 255, 8, 1))
"""Networks, radii, how many of the first images, and how many a peer gets: it takes them one at a time."""

PROOFS = 4

WARM = 1
"""Runs that are not timed."""

COLUMNS = (
    Column("network", "network"),
    Column("eps", "eps", number),
    Column("images", "images"),
    Column("device", "device"),
    Column("plain", "claims/s,\nplain planes", ratio),
    Column("searched", "claims/s,\nslopes searched", ratio),
    Column("proven", "proofs/s\n(CPU)", ratio),
    Column("apart", "kernel /\ndevice - 1", number),
    Column("peer_seconds", "auto_LiRPA,\nan image", seconds),
    Column("looser", "ours / theirs,\nlargest", ratio),
    Column("faster", "images/s,\nours / theirs", ratio),
)


def suite(settings: Settings) -> list[Section]:
    section = Section("many", "l-infinity constants of many balls in one call, all outputs", COLUMNS)
    reason = lirpa.available()
    section.notes += [
        "claims/s: boxes of all layers, and the Jacobian with planes for all entries whose sign is open, in float32; "
        "slopes of the lines below ramps 20 steps of Adam a row. proofs/s: the kernel on the CPU, with those slopes",
        f"{lirpa.NAME}: the faster of its two optimised ways, one image at a time, a few images; looser: the largest "
        "of ours over the smaller of theirs"
        if reason is None
        else f"{lirpa.NAME}: {reason}",
    ]
    for name, eps, images, few in CASES:
        path = find(name, settings)
        if path is None:
            section.notes.append(f"skipped {name}: it is not there (--data, or LIPCERT_TEST_DATA)")
            continue
        settings.say(f"{name}, eps {eps:.4g}, {images} images")
        from lipcert.frontend import load_file

        section.rows.append(_row(name, load_file(path, check=False), eps, images, few, settings))
    return [section]


def _row(name: str, model: Model, eps: float, images: int, few: int, settings: Settings) -> Row:
    from lipcert.methods.device import choose_device
    from lipcert.problem import Query, pose

    device = choose_device("auto")
    balls = [ball(name, model, eps, settings, row=k) for k in range(images)]
    problems = [pose(model.graph, Query(math.inf, math.inf, around)) for around in balls]
    row: Row = {"network": name, "eps": eps, "images": images, "device": device.type}
    for key, search in (("plain", False), ("searched", True)):
        for _ in range(WARM + 1):
            began = time.perf_counter()
            values, slopes = claims(problems, device.type, search)
            row[key] = images / (time.perf_counter() - began)
    began = time.perf_counter()
    proofs = [proof(problem, chosen) for problem, chosen in zip(problems[:PROOFS], slopes, strict=False)]
    row["proven"] = len(proofs) / (time.perf_counter() - began)
    row["apart"] = float(np.max(np.array(proofs) / values[:PROOFS] - 1))
    if lirpa.available() is None:
        row |= _peer(model, problems[:few], values, row["searched"])
    return row


def claims(problems: list[Problem], device: str, search: bool) -> tuple[np.ndarray, list[tuple[Slopes, ...]]]:
    """Values of all regions, and the slopes that they rest on."""
    import torch

    from lipcert.certificate.arithmetic import Arithmetic
    from lipcert.certificate.derivative import chain_rule
    from lipcert.methods.propagation import Network, SlopeSearch, bound_rows, norm_bounds, regions_on
    from lipcert.methods.propagation.maps import Maps

    where, kind = torch.device(device), torch.float32
    network = Network(problems[0], where, kind, Arithmetic())
    rule = chain_rule(network.posed, Arithmetic())
    maps = Maps(rule.nodes, where, kind)
    outputs = torch.arange(network.posed.size_out, device=where).repeat(len(problems), 1)
    regions = regions_on([p.query.region for p in problems], where, kind)  # type: ignore[misc]
    chosen = SlopeSearch(network, len(problems))
    net = network.net(regions, chosen.improve) if search else network.net(regions)
    with torch.no_grad():
        rows = bound_rows(network, rule, maps, net, outputs, 2)
        values = norm_bounds(rows, math.inf, math.inf).double().cpu().numpy()
    return values, [tuple(slopes) for slopes in chosen.slopes]


def proof(problem: Problem, slopes: tuple[Slopes, ...]) -> float:
    """What the kernel makes of the slopes."""
    from lipcert.certificate import Claim, verify
    from lipcert.certificate.claim import Local, Rows, Tree

    whole = Tree(np.array([[-1.0, 0.0, 0.0]]), np.zeros(0))
    evidence = Local((Rows(tuple(range(problem.size_out)), whole, 2, 0.0),))
    return verify(problem, Claim(1e300, evidence, linear=True, slopes=slopes))


def _peer(model: Model, problems: list[Problem], values: np.ndarray, ours: float) -> Row:
    from benchmarks.peers.layers import NotAChainError, layers

    found: dict[str, list[tuple[float, float]]] = {}
    try:
        chain = layers(model.graph)
    except NotAChainError:
        return {"peer_seconds": None}
    for problem in problems:
        around = problem.query.region
        ways = dict(lirpa.local_linf(chain, around.center, around.eps))  # type: ignore[union-attr]
        for way in (lirpa.ROWS, lirpa.ENTRIES):
            began = time.perf_counter()
            try:
                value = ways[f"{way}, optimised"]()[0]
            except Exception:  # a peer that fails has no figure
                continue
            found.setdefault(way, []).append((value, time.perf_counter() - began))
    if not found:
        return {"peer_seconds": None}
    best = np.min([[value for value, _ in each] for each in found.values()], axis=0)
    spent = min(float(np.mean([taken for _, taken in each])) for each in found.values())
    return {
        "peer_seconds": spent,
        "looser": float(np.max(values[: len(best)] / best)),
        "faster": ours * spent,
    }
