"""Convolutional networks as torch exports them: no bound by any method is below what the network itself does."""

from __future__ import annotations

import copy
import json
import math
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

import lipcert
from lipcert.errors import CertificateError
from lipcert.frontend import Model, load_proto
from lipcert.problem import Norm
from tests.helpers.exporters import DYNAMO, Function, Residual, maxmin_of_channels
from tests.helpers.processes import run_process

METHODS = ("product", "gram")
ROUNDING = 1e-5
"""Exporters fold batch normalisation in float32, so that a file is not quite the module."""

EPS = 0.02
PAIRS, POINTS, STEPS = 300, 16, 20
APART = 1.5
"""How much more Gram iteration may give, which takes the symbol where others take the dense form of small maps."""

TIMEOUT = 20.0

Shape = tuple[int, ...]


class Skip(nn.Module):
    """Two branches from the same maps, added; `skip` is the shorter one."""

    def __init__(self, body: nn.Module, skip: nn.Module) -> None:
        super().__init__()
        self.body, self.skip = body, skip

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x) + self.skip(x)


def network(
    *layers: nn.Module, channels: int = 2, tail: int = 3, shape: Shape = (1, 2, 6, 6)
) -> tuple[nn.Module, Shape]:
    """These layers and a dense head on whatever they leave."""
    body = nn.Sequential(*layers, nn.Flatten())
    with torch.no_grad():
        features = body.eval()(torch.zeros(shape)).shape[1]
    return nn.Sequential(body, nn.Linear(features, tail)), shape


def padded(mode: str, **options: Any) -> Callable[[], tuple[nn.Module, Shape]]:
    return lambda: network(
        nn.Conv2d(2, 4, 3, padding=1, padding_mode=mode, **options),
        nn.ReLU(),
        nn.Conv2d(4, 3, 3, padding=2, padding_mode=mode),
        nn.LeakyReLU(0.1),
    )


def block(before: int, after: int, stride: int) -> nn.Module:
    body = nn.Sequential(
        nn.Conv2d(before, after, 3, stride, 1, bias=False),
        nn.BatchNorm2d(after),
        nn.ReLU(),
        nn.Conv2d(after, after, 3, 1, 1, bias=False),
        nn.BatchNorm2d(after),
    )
    around = nn.Identity() if (before, stride) == (after, 1) else nn.Conv2d(before, after, 1, stride, bias=False)
    return nn.Sequential(Skip(body, around), nn.ReLU())


