"""Abstract models, which are made once in a process."""

from helpers.models import arch
from vit_jax.models.build import abstract, abstract_params


def test_a_change_is_not_in_the_next():
    vit = arch()
    model, shapes = abstract(vit), abstract_params(vit)
    model.head = None
    del shapes["head"], shapes["encoder"]["norm"]
    assert abstract(vit).head is not None
    assert abstract_params(vit).keys() > {"head", "encoder"} and "norm" in abstract_params(vit)["encoder"]
