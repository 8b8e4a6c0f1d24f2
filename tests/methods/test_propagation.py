"""Bounds on a device are those of the kernel, but for roundings: networks of every kind, regions, pieces, slopes."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

import lipcert
from lipcert.certificate import derivative
from lipcert.certificate.arithmetic import Arithmetic
from lipcert.certificate.derivative import chain_rule
from lipcert.certificate.linear_bounds import in_ramps, piece_nets, whole_net
from lipcert.certificate.pieces import Cut, ends
from lipcert.certificate.planes import Net as KernelNet
from lipcert.errors import NotProvedError
from lipcert.graph import Elementwise, Graph
from lipcert.methods.propagation import Network, SlopeSearch, bound_rows, norm_bounds
from lipcert.methods.propagation.maps import Maps
from lipcert.methods.propagation.planes import Net
from lipcert.methods.propagation.regions import regions_on
from lipcert.problem import Ball, Box, Problem, Query, pose
from tests.certificate.test_linear_bounds import GRAPHS
from tests.helpers.graphs import ALL_FUNCTIONS
from tests.helpers.inequalities import NETWORKS
from tests.helpers.paths import MODELS
from tests.helpers.pieces import some_pieces
from tests.soundness.test_bounds import one_layer, random_region

KINDS = ("linf ball", "l2 ball", "l1 ball", "box", "point")
CPU = torch.device("cpu")
EVERY = {**NETWORKS, **GRAPHS}


def same_kind(rng: np.random.Generator, kind: str, n: int, count: int) -> list[Ball | Box]:
    found = [random_region(rng, kind, n) for _ in range(count)]
    return [region for region in found if isinstance(region, Ball | Box)]


def network_of(graph: Graph, region: Ball | Box, dtype: torch.dtype = torch.float64) -> Network:
    return Network(pose(graph, Query(region=region)), CPU, dtype, Arithmetic())


def assert_near(found: torch.Tensor, wanted: np.ndarray, scale: float, error: float) -> None:
    wanted = np.broadcast_to(wanted, found.shape)
    known = np.isfinite(wanted)
    assert np.all(np.abs(found.double().numpy() - wanted)[known] <= error * scale)


def assert_like_kernel(net: Net, kernel: KernelNet, case: int, error: float = 1e-9) -> None:
    """All boxes of a case; the kernel's are wider by roundings."""
    for (low, high), (least, most) in zip(net.boxes, kernel.boxes, strict=True):
        size = max(1.0, float(np.abs(np.where(np.isfinite(most), most, 0)).max(initial=0.0)))
        assert_near(low[case % len(low)], least[0], size, error)
        assert_near(high[case % len(high)], most[0], size, error)


def assert_rows_like_kernel(network: Network, net: Net, problems: list[Problem], steps: int) -> None:
    rule = chain_rule(network.posed, Arithmetic())
    if rule.gradient is None:
        return
    m = network.posed.size_out
    outputs = torch.arange(m).repeat(len(problems), 1)
    rows = bound_rows(network, rule, Maps(rule.nodes, CPU, network.dtype), net, outputs, steps)
    for b, problem in enumerate(problems):
        by = Arithmetic()
        exact = derivative.bound_rows(
            in_ramps(problem, by), rule, whole_net(problem, by), np.arange(m)[None], steps, by
        )
        for norm_in, norm_out in ((math.inf, math.inf), (1.0, 2.0), (2.0, 1.0), (math.inf, 2.0)):
            wanted = derivative.norm_bounds(exact, norm_in, norm_out, by)[0]
            if np.isfinite(wanted):
                assert float(norm_bounds(rows, norm_in, norm_out)[b]) == pytest.approx(wanted, rel=1e-6, abs=1e-12)


@pytest.mark.parametrize("name", EVERY)
def test_boxes_and_rows_are_those_of_the_kernel(name: str) -> None:
    rng = np.random.default_rng([*name.encode(), 5])
    graph = EVERY[name](rng)
    for kind in rng.permutation(KINDS)[:3]:
        regions = same_kind(rng, kind, graph.size(0), 2)
        network = network_of(graph, regions[0])
        net = network.net(regions_on(regions, CPU, torch.float64))
        problems = [pose(graph, Query(region=region)) for region in regions]
        for b, problem in enumerate(problems):
            assert_like_kernel(net, whole_net(problem, Arithmetic()), b)
        assert_rows_like_kernel(network, net, problems, int(rng.integers(8)))


