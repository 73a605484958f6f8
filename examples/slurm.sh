#!/bin/bash
# Trains on two nodes with four GPUs each, in as many jobs as it takes: shortly before the end of its time a job
# saves its last step and stops, and the next goes on from there.
#SBATCH --job-name=macekit
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=16
#SBATCH --time=24:00:00
#SBATCH --signal=TERM@300
#SBATCH --requeue
#SBATCH --open-mode=append

run=runs/big
resume=$([ -e "$run/resolved.yaml" ] && echo --resume)
head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)

srun torchrun --nnodes "$SLURM_NNODES" --nproc-per-node 4 --rdzv-id "$SLURM_JOB_ID-$SLURM_RESTART_COUNT" \
  --rdzv-backend c10d --rdzv-endpoint "$head:29500" -m macekit train run.yaml run.directory="$run" $resume

# Stopped by the clock, not by an error: once more.
if tail -n 1 "$run/train.log" | grep -q "stopped by"; then
  scontrol requeue "$SLURM_JOB_ID"
fi
