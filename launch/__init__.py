"""Where to train: scripts for TPU VMs, GKE, SLURM and several processes on one machine."""
