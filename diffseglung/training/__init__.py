"""Patches on disk, the training loop, its checkpoints and its journal."""
