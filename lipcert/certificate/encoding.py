"""Claims, witnesses and queries as JSON: numbers as hex floats, arrays compressed and with a digest.

Decoding trusts nothing: it follows the declared types of the dataclasses, and anything else is a CertificateError
that names the field.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import math
import types
import typing
import zlib
from typing import Any

import numpy as np

from lipcert.certificate.claim import (
    BoxClaim,
    Claim,
    Extremes,
    MonotoneClaim,
    RobustnessClaim,
    Rows,
    Slope,
    Witness,
)
from lipcert.errors import CertificateError, UsageError
from lipcert.problem import Query, norm_name, parse_norm
from lipcert.problem.outputs import AllOutputs, Margin, Margins, SomeOutputs
from lipcert.problem.regions import Ball, Box, Everywhere

MAX_ARRAY_BYTES = 2**30
MAX_DEPTH = 32
MAX_RANK = 8

_REGIONS = {"everywhere": Everywhere, "ball": Ball, "box": Box}
_OUTPUTS = {"all": AllOutputs, "some": SomeOutputs, "margin": Margin, "margins": Margins}


def encode(item: Any) -> Any:
    """A claim, witness or part of one as JSON data; unions are told apart by `is`, the name of the class."""
    if isinstance(item, np.ndarray):
        return encode_array(item)
    if dataclasses.is_dataclass(item):
        fields = {f.name: encode(getattr(item, f.name)) for f in dataclasses.fields(item)}
        return {"is": type(item).__name__, **fields}
    if isinstance(item, tuple):
        return [encode(part) for part in item]
    if isinstance(item, float):
        return float(item).hex()
    return item


def encode_array(array: np.ndarray) -> dict[str, Any]:
    data = np.ascontiguousarray(array, dtype="<f8").tobytes()
    return {
        "shape": list(array.shape),
        "sha256": hashlib.sha256(data).hexdigest(),
        "zlib": base64.b64encode(zlib.compress(data, 6)).decode("ascii"),
    }


def decode_claim(data: Any) -> Claim:
    return _decode(Claim, data, "certificate", 0)


def decode_box(data: Any) -> BoxClaim:
    return _decode(BoxClaim, data, "certificate", 0)


def decode_extremes(data: Any) -> Extremes:
    return _decode(Extremes, data, "attained", 0)


def decode_monotone(data: Any) -> MonotoneClaim:
    return _decode(MonotoneClaim, data, "certificate", 0)


def decode_robustness(data: Any) -> RobustnessClaim:
    return _decode(RobustnessClaim, data, "certificate", 0)


def decode_slope(data: Any) -> Slope:
    return _decode(Slope, data, "counterexample", 0)


def decode_rows(data: Any) -> Rows:
    return _decode(Rows, data, "trees", 0)


def decode_witness(data: Any) -> Witness:
    return _decode(Witness, data, "witness", 0)


def encode_query(query: Query) -> dict[str, Any]:
    """The query in the report's words; regions keep exact numbers, with a description beside them."""
    region, outputs = query.region, query.outputs
    return {
        "norm_in": norm_name(query.norm_in),
        "norm_out": norm_name(query.norm_out),
        "region": {"kind": _kind(region, _REGIONS), **_fields(region), "description": region.describe()},
        "outputs": {"kind": _kind(outputs, _OUTPUTS), **_fields(outputs)},
        "inputs": list(query.inputs),
        "output": query.output,
    }


def decode_query(data: Any) -> Query:
    parts = _object(data, "query")
    try:
        return Query(
            norm_in=parse_norm(_string(parts.get("norm_in"), "query.norm_in")),
            norm_out=parse_norm(_string(parts.get("norm_out"), "query.norm_out")),
            region=_by_kind(parts.get("region"), _REGIONS, "query.region"),
            outputs=_by_kind(parts.get("outputs"), _OUTPUTS, "query.outputs"),
            inputs=tuple(_string(name, "query.inputs") for name in _list(parts.get("inputs", []), "query.inputs")),
            output=_string(parts.get("output", ""), "query.output"),
        )
    except UsageError as error:
        raise CertificateError(f"query: {error.message}") from None


def _kind(item: Any, table: dict[str, type]) -> str:
    return next(name for name, cls in table.items() if type(item) is cls)


