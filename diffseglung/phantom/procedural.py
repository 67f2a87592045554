"""`make_phantom`: a fully synthetic chest CT with the true label of every lung voxel."""

from __future__ import annotations

import numpy as np

from diffseglung.phantom import anatomy, lesions
from diffseglung.phantom.protocol import EXHALE_SHARE, scanner_for
from diffseglung.phantom.record import Draw, Phantom
from diffseglung.phantom.scanner import Scanner
from diffseglung.platform.config import PhantomConfig
from diffseglung.volume import Volume

EXTENT_MM = {"full": (300.0, 260.0, 320.0), "small": (132.0, 124.0, 156.0)}
"""Field of view (Z, Y, X) of each size."""
SCALE = {"full": 1.0, "small": 0.5}


def make_phantom(
    config: PhantomConfig | int = 0, *, scanner: Scanner | None = None,
    extent_mm: tuple[float, float, float] | None = None,
) -> Phantom:  # fmt: skip
    """A procedural chest CT. The same settings give the same bytes.

    config: settings, or just a seed.  scanner: replaces the random one.  extent_mm: a larger field of view (Z, Y, X).

    >>> from diffseglung.phantom.scanner import Scanner
    >>> coarse = Scanner(in_plane_mm=4, slice_mm=6, thickness_mm=6)
    >>> phantom = make_phantom(PhantomConfig(size="small", healthy=True), scanner=coarse)
    >>> phantom.ct.shape, sorted({int(label) for label in phantom.truth.array.ravel()})
    ((22, 31, 39), [0, 1])
    """
    config = config if isinstance(config, PhantomConfig) else PhantomConfig(seed=config)
    draw = Draw(config.seed, config.split)
    protocol = Scanner.random(draw, small=config.size == "small")
    protocol = scanner or scanner_for(protocol, config.condition, draw.aside(20))
    shape, spacing = protocol.grid(extent_mm or EXTENT_MM[config.size])
    exhale = EXHALE_SHARE.get(config.condition, 0.0)
    chest = anatomy.build(anatomy.Grid(shape, spacing), draw, scale=SCALE[config.size], exhale=exhale)
    parts = chest.parts
    names = () if config.healthy else (config.models or None)
    records = lesions.add(parts, draw, names=names, severity=config.severity)
    keep = np.clip(np.rint(protocol.slice_centres(shape[0], spacing[0])).astype(int), 0, shape[0] - 1)
    lungs, truth = parts.lungs[keep], parts.truth[keep]
    image = protocol.scan(chest.compose(), spacing[0], draw.stream(9))
    affine = np.zeros((4, 4))
    affine[[2, 1, 0], [0, 1, 2]] = (protocol.slice_mm, protocol.in_plane_mm, protocol.in_plane_mm)
    affine[3, 3] = 1
    affine[:3, 3] = -(affine[:3, :3] @ ((np.array(image.shape) - 1) / 2))
    ct = Volume(image, affine)
    meta = {
        "generator": "procedural",
        "version": 1,
        "config": config.to_dict(),
        "scanner": vars(protocol),
        "anatomy": draw.record,
        "lesions": records,
    }
    return Phantom(ct, ct.with_array(lungs), ct.with_array(truth), meta)
