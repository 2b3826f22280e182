"""Training: from a configuration to a run folder with a trained model."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ccnet.training.loop import train

__all__ = ["train"]


def __getattr__(name: str) -> Any:
    """Import `train` when it is first asked for, so that `ccnet --help` loads no torch."""
    if name not in __all__:
        raise AttributeError(f"module 'ccnet.training' has no attribute {name!r}")
    return getattr(import_module("ccnet.training.loop"), name)
