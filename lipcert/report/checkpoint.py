"""Where a long run stands, so that another can go on: a report so far with its trees, or the samples that are done."""

from __future__ import annotations

import json
import time
from glob import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lipcert.certificate.claim import RobustnessClaim, Rows
from lipcert.certificate.encoding import decode_claim, decode_robustness, decode_rows, encode, encode_query
from lipcert.errors import CertificateError, UsageError
from lipcert.frontend import Model
from lipcert.methods import Resumed as ResumedTrees
from lipcert.planning.robustness import Resumed
from lipcert.problem import Query
from lipcert.report.report import Report
from lipcert.report.writing import write_text

if TYPE_CHECKING:
    from lipcert.planning.robustness import RobustnessOutcome

SCHEMA = "lipcert/checkpoint/1"
SAMPLES_SCHEMA = "lipcert/certify-checkpoint/1"

SHARE = 0.1
"""Of the time, which writing may take ..."""

QUICK = 0.05
"""... where it takes more seconds than this."""


def write_checkpoint(path: str | Path, report: Report, trees: tuple[Rows, ...]) -> None:
    """To a temporary file, then renamed."""
    data = {"schema": SCHEMA, "report": report.data, "trees": [encode(tree) for tree in trees]}
    write_text(json.dumps(data, allow_nan=False), str(path), "--checkpoint")


def read_checkpoint(path: str | Path, model: Model, query: Query) -> ResumedTrees | None:
    """Where the run of the same model and query ended; None where there is no file yet."""
    try:
        data = _read(path, SCHEMA)
        if data is None:
            return None
        report = data["report"]
        same = report["query"] == encode_query(query) and report["model"]["sha256"] == model.sha256
    except (KeyError, TypeError):
        raise _no_checkpoint(path) from None
    if not same:
        raise _of_another(path)
    if report["certificate"] is None:
        return None
    try:
        return ResumedTrees(decode_claim(report["certificate"]), tuple(decode_rows(tree) for tree in data["trees"]))
    except (CertificateError, KeyError, TypeError):
        raise UsageError(f"--checkpoint: {path} is damaged", hint="remove it") from None


class SampleCheckpoint:
    """The file in which a robustness run keeps the margins that it has bounded and the samples that are done."""

    def __init__(self, path: str | Path, model: Model, query: dict[str, Any]) -> None:
        self.path = Path(path)
        self.about = {"model": model.sha256, "query": query}
        self._texts: dict[int, str] = {}
        """Of samples, which do not change once they are done."""
        self._written, self._took = -float("inf"), 0.0

    def read(self) -> Resumed | None:
        """What an earlier run had proven, of the same model and query; None where there is no file yet."""
        for leftover in self.path.parent.glob(f".{escape(self.path.name)}.*"):
            leftover.unlink(missing_ok=True)  # of a run that was killed while it wrote
        data = _read(self.path, SAMPLES_SCHEMA)
        if data is None:
            return None
        if data.get("about") != self.about:
            raise _of_another(self.path)
        try:
            pairs = {(i, j): (tried, method) for i, j, tried, method in data["pairs"]}
            return Resumed(
                decode_robustness(data["certificate"]),
                {pair: int(tried) for pair, (tried, _) in pairs.items()},
                {pair: str(method) for pair, (_, method) in pairs.items()},
            )
        except (CertificateError, KeyError, TypeError, ValueError):
            raise UsageError(f"--checkpoint: {self.path} is damaged", hint="remove it") from None

    def save(self, outcome: RobustnessOutcome, *, last: bool = False) -> None:
        """Write all that is proven, to a temporary file, then renamed; not if that was done a moment ago."""
        began = time.monotonic()
        if not last and self._took > max(QUICK, SHARE * (began - self._written)):
            return
        claim = outcome.claim()
        for sample in claim.samples:
            if sample.index not in self._texts:
                self._texts[sample.index] = json.dumps(encode(sample))
        shell = encode(RobustnessClaim(claim.shared, claim.margins, ()))
        known = outcome.constants
        pairs = [[*pair, tried, known.methods.get(pair, "")] for pair, tried in known.tried.items()]
        head = json.dumps({"schema": SAMPLES_SCHEMA, "about": self.about, "pairs": pairs, "certificate": shell})
        samples = ", ".join(self._texts[sample.index] for sample in claim.samples)
        write_text(head.removesuffix("[]}}") + f"[{samples}]}}}}", str(self.path), "--checkpoint")
        self._written = time.monotonic()
        self._took = self._written - began


def _read(path: str | Path, schema: str) -> dict[str, Any] | None:
    try:
        data = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError):
        raise _no_checkpoint(path) from None
    if not isinstance(data, dict) or data.get("schema") != schema:
        raise _no_checkpoint(path)
    return data


def _no_checkpoint(path: str | Path) -> UsageError:
    return UsageError(f"--checkpoint: {path} is no checkpoint", hint="name another file")


def _of_another(path: str | Path) -> UsageError:
    return UsageError(
        f"--checkpoint: {path} is of another model or query", hint="name another file, or remove this one"
    )
