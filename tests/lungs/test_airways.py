from __future__ import annotations

from typing import Any

import numpy as np

from diffseglung.lungs.airways import find_airways
from diffseglung.lungs.coarse import Coarse, body_mask
from diffseglung.volume import Reorientation


def test_trachea_and_bronchi_are_found_and_do_not_leak(chest: Any) -> None:
    upright = Reorientation.of(chest.ct).apply(chest.ct)
    coarse = Coarse.of(upright, 2.0)
    found = find_airways(coarse, body_mask(coarse))
    assert found[chest.trachea].mean() > 0.9
    assert (found & (chest.lungs > 0)).sum() < 0.02 * (chest.lungs > 0).sum()


def test_without_a_trachea_nothing_is_found() -> None:
    hu = np.full((30, 40, 40), 40, np.float32)
    hu[5:25, 10:30, 10:30] = -850
    coarse = Coarse(hu, (2.0, 2.0, 2.0), (1, 1, 1))
    assert not find_airways(coarse, np.ones(hu.shape, bool)).any()