NETWORKS: dict[str, Callable[[], tuple[nn.Module, Shape]]] = {
    **{f"padded by {mode}": padded(mode) for mode in ("zeros", "circular", "reflect", "replicate")},
    **{f"padded by {mode}, stride 2": padded(mode, stride=2) for mode in ("circular", "replicate")},
    "circular, stride 4 of 6": lambda: network(nn.Conv2d(2, 3, 3, 4, 2, padding_mode="circular"), nn.ReLU()),
    "circular in one direction": lambda: network(
        nn.CircularPad2d((1, 1, 0, 0)), nn.Conv2d(2, 4, 3, padding=(1, 0)), nn.ReLU()
    ),
    "replicated far out": lambda: network(nn.ReplicationPad2d(4), nn.Conv2d(2, 3, 3), nn.ReLU()),
    "pads of seven": lambda: network(nn.Conv2d(2, 3, 3, padding=5), nn.ReLU(), nn.Conv2d(3, 2, 3, 3), nn.Tanh()),
    "dilated": lambda: network(
        nn.Conv2d(2, 4, 3, padding=2, dilation=2), nn.ReLU(), nn.Conv2d(4, 3, 3, 2, 3, dilation=3), nn.ReLU()
    ),
    "strides of their own": lambda: network(nn.Conv2d(2, 4, (3, 2), (1, 2), (1, 0)), nn.ReLU(), nn.Conv2d(4, 2, 2, 3)),
    "grouped": lambda: network(
        nn.Conv2d(2, 8, 3, padding=1, groups=2), nn.ReLU(), nn.Conv2d(8, 4, 3, 2, 1, groups=4), nn.ReLU()
    ),
    "depthwise separable": lambda: network(
        nn.BatchNorm2d(2),
        nn.Conv2d(2, 6, 1),
        nn.ReLU6(),
        nn.Conv2d(6, 6, 3, padding=1, groups=6),
        nn.BatchNorm2d(6),
        nn.Conv2d(6, 4, 1),
        nn.ReLU(),
    ),
    "transposed": lambda: network(
        nn.Conv2d(2, 4, 3, 2, 1), nn.ReLU(), nn.ConvTranspose2d(4, 2, 3, 2, 1, output_padding=1), nn.ReLU()
    ),
    "transposed, dilated groups": lambda: network(
        nn.ConvTranspose2d(2, 4, 3, stride=2, padding=2, dilation=2, groups=2), nn.ReLU(), nn.AvgPool2d(2)
    ),
    "one axis": lambda: network(
        nn.Conv1d(2, 4, 5, padding=2),
        nn.ReLU(),
        nn.Conv1d(4, 4, 3, 2, padding=1, padding_mode="circular"),
        nn.ReLU(),
        nn.ConvTranspose1d(4, 2, 4, 2, 1),
        nn.AvgPool1d(3, 2, 1),
        shape=(1, 2, 12),
    ),
    "three axes": lambda: network(
        nn.Conv3d(2, 3, 3, padding=1),
        nn.ReLU(),
        nn.Conv3d(3, 2, 2, 2, padding_mode="replicate", padding=1),
        nn.ReLU(),
        nn.MaxPool3d(2),
        shape=(1, 2, 4, 4, 4),
    ),
    "average pooling": lambda: network(
        nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2), nn.Conv2d(4, 4, 2), nn.ReLU()
    ),
    "average pooling, padded": lambda: network(
        nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.AvgPool2d(3, 2, 1), nn.Conv2d(4, 4, 2), nn.ReLU()
    ),
    "average pooling of what is inside": lambda: network(
        nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.AvgPool2d(3, 1, 1, count_include_pad=False)
    ),
    "linear to the end": lambda: network(
        nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 3, 1), nn.AvgPool2d(2), nn.Conv2d(3, 2, 2)
    ),
    "padded after padded": lambda: network(nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(4, 3, 3, padding=1), nn.ReLU()),
    "overlapping maxima": lambda: network(
        nn.Conv2d(2, 4, 3, padding=1),
        nn.MaxPool2d(3, 2, 1),
        nn.Conv2d(4, 4, 3, padding=1),
        nn.MaxPool2d(2, 1),
        nn.ReLU(),
    ),
    "maxmin of channels": lambda: network(
        nn.Conv2d(2, 6, 3, padding=1, padding_mode="circular"),
        Function(maxmin_of_channels),
        nn.Conv2d(6, 4, 3, 2, 1),
        Function(maxmin_of_channels),
    ),
    "residual blocks": lambda: network(
        nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), block(4, 4, 1), block(4, 6, 2), nn.AvgPool2d(3)
    ),
    "residual, linear inside": lambda: network(
        Residual(nn.Conv2d(2, 2, 3, padding=1)),
        nn.ReLU(),
        Residual(nn.Conv2d(2, 2, 3, padding=1, padding_mode="circular")),
    ),
    "stride 2 around a pool": lambda: network(
        Skip(nn.Sequential(nn.Conv2d(2, 4, 3, 2, 1), nn.ReLU()), nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(2, 4, 1))),
        nn.ReLU(),
    ),
    "maps of 32": lambda: network(
        nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.AvgPool2d(8), nn.Conv2d(4, 4, 3), nn.ReLU(), shape=(1, 3, 32, 32)
    ),
    "maps of 32, circular": lambda: network(
        nn.Conv2d(3, 4, 3, padding=1, padding_mode="circular"), nn.ReLU(), nn.AvgPool2d(8), shape=(1, 3, 32, 32)
    ),
}

IN_A_BALL = ("padded by reflect", "transposed", "overlapping maxima", "three axes")
IN_A_FRESH_PROCESS = ("padded by circular, stride 2", "residual blocks")


@dataclass(frozen=True, eq=False)
class Exported:
    """A module in double precision, its file as an import, and the shape of its input."""

    module: nn.Module
    shape: Shape
    proto: onnx.ModelProto
    model: Model


@cache
def exported(name: str) -> Exported:
    """Seeded; batch norms have statistics other than 0 and 1."""
    torch.manual_seed(len(name))
    module, shape = NETWORKS[name]()
    for norm in (m for m in module.modules() if isinstance(m, nn.BatchNorm2d)):
        norm.running_mean = torch.linspace(-1, 1, norm.num_features)
        norm.running_var = torch.linspace(0.3, 3, norm.num_features)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        proto = DYNAMO(module.eval(), shape)
    return Exported(copy.deepcopy(module).double(), shape, proto, load_proto(proto))


