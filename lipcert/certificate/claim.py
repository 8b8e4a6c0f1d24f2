"""The vocabulary of certificates: claims, the evidence for them, and witnesses. Plain data, no method in sight.

A spectral chain bounds node after node, each by a `Step`: walking back from a node through affine nodes, stopping at
inputs, at nonlinear nodes and at the affine nodes in `cut`, gives the increment of the node as a sum of linear terms.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Entrywise:
    """The norm is bounded from the absolute values of the entries: row and column norms need no evidence."""


@dataclass(frozen=True)
class Spectral:
    """The l2 norm of the dense form is at most sigma, since sigma^2 I - W W' is positive definite."""

    sigma: float


@dataclass(frozen=True)
class Overlap:
    """A convolution's l2 norm is at most sqrt(windows that one pixel is in) times that of its unfolded kernel."""

    sigma: float


@dataclass(frozen=True)
class Taps:
    """A convolution's l2 norm is at most the sum over kernel positions of the norms of their matrices."""

    sigmas: tuple[float, ...]


@dataclass(frozen=True)
class Symbol:
    """A convolution's l2 norm is at most the supremum of that of its symbol, which is at most sigma."""

    sigma: float


@dataclass(frozen=True)
class Frequencies:
    """A convolution's l2 norm is at most that of its symbol at the frequencies of a circle that holds the maps."""

    sigma: float


@dataclass(frozen=True)
class Gram:
    """The l2 norm by `iterations` steps of Gram iteration: of the dense form, or of a convolution at each frequency.

    `grid`: how many frequencies along each axis with more than one tap, the longest first; of the circle where empty.
    """

    iterations: int
    grid: tuple[int, ...]


@dataclass(frozen=True)
class Factors:
    """The norm of a product is at most the product of norms, through l2 in between."""

    proofs: tuple[NormProof, ...]


@dataclass(frozen=True)
class Terms:
    """The norm of a sum is at most the sum of norms."""

    proofs: tuple[NormProof, ...]


NormProof = Entrywise | Spectral | Overlap | Taps | Symbol | Frequencies | Gram | Factors | Terms


@dataclass(frozen=True)
class Group:
    """Terms of a step that are bounded as one operator [T_1 T_2 ...] acting on the stacked `sources`."""

    sources: tuple[int, ...]
    proof: NormProof


@dataclass(frozen=True)
class Step:
    """The bound of one node: where its terms end (`cut`), and how they are grouped."""

    node: int
    cut: tuple[int, ...]
    groups: tuple[Group, ...]


@dataclass(frozen=True)
class AbsoluteChain:
    """Entrywise bounds |dv| <= e through the absolute values of all linear stretches: the graph is all it needs.

    `center`: whether activations are split into mean slope and remainder first (certificate.increments).
    """

    center: bool


@dataclass(frozen=True)
class SpectralChain:
    """Bounds of |dv|_2 for one node after another, each from operator norms proven by the step's groups.

    `center` as in AbsoluteChain; steps count the nodes of the increment graph, centered or plain.
    """

    center: bool
    steps: tuple[Step, ...]


@dataclass(frozen=True, eq=False)
class FormChoice:
    """Which quadratic forms the groups of a node get: certificate.forms.

    `values`: (G, s, s) the matrices over (dv, dw) in scales of the group; where forms have a basis, (G, T) multipliers.
    """

    node: int
    values: np.ndarray


@dataclass(frozen=True, eq=False)
class Scaling:
    """Scales of inputs, of all neurons (node after node) and of outputs (0: left out): certificate.inequality.

    `forms`: of nodes of groups that have more than the norms of their Jacobians.
    """

    inputs: np.ndarray
    hidden: np.ndarray
    outputs: np.ndarray
    forms: tuple[FormChoice, ...] = ()


@dataclass(frozen=True)
class Inequality:
    """LipSDP: the linear matrix inequality of the network is positive definite at these scales.

    One scaling for all outputs; for outputs in l-infinity, several may share them, for inputs in l1 these.
    """

    scalings: tuple[Scaling, ...]


