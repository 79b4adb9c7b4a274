"""Arguments that a recipe does not take are refused by one sentence, which says what it takes."""

import pytest

import vit_jax
from helpers.recipes import PRETRAIN, TRANSFER, load
from vit_jax.errors import UserError


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("evaluate.py", "evaluate.py takes a data set"),
        ("evaluate.py:cifr", "no data set 'cifr'; take digits"),
        ("evaluate.py:cifar10,real", "the option 'real' .*takes each of classification, fewshot, knn, probe once"),
        ("evaluate.py:digits,knn,knn", "'knn'"),
        ("augreg.py", "augreg.py:B/16,imagenet21k,medium1, and got ''"),
        ("augreg.py:B/16,cifar10,none", "the data sets are imagenet21k, imagenet2012"),
        ("augreg.py:B/16,imagenet21k,medium1,dropout", "perhaps regularised"),
        ("augreg.py:B/16,imagenet21k,medium", r"level 'medium' \(did you mean medium"),
        ("augreg.py:Mixer-B/16,imagenet21k,medium1", "take pretrain.py"),
        ("vit_s16_baseline.py:100", "the epochs '100'; it takes 90, 150, 300"),
        ("vit_s16_baseline.py:90,real,real", "each of real, v2 once"),
        ("transfer.py:B/16,cifar10,real", "can't read the option 'real' .*cifar10 takes each of held_out once"),
        ("transfer.py:B/16,imagenet2012,v3", "'v3' .*takes each of held_out, real, v2 once"),
        ("transfer.py:B/16,imagenet2012,v2,v2", "the option 'v2' of"),
        ("transfer.py:B/16,real,folder:/own", "'real' .*folder takes each of held_out once"),
        ("transfer.py:B/16,cifar10,folder:/own", "can't read the option 'cifar10'"),
        ("transfer.py:B/16,my_folder:/own", "takes a model and a data set"),
        ("transfer.py:B/16,vtab/clevr", "the data sets are .*vtab/clevr_count, vtab/clevr_distance"),
        ("pretrain.py:B/16,cifar10,real", "can't read the option 'real' .*; cifar10 takes none"),
        ("pretrain.py:B/16,imagenet2012,held_out", "'held_out' .*takes each of real, v2 once"),
        ("deit.py", "such as deit.py:S/16,imagenet2012, or deit.py:digits, and got ''"),
        ("deit.py:S/16", "the data set is imagenet2012"),
        ("deit.py:L/16,imagenet2012", "the models are Ti/16, S/16, B/16"),
        ("deit.py:S/16,cifar10", "the data set is imagenet2012"),
        ("deit.py:S/16,imagenet2012,teacher", "the option 'teacher' .*each of distilled, real, v2 once"),
        ("deit.py:digits,real", "the option 'real' .*takes each of distilled once"),
    ],
)
def test_wrong_arguments_are_one_sentence(path, said):
    with pytest.raises(UserError, match=said) as error:
        vit_jax.load_config(f"configs/{path}")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("file", "valid"),
    [("pretrain.py", PRETRAIN), ("transfer.py", TRANSFER), ("bit.py", PRETRAIN[::5])],
    ids=["pretrain", "transfer", "bit"],
)
@pytest.mark.parametrize("arguments", ["", ":B/16", ":B/16,", ":,cifar10", ":B/16,cifar", ":cifar10,B/16", ":B/16,jft"])
def test_model_and_data_set_are_needed(file, valid, arguments):
    with pytest.raises(UserError, match="takes a model and a data set") as error:
        load(f"{file}{arguments}")
    assert "\n" not in str(error.value)
    assert all(name in str(error.value) for name in valid)


@pytest.mark.parametrize("arguments", ["folder", "folder:", "cifar10:/photos"])
def test_own_images_have_a_folder_and_others_have_none(arguments):
    with pytest.raises(UserError, match=f"such as transfer.py:B/16,cifar10, and got 'B/16,{arguments}'.*folder:DIR"):
        load(f"transfer.py:B/16,{arguments}")


@pytest.mark.parametrize("arguments", ["", "B/16", "B/16,cifar10", "digits,B/16", ",imagenet2012", "B/16,digits"])
def test_masked_patches_refuses(arguments):
    with pytest.raises(UserError, match="such as masked_patches.py:B/16,imagenet2012, and got") as error:
        load(f"masked_patches.py:{arguments}")
    assert "\n" not in str(error.value)


def test_imagenet21k_is_no_transfer_target():
    with pytest.raises(UserError, match="the data sets are imagenet2012, cifar10"):
        load("transfer.py:B/16,imagenet21k")
