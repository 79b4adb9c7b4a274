"""The files of DINOv3's Vision Transformers (2508.10104), with the names of timm and of transformers.

These models have no table of position embeddings: the queries and keys of patches have rotary positions in coordinates
from -1 to 1. They have register tokens, LayerScale, and no biases of keys.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from vit_jax.checkpoints.containers import Shape
from vit_jax.checkpoints.formats import torch_names as torch
from vit_jax.checkpoints.formats import torch_preprocessing
from vit_jax.checkpoints.formats.base import NOTHING, About, Description, need_place
from vit_jax.checkpoints.formats.timm import hub_config, sizes
from vit_jax.checkpoints.formats.torch_names import convolution, dense, fused, norm
from vit_jax.checkpoints.groups import Group, padding, reshaped, same
from vit_jax.errors import UserError
from vit_jax.models.architecture import Architecture, VitArchitecture

_POOLS = {"token": "tok", "avg": "gap"}
_ROPES = {"dinov3": "unit"}
_NORM_EPS = 1e-5


class TimmDinov3:
    """The names of timm's class `Eva`. Queries, keys and values are one array; their biases are separate."""

    name, suffix = "timm", ".safetensors"

    def rename(self, names: Iterable[str]) -> dict[str, str] | None:
        """See `base.Format.rename`. Other models of timm's Eva lack one of the special tokens, or have positions."""
        found = {name: name for name in names}
        own = {"patch_embed.proj.weight", "blocks.0.attn.qkv.weight", "blocks.0.gamma_1", "cls_token", "reg_token"}
        return found if own <= found.keys() and "pos_embed" not in found else None

    def describe(self, shapes: Mapping[str, Shape], about: About) -> Description:
        """See `base.Format.describe`."""
        config = about.config
        args, pretrained = about.setting("model_args", dict, {}), about.setting("pretrained_cfg", dict, {})
        width, mlp_dim = shapes["cls_token"][-1], shapes["blocks.0.mlp.fc2.weight"][1]
        packed = shapes.get("blocks.0.mlp.fc1.weight")
        heads = torch.first(about.setting("num_heads", int, of=args), about.keywords.get("num_heads"))
        if (
            heads is None and "architecture" in config
        ):  # published models have heads of 64 features; the 7B model has heads of 128
            heads = width // (128 if width == 4096 else 64) or None
        pool = torch.first(about.setting("global_pool", str, of=args), about.setting("global_pool", str), "avg")
        arch = _architecture(
            about,
            shapes["patch_embed.proj.weight"],
            depth=torch.depth(shapes, "blocks.", ".norm1.weight"),
            mlp_dim=mlp_dim,
            num_heads=heads,
            num_classes=torch.length(shapes, "head.weight"),
            registers=shapes["reg_token"][1],
            pool=torch.known("global_pool", pool, _POOLS, about),
            norm_after_pool="fc_norm.weight" in shapes,
            norm_eps=_NORM_EPS,
            qkv_bias="blocks.0.attn.q_bias" in shapes,
            layer_scale=about.setting("init_values", float, of=args) or None,
            rope=about.setting("rope_temperature", float, of=args),
            rope_coordinates=torch.known("rope_type", about.setting("rope_type", str, "dinov3", args), _ROPES, about),
            mlp="gelu_erf" if packed is not None and packed[0] == mlp_dim else "swiglu",
            image_size=torch.first(
                about.setting("img_size", int | tuple[int, int], of=args),
                about.setting("input_size", tuple[int, int, int], (), pretrained)[1:] or None,
            ),
        )
        preprocessing = torch_preprocessing.from_timm(about, arch, "dinov3")
        return Description(arch, preprocessing, torch.listed(config.get("label_names")))

    def groups(self, arch: Architecture, shapes: Mapping[str, Shape] = NOTHING) -> list[Group]:
        """See `base.Format.groups`."""
        arch = torch.vit_of(arch, self.name)
        _need_dinov3(self.name, arch)
        need_place(self.name, arch, mlp=["gelu_erf", "swiglu"], pool=["tok", "gap"], norm_eps=[_NORM_EPS])
        need_place(self.name, arch, registers=[arch.registers or 4])
        if arch.qkv_bias:
            need_place(self.name, arch, key_bias=[False])
        groups = convolution("patch_embed.proj", "embedding", (*arch.patch_size, 3, arch.width))
        groups += torch.with_special_positions(arch, "", "reg_token", 0, "cls_token")
        gate = "blocks.0.mlp.fc1_g.weight" in shapes or not shapes
        for layer in range(arch.depth):
            groups += _timm_block(f"blocks.{layer}", layer, arch, gate)
        groups += norm("norm", "Transformer/encoder_norm", arch.width) + norm("fc_norm", "vit_jax/fc_norm", arch.width)
        groups += dense("head", "head", (arch.width, arch.num_classes))
        return torch.kept(groups, arch)

    def sidecars(self, description: Description) -> dict[str, Any]:
        """Returns the `config.json` from which `timm.create_model("local-dir:FOLDER")` builds the model."""
        arch = description.architecture
        assert isinstance(arch, VitArchitecture)
        args: dict[str, Any] = {
            **sizes(arch, arch.mlp_dim),
            "num_reg_tokens": arch.registers,
            "global_pool": {pool: name for name, pool in _POOLS.items()}[arch.pool],
            "use_fc_norm": arch.norm_after_pool,
            "rope_temperature": arch.rope,
        }
        if arch.mlp != "swiglu":
            return {"config.json": hub_config("vit_small_patch16_dinov3_qkvb", args, description)}
        args["swiglu_align_to"] = 1  # so that timm does not round the width of the MLP up to a multiple of 8
        return {"config.json": hub_config("vit_small_plus_patch16_dinov3_qkvb", args, description)}


