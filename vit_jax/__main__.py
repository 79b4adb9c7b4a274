"""The command `vit_jax`, whose first argument is a verb: `vit_jax train …` is `python -m vit_jax.main …`, and so on."""

import runpy
import sys

import vit_jax

# The verb, its module, and what it does.
VERBS = (
    ("train", "main", "train a model, or continue to train it"),
    ("evaluate", "evaluate", "judge models by the evaluations of a config"),
    ("predict", "predict", "classify images"),
    ("convert", "convert", "convert a checkpoint from one format to another"),
    ("export", "export", "write a model as ONNX or StableHLO, to run it without this package"),
    ("analyze", "analyze", "draw what a model has learned, as the figures of the paper"),
    ("study", "study", "make many runs, and draw figures and a table of their results"),
    ("prepare", "prepare", "write a data set so that training reads it fast"),
    ("demo", "demo", "show a model on a web page"),
    ("plan", "plan", "compile a job for a TPU slice, on a machine that has none"),
)


def main() -> None:
    """Runs the verb that the first argument names, with the other arguments, and exits with its exit code."""
    name, *rest = [*sys.argv[1:], "--help"][: max(1, len(sys.argv) - 1)]
    if name in ("--help", "-h", "help"):
        print("Vision Transformers in JAX.\n\n    vit_jax VERB --help\n")
        print("\n".join(f"    {verb:<9}{what}" for verb, _, what in VERBS))
    elif name == "--version":
        print(vit_jax.__version__)
    elif modules := [module for verb, module, _ in VERBS if verb == name]:
        sys.argv = [f"vit_jax {name}", *rest]
        runpy.run_module(f"vit_jax.{modules[0]}", run_name="__main__", alter_sys=True)
    else:
        print(f"error: vit_jax has no verb {name!r}; it has {', '.join(verb for verb, *_ in VERBS)}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
