"""Where a long run of branching stands, so that another can go on: its report so far, and its trees."""

from __future__ import annotations

import json
from pathlib import Path

from lipcert.certificate.claim import Rows
from lipcert.certificate.encoding import decode_claim, decode_rows, encode, encode_query
from lipcert.errors import CertificateError, UsageError
from lipcert.frontend import Model
from lipcert.methods import Resumed
from lipcert.problem import Query
from lipcert.report.report import Report
from lipcert.report.writing import write_text

SCHEMA = "lipcert/checkpoint/1"


def write_checkpoint(path: str | Path, report: Report, trees: tuple[Rows, ...]) -> None:
    """To a temporary file, then renamed."""
    data = {"schema": SCHEMA, "report": report.data, "trees": [encode(tree) for tree in trees]}
    write_text(json.dumps(data, allow_nan=False), str(path), "--checkpoint")


def read_checkpoint(path: str | Path, model: Model, query: Query) -> Resumed | None:
    """Where the run of the same model and query ended; None where there is no file yet."""
    try:
        data = json.loads(Path(path).read_text(encoding="utf-8"))
        if data["schema"] != SCHEMA:
            raise ValueError
        report = data["report"]
        same = report["query"] == encode_query(query) and report["model"]["sha256"] == model.sha256
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError):
        raise UsageError(f"--checkpoint: {path} is no checkpoint", hint="name another file") from None
    if not same:
        raise UsageError(
            f"--checkpoint: {path} is of another model or query", hint="name another file, or remove this one"
        )
    if report["certificate"] is None:
        return None
    try:
        return Resumed(decode_claim(report["certificate"]), tuple(decode_rows(tree) for tree in data["trees"]))
    except (CertificateError, KeyError, TypeError):
        raise UsageError(f"--checkpoint: {path} is damaged", hint="remove it") from None
