"""Gaussian mixtures and the projection of their rows."""
