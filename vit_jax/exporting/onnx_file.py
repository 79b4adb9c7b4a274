"""ONNX files, converted by jax2onnx and run by onnxruntime.

The file of a bfloat16 model holds its weights in bfloat16, and computes in float32: onnxruntime has hardly an operator
for bfloat16 on CPUs.
"""

import contextlib
import dataclasses
import importlib
import importlib.metadata
import logging
import pkgutil
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from etils import epath

from vit_jax.checkpoints import files
from vit_jax.errors import UserError
from vit_jax.exporting.function import DYNAMIC, INPUT, Exported, changed
from vit_jax.exporting.primitives import simplified

OPSET = 21  # of the operators; the first with LayerNormalization (17) and Gelu (20) for all of their types
_BINARY = ("Add", "Sub", "Mul", "Div", "Max", "Min")


def write(what: Exported, path: epath.Path) -> None:
    """Writes the file, which onnx's checker has checked.

    Raises:
        UserError: jax2onnx can't convert a part of the model.
    """
    import onnx

    unrolled = changed(what.model, scan=False, remat="none")
    try:
        with _quiet():
            proto = _converted(dataclasses.replace(what, model=unrolled))
            _drop_expansions(proto.graph)
            if what.batch:
                _fix_batch(proto.graph, what.batch)
            onnx.checker.check_model(proto, full_check=True)
    except Exception as error:  # of any kind, from any part of the converter
        raise UserError(
            f"jax2onnx can't convert this model ({files.line(error)}); take OUT.stablehlo, and report this with the "
            "output of vit_jax.convert --info"
        ) from error
    path.write_bytes(proto.SerializeToString())


def _converted(what: Exported) -> Any:
    """Returns the ONNX model, as a protocol buffer."""
    import jax2onnx

    _load_plugins()
    function, batch = what.function(), jax.export.symbolic_shape(DYNAMIC)[0]
    return jax2onnx.to_onnx(
        lambda images: simplified(function, images),
        [what.spec(batch)],
        model_name="vit_jax",
        opset=OPSET,
        input_names=[INPUT],
        output_names=[what.output],
    )


def opened(path: epath.Path) -> Callable[[np.ndarray], np.ndarray]:
    """Returns the function in a file, from images to the output, as onnxruntime computes it on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
    return lambda images: session.run(None, {INPUT: images})[0]


def versions() -> dict[str, object]:
    """Returns what the description of a file says of its format."""
    return {"format": "onnx", "opset": OPSET, "jax2onnx": importlib.metadata.version("jax2onnx")}


def _load_plugins() -> None:
    """Imports the parts of jax2onnx that are needed here.

    It would import all in the first conversion, among them some for Equinox, which initialise and compile layers while
    they are imported, and some that replace functions of Flax by others with fewer arguments.
    """
    from jax2onnx.plugins import plugin_system
    from jax2onnx.plugins.jax import core, lax

    for package in (core, lax):
        for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            importlib.import_module(module.name)
    for name in ("jax.nn.gelu", "jax.nn.softmax", "flax.nnx.layer_norm"):  # one operator of ONNX instead of several
        importlib.import_module(f"jax2onnx.plugins.{name}")
    plugin_system._already_imported_plugins = True


def _drop_expansions(graph: Any) -> None:
    """Removes the operators that expand one operand of a sum or a product to the shape of the other one.

    ONNX does this in the sum itself, without another array in memory.
    """
    typed = {each.name: each.type.tensor_type.shape.dim for each in (*graph.value_info, *graph.input)}
    shapes = {name: [each.dim_param or each.dim_value for each in dims] for name, dims in typed.items()}
    shapes |= {each.name: list(each.dims) for each in graph.initializer}
    expanded = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "Expand"}
    for node in graph.node:
        if node.op_type in _BINARY and sum(name in expanded for name in node.input) == 1:
            one, other = sorted(node.input, key=lambda name: name not in expanded)
            if shapes.get(one) is not None and shapes.get(one) == shapes.get(other):
                node.input[:] = [expanded.get(name, name) for name in node.input]
    used = {output.name for output in graph.output}
    kept: list[Any] = []
    for node in reversed(graph.node):
        if used.intersection(node.output):
            used.update(node.input)
            kept.insert(0, node)
    initializers = [each for each in graph.initializer if each.name in used]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(kept)
    graph.initializer.extend(initializers)


def _fix_batch(graph: Any, batch: int) -> None:
    """Fixes the number of images of a batch."""
    del graph.value_info[:]  # shapes with the symbolic size
    for each in (*graph.input, *graph.output):
        each.type.tensor_type.shape.dim[0].dim_value = batch


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hides what jax2onnx logs and warns about its own parts."""
    loggers = [logging.getLogger(name) for name in ("jax2onnx", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def bytes_of_weight(what: Exported) -> int:
    """Returns the bytes that a weight takes in the file."""
    return 2 if what.model.arch.dtype == "bfloat16" else 4
