"""The trusted kernel: what a certificate is, and the arithmetic that proves it. Needs numpy only.

Start reading at `verify`; then `chains` (how bounds compose along the graph), `norms` (operator norms), `definite`
(positive definiteness in floating point), `boxes` (interval propagation) and `witness` (lower bounds).
"""

from lipcert.certificate.claim import AbsoluteChain, Claim, SpectralChain, Witness
from lipcert.certificate.verify import verify, verify_witness

__all__ = ["AbsoluteChain", "Claim", "SpectralChain", "Witness", "verify", "verify_witness"]
