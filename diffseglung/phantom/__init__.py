"""Chest CTs with exact truth: fully synthetic, or with lesions drawn into a real scan."""
