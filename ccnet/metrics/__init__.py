"""How good predictions are: in one confusion matrix, at borders, by confidence, and compared."""

from ccnet.metrics.confusion import ConfusionMatrix, Scores, scores

__all__ = ["ConfusionMatrix", "Scores", "scores"]