@cache
def report_of(name: str, method: str, norm: Norm) -> lipcert.Report:
    """Everywhere for l2; in a small ball for l-infinity."""
    region = {} if norm == 2 else {"center": center(name), "eps": EPS}
    return lipcert.bound(exported(name).model, norm=norm, method=method, timeout=TIMEOUT, **region)


def center(name: str) -> np.ndarray:
    return 0.5 * np.random.default_rng(3).standard_normal(math.prod(exported(name).shape))


def ratios(source: Exported, x: Tensor, other: Tensor, norm: Norm) -> Tensor:
    rise = source.module(x.reshape(-1, *source.shape[1:])) - source.module(other.reshape(-1, *source.shape[1:]))
    return rise.norm(p=norm, dim=1) / (x - other).norm(p=norm, dim=1)


def steepest(name: str, norm: Norm, inside: Callable[[Tensor], Tensor]) -> float:
    """Of random pairs, far apart and close together, of pairs that climb, and of Jacobians at points."""
    source, size = exported(name), math.prod(exported(name).shape)
    generator = torch.Generator().manual_seed(0)

    def draw(count: int) -> Tensor:
        return inside(torch.randn((count, size), generator=generator, dtype=torch.double))

    x = draw(PAIRS)
    other = x + (draw(PAIRS) - x) * 10.0 ** -torch.randint(0, 5, (PAIRS, 1), generator=generator)
    found = float(ratios(source, x, other, norm).detach().max())
    pair = [draw(16).requires_grad_(), draw(16).requires_grad_()]
    climb = torch.optim.Adam(pair, lr=0.05 if norm == 2 else EPS / 10)
    for _ in range(STEPS):
        here = ratios(source, *(inside(p) for p in pair), norm)
        found = max(found, float(here.detach().max()))
        climb.zero_grad()
        (-here.log().sum()).backward()
        climb.step()
    for point in draw(POINTS):
        matrix = torch.func.jacrev(source.module)(point.reshape(source.shape)).reshape(-1, size)
        found = max(found, float(torch.linalg.matrix_norm(matrix.detach(), norm)))
    return found


def in_ball(name: str) -> Callable[[Tensor], Tensor]:
    middle = torch.from_numpy(center(name))
    return lambda x: middle + EPS * (1 - 1e-9) * torch.tanh(x - middle)


@cache
def sampled(name: str, norm: Norm) -> float:
    return steepest(name, norm, (lambda x: x) if norm == 2 else in_ball(name))


CASES = [(name, 2.0) for name in NETWORKS] + [(name, math.inf) for name in IN_A_BALL]


@pytest.mark.one_in(3)
@pytest.mark.parametrize(("name", "norm"), CASES, ids=[f"{name}-l{norm:g}" for name, norm in CASES])
def test_no_sampled_ratio_exceeds_either_bound_and_both_agree(name: str, norm: Norm) -> None:
    """Gram iteration shares no proof of an l2 norm with `product`, and chains alike. Both reports are accepted."""
    least = max(sampled(name, norm) / (1 + ROUNDING), *(report_of(name, method, norm).lower for method in METHODS))
    uppers = []
    for method in METHODS:
        report = report_of(name, method, norm)
        assert report.status == "certified"
        assert report.upper is not None
        assert 0 < report.lower <= report.upper < math.inf
        assert least <= report.upper, method
        checked = lipcert.check(lipcert.Report(json.loads(report.to_json())), exported(name).model)
        assert report.lower <= checked.lower <= checked.upper <= report.upper
        uppers.append(report.upper)
    product, gram = uppers
    assert product <= gram * (1 + 1e-3)
    if norm == 2:  # else `product` also has chains of absolute values
        assert gram <= product * APART


def test_a_linear_network_is_bounded_by_its_norm() -> None:
    """What the samples are compared with is no weak enemy there: nothing is lost but the extra of the proofs."""
    for method in METHODS:
        report = report_of("linear to the end", method, 2.0)
        assert report.upper is not None
        assert report.upper <= sampled("linear to the end", 2.0) * (1 + 2e-3)


