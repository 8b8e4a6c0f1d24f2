"""Activations of which nothing is known but a quadratic constraint that the user states: a template.

They have no value and no norm of a Jacobian, so LipSDP alone can bound them: what it says holds if the template does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

import numpy as np

from lipcert.activations.groupwise import GroupFunction
from lipcert.activations.jacobian import BlockBound, Forms
from lipcert.arithmetic.enclosure import Enclosure
from lipcert.errors import UnsupportedModelError
from lipcert.templates import Template


class TemplatedGroups(GroupFunction):
    """A template used for groups of `width` entries; `parameters` (G, width) by name.

    Where the template says what passes linearly, the function is p in dw = through dv + onto p (each (G, ..)).
    """

    through: np.ndarray | None = None
    onto: np.ndarray | None = None

    def __init__(
        self, template: Template, op: str, width: int, groups: int, parameters: Mapping[str, np.ndarray]
    ) -> None:
        self.template, self.op, self.count, self.parameters = template, op, groups, parameters
        self.name = template.name
        self.width, self.out_width = width, template.returned(width)
        self.forms = self._forms()

    def _forms(self) -> Forms:
        """What the template says, of each group."""
        alike = all(np.all(rows == rows[:1]) for rows in self.parameters.values())
        count = 1 if alike else len(next(iter(self.parameters.values())))
        each = [{name: rows[g] for name, rows in self.parameters.items()} for g in range(count)]
        if self.template.is_complete:
            if not alike:
                raise UnsupportedModelError(
                    f"{self.describe()}: its groups have parameters that differ",
                    hint="a complete template has the same ones for all groups",
                )
            return Forms(np.array(self.template.extremes(self.width, **each[0])))
        signs = self.template.signs(self.width)
        if self.template.linear is None:
            found = [self.template.basis(self.width, **parameters) for parameters in each]
        else:
            found = [self.template.reduced_basis(self.width, **parameters) for parameters in each]
            left = [self.template.elimination(self.width, **parameters) for parameters in each]
            if len({e.onto.shape for e in left}) > 1 or len({tuple(f) for f in found}) > 1:
                raise UnsupportedModelError(f"{self.describe()}: its groups are reduced to different sizes")
            self.out_width = left[0].onto.shape[1]
            self.through = np.broadcast_to(np.array([e.through for e in left]), (self.count, *left[0].through.shape))
            self.onto = np.broadcast_to(np.array([e.onto for e in left]), (self.count, *left[0].onto.shape))
            if not self.out_width:
                raise UnsupportedModelError(f"{self.describe()}: its template says that all of it passes linearly")
        kept = np.array([signs[name] == "nonnegative" for name in found[0]])
        return Forms(basis=np.array([list(f.values()) for f in found]), nonnegative=kept)

    def jacobian(self, lower: np.ndarray, upper: np.ndarray) -> BlockBound:
        groups = lower.size // self.width
        norms, rows, columns = (np.full((groups, n), np.inf) for n in (1, self.out_width, self.width))
        forms = self.forms
        if forms.basis is not None:
            basis = np.broadcast_to(forms.basis, (groups, *forms.basis.shape[1:]))
            forms = Forms(basis=basis, nonnegative=forms.nonnegative)
        return BlockBound(norms[:, 0], rows, columns, forms=forms)

    def enclose(self, lower: np.ndarray, upper: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        unknown = np.full(lower.size // self.width * self.out_width, np.inf)
        return -unknown, unknown

    def tangent(self, lower: np.ndarray, upper: np.ndarray, d: Enclosure) -> Enclosure:
        size = lower.size // self.width * self.out_width
        return Enclosure(np.zeros(size), np.full(size, np.inf))

    def obstacle(self, lower: np.ndarray, upper: np.ndarray) -> str:
        return "it is known by a template alone, which only LipSDP uses"

    def describe(self) -> str:
        return f"{self.op} (template {self.name})"

    def _unknown(self) -> NoReturn:
        raise UnsupportedModelError(f"{self.describe()} has no values: a template says how it moves, not what it is")

    def value(self, x: np.ndarray) -> np.ndarray:
        self._unknown()

    def jvp(self, x: np.ndarray, d: np.ndarray) -> np.ndarray:
        self._unknown()

    def vjp(self, x: np.ndarray, g: np.ndarray) -> np.ndarray:
        self._unknown()

    def torch(self, x: Any) -> Any:
        self._unknown()