class TransformersDinov3:
    """The names of transformers' `DINOv3ViTModel`, which has no head."""

    name, suffix = "transformers", ".safetensors"

    def rename(self, names: Iterable[str]) -> dict[str, str] | None:
        """See `base.Format.rename`. The layers' names begin with `model.` in a state that is saved by hand."""
        found = {name.removeprefix("model.") if name.startswith("model.layer.") else name: name for name in names}
        own = {"embeddings.patch_embeddings.weight", "layer.0.attention.q_proj.weight"}
        return found if own <= found.keys() else None

    def describe(self, shapes: Mapping[str, Shape], about: About) -> Description:
        """See `base.Format.describe`."""
        gated = "layer.0.mlp.gate_proj.weight" in shapes
        activation = about.setting("hidden_act", str, "silu" if gated else "gelu")
        registers = shapes.get("embeddings.register_tokens")
        arch = _architecture(
            about,
            shapes["embeddings.patch_embeddings.weight"],
            depth=torch.depth(shapes, "layer.", ".norm1.weight"),
            mlp_dim=shapes["layer.0.mlp.down_proj.weight"][1],
            num_heads=torch.first(about.setting("num_attention_heads", int), about.keywords.get("num_heads")),
            num_classes=0,
            registers=registers[1] if registers else about.setting("num_register_tokens", int, 4),
            pool="tok",
            norm_after_pool=False,
            norm_eps=about.setting("layer_norm_eps", float, _NORM_EPS),
            qkv_bias="layer.0.attention.q_proj.bias" in shapes,
            key_bias="layer.0.attention.k_proj.bias" in shapes,
            layer_scale=about.setting("layerscale_value", float) or None,
            rope=about.setting("rope_theta", float),
            mlp=torch.known("hidden_act", activation, {"silu": "swiglu"} if gated else torch.ACTIVATIONS, about),
            image_size=about.setting("image_size", int | tuple[int, int]),
        )
        return Description(arch, torch_preprocessing.from_transformers(about, "dinov3", arch))

    def groups(self, arch: Architecture, shapes: Mapping[str, Shape] = NOTHING) -> list[Group]:
        """See `base.Format.groups`."""
        arch = torch.vit_of(arch, self.name)
        _need_dinov3(self.name, arch)
        if arch.pool != "tok":
            raise UserError(
                f"the format {self.name} has no place for pool={arch.pool!r}: the features of its DINOv3 are the class "
                "token's; load the model with pool='tok', or write the format timm or original"
            )
        need_place(self.name, arch, norm_after_pool=[False], num_classes=[0])
        if not shapes:  # the library would write an empty array for no registers, which can't be read
            need_place(self.name, arch, registers=[arch.registers or 4])
        tokens, width = "embeddings.", arch.width
        groups = convolution(f"{tokens}patch_embeddings", "embedding", (*arch.patch_size, 3, width))
        groups += torch.with_special_positions(arch, "", f"{tokens}register_tokens", 0, f"{tokens}cls_token")
        for layer in range(arch.depth):
            groups += _transformers_block(f"layer.{layer}", layer, arch)
        if not shapes or f"{tokens}mask_token" in shapes:
            groups.append(padding(f"{tokens}mask_token", (1, 1, width)))
        return torch.kept(groups + norm("norm", "Transformer/encoder_norm", width), arch)

    def sidecars(self, description: Description) -> dict[str, Any]:
        """Returns the `config.json` and `preprocessor_config.json` that `from_pretrained` reads."""
        arch, preprocessing, _ = description
        assert isinstance(arch, VitArchitecture) and preprocessing is not None
        config = {
            "architectures": ["DINOv3ViTModel"],
            "model_type": "dinov3_vit",
            "hidden_size": arch.width,
            "num_hidden_layers": arch.depth,
            "intermediate_size": arch.mlp_dim,
            "num_attention_heads": arch.num_heads,
            "hidden_act": {"gelu_erf": "gelu", "gelu": "gelu_pytorch_tanh", "swiglu": "silu"}[arch.mlp],
            "use_gated_mlp": arch.mlp == "swiglu",
            "num_register_tokens": arch.registers,
            "query_bias": arch.qkv_bias,
            "key_bias": arch.qkv_bias and arch.key_bias,
            "value_bias": arch.qkv_bias,
            "rope_theta": arch.rope,
            "layer_norm_eps": arch.norm_eps,
            "layerscale_value": arch.layer_scale,
            "image_size": torch.number_or_pair(arch.image_size),
            "patch_size": torch.number_or_pair(arch.patch_size),
            "num_channels": 3,
        }
        return {"config.json": config, "preprocessor_config.json": torch_preprocessing.to_transformers(preprocessing)}


