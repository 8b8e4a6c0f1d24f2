"""Where things lie."""

from __future__ import annotations

from pathlib import Path

import lipcert

ROOT = Path(__file__).resolve().parents[2]
"""The root of the checkout."""

MODELS = ROOT / "models"
"""The sample networks."""

PACKAGE = Path(lipcert.__file__).resolve().parents[1]
"""The folder that the package under test was imported from."""

IMPLICIT = MODELS / "digits_implicit.onnx"
EXPLICIT = sorted(path for path in MODELS.glob("*.onnx") if path != IMPLICIT)
"""The sample networks without a fixed point."""
