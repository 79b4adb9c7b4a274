"""The descriptions of the keys: `--describe` and docs/config.md."""

import pathlib

from vit_jax import config as config_lib
from vit_jax import describe
from vit_jax.config_file import with_origins

ROOT = pathlib.Path(__file__).parents[1]


def test_the_page_of_the_keys_is_current():
    found = (ROOT / "docs" / "config.md").read_text(encoding="utf-8")
    assert found == describe.document() + "\n", "make it anew: python -m vit_jax.describe > docs/config.md"


def test_the_page_has_every_key():
    page = describe.document()
    assert all(page.count(f"\n| `{key}` | ") == 1 for key in config_lib.KEYS)
    assert all(config_lib.key_at(key).doc for key in config_lib.KEYS)
    assert "| `optimizer.b1` | `0.9` | float, at least 0 and below 1 | " in page


def test_where_values_come_from():
    config, origins = with_origins("configs/digits.py", ["total_steps=30", "evaluations.test.batch_size=8", "seed=0"])
    assert origins.keys() == config_lib.flatten(config).keys()
    for origin, keys in {
        "command line": ("total_steps", "total_epochs", "evaluations.test.batch_size", "seed"),
        "file": ("global_batch_size", "model.name", "evaluations.test.every_percent", "schedule.warmup_steps"),
        "default": ("model.registers", "evaluations.test.name", "mesh.data"),
    }.items():
        assert {origins[key] for key in keys} == {origin}
    text = describe.description(config, origins)
    assert "config.total_steps = 30  (command line; default None)\n    the run, in steps [int, above 0]\n" in text
    assert "config.mesh.data = -1  (default)\n" in text and "config.evaluations.test.batch_size = 8  (command" in text
