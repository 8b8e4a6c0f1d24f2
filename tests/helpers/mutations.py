"""What an adversary, a bug or a bad disk does to a report: JSON texts, each one edit away from the report given."""

from __future__ import annotations

import copy
import hashlib
import json
import math
import zlib
from base64 import b64encode
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from lipcert.certificate.encoding import decode_array, encode_array

Path = tuple[str | int, ...]
Mutation = tuple[str, str]
"""A label, and a text."""

DEPTH = 10_000
TINY = "0x1.0000000000000p-900"

CERTIFIED = ("certificate", "result", "query", "model")
"""The parts that a check rests on; the rest of a report is for people."""

OTHER_TYPES: list[Any] = [None, True, False, 0, 1, -1, 0.5, "", "1", "0x1p0", [], {}, [[]], {"is": "Claim"}, ["0x1p0"]]

ARRAY_EDITS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "halved": lambda a: a / 2,
    "doubled": lambda a: a * 2,
    "negated": lambda a: -a,
    "zeros": np.zeros_like,
    "tiny": lambda a: np.full_like(a, 5e-324),
    "huge": lambda a: np.full_like(a, 1.7e308),
    "scaled down": lambda a: a * 1e-310,
    "scaled up": lambda a: a * 1e200,
    "moved": lambda a: a + 1,
    "a hundredth more": lambda a: a * 1.01,
    "a hundredth less": lambda a: a * 0.99,
    "a millionth more": lambda a: a * (1 + 1e-6),
    "one a hundredth more": lambda a: np.where(np.arange(a.size).reshape(a.shape) == 0, a * 1.01, a),
    "NaN": lambda a: np.full_like(a, math.nan),
    "Inf": lambda a: np.full_like(a, math.inf),
    "one NaN": lambda a: np.where((np.arange(a.size) == a.size - 1).reshape(a.shape), math.nan, a),
    "one Inf": lambda a: np.where((np.arange(a.size) == 0).reshape(a.shape), -math.inf, a),
    "longer": lambda a: np.append(a, 1.0),
    "shorter": lambda a: a[:-1],
    "empty": lambda a: a[:0],
    "column": lambda a: a[:, None],
    "row": lambda a: a[None, :],
    "scalar": lambda a: np.array(1.0),
    "many axes": lambda a: a.reshape(a.shape + (1,) * 40),
}

SHAPES: list[Any] = [
    [-1],
    [0],
    [2**62],
    [10**30],
    [0, 10**30],
    [0, 2**40, 2**40],
    [2**31, 2**31, 2**31],
    [1] * 100,
    [1.0],
    ["1"],
    [[1]],
    [True],
    None,
    {},
]


def mutations(report: dict[str, Any]) -> Iterator[Mutation]:
    """Every kind of edit of every part of a report."""
    yield from _truncations(report)
    yield from _nestings(report)
    yield from _number_texts(report)
    for part in CERTIFIED:
        yield from part_edits(report, part)
    for path, item in _walk(report):
        if path:
            yield _label(path, "removed"), _text(_removed(report, path))
        if isinstance(item, dict):
            yield _label(path, "one more field"), _text(_replaced(report, (*path, "extra"), 1))
    for key in ("schema", "tool", "model", "attempts", "environment"):
        for other in OTHER_TYPES:
            yield _label((key,), f"became {other!r}"), _text(_replaced(report, (key,), other))


def part_edits(report: dict[str, Any], part: str) -> Iterator[Mutation]:
    """Edits of everything in one part; which other types and tags it is given takes turns."""
    for turn, (path, item) in enumerate(_walk(report[part])):
        for label, edited in (*_other_types(item, turn), *_edits(item)):
            yield _label((part, *path), label), _text(_replaced(report, (part, *path), edited))


def query_edits(report: dict[str, Any]) -> Iterator[Mutation]:
    """The same evidence for another question."""
    inputs = sum(math.prod(t["shape"]) for t in report["model"]["inputs"])
    outputs = math.prod(report["model"]["outputs"][0]["shape"])
    ball = {"kind": "ball", "description": "", "norm": "2", "eps": (0.5).hex(), "center": encode_array(np.ones(inputs))}
    box = {"kind": "box", "description": "", "lower": encode_array(-np.ones(inputs)), "upper": ball["center"]}
    regions = {
        "everywhere": {"kind": "everywhere", "description": ""},
        "ball": ball,
        "far ball": {**ball, "center": encode_array(np.full(inputs, 1e6))},
        "wide ball": {**ball, "eps": (1e6).hex()},
        "point": {**ball, "eps": (0.0).hex()},
        "box": box,
        "point box": {**box, "lower": box["upper"]},
        "empty box": {**box, "lower": box["upper"], "upper": box["lower"]},
    }
    choices = [{"kind": "all"}, {"kind": "some", "indices": []}, {"kind": "some", "indices": [0] * 3}]
    choices += [{"kind": "some", "indices": [i]} for i in (-1, 0, outputs - 1, outputs, 10**30)]
    choices += [{"kind": "margin", "first": i, "second": j} for i, j in ((0, 0), (0, outputs - 1), (-1, 0))]
    for norm in ("1", "2", "inf", "3", "0", "nan", "l2"):
        for side in ("norm_in", "norm_out"):
            yield f"{side} {norm}", _text(_replaced(report, ("query", side), norm))
        yield f"both norms {norm}", _text(_updated(report, "query", norm_in=norm, norm_out=norm))
    for name, region in regions.items():
        yield f"region {name}", _text(_updated(report, "query", region=region))
    for choice in choices:
        yield f"outputs {choice}", _text(_updated(report, "query", outputs=choice))
    for names in (
        [report["model"]["inputs"][0]["name"]],
        ["nothing"],
        ["", ""],
        [report["model"]["inputs"][0]["name"]] * 2,
    ):
        yield f"inputs {names}", _text(_updated(report, "query", inputs=names))
    region = report["query"]["region"]
    for factor in (0.0, 0.5, 2.0, 1e3, 1e300, math.inf, math.nan, -1.0):
        if region["kind"] == "ball":
            eps = float.fromhex(region["eps"]) * factor
            yield f"eps x {factor}", _text(_replaced(report, ("query", "region", "eps"), eps.hex()))


