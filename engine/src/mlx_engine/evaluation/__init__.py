"""Losses of a model over held-out rows, apart from any training."""
