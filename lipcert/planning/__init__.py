"""Which methods to try, in what order, in what time; keeps the best verified claim."""

from lipcert.planning.outcome import Attempt, Outcome
from lipcert.planning.solve import DEFAULT_TIMEOUT, METHODS, solve

__all__ = ["DEFAULT_TIMEOUT", "METHODS", "Attempt", "Outcome", "solve"]