SingleEvidence = AbsoluteChain | SpectralChain | Inequality


@dataclass(frozen=True)
class Composed:
    """The network in parts, cut at these nodes of the problem's graph: the product of what is proven of each."""

    cuts: tuple[int, ...]
    parts: tuple[SingleEvidence, ...]


@dataclass(frozen=True, eq=False)
class RampSlopes:
    """Slopes in [0, 1] of lines below max(0, v), for `entries` of node `ramp`, a row for each row that is bounded.

    `below` where the row is bounded from below, `above` where it is bounded from above.
    """

    ramp: int
    entries: np.ndarray
    below: np.ndarray
    above: np.ndarray


@dataclass(frozen=True, eq=False)
class Tree:
    """The region in pieces, cut in two again and again: certificate.pieces.

    `splits`: (T, 3), a piece and then its two halves with all of theirs. A cut is (node, entry, at): first the half
    where the node (of the graph with ramps) is at most that, then the other. A piece that stays whole is (-1, 0, 0); a
    piece that holds no input is (-1, 1, 0), which multipliers of its cuts show: `multipliers`, one piece after another.
    One that stays whole is (-1, 2, 0) where it has multipliers for an output: from below, then from above. `slopes`:
    for the output, a row for each piece that stays whole.
    """

    splits: np.ndarray
    multipliers: np.ndarray
    slopes: tuple[RampSlopes, ...] = ()


@dataclass(frozen=True)
class Rows:
    """The Jacobian's rows of these outputs over each piece of the region: certificate.derivative.

    `steps`: where planes are used beside intervals. `spectral`: what the l2 norm is at most in each piece (0: it is not
    used).
    """

    outputs: tuple[int, ...]
    tree: Tree
    steps: int
    spectral: float


@dataclass(frozen=True)
class RowScaling:
    """LipSDP for one output."""

    output: int
    inequality: Inequality


@dataclass(frozen=True)
class Local:
    """Bounds over a region. Several parts share the outputs where these are in l-infinity."""

    parts: tuple[Rows | RowScaling, ...]


Evidence = AbsoluteChain | SpectralChain | Inequality | Composed | Local


@dataclass(frozen=True, eq=False)
class Slopes:
    """Lines for the linear bounds of these rows of a node, of the graph with ramps: certificate.linear_bounds."""

    node: int
    rows: np.ndarray
    ramps: tuple[RampSlopes, ...]


@dataclass(frozen=True, eq=False)
class Equilibrium:
    """Of the implicit layer with node `state`: why it has one solution, and where that is: certificate.solutions.

    `multipliers` of its neurons, for which the inequality of well-posedness holds; none: the weights of l-infinity,
    which the kernel finds. `lower`, `upper`: what its activation reads over the region; infinite where it has none.
    """

    state: int
    multipliers: np.ndarray
    lower: np.ndarray
    upper: np.ndarray


@dataclass(frozen=True)
class Claim:
    """The Lipschitz constant of the posed problem is at most `value`, because of `evidence`.

    `anywhere`: the evidence speaks of all of R^n, and so of the region, which it ignores. `linear`: slopes are those
    over boxes by linear bounds (certificate.linear_bounds), not by intervals; `slopes` are of their lines. `pairs`: of
    the graph with softmax and the like in pairs (graph.pairs), to which then all nodes refer. `equilibria`: of implicit
    layers, where the evidence rests on their solutions.
    """

    value: float
    evidence: Evidence
    anywhere: bool = False
    linear: bool = False
    slopes: tuple[Slopes, ...] = ()
    equilibria: tuple[Equilibrium, ...] = ()
    pairs: bool = False


