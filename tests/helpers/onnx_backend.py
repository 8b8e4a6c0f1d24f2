"""The ONNX project's own node tests, run through the importer, and docs/ops.md, the table of what came of it.

A test of the onnx package is one node (or, "expanded", the function body that ONNX defines it by) with inputs and the
outputs to expect. The first float input stays an input of the network, the others become initializers; the imported
Graph, evaluated in float64, must give the expected outputs. What cannot be asked in this way is in EXCLUSIONS.

`python -m tests.helpers.onnx_backend` writes docs/ops.md anew and lists what fails; with -v, what is refused too.
"""

from __future__ import annotations

import re
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from lipcert.errors import LipcertError, UnsupportedModelError
from lipcert.frontend import Model, load_proto
from lipcert.frontend.registry import find_converter, supported_ops
from lipcert.graph import Affine
from lipcert.operators import size_of
from tests.helpers.onnx_models import lipcert_outputs
from tests.helpers.paths import ROOT

DOCUMENT = ROOT / "docs" / "ops.md"

RTOL, ATOL = 1e-3, 1e-6
"""The tolerance of onnx's own runner, with room for float32 sums that cancel."""

HALF_ATOL = 2e-3
"""The same for tests whose data is float16."""

_EXPANDED = re.compile(r"_expanded(_ver\d+)?$")

_FLOATS = ("float16", "float32", "float64")


@dataclass(frozen=True, eq=False)
class Case:
    """One node test: `op` is the op under test, whether the graph holds it or the body that defines it."""

    name: str
    op: str
    domain: str
    model: onnx.ModelProto
    inputs: tuple[Any, ...]
    outputs: tuple[Any, ...]

    @property
    def expanded(self) -> bool:
        return bool(_EXPANDED.search(self.name))

    @property
    def arrays(self) -> tuple[Any, ...]:
        return (*self.inputs, *self.outputs)

    @property
    def floats(self) -> tuple[int, ...]:
        """The positions of the float inputs."""
        return tuple(i for i, a in enumerate(self.inputs) if _is_float(a) and a.size)


def _is_float(array: Any) -> bool:
    return isinstance(array, np.ndarray) and array.dtype.name in _FLOATS


# ---------------------------------------------------------------------------- what cannot be asked


def _attribute(case: Case, name: str) -> Any:
    found = [a for a in case.model.graph.node[0].attribute if a.name == name]
    return onnx.helper.get_attribute_value(found[0]) if found else None


def _odd_type(case: Case) -> bool:
    kinds = {a.dtype for a in case.arrays if isinstance(a, np.ndarray)}
    return any(k.name not in _FLOATS and k.kind not in "iub" for k in kinds)


def _compared(case: Case) -> tuple[Any, ...]:
    return case.outputs[:1] if case.op in FIRST_OUTPUT else case.outputs


def _trains(case: Case) -> bool:
    if case.op == "Dropout" and len(case.inputs) > 2 and bool(np.any(case.inputs[2])):
        return True
    return bool(_attribute(case, "training_mode"))


EXCLUSIONS: dict[str, Callable[[Case], bool] | frozenset[str]] = {
    "sequences and optionals": lambda case: not all(isinstance(a, np.ndarray) for a in case.arrays),
    "strings, bfloat16, float8, int4": _odd_type,
    "no float input": lambda case: not case.floats,
    "integer or Boolean results": lambda case: not all(_is_float(a) for a in _compared(case)),
    "NaN or Inf in the data": lambda case: not all(np.all(np.isfinite(a)) for a in case.arrays if _is_float(a)),
    "no entries": lambda case: not all(a.size for a in (*case.outputs, *case.inputs[:1])),
    "training": _trains,
}
"""Why a test is left out, and which: the first reason that holds is the one given."""


def _hides_positions(case: Case) -> bool:
    """Attention to some positions only: causal, in a window, by a Boolean mask, or with a cache."""
    if case.op != "Attention" or case.expanded:
        return False
    windows = [_attribute(case, f"{side}_window_size") for side in ("left", "right")]
    further = [name for name in case.model.graph.node[0].input[4:] if name]
    masked = any(a.dtype == np.bool_ for a in case.inputs)
    return bool(further or masked or _attribute(case, "is_causal") or any(w is not None and w >= 0 for w in windows))


REFUSED_DEFINITION = "defined by ops that are not read"
"""Why the expanded form of an op may be refused: its body holds, say, a comparison of floats."""


def _resizes_otherwise(case: Case) -> bool:
    words = ("cubic", "antialias", "crop", "not_larger", "not_smaller", "symmetric", "linear_align_corners")
    return case.op == "Resize" and any(word in case.name for word in words)


REFUSALS: dict[str, Callable[[Case], bool] | frozenset[str]] = {
    "attention to some positions only": _hides_positions,
    "resizing that is cubic, antialiased, cropped or keeps a ratio": _resizes_otherwise,
    "many exponents that are no integers": frozenset({"test_pow"}),
}
"""What lipcert may refuse, and why: these tests are run, and fail if the import gives another result."""


