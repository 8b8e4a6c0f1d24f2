"""Reading an ONNX model: limits, external data, identity, inlined functions; then conversion and self-check."""

from __future__ import annotations

import hashlib
import logging
import math
import re
import stat
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lipcert.errors import ModelError, UnsupportedModelError, UsageError
from lipcert.frontend.convert import Converted, convert
from lipcert.frontend.fixed_point_form import define_functions
from lipcert.frontend.loops import CONVERGED, STATE
from lipcert.frontend.model import Model, SelfCheck
from lipcert.frontend.registry import is_known
from lipcert.frontend.selfcheck import check_import, check_loops
from lipcert.frontend.templated import by_op, template_of, templated
from lipcert.graph import Graph
from lipcert.templates import Template

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir

MAX_FILE_BYTES = 2 * 1024**3
"""Protobuf's own limit; larger models keep their weights in external data."""


MAX_NODES = 20_000
"""Nodes, functions' bodies included; onnxruntime takes seconds to load more."""

MAX_INITIALIZERS = 20_000
MAX_FUNCTIONS = 1_000

MAX_SPARE_BYTES = 2**26
"""An external data file may hold this much more than four times what the model needs: it is hashed as a whole."""

MAX_NAME = 255
"""Bytes of one part of a path that every file system takes."""


def load_file(
    path: str | Path, *, check: bool = True, templates: Sequence[Template] = (), unrolled: bool = False
) -> Model:
    """Import the ONNX model at `path`; `templates` stand for custom ops, `unrolled` reads Loops step by step.

    Raises ModelError when the file cannot be read, is malformed, or evaluates differently from onnxruntime, and
    UnsupportedModelError when it holds something that lipcert does not understand.
    """
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    path = Path(path)
    data = _read(path)
    try:
        proto = onnx.load_model_from_string(data)
    except DecodeError:
        raise ModelError(f"{path}: not an ONNX file, or truncated", hint="export the model again") from None
    if not proto.graph.node:
        raise ModelError(f"{path}: not an ONNX file, or its graph is empty", hint="export the model again")
    if undecodable := _undecodable(proto):
        raise ModelError(f"{path}: the string {undecodable!r} is not UTF-8", hint="the file is malformed")
    external = _external_files(proto, path)
    digests = {location: _sha256_file(file) for location, file in external.items()}
    return _import(proto, str(path), hashlib.sha256(data).hexdigest(), digests, path.parent, check, templates, unrolled)


def load_proto(
    proto: onnx.ModelProto, *, check: bool = True, templates: Sequence[Template] = (), unrolled: bool = False
) -> Model:
    """Import a model held in memory; its digest is that of its serialised form."""
    if any(_is_external(t) for t in _tensors(proto)):
        raise ModelError("the model keeps weights in external data", hint="load it from its file")
    digest = hashlib.sha256(proto.SerializeToString(deterministic=True)).hexdigest()
    return _import(proto, "<memory>", digest, {}, None, check, templates, unrolled)


def model_digest(model: str | Path | onnx.ModelProto) -> str:
    """The sha256 by which a model is known: of its file, or of its serialised form."""
    data = _read(Path(model)) if isinstance(model, str | Path) else model.SerializeToString(deterministic=True)
    return hashlib.sha256(data).hexdigest()


def _import(
    proto: onnx.ModelProto,
    path: str,
    sha256: str,
    external: dict[str, str],
    folder: Path | None,
    check: bool,
    templates: Sequence[Template],
    unrolled: bool,
) -> Model:
    named = by_op(templates)
    try:
        _refuse_ambiguous(proto)
        module = _as_module(define_functions(proto), folder, named)
        converted = convert(module, named, unrolled=unrolled)
    except ModelError as error:
        raise _located(error, path) from error.__cause__
    used = _used(converted.graph, templates, path)
    model = Model(
        path=path,
        sha256=sha256,
        graph=converted.graph.pruned() if converted.loops else converted.graph,
        inputs=converted.inputs,
        outputs=converted.outputs,
        parameters=converted.parameters,
        node_count=len(proto.graph.node),
        opset=converted.opset,
        producer=" ".join(p for p in (proto.producer_name, proto.producer_version) if p),
        check=_checked(converted, module, path) if check else None,
        folded=converted.folded,
        external_data=external,
        notes=converted.notes,
        unrecognised=converted.unrecognised,
        lost_outputs=converted.lost_outputs,
        templates=used,
        unrolled=unrolled,
    )
    return model


