"""Keys of augmentation: what nothing reads is refused, and what `data.repeats` does to the order."""

import itertools

import numpy as np
import pytest

from vit_jax import UserError, data
from vit_jax import config as config_lib


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"randaugment_magnitude": 9.0}, "magnitude=9.0: it needs config.augmentation.randaugment_layers; set that or"),
        ({"erasing_area_min": 0.1}, "nothing reads config.augmentation.erasing_area_min=0.1: it needs config.augm"),
        ({"erasing_area_max": 0.1}, "it needs config.augmentation.erasing; set"),
        ({"erasing_aspect_min": 0.1}, "it needs config.augmentation.erasing; set"),
        ({"erasing_fill": "mean"}, "it needs config.augmentation.erasing; set"),
        ({"cutmix_share": 0.1, "cutmix": 1.0}, "it needs config.augmentation.mixup; set"),
        ({"cutmix_share": 0.1, "mixup": 1.0}, "it needs config.augmentation.cutmix; set"),
        (
            {"erasing": 0.5, "erasing_area_min": 0.5},
            "erasing_area_min=0.5 is above config.augmentation.erasing_area_max",
        ),
        ({"erasing": 1.5}, "must be at most 1"),
        ({"erasing": 0.5, "erasing_fill": "means"}, "did you mean mean"),
        ({"hue": 0.6}, "must be at most 0.5"),
        ({"brightness": -0.1}, "must be at least 0"),
        ({"randaugment_layers": 2, "randaugment_magnitude": 28.0}, "must be at most 20"),
        ({"randaugment_layers": -1}, "must be at least 0"),
        ({"cutmix": -1.0}, "must be at least 0"),
    ],
)
def test_refused(synthetic, changes, said):
    synthetic.total_steps = 4
    synthetic.augmentation.update(changes)
    with pytest.raises(UserError, match=said):
        config_lib.typed(synthetic)


def test_read_together(synthetic):
    synthetic.total_steps = 4
    synthetic.augmentation.update({"erasing": 0.5, "erasing_area_min": 0.1, "erasing_fill": "mean"})
    synthetic.augmentation.update({"cutmix": 1.0, "mixup": 0.8, "cutmix_share": 0.1, "randaugment_layers": 1})
    assert config_lib.typed(synthetic).augmentation.cutmix_share == 0.1


def test_repeats(synthetic):
    """Each image of the order fills two positions, which differ in their crops; batches go on where the last ended."""
    synthetic.data.crop, synthetic.data.num_examples = "inception", 6
    once = [batch["index"] for batch in itertools.islice(data.batches(synthetic), 3)]
    synthetic.data.repeats = 2
    twice = list(itertools.islice(data.batches(synthetic), 6))
    np.testing.assert_array_equal(
        np.concatenate([batch["index"] for batch in twice]), np.repeat(np.concatenate(once), 2)
    )
    pairs = np.concatenate([batch["image"] for batch in twice]).reshape(12, 2, 6, 8, 3)
    assert all((one != other).any() for one, other in pairs)
    later = next(iter(data.batches(synthetic, start_step=4, rows=[1, 2])))
    np.testing.assert_array_equal(later["image"], twice[4]["image"][1:3])


def test_repeats_divide_the_batch(synthetic):
    synthetic.total_steps, synthetic.data.repeats = 4, 3
    with pytest.raises(UserError, match=r"global_batch_size=4 is no multiple of config.data.repeats=3"):
        config_lib.typed(synthetic)
