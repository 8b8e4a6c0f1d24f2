"""A first policy for a folder: commented, about the models that are there, and one that passes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from lipcert import api
from lipcert.errors import LipcertError, UsageError
from lipcert.gate.files import Root, nearby
from lipcert.gate.policy import FILE
from lipcert.report.terminal import shown

MAX_MODELS = 20
"""Models that are looked at."""

SECONDS = 5.0
"""To look for a bound of each."""

HEAD = f"""\
# {FILE}: what `lipcert gate` asks of the networks in this folder. Paths are relative to this file.
# docs/gate.md of lipcert has every key.

# baseline = "lipcert-baseline.json"   # committed; `lipcert gate --update-baseline` writes it
# cache = ".lipcert-cache"             # certificates that were proven; keep it between CI runs

[defaults]                             # for every check below, where it does not say otherwise
norm = "2"                             # "1", "2" or "inf" (in a check also norm_in, norm_out)
timeout = 60                           # seconds to look for a bound, for each question
# max_increase = 0.02                  # no bound may be more than 2 % above the baseline
# allow_inconclusive = true            # a question that nothing is proven of passes
# strict = true                        # check certificates in ball arithmetic
"""

REGIONS = """
# A check may ask about a region instead of all inputs, and about some outputs:
# center = "data/points.csv"           # balls around rows of a csv or npy file, or numbers (0: all)
# rows = "0:10"
# eps = 0.01
# box = [0, 1]                         # two numbers, or two files
# spec = "property.vnnlib"             # the input box of a VNN-LIB file
# outputs = [0, 1]                     # or margin = [3, 5]: output 3 minus output 5
"""


@dataclass(frozen=True)
class Seen:
    """A model that was looked at."""

    path: str
    interface: str
    bound: float | None
    reason: str
    """Why there is no bound."""


def look(root: Root, on_step: Callable[[str], None] = lambda what: None) -> list[Seen]:
    """The models of a folder, with quick bounds; UsageError where it has none."""
    try:
        found = root.files("**/*.onnx")
    except UsageError as error:
        raise UsageError(f"no ONNX files: {error.message}", hint="run it where the models are") from None
    seen = []
    for path in found[:MAX_MODELS]:
        on_step(root.shown(path))
        seen.append(_seen(path, root.shown(path)))
    return seen + [Seen(root.shown(path), "", None, "not looked at") for path in found[MAX_MODELS:]]


def starter(seen: list[Seen]) -> str:
    """The text of the policy."""
    names: set[str] = set()
    checks = "".join(_check(model, _name(model.path, names)) for model in seen)
    return f"{HEAD}{checks}{REGIONS}"


def _seen(path: Path, name: str) -> Seen:
    interface = ""
    try:
        model = api.load(nearby(path))
        inputs = ", ".join(f"{t.name} {list(t.shape)}" for t in model.inputs)
        interface = f"{inputs} -> {', '.join(f'{t.name} {list(t.shape)}' for t in model.outputs)}"
        report = api.bound(model, method="product", timeout=SECONDS)
    except LipcertError as error:
        return Seen(name, interface, None, str(error))
    return Seen(name, interface, report.upper, "nothing was proven at once")


def _check(model: Seen, name: str) -> str:
    lines = list(_lines(model, name))
    if model.bound is None:  # the gate must pass as it is written
        lines = [f"# {line}" for line in lines]
    interface = f"\n# {model.interface}" if model.interface else ""
    return "\n".join([interface, *([f"# {model.reason}"] if model.bound is None else []), *lines]) + "\n"


def _lines(model: Seen, name: str) -> Iterator[str]:
    yield "[[check]]"
    yield f"name = {json.dumps(name)}"
    yield f"models = {json.dumps(model.path, ensure_ascii=False)}"
    if model.bound is None:
        yield "max = 100"
    else:
        limit = float(shown(model.bound, 2, up=True))
        quick = shown(model.bound, 4, up=True)
        yield f"max = {limit!r:<30} # a quick bound is {quick}; the gate looks longer: lower this"


def _name(path: str, taken: set[str]) -> str:
    """A name of a check that is not taken yet."""
    base = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(path).stem).strip("-._") or "model"
    base = base[:80]
    name = next(n for n in (base, *(f"{base}-{i}" for i in range(2, len(taken) + 3))) if n not in taken)
    taken.add(name)
    return name
