"""Choices for a training run, from what its data and its machine are like."""
