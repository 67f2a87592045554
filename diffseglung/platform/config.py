"""Settings: one frozen dataclass per stage, used by the API, the command line and the model card alike.

What a user may choose, its range and its default stand here and nowhere else. A constant that was measured or chosen
for an algorithm is no setting: it stands with its source at the top of the module that uses it. This file imports
nothing heavy, so that `--help` answers at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from diffseglung.platform.extras import LUNG_TOOLS
from diffseglung.platform.settings import Config, setting

__all__ = ["Config", "setting"]


@dataclass(frozen=True, kw_only=True)
class IntensityConfig(Config):
    """The published HU window: norm = (HU + 1000) / 700 - 1, clipped."""

    low_hu: float = setting(-1000.0, "HU mapped to -1")
    high_hu: float = setting(400.0, "HU mapped to +1")


@dataclass(frozen=True, kw_only=True)
class LungMaskConfig(Config):
    """How the lungs are found in a CT."""

    grid_mm: float = setting(2.0, "spacing of the grid on which the lungs are found", low=1.0, high=4.0)
    threshold_hu: float = setting(-300.0, "voxels below this are air or aerated lung", low=-700, high=-200)
    learned: bool = setting(
        True, "let a network that knows chests tell lung from bowel, room and tissue; else by connectivity alone"
    )


@dataclass(frozen=True, kw_only=True)
class PhantomConfig(Config):
    """One synthetic case with known truth."""

    seed: int = setting(0, "seed of everything random in the case", low=0)
    split: str = setting(
        "train",
        "family of seeds, parameter ranges and lesion models; never train on test",
        choices=("train", "dev", "test"),
    )
    size: str = setting("full", "full chest, or a reduced one for tests and training", choices=("full", "small"))
    healthy: bool = setting(False, "no lesions")
    models: tuple[str, ...] = setting((), "lesion models to draw; none: a random mix of the split")
    condition: str = setting(
        "any",
        "how the chest was scanned",
        choices=("any", "standard", "low_dose", "sharp", "thick", "exhale"),
    )
    severity: str = setting(
        "any",
        "how many lesions, how large and how faint",
        choices=("any", "subtle", "moderate", "extensive"),
    )


@dataclass(frozen=True, kw_only=True)
class PatchConfig(Config):
    """Training patches."""

    spacing_mm: float = setting(
        1.5, "isotropic voxel spacing of the patches; 0 keeps each scan's own grid, as published", low=0.0, high=5.0
    )
    shape: tuple[int, int, int] = setting((32, 96, 96), "patch size in voxels (Z, Y, X)", low=8)
    patches_per_patient: int = setting(150, "patches cut from each case", low=1)
    min_lung_fraction: float = setting(0.4, "least share of a patch that is lung", low=0.0, high=1.0)


@dataclass(frozen=True, kw_only=True)
class UNetConfig(Config):
    """The 3D diffusion U-Net."""

    base_channels: int = setting(64, "channels of the first level", low=4)
    multipliers: tuple[int, ...] = setting((1, 2, 3, 4), "channel multiplier of each level", low=1)
    stem_stride: int = setting(1, "stride of the first convolution (2 halves the grid)", low=1, high=4)
    blocks: int = setting(1, "residual blocks a level", low=1)
    heads: int = setting(4, "attention heads at the lowest level", low=1)
    dense_skips: bool = setting(
        False, "hand every encoder activation to the decoder, which has one block more a level, as published"
    )


UNETS = {
    "tiny": UNetConfig(base_channels=8, multipliers=(1, 2), stem_stride=2, heads=2),
    "small": UNetConfig(base_channels=32, multipliers=(1, 2, 3, 4), stem_stride=2),
    "medium": UNetConfig(base_channels=64, multipliers=(1, 2, 3, 4), stem_stride=2),
    "reference": UNetConfig(base_channels=64, multipliers=(1, 2, 3, 4), stem_stride=1, dense_skips=True),
}
"""Named sizes: tiny for tests, small is shipped, reference is the published one (about 39 M parameters)."""


@dataclass(frozen=True, kw_only=True)
class DiffusionConfig(Config):
    """The diffusion process."""

    steps: int = setting(1000, "length T of the noising chain", low=2, high=10000)
    schedule: str = setting("cosine", "noise schedule", choices=("cosine", "linear"))
    prediction: str = setting("noise", "what the network predicts", choices=("noise", "v"))
    loss: str = setting("l1", "distance between prediction and target", choices=("l1", "l2"))


@dataclass(frozen=True, kw_only=True)
class DistillConfig(Config):
    """Stage 2: how the radiomic teacher shapes the features."""

    loss: str = setting(
        "local",
        "published: one vector a patch, hard negatives; local: a teacher vector per grid position, soft targets",
        choices=("published", "local"),
    )
    temperature: float = setting(0.07, "temperature of InfoNCE", low=1e-3, high=10)
    teacher_temperature: float = setting(0.1, "temperature of the soft targets (local loss)", low=1e-3, high=10)
    positions: int = setting(512, "grid positions drawn from each batch (local loss)", low=2)
    lambda_max: float = setting(0.5, "weight of the contrastive loss after the warm-up", low=0)
    warmup_start: int = setting(0, "iteration at which the contrastive loss sets in", low=0)
    warmup_end: int = setting(2000, "iteration at which its weight reaches lambda_max", low=0)
    dimensions: int = setting(128, "length of the projected feature vector", low=2)
    taps: tuple[str, ...] = setting(
        ("bottleneck", "decoder"), "network taps that the student head reads (published: bottleneck)"
    )
    grid_stride: int = setting(4, "voxels (of the model grid) between feature positions of the local loss", low=1)
    window: int = setting(8, "edge in voxels of the cube that a local teacher descriptor sees", low=2)
    hidden: int = setting(256, "channels between the two layers of the heads", low=2)
    max_level: float = setting(
        0.5, "noise level up to which a patch takes part in the local loss, as a fraction of the chain", low=0, high=1
    )


@dataclass(frozen=True, kw_only=True)
class TrainConfig(Config):
    """One training run, either stage."""

    iterations: int = setting(100000, "optimiser updates (the published command calls them epochs)", low=1)
    batch_size: int = setting(8, "patches an update on each process", low=1)
    accumulate: int = setting(1, "micro-batches averaged into one update", low=1)
    lr: float = setting(1e-4, "Adam learning rate", low=0)
    lr_schedule: str = setting(
        "constant", "learning rate over the run (cosine ends at 5 %)", choices=("constant", "cosine")
    )
    ema: float = setting(0.995, "decay of the moving average of the weights", low=0, high=1)
    clip_norm: float = setting(1.0, "largest gradient norm", low=0)
    precision: str = setting("auto", "arithmetic of the forward pass", choices=("auto", "fp32", "bf16"))
    recompute: bool = setting(
        False, "gradient checkpointing: compute activations twice instead of keeping them; less memory, a third slower"
    )
    sample_every: int = setting(500, "iterations between qualitative samples; 0 never", low=0)
    save_every: int = setting(500, "iterations between checkpoints", low=1)
    log_every: int = setting(10, "iterations between journal lines", low=1)
    seed: int = setting(0, "seed of everything random in the run", low=0)


@dataclass(frozen=True, kw_only=True)
class FinetuneConfig(Config):
    """Stage 3: the network learns to label tissue on synthetic lesions."""

    shape: tuple[int, int, int] = setting((32, 64, 64), "patch size in voxels of the model grid", low=16)
    chests: int = setting(24, "synthetic chests among the backgrounds, beside the real ones", low=0)
    noise_free: float = setting(0.6, "share of patches without diffusion noise", low=0.0, high=1.0)
    max_level: float = setting(
        0.025, "most diffusion noise of the others, as a fraction of the chain", low=0.0, high=1.0
    )
    dice_weight: float = setting(1.0, "weight of the soft Dice loss beside cross entropy", low=0.0)


_SHIPPED = {"lr": 3e-4, "lr_schedule": "cosine"}
RECIPES: dict[str, dict[str, dict[str, Any]]] = {
    "default": {"precompute": {}, "train": {}, "distill": {"batch_size": 16}, "finetune": {"lr": 3e-4}},
    "shipped": {
        "precompute": {"shape": (32, 64, 64), "patches_per_patient": 90},
        "train": {
            **_SHIPPED, "prediction": "v", "iterations": 5500, "batch_size": 4, "ema": 0.999, "save_every": 250,
        },
        "distill": {
            **_SHIPPED, "taps": ("bottleneck", "level2", "level1", "decoder"), "iterations": 600, "batch_size": 8,
            "warmup_end": 50, "ema": 0.99, "save_every": 100,
        },
    },
}  # fmt: skip
"""Recipe -> command -> settings in which it differs: default, long as published; shipped, of the shipped model."""


@dataclass(frozen=True, kw_only=True)
class FeatureConfig(Config):
    """Diffusion features of a scan: noise to each step, one network call each, three steps x 128 = 384."""

    steps: tuple[float, ...] = setting((0.05, 0.15, 0.30), "noise levels, as fractions of the chain", low=0.0, high=1.0)
    tile: tuple[int, int, int] = setting((64, 96, 96), "tile size in voxels of the model grid", low=16)
    overlap: float = setting(0.25, "fraction shared by neighbouring tiles", low=0.0, high=0.75)
    batch_size: int = setting(8, "tiles a network call on an accelerator", low=1)
    seed: int = setting(0, "seed of the noise", low=0)


@dataclass(frozen=True, kw_only=True)
class RadiomicsConfig(Config):
    """The 34 radiomic descriptors of a patch; the defaults are the published teacher."""

    low_hu: float = setting(-1000.0, "HU below this count as this")
    high_hu: float = setting(400.0, "HU above this count as this")
    bins: int = setting(50, "histogram bins of the entropy, over low_hu..high_hu", low=2, high=256)
    levels: int = setting(64, "grey levels of the co-occurrence matrix, over low_hu..high_hu", low=2, high=256)
    frequencies: tuple[float, ...] = setting(
        (0.10, 0.25, 0.40), "Gabor frequencies, cycles per voxel", low=0.01, high=0.5
    )
    orientations: int = setting(4, "Gabor orientations, evenly spaced over 180 degrees", low=1, high=16)
    sigma: float = setting(3.0, "standard deviation of the Gabor envelope, in voxels", low=0.5, high=10.0)
    kernel: int = setting(15, "edge of the Gabor kernel in voxels (odd)", low=3, high=63)
    planes: str = setting("middle", "planes of a patch on which LBP and Gabor look", choices=("middle", "all"))
    min_lung: float = setting(
        0.25, "least lung share of a window; dense descriptors are NaN below it", low=0.0, high=1.0
    )


@dataclass(frozen=True, kw_only=True)
class SampleConfig(Config):
    """Drawing patches from a trained model."""

    sampler: str = setting("dpm", "DPM-Solver++, DDIM, or ancestral DDPM", choices=("dpm", "ddim", "ddpm"))
    steps: int = setting(250, "denoising steps; a chain that is shorter is walked in full", low=1)
    num_samples: int = setting(4, "patches to draw", low=1, high=10_000)
    spacing: str = setting("uniform", "steps even in time or in log-SNR", choices=("uniform", "logsnr"))
    order: int = setting(2, "order of DPM-Solver++", low=1, high=3)
    eta: float = setting(0.0, "noise added by DDIM: 0 none, 1 as much as DDPM", low=0.0, high=1.0)
    batch_size: int = setting(4, "patches a network call; changes memory and speed, not the samples", low=1)
    precision: str = setting("auto", "arithmetic of the network", choices=("auto", "fp32", "bf16"))
    seed: int = setting(0, "seed of the noise and of the lung masks", low=0)


@dataclass(frozen=True, kw_only=True)
class ClusterConfig(Config):
    """K-means on the radiomics of overlapping patches of one scan."""

    k: int = setting(5, "number of clusters", low=2, high=20)
    weighting: str = setting(
        "families",
        "families: HU, GLCM, LBP and Gabor count alike; published: all 34 descriptors count alike",
        choices=("families", "published"),
    )
    seed: int = setting(0, "seed of K-means", low=0)
    spacing_mm: float = setting(1.5, "spacing of the grid on which patches are described", low=0.5, high=5.0)
    stride: int = setting(4, "voxels of that grid between neighbouring patches", low=1, high=32)
    window: int = setting(8, "edge of a patch in voxels of that grid", low=2, high=64)


@dataclass(frozen=True, kw_only=True)
class FusionConfig(Config):
    """Sobel-Diffusion Fusion."""

    steps: int = setting(4, "steps of diffusion", low=0)
    edge_hu: float = setting(
        120.0, "Sobel gradient (HU a voxel) at which conductance is 1/e on a full posterior edge", low=1e-3
    )
    evidence: float = setting(1.0, "weight of HU", low=0.0)
    border_mm: float = setting(4.0, "how far from a border HU counts", low=0.0)


@dataclass(frozen=True, kw_only=True)
class TissueFitConfig(Config):
    """How a tissue model is fitted."""

    RENAMED: ClassVar[dict[str, str]] = {"caution": "healthy_weight"}

    rows_per_scan: int = setting(20000, "positions a scan gives", low=1)
    hidden: tuple[int, ...] = setting((64, 32), "widths of the classifier's layers", low=1)
    iterations: int = setting(1200, "optimiser updates of the classifier", low=1)
    noise: float = setting(0.15, "jitter of the standardised rows", low=0.0)
    healthy_weight: float = setting(2.0, "weight of healthy lung against lesions", low=0.0)
    seed: int = setting(0, "seed of the draws and of the classifier", low=0)


@dataclass(frozen=True, kw_only=True)
class GenerationConfig(Config):
    """What the generation table measures."""

    n: int = setting(12, "patches a row: drawn in the lungs of as many held-out real patches", low=2)
    reference: int = setting(270, "training patches that the Frechet distances compare with", low=2)
    resamples: int = setting(200, "bootstrap resamples of the patches", low=20)
    batch_size: int = setting(4, "patches a network call", low=1)
    precision: str = setting("auto", "arithmetic of the network", choices=("auto", "fp32", "bf16"))
    seed: int = setting(0, "seed of corners, noise and resampling", low=0)
    quick: bool = setting(False, "two patches and two short samplers: does everything run?")


@dataclass(frozen=True, kw_only=True)
class PatienceConfig(Config):
    """How long a cohort waits, in seconds."""

    retries: int = setting(1, "further tries after a lost worker or an unforeseen error", low=0)
    timeout_s: float = setting(1800.0, "longest time of one scan", low=1e-3)
    workers_s: float = setting(300.0, "longest wait for the first, or next, worker", low=0)


@dataclass(frozen=True, kw_only=True)
class BenchConfig(Config):
    """How long things take."""

    repeats: int = setting(3, "runs of a whole scan", low=1)


METHODS = (
    "physics", "rule", "student", "seeded", "combined", "diffusion", "attention", "published", "simulated",
    "simulated_combined",
)  # fmt: skip
LUNGS = ("auto", *LUNG_TOOLS)
CASE_LISTS = ("test", "dev", "quick")
LUNGS_HELP = "what finds the lungs where no mask is given: this package, or an installed tool (docs/howto/lungs.md)"


@dataclass(frozen=True, kw_only=True)
class SegmentConfig(Config):
    """One segmentation run."""

    RENAMED: ClassVar[dict[str, str]] = {"caution": "healthy_log_odds"}

    method: str = setting("physics", "how tissue classes are found; see docs/science.md", choices=METHODS)
    lungs: str = setting("auto", LUNGS_HELP, choices=LUNGS)
    spacing_mm: float = setting(1.5, "spacing of the model grid", low=0.5, high=5.0)
    fusion: bool = setting(True, "sharpen borders with Sobel-Diffusion Fusion")
    healthy_log_odds: float = setting(
        0.25, "by how much the log odds of a lesion against healthy lung are lowered", low=0.0, high=5.0
    )
    abstain: float = setting(0.0, "voxels whose posterior is below this become 6 unassigned", low=0.0, high=1.0)
    components: int = setting(5, "mixture components of the published method; 0 chooses 2 to 8 by BIC", low=0, high=64)
    fast: bool = setting(False, "describe every third instead of every second voxel, no fusion, no overlap of tiles")
    precision: str = setting(
        "auto",
        "arithmetic of the network; auto: bf16 where the hardware multiplies it, else fp32",
        choices=("auto", "fp32", "bf16"),
    )
    seed: int = setting(0, "seed of everything random in the run", low=0)

    @property
    def stride(self) -> int:
        """Voxels of the model grid between described positions."""
        return 3 if self.fast else 2

    @property
    def sharpens(self) -> bool:
        """Whether fusion runs."""
        return self.fusion and not self.fast


def default_method(model_given: bool) -> str:
    """The method when none is named: a model that somebody points to is used, without one none is needed."""
    return "combined" if model_given else SegmentConfig().method