@pytest.mark.one_in(2)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", IN_A_FRESH_PROCESS)
def test_the_report_passes_in_a_fresh_process(name: str, method: str, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(exported(name).proto.SerializeToString())
    report = lipcert.bound(tmp_path / "model.onnx", method=method, timeout=TIMEOUT)
    assert report.upper == pytest.approx(report_of(name, method, 2.0).upper, rel=1e-6)
    (tmp_path / "report.json").write_text(report.to_json())
    done = run_process("check", "report.json", "model.onnx", folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "verified" in done.stdout


# ---------------------------------------------------------------------------- reports that were tampered with

Data = dict[str, Any]


def proofs(part: Any) -> Iterator[Data]:
    """Every proof of a norm by Gram iteration, in the order of the report."""
    if isinstance(part, dict):
        if part.get("is") == "Gram":
            yield part
        for item in part.values():
            yield from proofs(item)
    elif isinstance(part, list):
        for item in part:
            yield from proofs(item)


EDITS: dict[str, Callable[[Data], Any]] = {
    "1 iteration": lambda p: p.update(iterations=1),
    "9 iterations": lambda p: p.update(iterations=9),
    "more iterations": lambda p: p.update(iterations=20),
    "no iterations": lambda p: p.update(iterations=0),
    "minus one": lambda p: p.update(iterations=-1),
    "far too many": lambda p: p.update(iterations=10**9),
    "a grid of one": lambda p: p.update(grid=[1, 1]),
    "a coarse grid": lambda p: p.update(grid=[8, 8]),
    "a fine grid": lambda p: p.update(grid=[40, 40]),
    "a grid of other axes": lambda p: p.update(grid=[40]),
    "a grid of zero": lambda p: p.update(grid=[0, 40]),
    "a grid below zero": lambda p: p.update(grid=[-40, -40]),
    "a grid without end": lambda p: p.update(grid=[10**9, 10**9]),
    "the symbol, any sigma": lambda p: (p.clear(), p.update({"is": "Symbol", "sigma": (0.01).hex()})),
    "the circle, any sigma": lambda p: (p.clear(), p.update({"is": "Frequencies", "sigma": (0.01).hex()})),
    "the dense form, any sigma": lambda p: (p.clear(), p.update({"is": "Spectral", "sigma": (0.01).hex()})),
    "entries": lambda p: (p.clear(), p.update({"is": "Entrywise"})),
}


@pytest.mark.one_in(3)
@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
@pytest.mark.parametrize("name", ["padded by circular", "stride 2 around a pool", "padded by replicate"])
def test_tampered_evidence_never_proves_less_than_what_is_attained(name: str, edit: Callable[[Data], Any]) -> None:
    """Refused, or the value that was claimed is proven by what is there now; what it proves is above the samples."""
    report = report_of(name, "gram", 2.0)
    count = len(list(proofs(json.loads(report.to_json())["certificate"])))
    assert count >= 2
    for which in range(min(count, 3)):
        data = json.loads(report.to_json())
        edit(list(proofs(data["certificate"]))[which])
        for claimed in (report.upper, 1e6):
            assert claimed is not None
            data["certificate"]["value"] = claimed.hex()
            data["result"].update(upper=claimed, gap=claimed / report.lower)
            try:
                checked = lipcert.check(lipcert.Report(data), exported(name).model)
            except CertificateError:
                continue
            assert max(report.lower, sampled(name, 2.0) / (1 + ROUNDING)) <= checked.upper <= claimed


@pytest.mark.parametrize("factor", [1 - 1e-6, 0.99, 0.5, 1e-3, 0.0, -1.0, math.nan])
@pytest.mark.parametrize("name", ["padded by circular", "stride 2 around a pool"])
def test_a_lower_claim_is_refused(name: str, factor: float) -> None:
    """In the result, in the certificate, and in both."""
    report = report_of(name, "gram", 2.0)
    assert report.upper is not None
    for where in ({"result"}, {"certificate"}, {"result", "certificate"}):
        data = json.loads(report.to_json())
        if "result" in where:
            data["result"].update(upper=report.upper * factor, gap=report.upper * factor / report.lower)
        if "certificate" in where:
            data["certificate"]["value"] = (report.upper * factor).hex()
        with pytest.raises(CertificateError):
            lipcert.check(lipcert.Report(data), exported(name).model)


def test_the_evidence_of_one_network_is_that_of_no_other() -> None:
    data = json.loads(report_of("padded by zeros", "gram", 2.0).to_json())
    with pytest.raises(CertificateError, match="another model"):
        lipcert.check(lipcert.Report(data), exported("padded by reflect").model)
