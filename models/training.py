"""Shared steps of the sample networks: the digits data, a seeded training loop and the ONNX export."""

import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import onnxscript.optimizer
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn

HERE = Path(__file__).resolve().parent
SEED = 20
OPSET = 20
PIXEL_SCALE = 16
TEST_SHARE = 0.25
TEST_ROWS_KEPT = 50

Penalty = Callable[[nn.Module], Tensor]


@dataclass(frozen=True)
class Recipe:
    """What distinguishes one sample network's training from another's."""

    name: str
    image_shape: tuple[int, ...]
    minimum_accuracy: float
    epochs: int = 60
    batch_size: int = 64
    learning_rate: float = 3e-3
    weight_decay: float = 1e-3
    spectral_penalty: float = 1e-3
    """Factor of the penalty in the loss, which a script may replace by its own."""
    sharpness: float = 1.0
    """Factor on the logits in the loss only: a 1-Lipschitz network cannot raise its margins by itself."""
    largest_folded: int | None = None
    """Most entries of a constant that the exporter computes with (None: its own limit, 8192). Above, nodes stay."""


@dataclass(frozen=True)
class Digits:
    """The split data set; images hold the raw pixel values 0..16, one image of 64 pixels per row."""

    train_images: NDArray[np.int64]
    train_labels: NDArray[np.int64]
    test_images: NDArray[np.int64]
    test_labels: NDArray[np.int64]


def load_split() -> Digits:
    """Return scikit-learn's bundled digits in a fixed, stratified train and test split."""
    images, labels = load_digits(return_X_y=True)
    train_images, test_images, train_labels, test_labels = train_test_split(
        images.astype(np.int64),
        labels.astype(np.int64),
        test_size=TEST_SHARE,
        random_state=SEED,
        stratify=labels,
    )
    return Digits(train_images, train_labels, test_images, test_labels)


def scaled(images: NDArray[np.int64], image_shape: tuple[int, ...]) -> Tensor:
    """Return raw images as float32 values in [0, 1], each in the network's input shape."""
    return torch.from_numpy((images / PIXEL_SCALE).astype(np.float32)).reshape(-1, *image_shape)


def norm_slopes(norm: nn.BatchNorm2d) -> Tensor:
    """Return the factor by which a batch norm in evaluation mode multiplies each channel."""
    assert norm.running_var is not None
    return norm.weight / (norm.running_var + norm.eps).sqrt()


def spectral_penalty(model: nn.Module) -> Tensor:
    """Return the sum of squared layer gains; a kernel counts as a matrix with one row per output."""
    weights = [layer.weight for layer in model.modules() if isinstance(layer, nn.Linear | nn.Conv2d)]
    gains = [torch.linalg.matrix_norm(weight.flatten(1), 2) for weight in weights]
    gains += [norm_slopes(layer).abs().max() for layer in model.modules() if isinstance(layer, nn.BatchNorm2d)]
    return torch.stack(gains).square().sum()


def train(model: nn.Module, recipe: Recipe, digits: Digits, penalty: Penalty = spectral_penalty) -> None:
    """Fit the model by cross-entropy with AdamW, leaving it in evaluation mode."""
    images, labels = scaled(digits.train_images, recipe.image_shape), torch.from_numpy(digits.train_labels)
    optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, recipe.epochs)
    model.train()
    for _ in range(recipe.epochs):
        for batch in torch.split(torch.randperm(len(images)), recipe.batch_size):
            loss = nn.functional.cross_entropy(model(images[batch]) * recipe.sharpness, labels[batch])
            if recipe.spectral_penalty > 0:
                loss = loss + recipe.spectral_penalty * penalty(model)
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
        schedule.step()
    model.eval()


def strip_annotations(model: onnx.ModelProto) -> None:
    """Drop doc strings, metadata and inner shapes, which grow the file and can name the exporting machine."""
    graph = model.graph
    del graph.value_info[:]
    for part in (model, graph, *graph.node, *graph.initializer, *graph.input, *graph.output):
        part.ClearField("doc_string")
        part.ClearField("metadata_props")


def export(model: nn.Module, recipe: Recipe, path: Path) -> None:
    """Write the model as one self-contained ONNX file whose batch dimension is left open."""
    program = torch.onnx.export(
        model,
        (torch.zeros(2, *recipe.image_shape),),
        dynamo=True,
        opset_version=OPSET,
        input_names=["image"],
        output_names=["logits"],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        optimize=recipe.largest_folded is None,
        verbose=False,
    )
    assert program is not None
    if recipe.largest_folded is not None:
        onnxscript.optimizer.optimize_ir(program.model, input_size_limit=recipe.largest_folded)
    save(program.model_proto, path)


def save(proto: onnx.ModelProto, path: Path) -> None:
    """Write a checked model to one file, without annotations."""
    strip_annotations(proto)
    onnx.checker.check_model(proto, full_check=True)
    onnx.save_model(proto, path, save_as_external_data=False)


def exported_logits(path: Path, images: Tensor) -> NDArray[np.float32]:
    """Return what onnxruntime computes from the exported file."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    logits: NDArray[np.float32] = session.run(["logits"], {"image": images.numpy()})[0]
    return logits


def verify(model: nn.Module, recipe: Recipe, digits: Digits, path: Path) -> float:
    """Check the exported file against the model, for two batch sizes, and return its test accuracy."""
    images = scaled(digits.test_images, recipe.image_shape)
    with torch.no_grad():
        expected = model(images).numpy()
    logits = exported_logits(path, images)
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(exported_logits(path, images[:1]), expected[:1], rtol=1e-4, atol=1e-4)
    return float(np.mean(logits.argmax(axis=1) == digits.test_labels))


def write_test_rows(digits: Digits, path: Path) -> None:
    """Write the first test images as rows of integers: the label, then the 64 pixels."""
    rows = np.column_stack([digits.test_labels, digits.test_images])[:TEST_ROWS_KEPT]
    np.savetxt(path, rows, fmt="%d", delimiter=",")


def describe(path: Path, parameters: int, accuracy: float) -> str:
    """Return a line or two on the exported file, for the person who retrained it."""
    counts = Counter(node.op_type for node in onnx.load(path).graph.node)
    operators = ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))
    size = path.stat().st_size
    return f"{path.name}: test accuracy {accuracy:.2%}, {parameters} parameters, {size} bytes\n  {operators}"


def produce(
    build: Callable[[], nn.Module],
    recipe: Recipe,
    penalty: Penalty = spectral_penalty,
    export: Callable[[nn.Module, Recipe, Path], None] = export,
) -> None:
    """Train, export and verify one sample network, and refresh the shared test rows."""
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(SEED)
    digits = load_split()
    model = build()
    train(model, recipe, digits, penalty)
    path = HERE / f"{recipe.name}.onnx"
    export(model, recipe, path)
    accuracy = verify(model, recipe, digits, path)
    write_test_rows(digits, HERE / "digits_test.csv")
    print(describe(path, sum(parameter.numel() for parameter in model.parameters()), accuracy))
    if accuracy < recipe.minimum_accuracy:
        sys.exit(f"{recipe.name}: test accuracy {accuracy:.2%} is below {recipe.minimum_accuracy:.0%}")
