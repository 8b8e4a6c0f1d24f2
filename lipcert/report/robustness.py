"""The document of a robustness run: accuracies, a row for each sample, and all that a check needs."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from lipcert.certificate.claim import RobustnessClaim, SampleClaim
from lipcert.certificate.encoding import encode
from lipcert.problem import Norm, norm_name
from lipcert.problem.samples import Samples, Source
from lipcert.report.display import Displayed
from lipcert.report.report import describe_environment, describe_model, describe_tool, loops_meant

if TYPE_CHECKING:
    from lipcert.frontend import Model
    from lipcert.planning.robustness import Asked, RobustnessOutcome

ROBUSTNESS_SCHEMA = "lipcert/certify/1"

Row = dict[str, Any]


@dataclass(frozen=True)
class RobustnessReport(Displayed):
    """A finished run. `data` is the JSON document; the properties are its headline."""

    data: dict[str, Any]

    @property
    def status(self) -> str:
        """certified; inconclusive where it was interrupted."""
        return str(self.data["result"].get("status"))

    @property
    def clean_accuracy(self) -> float:
        """Of the samples that are done."""
        return self._share(self.data["result"]["clean"])

    @property
    def certified_accuracy(self) -> dict[float, float]:
        """By radius: the share whose label is proven to be the class in all of the closed ball."""
        return {at["eps"]: self._share(at["certified"]) for at in self.data["result"]["radii"]}

    @property
    def attack_accuracy(self) -> dict[float, float]:
        """By radius: the share against which no attack is proven. The truth lies between the two."""
        return {at["eps"]: self._share(at["standing"]) for at in self.data["result"]["radii"]}

    @property
    def samples(self) -> list[Row]:
        """A row for each: index, label, predicted, radius, certified (by radius), attacked (the smallest radius)."""
        return list(self.data["samples"])

    def _share(self, count: int) -> float:
        finished = self.data["result"]["finished"]
        return count / finished if finished else 0.0

    def to_json(self, indent: int | None = 2) -> str:
        return json.dumps(self.data, indent=indent, allow_nan=False)

    def __repr__(self) -> str:
        return (
            f"RobustnessReport(status={self.status!r}, clean_accuracy={self.clean_accuracy:.4g}, "
            f"certified_accuracy={self.certified_accuracy}, attack_accuracy={self.attack_accuracy})"
        )


def build_robustness(
    model: Model, source: Source, samples: Samples, asked: Asked, outcome: RobustnessOutcome
) -> RobustnessReport:
    """Put a run into the words of the schema."""
    claim, methods = outcome.claim(), outcome.constants.methods
    return RobustnessReport(
        {
            "schema": ROBUSTNESS_SCHEMA,
            "tool": describe_tool(),
            "model": describe_model(model),
            "query": describe_query(source, samples, asked.norm, asked.eps, asked.output),
            "result": {
                "status": "certified" if len(claim.samples) == len(samples.labels) else "inconclusive",
                **accuracies(claim, asked.eps),
                "local": asked.local,
                "seconds": round(outcome.seconds, 6),
                "interrupted": outcome.interrupted,
                "timed_out": outcome.timed_out,
                "notes": outcome.notes,
                "claim": (
                    "in the closed ball of its radius around a sample, in the norm of the query, the real-valued "
                    "function that the file denotes has its predicted output strictly above all others; attacked: the "
                    "smallest of the radii whose ball is proven to hold a point where the label's output is not"
                    + loops_meant(model)
                ),
            },
            "margins": [
                {"first": m.first, "second": m.second, "upper": m.claim.value, "method": methods[m.first, m.second]}
                for m in claim.margins
            ],
            "samples": [row(sample, asked.eps) for sample in claim.samples],
            "certificate": encode(claim),
            "environment": describe_environment(),
        }
    )


def describe_query(source: Source, samples: Samples, norm: Norm, eps: tuple[float, ...], output: str) -> dict[str, Any]:
    """What is asked of which data; `sha256` is that of Samples."""
    read = asdict(source)
    read["rows"] = None if source.rows is None else list(source.rows)
    return {
        "norm": norm_name(norm),
        "eps": list(eps),
        "output": output,
        "data": {**read, "samples": len(samples.labels), "sha256": samples.sha256},
    }


def accuracies(claim: RobustnessClaim, eps: tuple[float, ...]) -> dict[str, Any]:
    """Counts of samples, as a report states them."""
    rows = [row(sample, eps) for sample in claim.samples]
    return {
        "finished": len(rows),
        "clean": sum(r["predicted"] == r["label"] for r in rows),
        "radii": [
            {
                "eps": radius,
                "certified": sum(r["certified"][n] for r in rows),
                "standing": sum(r["attacked"] is None or r["attacked"] > radius for r in rows),
            }
            for n, radius in enumerate(eps)
        ],
    }


def row(sample: SampleClaim, eps: tuple[float, ...]) -> Row:
    """What a report says of a sample."""
    right = sample.predicted == sample.label
    return {
        "index": sample.index,
        "label": sample.label,
        "predicted": sample.predicted,
        "radius": sample.radius,
        "certified": [right and sample.radius >= radius for radius in eps],
        "attacked": min((attack.eps for attack in sample.attacks), default=None),
    }
