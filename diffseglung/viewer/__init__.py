"""A local page that shows a result in three planes and 3D."""
