"""Checks that every named model has the published number of parameters and the number that a formula gives."""

import re

import jax
import pytest
from flax import nnx

import vit_jax
from vit_jax.errors import UserError
from vit_jax.models import variants
from vit_jax.models.functional import split

# The numbers of parameters at 224 pixels with 1000 classes.
PUBLISHED = {
    "Ti/16": 5_717_416, "S/16": 22_050_664, "S/32": 22_878_952, "B/8": 86_576_872, "B/16": 86_567_656,
    "B/32": 88_224_232, "L/16": 304_326_632, "L/32": 306_535_400, "H/14": 632_045_800, "g/14": 1_012_611_432,
    "G/14": 1_844_440_680,
    "R+Ti/16": 6_337_704, "R26+S/32": 36_431_912, "R26+B/32": 101_383_976, "R50+B/16": 98_659_112,
    "R50+L/32": 328_994_856,
    "Mixer-B/16": 59_880_472, "Mixer-B/32": 60_293_428, "Mixer-L/16": 208_196_168,
    "BiT-R50x1": 25_549_352, "BiT-R101x1": 44_541_480, "BiT-R50x3": 217_319_080, "BiT-R152x2": 236_335_208,
    "BiT-R101x3": 387_934_888, "BiT-R152x4": 936_533_224,
}  # fmt: skip
PUBLISHED_DINOV3 = {  # of timm 1.0.31, as vit_small_patch16_dinov3_qkvb, …, vit_7b_patch16_dinov3, without a head
    "DINOv3-S/16": 21_596_160, "DINOv3-S+/16": 28_692_480, "DINOv3-B/16": 85_659_648, "DINOv3-L/16": 303_128_576,
    "DINOv3-H+/16": 840_591_360, "DINOv3-7B/16": 6_716_030_976,
}  # fmt: skip
PUBLISHED_GAP = {"S/16": 22_049_896, "S/32": 22_878_184, "B/16": 86_566_120, "B/32": 88_222_696}

# The sizes in the papers, copied here again, because the numbers of parameters do not depend on the number of heads.
SIZES = {  # width, depth, MLP, heads
    "Ti": (192, 12, 768, 3), "S": (384, 12, 1536, 6), "B": (768, 12, 3072, 12), "L": (1024, 24, 4096, 16),
    "H": (1280, 32, 5120, 16), "So400m": (1152, 27, 4304, 16), "g": (1408, 40, 6144, 16), "G": (1664, 48, 8192, 16),
    "e": (1792, 56, 15360, 16), "22B": (6144, 48, 24576, 48),
}  # fmt: skip
DINOV3 = {  # with the number of dense layers of an MLP
    "S": (384, 12, 1536, 6, 2), "S+": (384, 12, 1536, 6, 3), "B": (768, 12, 3072, 12, 2), "L": (1024, 24, 4096, 16, 2),
    "H+": (1280, 32, 5120, 20, 3), "7B": (4096, 40, 8192, 32, 3),
}  # fmt: skip
STAGES = {  # the stages of a hybrid, and its patch size on the ResNet's output
    "R+Ti/16": ((), 8), "R26+S/32": ((2, 2, 2, 2), 1), "R26+B/32": ((2, 2, 2, 2), 1),
    "R50+B/16": ((3, 4, 9), 1), "R50+L/16": ((3, 4, 9), 1),
    "R50+B/32": ((3, 4, 6, 3), 1), "R50+L/32": ((3, 4, 6, 3), 1),
}  # fmt: skip
BIT = {"R50": (3, 4, 6, 3), "R101": (3, 4, 23, 3), "R152": (3, 8, 36, 3), "R200": (3, 24, 36, 3)}
MIXERS = {"S": (512, 8, 256, 2048), "B": (768, 12, 384, 3072), "L": (1024, 24, 512, 4096)}


def dense(inputs, outputs):
    return inputs * outputs + outputs


