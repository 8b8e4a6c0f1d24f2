"""The implicit layer returns the fixed point, its gradients are right, and its export runs in onnxruntime."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

import lipcert.nn
from lipcert.errors import ModelError, UsageError
from lipcert.nn import LBEN, FixedPoint, MonDEQ, Nemon
from tests.helpers.paths import MODELS, ROOT

SIZE = 5


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def conv(channels: int = 2, scale: float = 0.1, **options: object) -> nn.Conv2d:
    layer = nn.Conv2d(channels, channels, 3, bias=False, **{"padding": 1, **options})  # type: ignore[arg-type]
    nn.init.normal_(layer.weight, std=scale)
    return layer


CORES = {
    "nemon": lambda: Nemon(SIZE, mu=0.8),
    "mondeq": lambda: MonDEQ(SIZE),
    "lben": lambda: LBEN(3, SIZE, 2, gamma=0.5),
}


@pytest.mark.parametrize("solver", ["averaged", "anderson"])
@pytest.mark.parametrize("core", CORES)
def test_the_state_is_the_fixed_point(core: str, solver: str) -> None:
    layer = FixedPoint(CORES[core](), nn.ReLU(), solver=solver, tolerance=1e-12).double()
    for shape in ((SIZE,), (7, SIZE), (2, 3, SIZE), (0, SIZE)):
        u = 10 * torch.randn(shape, dtype=torch.float64)
        z = layer(u)
        assert z.shape == u.shape
        assert torch.allclose(z, torch.relu(z @ layer.weight().T + u), atol=1e-10)


@pytest.mark.parametrize("solver", ["averaged", "anderson"])
@pytest.mark.parametrize("options", [{}, {"padding": 2, "dilation": 2}, {"groups": 2, "padding": "same"}])
def test_the_state_of_a_convolution_is_the_fixed_point(options: dict[str, object], solver: str) -> None:
    linear = conv(**options)
    layer = FixedPoint(linear, nn.Tanh(), solver=solver, tolerance=1e-12).double()
    u = torch.randn(3, 2, 6, 5, dtype=torch.float64)
    z = layer(u)
    assert torch.allclose(z, torch.tanh(linear(z) + u), atol=1e-10)


@pytest.mark.parametrize(
    ("activation", "solver"),
    [(nn.Tanh(), "averaged"), (nn.LeakyReLU(0.2, inplace=True), "averaged"), (nn.PReLU(), "anderson")],
)
@pytest.mark.parametrize("core", CORES)
def test_gradients_are_those_of_the_fixed_point(core: str, activation: nn.Module, solver: str) -> None:
    layer = FixedPoint(CORES[core](), activation, tolerance=1e-13, solver=solver).double()
    parameters = dict(layer.named_parameters())
    trained = [name for name in parameters if name != "linear.log_weights"]
    u = torch.randn(2, SIZE, dtype=torch.float64, requires_grad=True)

    def state(u: torch.Tensor, *values: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(layer, dict(zip(trained, values, strict=True)), (u,))

    assert torch.autograd.gradcheck(state, (u, *(parameters[name] for name in trained)), atol=1e-6)


def test_gradients_of_a_convolution_are_those_of_the_fixed_point() -> None:
    layer = FixedPoint(conv(), nn.Tanh(), tolerance=1e-13).double()
    u = torch.randn(2, 2, 3, 4, dtype=torch.float64, requires_grad=True)

    def state(u: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(layer, {"linear.weight": weight}, (u,))

    assert torch.autograd.gradcheck(state, (u, layer.linear.weight), atol=1e-6)


def test_small_gradients_keep_their_digits() -> None:
    layer = FixedPoint(Nemon(SIZE), nn.Tanh()).double()
    u = torch.randn(4, SIZE, dtype=torch.float64, requires_grad=True)
    large = torch.autograd.grad(layer(u).sum(), u)[0]
    small = torch.autograd.grad(1e-9 * layer(u).sum(), u)[0]
    assert torch.allclose(1e9 * small, large)


def test_a_second_derivative_is_refused() -> None:
    layer = FixedPoint(Nemon(SIZE), nn.Tanh())
    u = torch.randn(4, SIZE, requires_grad=True)
    with pytest.raises(UsageError, match="first derivatives only"):
        torch.autograd.grad(layer(u).sum(), u, create_graph=True)


def test_memory_does_not_grow_with_the_iterations() -> None:
    def tensors(iterations_needed: float) -> int:
        saved = 0

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            nonlocal saved
            saved += 1
            return tensor

        core = nn.Linear(1, 1, bias=False)
        nn.init.constant_(core.weight, iterations_needed)
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            FixedPoint(core, nn.ReLU())(torch.ones(1, 1))
        return saved

    assert tensors(0.1) == tensors(0.98)


def test_the_step_is_halved_where_it_is_too_long() -> None:
    core = nn.Linear(2, 2, bias=False)
    core.weight.data = torch.tensor([[0.0, -3.0], [3.0, 0.0]])
    u = torch.tensor([[1.0, 2.0]])
    layer = FixedPoint(core, nn.Identity())
    assert torch.allclose(layer(u), torch.linalg.solve(torch.eye(2) - core.weight, u.T).T, atol=1e-5)
    assert layer.current_step() < 0.2
    with pytest.raises(ModelError, match="no convergence"):
        FixedPoint(core, nn.Identity(), step=1.0)(u)


@pytest.mark.parametrize("solver", ["averaged", "anderson"])
def test_no_fixed_point_is_an_error(solver: str) -> None:
    core = nn.Linear(1, 1, bias=False)
    core.weight.data[:] = 2.0
    with pytest.raises(ModelError, match="well-posed"):
        FixedPoint(core, nn.ReLU(), iterations=100, solver=solver)(torch.ones(1, 1))


@pytest.mark.parametrize(
    ("linear", "options", "message"),
    [
        (nn.Linear(3, 3), {}, "has a bias"),
        (nn.Linear(3, 4, bias=False), {}, r"\(4, 3\)"),
        (nn.ReLU(), {}, "no weight"),
        (conv(stride=2), {}, "stride 1"),
        (conv(padding_mode="circular"), {}, "padding with zeros"),
        (nn.Linear(3, 3, bias=False), {"step": 2.0}, "step 2.0"),
        (nn.Linear(3, 3, bias=False), {"tolerance": 0.0}, "tolerance 0.0"),
        (nn.Linear(3, 3, bias=False), {"solver": "newton"}, "newton"),
    ],
)
def test_what_does_not_fit_is_refused(linear: nn.Module, options: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        FixedPoint(linear, nn.ReLU(), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("linear", "shape"),
    [
        (nn.Linear(3, 3, bias=False), (2, 4)),
        (conv(padding=0), (1, 2, 5, 5)),
        (conv(), (2, 5, 5)),
        (conv(), (1, 3, 5, 5)),
    ],
)
def test_an_injection_of_another_shape_is_refused(linear: nn.Module, shape: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match="u of shape"):
        FixedPoint(linear, nn.ReLU())(torch.zeros(shape))


class Network(nn.Module):
    """A dense implicit network."""

    def __init__(self, core: nn.Module, activation: nn.Module, **options: object) -> None:
        super().__init__()
        self.lift = nn.Linear(4, SIZE)
        self.implicit = FixedPoint(core, activation, **options)  # type: ignore[arg-type]
        self.head = nn.Linear(SIZE, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.implicit(self.lift(x)))


def ran(path: Path, x: torch.Tensor) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: x.numpy()})[0]


def assert_exports(model: nn.Module, x: torch.Tensor, path: Path) -> onnx.ModelProto:
    lipcert.nn.export(model, x, path, dynamic_shapes=({0: torch.export.Dim("batch")},))
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    for rows in (x, 3 * torch.cat([x, x]), x[:1]):
        with torch.no_grad():
            np.testing.assert_allclose(ran(path, rows), model(rows), rtol=1e-4, atol=1e-4)
    proto = onnx.load(path)
    assert [node.domain for node in proto.graph.node if node.op_type.startswith("FixedPoint")]
    return proto


@pytest.mark.parametrize(
    ("core", "activation"),
    [("nemon", nn.ReLU()), ("lben", nn.LeakyReLU(0.3))],
)
def test_the_exported_file_runs_and_agrees(core: str, activation: nn.Module, tmp_path: Path) -> None:
    model = Network(CORES[core](), activation)
    proto = assert_exports(model, torch.randn(2, 4), tmp_path / "dense.onnx")
    assert model.training
    assert list(model.state_dict()) == [name for name, _ in model.named_parameters()]
    weight = next(t for t in proto.graph.initializer if t.dims == [SIZE, SIZE])
    np.testing.assert_array_equal(onnx.numpy_helper.to_array(weight), model.implicit.weight().detach())


@pytest.mark.parametrize("options", [{"groups": 2, "padding": "same"}, {"dilation": 2, "padding": 2}])
def test_an_exported_convolution_runs_and_agrees(options: dict[str, object], tmp_path: Path) -> None:
    model = nn.Sequential(FixedPoint(conv(**options), nn.ReLU()), nn.Flatten(), nn.Linear(60, 2))
    assert_exports(model, torch.randn(2, 2, 6, 5), tmp_path / "conv.onnx")


def test_two_layers_are_exported_with_a_function_each(tmp_path: Path) -> None:
    model = nn.Sequential(FixedPoint(Nemon(4), nn.ReLU()), nn.Linear(4, 6), FixedPoint(Nemon(6), nn.Tanh()))
    proto = assert_exports(model, torch.randn(2, 4), tmp_path / "two.onnx")
    assert {f.name for f in proto.functions} == {"FixedPoint", "FixedPoint_2"}


def test_the_exported_step_converges_where_only_anderson_takes_the_long_one(tmp_path: Path) -> None:
    core = nn.Linear(2, 2, bias=False)
    core.weight.data = torch.tensor([[0.0, -3.0], [3.0, 0.0]])
    layer = FixedPoint(core, nn.Tanh(), solver="anderson")
    x = torch.randn(2, 2)
    layer(x)
    assert layer.current_step() == 1
    assert_exports(layer, x, tmp_path / "anderson.onnx")
    assert layer.current_step() < 0.5


class Shared(nn.Module):
    """An implicit layer whose parts the module holds too, as LBEN's users do."""

    def __init__(self, linear: nn.Module, activation: nn.Module) -> None:
        super().__init__()
        self.linear, self.activation = linear, activation
        self.implicit = FixedPoint(linear, activation)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.implicit(x)


