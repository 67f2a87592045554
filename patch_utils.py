"""Training patches and overlapping tiles: where they lie, how they are cut, and how results are blended.

Implemented in `diffseglung.method.patches`.
"""

from diffseglung.method.patches import blend, choose_corners, cut, lung_corners, taper, tile_corners

__all__ = ["blend", "choose_corners", "cut", "lung_corners", "taper", "tile_corners"]
