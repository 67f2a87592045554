"""Variants of healthy lung that a network must not mistake for disease."""

from __future__ import annotations

import numpy as np

from diffseglung.phantom.canvas import Canvas, clipped
from diffseglung.phantom.region import FLUID_HU


def draw_confounders(canvas: Canvas, *, may_breathe_out: bool) -> None:
    """Draw variants of healthy lung at random; truth stays healthy.

    Shallow breath, dependent density, mosaic perfusion, wide vessels, extra vessels, bands of atelectasis.
    """
    lung, parenchyma = canvas.lung, canvas.parenchyma
    if may_breathe_out and canvas.chance(0.3):
        parenchyma += np.where(
            lung, np.float32(canvas.between(0, 110)) * clipped((np.float32(FLUID_HU) - parenchyma) / np.float32(880)), 0
        )
    if canvas.chance(0.35):
        rows = np.arange(canvas.shape[1])[None, :, None]
        last = np.where(lung, rows, -1).max(1, keepdims=True)
        away = np.clip((last - rows) * canvas.voxel, 0, None)
        share = canvas.between(0.02, 0.13) * np.exp(-away / canvas.between(4, 20)) * lung
        canvas.fill(share.astype(np.float32))
    if canvas.chance(0.35):
        parenchyma += np.where(lung, np.float32(canvas.between(4, 24)) * canvas.noise(canvas.between(12, 45)), 0)
    if canvas.chance(0.3):
        canvas.vessels[:] = np.clip(canvas.vessels * np.float32(canvas.between(0.8, 1.5)), 0, 1)
    if canvas.chance(0.15):
        more = canvas.tubes(canvas.between(16, 40), canvas.between(0.8, 3.0)) * lung
        np.maximum(canvas.vessels, more * np.float32(canvas.between(0.5, 1)), out=canvas.vessels)
    if canvas.chance(0.15):
        band = canvas.ridges(canvas.between(40, 80), canvas.between(0.5, 2.0)) * lung
        canvas.fill(band * np.float32(canvas.between(0.2, 0.7)))
