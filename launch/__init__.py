"""Scripts that start training on TPU VMs, on GKE, on SLURM clusters, and in several processes on one machine."""
