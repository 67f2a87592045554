"""Every command line that a document of this project shows, word by word."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"

PUBLISHED = [
    "python precompute_patches.py --npz_dir /path/to/your/NPZ_DATA --out_dir ./patches_precomputed"
    " --patches_per_patient 150 --num_workers 24",
    "python sanity_check.py",
    "python train.py --npz_dir /path/to/NPZ_DATA --results_dir ./results",
    "torchrun --nproc_per_node=2 train.py --npz_dir /path/to/NPZ_DATA --results_dir ./results --batch_size 8 --lr 1e-4"
    " --epochs 100000 --sample_every 500",
    "torchrun --nproc_per_node=2 train_distill.py --patches_dir ./patches_precomputed --results_dir ./results_distill"
    " --resume ./checkpoints/ddpm_base.pt --start_step 4000 --warmup_start 4000 --warmup_end 6000 --batch_size 16"
    " --lr 1e-4 --lambda_max 0.5",
    "python inference_volume_distill.py --npz /path/to/patient.npz --model ./checkpoints/ddpm_distill.pt"
    " --out ./results/segmentation",
    "python visualize_clusters.py --npz /path/to/patient.npz --out ./cluster_preview --k 5",
]
"""In the published description, in the order in which they are run."""

SCRIPTS = [
    "python segment_volume_voxel_level_ditil.py --npz /path/to/patient.npz --model ./checkpoints/ddpm_distill.pt"
    " --out ./results/segmentation",
    "python segment_volume_voxel_level_abalation.py --npz /path/to/patient.npz --model ./checkpoints/ddpm_distill.pt"
    " --out ./results/ablation --method published",
    "python sample.py --model ./checkpoints/ddpm_base.pt --out ./samples",
]
"""The published scripts whose command line was not given."""

OWN = [
    "diffseglung segment -i ct.nii.gz -o out",
    "diffseglung info ct.nii.gz",
    "diffseglung info dicom_folder",
    "diffseglung segment -i dicom_folder -o out --dicom",
    "diffseglung segment -i ct.nii.gz -o out --save-probabilities",
    "diffseglung segment -i ct.nii.gz -o out --lung-mask lungs.nii.gz",
    "diffseglung segment -i ct.nii.gz -o out --lungs totalsegmentator",
    "diffseglung segment -i ct.nii.gz -o out --method combined",
    "diffseglung segment -i ct.nii.gz -o out --abstain 0.5",
    "diffseglung segment -i ct.nii.gz -o out --dry-run",
    "diffseglung rerun out -o again",
    "diffseglung cohort -i studies -o labelled",
    "diffseglung cohort -o labelled --page-only",
    "diffseglung segment -i ct.nii.gz -o out --fast",
    "diffseglung bench -o bench",
    "diffseglung convert -i studies -o cases --dataset mycohort",
    "diffseglung precompute --npz_dir cases --out_dir patches --teacher",
    "diffseglung train --patches_dir patches --results_dir results --size small",
    "diffseglung distill --patches_dir patches --results_dir results_distill --resume results/ddpm_base.pt",
    "diffseglung fit --model results_distill/ddpm_distill.pt --cases cases -o lung-mycohort.safetensors",
    "diffseglung segment -i ct.nii.gz -o out --model lung-mycohort.safetensors",
    "diffseglung phantom -o phantoms -n 8 --split test",
    "diffseglung phantom -o phantoms --background ct.nii.gz --split test",
    "diffseglung phantom -o faint --condition low_dose --severity subtle",
    "diffseglung evaluate --cases phantoms --baselines -o scores.json",
    "diffseglung benchmark -o bench --quick",
    "diffseglung benchmark -o bench --workers 2",
]
"""On the pages, in an order in which they run: later ones read what earlier ones write."""

ELSEWHERE = [
    "diffseglung view out --ct ct.nii.gz",
    "diffseglung cohort -i studies -o labelled --scheduler tcp://node1:8786",
    "diffseglung cohort -i studies -o labelled --slurm-config queue.yaml",
]
"""They need a cluster or somebody who looks, so they are parsed only."""

ALL = [*PUBLISHED, *SCRIPTS, *OWN, *ELSEWHERE]

PARSED_ONLY = {
    *ELSEWHERE,
    "diffseglung cohort -i studies -o labelled --slurm-config queue.yaml --workers 50",
    "diffseglung segment -i ct.nii.gz -o out --method combined --device cuda:0",
    "torchrun --nproc_per_node=2 train.py --patches_dir patches --results_dir results --size reference",
    "torchrun --nproc_per_node=2 train_distill.py --patches_dir patches --results_dir results_distill"
    " --resume results/ddpm_base.pt",
    "torchrun --nproc_per_node=2 train.py --patches_dir patches --results_dir results --size reference --batch_size 2"
    " --accumulate 4 --recompute",
    "diffseglung finetune --npz_dir cases --resume results_distill/ddpm_distill.pt --results_dir results_segment",
    "diffseglung segment -i ct.nii.gz -o out --model results_segment/ddpm_segment.pt",
    "diffseglung info",
    "diffseglung cohort -i studies_masks -o labelled_masks --mask-suffix _lung",
    "diffseglung cohort -i studies -o labelled --retries 2 --timeout 3600",
    "diffseglung cohort -i studies -o labelled --lungs lungmask",
    "diffseglung convert -i studies -o cases --lungs lungmask",
    "diffseglung segment -i ct.nii.gz -o out --method combined --device auto",
    "diffseglung segment -i ct.nii.gz -o out_cautious --abstain 0.5",
    "diffseglung cohort -i studies -o labelled --model lung-mycohort.safetensors",
    "diffseglung benchmark -o bench --cases phantoms --model lung-mycohort.safetensors"
    " --methods physics combined hu_bands_median",
}
"""They need a cluster, a GPU or somebody who looks, or a line of `ALL` does nearly the same: parsed only."""

OTHERS = ("make", "pip", "source", "dask", "storescu")
"""Commands of other programs that pages show."""


def shell_lines(text: str) -> list[str]:
    """Commands of the bash blocks of a page, comments and continuation lines resolved; of `eval "$(X)"`, X."""
    blocks = re.findall(r"^ *```bash\n(.*?)```", text, flags=re.S | re.M)
    joined = "\n".join(blocks).replace("\\\n", " ")
    lines = [re.sub(r'^eval "\$\((.*)\)"', r"\1", line.strip()) for line in joined.splitlines() if line.strip()]
    lines = [shlex.join(shlex.split(line, comments=True)).removeprefix(".venv/bin/") for line in lines]
    return [line for line in lines if line]


def pages() -> dict[str, list[str]]:
    """Page below docs/ -> its command lines, where it has any."""
    found = {path.relative_to(DOCS).as_posix(): shell_lines(path.read_text("utf-8")) for path in DOCS.rglob("*.md")}
    return {name: lines for name, lines in sorted(found.items()) if lines}
