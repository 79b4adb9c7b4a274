"""Distillation: a model learns the labels, and the classes that another, trained model predicts for the same images."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from vit_jax import config as config_lib
from vit_jax.checkpoints import read
from vit_jax.checkpoints.adapt import adapt
from vit_jax.errors import UserError
from vit_jax.models import flops
from vit_jax.models.architecture import Architecture, Preprocessing
from vit_jax.models.build import abstract, build
from vit_jax.models.class_names import check_same
from vit_jax.models.functional import Params
from vit_jax.models.model import Model
from vit_jax.randomness import Keys
from vit_jax.tasks.classification import Classification
from vit_jax.tasks.task import Batch, Task, masked_mean


class Distillation(Classification):
    """Hard distillation (2012.12877, equation 3), in which a teacher adds a second label to each image.

    The teacher is the model in `config.task.teacher`. Its label is the class that it predicts for the image that the
    student sees, augmented and mixed. A distilled student (`config.model.distilled`) learns the image's own label by
    the head that reads the class token, and the teacher's by the head that reads the distillation token. Other students
    learn both by the one head that they have.

    The teacher's parameters are among those of the run, under `task/teacher/`, so that they are split over the devices
    and saved in checkpoints; they are frozen, without gradients, moments and averages. A run that goes on takes them
    from its checkpoint, and only the header of the teacher's file is read again. `model.npz` holds the student alone.
    """

    frozen = ("^vit_jax/task/teacher/",)

    def check(self, config: config_lib.Config) -> None:
        """Raises UserError if there is no teacher that predicts classes, or no label to learn from."""
        super().check(config)
        if not self._file.architecture.num_classes:
            raise UserError(f"config.task.teacher={self.settings.teacher} has no head; name a model that has one")

    def modules(self, arch: Architecture, rngs: nnx.Rngs) -> nnx.Dict:
        """Returns the teacher, which computes in the student's type. Raises UserError if its classes are others."""
        found = self._file.architecture
        if found.num_classes != arch.num_classes:
            raise UserError(
                f"config.task.teacher={self.settings.teacher} has {found.num_classes} classes, and the model that "
                f"learns has {arch.num_classes}; name a teacher of the same classes"
            )
        return nnx.Dict(teacher=build(self._architecture(arch), self._preprocessing, rngs=rngs))

    def given(self, model: Model) -> Params:
        """Returns the teacher's parameters. Raises UserError if its classes are not those of `model`."""
        file, name = self._file, f"config.task.teacher={self.settings.teacher}"
        if model.class_names:
            mend = "name a teacher of the same classes"
            check_same(name, file.architecture.num_classes, file.class_names, model.class_names, mend)
        params = adapt(file.parameters, file.architecture, file.architecture, new_head=False, name=file.name)
        if not any(array.any() for array in params["head"].values()):
            raise UserError(f"{name} has a head of zeros, so it predicts no classes; name a model that was trained")
        return {"teacher": params}

    def further_flops(self, arch: Architecture) -> int:
        """Returns the FLOPs of the teacher's forward pass for one image."""
        return flops.forward(abstract(self._architecture(arch)), 1)

    def evaluator(self) -> Task:
        """Returns the task that evaluates the student, for which no teacher is needed."""
        return Classification(self.settings)

    def loss(self, model: Model, own: Any, batch: Batch, key: Keys) -> tuple[Array, dict[str, Array]]:
        """Returns half the cross-entropy of the labels plus half that of the teacher's, over rows whose `mask` is 1.

        The label smoothing applies to the image's own label. The metrics are `label_loss` and `teacher_loss`, the two
        cross-entropies, and `agreement`, the share of the images for which both models predict the same class.
        """
        images, mask = batch["image"], batch["mask"]
        taught = teacher_logits(own.teacher, model.preprocessing, images).argmax(axis=-1)
        heads = model.logits_of_heads(model.encode_for_head(images, key=key))
        ours = self._losses(heads[0], batch["label"], smoothing=self.settings.label_smoothing)
        theirs = self._losses(heads[-1], jax.nn.one_hot(taught, heads[-1].shape[-1]))
        label_loss, teacher_loss = masked_mean(ours, mask), masked_mean(theirs, mask)
        agree = jnp.stack(heads).mean(axis=0).argmax(axis=-1) == taught
        metrics = {
            "label_loss": label_loss,
            "teacher_loss": teacher_loss,
            "agreement": masked_mean(agree.astype(jnp.float32), mask),
        }
        return (label_loss + teacher_loss) / 2, metrics

    @functools.cached_property
    def _file(self) -> read.ModelFile:
        """The teacher's file, of which only the header is read."""
        path = self.settings.teacher
        if path is None:
            raise UserError("config.task.name=distillation needs a teacher; set config.task.teacher to a trained model")
        try:
            return read.read(path)
        except UserError as error:
            raise UserError(f"config.task.teacher can't be read: {error}") from error

    def _architecture(self, student: Architecture) -> Architecture:
        """Returns the teacher's architecture, which computes as the student does."""
        # Without a backward pass there is nothing to recompute.
        return self._file.architecture.replace(dtype=student.dtype, scan=student.scan, remat="none")

    @property
    def _preprocessing(self) -> Preprocessing:
        return self._file.preprocessing or Preprocessing(self._file.architecture.image_size)


def teacher_logits(
    teacher: Model, preprocessing: Preprocessing, images: Float[Array, "batch height width_px 3"]
) -> Float[Array, "batch classes"]:
    """Returns the logits of a teacher for the images of a student, without dropout.

    Args:
        teacher: its own preprocessing says the size, the mean and the deviation that it takes. Images of another size
            are resized as a whole, bilinearly and with a filter against aliasing.
        preprocessing: that of the images.
        images: as `preprocessing` normalises them.
    """
    pixels = preprocessing.to_pixels(images)
    size = teacher.preprocessing.size
    if pixels.shape[1:3] != size:
        pixels = jax.image.resize(pixels, (len(pixels), *size, 3), "bilinear")
    return teacher(teacher.preprocessing.from_pixels(pixels))
