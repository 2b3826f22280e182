"""A trained network in the form that predicts fastest, with the same results."""