def _architecture(about: About, kernel: Shape, **found: Any) -> VitArchitecture:
    """Returns the architecture of a file whose patches are embedded by a kernel of this shape.

    `found` are its fields. What is None there comes from the keywords of `load`, or has the value of published models.

    Raises:
        UserError: nothing says how many heads there are, or the fields do not fit together.
    """
    published = {"layer_scale": 1e-5, "rope": 100.0, "rope_coordinates": "unit", "key_bias": False}
    given = {key: value for key, value in found.items() if value is not None}
    if "num_heads" not in given:
        given["num_heads"] = about.need("num_heads", "how many heads it has")
    width, _, *patch = kernel
    return VitArchitecture.of(
        **{**published, **about.fields_of(VitArchitecture), **given}
        | {"width": width, "patch_size": patch, "class_token": True, "posemb": "none"}
    )


def _need_dinov3(format: str, arch: VitArchitecture) -> None:
    """Raises UserError for an architecture with a part that DINOv3's models do not have."""
    need_place(
        format, arch, stages=[None], attention=["full"], parallel=[False], qk_norm=[False], posemb=["none"],
        posemb_at=["stem"], pre_logits=[0], distilled=[False], class_token=[True], rope_coordinates=["unit"],
        layer_scale=[arch.layer_scale or 1.0],
    )  # fmt: skip


def _timm_block(file: str, layer: int, arch: VitArchitecture, separate_gate: bool) -> list[Group]:
    name, attention, width = torch.block(layer), torch.attention(layer), arch.width
    heads = (arch.num_heads, width // arch.num_heads)
    parts = [f"{attention}/{part}/kernel" for part in ("query", "key", "value")]
    return [
        *norm(f"{file}.norm1", f"{name}/LayerNorm_0", width),
        fused(f"{file}.attn.qkv.weight", parts, (width, *heads)),
        reshaped(f"{file}.attn.q_bias", (width,), f"{attention}/query/bias", heads),
        reshaped(f"{file}.attn.v_bias", (width,), f"{attention}/value/bias", heads),
        *torch.attended(f"{file}.attn.proj", attention, arch),
        same(f"{file}.gamma_1", f"{torch.extra(layer)}/scale1", (width,)),
        *norm(f"{file}.norm2", f"{name}/LayerNorm_2", width),
        same(f"{file}.gamma_2", f"{torch.extra(layer)}/scale2", (width,)),
        *torch.timm_mlp(f"{file}.mlp", layer, arch, separate_gate),
    ]


def _transformers_block(file: str, layer: int, arch: VitArchitecture) -> list[Group]:
    name, mlp, kernel = torch.block(layer), f"{torch.block(layer)}/MlpBlock_3", (arch.width, arch.mlp_dim)
    return [
        *norm(f"{file}.norm1", f"{name}/LayerNorm_0", arch.width),
        *torch.projections(f"{file}.attention.", ("q_proj", "k_proj", "v_proj"), torch.attention(layer), arch),
        *torch.attended(f"{file}.attention.o_proj", torch.attention(layer), arch),
        same(f"{file}.layer_scale1.lambda1", f"{torch.extra(layer)}/scale1", (arch.width,)),
        *norm(f"{file}.norm2", f"{name}/LayerNorm_2", arch.width),
        same(f"{file}.layer_scale2.lambda1", f"{torch.extra(layer)}/scale2", (arch.width,)),
        *dense(f"{file}.mlp.gate_proj", f"{torch.extra(layer)}/mlp/gate", kernel),
        *dense(f"{file}.mlp.up_proj", f"{mlp}/Dense_0", kernel),
        *dense(f"{file}.mlp.down_proj", f"{mlp}/Dense_1", kernel[::-1]),
    ]
