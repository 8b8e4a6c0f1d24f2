"""Nodes that a user's template stands for: custom ops that are known by a quadratic constraint alone.

The op applies to consecutive groups along the last axis. Its attribute `group` is their size (by default what the
template says, else the whole axis); the template's parameters are attributes of their names, an entry for each entry
of a group, or of the axis.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from lipcert.activations.templated import TemplatedGroups
from lipcert.errors import UsageError
from lipcert.frontend.builder import GraphBuilder
from lipcert.frontend.opnode import OpNode
from lipcert.frontend.registry import is_known
from lipcert.frontend.values import Known, Value
from lipcert.graph import Graph, Groupwise
from lipcert.operators import Dense, LinearOperator
from lipcert.templates import Template


def by_op(templates: Sequence[Template]) -> dict[str, Template]:
    """The templates by the ops that they name; UsageError where two name the same."""
    found: dict[str, Template] = {}
    for template in templates:
        if "group" in template.parameters:
            raise UsageError(f"{template.origin}: parameters: group is the attribute that gives the size of groups")
        for op in template.activations:
            if is_known("", op.removeprefix("ai.onnx.")) or is_known(*op.rpartition(".")[::2]):
                raise UsageError(f"{template.origin}: activations: {op} is an op that lipcert knows by itself")
            if op in found:
                raise UsageError(f"{template.origin}: activations: {op} has a template already: {found[op].origin}")
            found[op] = template
    return found


def template_of(templates: Mapping[str, Template], domain: str, op_type: str) -> Template | None:
    """The template of an op, which is named with its domain or without."""
    return templates.get(f"{domain}.{op_type}", templates.get(op_type))


def templated(graph: Graph) -> list[Template]:
    """The templates of the nodes of a graph."""
    functions = [node.function for node in graph.nodes if isinstance(node, Groupwise)]
    return list(dict.fromkeys(f.template for f in functions if isinstance(f, TemplatedGroups)))


def convert_templated(build: GraphBuilder, node: OpNode, template: Template) -> Value:
    """The node as groups that the template speaks of."""
    value = node.real(0)
    if isinstance(value, Known):
        node.refuse("its input is a constant, and a template says nothing of values")
    if len(node.inputs) != 1 or len(node.outputs) != 1:
        node.refuse("a template stands for ops of one input and one output", "give parameters as attributes")
    if not value.shape:
        node.refuse("its input has no axis")
    width = _group(node, template, value.shape[-1])
    groups = value.size // width
    parameters = {name: _parameter(node, name, width, value.shape[-1], groups) for name in template.parameters}
    if unread := sorted(set(node.attributes) - node.read):
        node.refuse(f"attribute {unread[0]}", f"the template {template.name} has no parameter of that name")
    op = f"{node.domain}.{node.op_type}".lstrip(".")
    try:
        function = TemplatedGroups(template, op, width, groups, parameters)
    except UsageError as error:
        node.refuse(error.message)
    shape = (*value.shape[:-1], value.shape[-1] // width * template.returned(width))
    if function.onto is None or function.through is None:
        return build.groupwise(node, value, function, shape)
    rest = build.groupwise(node, value, function, (groups * function.out_width,))
    parts = _grouped(function.through), _grouped(function.onto)
    return build.affine(node, list(zip((value, rest), parts, strict=True)), shape)


def _grouped(matrices: np.ndarray) -> LinearOperator:
    """(G, m, k) as the block diagonal operator."""
    groups, m, k = matrices.shape
    if np.all(matrices == matrices[:1]):
        return Dense(matrices[0], 0.0, copies=groups)
    full = np.zeros((groups, m, groups, k))
    full[np.arange(groups), :, np.arange(groups)] = matrices
    return Dense(full.reshape(groups * m, groups * k))


def _group(node: OpNode, template: Template, axis: int) -> int:
    width = node.attr("group", template.groups[0] if template.groups and len(template.groups) == 1 else axis)
    if not isinstance(width, int):
        node.refuse(f"attribute group is {width!r}, no integer")
    if width < 1 or axis % width:
        node.refuse(f"its last axis of {axis} does not split into groups of {width}")
    return width


def _parameter(node: OpNode, name: str, width: int, axis: int, groups: int) -> np.ndarray:
    """(groups, width)."""
    stored = np.asarray(node.required(name), dtype=np.float64).reshape(-1)
    if stored.size in (1, width):
        return np.tile(np.broadcast_to(stored, width), (groups, 1))
    if stored.size != axis:
        node.refuse(f"{name} has {stored.size} entries for groups of {width} of an axis of {axis}")
    return np.tile(stored.reshape(-1, width), (groups * width // axis, 1))
