"""Cluster the radiomics of a volume: what the teacher sees, without a model.

Computes the 34 radiomic descriptors of overlapping patches of the lungs, clusters them by K-means, and writes
clusters.png (slices, volumes, what distinguishes the clusters), clusters.json (centres in physical units, volumes) and
clusters.nii.gz (cluster of every lung voxel; 1 is the darkest) into the output folder. Clusters are not diagnoses.
"""

from __future__ import annotations

import argparse

from diffseglung.cli.options import add_config, add_general_options, add_json, add_shared, read_config
from diffseglung.cli.progress import bar
from diffseglung.cli.terminal import answer, harmless, say
from diffseglung.platform import atomic_files
from diffseglung.platform.config import ClusterConfig
from diffseglung.platform.serialization import plain


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `clusters`; --npz and --out are the published spellings of -i and -o."""
    add_shared(parser, "input", "output", "lung_mask", "series")
    add_json(parser, "clusters.json")
    add_config(parser, ClusterConfig)
    add_general_options(parser, device=False)


def run(args: argparse.Namespace) -> int:
    """Cluster one scan."""
    import json
    import sys

    from diffseglung.io import read_mask, read_scan, scan_ending, scan_name
    from diffseglung.io.nifti import write_nifti
    from diffseglung.lungs.finder import find_lungs
    from diffseglung.lungs.masks import adapt_mask
    from diffseglung.method.radiomics.clusters import cluster_volume
    from diffseglung.output.cluster_picture import draw

    config = read_config(args, ClusterConfig)
    scan = read_scan(args.input, series_uid=args.series)
    ct = scan.volume
    mask_file = args.lung_mask or (args.input if scan_ending(args.input) == ".npz" else None)
    with bar("clustering", quiet=args.quiet):
        lungs = adapt_mask(read_mask(mask_file), ct) if mask_file else find_lungs(ct)
        ids, table = cluster_volume(ct, lungs, config.k, config.seed, config=config)

    args.output.mkdir(parents=True, exist_ok=True)
    document = {
        "input": scan_name(args.input),
        "settings": config.to_dict(),
        "lung_ml": float((lungs.array > 0).sum()) * ct.voxel_ml,
        "clusters": [cluster.to_dict() for cluster in table],
        "notes": [*scan.notes, "research use only; clusters are groups of similar texture, not diagnoses"],
    }
    names = {0: "background", **{cluster.id: f"cluster {cluster.id}" for cluster in table}}
    write_nifti(args.output / "clusters.nii.gz", ids, names=names)
    atomic_files.write_text(
        args.output / "clusters.json", json.dumps(plain(document), indent=2, allow_nan=False) + "\n"
    )
    atomic_files.write_bytes(args.output / "clusters.png", draw(ct, ids, table, scan_name(args.input)))
    for note in [] if args.quiet else scan.notes:
        print(harmless(f"note: {note}"), file=sys.stderr)
    for cluster in table:
        amount = f"{cluster.volume_ml:7.0f} mL  {100 * cluster.fraction_of_lung:5.1f} %"
        say(args, f"cluster {cluster.id}: {amount}  mean {cluster.mean_hu:5.0f} HU")
    for name in ("clusters.png", "clusters.json", "clusters.nii.gz"):
        say(args, str(args.output / name))
    answer(args, document)
    return 0
