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
from lipcert.frontend.values import Value
from lipcert.graph import Graph, Groupwise
from lipcert.templates import Template


def by_op(templates: Sequence[Template]) -> dict[str, Template]:
    """The templates by the ops that they name; UsageError where two name the same."""
    found: dict[str, Template] = {}
    for template in templates:
        for op in template.activations:
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
    function = TemplatedGroups(template, op, width, parameters)
    shape = (*value.shape[:-1], value.shape[-1] // width * function.out_width)
    return build.groupwise(node, value, function, shape)


def _group(node: OpNode, template: Template, axis: int) -> int:
    width = node.attr("group", template.groups[0] if template.groups and len(template.groups) == 1 else axis)
    if not isinstance(width, int) or width < 1 or axis % width:
        node.refuse(f"its last axis of {axis} does not split into groups of {width}")
    return width


def _parameter(node: OpNode, name: str, width: int, axis: int, groups: int) -> np.ndarray:
    """(groups, width)."""
    stored = np.asarray(node.required(name), dtype=np.float64).reshape(-1)
    if stored.size == width:
        return np.tile(stored, (groups, 1))
    if stored.size != axis:
        node.malformed(f"{name} has {stored.size} entries for groups of {width} of an axis of {axis}")
    return np.tile(stored.reshape(-1, width), (groups * width // axis, 1))