def _reason(case: Case, table: dict[str, Callable[[Case], bool] | frozenset[str]]) -> str | None:
    """The first reason of a table that holds."""
    for reason, applies in table.items():
        if case.name in applies if isinstance(applies, frozenset) else applies(case):
            return reason
    return None


def exclusion(case: Case) -> str | None:
    return _reason(case, EXCLUSIONS)


def may_be_refused(case: Case) -> str | None:
    return REFUSED_DEFINITION if case.expanded else _reason(case, REFUSALS)


# ---------------------------------------------------------------------------- the tests


@cache
def all_cases() -> dict[str, list[Case]]:
    """Every node test of the installed onnx package, by op under test."""
    from onnx.backend.test.loader import load_model_tests

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loaded = {test.name: test for test in load_model_tests(kind="node")}
    found: dict[str, list[Case]] = {}
    for name, test in loaded.items():
        assert test.model is not None
        assert test.data_sets is not None
        (node,) = loaded[_EXPANDED.sub("", name)].model.graph.node
        inputs, outputs = (tuple(_array(a) for a in arrays) for arrays in test.data_sets[0])
        found.setdefault(node.op_type, []).append(Case(name, node.op_type, node.domain, test.model, inputs, outputs))
    return found


def _array(data: Any) -> Any:
    if isinstance(data, onnx.TensorProto):
        data = numpy_helper.to_array(data)
    return np.asarray(data) if isinstance(data, np.ndarray | np.generic) else data


def is_read(case: Case) -> bool:
    """Whether lipcert has a converter for the op under test, in some version."""
    return any(find_converter(case.domain, case.op, v) for v in supported_ops().get(case.op, ()))


OTHERS = "others"
"""The row of expanded tests of ops that are read by their definition alone."""


def rows() -> list[str]:
    return [*sorted(supported_ops(), key=str.lower), OTHERS]


def cases_of(row: str) -> list[Case]:
    """The tests of a row of the table."""
    if row != OTHERS:
        return [case for case in all_cases().get(row, []) if is_read(case)]
    unread = (case for cases in all_cases().values() for case in cases if not is_read(case))
    return [case for case in unread if case.expanded and exclusion(case) is None]


# ---------------------------------------------------------------------------- one run


FIRST_OUTPUT = frozenset(("Attention", "Dropout", "LayerNormalization", "MaxPool", "TopK"))
"""Ops whose further outputs (masks, indices, statistics) are taken off the tests."""


def bound(case: Case, live: Sequence[int]) -> onnx.ModelProto:
    """The test's model with the inputs `live` as inputs, and the data of the others as initializers."""
    proto = onnx.ModelProto()
    proto.CopyFrom(case.model)
    kept = [proto.graph.input[i] for i in live]
    stored = [
        numpy_helper.from_array(array, value.name)
        for i, (array, value) in enumerate(zip(case.inputs, proto.graph.input, strict=True))
        if i not in live
    ]
    proto.graph.ClearField("input")
    proto.graph.input.extend(kept)
    proto.graph.initializer.extend(stored)
    if case.op in FIRST_OUTPUT:
        del proto.graph.output[1:]
        if not case.expanded:
            del proto.graph.node[0].output[1:]
    return proto


def folded(case: Case) -> onnx.ModelProto:
    """The test's model with all its inputs as initializers, and a new input added to its first output."""
    proto = bound(case, ())
    shape = case.outputs[0].shape
    result = proto.graph.output[0]
    free = onnx.helper.make_tensor_value_info("free input", result.type.tensor_type.elem_type, shape)
    proto.graph.input.append(free)
    proto.graph.node.append(onnx.helper.make_node("Add", [result.name, free.name], ["free output"]))
    proto.graph.ClearField("output")
    proto.graph.output.append(onnx.helper.make_tensor_value_info("free output", free.type.tensor_type.elem_type, shape))
    return proto


class NotRead(Exception):
    """An output of the test that the import leaves out, and says so."""


def _difference(case: Case, proto: onnx.ModelProto, point: dict[str, np.ndarray], *, check: bool) -> str | None:
    """What is wrong with the import's outputs at a point, if anything."""
    imported = load_proto(proto, check=check)
    ours = lipcert_outputs(imported, point)
    for value, expected in zip(proto.graph.output, case.outputs, strict=False):
        if value.name not in ours:
            assert any(value.name in note for note in imported.notes), f"output {value.name} is lost"
            raise NotRead(f"output {value.name} is not read")
        found = ours[value.name]
        if found.shape != expected.shape:
            return f"output {value.name} has shape {found.shape}, not {expected.shape}"
        half = any(a.dtype == np.float16 for a in case.arrays)
        permitted = RTOL * np.abs(expected.astype(np.float64)) + (HALF_ATOL if half else ATOL)
        off = np.abs(found - expected.astype(np.float64))
        if not np.all(off <= permitted + _radius(imported, value.name).reshape(off.shape)):
            return f"output {value.name} is off by {np.max(off):.2e}"
    return None


