"""Effect of a sharp kernel on results: patients with two reconstructions of one scan, both labelled.

    python -m scripts.kernel_pairs DATA -o OUT [--methods NAME ...]

DATA holds both reconstructions of Lung-PET-CT-Dx A0001 and A0002 and their lungs (docs/data.md). OUT/robustness.md has
the table; existing rows are not measured again.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from diffseglung.case.resample import resample_onto
from diffseglung.io import read_volume
from diffseglung.io.nifti import read_nifti
from studies import robustness
from studies.robustness import Subject

PAIRS = {"A0001": ("lungdx_A0001_s3", "lungdx_A0001_s2"), "A0002": ("lungdx_A0002_s3", "lungdx_A0002_s2")}
"""Patient -> soft and sharp reconstruction."""


def subject(patient: str, folder: Path) -> Subject:
    """The soft reconstruction, with the sharp one on its grid as its twin, inside the lungs of the soft one."""
    soft, sharp = (read_volume(folder / f"{name}.nii.gz") for name in PAIRS[patient])
    lungs = read_nifti(folder / f"{PAIRS[patient][0]}_lung.nii.gz")
    twins = {"soft to sharp kernel": resample_onto(sharp, soft, fill=-1024)}
    return Subject(patient, soft, lungs, twins, simulated=False)


def main() -> None:
    """Read, label, compare, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder with lung_pet_ct_dx")
    parser.add_argument("--methods", nargs="+", default=["physics"], help="of diffseglung segment (default: physics)")
    parser.add_argument("-o", "--output", type=Path, required=True)
    args = parser.parse_args()
    found = sorted(args.data.rglob(f"{PAIRS['A0001'][0]}.nii.gz"))
    if not found:
        parser.error(f"{args.data}: {PAIRS['A0001'][0]}.nii.gz is not below it; get the scans as docs/data.md says")
    folder = found[0].parent
    robustness.run(args.output, [subject(p, folder) for p in PAIRS], methods=tuple(args.methods))
    print(args.output / "robustness.md")


if __name__ == "__main__":
    main()
