"""A model and its file: `load` and `save`, and what a run leaves for others (`model.npz` with `model.json`)."""

import dataclasses
from typing import Any, NamedTuple

import jax
from etils import epath
from flax import nnx

from vit_jax.checkpoints import files, published, store
from vit_jax.errors import UserError
from vit_jax.models import names
from vit_jax.models.architecture import Architecture, Preprocessing
from vit_jax.models.functional import Params, split
from vit_jax.models.vit import VisionTransformer

FORMAT_VERSION = 1


class ModelFile(NamedTuple):
    """What a file holds: arrays under canonical published names and what they belong to."""

    name: str
    arrays: published.Arrays
    architecture: Architecture
    preprocessing: Preprocessing | None  # None where the file does not say
    class_names: tuple[str, ...]


def load(path: epath.PathLike, **keywords: Any) -> VisionTransformer:
    """The model in a file or a run's folder, with its weights.

    Args:
        path: an `.npz` in the original's naming, or a run's folder (its `model.npz`, else its newest whole checkpoint);
            local or `gs://`.
        keywords: fields of `Architecture` to change. `image_size` resamples the position embeddings; a `num_classes`
            other than the file's gives a new head of zeros, and leaves a `pre_logits` layer behind.

    Raises:
        UserError: no such file, no checkpoint, or parameters that are missing, left over or of the wrong shape.
    """
    file = read(path, **keywords)
    source = file.architecture
    new_head = keywords.get("num_classes") not in (None, source.num_classes)
    if new_head:
        keywords = {"pre_logits": 0, **keywords}
    target = source.replace(**keywords)
    params = published.adapt(file.arrays, source, target, new_head=new_head, name=file.name)
    preprocessing = file.preprocessing or Preprocessing(target.image_size)
    if target.image_size != source.image_size:
        preprocessing = _at_size(preprocessing, target.image_size)
    class_names = () if new_head else file.class_names
    model = nnx.eval_shape(lambda: VisionTransformer(target, preprocessing, class_names, rngs=nnx.Rngs(0)))
    return split(model)[0](jax.tree.map(jax.numpy.asarray, params))


def _at_size(preprocessing: Preprocessing, size: tuple[int, int]) -> Preprocessing:
    """With a centre crop, the same share of the image is kept."""
    side = preprocessing.shorter_side
    if side is not None:
        side = round(side * min(size) / min(preprocessing.size))
    return dataclasses.replace(preprocessing, size=size, shorter_side=side)


def save(model: VisionTransformer, path: epath.PathLike) -> None:
    """Writes a model's weights as `.npz` in the original's naming, and what rebuilds it as `.json` beside.

    Raises:
        UserError: another suffix.
    """
    write(path, split(model)[1], model.arch, model.preprocessing, model.class_names)


def write(
    path: epath.PathLike, params: Params, arch: Architecture, preprocessing: Preprocessing, class_names: tuple[str, ...]
) -> None:
    """`save`, of parameters that are in no module. The `.json` goes first, so that an `.npz` is never without it."""
    path = epath.Path(path)
    if path.suffix != ".npz":
        raise UserError(f"{path} has no suffix that says a format; .npz is what can be written")
    files.write_json(path.with_suffix(".json"), description(arch, preprocessing, class_names))
    files.write_npz(path, names.to_published(params))


def description(arch: Architecture, preprocessing: Preprocessing, class_names: tuple[str, ...]) -> dict[str, Any]:
    """What rebuilds a model, as JSON."""
    return {
        "format_version": FORMAT_VERSION,
        "architecture": dataclasses.asdict(arch),
        "preprocessing": dataclasses.asdict(preprocessing),
        "class_names": list(class_names),
    }


def read(path: epath.PathLike, **keywords: Any) -> ModelFile:
    """What a file or a run's folder holds. `keywords` say what it can't tell, see `published.architecture`."""
    path = epath.Path(path)
    if not path.exists():
        raise UserError(f"there is no checkpoint {path}")
    if path.is_dir():
        return _read_run(path, keywords)
    arrays = published.canonical(files.read_npz(path))
    json = path.with_suffix(".json")
    if json.exists():
        return ModelFile(str(path), arrays, *_described(json))
    return ModelFile(str(path), arrays, published.architecture(arrays, str(path), **keywords), None, ())


def _read_run(folder: epath.Path, keywords: dict[str, Any]) -> ModelFile:
    if (folder / "model.npz").exists():
        return read(folder / "model.npz", **keywords)
    params = store.newest_params(folder / store.FOLDER) if (folder / store.FOLDER).exists() else None
    if params is None or not (folder / "model.json").exists():
        raise UserError(f"{folder} is no run's folder with a model: it has neither model.npz nor a whole checkpoint")
    return ModelFile(str(folder), names.to_published(params), *_described(folder / "model.json"))


def _described(path: epath.Path) -> tuple[Architecture, Preprocessing, tuple[str, ...]]:
    json = files.read_json(path)
    try:
        if json["format_version"] > FORMAT_VERSION:
            raise UserError(f"{path} is of format {json['format_version']}, made by a newer vit_jax; update this one")
        settings: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in json["preprocessing"].items()}
        return Architecture.of(**json["architecture"]), Preprocessing(**settings), tuple(json["class_names"])
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path} does not describe a model ({error}); restore it or move it away") from error
