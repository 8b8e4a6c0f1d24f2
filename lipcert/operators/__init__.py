"""Linear operators as plain data: what an Affine node of the graph applies.

`base` has the interface, `dense`, `convolution`, `diagonal`, `selection`, `reduction` and `transposed` the leaves,
`composite` products and sums, `enclosed` their rounding-safe application, `torch_view` their device realisation (lazy).
"""

from lipcert.operators.base import Leaf, LinearOperator, Shape, size_of
from lipcert.operators.composite import Product, Row, Sum, add, compose, joined, transpose
from lipcert.operators.convolution import Convolution
from lipcert.operators.dense import Dense
from lipcert.operators.diagonal import Diagonal
from lipcert.operators.reduction import Reduction
from lipcert.operators.selection import Identity, Selection
from lipcert.operators.transposed import Transposed

__all__ = [
    "Convolution",
    "Dense",
    "Diagonal",
    "Identity",
    "Leaf",
    "LinearOperator",
    "Product",
    "Reduction",
    "Row",
    "Selection",
    "Shape",
    "Sum",
    "Transposed",
    "add",
    "compose",
    "joined",
    "size_of",
    "transpose",
]
