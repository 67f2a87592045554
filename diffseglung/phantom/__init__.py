"""Chest CTs with exact truth: procedural, or lesions drawn into a real scan."""