@pytest.mark.parametrize("kind", ["linear", "conv"])
def test_a_layer_whose_weights_have_two_names_is_exported(kind: str, tmp_path: Path) -> None:
    linear, activation = (Nemon(4), nn.ReLU()) if kind == "linear" else (conv(), nn.LeakyReLU(0.1))
    model = Shared(linear, activation)
    x = torch.randn(2, 4) if kind == "linear" else torch.randn(2, 2, 5, 5)
    proto = assert_exports(model, x, tmp_path / "shared.onnx")
    assert any(node.op_type == "Conv" for node in loop_body(proto)) == (kind == "conv")


def loop_body(proto: onnx.ModelProto) -> list[onnx.NodeProto]:
    loop = next(node for node in proto.functions[0].node if node.op_type == "Loop")
    return list(loop.attribute[0].g.node)


def test_an_export_in_float64_runs_and_agrees(tmp_path: Path) -> None:
    model = Network(Nemon(SIZE), nn.ReLU(), tolerance=1e-12).double()
    x = torch.randn(2, 4, dtype=torch.float64)
    lipcert.nn.export(model, x, tmp_path / "double.onnx")
    np.testing.assert_allclose(ran(tmp_path / "double.onnx", x), model(x).detach(), rtol=1e-10)


def test_the_exporter_of_torch_gives_the_node_with_attributes() -> None:
    model = nn.Sequential(FixedPoint(Nemon(4), nn.ReLU())).eval()
    x = torch.randn(2, 4)
    model(x)
    program = torch.onnx.export(model, (x,), dynamo=True, verbose=False)
    assert program is not None
    node = next(node for node in program.model_proto.graph.node if node.domain == "lipcert")
    assert {"kind", "activation", "step", "iterations", "tolerance"} == {a.name for a in node.attribute}


