"""Lungs of a CT: found, or taken from masks and tools of others; their sides, and whether they can be right."""
