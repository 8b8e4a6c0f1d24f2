"""A torch module as the ONNX model that it exports to: what is certified is what ships."""

from __future__ import annotations

import contextlib
import io
import warnings
from typing import TYPE_CHECKING, Any

from lipcert.errors import ModelError, UsageError

if TYPE_CHECKING:
    import onnx
    import torch


def export(module: torch.nn.Module, example: Any) -> onnx.ModelProto:
    """Export in evaluation mode with torch's own exporter; `example` is an input tensor or a tuple of them."""
    import torch

    if example is None:
        raise UsageError(
            "a torch module needs example=, an input tensor to export it with", hint="for example example=x[:1]"
        )
    arguments = example if isinstance(example, tuple) else (example,)
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            program = torch.onnx.export(module, arguments, dynamo=True, verbose=False)
    except Exception as error:  # the exporter raises whatever the module's code does
        raise ModelError(
            f"torch.onnx.export cannot export {type(module).__name__}: {str(error).splitlines()[0]}",
            hint="make torch.onnx.export(module, example, dynamo=True) work first",
        ) from error
    finally:
        for part, training in modes:
            part.training = training
    assert program is not None
    return program.model_proto
