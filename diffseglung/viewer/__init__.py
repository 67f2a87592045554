"""A page on this machine that shows a result in three planes and 3D."""
