"""Networks to bound: files, ONNX protos, torch modules."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lipcert.errors import UsageError
from lipcert.frontend import Model, load_file, load_proto
from lipcert.templates import Template, read_template

if TYPE_CHECKING:
    import onnx
    import torch


def load(
    model: str | Path | onnx.ModelProto | torch.nn.Module | Model,
    *,
    example: Any = None,
    templates: Sequence[str | Path | Template] = (),
    unrolled: bool = False,
) -> Model:
    """Import a network: an ONNX file, an onnx.ModelProto, or a torch module (through its own ONNX export).

    `example` is an input tensor (or a tuple of them) for a torch module. The import is compared with onnxruntime.
    `templates` are quadratic constraints (TOML files, see sdp_templates) that stand for custom ops: what is proven of
    such a model is conditional on them. Loops are read as the fixed points that they tend to; `unrolled` reads their
    steps one by one.
    Raises ModelError where the model cannot be read or differs, UnsupportedModelError where it is not understood.

        >>> model = lipcert.load("models/digits_relu.onnx")
        >>> model.inputs[0].shape, model.parameters
        ((1, 64), 6570)
    """
    if isinstance(model, Model):
        if templates:
            raise UsageError("templates: the model is loaded already", hint="give them to lipcert.load")
        if unrolled and not model.unrolled:
            raise UsageError("unrolled: the model is loaded already", hint="give it to lipcert.load")
        return model
    read = [t if isinstance(t, Template) else read_template(t) for t in templates]
    if isinstance(model, str | Path):
        return load_file(model, templates=read, unrolled=unrolled)
    import onnx

    if isinstance(model, onnx.ModelProto):
        return load_proto(model, templates=read, unrolled=unrolled)
    if hasattr(model, "forward"):
        from lipcert.frontend.torch_export import export

        return load_proto(export(model, example), templates=read, unrolled=unrolled)
    raise UsageError(f"cannot load a {type(model).__name__}", hint="give a path, an onnx.ModelProto or a torch module")