def _radius(imported: Model, name: str) -> np.ndarray:
    """How far a constant that was computed at import may lie from the middle of what encloses it."""
    node = imported.graph.nodes[next(o.node for o in imported.graph.outputs if o.name == name)]
    size = size_of(node.shape)
    return np.broadcast_to(node.bias.radius, size) if isinstance(node, Affine) else np.zeros(size)


CONSTANT_OR_INFINITE = ("depends on no input", "holds NaN or Inf")
"""Words of refusals that are no fault: other inputs or a definition by other ops lead there."""


def _tried(act: Callable[[], str | None]) -> tuple[bool, str | None]:
    """Whether it was refused, and why or what failed."""
    try:
        return False, act()
    except (UnsupportedModelError, NotRead) as error:
        return True, f"refused: {error}"
    except LipcertError as error:
        return any(words in str(error) for words in CONSTANT_OR_INFINITE), f"{type(error).__name__}: {error}"
    except Exception as error:  # reported like every other failure
        return False, f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def run(case: Case, live: Sequence[int]) -> tuple[bool, str | None]:
    """With the self-check, where this onnxruntime can run the model."""
    proto = bound(case, live)
    point = {case.model.graph.input[i].name: case.inputs[i] for i in live}
    refused, wrong = _tried(lambda: _difference(case, proto, point, check=True))
    if wrong and "onnxruntime cannot run it" in wrong:
        return _tried(lambda: _difference(case, proto, point, check=False))
    return refused, wrong


def run_folded(case: Case) -> tuple[bool, str | None]:
    proto = folded(case)
    point = {"free input": np.zeros(case.outputs[0].shape)}
    return _tried(lambda: _difference(case, proto, point, check=False))


# ---------------------------------------------------------------------------- one row


@dataclass
class Row:
    """What came of the tests of one op."""

    op: str
    total: int = 0
    passed: int = 0
    others: int = 0
    others_passed: int = 0
    folded: int = 0
    excluded: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)
    """What was refused and need not be read."""

    def __str__(self) -> str:
        versions = ", ".join(map(str, sorted(supported_ops().get(self.op, ()))))
        others = f"{self.others_passed} of {self.others}" if self.others else ""
        left_out = "; ".join(f"{count}: {reason}" for reason, count in sorted(self.excluded.items()))
        passed = f"{self.passed} of {self.total}" if self.total else ""
        constants = f"{self.folded} of {self.total}" if self.total else ""
        return f"| {self.op} | {versions} | {passed} | {others} | {constants} | {left_out} |"


@cache
def row_of(op: str) -> Row:
    """Run the tests of one row."""
    row = Row(op)
    for case in cases_of(op):
        reason = exclusion(case)
        if reason is not None:
            row.excluded[reason] += 1
            continue
        first, *rest = case.floats
        refused, wrong = run(case, (first,))
        if refused and (reason := may_be_refused(case)):
            row.excluded[reason] += 1
            row.refusals.append(f"{case.name}: {wrong}")
            continue
        row.total += 1
        row.passed += wrong is None
        if wrong:
            row.failures.append(f"{case.name}: {wrong}")
        for live in [*((i,) for i in rest), case.floats] if rest else []:
            row.others += 1
            refused, wrong = run(case, live)
            row.others_passed += wrong is None
            if wrong:
                (row.refusals if refused else row.failures).append(f"{case.name}, inputs {live} live: {wrong}")
        refused, wrong = run_folded(case)
        row.folded += wrong is None
        if wrong:
            (row.refusals if refused else row.failures).append(f"{case.name}, as a constant: {wrong}")
    return row


# ---------------------------------------------------------------------------- the document

HEAD = f"""# The ops that lipcert reads

Written by `python -m tests.helpers.onnx_backend`; a test compares it with what is true. onnx {onnx.__version__}.

- **Versions**: the opsets in which ONNX (re)defined the op, and that the converter was read against. A model uses the
  last definition up to its own opset.
- **Node tests**: those of the ONNX project for this op that pass, with the first float input live and the others
  constant; those of its definition by other ops, where ONNX has one, included.
  Of {", ".join(sorted(FIRST_OUTPUT))} they compare the first output.
- **Other inputs live**: the same tests with another input live, or all of them; the rest is refused.
- **Folded**: the same tests on constants alone.
- **Left out**: tests that this way of asking does not fit, and what lipcert refuses by design.
- The last row: ops without a converter of their own, in the form of their definition.

| Op | Versions | Node tests | Other inputs live | Folded | Left out |
|---|---|---|---|---|---|
"""


def document() -> str:
    return HEAD + "".join(f"{row_of(op)}\n" for op in rows())


def written_with_this_onnx() -> bool:
    return f"onnx {onnx.__version__}." in DOCUMENT.read_text(encoding="utf-8")


def main() -> int:
    DOCUMENT.write_text(document(), encoding="utf-8")
    failures = [f"FAILS {op}: {failure}" for op in rows() for failure in row_of(op).failures]
    refusals = [f"refused {op}: {refusal}" for op in rows() for refusal in row_of(op).refusals]
    print("\n".join([*refusals, *failures] if "-v" in sys.argv else failures) or "every test passes")
    return bool(failures)


if __name__ == "__main__":
    sys.exit(main())
