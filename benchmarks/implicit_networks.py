"""Implicit networks: trained here on scikit-learn's digits, and those of the data folder; their files and arrays."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.peers.implicit import Arrays
from benchmarks.section import Settings

if TYPE_CHECKING:
    from torch import Tensor, nn

KINDS = ("NEMON", "monDEQ", "LBEN")
STATES = (20, 80, 200, 400)
EPOCHS = 10
BATCH = 64
SEED = 0
HELD_OUT = 300
MU = 0.5
GAMMA = 5.0
LONGEST = 60.0
"""Seconds of training, after which a network counts as trained."""

INPUTS = 64
CLASSES = 10

SHARED = (
    "lben_mnist_w80_gamma0.5",
    "lben_mnist_w80_gamma5.0",
    "mondeq_mnist_w80",
    "lben_cifar10_w80_gamma0.2",
    "lben_cifar10_w100_gamma0.8",
    "uncon_cifar10_w100",
)
OWN = "digits_implicit"

FOLDER = Path(tempfile.gettempdir()) / f"lipcert-benchmarks-{os.getuid()}"


@dataclass(frozen=True, eq=False)
class Network:
    """A file, its weights, and images that it takes, one a row."""

    name: str
    path: Path
    arrays: Arrays
    images: np.ndarray
    accuracy: float | None = None


def digits() -> tuple[np.ndarray, np.ndarray]:
    """Images in [0, 1] and labels, shuffled; the first HELD_OUT are not trained on."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(SEED).permutation(len(labels))
    return (images[order] / 16).astype(np.float32), labels[order]


def own(settings: Settings) -> Network:
    """models/digits_implicit.onnx."""
    import onnx
    from onnx import numpy_helper

    path = settings.models / f"{OWN}.onnx"
    stored = {i.name: numpy_helper.to_array(i).astype(float) for i in onnx.load(path).graph.initializer}
    keys = ("core.stored_weight", "lift.weight", "lift.bias", "head.weight", "head.bias")
    return Network(OWN, path, Arrays(*(stored[key] for key in keys)), digits()[0][:HELD_OUT].astype(float))


def trained(settings: Settings) -> Iterator[Network]:
    """Every kind in every size."""
    images = digits()[0][:HELD_OUT].astype(float)
    for kind in KINDS:
        for states in STATES:
            name = f"{kind} {states}"
            stem = FOLDER / f"{kind}_{states}_{EPOCHS}_{SEED}".lower()
            if not stem.with_suffix(".npz").exists():
                settings.say(f"{name}: training")
                FOLDER.mkdir(exist_ok=True)
                train(kind, states, stem)
            with np.load(stem.with_suffix(".npz")) as stored:
                arrays = Arrays(*(stored[key].astype(float) for key in ("W", "U", "b", "Wo", "bo")))
                yield Network(name, stem.with_suffix(".onnx"), arrays, images, float(stored["accuracy"]))


def shared(settings: Settings) -> Iterator[Network]:
    """Those of the data folder, with the first image of their kind, normalised."""
    from models import export_implicit

    for name in SHARED:
        source = settings.data / "implicit" / f"{name}.npz" if settings.data else None
        if source is None or not source.is_file():
            settings.say(f"skipped {name}: it is not there (--data, or LIPCERT_TEST_DATA)")
            continue
        FOLDER.mkdir(exist_ok=True)
        path = FOLDER / f"{name}.onnx"
        if not path.exists():
            export_implicit.main(source, path)
        with np.load(source) as stored:
            arrays = Arrays(*(stored[key].astype(float) for key in ("W", "U", "b", "Wo", "bo")))
        assert settings.data is not None
        yield Network(name, path, arrays, _images(settings.data, arrays.b.shape[1]))


def _images(data: Path, size: int) -> np.ndarray:
    """(10, size) as reference.json says that the networks take them."""
    cifar = size == 3072
    rows = np.loadtxt(data / "images" / ("cifar10_100.csv" if cifar else "mnist_100.csv"), delimiter=",", max_rows=10)
    pixels = rows[:, 1:] / 255
    if not cifar:
        return np.asarray((pixels - 0.1307) / 0.3081)
    mean, spread = np.array([[0.4914, 0.4822, 0.4465], [0.2470, 0.2435, 0.2616]])
    return np.asarray(((pixels.reshape(-1, 1024, 3) - mean) / spread).transpose(0, 2, 1).reshape(len(rows), -1))


def train(kind: str, states: int, stem: Path) -> float:
    """Train, export to stem.onnx, put the arrays in stem.npz. The seconds that training took."""
    import torch
    from torch import nn

    import lipcert.nn

    torch.manual_seed(SEED)
    model = _model(kind, states)
    images, labels = digits()
    x, y = torch.tensor(images), torch.tensor(labels)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.003, weight_decay=1e-4)
    began = time.perf_counter()
    for _ in range(EPOCHS):
        for batch in (HELD_OUT + torch.randperm(len(x) - HELD_OUT)).split(BATCH):
            loss = nn.functional.cross_entropy(model(x[batch]), y[batch])
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
        if time.perf_counter() - began > LONGEST:
            break
    spent = time.perf_counter() - began
    model.eval()
    with torch.no_grad():
        accuracy = float((model(x[:HELD_OUT]).argmax(dim=1) == y[:HELD_OUT]).double().mean())
        arrays = {key: part.detach().numpy() for key, part in _arrays(model).items()}
    lipcert.nn.export(
        model, x[:2], stem.with_suffix(".onnx"), dynamic_shapes=({0: torch.export.Dim("batch")},), opset_version=20
    )
    np.savez(stem.with_suffix(".npz"), allow_pickle=False, accuracy=accuracy, seconds=spent, **arrays)
    return spent


def _model(kind: str, states: int) -> nn.Module:
    from torch import nn

    from lipcert.nn import LBEN, FixedPoint, MonDEQ, Nemon

    class Implicit(nn.Module):
        """C z + c, z = relu(A z + B x + b); an LBEN has its own B and C."""

        def __init__(self) -> None:
            super().__init__()
            self.lift, self.head = nn.Linear(INPUTS, states), nn.Linear(states, CLASSES)
            weight: nn.Module = Nemon(states, MU) if kind == "NEMON" else MonDEQ(states)
            if kind == "LBEN":
                weight = bounded = LBEN(INPUTS, states, CLASSES, GAMMA)
                self.lift.weight, self.head.weight = bounded.input_weight, bounded.output_weight
            self.core = FixedPoint(weight, nn.ReLU(), solver="averaged" if kind == "NEMON" else "anderson")

        def forward(self, x: Tensor) -> Tensor:
            found: Tensor = self.head(self.core(self.lift(x)))
            return found

    return Implicit()


def _arrays(model: nn.Module) -> dict[str, Tensor]:
    core, lift, head = model.core, model.lift, model.head
    return {"W": core.weight(), "U": lift.weight, "b": lift.bias, "Wo": head.weight, "bo": head.bias}  # type: ignore
