"""What an expression is worth: numbers, vectors and matrices that are linear in the multipliers.

The vocabulary: I and J (the identity and ones, of the shape that the place asks for), ones (a vector of them),
size (entries of the group), diag(u), outer(u, v), parameters (vectors) and multipliers (numbers).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from lipcert.templates.expressions import Binary, Call, Expression, ExpressionError, Name, Negative, Number, Power

VOCABULARY = ("I", "J", "ones", "size", "diag", "outer")
"""Names that templates may not define."""

CONSTANT = ""
"""The key of what no multiplier multiplies."""

KINDS = ("a number", "a vector", "a matrix")

Parts = dict[str, np.ndarray]
"""sum over multipliers of multiplier times array, all of one shape; CONSTANT for the part without a multiplier."""

Place = tuple[int, ...]
"""The shape that is wanted: (rows, columns), (entries,), or () where only a number is."""


@dataclass(frozen=True)
class Names:
    """What names mean; definitions may use those before them and are evaluated once for each shape."""

    size: int
    multipliers: frozenset[str]
    parameters: Mapping[str, np.ndarray]
    definitions: Mapping[str, Expression]
    known: dict[tuple[str, Place], Parts] = field(default_factory=dict)


def evaluate_matrix(expression: Expression, names: Names, shape: tuple[int, int]) -> Parts:
    """A matrix of this shape; the number 0 stands for the zero matrix."""
    found = _evaluate(expression, names, shape)
    if _dimensions(found) == 0 and all(float(part) == 0 for part in found.values()):
        return {key: np.zeros(shape) for key in found}
    if _dimensions(found) != 2:
        raise ExpressionError(f"it is {KINDS[_dimensions(found)]}, not a matrix (times I or J?)")
    return found


def _evaluate(expression: Expression, names: Names, place: Place) -> Parts:
    match expression:
        case Number(value):
            return {CONSTANT: np.array(value)}
        case Name(name):
            return _name(name, names, place)
        case Negative(of):
            return {key: -part for key, part in _evaluate(of, names, place).items()}
        case Binary(sign, left, right):
            a, b = _evaluate(left, names, place), _evaluate(right, names, place)
            return {"+": _add, "-": _subtract, "*": _multiply, "/": _divide}[sign](a, b)
        case Power(base, exponent):
            powered = _evaluate(base, names, place)
            if set(powered) != {CONSTANT} or _dimensions(powered) == 2:
                raise ExpressionError("only numbers and vectors without multipliers have powers")
            return {CONSTANT: powered[CONSTANT] ** exponent}
        case Call(name, arguments):
            return _call(name, arguments, names, place)


def _name(name: str, names: Names, place: Place) -> Parts:
    if name in names.multipliers:
        return {name: np.array(1.0)}
    if name in names.parameters:
        return {CONSTANT: names.parameters[name]}
    if name in names.definitions:
        if (name, place) not in names.known:
            names.known[name, place] = _evaluate(names.definitions[name], names, place)
        return names.known[name, place]
    if name == "size":
        return {CONSTANT: np.array(float(names.size))}
    if name in ("I", "J", "ones"):
        return {CONSTANT: _constant(name, place)}
    if name in VOCABULARY:
        raise ExpressionError(f"{name} is a function")
    raise ExpressionError(f"{name} is unknown: no multiplier, parameter or earlier definition, nor any of {_listed()}")


def _constant(name: str, place: Place) -> np.ndarray:
    if len(place) != (1 if name == "ones" else 2):
        raise ExpressionError(f"{name} is {KINDS[1 if name == 'ones' else 2]}, which has no place there")
    if name != "I":
        return np.ones(place)
    _check_square("I", place)
    return np.eye(place[0])


def _call(name: str, arguments: tuple[Expression, ...], names: Names, place: Place) -> Parts:
    if name not in ("diag", "outer"):
        raise ExpressionError(f"{name}(..) is unknown: the functions are diag and outer")
    if len(arguments) != (count := {"diag": 1, "outer": 2}[name]):
        raise ExpressionError(f"{name} takes {count} vector{'s' if count > 1 else ''}, not {len(arguments)}")
    if len(place) != 2:
        raise ExpressionError(f"{name}(..) is a matrix, which has no place there")
    if name == "diag":
        _check_square("diag(..)", place)
        vector = _vector(arguments[0], names, place[0])
        return {key: np.diag(part) for key, part in vector.items()}
    left, right = _vector(arguments[0], names, place[0]), _vector(arguments[1], names, place[1])
    return _linear(left, right, np.outer)


def _vector(expression: Expression, names: Names, entries: int) -> Parts:
    found = _evaluate(expression, names, (entries,))
    if _dimensions(found) != 1:
        raise ExpressionError(f"{KINDS[_dimensions(found)]} stands where a vector is expected")
    length = next(iter(found.values())).size
    if length != entries:
        raise ExpressionError(f"a vector of {length} entries stands where one of {entries} is expected")
    return found


def _check_square(what: str, place: Place) -> None:
    if place[0] != place[1]:
        raise ExpressionError(f"{what} is square, and this block is {place[0]} x {place[1]}")


def _add(a: Parts, b: Parts) -> Parts:
    if _dimensions(a) != _dimensions(b):
        raise ExpressionError(f"{KINDS[_dimensions(a)]} and {KINDS[_dimensions(b)]} are added")
    if next(iter(a.values())).shape != next(iter(b.values())).shape:
        raise ExpressionError("vectors or matrices of different sizes are added")
    both = [key for key in a if key in b]
    return {**a, **b, **{key: a[key] + b[key] for key in both}}


def _subtract(a: Parts, b: Parts) -> Parts:
    return _add(a, {key: -part for key, part in b.items()})


def _multiply(a: Parts, b: Parts) -> Parts:
    if _dimensions(a) and _dimensions(b) and not _dimensions(a) == _dimensions(b) == 1:
        raise ExpressionError("a product of a matrix and a vector or matrix is not in the vocabulary")
    if _dimensions(a) == _dimensions(b) == 1 and next(iter(a.values())).size != next(iter(b.values())).size:
        raise ExpressionError("vectors of different sizes are multiplied")
    return _linear(a, b, lambda left, right: left * right)


def _divide(a: Parts, b: Parts) -> Parts:
    if set(b) != {CONSTANT} or _dimensions(b):
        raise ExpressionError("only a number divides")
    if float(b[CONSTANT]) == 0:
        raise ExpressionError("division by zero")
    return {key: part / b[CONSTANT] for key, part in a.items()}


def _linear(a: Parts, b: Parts, product: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Parts:
    """The product of two values, of which at most one has multipliers."""
    if set(a) != {CONSTANT} and set(b) != {CONSTANT}:
        raise ExpressionError("a product of multipliers: blocks are linear in them")
    return {left or right: product(a[left], b[right]) for left in a for right in b}


def _dimensions(parts: Parts) -> int:
    return next(iter(parts.values())).ndim


def _listed() -> str:
    return ", ".join(VOCABULARY)
