"""Makes the goldens of DINOv3 other than hf_dinov3, from random weights, with timm and transformers.

    pip install torch timm transformers      # as committed: torch 2.14.1, timm 1.0.31, transformers 5.24.0
    python tests/goldens/make_dinov3.py

hf_dinov3_gated     transformers' DINOv3ViTModel with the gated MLP; `logits` is its last hidden state
timm_dinov3         timm's vit_small_patch16_dinov3_qkvb, made small, with a head
timm_dinov3_gated   timm's vit_small_plus_patch16_dinov3, made small, without biases of queries and values and a head
dinov3_other_size   for these and hf_dinov3 `NAME/image`, of another size, and `NAME/encoded`
"""

import json
import pathlib
import shutil
import tempfile

import numpy as np
import timm
import torch
from safetensors.torch import save_file
from timm.models._hub import save_config_for_hf
from transformers import DINOv3ViTConfig, DINOv3ViTModel

HERE = pathlib.Path(__file__).parent
# The sizes in place of the published ones of timm's models.
SMALL = {"embed_dim": 32, "depth": 2, "num_heads": 2, "patch_size": 8, "img_size": 32}


def draw(model: torch.nn.Module, seed: int) -> torch.nn.Module:
    """Gives every parameter values away from zero, those of norms' scales around one."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        values = torch.randn(parameter.shape, generator=generator)
        if "norm" in name and name.endswith("weight"):
            parameter.data = 1 + 0.1 * values
        elif parameter.ndim > 1 and "token" not in name:
            parameter.data = values * parameter[0].numel() ** -0.5
        else:
            parameter.data = 0.3 * values
    return model.eval()


def images(seed: int, height: int, width_px: int) -> torch.Tensor:
    return torch.randn(2, 3, height, width_px, generator=torch.Generator().manual_seed(seed))


def channels_last(images: torch.Tensor) -> np.ndarray:
    return images.permute(0, 2, 3, 1).numpy()


@torch.no_grad()
def of_transformers(folder: pathlib.Path) -> dict[str, np.ndarray]:
    """Writes hf_dinov3_gated; returns its and hf_dinov3's part of dinov3_other_size."""
    config = DINOv3ViTConfig(
        hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2, patch_size=8, image_size=32,
        num_register_tokens=4, use_gated_mlp=True, hidden_act="silu", layerscale_value=0.5,
    )  # fmt: skip
    gated = draw(DINOv3ViTModel(config), 1)
    gated.save_pretrained(folder)
    shutil.copy(folder / "model.safetensors", HERE / "hf_dinov3_gated.safetensors")
    x, written = images(2, 32, 32), (folder / "config.json").read_text()
    logits = gated(x).last_hidden_state
    np.savez_compressed(HERE / "hf_dinov3_gated.npz", image=channels_last(x), logits=logits, config=written)
    shutil.copy(HERE / "hf_dinov3.safetensors", folder / "model.safetensors")
    (folder / "config.json").write_text(str(np.load(HERE / "hf_dinov3.npz")["config"]))
    plain = DINOv3ViTModel.from_pretrained(folder).eval()
    found = {}
    for name, model, size in (("hf_dinov3_gated", gated, (24, 40)), ("hf_dinov3", plain, (32, 80))):
        x = images(3, *size)
        found |= {f"{name}/image": channels_last(x), f"{name}/encoded": model(x).last_hidden_state.numpy()}
    return found


@torch.no_grad()
def of_timm(folder: pathlib.Path, name: str, architecture: str, **settings: float) -> dict[str, np.ndarray]:
    """Writes a golden of timm; returns its part of dinov3_other_size."""
    args = {**SMALL, **settings}
    model = draw(timm.create_model(architecture, **args), 4)
    save_file(model.state_dict(), HERE / f"{name}.safetensors", metadata={"format": "pt"})
    save_config_for_hf(model, folder / "config.json", model_args=args)
    x, config = images(5, 32, 32), json.dumps(json.loads((folder / "config.json").read_text()))
    encoded = model.forward_features(x)
    np.savez_compressed(
        HERE / f"{name}.npz", image=channels_last(x), encoded=encoded, logits=model(x), config=config
    )  # fmt: skip
    x = images(6, 24, 40)
    return {f"{name}/image": channels_last(x), f"{name}/encoded": model.forward_features(x).numpy()}


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        found = of_transformers(folder)
        found |= of_timm(folder, "timm_dinov3", "vit_small_patch16_dinov3_qkvb", mlp_ratio=2.0, num_classes=5)
        found |= of_timm(folder, "timm_dinov3_gated", "vit_small_plus_patch16_dinov3", mlp_ratio=1.5, num_classes=0)
    np.savez_compressed(HERE / "dinov3_other_size.npz", **found)


if __name__ == "__main__":
    main()
