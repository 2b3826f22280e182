"""What training minimizes, exact over any number of processes and of parts of a step."""

from ccnet.losses.ohem import ohem_threshold
from ccnet.losses.pixels import true_class_probability
from ccnet.losses.segmentation import Divisors, SegmentationLoss

__all__ = ["Divisors", "SegmentationLoss", "ohem_threshold", "true_class_probability"]
