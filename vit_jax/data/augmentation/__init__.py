"""The operations of augmentation that are more than a few lines; `vit_jax.data.augment` applies them.

`operations` has those of Pillow that RandAugment and AutoAugment choose from, `policies` how they choose. Inside of these
the images are planes: bfloat16 (batch, 3, height, width_px) with whole numbers from 0 to 255, which bfloat16 holds
exactly. Planes are what a TPU stores images as anyway, and half as large as in float32.
"""
