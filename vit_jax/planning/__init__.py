"""Plans of training jobs: compiles the training step for a TPU slice and tells what the job needs and costs."""
