"""Draw CT patches from a trained model.

Writes samples.png (lung window), sample_000.nii.gz ... (HU), and samples.json (model, settings) into the output
folder. Each patch is drawn in a lung mask: a rounded one by default, or one cut from a scan. Research use only.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffseglung import __version__
from diffseglung.cli.options import add_config, add_general_options, add_json, add_shared, read_config
from diffseglung.cli.terminal import answer, say
from diffseglung.platform import atomic_files
from diffseglung.platform.config import SampleConfig
from diffseglung.platform.errors import ConfigError
from diffseglung.platform.serialization import plain

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from diffseglung.method.card import ModelCard


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `sample`."""
    add_shared(parser, "model", "output")
    count = SampleConfig.num_samples
    parser.add_argument("-n", "--num-samples", type=int, default=count, metavar="N", help=f"patches (default: {count})")
    parser.add_argument(
        "--mask", default="round", metavar="round|full|FILE",
        help="lungs to draw in: rounded, everywhere, or cut from an NPZ case or a mask file (default: round)",
    )  # fmt: skip
    text = "patch size (default: as in training)"
    parser.add_argument("--shape", type=int, nargs=3, metavar=("Z", "Y", "X"), help=text)
    add_config(parser, SampleConfig, skip=("num_samples",))
    add_json(parser, "the files")
    add_general_options(parser)


def run(args: argparse.Namespace) -> int:
    """Draw the patches and write them."""
    from diffseglung.cli import progress

    config = read_config(args, SampleConfig)
    import torch

    from diffseglung.case.intensity import denormalise
    from diffseglung.method import checkpoint
    from diffseglung.method.sampling import draw_patches, step_list
    from diffseglung.platform import runtime

    path = args.model or checkpoint.default_path()
    weights, card = checkpoint.load(path)
    model = checkpoint.build(weights, card)
    lungs = find_lungs(args, card, config)
    calls = len(step_list(model, config)) * -(-len(lungs) // config.batch_size)
    done = 0
    with (
        runtime.start(args.device, config.precision) as process,
        progress.counting("drawing", start=0, total=calls, quiet=args.quiet) as show,
    ):

        def tick() -> None:
            nonlocal done
            done += 1
            show(done, "")

        model.network.to(process.device, memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        norm = draw_patches(model, lungs, config, runtime=process, tick=tick)
    record = {
        "diffseglung": __version__,
        "model": {"file": path.name, "sha256": checkpoint.sha256(path), **card.to_dict()},
        "settings": {**config.to_dict(), "mask": str(args.mask), "shape": list(lungs.shape[1:])},
    }
    files = write(args.output, denormalise(norm, card.intensity), card, record)
    say(args, "\n".join(f"  {file}" for file in files))
    answer(args, {"files": files})
    return 0


def find_lungs(args: argparse.Namespace, card: ModelCard, config: SampleConfig) -> NDArray[np.float32]:
    """The lung masks (N, Z, Y, X) that --mask asks for."""
    from diffseglung.io import read_mask
    from diffseglung.method.sampling import cut_lungs, full_lungs, round_lungs

    z, y, x = args.shape or card.patch.shape
    if min(z, y, x) < 1:
        raise ConfigError(f"a patch of {z} x {y} x {x} voxels is empty", remedy="give positive sizes to --shape")
    if args.mask == "full":
        return full_lungs((z, y, x), config.num_samples)
    if args.mask == "round":
        return round_lungs((z, y, x), config.num_samples, seed=config.seed)
    return cut_lungs(
        read_mask(Path(args.mask)),
        (z, y, x),
        config.num_samples,
        spacing_mm=card.patch.spacing_mm,
        min_lung_fraction=card.patch.min_lung_fraction,
        seed=config.seed,
    )


def write(folder: Path, hu: NDArray[np.float32], card: ModelCard, record: dict[str, Any]) -> list[Path]:
    """Write samples.png, samples.json and one NIfTI file per patch, each atomically; returns the files."""
    import numpy as np

    from diffseglung.io.nifti import write_nifti
    from diffseglung.training.pictures import contact_sheet
    from diffseglung.volume import Volume

    folder.mkdir(parents=True, exist_ok=True)
    spacing = card.patch.spacing_mm or 1.0
    affine = np.diag([spacing, spacing, spacing, 1.0])[[2, 1, 0, 3]]
    files = []
    texts = {"samples.png": contact_sheet(hu), "samples.json": json.dumps(plain(record), indent=2).encode()}
    for name, content in texts.items():
        files.append(atomic_files.write_bytes(folder / name, content))
    for index, patch in enumerate(hu):
        files.append(folder / f"sample_{index:03d}.nii.gz")
        write_nifti(files[-1], Volume(patch, affine))
    return files
