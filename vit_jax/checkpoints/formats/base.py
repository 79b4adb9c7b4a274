"""What a format is, and what they share."""

import contextlib
import functools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from vit_jax.checkpoints.containers import Shape
from vit_jax.checkpoints.files import line
from vit_jax.checkpoints.groups import Group
from vit_jax.errors import UserError
from vit_jax.models.architecture import Architecture, Preprocessing
from vit_jax.models.build import abstract_params
from vit_jax.models.names import flatten, places
from vit_jax.values import as_hint, wording

NOTHING: Mapping[str, Shape] = {}


class Description(NamedTuple):
    """What a file says of its model."""

    architecture: Architecture
    preprocessing: Preprocessing | None = None  # None where the file does not say
    class_names: tuple[str, ...] = ()


class About(NamedTuple):
    """What is known of a file beside its arrays."""

    name: str  # the file, for errors
    config: Mapping[str, Any]  # config.json beside it, as its library writes one
    preprocessor: Mapping[str, Any]  # preprocessor_config.json beside it
    keywords: Mapping[str, Any]  # of `load`, None left out

    def need(self, keyword: str, what: str) -> Any:
        """A keyword's value. Raises UserError, naming it, where it is not given."""
        if keyword not in self.keywords:
            raise UserError(f"{self.name} does not say {what}; say it with {keyword}=…")
        return self.keywords[keyword]

    def setting(self, key: str, hint: Any, default: Any = None, of: Mapping[str, Any] | None = None) -> Any:
        """Returns a value of config.json, or of the object `of` in it; `default` where it is missing or null.

        Raises:
            UserError: the value is of another type than `hint`.
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
        """The keywords that a family has: of the computation, or for what the file does not tell."""
        return {key: value for key, value in self.keywords.items() if key in family.fields()}


class Format(Protocol):
    """A naming of a model's arrays in a file."""

    name: str
    suffix: str

    def rename(self, names: Iterable[str]) -> dict[str, str] | None:
        """`{name in the groups: name in the file}` of a file of this format; None for another's."""
        ...

    def describe(self, shapes: Mapping[str, Shape], about: About) -> Description:
        """What a file with arrays of these shapes (under the groups' names) holds.

        Raises:
            UserError: it is no model of this package, or does not tell what a keyword must.
        """
        ...

    def groups(self, arch: Architecture, shapes: Mapping[str, Shape] = NOTHING) -> list[Group]:
        """The groups of a file with arrays of these shapes, under the groups' names; without any, of one to be written.

        Raises:
            UserError: the format has no place for a part of the model.
        """
        ...

    def sidecars(self, description: Description) -> dict[str, Any]:
        """`{file name: JSON}` of what the format's own library wants beside the file."""
        ...


@functools.lru_cache(maxsize=16)
def parameter_shapes(arch: Architecture) -> Mapping[str, Shape]:
    """The shapes of an architecture's parameters, by published name."""
    params = abstract_params(arch)
    flat = flatten(params)
    return {name: flat[path].shape[int(layer is not None) :] for name, (path, layer) in places(params).items()}


def need_place(name: str, arch: Architecture, **allowed: Sequence[Any]) -> None:
    """Raises UserError where a field of the architecture is none of those that a format has a place for."""
    for key, values in allowed.items():
        if getattr(arch, key) not in values:
            raise UserError(
                f"the format {name} has no place for {key}={getattr(arch, key)!r}; "
                "write the format original (.npz), which has one for everything"
            )


@contextlib.contextmanager
def understood(name: str, what: str) -> Iterator[None]:
    """Turns what a value of another type than expected raises in a part of a side file into one sentence."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{what} beside {name} can't be used: {error}") from error
    except (TypeError, ValueError, ArithmeticError, LookupError, AttributeError) as error:
        raise UserError(
            f"{what} beside {name} can't be understood ({line(error)}); mend it, or move it away"
        ) from error


def sized(table_tokens: int, stride: tuple[int, int], about: About) -> tuple[int, int]:
    """The image size whose grid a table of so many patches holds: that of the keyword if as many, else a square."""
    if "image_size" in about.keywords:
        given = about.keywords["image_size"]
        height, width_px = (given, given) if isinstance(given, int) else given
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
    """How many units each stage of a ResNet has."""
    units: dict[int, int] = {}
    for name in names:
        if found := re.search(r"block(\d+)/unit(\d+)/", name):
            units[int(found[1])] = max(units.get(int(found[1]), 0), int(found[2]))
    return tuple(units[block] for block in sorted(units))
