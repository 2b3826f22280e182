"""The criss-cross attention operator: contract, definition and implementations."""

from ccnet.ops.criss_cross import criss_cross_attention, fused_available

__all__ = ["criss_cross_attention", "fused_available"]
