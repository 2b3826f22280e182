"""The criss-cross attention operator: contract, definition and implementations."""

from ccnet.ops.criss_cross import attention_weights, criss_cross_attention, fused_available

__all__ = ["attention_weights", "criss_cross_attention", "fused_available"]
