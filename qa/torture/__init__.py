"""Faults on purpose: `make torture` kills, starves and fills, and looks whether anything was lost."""
