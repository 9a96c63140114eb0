#!/bin/bash
# Two machines of eight GPUs: sbatch docs/slurm.sh seg.train --config FILE --model.norm sync --run_dir /shared/runs/NAME
# --run_dir must lie on a file system that all machines see. A job that is stopped (preemption, time limit) saves first; the same command continues.
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --signal=TERM@120
#SBATCH --requeue

first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
srun torchrun --nnodes "$SLURM_NNODES" --nproc-per-node "$SLURM_GPUS_ON_NODE" \
    --rdzv-id "$SLURM_JOB_ID" --rdzv-backend c10d --rdzv-endpoint "$first:29500" -m "$@"
