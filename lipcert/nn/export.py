"""Export of a torch module with implicit layers to the ONNX form of docs/implicit-onnx.md, which onnxruntime runs."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lipcert.errors import UsageError

if TYPE_CHECKING:
    import torch

    from lipcert.nn.fixed_point import FixedPoint


def export(model: torch.nn.Module, args: Any, path: str | Path, **kwargs: Any) -> None:
    """Write `model` in evaluation mode to `path`; `args` is an input tensor or a tuple of them, on which it runs first.

    There, and for random injections of that size, the step of each implicit layer is halved until its Loop converges.
    The weights of implicit layers are stored as they are, their parametrisations computed. Other arguments are those of
    torch.onnx.export, such as dynamic_shapes. The file is replaced as a whole or not at all.

        >>> lipcert.nn.export(model, x[:2], "implicit.onnx", dynamic_shapes=({0: torch.export.Dim("batch")},))
    """
    import onnx
    import torch

    from lipcert.frontend.fixed_point_form import define_functions

    arguments = args if isinstance(args, tuple) else (args,)
    if "f" in kwargs or kwargs.get("dynamo", True) is not True:
        raise UsageError(
            "lipcert.nn.export: it takes neither f nor dynamo=False", hint="give the path as third argument"
        )
    with _evaluating(model), _stored_weights(model):
        for layer, injection in _injections(model, arguments):
            layer.settle(injection)
            layer.exported_attributes()  # raises what would be lost in the exporter's report
        program = torch.onnx.export(model, arguments, **{"verbose": False, **kwargs}, dynamo=True)
    assert program is not None
    proto = define_functions(program.model_proto)
    onnx.checker.check_model(proto)
    _write(proto.SerializeToString(), Path(path))


@contextlib.contextmanager
def _evaluating(model: torch.nn.Module) -> Iterator[None]:
    modes = [(part, part.training) for part in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training


def _injections(model: torch.nn.Module, arguments: tuple[Any, ...]) -> list[tuple[FixedPoint, torch.Tensor]]:
    """The implicit layers, and what each is called with."""
    import torch

    from lipcert.nn.fixed_point import FixedPoint

    found: list[tuple[FixedPoint, torch.Tensor]] = []

    def note(layer: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        assert isinstance(layer, FixedPoint)
        found.append((layer, inputs[0]))

    hooks = [part.register_forward_pre_hook(note) for part in model.modules() if isinstance(part, FixedPoint)]
    try:
        with torch.no_grad():
            model(*arguments)
    finally:
        for hook in hooks:
            hook.remove()
    return found


@contextlib.contextmanager
def _stored_weights(model: torch.nn.Module) -> Iterator[None]:
    """Each implicit layer with its weight computed once, as a parameter."""
    import torch

    from lipcert.nn.fixed_point import FixedPoint

    layers = [layer for layer in model.modules() if isinstance(layer, FixedPoint)]
    computed = [torch.nn.Parameter(layer.weight().detach().clone(), requires_grad=False) for layer in layers]
    try:
        for layer, weight in zip(layers, computed, strict=True):
            layer.stored_weight = weight
        yield
    finally:
        for layer in layers:
            layer.stored_weight = None


def _write(data: bytes, path: Path) -> None:
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
        os.chmod(name, 0o644)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
