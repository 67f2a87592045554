"""Make demo/lidc_1011.nii.gz: a smaller copy of one public chest CT (LIDC-IDRI-1011, CC BY 3.0).

    python scripts/make_demo_case.py -i lidc_1011.nii.gz -o demo/lidc_1011.nii.gz

Resampled to 1.5 mm in plane (anti-aliased), slices kept, HU rounded to int16 and clipped to [-1024, 1000].
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from diffseglung.case.resample import resample
from diffseglung.io import read_volume
from diffseglung.io.nifti import write_nifti

SPACING_MM = (2.5, 1.5, 1.5)


def main() -> None:
    """Read, resample, round, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-i", "--input", type=Path, required=True, help="the full CT")
    parser.add_argument("-o", "--output", type=Path, required=True, help="where the smaller copy goes")
    parser.add_argument("--spacing-mm", type=float, nargs=3, default=SPACING_MM, metavar=("Z", "Y", "X"))
    args = parser.parse_args()
    small = resample(read_volume(args.input), tuple(args.spacing_mm))
    hu = np.clip(np.rint(small.array), -1024, 1000).astype(np.int16)
    args.output.parent.mkdir(parents=True, exist_ok=True)
    write_nifti(args.output, small.with_array(hu))
    print(f"{args.output}: {hu.shape} voxels of {args.spacing_mm} mm, {args.output.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
