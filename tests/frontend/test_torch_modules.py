"""torch modules through their own ONNX export: what is certified is what ships."""

from __future__ import annotations

import numpy as np
import pytest

import lipcert
from lipcert.errors import ModelError, UnsupportedModelError, UsageError
from tests.helpers.onnx_models import lipcert_outputs, random_points, relative_difference

torch = pytest.importorskip("torch")
nn, functional = torch.nn, torch.nn.functional


class Residual(nn.Module):  # type: ignore[misc,name-defined]
    """Two blocks with batch norm, a skip connection and a mean over the map."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 4, 3, stride=2, padding=1)
        self.conv = nn.Conv2d(4, 4, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.head = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # type: ignore[name-defined]
        x = torch.relu(self.stem(x))
        x = torch.relu(x + self.norm(self.conv(x)))
        return self.head(x.mean(dim=(2, 3)))


class Functional(nn.Module):  # type: ignore[misc,name-defined]
    """Operators and functions instead of layers."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(6, 4))
        self.gain = nn.Parameter(torch.randn(6))

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # type: ignore[name-defined]
        h = functional.leaky_relu(x @ self.weight.T / 2.0 - 0.5, 0.2)
        h = torch.cat([h, -h], dim=1).reshape(x.shape[0], 2, 6).transpose(1, 2)
        h = functional.pad(h, (1, 1)).flatten(1)
        return torch.tanh(functional.linear(h.view(-1, 24), self.weight.reshape(1, 24))) * self.gain


def mlp() -> nn.Module:  # type: ignore[name-defined]
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.Tanh(), nn.Linear(8, 8), nn.Sigmoid(), nn.Linear(8, 3))


def conv_net() -> nn.Module:  # type: ignore[name-defined]
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.AvgPool2d(2),
        nn.Dropout(0.5),
        nn.Flatten(),
        nn.Linear(16, 3),
    )


def settle(module: nn.Module) -> nn.Module:  # type: ignore[name-defined]
    """Give batch norms statistics other than 0 and 1."""
    for norm in (m for m in module.modules() if isinstance(m, nn.BatchNorm2d)):
        norm.running_mean = torch.linspace(-1, 1, norm.num_features)
        norm.running_var = torch.linspace(0.5, 2, norm.num_features)
    return module


EXAMPLES = {
    "mlp": (mlp, (1, 1, 4, 4)),
    "conv": (conv_net, (1, 1, 4, 4)),
    "residual": (Residual, (1, 1, 6, 6)),
    "functional": (Functional, (1, 4)),
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_module_imports_as_it_evaluates(name: str) -> None:
    torch.manual_seed(0)
    build, shape = EXAMPLES[name]
    module = settle(build())
    module.train()
    imported = lipcert.load(module, example=torch.randn(shape))
    assert module.training, "the module is left as it was"
    assert imported.inputs[0].shape == shape
    module.eval()
    for point in random_points(imported):
        (x,) = point.values()
        (ours,) = lipcert_outputs(imported, point).values()
        with torch.no_grad():
            theirs = module(torch.as_tensor(x)).numpy()
        assert relative_difference(ours, theirs) < 1e-5


def test_a_function_that_is_not_understood_is_refused() -> None:
    class Rounds(nn.Module):  # type: ignore[misc,name-defined]
        def forward(self, x: torch.Tensor) -> torch.Tensor:  # type: ignore[name-defined]
            return torch.round(x)

    with pytest.raises(UnsupportedModelError, match="Round node"):
        lipcert.load(nn.Sequential(nn.Linear(3, 2), Rounds()), example=torch.zeros(1, 3))


def test_several_inputs_are_given_as_a_tuple() -> None:
    class Sum(nn.Module):  # type: ignore[misc,name-defined]
        def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:  # type: ignore[name-defined]
            return torch.relu(a) - 2 * b

    imported = lipcert.load(Sum(), example=(torch.zeros(1, 3), torch.zeros(1, 3)))
    assert len(imported.inputs) == 2


def test_the_mode_of_every_part_is_restored() -> None:
    """A batch norm that is frozen inside a module in training stays frozen."""
    module = settle(conv_net())
    module.train()
    module[1].eval()
    lipcert.load(module, example=torch.zeros(1, 1, 4, 4))
    assert module.training
    assert not module[1].training
    module.eval()
    module[4].train()
    lipcert.load(module, example=torch.zeros(1, 1, 4, 4))
    assert not module.training
    assert module[4].training


def test_loading_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    lipcert.load(nn.Linear(3, 2), example=torch.zeros(1, 3))
    assert capfd.readouterr().out == ""


def test_a_module_needs_an_example() -> None:
    with pytest.raises(UsageError, match="example"):
        lipcert.load(nn.Linear(3, 2))


def test_a_module_that_does_not_fit_its_example_is_refused_and_left_as_it_was() -> None:
    module = nn.Sequential(nn.Linear(3, 2), nn.ReLU())
    module.train()
    with pytest.raises(ModelError, match="Sequential") as caught:
        lipcert.load(module, example=torch.zeros(1, 4))
    assert "\n" not in str(caught.value)
    assert module.training


def test_other_objects_are_refused() -> None:
    for wrong in (3, None, np.zeros(3), {"a": 1}):
        with pytest.raises(UsageError, match="cannot load"):
            lipcert.load(wrong)  # type: ignore[arg-type]