def vit(size, patch, tokens, channels=3, pool="tok"):
    w, depth, mlp, heads = SIZES[size]
    attention, norms = 4 * dense(w, w), 2 * 2 * w
    if size == "22B":  # one norm for both branches; no bias for queries, keys and values; qk_norm over head_dim
        attention, norms = attention - 3 * w + 2 * 2 * (w // heads), 2 * w
    blocks = depth * (attention + norms + dense(w, mlp) + dense(mlp, w))
    cls = 2 * w if pool == "tok" else 0  # the class token and its position embedding
    return dense(patch**2 * channels, w) + tokens * w + cls + blocks + 2 * w + dense(w, 1000)


def dinov3(size, patch):
    w, depth, mlp, _, layers = DINOV3[size]
    biases = 1 if size == "7B" else 3  # of what attention gives; of queries and values, and never of keys
    attention, scales, norms = 4 * w * w + biases * w, 2 * w, 2 * 2 * w
    blocks = depth * (attention + scales + norms + (layers - 1) * dense(w, mlp) + dense(mlp, w))
    return dense(patch**2 * 3, w) + (1 + 4) * w + blocks + 2 * w + dense(w, 1000)


def convolutions(stages, width, norms):
    """Returns the number of parameters of a ResNet's convolutions and units, and its number of output channels.

    `norms(inputs, width, projects)` returns the number of parameters of the norms in one unit.
    """
    total, inputs = 7 * 7 * 3 * width, width
    for i, units in enumerate(stages):
        inner = width * 2**i
        for unit in range(units):
            total += inputs * inner + 9 * inner**2 + 4 * inner**2 + norms(inputs, inner, unit == 0)
            total += inputs * 4 * inner if unit == 0 else 0
            inputs = 4 * inner
    return total, inputs


def hybrid(name):
    stages, patch = STAGES[name]
    resnet, channels = convolutions(stages, 64, lambda _, w, projects: 2 * (w + w + 4 * w + (4 * w if projects else 0)))
    grid = 224 // (patch * 4 * 2 ** max(len(stages) - 1, 0))
    return resnet + 2 * 64 + vit(name.split("+")[1].split("/")[0], patch, grid**2, channels)


def bit(layers, factor):
    resnet, channels = convolutions(BIT[layers], 64 * factor, lambda inputs, w, _: 2 * (inputs + w + w))
    return resnet + 2 * channels + dense(channels, 1000)


def mixer(size, patch):
    w, depth, tokens_mlp, mlp = MIXERS[size]
    tokens = (224 // patch) ** 2
    block = 2 * 2 * w + dense(tokens, tokens_mlp) + dense(tokens_mlp, tokens) + dense(w, mlp) + dense(mlp, w)
    return dense(patch**2 * 3, w) + depth * block + 2 * w + dense(w, 1000)


def formula(name, pool="tok"):
    """Returns the number of parameters by a formula. Raises KeyError if the name is not in the tables above."""
    if name.startswith("Mixer-"):
        size, patch = name.removeprefix("Mixer-").split("/")
        return mixer(size, int(patch))
    if name.startswith("BiT-"):
        layers, factor = name.removeprefix("BiT-").split("x")
        return bit(layers, int(factor))
    if name in STAGES:
        return hybrid(name)
    size, patch = name.split("/")
    if size.startswith("DINOv3-"):
        return dinov3(size.removeprefix("DINOv3-"), int(patch))
    return vit(size, int(patch), (224 // int(patch)) ** 2, pool=pool)


def count(name, **keywords):
    abstract = nnx.eval_shape(lambda: vit_jax.create(name, **keywords))
    return sum(leaf.size for leaf in jax.tree.leaves(split(abstract)[1]))


@pytest.mark.parametrize("name", variants.names())
def test_parameter_counts(name):
    assert count(name) == PUBLISHED.get(name, formula(name)) == formula(name)


@pytest.mark.parametrize("name", PUBLISHED_GAP)
def test_parameter_counts_with_average_pooling(name):
    assert count(name, pool="gap") == PUBLISHED_GAP[name] == formula(name, "gap")


@pytest.mark.parametrize("name", PUBLISHED_DINOV3)
def test_parameter_counts_of_dinov3(name):
    assert count(name, num_classes=0) == PUBLISHED_DINOV3[name]


@pytest.mark.parametrize("name", variants.names())
def test_a_models_name_is_found(name):
    assert variants.name_of(variants.named(name)) == name


def test_all_published_names_are_there():
    assert set(PUBLISHED) <= set(variants.names())


def test_sizes():
    """The sizes are the papers'. The numbers of parameters do not show a wrong number of heads."""
    assert {name: tuple(size[:4]) for name, size in variants.SIZES.items()} == SIZES
    assert {name: tuple(size[:4]) for name, size in variants.DINOV3.items()} == {n: s[:4] for n, s in DINOV3.items()}


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("vit_base_patch16_224", "B/16"),
        ("vit_base_patch16_384.augreg_in21k", "B/16, with image_size=384"),
        ("google/vit-base-patch16-224", "B/16"),
        ("google/vit-huge-patch14-224-in21k", "H/14"),
        ("vit_large_patch14_dinov2.lvd142m", "L/14"),
        ("ViT-B/16", "B/16"),
        ("ViT-L_32", "L/32"),
        ("vit_b_16", "B/16"),
        ("B_16", "B/16"),
        ("b/16", "B/16"),
        ("deit_small_patch16_224", "S/16"),
        ("mixer_b16_224", "Mixer-B/16"),
        ("resnetv2_50x1_bit", "BiT-R50x1"),
        ("BiT-M-R101x3", "BiT-R101x3"),
        ("vit_base_r50_s16_384.augreg_in21k_ft_in1k", "R50+B/16, with image_size=384"),
        ("vit_small_r26_s32_224", "R26+S/32"),
        ("vit_large_r50_s32_384", "R50+L/32, with image_size=384"),
        ("vit_tiny_r_s16_p8_224", "R+Ti/16"),
        ("R50+ViT-B_16", "R50+B/16"),
        ("google/vit-hybrid-r50-b-16", "R50+B/16"),
        ("R26_S_32", "R26+S/32"),
        ("facebook/dinov2-base-14", "B/14"),
        ("vit_small_patch16_dinov3.lvd1689m", "DINOv3-S/16"),
        ("vit_small_plus_patch16_dinov3_qkvb", "DINOv3-S+/16"),
        ("vit_7b_patch16_dinov3.sat493m", "DINOv3-7B/16"),
        ("facebook/dinov3-vitb16-pretrain-lvd1689m", "DINOv3-B/16"),
        ("facebook/dinov3-vith16plus-pretrain-lvd1689m", "DINOv3-H+/16"),
        ("dinov3_vitl16", "DINOv3-L/16"),
        ("vit_so400m_patch14_siglip_384.webli", "So400m/14, with image_size=384"),
        ("vit_large_patch14_clip_336.openai_ft_in12k", "L/14, with image_size=336"),
    ],
)
def test_what_others_call_a_model(name, ours):
    said = re.escape(f"unknown variant {name!r}; here it is called {ours}")
    with pytest.raises(UserError, match=f"{said}$"):
        vit_jax.create(name)
    variants.named(ours.partition(",")[0])


@pytest.mark.parametrize(
    "name",
    [
        "vit_small_r50_s16_224",
        "vit_base_resnet26d_224",
        "mixer_h16_224",
        "swin_base_patch4_window7_224",
        "R50",
        "7B/16",
        "dinov3-convnext-tiny",
    ],
)
def test_what_has_no_name_here(name):
    with pytest.raises(UserError, match="the nearest is"):
        vit_jax.create(name)
