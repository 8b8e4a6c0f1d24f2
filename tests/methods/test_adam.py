"""Adam takes the steps of torch.optim.Adam, with a rate that falls as by ExponentialLR."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch

from lipcert.methods.adam import Adam

Tensor = torch.Tensor
Loss = Callable[[list[Tensor]], Tensor]

STEPS = 60


def numbers(seed: int, *shape: int, dtype: torch.dtype) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def quadratic(seed: int, dtype: torch.dtype) -> Loss:
    a, b = numbers(seed, 6, 6, dtype=dtype), numbers(seed + 1, 6, dtype=dtype)
    return lambda v: ((a @ v[0] - b) ** 2).sum() + (v[1] ** 2).sum()


def kinked(seed: int, dtype: torch.dtype) -> Loss:
    a = numbers(seed, 6, 6, dtype=dtype)
    return lambda v: (a @ v[0]).abs().sum() + (v[1] - v[0].sum()).relu().sum()


def wavy(seed: int, dtype: torch.dtype) -> Loss:
    a = numbers(seed, 6, 6, dtype=dtype)
    return lambda v: torch.sin(3 * (a @ v[0])).sum() * torch.tanh(v[1]).sum() * 100 + torch.exp(v[1] / 4).sum()


def tiny(seed: int, dtype: torch.dtype) -> Loss:
    """Of gradients as small as what Adam adds to a size."""
    return lambda v: 1e-8 * quadratic(seed, dtype)(v)


def start(seed: int, dtype: torch.dtype) -> list[Tensor]:
    return [
        numbers(seed, 6, dtype=dtype).requires_grad_(),
        numbers(seed + 1, 2, 3, dtype=dtype).requires_grad_(),
    ]


def reference(variables: list[Tensor], loss: Loss, rate: float, decay: float) -> list[list[Tensor]]:
    """What all variables are after each step of torch.optim.Adam."""
    optimiser = torch.optim.Adam(variables, lr=rate)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimiser, decay)
    found = []
    for _ in range(STEPS):
        optimiser.zero_grad()
        loss(variables).backward()
        optimiser.step()
        schedule.step()
        found.append([v.detach().clone() for v in variables])
    return found


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["double", "single"])
@pytest.mark.parametrize(("rate", "decay"), [(0.1, 1.0), (0.3, 0.95), (1e-3, 0.5)])
@pytest.mark.parametrize("make", [quadratic, kinked, wavy, tiny])
def test_every_iterate_is_that_of_torch(
    make: Callable[[int, torch.dtype], Loss], rate: float, decay: float, dtype: torch.dtype
) -> None:
    """In single precision, roundings of steep functions grow: for as many steps as they are small."""
    loss, variables = make(11, dtype), start(3, dtype)
    wanted = reference(start(3, dtype), loss, rate, decay)
    adam = Adam(variables, rate, decay)
    steps, error = (STEPS, 1e-9) if dtype == torch.float64 else (5, 1e-4)
    for step in range(steps):
        adam.descend(loss(variables))
        for one, other in zip(variables, wanted[step], strict=True):
            torch.testing.assert_close(one.detach(), other, rtol=error, atol=error)
    assert adam.steps == steps
    assert adam.rate == pytest.approx(rate * decay**steps)
    assert not torch.allclose(variables[0].detach(), start(3, dtype)[0].detach(), atol=rate / 2)


def test_the_rate_does_not_fall_by_default() -> None:
    (variable,) = variables = [torch.zeros(1, dtype=torch.float64, requires_grad=True)]
    adam = Adam(variables, 0.25)
    for _ in range(8):
        adam.descend(-variable.sum())
    assert variable.item() == pytest.approx(2.0, rel=1e-6)  # a constant slope: a rate each step


def test_what_a_loss_does_not_depend_on_stays() -> None:
    """As torch leaves alone what has no gradient; it moves again with the next loss that does."""
    used, other = variables = start(5, torch.float64)
    before = other.detach().clone()
    adam = Adam(variables, 0.1)
    adam.descend((used**2).sum())
    assert torch.equal(other.detach(), before)
    adam.descend((used * other.sum()).sum())
    assert not torch.equal(other.detach(), before)


def test_variables_are_moved_in_place_and_keep_no_graph() -> None:
    variables = start(7, torch.float64)
    places = [v.data_ptr() for v in variables]
    adam = Adam(variables, 0.1)
    for _ in range(3):
        adam.descend(quadratic(1, torch.float64)(variables))
    assert [v.data_ptr() for v in variables] == places
    assert all(v.is_leaf and v.requires_grad and v.grad is None for v in variables)


def test_it_finds_the_least_of_a_convex_function() -> None:
    loss, variables = quadratic(11, torch.float64), start(3, torch.float64)
    adam = Adam(variables, 0.3, 0.99)
    first = loss(variables).item()
    for _ in range(600):
        adam.descend(loss(variables))
    assert math.isfinite(first)
    assert loss(variables).item() < 1e-3 * first
