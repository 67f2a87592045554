#!/usr/bin/env bash
# Make the shipped model from real CTs and simulated lesions: both stages, the tissue models, the lung finder.
#
#   scripts/train_shipped_model.sh DATA [OUT]
#
# DATA holds lctsc_7cases, lidc_2cases, lung_pet_ct_dx and tcia_9cases (docs/data.md). OUT defaults to runs/shipped and may be
# continued: every step that is done is skipped or resumed. About four hours on two cores.
set -euo pipefail
data=$1 out=${2:-runs/shipped}
bin=.venv/bin/diffseglung
real="lctsc_7cases/lctsc_Test-S1-101 lctsc_7cases/lctsc_Test-S1-102 lctsc_7cases/lctsc_Test-S1-103
      lctsc_7cases/lctsc_Test-S1-104 lctsc_7cases/lctsc_Test-S1-201 lctsc_7cases/lctsc_Test-S1-202
      lidc_2cases/lidc_0001 lung_pet_ct_dx/lungdx_A0001_s2 lung_pet_ct_dx/lungdx_A0001_s3"

mkdir -p "$out/cases" "$out/synthetic"
for scan in $real; do
  $bin convert -q -i "$data/$scan.nii.gz" --lung-mask "$data/${scan}_lung.nii.gz" -o "$out/cases" \
    --dataset "$(basename "${scan%%_*}")"
done

seed=200
for scan in $real; do
  case $scan in *lungdx*) continue ;; esac
  [ -f "$out/synthetic/.$seed" ] || $bin phantom -q -o "$out/synthetic" --split train --seed $seed -n 2 --npz \
    --background "$data/$scan.nii.gz" --lung-mask "$data/${scan}_lung.nii.gz"
  touch "$out/synthetic/.$seed"
  seed=$((seed + 10))
done
[ -f "$out/synthetic/.100" ] || $bin phantom -q -o "$out/synthetic" --split train --seed 100 -n 8 --npz
touch "$out/synthetic/.100"

mkdir -p "$out/patients"
ln -f "$out"/cases/*.npz "$out"/synthetic/*.npz "$out/patients/"
$bin precompute --npz_dir "$out/patients" --out_dir "$out/patches1" --recipe shipped
$bin precompute --npz_dir "$out/patients" --out_dir "$out/patches2" --recipe shipped --patches_per_patient 30 --teacher

$bin train --patches_dir "$out/patches1" --results_dir "$out/stage1_run" --recipe shipped --name lung-small
$bin distill --patches_dir "$out/patches2" --results_dir "$out/stage2_run" --resume "$out/stage1_run/ddpm_base.pt" \
  --recipe shipped --name lung-small
$bin fit --model "$out/stage2_run/ddpm_distill.pt" --cases "$out/cases" --simulated "$out/synthetic" --half \
  -o "$out/lung-small.safetensors"

# The lung finder: more scans and phantoms (docs/model-card.md).
[ -d "$out/chests/phantom_train_7009" ] || $bin phantom -q -o "$out/chests" --split train --seed 7000 -n 10
for script in train_lung_finder train_orientation; do
  .venv/bin/python scripts/$script.py --real "$data" --references references --phantoms "$out/chests" -o "$out/lungs"
done
echo "done: $out/lung-small.safetensors, $out/lungs/lung-finder.safetensors, $out/lungs/orientation.safetensors"
