"""Gaussian mixtures: free ones, and ones seeded by physics."""
