#!/bin/bash
# Fine-tune on 2 nodes with 4 GPUs each; Slurm sends SIGTERM before the time is up, medblip saves, and
# the same job, requeued, goes on from there.
#SBATCH --job-name=medblip
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=16
#SBATCH --time=04:00:00
#SBATCH --signal=TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
set -euo pipefail

head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
status=0
srun torchrun --nnodes "$SLURM_NNODES" --nproc-per-node 4 \
  --rdzv-id "$SLURM_JOB_ID" --rdzv-backend c10d --rdzv-endpoint "$head:29500" \
  -m medblip train --config configs/blip_base.toml --data data/x --out runs/a || status=$?

# not finished and no error of ours: once more
if [ ! -e runs/a/train.json ] && [ "$status" -ne 2 ]; then scontrol requeue "$SLURM_JOB_ID"; fi
