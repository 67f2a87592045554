"""Settings: one frozen dataclass per stage, shared by the API, the command line and the model card.

Every user setting, its range and its default are defined here and nowhere else. Constants that were measured or chosen
for an algorithm are not settings: they are defined, with their source, at the top of the module that uses them. This
module imports nothing heavy, so that `--help` is fast.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from diffseglung.platform.extras import LUNG_TOOLS
from diffseglung.platform.settings import Config, setting

__all__ = ["Config", "setting"]


@dataclass(frozen=True, kw_only=True)
class IntensityConfig(Config):
    """The published HU window: norm = (HU + 1000) / 700 - 1, clipped to [-1, 1]."""

    low_hu: float = setting(-1000.0, "HU mapped to -1")
    high_hu: float = setting(400.0, "HU mapped to +1")


@dataclass(frozen=True, kw_only=True)
class LungMaskConfig(Config):
    """Lung segmentation."""

    grid_mm: float = setting(2.0, "voxel spacing of the grid on which the lungs are segmented", low=1.0, high=4.0)
    threshold_hu: float = setting(-300.0, "HU below which a voxel is air or aerated lung", low=-700, high=-200)
    learned: bool = setting(
        True,
        "separate lung from bowel, room air and soft tissue with a trained network; otherwise by connectivity alone",
    )


@dataclass(frozen=True, kw_only=True)
class PhantomConfig(Config):
    """One synthetic case with ground truth."""

    seed: int = setting(0, "random seed of the case", low=0)
    split: str = setting(
        "train",
        "set of seeds, parameter ranges and lesion models; never train on test",
        choices=("train", "dev", "test"),
    )
    size: str = setting("full", "full chest, or a small one for tests and training", choices=("full", "small"))
    healthy: bool = setting(False, "no lesions")
    models: tuple[str, ...] = setting((), "lesion models to draw; by default a random mix of the split's models")
    condition: str = setting(
        "any",
        "scan protocol",
        choices=("any", "standard", "low_dose", "sharp", "thick", "exhale"),
    )
    severity: str = setting(
        "any",
        "number, size and contrast of the lesions",
        choices=("any", "subtle", "moderate", "extensive"),
    )


@dataclass(frozen=True, kw_only=True)
class PatchConfig(Config):
    """Training patches."""

    spacing_mm: float = setting(
        1.5, "isotropic voxel spacing of the patches; 0 keeps the scan's grid, as published", low=0.0, high=5.0
    )
    shape: tuple[int, int, int] = setting((32, 96, 96), "patch size in voxels (Z, Y, X)", low=8)
    patches_per_patient: int = setting(150, "patches per case", low=1)
    min_lung_fraction: float = setting(0.4, "minimum lung fraction of a patch", low=0.0, high=1.0)


@dataclass(frozen=True, kw_only=True)
class UNetConfig(Config):
    """The 3D diffusion U-Net."""

    base_channels: int = setting(64, "channels at the first level", low=4)
    multipliers: tuple[int, ...] = setting((1, 2, 3, 4), "channel multiplier of each level", low=1)
    stem_stride: int = setting(1, "stride of the first convolution (2 halves the grid)", low=1, high=4)
    blocks: int = setting(1, "residual blocks per level", low=1)
    heads: int = setting(4, "attention heads at the lowest level", low=1)
    dense_skips: bool = setting(
        False, "pass every encoder activation to the decoder, which has one more block per level, as published"
    )


UNETS = {
    "tiny": UNetConfig(base_channels=8, multipliers=(1, 2), stem_stride=2, heads=2),
    "small": UNetConfig(base_channels=32, multipliers=(1, 2, 3, 4), stem_stride=2),
    "medium": UNetConfig(base_channels=64, multipliers=(1, 2, 3, 4), stem_stride=2),
    "reference": UNetConfig(base_channels=64, multipliers=(1, 2, 3, 4), stem_stride=1, dense_skips=True),
}
"""Named sizes: tiny, for tests; small, the shipped one; reference, the published one (about 39 M parameters)."""


@dataclass(frozen=True, kw_only=True)
class DiffusionConfig(Config):
    """The diffusion process."""

    steps: int = setting(1000, "number T of diffusion steps", low=2, high=10000)
    schedule: str = setting("cosine", "noise schedule", choices=("cosine", "linear"))
    prediction: str = setting("noise", "prediction target of the network: noise or v", choices=("noise", "v"))
    loss: str = setting("l1", "loss between prediction and target", choices=("l1", "l2"))


@dataclass(frozen=True, kw_only=True)
class DistillConfig(Config):
    """Stage 2: distillation of the radiomic teacher into the features."""

    loss: str = setting(
        "local",
        "published: one vector per patch, hard negatives; local: one teacher vector per grid position, soft targets",
        choices=("published", "local"),
    )
    temperature: float = setting(0.07, "InfoNCE temperature", low=1e-3, high=10)
    teacher_temperature: float = setting(0.1, "temperature of the soft targets (local loss)", low=1e-3, high=10)
    positions: int = setting(512, "grid positions sampled per batch (local loss)", low=2)
    lambda_max: float = setting(0.5, "weight of the contrastive loss after the warm-up", low=0)
    warmup_start: int = setting(0, "iteration at which the contrastive loss starts", low=0)
    warmup_end: int = setting(2000, "iteration at which its weight reaches lambda_max", low=0)
    dimensions: int = setting(128, "dimension of the projected feature vector", low=2)
    taps: tuple[str, ...] = setting(
        ("bottleneck", "decoder"), "activations that the student head reads (published: bottleneck)"
    )
    grid_stride: int = setting(
        4, "spacing of the feature positions of the local loss, in voxels of the model grid", low=1
    )
    window: int = setting(8, "edge of the cube described by a local teacher vector, in voxels", low=2)
    hidden: int = setting(256, "hidden channels of the projection heads", low=2)
    max_level: float = setting(
        0.5, "highest noise level at which a patch enters the local loss, as a fraction of T", low=0, high=1
    )


@dataclass(frozen=True, kw_only=True)
class TrainConfig(Config):
    """One training run of either stage."""

    iterations: int = setting(100000, "optimiser updates (the published command calls them epochs)", low=1)
    batch_size: int = setting(8, "patches per micro-batch and process", low=1)
    accumulate: int = setting(1, "micro-batches averaged into one update", low=1)
    lr: float = setting(1e-4, "Adam learning rate", low=0)
    lr_schedule: str = setting(
        "constant", "learning-rate schedule (cosine ends at 5 %)", choices=("constant", "cosine")
    )
    ema: float = setting(0.995, "decay of the exponential moving average of the weights", low=0, high=1)
    clip_norm: float = setting(1.0, "maximum gradient norm", low=0)
    precision: str = setting("auto", "precision of the forward pass", choices=("auto", "fp32", "bf16"))
    recompute: bool = setting(
        False, "gradient checkpointing: recompute activations instead of storing them; less memory, a third slower"
    )
    sample_every: int = setting(500, "iterations between qualitative samples; 0: never", low=0)
    save_every: int = setting(500, "iterations between checkpoints", low=1)
    log_every: int = setting(10, "iterations between log lines", low=1)
    seed: int = setting(0, "random seed of the run", low=0)


@dataclass(frozen=True, kw_only=True)
class FinetuneConfig(Config):
    """Stage 3: supervised training of the network on synthetic lesions."""

    shape: tuple[int, int, int] = setting((32, 64, 64), "patch size in voxels of the model grid", low=16)
    chests: int = setting(24, "synthetic chests added to the real backgrounds", low=0)
    noise_free: float = setting(0.6, "fraction of patches without diffusion noise", low=0.0, high=1.0)
    max_level: float = setting(0.025, "highest noise level of the other patches, as a fraction of T", low=0.0, high=1.0)
    dice_weight: float = setting(1.0, "weight of the soft Dice loss relative to cross entropy", low=0.0)


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
"""Recipe -> command -> settings that it changes: default, as long as published; shipped, that of the shipped model."""


@dataclass(frozen=True, kw_only=True)
class FeatureConfig(Config):
    """Diffusion features of a scan: one network call per noise level; three levels x 128 channels = 384."""

    steps: tuple[float, ...] = setting((0.05, 0.15, 0.30), "noise levels, as fractions of T", low=0.0, high=1.0)
    tile: tuple[int, int, int] = setting((64, 96, 96), "tile size in voxels of the model grid", low=16)
    overlap: float = setting(0.25, "overlap of neighbouring tiles, as a fraction of the tile", low=0.0, high=0.75)
    batch_size: int = setting(8, "tiles per network call on an accelerator", low=1)
    seed: int = setting(0, "random seed of the noise", low=0)


@dataclass(frozen=True, kw_only=True)
class RadiomicsConfig(Config):
    """The 34 radiomic descriptors of a patch; the defaults are the published teacher."""

    low_hu: float = setting(-1000.0, "lower clipping limit, in HU")
    high_hu: float = setting(400.0, "upper clipping limit, in HU")
    bins: int = setting(50, "histogram bins of the entropy, over low_hu..high_hu", low=2, high=256)
    levels: int = setting(64, "grey levels of the co-occurrence matrix, over low_hu..high_hu", low=2, high=256)
    frequencies: tuple[float, ...] = setting(
        (0.10, 0.25, 0.40), "Gabor frequencies, cycles per voxel", low=0.01, high=0.5
    )
    orientations: int = setting(4, "Gabor orientations, evenly spaced over 180 degrees", low=1, high=16)
    sigma: float = setting(3.0, "standard deviation of the Gabor envelope, in voxels", low=0.5, high=10.0)
    kernel: int = setting(15, "edge of the Gabor kernel in voxels (odd)", low=3, high=63)
    planes: str = setting(
        "middle", "planes of a patch to which LBP and Gabor filters are applied", choices=("middle", "all")
    )
    min_lung: float = setting(
        0.25, "minimum lung fraction of a window; dense descriptors are NaN below it", low=0.0, high=1.0
    )


@dataclass(frozen=True, kw_only=True)
class SampleConfig(Config):
    """Sampling of patches from a trained model."""

    sampler: str = setting(
        "dpm", "dpm: DPM-Solver++; ddim: DDIM; ddpm: ancestral sampling", choices=("dpm", "ddim", "ddpm")
    )
    steps: int = setting(250, "denoising steps, at most all T of the model", low=1)
    num_samples: int = setting(4, "patches to sample", low=1, high=10_000)
    spacing: str = setting(
        "uniform", "spacing of the steps: uniform in time or in log-SNR", choices=("uniform", "logsnr")
    )
    order: int = setting(2, "order of DPM-Solver++", low=1, high=3)
    eta: float = setting(0.0, "DDIM noise: 0 is deterministic, 1 adds as much as DDPM", low=0.0, high=1.0)
    batch_size: int = setting(4, "patches per network call; affects memory and speed, not the samples", low=1)
    precision: str = setting("auto", "precision of the network", choices=("auto", "fp32", "bf16"))
    seed: int = setting(0, "random seed of the noise and of the lung masks", low=0)


@dataclass(frozen=True, kw_only=True)
class ClusterConfig(Config):
    """K-means on the radiomic descriptors of overlapping patches of one scan."""

    k: int = setting(5, "number of clusters", low=2, high=20)
    weighting: str = setting(
        "families",
        "families: equal weight to HU, GLCM, LBP and Gabor; published: equal weight to each of the 34 descriptors",
        choices=("families", "published"),
    )
    seed: int = setting(0, "random seed of K-means", low=0)
    spacing_mm: float = setting(1.5, "voxel spacing of the grid on which patches are described", low=0.5, high=5.0)
    stride: int = setting(4, "spacing of the patches, in voxels of that grid", low=1, high=32)
    window: int = setting(8, "edge of a patch, in voxels of that grid", low=2, high=64)


@dataclass(frozen=True, kw_only=True)
class FusionConfig(Config):
    """Sobel-Diffusion Fusion."""

    steps: int = setting(4, "diffusion steps", low=0)
    edge_hu: float = setting(
        120.0, "Sobel gradient (HU per voxel) at which conductance is 1/e on a full posterior edge", low=1e-3
    )
    evidence: float = setting(1.0, "weight of the HU evidence", low=0.0)
    border_mm: float = setting(4.0, "distance from a border within which HU are used, in mm", low=0.0)


@dataclass(frozen=True, kw_only=True)
class TissueFitConfig(Config):
    """Fitting of a tissue model."""

    RENAMED: ClassVar[dict[str, str]] = {"caution": "healthy_weight"}

    rows_per_scan: int = setting(20000, "positions sampled per scan", low=1)
    hidden: tuple[int, ...] = setting((64, 32), "widths of the classifier's hidden layers", low=1)
    iterations: int = setting(1200, "optimiser updates of the classifier", low=1)
    noise: float = setting(0.15, "standard deviation of the noise added to the standardised rows", low=0.0)
    healthy_weight: float = setting(2.0, "weight of healthy lung relative to lesions", low=0.0)
    seed: int = setting(0, "random seed of the sampling and of the classifier", low=0)


@dataclass(frozen=True, kw_only=True)
class GenerationConfig(Config):
    """Evaluation of generated patches."""

    n: int = setting(12, "patches per row: sampled in the lungs of as many held-out real patches", low=2)
    reference: int = setting(270, "training patches used as the reference of the Frechet distances", low=2)
    resamples: int = setting(200, "bootstrap resamples of the patches", low=20)
    batch_size: int = setting(4, "patches per network call", low=1)
    precision: str = setting("auto", "precision of the network", choices=("auto", "fp32", "bf16"))
    seed: int = setting(0, "random seed of patch positions, noise and resampling", low=0)
    quick: bool = setting(False, "two patches and two short samplers, as a smoke test")


@dataclass(frozen=True, kw_only=True)
class PatienceConfig(Config):
    """Retries and timeouts of a cohort, in seconds."""

    retries: int = setting(1, "retries after a lost worker or an unexpected error", low=0)
    timeout_s: float = setting(1800.0, "time limit per scan, in seconds", low=1e-3)
    workers_s: float = setting(300.0, "longest time without any worker, in seconds", low=0)


@dataclass(frozen=True, kw_only=True)
class BenchConfig(Config):
    """Timing of a benchmark."""

    repeats: int = setting(3, "timed runs per scan", low=1)


METHODS = (
    "physics", "rule", "student", "seeded", "combined", "diffusion", "attention", "published", "simulated",
    "simulated_combined",
)  # fmt: skip
LUNGS = ("auto", *LUNG_TOOLS)
CASE_LISTS = ("test", "dev", "quick")
LUNGS_HELP = "lung segmentation used without a mask: this package (auto) or an installed tool (docs/howto/lungs.md)"


@dataclass(frozen=True, kw_only=True)
class SegmentConfig(Config):
    """One segmentation run."""

    RENAMED: ClassVar[dict[str, str]] = {"caution": "healthy_log_odds"}

    method: str = setting("physics", "classification method; see docs/science.md", choices=METHODS)
    lungs: str = setting("auto", LUNGS_HELP, choices=LUNGS)
    spacing_mm: float = setting(1.5, "voxel spacing of the model grid", low=0.5, high=5.0)
    fusion: bool = setting(True, "sharpen borders with Sobel-Diffusion Fusion")
    healthy_log_odds: float = setting(
        0.25, "amount by which the log odds of lesion against healthy lung are lowered", low=0.0, high=5.0
    )
    abstain: float = setting(
        0.0, "voxels whose largest posterior is below this are labelled 6, unassigned", low=0.0, high=1.0
    )
    components: int = setting(5, "mixture components of the published method; 0: 2 to 8, chosen by BIC", low=0, high=64)
    fast: bool = setting(False, "describe every third instead of every second voxel, without fusion or tile overlap")
    precision: str = setting(
        "auto",
        "precision of the network; auto: bf16 if supported in hardware, otherwise fp32",
        choices=("auto", "fp32", "bf16"),
    )
    seed: int = setting(0, "random seed of the run", low=0)

    @property
    def stride(self) -> int:
        """Spacing of the described positions, in voxels of the model grid."""
        return 3 if self.fast else 2

    @property
    def sharpens(self) -> bool:
        """Whether fusion is applied."""
        return self.fusion and not self.fast


def default_method(model_given: bool) -> str:
    """The default method: one that uses the model if a model is given, otherwise one that needs none."""
    return "combined" if model_given else SegmentConfig().method
