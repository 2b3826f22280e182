"""Weight files: their tensors and what is stored besides, read without running any code in them."""

from ccnet.weights.checks import named
from ccnet.weights.fitting import build_with_weights, differences
from ccnet.weights.pickles import Placeholder
from ccnet.weights.reading import BGR_MEAN, DEEP_STEM, Weights, parameter_name, read_weights

__all__ = [
    "BGR_MEAN",
    "DEEP_STEM",
    "Placeholder",
    "Weights",
    "build_with_weights",
    "differences",
    "named",
    "parameter_name",
    "read_weights",
]
