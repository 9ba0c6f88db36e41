"""Checks of a training, an evaluation or a prediction: what it would do otherwise than asked."""