def _checked(converted: Converted, module: ir.Model, path: str) -> SelfCheck:
    """The worst of the import's checks."""
    found = [check_import(converted, module, path), *check_loops(converted, module, path)]
    worst = max(found, key=lambda check: check.worst)
    return replace(worst, tensors=sum(check.tensors for check in found))


def _used(graph: Graph, templates: Sequence[Template], path: str) -> tuple[Template, ...]:
    """The templates that stand for a node; UsageError where one stands for none."""
    found = templated(graph)
    for template in templates:
        if template not in found:
            ops = ", ".join(template.activations)
            raise UsageError(
                f"{template.origin}: no node of {path} is a {ops}, or lipcert knows that op by itself",
                hint="its activations name ops, such as com.example.SoftSort",
            )
    return tuple(found)


def _located(error: ModelError, path: str) -> ModelError:
    """The error with the model's path in front; that of several names the command that lists them."""
    count = len(error.others)
    more = f"; {count} more {'problem' if count == 1 else 'problems'}: see `lipcert inspect`" if count else ""
    located = type(error)(f"{path}: {error.message}", hint=f"{error.hint}{more}".removeprefix("; "))
    located.others = tuple(_located(other, path) for other in error.others)
    return located


def _as_module(proto: onnx.ModelProto, folder: Path | None, templates: Mapping[str, Template]) -> ir.Model:
    """onnx-ir's view of the model, with functions inlined, but for those that a template stands for."""
    import onnx_ir as ir
    from onnx_ir.passes.common import InlinePass

    try:
        logging.getLogger("onnx_ir").setLevel(logging.CRITICAL)  # what it warns of is refused here, in one line
        module = ir.from_proto(proto)
        if folder is not None:
            ir.external_data.set_base_dir(module.graph, folder)
        _mark_fixed_points(module)
        if module.functions:
            InlinePass(lambda f: is_known(f.domain, f.name) or template_of(templates, f.domain, f.name) is None)(module)
    except Exception as error:  # onnx-ir raises many kinds, each wrapping the one that says what is wrong
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        reason = " ".join(str(cause).split())[:300]
        raise ModelError(f"not valid ONNX: {reason}", hint="the file is malformed; export it again") from error
    return module


def _mark_fixed_points(module: ir.Model) -> None:
    """Only the Loop of a function lipcert.FixedPoint (or FixedPoint_...) says that its fixed point is meant."""
    for node in (*module.graph.all_nodes(), *(n for f in module.functions.values() for n in f.all_nodes())):
        for mark in (CONVERGED, STATE):
            node.metadata_props.pop(mark, None)
    for function in module.functions.values():
        if function.domain == "lipcert" and re.fullmatch(r"FixedPoint(_\w+)?", function.name):
            for node in function:
                if node.op_type == "Loop":
                    node.metadata_props[CONVERGED] = "yes"


