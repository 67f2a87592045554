"""Segmentation of arrays in memory: a NumPy function, and transforms with the interface of MONAI.

`Volume` and `segment_array` use axes (Z, Y, X) and patient space LPS, as DICOM. MONAI's images are channel first
(1, X, Y, Z), with an affine from voxel (x, y, z) to RAS, as NIfTI. MONAI is not imported: a MetaTensor is recognised by
its attributes (`affine`, `meta`).

    Compose([LoadImaged("image"), EnsureChannelFirstd("image"), LungPathologyd("image", "label")])
"""

from __future__ import annotations

import copy
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from diffseglung.io.nifti import lps_affine
from diffseglung.io.plausibility import check_hu
from diffseglung.pipeline import Segmenter
from diffseglung.platform.config import SegmentConfig
from diffseglung.platform.errors import ConfigError, InputError
from diffseglung.volume import Array, Volume

Keys = Hashable | Sequence[Hashable]


def segment_array(
    array: Array, *, affine: ArrayLike | None = None, spacing_mm: Sequence[float] | None = None,
    lung_mask: Array | None = None, model: Path | str | None = None, config: SegmentConfig | None = None,
    device: str = "auto",
) -> NDArray[np.uint8]:  # fmt: skip
    """Label map of a CT in HU, both (Z, Y, X); ids of `diffseglung.labels`.

    affine:     (4, 4), voxel (z, y, x, 1) to patient point (x, y, z, 1) in mm, LPS; any axes, flipped or oblique.
    spacing_mm: instead of an affine, along (Z, Y, X); z runs to the head, y to the back, x to the patient's left.
    lung_mask:  (Z, Y, X), a binary mask or a label map of lungmask or TotalSegmentator; found if None.
    Raises ConfigError unless exactly one of affine and spacing_mm is given, InputError if the array is not a CT in HU.
    """
    if (affine is None) == (spacing_mm is None):
        raise ConfigError("an array needs a geometry", remedy="give either affine or spacing_mm")
    if spacing_mm is not None:
        if len(spacing_mm) != 3 or not all(np.isfinite(s) and s > 0 for s in spacing_mm):
            raise ConfigError(
                f"spacing_mm is {tuple(spacing_mm)}", remedy="give three positive lengths in mm along (Z, Y, X)"
            )
        affine = np.diag([*spacing_mm, 1.0])[[2, 1, 0, 3]]
    ct = _ct(np.asarray(array), np.asarray(affine, np.float64))
    mask = None if lung_mask is None else ct.with_array(np.asarray(lung_mask))
    result = Segmenter.load(model, config=config, device=device)(ct, mask)
    return np.asarray(result.label_map.array, np.uint8)


