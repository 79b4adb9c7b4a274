"""Convert a checkpoint from one format to another.

    python -m vit_jax.convert ViT-B_16.npz model.safetensors --format=transformers
    python -m vit_jax.convert RUN_FOLDER model.safetensors
    python -m vit_jax.convert --list
    python -m vit_jax.convert --info ViT-B_16.npz

The command takes two files, IN and OUT. IN is a run's folder, an .npz of the original code, big_vision, BiT or Mixer,
or a .safetensors of timm or transformers, also in shards. It is local, gs:// or https://.

OUT ends in .npz or .safetensors. --format is the format to write: original (the default), big_vision, big_vision_scan
or bit for .npz; timm (the default) or transformers for .safetensors.

--info prints what a file holds, without reading its weights: format, architecture, classes, number of parameters,
operations per image and preprocessing. The flags --num_heads, --posemb and --image_size say what a file does not tell.
"""

import sys

from absl import flags

from vit_jax import command_line
from vit_jax.errors import UserError

_FORMAT = flags.DEFINE_string("format", None, "The naming to write; by default original or timm, by OUT's suffix.")
_OVERWRITE = flags.DEFINE_bool(
    "overwrite",
    False,
    "Replace OUT, and what describes it, if it is there; what describes another model or a run never is.",
)
_LIST = flags.DEFINE_bool("list", False, "List the public checkpoints that can be loaded by name.")
_INFO = flags.DEFINE_string("info", None, "Tell what is in this file or folder; nothing is written.")
_FILE_KEYWORDS = command_line.define_file_keywords()


def main(args: list[str], overrides: list[command_line.Override]) -> None:
    command_line.refuse_config("convert", overrides)
    if _LIST.value:
        from vit_jax.checkpoints import fetch

        command_line.say(*fetch.public_names())
        return
    if _INFO.value:
        if args:
            raise UserError(f"--info takes one file and writes nothing; leave out {args[0]}")
        from vit_jax.checkpoints import info

        command_line.say(info.describe(_INFO.value, **_FILE_KEYWORDS()))
        return
    if len(args) != 2:
        raise UserError("convert takes two files, IN and OUT; --list shows the public checkpoints")
    (source, target), keywords = args, _FILE_KEYWORDS()
    from etils import epath

    from vit_jax.checkpoints import files

    files.check_place(epath.Path(target), _OVERWRITE.value)
    from vit_jax.checkpoints import model_file  # imports JAX, which is slow: after the checks

    model_file.convert(source, target, _FORMAT.value, overwrite=_OVERWRITE.value, **keywords)
    command_line.say(f"wrote {target}")


if __name__ == "__main__":
    command_line.run(main, sys.modules[__name__].__doc__ or "")
