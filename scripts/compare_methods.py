"""Every method and every HU baseline on the same simulated cases, same lungs, same scoring; prints a table.

    python scripts/compare_methods.py CASES [--model FILE] [--methods ...] [--no-baselines] [-o scores.json]

CASES is a folder made by `diffseglung phantom`: case folders with ct.nii.gz, lungs.nii.gz and truth.nii.gz.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path

from diffseglung.config import METHODS, SegmentConfig
from diffseglung.evaluation import report, scores
from diffseglung.evaluation.baselines import BASELINES
from diffseglung.fusion import fuse
from diffseglung.io import read_mask, read_volume
from diffseglung.labelling.bundle import Bundle, load_bundle
from diffseglung.labelling.methods import Rows, class_posterior
from diffseglung.pipeline import back_onto
from diffseglung.preprocess.scene import make_scene
from diffseglung.runtime import Runtime, choose_device, choose_precision
from diffseglung.volume import Volume


def label_maps(
    ct: Volume, lungs: Volume, methods: list[str], bundle: Bundle, caution: float
) -> Iterator[tuple[str, Volume]]:
    """Label map of each method; descriptors and features are computed once for all."""
    device = choose_device("cpu")
    rows = Rows(make_scene(ct, lungs, 1.5), bundle, Runtime(device=device, precision=choose_precision("auto", device)))
    scene = rows.scene
    for method in methods:
        config = SegmentConfig(method=method, caution=caution)
        coarse = rows.where.scatter(class_posterior(rows, config).numpy())
        fine = fuse(coarse, rows.where.stride, scene.aligned, scene.lungs, spacing_mm=scene.spacing_mm)
        yield method, back_onto(ct, lungs, scene, fine.numpy(), config, keep=False)[0]


def main() -> None:
    """Score all cases and print one row a method."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", type=Path)
    parser.add_argument("--model", type=Path, default=None)
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    parser.add_argument("--baselines", nargs="*", default=list(BASELINES), choices=list(BASELINES))
    parser.add_argument("--caution", type=float, default=SegmentConfig().caution, help="as in diffseglung segment")
    parser.add_argument("--surfaces", action="store_true", help="also HD95 and surface Dice (slow)")
    parser.add_argument("-o", "--output", type=Path, default=None)
    args = parser.parse_args()
    bundle, found = load_bundle(args.model), {}
    for folder in sorted(path.parent for path in args.cases.rglob("truth.nii.gz")):
        begin = time.perf_counter()
        ct, lungs = read_volume(folder / "ct.nii.gz"), read_mask(folder / "lungs.nii.gz")
        truth = read_mask(folder / "truth.nii.gz")
        maps = dict(label_maps(ct, lungs, args.methods, bundle, args.caution))
        maps |= {name: BASELINES[name](ct, lungs) for name in args.baselines}
        for name, label_map in maps.items():
            found.setdefault(name, {})[folder.name] = scores.score_case(label_map, truth, surfaces=args.surfaces)
        print(f"{folder.name}: {time.perf_counter() - begin:.0f} s", flush=True)
    pooled = {name: scores.pool(list(cases.values())) for name, cases in found.items()}
    widths = [22, *[8] * (len(report.HEADER) - 1)]
    for row in [list(report.HEADER), *report.table(pooled)]:
        print(" ".join(str(cell)[: width - 1].ljust(width) for cell, width in zip(row, widths, strict=True)))
    if args.output:
        report.write(args.output, pooled, found)


if __name__ == "__main__":
    main()