def _refuse_ambiguous(proto: onnx.ModelProto) -> None:
    """What onnx-ir would settle in silence or not at all: names given twice, sparse tensors."""
    import onnx

    if undecodable := _undecodable(proto):
        raise ModelError(f"the string {undecodable!r} is not UTF-8", hint="the file is malformed; export it again")
    _refuse_large(proto)
    every = [node for part in (proto.graph, *proto.functions) for node in _nodes(part.node)]
    graphs = [(proto.graph, "")]
    for node in every:
        graphs += [(g, f" of {node.op_type} node {node.name or ''.join(node.output[:1])!r}") for g in _subgraphs(node)]
    kinds = [
        ("function", [f"{f.domain}.{f.name} {f.overload}".strip() for f in proto.functions]),
        *((f"input of function {f.name!r}", list(f.input)) for f in proto.functions),
    ]
    for graph, where in graphs:
        for sparse in graph.sparse_initializer:
            raise UnsupportedModelError(f"initializer {sparse.values.name!r}{where} is sparse", hint="store it densely")
        kinds += [
            (f"initializer{where}", [t.name for t in graph.initializer]),
            (f"input{where}", [v.name for v in graph.input]),
            (f"output{where}", [v.name for v in graph.output]),
        ]
    for kind, given in kinds:
        for name, count in Counter(given).items():
            if count > 1:
                raise ModelError(f"{kind} {name!r} is declared {count} times", hint="the file is malformed")
    opset = next((o.version for o in proto.opset_import if o.domain in ("", "ai.onnx")), 0)
    for node in every:
        label = f"{node.op_type} node {node.name or ''.join(node.output[:1])!r} (opset {opset})"
        for name, count in Counter(a.name for a in node.attribute).items():
            if count > 1:
                raise ModelError(f"{label}: attribute {name} is given {count} times", hint="the file is malformed")
        if any(a.type == onnx.AttributeProto.SPARSE_TENSOR for a in node.attribute):
            raise UnsupportedModelError(f"{label}: a sparse tensor", hint="store it densely")


def _nodes(nodes: Any) -> Iterator[onnx.NodeProto]:
    """The nodes and those of their graphs."""
    for node in nodes:
        yield node
        for graph in _subgraphs(node):
            yield from _nodes(graph.node)


def _subgraphs(node: onnx.NodeProto) -> list[onnx.GraphProto]:
    return [g for a in node.attribute for g in (*([a.g] if a.HasField("g") else []), *a.graphs)]


def _refuse_large(proto: onnx.ModelProto) -> None:
    """Refuse what would take too long to read, before it is expanded: functions count as often as they are used."""
    inside = [(f.domain, f.name, list(_nodes(f.node))) for f in proto.functions]
    nodes = list(_nodes(proto.graph.node))
    every = (*nodes, *(n for _, _, within in inside for n in within))
    stored = [g.initializer for node in every for g in _subgraphs(node)]
    limits = (
        ("initializers", len(proto.graph.initializer) + sum(map(len, stored)), MAX_INITIALIZERS),
        ("functions", len(proto.functions), MAX_FUNCTIONS),
        ("nodes", len(nodes), MAX_NODES),
    )
    for what, count, limit in limits:
        if count > limit:
            raise ModelError(f"{count} {what}, over the limit of {limit}", hint="simplify the model")
    bodies = {(domain, name): [(n.domain, n.op_type) for n in within] for domain, name, within in inside}
    sizes: dict[tuple[str, str], int] = {}
    pending = list(bodies)
    rounds = 0
    # each pass settles at least the functions whose callees are settled; what is left calls itself
    while pending and rounds <= len(bodies):
        rounds += 1
        left = []
        for key in pending:
            called = bodies[key]
            if any(c in bodies and c not in sizes for c in called):
                left.append(key)
            else:
                sizes[key] = min(MAX_NODES + 1, sum(sizes.get(c, 1) for c in called))
        if len(left) == len(pending):
            break
        pending = left
    total = sum(sizes.get((n.domain, n.op_type), 1) for n in nodes)
    if total > MAX_NODES:
        raise ModelError(f"more than {MAX_NODES} nodes once its functions are inlined", hint="simplify the model")


def _undecodable(message: Any) -> bytes | None:
    """A string of the file that is no text (protobuf hands it out as bytes), tensor data aside."""
    if hasattr(message, "raw_data"):
        strings = [message.name, *(part for e in message.external_data for part in (e.key, e.value))]
        return next((part for part in strings if isinstance(part, bytes)), None)
    for field, value in message.ListFields():
        for part in value if hasattr(value, "append") or hasattr(value, "add") else (value,):
            if hasattr(part, "ListFields"):
                if found := _undecodable(part):
                    return found
            elif isinstance(part, bytes) and field.type == field.TYPE_STRING:
                return part
    return None


