"""Standardise rows, then keep the leading principal components: what a mixture is fitted on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Projection:
    """z = ((row - mean) / scale) @ axes.

    mean, scale: (F,);  axes: (F, P), the leading eigenvectors of the correlation matrix, divided by the root of their
    eigenvalue when whitened.
    """

    mean: Tensor
    scale: Tensor
    axes: Tensor

    @classmethod
    def fit(cls, rows: Tensor, dimensions: int | None = None, *, whiten: bool = False) -> Self:
        """From rows (N, F); `dimensions` None keeps all of them unrotated."""
        mean, scale = rows.mean(0), rows.std(0).clamp(min=1e-6)
        if dimensions is None or dimensions >= rows.shape[1]:
            return cls(mean, scale, torch.eye(rows.shape[1], dtype=rows.dtype))
        z = (rows - mean) / scale
        values, vectors = torch.linalg.eigh((z.T.double() @ z.double()) / len(z))
        axes = vectors.flip(1)[:, :dimensions]
        axes = axes * torch.where(
            axes.abs().amax(0) == axes.amax(0), 1.0, -1.0
        )  # a sign that does not depend on LAPACK
        if whiten:
            axes = axes / values.flip(0)[:dimensions].clamp(min=1e-9).sqrt()
        return cls(mean, scale, axes.to(rows.dtype))

    def __call__(self, rows: Tensor) -> Tensor:
        """(N, F) -> (N, P)."""
        return ((rows - self.mean) / self.scale) @ self.axes
