"""Damaged input of every kind must give a result, a `UserError`, or a replacement that is logged and counted.

`pytest -m slow tests/fuzz` runs the tests. The random numbers of a test depend only on the number in its name, so a
failure can be repeated by `pytest -m slow 'tests/fuzz/test_contents.py::test_arrays[original-3]'`. The message of a
failure lists all the cases that went wrong.
"""

import pathlib
from collections.abc import Iterator

import numpy as np
import pytest

import vit_jax
from helpers.damage import MODELS, Cases
from vit_jax.models import variants
from vit_jax.models.architecture import Preprocessing
from vit_jax.models.build import abstract
from vit_jax.models.functional import flatten, split, unflatten


@pytest.fixture(scope="session")
def originals(tmp_path_factory) -> pathlib.Path:
    """Returns a folder that holds, for each format, a folder with an undamaged file and its side files."""
    root = tmp_path_factory.mktemp("originals")
    for naming, (name, keywords, suffix) in MODELS.items():
        rng, arch = np.random.default_rng(0), variants.named(name, **keywords)
        preprocessing = Preprocessing(arch.image_size, 2 * min(arch.image_size), (0.25, 0.5, 0.75), (0.5, 0.25, 1.0))
        bind, shapes = split(abstract(arch, preprocessing, ("a", "ä", "ß")[: arch.num_classes]))
        arrays = {path: rng.standard_normal(s.shape, np.float32) for path, s in flatten(shapes).items()}
        (root / naming).mkdir()
        format = naming.partition("-")[0]
        vit_jax.save(bind(unflatten(arrays)), root / naming / f"model{suffix}", format=format)
    return root


@pytest.fixture
def file(originals, tmp_path, request) -> pathlib.Path:
    """Returns the path of a copy of the undamaged file of a format, with its side files."""
    for path in (originals / request.param).iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path / f"model{MODELS[request.param][2]}"


@pytest.fixture
def cases() -> Iterator[Cases]:
    found = Cases()
    yield found
    assert not found.wrong, "\n".join([f"{len(found.wrong)} cases", *found.wrong])