def _read(path: Path) -> bytes:
    try:
        status = path.stat()
        size = status.st_size
        if path.is_dir():
            raise ModelError(f"{path}: is a folder", hint="name an .onnx file")
        if not stat.S_ISREG(status.st_mode):
            raise ModelError(f"{path}: is no regular file", hint="name an .onnx file")
        if size > MAX_FILE_BYTES:
            raise ModelError(f"{path}: {size} bytes, over the limit of 2 GiB", hint="keep the weights in external data")
        return path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a NUL byte
        reason = getattr(error, "strerror", None) or error
        raise ModelError(f"{path}: {reason}", hint="check the path") from None


def _tensors(proto: onnx.ModelProto) -> list[Any]:
    """Every stored tensor: initializers, attributes, those of functions and of graphs in attributes."""
    found: list[Any] = []
    graphs: list[Any] = [proto.graph]
    nodes = [node for function in proto.functions for node in function.node]
    while graphs or nodes:
        if graphs:
            graph = graphs.pop()
            found += graph.initializer
            nodes += graph.node
        while nodes:
            for attribute in nodes.pop().attribute:
                found += [attribute.t] if attribute.HasField("t") else []
                found += attribute.tensors
                graphs += [attribute.g] if attribute.HasField("g") else []
                graphs += attribute.graphs
    return found


def _is_external(tensor: Any) -> bool:
    import onnx

    return tensor.data_location == onnx.TensorProto.EXTERNAL


def _external_files(proto: onnx.ModelProto, path: Path) -> dict[str, Path]:
    """External data files by location; refuses any that is not a plain file inside the model's folder."""
    folder = path.parent.resolve()
    files: dict[str, Path] = {}
    needed: Counter[str] = Counter()
    for tensor in _tensors(proto):
        if not _is_external(tensor):
            continue
        location = next((e.value for e in tensor.external_data if e.key == "location"), "")
        file = folder / location
        where = {e.key: e.value for e in tensor.external_data}
        if not all(where.get(key, "0").isdecimal() for key in ("offset", "length")):
            raise ModelError(f"{path}: tensor {tensor.name!r} has no valid offset and length", hint="export it again")
        if "\0" in location or any(len(part.encode()) > MAX_NAME for part in Path(location).parts):
            raise ModelError(
                f"{path}: tensor {tensor.name!r} lies at {location[:100]!r}", hint="no file can exist there"
            )
        if not _is_inside(location, file, folder):
            raise ModelError(
                f"{path}: tensor {tensor.name!r} lies outside the model's folder, at {location!r}",
                hint="external data must be a plain file beside the model",
            )
        if not file.is_file():
            raise ModelError(f"{path}: external data {location!r} is missing", hint="copy it beside the model")
        files[location] = file
        needed[location] += int(where.get("length", 0)) or _stored_bytes(tensor)
    for location, file in files.items():
        size = file.stat().st_size
        if size > 4 * needed[location] + MAX_SPARE_BYTES:
            raise ModelError(
                f"{path}: external data {location!r} has {size} bytes, of which the model needs {needed[location]}",
                hint="store the model's own data only",
            )
    return dict(sorted(files.items()))


def _is_inside(location: str, file: Path, folder: Path) -> bool:
    """Whether the file is a plain one in the folder, which no link leads out of."""
    try:
        resolved = file.resolve()
    except (OSError, RuntimeError):  # a ring of links
        return False
    return (
        bool(location)
        and not Path(location).is_absolute()
        and resolved.is_relative_to(folder)
        and not file.is_symlink()
    )


def _stored_bytes(tensor: Any) -> int:
    """At most what the tensor's entries take, of eight bytes each."""
    return 8 * math.prod(max(0, d) for d in tensor.dims)


def _sha256_file(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
