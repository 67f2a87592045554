"""Vectors per grid position: local statistics in physical units, and multi-timestep diffusion features."""
