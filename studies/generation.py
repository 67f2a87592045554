"""Quality of the patches sampled from a diffusion model. Definitions and sources are in docs/generation.md.

The entry point is `run(output, inputs, config, *, device, track)`, which `diffseglung benchmark --generation` calls:

    run(args.output, Inputs.of_checkout(root, patches_dir=args.patches_dir), GenerationConfig(n=args.n), track=track)

It writes generation.json, .csv, .md and .png, and keeps every sample and every row, so that an interrupted run can
continue. Unknown values, for example without the training patches, are null.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from diffseglung.method import checkpoint
from diffseglung.method.card import ModelCard
from diffseglung.platform import atomic_files, runtime, serialization
from diffseglung.platform.config import GenerationConfig
from diffseglung.platform.errors import ConfigError, InputError
from studies import generation_page, nearest, sample_sets
from studies.bootstrap import NAN, Estimate
from studies.embedding import Cloud, Weights, describe, embed, random_weights, read_weights
from studies.frechet import Rows, frechet_distance, gaussian, precision_recall, resampled, standardised
from studies.nearest import TrainingPatches
from studies.report import rounded
from studies.sample_sets import Patches, RealPatches, Sampler, Studio
from studies.similarity import WINDOW, ms_ssim, psnr, ssim

VERSION = 1
"""Incremented when a measurement changes; older rows are then measured again."""
LEVELS = (0.25, 0.5)
"""Noise levels, as fractions of T, to which real patches are noised before they are denoised."""
REPAIR_CALLS = (1, 20)
DATA_RANGE = 2.0
Row = dict[str, Any]
Track = Callable[[Iterable[Any], int], Iterable[Any]]
Index = NDArray[np.int64]


@dataclass(frozen=True)
class Inputs:
    """Inputs of the table.

    models: name -> weights file.  held_out: pairs of files (CT, lung mask) not used in training.
    patches_dir: the patches that the models were trained on, made by `diffseglung precompute`.
    feature_network: weights of a feature network to use instead of the random one (see `embedding.read_weights`).
    """

    models: Mapping[str, Path]
    held_out: Sequence[tuple[Path, Path]]
    patches_dir: Path | None = None
    feature_network: Path | None = None

    @classmethod
    def of_checkout(cls, root: Path, patches_dir: Path | None = None) -> Inputs:
        """The models of both stages and the held-out demo scan of a checkout."""
        named = {f"stage {i}": root / "checkpoints" / f"{n}.pt" for i, n in ((1, "ddpm_base"), (2, "ddpm_distill"))}
        demo = root / "demo"
        return cls(
            {name: path for name, path in named.items() if path.is_file()},
            [(demo / "lidc_1011.nii.gz", demo / "lidc_1011_lungs.nii.gz")],
            patches_dir,
        )


@dataclass(frozen=True, eq=False)
class Real:
    """The real patches that rows are compared with.

    held: n held-out patches; samples are drawn in their lungs.  held_distances: (n,), to the nearest training patch.
    references: name -> cloud; `primary` is used for the network's distance, precision and recall.
    training: patches and the descriptors of each; floors: name -> indices of training patches used as samples.
    digest: hash of all that a row depends on besides its samples.
    """

    held: RealPatches
    references: dict[str, Cloud]
    primary: str
    training: TrainingPatches | None
    rows: Rows | None
    floors: dict[str, Index]
    held_distances: dict[str, Rows]
    card: ModelCard
    weights: Weights
    digest: str


def run(
    output: Path,
    inputs: Inputs,
    config: GenerationConfig | None = None,
    *,
    device: str = "auto",
    track: Track | None = None,
) -> dict[str, Any]:
    """Draw, measure and write; returns the content of generation.json. track: wraps the rows, as a progress bar."""
    config = config or GenerationConfig()
    if config.quick:
        config = dataclasses.replace(config, n=2, resamples=20)
    with runtime.start(device, config.precision) as process:
        studios, card = _studios(inputs, process, output / "samples")
        real = _real(inputs, config, card, output)
        samplers = sample_sets.QUICK if config.quick else sample_sets.SAMPLERS
        jobs: list[tuple[str, Sampler | None]] = [(name, None) for name in ("held-out", *real.floors)]
        jobs += [(name, sampler) for sampler in samplers for name in studios]
        rows, pictures = [], {"held-out": real.held.ct}
        for name, sampler in track(jobs, len(jobs)) if track else jobs:
            row, patches = _row(output, name, sampler, studios.get(name), real, config)
            rows.append(row)
            if sampler is not None:
                pictures[f"{name}, {sampler.title}"] = patches
            record = _record(rows, [], inputs, config, real, process)
            generation_page.write(output, record, pictures, card.intensity)
        repairs = [_repair(output, name, studio, real, config) for name, studio in studios.items()]
    record = _record(rows, [r for rs in repairs for r in rs], inputs, config, real, process)
    generation_page.write(output, record, pictures, card.intensity)
    return record


def _studios(inputs: Inputs, process: runtime.Runtime, store: Path) -> tuple[dict[str, Studio], ModelCard]:
    """The models on their device, and their common card."""
    if not inputs.models:
        raise ConfigError("there is no model to draw with", remedy="give at least one weights file")
    studios, cards = {}, []
    for name, path in inputs.models.items():
        weights, card = checkpoint.load(path)
        model = checkpoint.build(weights, card)
        model.network.to(process.device, memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        studios[name] = Studio(model, process, store)
        cards.append(card)
    if any((c.patch.shape, c.patch.spacing_mm, c.intensity) != (
        cards[0].patch.shape, cards[0].patch.spacing_mm, cards[0].intensity) for c in cards):  # fmt: skip
        raise InputError("the models draw different kinds of patches", remedy="compare them in runs of their own")
    return studios, cards[0]


def _real(inputs: Inputs, config: GenerationConfig, card: ModelCard, output: Path) -> Real:
    """Held-out patches, references and floors."""
    weights = read_weights(inputs.feature_network) if inputs.feature_network else random_weights()
    more = max(config.reference // 3, 2)
    cut = sample_sets.cut_scans(inputs.held_out, config.n + more, card.patch, card.intensity, seed=config.seed)
    held = RealPatches(cut.ct[: config.n], cut.lungs[: config.n], cut.scans[: config.n])
    references = {"held-out": embed(cut.ct[config.n :], cut.lungs[config.n :], card.intensity, weights)}
    training = nearest.open_training(inputs.patches_dir, card.patch) if inputs.patches_dir else None
    rows: Rows | None = None
    floors: dict[str, Index] = {}
    distances: dict[str, Rows] = {}
    if training is not None:
        floors, places = _places(training, config)
        references |= {name: embed(*_take(training, place), card.intensity, weights) for name, place in places.items()}
        rows = nearest.training_descriptors(training, card.intensity, output)
        distances = _distances(held.ct, held.lungs, training, rows, card)
    digest = hashlib.sha256(repr([VERSION, config, training and training.digest, card.patch]).encode())
    for array in (
        held.ct,
        *(r.descriptors for r in references.values()),
        *(w.numpy() for pair in weights for w in pair),
    ):
        digest.update(np.ascontiguousarray(array).tobytes())
    primary = "training" if training is not None else "held-out"
    return Real(held, references, primary, training, rows, floors, distances, card, weights, digest.hexdigest()[:16])


def _places(training: TrainingPatches, config: GenerationConfig) -> tuple[dict[str, Index], dict[str, Index]]:
    """Random indices of floors and references, which share no patch; with and without simulated patients."""
    rng = np.random.default_rng(config.seed)
    pools = {"training": np.arange(len(training.ct)), "training, real scans": np.flatnonzero(training.real)}
    floors = {name: rng.permutation(pool)[: config.n] for name, pool in pools.items() if len(pool) >= 2 * config.n}
    used = np.concatenate([*floors.values(), np.zeros(0, np.int64)])
    rest = {name: np.setdiff1d(pools[name], used) for name in floors}
    if "training" not in rest:
        raise InputError(f"{len(training.ct)} training patches are too few", remedy=f"give {2 * config.n} or more")
    return floors, {name: rng.permutation(pool)[: config.reference] for name, pool in rest.items()}


def _take(training: TrainingPatches, place: Index) -> tuple[Patches, Patches]:
    """CT and lungs (0, 1) of some training patches."""
    order = np.sort(place)
    back = np.searchsorted(order, place)
    return training.ct[order].astype(np.float32)[back], (training.lungs[order] > 0).astype(np.float32)[back]


def _distances(
    ct: Patches, lungs: Patches, training: TrainingPatches, rows: Rows, card: ModelCard,
    own: Index | None = None,
) -> dict[str, Rows]:  # fmt: skip
    """Distances (n,) to the nearest training patch: of voxels in HU, of descriptors in standard deviations."""
    half = (card.intensity.high_hu - card.intensity.low_hu) / 2
    return {
        "voxels_hu": half * nearest.nearest_voxels(ct, training.ct, own),
        "descriptors_sd": nearest.nearest_rows(describe(ct, lungs, card.intensity), rows, own),
    }


def _row(
    output: Path, name: str, sampler: Sampler | None, studio: Studio | None, real: Real, config: GenerationConfig
) -> tuple[Row, Patches]:
    """One row of the table and its patches, read from disk if measured before."""
    lungs, own = real.held.lungs, None
    row: Row = {"set": name, "sampler": None, "calls": None, "seconds": None}
    if sampler is not None and studio is not None:
        drawn = studio.draw(lungs, sampler, config)
        ct = drawn.ct
        row |= {"sampler": sampler.title, "calls": drawn.calls, "seconds": drawn.seconds}
    elif name in real.floors and real.training is not None:
        own = real.floors[name]
        ct, lungs = _take(real.training, own)
    else:
        ct = real.held.ct
    key = hashlib.sha256(np.ascontiguousarray(ct).tobytes() + real.digest.encode()).hexdigest()[:16]
    path = output / "rows" / f"{generation_page.slug(name, row['sampler'])}.json"
    kept = _kept(path, key)
    if kept is None:
        figures, cubes = _figures(ct, lungs, own, real, config, real_row=sampler is None)
        shown = {metric: dataclasses.asdict(figure) for metric, figure in figures.items()}
        kept = rounded({"key": key, "patches": len(ct), "cubes": cubes, "figures": shown})
        atomic_files.write_bytes(path, json.dumps(kept, indent=1).encode())
    return rounded(row) | kept, ct


def _figures(
    ct: Patches, lungs: Patches, own: Index | None, real: Real, config: GenerationConfig, *, real_row: bool
) -> tuple[dict[str, Estimate], int]:
    """Every column of a set of patches, and the number of cubes. real_row: leave out ratios, which apply to samples."""
    cloud = embed(ct, lungs, real.card.intensity, real.weights)
    base = real.references[real.primary]
    found = {
        f"frechet {name}": _frechet(cloud.descriptors, reference.descriptors, cloud.groups, config)
        for name, reference in real.references.items()
    }
    found["frechet network"] = _frechet(cloud.network, base.network, cloud.groups, config)
    few = base.first(config.n).descriptors
    few, own_rows = (standardised(rows, base.descriptors) for rows in (few, cloud.descriptors))
    shares = precision_recall(few, own_rows)
    found |= {name: Estimate(s, NAN, NAN, len(ct)) for name, s in zip(("precision", "recall"), shares, strict=True)}
    if min(ct.shape[2:]) >= WINDOW:
        found["pair ms-ssim"] = _mean_of_pairs(pairwise(ct), config)
    if real.training is not None and real.rows is not None:
        for name, far in _distances(ct, lungs, real.training, real.rows, real.card, own).items():
            found[name] = _mean(far, np.ones_like(far), config)
            if not real_row:
                found[f"{name} ratio"] = _mean(far, real.held_distances[name], config)
    return found, len(cloud.groups)


def _frechet(rows: Rows, base: Rows, groups: Index, config: GenerationConfig) -> Estimate:
    """Frechet distance in standard deviations of the reference."""
    goal, scaled = gaussian(standardised(base, base)), standardised(rows, base)

    def distance(index: Index) -> float:
        return frechet_distance(gaussian(scaled[index]), goal)

    return resampled(distance, groups, resamples=config.resamples, seed=config.seed, recentre=True)


def _mean(values: Rows, over: Rows, config: GenerationConfig) -> Estimate:
    """Ratio of the means of two values of the same patches; unknown ones are left out."""

    def ratio(index: Index) -> float:
        known = index[np.isfinite(values[index])]
        return float(values[known].mean() / over[known].mean()) if len(known) else NAN

    return resampled(ratio, np.arange(len(values)), resamples=config.resamples, seed=config.seed, recentre=False)


def _mean_of_pairs(alike: Rows, config: GenerationConfig) -> Estimate:
    """Mean over pairs of different patches."""

    def mean(index: Index) -> float:
        known = alike[np.ix_(index, index)][index[:, None] != index[None]]
        return float(known.mean()) if len(known) else NAN

    if len(alike) < 3:  # one pair, which resampling cannot vary
        return Estimate(mean(np.arange(len(alike))), NAN, NAN, len(alike))
    return resampled(mean, np.arange(len(alike)), resamples=config.resamples, seed=config.seed, recentre=False)


def pairwise(ct: Patches) -> Rows:
    """MS-SSIM (n, n) of every pair of patches (n, Z, Y, X) in model units: mean over their axial slices."""
    images = torch.from_numpy(np.clip(ct, -1, 1))
    alike = np.full((len(ct), len(ct)), np.nan)
    for i in range(len(ct)):
        for j in range(i):
            alike[i, j] = alike[j, i] = float(ms_ssim(images[i], images[j], data_range=DATA_RANGE).mean())
    return alike


def _repair(output: Path, name: str, studio: Studio, real: Real, config: GenerationConfig) -> list[Row]:
    """Held-out patches noised, denoised, and compared with the originals: one row per level and number of calls."""
    words = repr([VERSION, LEVELS, REPAIR_CALLS, studio.weights, studio.runtime.precision]) + real.digest
    key = hashlib.sha256(words.encode()).hexdigest()[:16]
    path = output / "rows" / f"{generation_page.slug(name, 'repair')}.json"
    kept = _kept(path, key)
    if kept is None:
        rows = []
        for level in LEVELS:
            for calls in REPAIR_CALLS:
                noisy, done = studio.repaired(
                    real.held.ct, real.held.lungs, level, calls, batch_size=config.batch_size, seed=config.seed
                )
                if calls == REPAIR_CALLS[0]:
                    rows.append({"set": name, "level": level, "calls": 0, **_likeness(noisy, real, config)})
                rows.append({"set": name, "level": level, "calls": calls, **_likeness(done, real, config)})
        kept = rounded({"key": key, "rows": rows})
        atomic_files.write_bytes(path, json.dumps(kept, indent=1).encode())
    found: list[Row] = kept["rows"]
    return found


def _likeness(done: Patches, real: Real, config: GenerationConfig) -> Row:
    """SSIM and PSNR of patches against the held-out ones, in the lungs and overall."""
    a, b, lung = (torch.from_numpy(array) for array in (done, real.held.ct, real.held.lungs))
    found = {}
    for where, mask in (("lungs", lung), ("all", None)):
        for name, measure in (("ssim", ssim), ("psnr", psnr)):
            if name == "ssim" and min(done.shape[1:]) < WINDOW:
                found["ssim " + where] = dataclasses.asdict(Estimate(NAN, NAN, NAN, len(done)))
                continue
            each = measure(a, b, data_range=DATA_RANGE, where=mask).double().numpy()
            figure = _mean(each, np.ones_like(each), config)
            found[f"{name} {where}"] = dataclasses.asdict(figure)
    return found


def _record(
    rows: list[Row], repairs: list[Row], inputs: Inputs, config: GenerationConfig, real: Real,
    process: runtime.Runtime,
) -> dict[str, Any]:  # fmt: skip
    """Content of generation.json."""
    about = {
        "models": {
            name: {"file": path.name, "sha256": checkpoint.sha256(path)} for name, path in inputs.models.items()
        },
        "held-out scans": sorted(set(real.held.scans)),
        "reference patches": {name: len(np.unique(c.groups)) for name, c in real.references.items()},
        "reference cubes": {name: len(c.groups) for name, c in real.references.items()},
        "primary reference": real.primary,
        "training patches": len(real.training.ct) if real.training is not None else None,
        "feature network": inputs.feature_network.name if inputs.feature_network else "random, 3 convolutions",
        "device": process.device.type,
        "precision": process.precision,
        "settings": config.to_dict(),
    }
    record: dict[str, Any] = rounded({"version": VERSION, "about": about, "rows": rows, "repairs": repairs})
    return record


def _kept(path: Path, key: str) -> Row | None:
    """An earlier measurement of the same input; None if there is none."""
    try:
        found: Row = serialization.read(path)
        return found if found["key"] == key else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
