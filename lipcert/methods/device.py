"""Where searches run: the CPU, or a GPU through torch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from lipcert.arithmetic.threads import free_cores
from lipcert.errors import UsageError

if TYPE_CHECKING:
    import torch


def choose_device(name: str) -> torch.device:
    """`auto` is the first GPU, or the CPU where there is none."""
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"--device: {name!r} is not available here: {error}", hint="use auto, cpu or cuda") from None
    return device


@contextmanager
def idle_threads() -> Iterator[None]:
    """In which torch uses no more threads than there are cores that nobody else computes on: those that wait spin."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(free_cores())
    try:
        yield
    finally:
        torch.set_num_threads(before)
