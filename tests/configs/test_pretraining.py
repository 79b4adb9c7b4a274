"""The recipes of pre-training and of training on ImageNet have the published settings."""

import pytest

import vit_jax
from helpers.recipes import EXAMPLES, PRETRAIN, load
from vit_jax.errors import UserError
from vit_jax.models import variants
from vit_jax.planning import compiling


@pytest.mark.parametrize("dataset", ["imagenet2012", "imagenet21k"])
@pytest.mark.parametrize("name", ["R50x1", "BiT-R152x4"])
def test_bit(name, dataset):
    config = load(f"bit.py:{name},{dataset}")
    assert config.model.name == f"BiT-{name.removeprefix('BiT-')}"
    assert (config.optimizer.name, config.optimizer.learning_rate) == ("sgd", 0.48)
    assert config.task.loss == ("sigmoid" if dataset == "imagenet21k" else "softmax")
    assert 0 < config.schedule.warmup_steps < config.total_steps


def test_bit_has_a_recipe_of_its_own():
    with pytest.raises(UserError, match="take bit.py:R50x1,imagenet2012"):
        load("pretrain.py:BiT-R50x1,imagenet2012")


@pytest.mark.parametrize("dataset", PRETRAIN)
@pytest.mark.parametrize("variant", ["B/16", "L/32", "R50+B/16", "Mixer-B/16"])
def test_pretrain(variant, dataset):
    config = load(f"pretrain.py:{variant},{dataset}")
    assert config.model.name == variant
    assert config.model.image_size == 224
    assert config.model.dropout == 0.1
    assert config.optimizer.name == "adam"
    assert config.data.crop == "inception"
    assert config.augmentation.flip
    assert 0 < config.schedule.warmup_steps < config.total_steps
    assert len(config.evaluations) == 1


def test_pretrain_is_table_3():
    imagenet, imagenet21k = load("pretrain.py:B/16,imagenet2012"), load("pretrain.py:L/16,imagenet21k")
    for config in (imagenet, imagenet21k):
        assert config.global_batch_size == 4096
        assert config.schedule.warmup_steps == 10_000
        assert (config.optimizer.b1, config.optimizer.b2) == (0.9, 0.999)
    assert imagenet.total_steps == round(300 * 1_281_167 / 4096)
    assert (imagenet.optimizer.learning_rate, imagenet.optimizer.weight_decay) == (3e-3, 0.3)
    assert (imagenet.schedule.name, imagenet.optimizer.grad_clip_norm) == ("cosine", 1.0)
    assert imagenet.evaluations["validation"].split == "validation"

    assert imagenet21k.total_steps == round(90 * (14_197_122 - 51_200) / 4096)
    assert (imagenet21k.optimizer.learning_rate, imagenet21k.optimizer.weight_decay) == (1e-3, 0.03)
    assert (imagenet21k.schedule.name, imagenet21k.schedule.end_learning_rate) == ("linear", 1e-5)
    assert (imagenet21k.task.loss, imagenet21k.model.head_bias) == ("sigmoid", -10.0)
    assert imagenet21k.model.pre_logits == 1024
    assert load("pretrain.py:B/16,imagenet21k").model.pre_logits == 768
    assert imagenet21k.data.split == "full[51200:]"
    assert imagenet21k.evaluations["validation"].split == "full[:51200]"


@pytest.mark.parametrize("dataset", ["imagenet2012", "imagenet21k", "jft300m"])
def test_masked_patches_is_the_appendix(dataset):
    config = vit_jax.load_config(f"configs/masked_patches.py:B/16,{dataset}")
    assert (config.task.name, config.task.target, config.task.masked_share) == ("masked_patches", "mean_colour", 0.5)
    assert (config.optimizer.name, config.optimizer.learning_rate, config.global_batch_size) == ("adam", 2e-4, 4096)
    assert (config.schedule.name, config.schedule.warmup_steps) == ("cosine", 10_000)
    assert config.total_steps == (1_000_000 if dataset == "jft300m" else 100_000)
    assert (config.data.max_labels, config.model.num_classes) == (0, 0)
    assert config.model.scan == vit_jax.load_config(f"configs/pretrain.py:B/16,{dataset}").model.scan
    model = compiling.model_of(config)  # as `plan` makes it, without the data set
    assert model.arch.num_classes == 0 and model.class_names == ()


