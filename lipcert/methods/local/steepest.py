"""The steepest point of a region that was seen."""

from __future__ import annotations

import math

import numpy as np

from lipcert.certificate.claim import Witness
from lipcert.methods.base import Progress
from lipcert.methods.local.proofs import MAX_ROWS
from lipcert.methods.lower.directions import Jacobian, steepest_directions
from lipcert.methods.lower.search import project, region_center
from lipcert.problem import Problem


class Steepest:
    """The steepest point so far, not proven: what needs not be cut any more, and a witness."""

    def __init__(self, problem: Problem, progress: Progress) -> None:
        self.problem, self.progress = problem, progress
        self.witness: Witness | None = None
        self.best = 0.0
        self.look(region_center(problem.query.region)[None])  # type: ignore[arg-type]
        self.best = max(self.best, progress.attained())

    @np.errstate(all="ignore")
    def look(self, points: np.ndarray) -> None:
        """Remember the steepest of these points of the region."""
        query, m = self.problem.query, self.problem.size_out
        points = project(query.region, points)
        jacobian = Jacobian(self.problem, points)
        random = np.random.default_rng(0)
        starts = [random.standard_normal(points.shape)]
        if query.norm_out == math.inf and m <= MAX_ROWS:
            starts += [jacobian.backward(np.tile(row, (len(points), 1))) for row in np.eye(m)]
        for start in starts:
            iterations = 1 if query.norm_out == math.inf and start is not starts[0] else 20
            directions, gains = steepest_directions(
                jacobian, start, query.norm_in, query.norm_out, iterations, self.progress
            )
            k = int(np.argmax(gains))
            if gains[k] > self.best:
                self.best, self.witness = float(gains[k]), Witness(points[k], directions[k])

    def say(self) -> None:
        """Hand the witness over."""
        if self.witness is not None:
            self.progress.witnesses.append(self.witness)
            self.witness = None
