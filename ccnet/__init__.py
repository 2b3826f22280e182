"""Semantic segmentation with criss-cross attention (CCNet).

Each public name is imported when it is first used, so that `import ccnet` is fast.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ccnet.models.attention import CrissCrossAttention, RecurrentCrissCrossAttention
    from ccnet.models.ccnet import CCNet
    from ccnet.models.head import CCNetHead
    from ccnet.ops import criss_cross_attention
    from ccnet.prediction.predictor import Predictor

__version__ = "0.1.0"
__all__ = [
    "CCNet",
    "CCNetHead",
    "CrissCrossAttention",
    "Predictor",
    "RecurrentCrissCrossAttention",
    "criss_cross_attention",
]

_MODULES = {
    "CCNet": "ccnet.models.ccnet",
    "CCNetHead": "ccnet.models.head",
    "CrissCrossAttention": "ccnet.models.attention",
    "Predictor": "ccnet.prediction.predictor",
    "RecurrentCrissCrossAttention": "ccnet.models.attention",
    "criss_cross_attention": "ccnet.ops",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'ccnet' has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
