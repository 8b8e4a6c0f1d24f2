"""What is proven of an item: by a kept certificate where that holds, else by a new one. Both are checked."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from lipcert import api
from lipcert.certificate.encoding import decode_query
from lipcert.errors import CertificateError, LipcertError, printable
from lipcert.frontend import Model
from lipcert.gate.cache import Cache, entry_key, query_digest
from lipcert.gate.files import nearby
from lipcert.gate.items import Item
from lipcert.gate.policy import option_errors
from lipcert.problem import Query, norm_name
from lipcert.report import Report
from lipcert.report.report import parse_report


@dataclass(frozen=True)
class Proof:
    """What a run found out about an item. `upper` and `lower` are proven, by the certificate that is named."""

    status: str
    """certified or conditional; inconclusive; unfinished, where nothing was tried; error."""
    upper: float | None = None
    lower: float = 0.0
    query: str = ""
    """Digest of the query (cache.query_digest)."""
    method: str | None = None
    cached: bool = False
    """Whether the certificate is of an earlier run."""
    certificate: str | None = None
    """Where it is kept."""
    note: str = ""
    exit_status: int = 0
    """Of an error."""
    seconds: float = 0.0


class Prover:
    """Proves items one after another; keeps the last model, as items of one model follow each other."""

    def __init__(self, cache: Cache, offline: bool) -> None:
        self.cache, self.offline = cache, offline
        self._last: tuple[tuple[object, ...], Model] | None = None

    def prove(self, item: Item) -> Proof:
        """Never raises for what is wrong with the item: that is its proof's error."""
        began = time.monotonic()
        try:
            proof = self._prove(item)
        except LipcertError as error:
            proof = Proof("error", note=str(error), exit_status=error.exit_status)
        except Exception as error:  # a defect of ours must not cost the other items their verdicts
            note = f"internal error: {type(error).__name__}: {error} (run `lipcert bound --debug` and report it)"
            proof = Proof("error", note=note, exit_status=2)
        return replace(proof, note=printable(proof.note), seconds=time.monotonic() - began)

    def _prove(self, item: Item) -> Proof:
        model = self._load(item)
        query = self._query(item, model)
        key = entry_key(model, query, item.check.effort)
        stored, note = self.cache.read(key), ""
        if stored is not None:
            path = self.cache.path(key)
            try:
                return _proof(checked(stored, path, model, query, item.check.strict), query, path, cached=True)
            except CertificateError as error:
                if self.offline:
                    raise
                note = f"the kept certificate was refused ({error.message}), and is replaced"
        if self.offline:
            return Proof("unfinished", query=query_digest(query), note="no certificate is kept: run `lipcert gate`")
        found = self._bound(item, model, query)
        if found.upper is None:
            reasons = dict.fromkeys(f"{a['method']}: {a['reason']}" for a in found.data["attempts"] if a["reason"])
            return Proof("inconclusive", query=query_digest(query), note="; ".join(reasons) or "no bound was verified")
        text = found.to_json(indent=None)
        path = self.cache.path(key)
        report = checked(text, path, model, query, item.check.strict)
        self.cache.write(key, text)
        return replace(_proof(report, query, path, cached=False), note=note)

    def _load(self, item: Item) -> Model:
        key = (item.model, item.check.templates, item.check.unrolled)
        if self._last is None or self._last[0] != key:
            path = nearby(item.model)
            self._last = key, api.load(path, templates=item.check.templates, unrolled=item.check.unrolled)
        return self._last[1]

    def _query(self, item: Item, model: Model) -> Query:
        check = item.check
        with option_errors(f"check {check.name!r}"):
            region = item.region.read(model.input_shape(check.inputs), norm_name(check.norm_in))
        return Query(check.norm_in, check.norm_out, region, check.outputs, check.inputs, check.output)

    def _bound(self, item: Item, model: Model, query: Query) -> Report:
        with option_errors(f"check {item.check.name!r}"):
            report = api.bound(
                model,
                norm_in=query.norm_in,
                norm_out=query.norm_out,
                region=query.region,
                outputs=query.outputs,
                inputs=list(query.inputs),
                output=query.output,
                **asdict(item.check.effort),
            )
        if report.data["result"]["interrupted"]:
            raise KeyboardInterrupt
        return report


def checked(text: str, path: Path, model: Model, query: Query, strict: bool) -> Report:
    """The report, every number of which is proven again, for this model and this query; CertificateError if not."""
    report = parse_report(text, str(path))
    if query_digest(decode_query(report.data["query"])) != query_digest(query):
        raise CertificateError(f"{path}: about another query")
    api.check(report, model, strict=strict)
    return report


def _proof(report: Report, query: Query, path: Path, cached: bool) -> Proof:
    return Proof(
        status=report.status,
        upper=report.upper,
        lower=report.lower,
        query=query_digest(query),
        method=str(report.method),
        cached=cached,
        certificate=str(path),
    )
