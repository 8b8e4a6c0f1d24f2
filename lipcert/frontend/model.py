"""An imported model: its Graph, and what identifies and describes the file that it came from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from lipcert.graph import Graph
from lipcert.operators import Shape, size_of
from lipcert.templates import Template


@dataclass(frozen=True)
class TensorInfo:
    """Name and shape (batch pinned to 1) of a model input or output."""

    name: str
    shape: Shape


@dataclass(frozen=True)
class SelfCheck:
    """How far the Graph is from onnxruntime: worst difference over all tensors, relative to each tensor's size."""

    worst: float
    tolerance: float
    tensors: int
    points: int
    worst_tensor: str


@dataclass(frozen=True, eq=False)
class Model:
    """A network as lipcert certifies it."""

    path: str
    sha256: str
    graph: Graph
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    parameters: int
    node_count: int
    opset: int
    producer: str
    check: SelfCheck | None
    folded: tuple[str, ...] = ()
    """Names of the float tensors that were computed from stored constants at import, in enclosure arithmetic."""
    external_data: dict[str, str] = field(default_factory=dict)
    """sha256 of each external data file, by its location relative to the model."""
    notes: tuple[str, ...] = ()
    """What a user should know: a pinned batch axis, a spelling read as the function meant, an output left out."""
    lost_outputs: dict[str, str] = field(default_factory=dict)
    """Why each output that is not read is not."""
    templates: tuple[Template, ...] = ()
    """Of the user's, that stand for ops: what is proven of the model holds if they are true."""
    unrolled: bool = False
    """Whether Loops were read step by step."""
    unrecognised: tuple[str, ...] = ()
    """Products, quotients and logarithms that no recogniser knows, and why: they are bounded as they stand."""

    def input_shape(self, names: Sequence[str] = ()) -> Shape:
        """The shape of the input that varies; several are one flat vector."""
        chosen = [t for t in self.inputs if not names or t.name in names]
        if len(chosen) == 1:
            return chosen[0].shape
        return (sum(size_of(t.shape) for t in chosen),)
