"""Single convolutions: bounds on their l2 norm beside the supremum of the symbol, and a ResNet-18 from file to check.

The supremum S is the best bound for maps of every size (docs/convolutions.md). benchmarks.symbols searches for it,
apart from lipcert. A value below S may still hold for maps of one size, or for circular padding; below what power
iteration attains on the layer itself it is wrong.
"""

from __future__ import annotations

import math
import statistics
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.child import Finished, run
from benchmarks.measure import Timing, timed
from benchmarks.networks import find
from benchmarks.peers import lip4conv, lipbound, textbook
from benchmarks.peers.answers import Answer
from benchmarks.section import Column, Row, Section, Settings, goal, number, seconds
from benchmarks.startup import lipcert_command

if TYPE_CHECKING:
    import torch

    from lipcert.operators import Convolution

CHANNELS = (16, 32, 64, 128, 256, 512)
KERNELS = (3, 5)
STRIDED = 64
"""Channels of the layer with a stride."""
SIZE = 32
TRAINED = ("digits_conv", "cnn_C5_CH16")

QUICK = 1.0
"""Seconds below which a way is measured again (--repeat); slower ones run once."""
PATIENCE = 60.0
"""Seconds that a way may be expected to take: as long as at the size before, times the growth."""
GROWTH = 8.0
"""Of the time with twice the channels: matrix products."""

TINY = 1e-6
"""Relative distance that is put down to rounding in single precision and to the search for S."""

MAX_SECONDS, MAX_MIB = 60.0, 4096.0
SLOW_COMMAND = 5.0
"""Seconds beyond which a command runs once."""

COLUMNS = (
    Column("layer", "layer"),
    Column("way", "way"),
    Column("kind", "kind"),
    Column("dtype", "works in"),
    Column("supremum", "S", number),
    Column("value", "value", number),
    Column("above", "value / S - 1", lambda x: f"{x:+.1e}"),
    Column("seconds", "time", seconds),
    Column("remark", "remark"),
)

RESNET_COLUMNS = (
    Column("command", "command"),
    Column("seconds", "median", seconds),
    Column("cpu_seconds", "processor time", seconds),
    Column("peak_mib", "peak memory", lambda mib: f"{mib:.0f} MiB"),
    Column("runs", "runs"),
    Column("goal", "goal"),
    Column("met", "", goal),
)

PEERS = (lip4conv, lipbound)
"""Those that are scripts in the folder of peers, and give bounds in single precision."""

THIS_SIZE = "for maps of this size"
"""The remark of a bound that may be below S."""

PROVEN, BOUND, ESTIMATE, ATTAINED = "proven", "bound", "estimate", "attained"


@dataclass(frozen=True, eq=False)
class Layer:
    """A convolution with square kernel and maps, zero padding alike on all sides; its weights are float32 numbers."""

    name: str
    family: str
    """Layers that differ in channels only: how long a way took on one tells how long it takes on the next."""
    weights: np.ndarray
    stride: int
    pad: int
    size: int

    def operator(self) -> Convolution:
        from lipcert.operators import Convolution

        return Convolution(
            self.weights,
            (self.weights.shape[1], self.size, self.size),
            strides=(self.stride, self.stride),
            pads=((self.pad, self.pad),) * 2,
            dilations=(1, 1),
        )

    def tensor(self) -> torch.Tensor:
        import torch

        return torch.tensor(self.weights, dtype=torch.float32)


@dataclass(frozen=True)
class Method:
    """One way to a number, and what the number is said to be."""

    name: str
    kind: str
    dtype: str
    work: Callable[[], Answer]


def suite(settings: Settings) -> list[Section]:
    return [_convolutions(settings), _resnet(settings)]


def _convolutions(settings: Settings) -> Section:
    section = Section("norms", "l2 norms of convolutions, zero padding (S: supremum of the symbol)", COLUMNS)
    section.notes.append("proven: search and proof together; 'the proof alone' is what a check of a report repeats")
    section.notes.append("S bounds maps of every size; the norm for maps of one size is a little below")
    section.notes.append("the other values have no error bounds, and are what their formulas give in floats")
    section.notes += [_presence(peer, settings) for peer in PEERS]
    before: dict[tuple[str, str], float] = {}
    for layer in _layers(settings):
        _measure(layer, before, section, settings)
    return section


def _presence(peer: ModuleType, settings: Settings) -> str:
    reason = peer.available(settings.peers)
    if reason is None:
        return f"{peer.NAME}: {peer.version(settings.peers)}"
    settings.say(f"skipped {peer.NAME}: {reason}")
    return f"{peer.NAME}: {reason}"