@pytest.mark.parametrize("name", ALL_FUNCTIONS)
def test_boxes_of_groups_are_those_of_the_kernel(name: str) -> None:
    rng = np.random.default_rng([*name.encode(), 6])
    graph = one_layer(rng, ALL_FUNCTIONS[name](rng, 2), 2)
    regions: list[Ball | Box] = [Ball(rng.normal(size=3), eps, math.inf) for eps in (0.0, 0.01, 0.3)]
    try:
        kernel = [whole_net(pose(graph, Query(region=region)), Arithmetic()) for region in regions]
    except NotProvedError:
        pytest.skip("not defined over the region")
    net = network_of(graph, regions[0]).net(regions_on(regions, CPU, torch.float64))
    for b, wanted in enumerate(kernel):
        assert_like_kernel(net, wanted, b, 1e-3)  # the kernel knows some weights up to a radius only


@pytest.mark.parametrize("name", EVERY)
def test_pieces_are_those_of_the_kernel(name: str) -> None:
    rng = np.random.default_rng([*name.encode(), 8])
    graph = EVERY[name](rng)
    region = same_kind(rng, str(rng.choice(KINDS[:4])), graph.size(0), 1)[0]
    by, problem = Arithmetic(), pose(graph, Query(region=region))
    network = network_of(graph, region)
    whole = whole_net(problem, by)
    cuts: list[tuple[Cut, ...]] = []
    for node in network.posed.graph.nodes:
        if isinstance(node, Elementwise):
            low, high = (side[0] for side in whole.boxes[node.input])
            entry = int(rng.integers(len(low)))
            kinks = [k for k in node.activation.kinks if low[entry] < k < high[entry]]
            at = kinks[0] if kinks else float(low[entry] / 2 + high[entry] / 2)
            for below in (False, True):
                cuts.append(
                    (Cut(node.input, entry, at, below), Cut(0, 0, float(region.bounds(graph.size(0))[0][0]), False))
                )
    if not cuts:
        pytest.skip("nothing to cut")
    pieces = ends(cuts, network.posed.graph)
    net = network.pieces(network.net(regions_on([region], CPU, torch.float64)), pieces)
    kernel = piece_nets(problem, pieces, whole, by)
    assert net.empty is not None
    assert not np.any(net.empty.numpy() & ~kernel.empty)
    for b in np.flatnonzero(~kernel.empty):
        assert_like_kernel(net, some_pieces(kernel, np.array([b])).net, int(b))
    for i, slopes in kernel.net.slopes.items():
        for found, wanted in zip(net.slopes[i], slopes, strict=True):
            kept = ~kernel.empty if len(found) > 1 and len(wanted) > 1 else slice(None)
            assert_near(found[kept], wanted[kept], 1.0, 1e-6)


@pytest.mark.parametrize("name", ["relu", "maxmin", "max of 3"])
def test_slopes_that_are_found_for_many_regions_are_proven_one_by_one(name: str) -> None:
    rng = np.random.default_rng([*name.encode(), 9])
    graph = EVERY[name](rng)
    regions = [Ball(rng.normal(size=graph.size(0)), 0.3, math.inf) for _ in range(4)]
    network = network_of(graph, regions[0])
    search = SlopeSearch(network, len(regions))
    plain = network.net(regions_on(regions, CPU, torch.float64))
    net = network.net(regions_on(regions, CPU, torch.float64), search.improve)
    y = network.posed.y
    for b, region in enumerate(regions):
        kernel = whole_net(pose(graph, Query(region=region)), Arithmetic(), tuple(search.slopes[b]))
        assert_like_kernel(net, kernel, b, 1e-6)
    before, after = (float((high - low).sum()) for low, high in (plain.boxes[y], net.boxes[y]))
    assert after < 0.999 * before


@pytest.mark.parametrize("path", sorted(MODELS.glob("*.onnx")), ids=lambda path: path.stem)
def test_single_precision_is_near_on_sample_networks(path: Path) -> None:
    graph = lipcert.load(path).graph
    rng = np.random.default_rng([*path.stem.encode()])
    regions: list[Ball | Box] = [Ball(rng.random(graph.size(0)), 0.01, p) for p in (math.inf, 2.0)]
    for region in regions:
        net = network_of(graph, region, torch.float32).net(regions_on([region], CPU, torch.float32))
        assert_like_kernel(net, whole_net(pose(graph, Query(region=region)), Arithmetic()), 0, 1e-4)
