"""The trusted kernel: what a certificate is, and the arithmetic that proves it. Needs numpy only.

Start reading at `verify`; then `chains` (how bounds compose along the graph), `norms` (operator norms), `definite`
(positive definiteness in floating point), `boxes` (interval propagation), `linear_bounds` and `planes` (tighter boxes),
`derivative` and `pieces` (bounds over a region, by branch and bound), `signs` (monotonicity), `witness` (lower bounds).
"""

from lipcert.certificate.claim import (
    AbsoluteChain,
    BoxClaim,
    Claim,
    Extremes,
    MonotoneClaim,
    Slope,
    SpectralChain,
    Witness,
)
from lipcert.certificate.verify import (
    verify,
    verify_box,
    verify_boxes,
    verify_extremes,
    verify_monotone,
    verify_not_monotone,
    verify_witness,
)

__all__ = [
    "AbsoluteChain",
    "BoxClaim",
    "Claim",
    "Extremes",
    "MonotoneClaim",
    "Slope",
    "SpectralChain",
    "Witness",
    "verify",
    "verify_box",
    "verify_boxes",
    "verify_extremes",
    "verify_monotone",
    "verify_not_monotone",
    "verify_witness",
]
