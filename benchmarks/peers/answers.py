"""What a peer module hands to the suite."""

from __future__ import annotations

from collections.abc import Callable

Answer = tuple[float, str]
"""A bound as the peer gives it, and a remark ("" for none)."""

Way = tuple[str, Callable[[], Answer]]
"""A peer's method by name, with all that it does from the weights on."""
