"""What `lipcert inspect` shows."""

from __future__ import annotations

import math
import re

from rich.table import Table

from lipcert.errors import ModelError
from lipcert.frontend import Model
from lipcert.frontend.registry import supported_ops
from lipcert.graph import Affine, Elementwise, FixedPoint, Groupwise, Node, Product, State
from lipcert.methods.implicit import beside_one
from lipcert.operators import Shape
from lipcert.planning.layers import LayerNorms
from lipcert.planning.well_posed import WellPosedness
from lipcert.report.terminal import plain, show
from lipcert.report.wording import shown


def print_model(model: Model) -> None:
    """Header, then one line a node."""
    show(_header(model))
    show(_nodes(model))


NUMBER_WIDTH = 8


def print_norms(model: Model, layers: list[LayerNorms]) -> None:
    """One line a linear operator: certified norms, and how close l2 is to what is attained."""
    table = Table(box=None, header_style="dim")
    numbers = ("l1", "l2", "attained", "gap", "linf", "condition")
    for column in ("#", "operator", "from", "to", *numbers, "l2 by", "ONNX node"):
        # a number that is cut off would read as a smaller one
        table.add_column(column, no_wrap=column in numbers, min_width=NUMBER_WIDTH if column in numbers[:3] else None)
    for layer in layers:
        table.add_row(
            str(layer.node),
            plain(layer.operator),
            _dimensions(layer.in_shape),
            _dimensions(layer.out_shape),
            shown(layer.l1, 6, up=True),
            shown(layer.l2, 7, up=True),
            shown(layer.attained, 7, up=False),
            "" if layer.gap is None else f"{layer.gap:.5g}x",
            shown(layer.linf, 6, up=True),
            _condition(layer),
            layer.rule,
            plain(layer.origin),
        )
    show(table)
    print("l1, l2, linf: proven upper bounds; attained: a proven lower bound of l2; condition: computed, not proven")


def _condition(layer: LayerNorms) -> str:
    if layer.condition is None:
        return ""
    return ("~" if layer.sampled else "") + (f"{layer.condition:.3g}" if math.isfinite(layer.condition) else "singular")


def print_refusals(error: ModelError) -> None:
    """Every reason why a model is refused, one line each."""
    problems = (error, *error.others)
    print(f"{len(problems)} problems:")
    for problem in problems:
        hint = re.sub(r"(; )?\d+ more problems?: see .*$", "", problem.hint)  # this is that command
        print(f"  {problem.message} ({hint})" if hint else f"  {problem.message}")


def print_ops() -> None:
    """The supported ops and the versions of their definitions that are read."""
    for op_type, versions in supported_ops().items():
        print(f"{op_type:<22} {', '.join(map(str, versions))}")


def print_layers(layers: list[WellPosedness]) -> None:
    """One line an implicit layer: why it has one solution, and how fast that is found."""
    table = Table(box=None, header_style="dim")
    for column in ("implicit layer", "neurons", "well-posed", "margin", "mu(inf)", "rate", "steps to 1e-8"):
        table.add_column(column)
    names = {"inf": "in l-infinity, proven", "2": "in l2, proven", "none": "not shown"}
    for layer in layers:
        steps = "" if layer.iterations is None else f"{layer.iterations} of {layer.step:.4g}"
        table.add_row(
            plain(layer.origin),
            str(layer.neurons),
            names[layer.condition],
            f"{layer.margin:.4g}" if math.isfinite(layer.margin) else "",
            beside_one(layer.measure),
            f"{layer.rate:.6g}" if math.isfinite(layer.rate) else "",
            steps,
        )
    show(table)
    for layer in layers:
        if layer.condition == "none":
            print(
                f"{layer.origin}: mu(inf) is not shown to be below 1, the largest eigenvalue of (A + A')/2 is "
                f"{beside_one(layer.symmetric)}, and no multipliers were found for the condition in l2: there may be "
                "no solution, or several"
            )
    print(
        "proven: that there is one solution, and mu(inf) where that is why; computed: margin (1 - mu, or what is left "
        "of the l2 form), mu(inf) elsewhere, and rate, of averaged steps (l-infinity) or forward-backward steps (l2)"
    )


def _header(model: Model) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    table.add_row("model", plain(model.path))
    table.add_row("sha256", model.sha256)
    for location, digest in model.external_data.items():
        table.add_row("data", plain(f"{location}  {digest}"))
    table.add_row(
        "made by", plain(f"{model.producer or 'unknown'}, opset {model.opset}, {model.node_count} ONNX nodes")
    )
    table.add_row("inputs", plain(", ".join(f"{t.name} {list(t.shape)}" for t in model.inputs)))
    table.add_row("outputs", plain(", ".join(f"{t.name} {list(t.shape)}" for t in model.outputs)))
    table.add_row("parameters", f"{model.parameters:,}")
    if model.folded:
        table.add_row("folded", plain(f"{len(model.folded)} tensors computed from weights: {', '.join(model.folded)}"))
    for note in model.notes:
        table.add_row("note", plain(note))
    for text in model.unrecognised:
        table.add_row("as it stands", plain(text))
    if model.check is not None:
        check = model.check
        table.add_row(
            "import check",
            f"{check.tensors} tensors at {check.points} points agree with onnxruntime: worst relative difference "
            f"{check.worst:.1e} (tolerance {check.tolerance:.0e})",
        )
    return table


def _nodes(model: Model) -> Table:
    table = Table(box=None, header_style="dim")
    for column in ("#", "kind", "reads", "shape", "what", "ONNX node"):
        table.add_column(column)
    for i, node in enumerate(model.graph.nodes):
        reads = " ".join(map(str, node.inputs))
        table.add_row(str(i), type(node).__name__, reads, _shape(node), plain(_what(node)), plain(node.origin))
    for output in model.graph.outputs:
        table.add_row("", "Output", str(output.node), "", "", plain(output.name))
    return table


def _shape(node: Node) -> str:
    return _dimensions(node.shape)


def _dimensions(shape: Shape) -> str:
    return "x".join(map(str, shape)) or "scalar"


def _what(node: Node) -> str:
    if isinstance(node, Elementwise):
        return node.activation.describe()
    if isinstance(node, Groupwise):
        return node.function.describe()
    if isinstance(node, Product):
        return "product"
    if isinstance(node, Affine):
        parts = " + ".join(op.describe() for op in node.operators)
        return f"{parts} + bias" if node.bias.value.any() else parts
    if isinstance(node, State | FixedPoint):
        return "state of a fixed point" if isinstance(node, State) else "fixed point"
    return "free"
