"""Error messages for names that are no checkpoint of a known format; each says how to get or convert such weights."""

import re
import shlex

from etils import epath

# A command that converts a PyTorch file to safetensors. The file may hold a state dict, or a dict that contains one, as
# training programs write it; the part with the most tensors is taken.
_TO_SAFETENSORS = (
    'python -c "import sys, torch, safetensors.torch as s; '
    "d = torch.load(sys.argv[1], map_location='cpu', weights_only=True); "
    "n = lambda c: sum(map(torch.is_tensor, c.values())) if isinstance(c, dict) else 0; "
    "d = max([*map(d.get, ('teacher', 'state_dict', 'model')), d, *d.values()], key=n); "
    "n(d) or sys.exit('no weights found in ' + sys.argv[1]); "
    's.save_file({k: v.contiguous().clone() for k, v in d.items() if torch.is_tensor(v)}, sys.argv[2])"'
)
_PYTORCH = (".bin", ".pth", ".pt", ".ckpt", ".pkl", ".tar")
_OTHERS = {".h5": "TensorFlow", ".msgpack": "Flax", ".onnx": "ONNX", ".gguf": "GGUF", ".tflite": "TensorFlow Lite"}
# Files of other formats in model folders of the Hugging Face hub, which may lie there without a .safetensors.
_OF_HUB = ("pytorch_model.bin", "pytorch_model.bin.index.json", "tf_model.h5", "flax_model.msgpack")


def other_suffix(path: epath.Path) -> str:
    """Returns the error message for a file whose name does not end as those of checkpoints that are read.

    For a file of PyTorch or of another known library it says what to do with it.
    """
    if path.name.endswith(".bin.index.json"):
        return (
            f"{path} is the index of a PyTorch checkpoint in shards, whose pickles are not read here; load the model "
            "with transformers where it is trusted and save it with save_pretrained(…, safe_serialization=True)"
        )
    if path.suffix in _PYTORCH:
        target = path.with_suffix(".safetensors").name
        target = "model.safetensors" if target == "pytorch_model.safetensors" else target
        return (
            f"{path} is a pickle of PyTorch, which is not read here, since loading one can run any program; turn it "
            f"into safetensors where PyTorch is installed: {_TO_SAFETENSORS} {shlex.quote(str(path))} "
            f"{shlex.quote(str(path.parent / target))}"
        )
    if path.suffix in _OTHERS:
        return (
            f"{path} is a file of {_OTHERS[path.suffix]}, which is not read here; name the .safetensors or .npz of the "
            "same model"
        )
    return f"{path} has no suffix that says a format; checkpoints end in .npz, .safetensors or .safetensors.index.json"


def no_model_in(folder: epath.Path) -> str:
    """Returns the error message for a folder that holds neither a run nor a checkpoint."""
    found = sorted(path.name for path in folder.iterdir())
    if known := [name for name in _OF_HUB if name in found]:
        return f"{folder} has no .safetensors: {other_suffix(folder / known[0])}"
    if files := [name for name in found if name.endswith((".npz", ".safetensors"))]:
        return (
            f"{folder} holds {len(files)} checkpoints under names of their own; name one, such as {folder / files[0]}"
        )
    holds = ", ".join(found[:8]) + (f" and {len(found) - 8} more" if len(found) > 8 else "") if found else "nothing"
    return (
        f"{folder} is no run's folder with a model and no checkpoint's; it has neither model.npz nor model.safetensors "
        f"nor checkpoints, and holds {holds}"
    )


def missing(name: str) -> str:
    """Returns the error message for a checkpoint that does not exist.

    If `name` looks like the name of a model, here or on the Hugging Face hub, the message says how to get its weights.
    """
    fetch_from_hub = (
        "weights of the hub are fetched with its own command, hf download NAME --local-dir FOLDER, and loaded by the "
        "name of that folder"
    )
    if found := re.fullmatch(r"hf(?:-hub)?:(?://)?(.+)", name):
        return f"{name} can't be opened from here; {fetch_from_hub} (NAME is {found[1]})"
    if re.fullmatch(r"(R\d*\+)?(Ti|S|B|L|H|g|G|e|So400m|22B)/\d+|(Mixer|BiT|DINOv3)-\S+", name):
        return (
            f"there is no checkpoint {name}; that is the name of a model and not of a file with its weights: "
            "python -m vit_jax.convert --list lists the public ones, such as augreg:B/16, and vit_jax.create makes a "
            "model without weights"
        )
    if re.fullmatch(r"(timm/)?[a-z]\w+_patch\d+\w*(\.\w+)?", name) or re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        return f"there is no file or folder {name}; if it names a model of the hub: {fetch_from_hub}"
    return f"there is no checkpoint {name}"
