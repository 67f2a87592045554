"""Stages 1 and 2: what is minimised, the training loop, its state and its journal."""