class LungPathology:
    """A transform from a channel-first CT (1, X, Y, Z) in HU to its label map: same class, shape and affine, uint8.

    model, config, device: as in `diffseglung.segment`. The model is loaded at the first call; a pickled transform
    loads it again.
    """

    def __init__(
        self, *, model: Path | str | None = None, config: SegmentConfig | None = None, device: str = "auto"
    ) -> None:
        self.model, self.config, self.device = model, config, device
        self._segmenter: Segmenter | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Settings without the loaded model, which keeps pickles for data loader workers small."""
        return vars(self) | {"_segmenter": None}

    def __call__(self, image: Any, *, affine: ArrayLike | None = None, lung_mask: Any = None) -> Any:
        """image: MetaTensor, torch tensor or NumPy array (1, X, Y, Z).

        affine:    (4, 4), voxel (x, y, z, 1) to RAS in mm, for an image without one; a MetaTensor's own has priority.
        lung_mask: on the image's grid, in its layout; found if None.
        """
        ct = _ct(_values(image, "the image"), _affine(image, affine))
        lungs = None if lung_mask is None else ct.with_array(_values(lung_mask, "the lung mask"))
        if self._segmenter is None:
            self._segmenter = Segmenter.load(self.model, config=self.config, device=self.device)
        label_map = self._segmenter(ct, lungs).label_map.array
        return _like(image, np.ascontiguousarray(label_map.transpose(2, 1, 0)[None], np.uint8))


class LungPathologyd:
    """`LungPathology` for MONAI dictionaries: reads `keys`, writes `label_key`, leaves other entries unchanged.

    keys, label_key: one key each, or as many label keys as keys.  lung_mask_key: key of a lung mask.
    A plain array takes its affine from `<key>_meta_dict`, and its label map gets a `<label_key>_meta_dict`.
    """

    def __init__(
        self, keys: Keys = "image", label_key: Keys = "label", *, lung_mask_key: Hashable | None = None,
        model: Path | str | None = None, config: SegmentConfig | None = None, device: str = "auto",
        allow_missing_keys: bool = False,
    ) -> None:  # fmt: skip
        self.keys, self.label_keys = _several(keys), _several(label_key)
        if len(self.keys) != len(self.label_keys):
            raise ConfigError(
                f"{len(self.keys)} keys and {len(self.label_keys)} label keys were given",
                remedy="give one label key for each key",
            )
        self.lung_mask_key, self.allow_missing_keys = lung_mask_key, allow_missing_keys
        self.transform = LungPathology(model=model, config=config, device=device)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """A new dictionary.  Raises InputError if a key is missing."""
        found = dict(data)
        for key, label_key in zip(self.keys, self.label_keys, strict=True):
            if key not in found:
                if self.allow_missing_keys:
                    continue
                raise InputError(f"the dictionary has no {key!r}", remedy=f"one of {', '.join(map(repr, found))}")
            meta = found.get(f"{key}_meta_dict")
            affine = meta.get("affine") if isinstance(meta, Mapping) else None
            mask = None if self.lung_mask_key is None else found.get(self.lung_mask_key)
            found[label_key] = self.transform(found[key], affine=affine, lung_mask=mask)
            if isinstance(meta, Mapping):
                found[f"{label_key}_meta_dict"] = copy.deepcopy(dict(meta))
        return found


def _several(keys: Keys) -> tuple[Hashable, ...]:
    return tuple(keys) if isinstance(keys, Sequence) and not isinstance(keys, str) else (keys,)


def _ct(array: Array, affine: NDArray[np.float64]) -> Volume:
    """A plausible CT in float32 HU."""
    if array.dtype.kind not in "iuf":
        raise InputError(f"the image has {array.dtype} values, not HU", remedy="pass a CT in HU")
    return check_hu(Volume(array, affine), "the image")


def _values(image: Any, what: str) -> Array:
    """An image (1, X, Y, Z) of any type as a NumPy array (Z, Y, X)."""
    array = image.detach().cpu().numpy() if isinstance(image, torch.Tensor) else np.asarray(image)
    if array.ndim != 4 or array.shape[0] != 1:
        raise InputError(
            f"{what} has shape {tuple(array.shape)}, not (1, X, Y, Z)",
            remedy="put EnsureChannelFirstd before this transform, and pass one channel without a batch axis",
        )
    return np.asarray(array[0].transpose(2, 1, 0))


def _affine(image: Any, given: ArrayLike | None) -> NDArray[np.float64]:
    """Affine of a `Volume`, from that of a MetaTensor or the one given."""
    own, space = getattr(image, "affine", None), dict(getattr(image, "meta", None) or {}).get("space", "RAS")
    chosen = own if own is not None else given
    if chosen is None:
        raise InputError(
            "the image has no affine, so its spacing and orientation are unknown",
            remedy="pass a MetaTensor (LoadImaged gives one), a <key>_meta_dict with an affine, or affine=",
        )
    ras = np.asarray(chosen.cpu() if isinstance(chosen, torch.Tensor) else chosen, np.float64)
    if ras.shape != (4, 4):
        raise InputError(f"the affine has shape {ras.shape}, not (4, 4)", remedy="pass the affine of a 3D image")
    if own is not None and str(getattr(space, "value", space)) == "LPS":
        ras = np.diag([-1.0, -1.0, 1.0, 1.0]) @ ras
    return lps_affine(ras)


def _like(image: Any, array: NDArray[np.uint8]) -> Any:
    """`array` as the type of `image`, on its device; a MetaTensor keeps affine, meta and applied operations."""
    if not isinstance(image, torch.Tensor):
        return array
    tensor = torch.from_numpy(array).to(image.device)
    if not hasattr(image, "meta"):
        return tensor
    kind: Any = type(image)
    applied = copy.deepcopy(getattr(image, "applied_operations", None))
    return kind(tensor, meta=copy.deepcopy(image.meta), applied_operations=applied)  # the affine is in meta
