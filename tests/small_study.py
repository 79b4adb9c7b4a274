"""A study of two runs of two short trainings each; the second starts from the model of the first."""

import pathlib
import runpy

from vit_jax.studies import Axis, Figure, Measure, Study, Training, run_at

SMALL = pathlib.Path(__file__).with_name("small.py")


def config(examples: int, steps: int):
    found = runpy.run_path(str(SMALL))["get_config"]()
    found.total_steps, found.log_steps = steps, 2
    found.data.subset = examples
    found.evaluations.test.every_steps, found.checkpoint.every_steps = 1, 2
    found.model.depth, found.model.dropout, found.model.drop_path = 1, 0.0, 0.0
    found.augmentation.flip, found.augmentation.rotate_degrees, found.augmentation.mixup = False, 0.0, 0.0
    found.optimizer.average = 0.0
    return found


def get_study(arguments: str = "16,32") -> Study:
    runs = [
        run_at(
            {"model": "ViT", "examples": examples, "seed": 0},
            Training("first", config(examples, 2)),
            Training("second", config(64, 1), starts_from="first"),
        )
        for examples in map(int, arguments.split(","))
    ]
    figure = Figure("accuracy_by_examples", Axis("examples", "images", log=True), Axis("accuracy", "accuracy (%)"))
    measures = Measure("accuracy", "first", "test/accuracy"), Measure("transfer", "second", "test/accuracy")
    return Study("small", tuple(runs), measures, (figure,))