def _fields(item: Any) -> dict[str, Any]:
    fields = {f.name: encode(getattr(item, f.name)) for f in dataclasses.fields(item)}
    if "norm" in fields:
        fields["norm"] = norm_name(item.norm)
    return fields


def _by_kind(data: Any, table: dict[str, type], where: str) -> Any:
    parts = dict(_object(data, where))
    parts.pop("description", None)
    cls = table.get(_string(parts.pop("kind", None), f"{where}.kind"))
    if cls is None:
        raise CertificateError(f"{where}.kind: unknown")
    if "norm" in parts:
        parts["norm"] = parse_norm(_string(parts["norm"], f"{where}.norm")).hex()
    return _decode(cls, {"is": cls.__name__, **parts}, where, 0)


def _decode(wanted: Any, data: Any, where: str, depth: int) -> Any:
    if depth > MAX_DEPTH:
        raise CertificateError(f"{where}: nested too deeply")
    origin = typing.get_origin(wanted)
    if origin is types.UnionType or origin is typing.Union:
        tag = _object(data, where).get("is")
        match = [c for c in typing.get_args(wanted) if c.__name__ == tag]
        if not match:
            raise CertificateError(f"{where}: unknown kind {tag!r}")
        return _decode(match[0], data, where, depth)
    if origin is tuple:
        inner = typing.get_args(wanted)[0]
        parts = enumerate(_list(data, where))
        return tuple(_decode(inner, part, f"{where}[{i}]", depth + 1) for i, part in parts)
    if dataclasses.is_dataclass(wanted):
        return _decode_object(wanted, _object(data, where), where, depth)
    if wanted is np.ndarray:
        return decode_array(data, where)
    if wanted is float:
        return _hex_float(data, where)
    if wanted is bool:
        if type(data) is not bool:
            raise CertificateError(f"{where}: not true or false")
        return data
    if wanted is int:
        if type(data) is not int:
            raise CertificateError(f"{where}: not an integer")
        return data
    raise CertificateError(f"{where}: cannot be read")


def _decode_object(cls: Any, parts: dict[str, Any], where: str, depth: int) -> Any:
    hints = typing.get_type_hints(cls)
    names = [f.name for f in dataclasses.fields(cls)]
    if parts.get("is") != cls.__name__ or set(parts) != {"is", *names}:
        raise CertificateError(f"{where}: not a {cls.__name__} with the fields {', '.join(names) or '(none)'}")
    return cls(**{name: _decode(hints[name], parts[name], f"{where}.{name}", depth + 1) for name in names})


def decode_array(data: Any, where: str) -> np.ndarray:
    parts = _object(data, where)
    shape = tuple(_decode(int, d, f"{where}.shape", 0) for d in _list(parts.get("shape"), f"{where}.shape"))
    size = 8 * math.prod(shape)
    if len(shape) > MAX_RANK or any(not 0 <= d <= MAX_ARRAY_BYTES for d in shape) or size > MAX_ARRAY_BYTES:
        raise CertificateError(f"{where}: its shape is not usable")
    try:
        packed = base64.b64decode(_string(parts.get("zlib"), f"{where}.zlib"), validate=True)
        inflater = zlib.decompressobj()
        raw = inflater.decompress(packed, size + 1)
    except (ValueError, zlib.error):
        raise CertificateError(f"{where}: damaged array data") from None
    if len(raw) != size or hashlib.sha256(raw).hexdigest() != parts.get("sha256"):
        raise CertificateError(f"{where}: array data do not match their shape or digest")
    return np.frombuffer(raw, dtype="<f8").astype(np.float64).reshape(shape)


def _hex_float(data: Any, where: str) -> float:
    try:
        return float.fromhex(_string(data, where))
    except (ValueError, OverflowError):
        raise CertificateError(f"{where}: not a hexadecimal float") from None


def _object(data: Any, where: str) -> dict[str, Any]:
    if not isinstance(data, dict):
        raise CertificateError(f"{where}: not an object")
    return data


def _list(data: Any, where: str) -> list[Any]:
    if not isinstance(data, list):
        raise CertificateError(f"{where}: not a list")
    return data


def _string(data: Any, where: str) -> str:
    if not isinstance(data, str):
        raise CertificateError(f"{where}: not a string")
    return data
