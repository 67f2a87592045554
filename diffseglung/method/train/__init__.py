"""Stages 1 and 2: patches on disk, the training loop, its checkpoints and its journal."""
