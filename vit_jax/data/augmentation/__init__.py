"""The operations of augmentation that are more than a few lines; `vit_jax.data.augment` applies them.

`operations` has those of Pillow that RandAugment and AutoAugment choose from, `policies` how they choose. In these two,
images are planes: bfloat16 (batch, 3, height, width_px) with whole numbers from 0 to 255, which bfloat16 holds exactly.
A TPU stores images as planes anyway, and bfloat16 halves the memory that they take.
"""