def evidence_of(report: dict[str, Any]) -> Any:
    """The evidence as it stands in the JSON, with what it speaks of, or None."""
    certificate = report.get("certificate")
    return (certificate.get("evidence"), certificate.get("anywhere")) if isinstance(certificate, dict) else None


def shape_of(evidence: Any) -> Any:
    """The evidence without its numbers: two of the same shape differ in numbers only."""
    if isinstance(evidence, dict):
        return {key: shape_of(value) for key, value in evidence.items()}
    if isinstance(evidence, list | tuple):
        return [shape_of(value) for value in evidence]
    return "number" if isinstance(evidence, str) and ("0x" in evidence or evidence in ("nan", "inf")) else evidence


def _other_types(item: Any, turn: int) -> Iterator[tuple[str, Any]]:
    """A few values of other types, and for a string a few of other meaning."""
    yield from ((f"became {other!r}", other) for other in OTHER_TYPES[turn % 4 :: 4])
    if isinstance(item, str):
        yield from ((f"became {tag}", tag) for tag in _TAGS[turn % 3 :: 3])


def _edits(item: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(item, str) and item.startswith("0x"):
        yield from _float_edits(item)
    elif isinstance(item, str):
        yield "longer", item + "x"
    elif isinstance(item, bool):
        yield "flipped", not item
    elif isinstance(item, int | float):
        yield from _number_edits(item)
    elif isinstance(item, list):
        yield from _list_edits(item)
    elif isinstance(item, dict) and set(item) == {"shape", "sha256", "zlib"}:
        yield from _array_edits(item)
    elif isinstance(item, dict) and item.get("is") in _PROOFS:
        yield from _proof_edits(item)


_PROOFS: dict[str, dict[str, Any]] = {
    "Entrywise": {},
    "Spectral": {"sigma": TINY},
    "Overlap": {"sigma": TINY},
    "Taps": {"sigmas": [TINY]},
    "Factors": {"proofs": []},
    "Terms": {"proofs": []},
}
_TAGS = (
    *_PROOFS,
    "Claim",
    "AbsoluteChain",
    "SpectralChain",
    "Inequality",
    "Scaling",
    "Witness",
    "everywhere",
    "ball",
    "box",
    "all",
    "refused",
)


def _proof_edits(item: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Another rule in the place of this one, with numbers that would prove anything."""
    one = {"is": "Entrywise"}
    small = {"is": "Spectral", "sigma": TINY}
    for name, fields in _PROOFS.items():
        yield f"became {name}", {"is": name, **fields}
        for part in (one, small, item):
            if "proofs" in fields:
                for count in range(1, 4):
                    yield f"became {name} of {count}", {"is": name, "proofs": [part] * count}
    yield "minus", {"is": "Spectral", "sigma": "-0x1.0000000000000p+40"}
    for count in (1, 4, 9):
        yield f"became {count} tiny taps", {"is": "Taps", "sigmas": [TINY] * count}


def _float_edits(item: str) -> Iterator[tuple[str, Any]]:
    value = float.fromhex(item)
    for factor in (1 - 1e-6, 1 - 1e-9, 1 + 1e-6, 0.0, -0.0, 0.5, 2.0, -1.0, 1e-300, 1e300, math.inf, math.nan):
        yield f"x {factor}", (value * factor).hex()
    for text in ("nan", "inf", "-inf", "infinity", TINY, f"-{item}", "0x1p99999", "1e400", " " + item, item.upper()):
        yield f"became {text}", text


def _number_edits(item: float) -> Iterator[tuple[str, Any]]:
    for factor in (0, 0.5, 1 - 1e-6, 1 + 1e-6, 2, -1, 1e300, 1e-300):
        yield f"x {factor}", item * factor
    for value in (item + 1, item - 1, 10**400, -(10**400), 5e-324):
        yield f"became {str(value)[:20]}", value


def _list_edits(item: list[Any]) -> Iterator[tuple[str, Any]]:
    yield "emptied", []
    yield "doubled", item + item
    yield "reversed", item[::-1]
    for other in (0, 1, -1, 2, 99, None, [], {}):
        yield f"one more: {other!r}", [*item, other]
    for i in range(len(item)):
        yield f"without {i}", item[:i] + item[i + 1 :]
        yield f"{i} twice", [*item[:i], item[i], *item[i:]]
        yield f"{i} first", [item[i], *item[:i], *item[i + 1 :]]
        yield f"{i} last", [*item[:i], *item[i + 1 :], item[i]]


def _array_edits(item: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    array = decode_array(item, "array")
    for name, edit in ARRAY_EDITS.items():
        yield f"array {name}", encode_array(edit(array))
    for shape in SHAPES:
        yield f"shape {shape!r}"[:40], {**item, "shape": shape}
    raw = array.astype("<f8").tobytes()
    for name, data in (("short", raw[:-1]), ("long", raw + b"\0"), ("flipped", bytes([raw[0] ^ 1]) + raw[1:])):
        packed = b64encode(zlib.compress(data)).decode()
        yield f"bytes {name}", {**item, "zlib": packed}
        yield f"bytes {name}, digest right", {**item, "zlib": packed, "sha256": hashlib.sha256(data).hexdigest()}
    packed = item["zlib"]
    bomb = b64encode(zlib.compress(bytes(2**24))).decode()
    for name, text in (("cut", packed[: len(packed) // 2]), ("not base64", "ü" + packed), ("a bomb", bomb)):
        yield f"zlib {name}", {**item, "zlib": text}


def _number_texts(report: dict[str, Any]) -> Iterator[Mutation]:
    """Numbers as JSON has them not, or as Python reads them into something else."""
    for key in ("upper", "lower", "gap"):
        marked = _text(_replaced(report, ("result", key), "HERE"))
        for number in (
            "NaN",
            "Infinity",
            "-Infinity",
            "1e999",
            "-1e999",
            "-0.0",
            "1" * 400,
            "1" * 5000,
            "0x1",
            "1.",
            "+1",
        ):
            yield f"result.{key} is {number[:20]}", marked.replace('"HERE"', number)


def _truncations(report: dict[str, Any]) -> Iterator[Mutation]:
    text = json.dumps(report, indent=2)
    for length in sorted({0, 1, 2, len(text) - 1, *range(0, len(text), max(1, len(text) // 60))}):
        yield f"first {length} characters", text[:length]


def _nestings(report: dict[str, Any]) -> Iterator[Mutation]:
    """Depth in place of each part that is an object, and of a proof; some of it well-formed."""
    for depth in (40, 900, DEPTH):
        lists, objects = "[" * depth + "]" * depth, '{"is":' * depth + "1" + "}" * depth
        proofs = '{"is": "Factors", "proofs": [' * depth + '{"is": "Entrywise"}' + "]}" * depth
        for key in ("schema", "model", "query", "result", "certificate"):
            marked = _text(_replaced(report, (key,), "HERE"))
            for name, nested in (("lists", lists), ("objects", objects)):
                yield f"{key} is {depth} {name}", marked.replace('"HERE"', nested)
        marked = _text(_updated(report, "certificate", evidence="HERE"))
        yield f"evidence is {depth} lists", marked.replace('"HERE"', lists)
        for path, item in _walk(report):
            if path[:1] == ("certificate",) and isinstance(item, dict) and item.get("is") in _PROOFS:
                marked = _text(_replaced(report, path, "HERE"))
                yield f"a proof of depth {depth}", marked.replace('"HERE"', proofs)
                break
        for path in (("result", "witness"), ("query", "region"), ("result", "gap"), ("result", "status")):
            yield f"{path[-1]} is {depth} lists", _text(_replaced(report, path, "HERE")).replace('"HERE"', lists)


def _walk(item: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    yield path, item
    children = item.items() if isinstance(item, dict) else enumerate(item) if isinstance(item, list) else ()
    for key, child in children:
        yield from _walk(child, (*path, key))


def _replaced(report: dict[str, Any], path: Path, value: Any) -> dict[str, Any]:
    changed = copy.deepcopy(report)
    parent: Any = changed
    for key in path[:-1]:
        parent = parent[key]
    parent[path[-1]] = value
    return changed


def _removed(report: dict[str, Any], path: Path) -> dict[str, Any]:
    changed = copy.deepcopy(report)
    parent: Any = changed
    for key in path[:-1]:
        parent = parent[key]
    del parent[path[-1]]
    return changed


def _updated(report: dict[str, Any], part: str, **fields: Any) -> dict[str, Any]:
    return {**report, part: {**report[part], **fields}}


def _label(path: Path, edit: str) -> str:
    return f"{'.'.join(map(str, path))}: {edit}"


def _text(report: dict[str, Any]) -> str:
    return json.dumps(report)
