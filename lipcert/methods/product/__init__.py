"""The product bound: norms of linear stretches and slopes of activations, composed along the graph."""

from lipcert.methods.product.method import ProductMethod

__all__ = ["ProductMethod"]