@pytest.mark.parametrize("dataset", ["imagenet2012", "imagenet21k"])
@pytest.mark.parametrize("regularised", ["", ",regularised"])
def test_augreg(dataset, regularised):
    config = load(f"augreg.py:R26+S/32,{dataset},strong2{regularised}")
    assert (config.model.name, config.global_batch_size, config.model.pre_logits) == ("R26+S/32", 4096, None)
    assert config.total_steps == round(300 * EXAMPLES[dataset] / 4096)
    assert (config.optimizer.learning_rate, config.optimizer.weight_decay) == (1e-3, 0.1)
    assert (config.schedule.name, config.schedule.warmup_steps) == ("cosine", 10_000)
    assert config.optimizer.grad_clip_norm == 1.0
    assert (config.model.dropout, config.model.drop_path) == ((0.1, 0.1) if regularised else (0.0, 0.0))
    found = config.augmentation
    assert (found.randaugment_layers, found.randaugment_magnitude, found.mixup) == (2, 20.0, 0.8)
    assert config.task.loss == ("sigmoid" if dataset == "imagenet21k" else "softmax")


@pytest.mark.parametrize(("arguments", "epochs"), [("", 90), (":90", 90), (":150,v2", 150), (":300,real,v2", 300)])
def test_vit_s16_baseline(arguments, epochs):
    config = load(f"vit_s16_baseline.py{arguments}", num_examples=1_268_355)
    assert (config.global_batch_size, config.total_steps) == (1024, round(epochs * 1_268_355 / 1024))
    model, found = config.model, config.augmentation
    assert (model.name, model.posemb, model.pool, model.pre_logits) == ("S/16", "sincos2d", "gap", 384)
    assert (found.randaugment_layers, found.randaugment_magnitude, found.mixup, found.flip) == (2, 10.0, 0.2, True)
    assert (config.optimizer.learning_rate, config.optimizer.weight_decay) == (1e-3, 0.1)
    assert (config.optimizer.moment_dtype, config.schedule.warmup_steps) == ("bfloat16", 10_000)
    splits = {name: section.split for name, section in config.evaluations.items()}
    assert (config.data.split, splits["held_out"], splits["validation"]) == ("train[:99%]", "train[99%:]", "validation")
    assert splits.keys() - {"held_out", "validation"} == set(arguments.split(",")[1:])
    assert config.preprocessing.shorter_side == 256


@pytest.mark.parametrize("options", ["", ",distilled", ",distilled,real,v2"])
def test_deit_is_table_9(options):
    config = load(f"deit.py:S/16,imagenet2012{options}")
    assert (config.global_batch_size, config.total_steps) == (960, round(300 * 1_281_167 / 960))
    assert config.schedule.warmup_steps == round(5 * 1_281_167 / 960)
    optimizer, augmentation = config.optimizer, config.augmentation
    assert (optimizer.name, optimizer.learning_rate, optimizer.weight_decay) == ("adam", 5e-4 * 960 / 512, 0.05)
    assert (optimizer.grad_clip_norm, config.task.label_smoothing, config.data.repeats) == (0, 0.1, 3)
    assert (config.model.dropout, config.model.drop_path) == (None, 0.1)
    assert (augmentation.randaugment_layers, augmentation.randaugment_magnitude) == (2, 9)
    assert (augmentation.mixup, augmentation.cutmix, augmentation.erasing) == (0.8, 1.0, 0.25)
    distilled = "distilled" in options
    assert config.task.name == ("distillation" if distilled else "classification")
    assert (config.model.distilled, config.model.registers) == ((True, 1) if distilled else (None, None))
    assert config.evaluations.keys() == {"validation", *options.split(",")} - {"", "distilled"}


def test_models_larger_than_l_are_scanned():
    """Models larger than L use scan, because they compile slowly when unrolled. All registered variants are tested."""
    for name in variants.names():
        if name.startswith("BiT"):
            continue
        config = vit_jax.load_config(f"configs/pretrain.py:{name},imagenet2012")
        large = variants.named(name).width > variants.SIZES["L"].width
        assert config.model.scan == (name in variants.HYBRIDS or large), name
