"""Whether a data set can be trained on, found before a run stumbles over it."""