@dataclass(frozen=True, eq=False)
class BoxClaim:
    """Every output of the posed problem lies between `lower` and `upper` over the region.

    `linear`: by linear bounds (certificate.linear_bounds), not by intervals; and these over the pieces of trees, one
    for each output (none: over the whole region). `slopes`, `pairs` and `equilibria` as in Claim.
    """

    lower: np.ndarray
    upper: np.ndarray
    linear: bool
    trees: tuple[Tree, ...] = ()
    slopes: tuple[Slopes, ...] = ()
    equilibria: tuple[Equilibrium, ...] = ()
    pairs: bool = False


@dataclass(frozen=True, eq=False)
class MonotoneClaim:
    """Every output increases (or does not) with each of these inputs, on at least this share of the region's box.

    Up to `tolerance`: derivatives are at least -tolerance (at most tolerance). `steps` and `tree` as in Rows,
    `slopes`, `pairs` and `equilibria` as in Claim.
    """

    inputs: tuple[int, ...]
    increasing: bool
    tolerance: float
    share: float
    steps: int
    tree: Tree
    slopes: tuple[Slopes, ...] = ()
    equilibria: tuple[Equilibrium, ...] = ()
    pairs: bool = False


@dataclass(frozen=True, eq=False)
class Slope:
    """A point of the region, and the output and the input whose derivative there has the wrong sign."""

    output: int
    input: int
    point: np.ndarray


@dataclass(frozen=True, eq=False)
class Extremes:
    """Points of the region, one for each output, at which it is at most `lower`, and at least `upper`.

    `equilibria`: of implicit layers at the points, those of `lowest` first; none where there are no such layers.
    """

    lowest: np.ndarray
    """(outputs, inputs)."""

    highest: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    equilibria: tuple[tuple[Equilibrium, ...], ...] = ()


@dataclass(frozen=True, eq=False)
class Witness:
    """A point of the region and a direction along which the derivative attains the lower bound.

    `equilibria`: of implicit layers at the point.
    """

    point: np.ndarray
    direction: np.ndarray
    equilibria: tuple[Equilibrium, ...] = ()


@dataclass(frozen=True, eq=False)
class MarginClaim:
    """The Lipschitz constant of output `first` minus output `second`, and so of its negative: the claim's value."""

    first: int
    second: int
    claim: Claim


@dataclass(frozen=True, eq=False)
class BallClaim:
    """Over the closed ball of radius `eps` around a sample, what is known of the margins of its class.

    `box`: of the margins against the other classes, in order. `margins`: constants over the ball, where the box is not
    above zero.
    """

    eps: float
    box: BoxClaim
    margins: tuple[MarginClaim, ...] = ()


@dataclass(frozen=True, eq=False)
class Attack:
    """A point in the closed ball of radius `eps` around a sample at which its label is not above all other outputs.

    Radius 0, and the sample itself, where that is misclassified.
    """

    eps: float
    point: np.ndarray
    equilibria: tuple[Equilibrium, ...] = ()


@dataclass(frozen=True, eq=False)
class SampleClaim:
    """In the closed ball of this radius around row `index` of the data, output `predicted` is above all others.

    A radius of zero or less claims nothing of the ball. At the sample itself `predicted` is proven to be above all
    others where it is the label; another class is one that is not proven to be below some output. `balls`: proofs for
    this sample alone. `attacks`: against its label, for increasing radii. `equilibria`: of implicit layers at the
    sample.
    """

    index: int
    label: int
    predicted: int
    radius: float
    balls: tuple[BallClaim, ...] = ()
    attacks: tuple[Attack, ...] = ()
    equilibria: tuple[Equilibrium, ...] = ()


@dataclass(frozen=True, eq=False)
class RobustnessClaim:
    """Samples, and the Lipschitz constants of margins that their radii follow from: certificate.robustness.

    `shared`: of all outputs in l2, times sqrt(2) one of every margin; at most one. `margins` of pairs, in order.
    """

    shared: tuple[Claim, ...]
    margins: tuple[MarginClaim, ...]
    samples: tuple[SampleClaim, ...]
