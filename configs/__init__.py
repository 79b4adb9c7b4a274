"""What to train: one short file a recipe."""
