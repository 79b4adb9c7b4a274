"""The interface of a format, and functions that several formats share."""

import contextlib
import functools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from vit_jax.checkpoints.containers import Shape
from vit_jax.checkpoints.files import line
from vit_jax.checkpoints.groups import Group
from vit_jax.checkpoints.names import places
from vit_jax.errors import UserError
from vit_jax.models.architecture import Architecture, Preprocessing
from vit_jax.models.build import abstract_params
from vit_jax.models.functional import flatten
from vit_jax.values import as_hint, pair, wording

NOTHING: Mapping[str, Shape] = {}


class Description(NamedTuple):
    """What a file says about its model."""

    architecture: Architecture
    preprocessing: Preprocessing | None = None  # None if the file does not say it
    class_names: tuple[str, ...] = ()  # the names of the head's outputs; () if the file has none


class About(NamedTuple):
    """What is known about a file besides its arrays."""

    name: str  # the path of the file, for error messages
    config: Mapping[str, Any]  # the content of the config.json in the file's folder; empty if there is none
    preprocessor: Mapping[str, Any]  # the content of the preprocessor_config.json there; empty if there is none
    keywords: Mapping[str, Any]  # the keywords of `load` that are not None

    def need(self, keyword: str, what: str) -> Any:
        """Returns the value of a keyword of `load` that the user must give, because the file does not say `what`.

        Raises:
            UserError: the keyword is not given.
        """
        if keyword not in self.keywords:
            raise UserError(f"{self.name} does not say {what}; say it with {keyword}=…")
        return self.keywords[keyword]

    def setting(self, key: str, hint: Any, default: Any = None, of: Mapping[str, Any] | None = None) -> Any:
        """Returns the value of a key in config.json, or `default` if the key is missing or its value is null.

        Args:
            key: the key.
            hint: the type that the value must have, such as `int | tuple[int, int]`.
            default: what is returned if there is no value.
            of: an object inside config.json in which to look the key up, instead of the top level.

        Raises:
            UserError: the value has another type than `hint`.
        """
        value = (self.config if of is None else of).get(key)
        if value is None:
            return default
        try:
            return as_hint(hint, value)
        except TypeError:
            raise UserError(
                f"config.json beside {self.name} can't be used: {key} is {value!r:.80} ({type(value).__name__}); it "
                f"takes {wording(hint)}"
            ) from None

    def fields_of(self, family: type[Architecture]) -> dict[str, Any]:
        """Returns the keywords of `load` that are fields of a family's architecture.

        A format lets the sizes that it finds in the file replace them. So they set how the model is computed (such as
        `dtype`), and what the file does not say.
        """
        return {key: value for key, value in self.keywords.items() if key in family.fields()}


class Format(Protocol):
    """A way to name and lay out the arrays of a model in a file.

    Files of one format may differ in details of their names, such as a common prefix. `rename` maps the format's
    standard names to the names in a file. All other methods use the standard names.
    """

    name: str  # the name of the format, which is also an argument of `save`
    suffix: str  # the suffix of its files, such as `.npz`

    def rename(self, names: Iterable[str]) -> dict[str, str] | None:
        """Returns `{standard name: name in the file}`, or None if the file is not of this format.

        Arrays that the format ignores are left out.

        Args:
            names: the names of the arrays in the file.
        """
        ...

    def describe(self, shapes: Mapping[str, Shape], about: About) -> Description:
        """Returns what a file says about its model.

        Args:
            shapes: the shapes of the file's arrays by their standard names.
            about: the other files in its folder, and the user's keywords.

        Raises:
            UserError: this package has no such model, or the file does not say something that a keyword must.
        """
        ...

    def groups(self, arch: Architecture, shapes: Mapping[str, Shape] = NOTHING) -> list[Group]:
        """Returns the groups that pair the arrays of a file with the parameters of a model.

        Args:
            arch: the architecture of the model.
            shapes: the shapes of the arrays of a file to be read, by their standard names; empty for a file to be
                written.

        Raises:
            UserError: the format can't store a part of the model.
        """
        ...

    def sidecars(self, description: Description) -> dict[str, Any]:
        """Returns the JSON files that the format's own library needs in the same folder, as `{file name: content}`."""
        ...


@functools.lru_cache(maxsize=16)
def parameter_shapes(arch: Architecture) -> Mapping[str, Shape]:
    """Returns the shapes of an architecture's parameters by published name, with one entry for each layer."""
    params = abstract_params(arch)
    flat = flatten(params)
    return {name: flat[path].shape[int(layer is not None) :] for name, (path, layer) in places(params).items()}


def need_place(name: str, arch: Architecture, **allowed: Sequence[Any]) -> None:
    """Checks that a format can store an architecture.

    Args:
        name: the name of the format, for the error message.
        arch: the architecture.
        allowed: for each field to check, the values that the format can store.

    Raises:
        UserError: a field has another value.
    """
    for key, values in allowed.items():
        if getattr(arch, key) not in values:
            raise UserError(
                f"the format {name} has no place for {key}={getattr(arch, key)!r}; "
                "write the format original (.npz), which has one for everything"
            )


@contextlib.contextmanager
def understood(name: str, what: str) -> Iterator[None]:
    """A context in which a JSON file is read: an error about its values becomes a UserError that names the file.

    Args:
        name: the path of the checkpoint, beside which the JSON file is.
        what: the name of the JSON file, or of the part of it that is read.
    """
    try:
        yield
    except UserError as error:
        raise UserError(f"{what} beside {name} can't be used: {error}") from error
    except (TypeError, ValueError, ArithmeticError, LookupError, AttributeError) as error:
        raise UserError(
            f"{what} beside {name} can't be understood ({line(error)}); mend it, or move it away"
        ) from error


def sized(table_tokens: int, stride: tuple[int, int], about: About) -> tuple[int, int]:
    """Returns the image size, (height, width) in pixels, that belongs to a table of position embeddings.

    This is the keyword `image_size` if an image of that size has as many patches as the table; else the size of a
    square image.

    Args:
        table_tokens: the number of patches in the table, without special tokens.
        stride: the distance from one patch to the next along (height, width), in pixels.
        about: the file's name, and the keyword `image_size` as the user or the file's config.json gives it.

    Raises:
        UserError: `image_size` is missing or does not fit, and the number of patches is not a square.
    """
    if "image_size" in about.keywords:
        height, width_px = pair(about.keywords["image_size"])
        if (height // stride[0]) * (width_px // stride[1]) == table_tokens:
            return height, width_px
    side = round(table_tokens**0.5)
    if side * side != table_tokens:
        raise UserError(
            f"{about.name} has {table_tokens} position embeddings, which are no square grid; "
            "say which with image_size=(height, width)"
        )
    return side * stride[0], side * stride[1]


def stages(names: Iterable[str]) -> tuple[int, ...]:
    """Returns the number of units of each stage of a ResNet, from array names such as `block2/unit03/conv1/kernel`."""
    units: dict[int, int] = {}
    for name in names:
        if found := re.search(r"block(\d+)/unit(\d+)/", name):
            units[int(found[1])] = max(units.get(int(found[1]), 0), int(found[2]))
    return tuple(units[block] for block in sorted(units))