def test_an_export_needs_a_known_step_and_activation(tmp_path: Path) -> None:
    unknown = FixedPoint(Nemon(4), nn.ReLU()).eval()
    with pytest.raises(Exception, match="step is not known"):
        torch.onnx.export(unknown, (torch.zeros(1, 4),), dynamo=True, verbose=False)
    with pytest.raises(UsageError, match="no exported form"):
        lipcert.nn.export(FixedPoint(Nemon(4), nn.GELU()), torch.zeros(1, 4), tmp_path / "gelu.onnx")
    assert not list(tmp_path.iterdir())


def test_importing_the_package_loads_no_torch() -> None:
    code = "import sys, lipcert.nn; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_file_of_the_page_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (ROOT / "docs" / "implicit-onnx.md").read_text(encoding="utf-8")
    from_torch, by_hand = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(from_torch, {"nn": nn, "torch": torch, "lipcert": lipcert, "x": torch.randn(4, 64)})
    assert ran(tmp_path / "implicit.onnx", torch.randn(3, 64)).shape == (3, 10)
    exec(by_hand, {})
    z, u = ran(tmp_path / "implicit.onnx", torch.tensor([[1.0, 2.0]])), np.array([[1.0, 2.0]])
    np.testing.assert_allclose(z, np.maximum(z @ np.array([[0.2, -0.5], [0.4, -0.1]]).T + u, 0), atol=1e-4)


def test_the_sample_network_runs_and_classifies() -> None:
    rows = np.loadtxt(MODELS / "digits_test.csv", delimiter=",")
    logits = ran(MODELS / "digits_implicit.onnx", torch.tensor(rows[:, 1:] / 16, dtype=torch.float32))
    assert (logits.argmax(1) == rows[:, 0]).mean() > 0.85