def _layers(settings: Settings) -> Iterator[Layer]:
    for kernel in KERNELS:
        for channels in CHANNELS:
            yield _random(channels, kernel, 1)
    yield _random(STRIDED, 3, 2)
    for name in TRAINED:
        path = find(name, settings)
        if path is not None:
            yield _trained(name, path)


def _random(channels: int, kernel: int, stride: int) -> Layer:
    """Normal weights with the variance of He, Zhang, Ren, Sun (2015)."""
    shape = (channels, channels, kernel, kernel)
    weights = np.random.default_rng(0).standard_normal(shape) * math.sqrt(2 / (channels * kernel**2))
    name = f"{channels} x {channels} x {kernel} x {kernel}" + (f", stride {stride}" if stride > 1 else "")
    return Layer(name, f"{kernel} x {kernel}, stride {stride}", _single(weights), stride, kernel // 2, SIZE)


def _trained(name: str, path: Path) -> Layer:
    """The convolution of a network that has the most weights."""
    import lipcert
    from lipcert.graph import Affine
    from lipcert.operators import Convolution

    nodes = (node for node in lipcert.load(path).graph.nodes if isinstance(node, Affine))
    found = [op for node in nodes for op in node.operators if isinstance(op, Convolution)]
    op = max(found, key=lambda op: op.weights.size)
    shape = " x ".join(map(str, op.weights.shape))
    stride = op.strides[0]
    title = f"{name}: {shape}" + (f", stride {stride}" if stride > 1 else "")
    return Layer(title, name, _single(op.weights), stride, op.pads[0][0], op.in_shape[1])


def _single(weights: np.ndarray) -> np.ndarray:
    return weights.astype(np.float32).astype(np.float64)


def _measure(layer: Layer, before: dict[tuple[str, str], float], section: Section, settings: Settings) -> None:
    from benchmarks.symbols import attained

    settings.say(f"{layer.name}: the supremum")
    supremum = attained(layer.weights, layer.stride)
    rows = []
    for method in _methods(layer, settings):
        key = (layer.family, method.name)
        expected = GROWTH * before.get(key, 0.0)
        row: Row = {"layer": layer.name, "way": method.name, "kind": method.kind, "dtype": method.dtype}
        row["supremum"] = supremum
        rows.append(row)
        if expected > PATIENCE:
            before[key] = expected
            row["remark"] = f"skipped: too slow (about {expected:.0f} s)"
            continue
        settings.say(f"{layer.name}: {method.name}")
        try:
            (value, remark), timing = _timed(method.work, settings.repeat)
        except MemoryError as error:
            row["remark"] = f"skipped: {error}"
            continue
        except Exception as error:  # whatever a peer raises is its result
            row["remark"] = f"failed: {type(error).__name__}: {error}"
            continue
        before[key] = timing.median
        row |= {"seconds": timing.median, "fastest": timing.fastest, "runs": timing.runs, "remark": remark}
        if math.isfinite(value):
            row |= {"value": value, "above": value / supremum - 1}
        else:
            row["remark"] = "no answer"
    _judge(rows, supremum, section)
    section.rows += rows


def _timed(work: Callable[[], Answer], repeat: int) -> tuple[Answer, Timing]:
    """As `timed`, but once only where it is slow."""
    answer, timing = timed(work, 1)
    return (answer, timing) if timing.median > QUICK else timed(work, repeat)


def _methods(layer: Layer, settings: Settings) -> Iterator[Method]:
    weight = layer.tensor()
    yield from _own(layer, weight)
    for peer in PEERS:
        if settings.peers is not None and peer.available(settings.peers) is None:
            for name, work in peer.conv_l2(settings.peers, weight, layer.size):
                yield Method(f"{peer.NAME}: {name}", BOUND, "float32", _unstrided(layer, work))
    for name, work in textbook.circular(layer.weights, layer.stride, layer.size):
        yield Method(name, ESTIMATE, "float64", work)
    for name, work in textbook.power(weight, layer.stride, layer.pad, layer.size):
        yield Method(name, ATTAINED, "float32", work)


def _own(layer: Layer, weight: torch.Tensor) -> Iterator[Method]:
    """What lipcert offers. The proof alone is of what the search found: each is run before the next is asked for."""
    from lipcert import conv_norm
    from lipcert.certificate.arithmetic import Arithmetic
    from lipcert.certificate.claim import Symbol
    from lipcert.certificate.norms import norm_bound
    from lipcert.methods.symbol.proof import Found, symbol_proof

    op = layer.operator()
    found: Found | None = None

    def answer(bound: float) -> Answer:
        return bound, "" if found is None or isinstance(found[1], Symbol) else THIS_SIZE

    def search() -> Answer:
        nonlocal found
        found = symbol_proof(op, Arithmetic())
        return answer(math.inf if found is None else found[0])

    def proof() -> Answer:
        assert found is not None
        return answer(norm_bound(op, 2.0, 2.0, found[1], Arithmetic()))

    yield Method("lipcert: search and proof", PROVEN, "float64", search)
    if found is not None:
        yield Method("lipcert: the proof alone", PROVEN, "float64", proof)
    yield Method("lipcert.conv_norm", BOUND, "float32", lambda: (float(conv_norm(weight, stride=layer.stride)), ""))


def _unstrided(layer: Layer, work: Callable[[], Answer]) -> Callable[[], Answer]:
    """A peer that knows no strides bounds the layer without its stride, of which the layer is a part."""
    if layer.stride == 1:
        return work
    return lambda: (work()[0], "of the layer without its stride")


def _judge(rows: list[Row], supremum: float, section: Section) -> None:
    """Mark bounds that are below what they should bound; a proven one below S, or a wrong S, is a failure."""
    measured = [row for row in rows if row.get("value") is not None]
    reached = max((row["value"] for row in measured if row["kind"] == ATTAINED), default=0.0)
    for row in measured:
        value, kind, name = row["value"], row["kind"], f"{row['layer']}: {row['way']}"
        if kind in (ATTAINED, ESTIMATE):
            if value > supremum * (1 + TINY):
                section.failures.append(f"{name}: above S by {value / supremum - 1:.1e}, so that S was not found")
            continue
        row["unsound"], row["below_supremum"] = value < reached * (1 - TINY), value < supremum * (1 - TINY)
        if row["unsound"]:
            said = f"UNSOUND: {1 - value / reached:.1e} below what power iteration attains on this layer"
        elif row["below_supremum"] and row["remark"] != THIS_SIZE:
            said = "below S: no bound for larger maps"
        else:
            continue
        row["remark"] = "; ".join(filter(None, (row["remark"], said)))
        (section.failures if kind == PROVEN else section.notes).append(f"{name}: {said}")


def _resnet(settings: Settings) -> Section:
    """The whole way of a user with a ResNet-18 of random weights, each command in a process of its own."""
    import onnx

    from benchmarks.large_models import resnet18

    section = Section("resnet18", "ResNet-18, random weights, l2 everywhere: bound and check", RESNET_COLUMNS)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        onnx.save(resnet18(), str(folder / "resnet18.onnx"))
        commands = (("bound", "resnet18.onnx", "--json", "report.json"), ("check", "report.json", "resnet18.onnx"))
        for words in commands:
            title = " ".join(("lipcert", *words))
            settings.say(title)
            results = _runs(partial(run, [*lipcert_command(), *words], folder), settings.repeat)
            failed = next((r for r in results if r.status != 0), None)
            if failed is not None:
                section.failures.append(f"{title}: status {failed.status}: {failed.output.strip()}")
                return section
            section.rows.append(_finished(title, results))
            said = (line for line in results[-1].output.splitlines() if _telling(line))
            section.notes += [f"{words[0]}: {' '.join(line.split())}" for line in said]
    total, peak = (sum(r["seconds"] for r in section.rows), max(r["peak_mib"] for r in section.rows))
    met = total < MAX_SECONDS and peak < MAX_MIB
    limit = f"under {MAX_SECONDS:g} s, {MAX_MIB:g} MiB"
    section.rows.append({"command": "both", "seconds": total, "peak_mib": peak, "goal": limit, "met": met})
    return section


def _runs(work: Callable[[], Finished], repeat: int) -> list[Finished]:
    """Once where it is slow: a bound that runs into its timeout takes the same time every time."""
    first = work()
    return [first] if first.seconds > SLOW_COMMAND else [first, *(work() for _ in range(repeat - 1))]


def _finished(title: str, results: list[Finished]) -> Row:
    return {
        "command": title,
        "seconds": statistics.median(r.seconds for r in results),
        "cpu_seconds": statistics.median(r.cpu_seconds for r in results),
        "peak_mib": max(r.peak_mib for r in results),
        "runs": len(results),
    }


def _telling(line: str) -> bool:
    return line.partition(" ")[0] in ("certified", "attained", "method", "verified")
