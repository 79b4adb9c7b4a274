"""The format of timm: the `state_dict()` of its `VisionTransformer` as `.safetensors`, with a `config.json`."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from vit_jax.checkpoints.containers import Shape
from vit_jax.checkpoints.formats import torch_names as torch
from vit_jax.checkpoints.formats import torch_preprocessing
from vit_jax.checkpoints.formats.base import NOTHING, About, Description, need_place, sized
from vit_jax.checkpoints.formats.torch_names import convolution, dense, fused, fused_bias, norm
from vit_jax.checkpoints.groups import Group, same
from vit_jax.models.architecture import Architecture, VitArchitecture

# A config.json may name a published architecture without its arguments. These patterns of timm 1.0's names tell which
# of them have 16 heads of a width other than 64, and which have the tanh approximation of GELU.
_SIXTEEN = re.compile(r"giantopt|vit_base_patch16_gap_224")
_TANH = re.compile(r"patch32_siglip|so400m_patch16_siglip|giantopt|large_patch16_siglip(_gap)?_512")
_POOLS = {"token": "tok", "avg": "gap", "map": "map"}
_ACTIVATIONS = {"gelu": "gelu_erf", "gelu_tanh": "gelu"}


class Timm:
    """The format `timm`.

    It stores queries, keys and values of a layer as one array. It can store registers, LayerScale, SwiGLU, a second
    head for distillation, and all kinds of pooling except `tok+gap`.
    """

    name, suffix = "timm", ".safetensors"

    def rename(self, names: Iterable[str]) -> dict[str, str] | None:
        """See `base.Format.rename`."""
        found = {name: name for name in names}
        return found if {"patch_embed.proj.weight", "blocks.0.attn.qkv.weight"} <= found.keys() else None

    def describe(self, shapes: Mapping[str, Shape], about: About) -> Description:
        """See `base.Format.describe`."""
        config, keywords = about.config, about.keywords
        args = config if "embed_dim" in config else about.setting("model_args", dict, {})
        width, _, *patch = shapes["patch_embed.proj.weight"]
        qk_norm = shapes.get("blocks.0.attn.q_norm.weight")
        told, name = about.setting("num_heads", int, of=args), about.setting("architecture", str, "")
        heads = torch.first(width // qk_norm[0] if qk_norm else None, told, keywords.get("num_heads"))
        if heads is None and name:
            heads = _published_heads(name, width)
        if heads is None:
            heads = about.need("num_heads", "how many heads its fused queries, keys and values have")
        mlp_dim, packed = shapes["blocks.0.mlp.fc2.weight"][1], shapes.get("blocks.0.mlp.fc1.weight")
        class_token, registers = "cls_token" in shapes, shapes.get("reg_token", shapes.get("dist_token", (1, 0)))[1]
        fc_norm = "fc_norm.weight" in shapes
        pool = torch.first(about.setting("global_pool", str, of=args), about.setting("global_pool", str)) or None
        activation = about.setting("act_layer", str, of=args) or ("gelu_tanh" if _TANH.search(name) else "gelu")
        pretrained = about.setting("pretrained_cfg", dict, {})
        table = shapes.get("pos_embed", (1, 0))[1]
        given = torch.first(
            about.setting("img_size", int | tuple[int, int], of=args),
            about.setting("input_size", tuple[int, int, int], (), pretrained)[1:] or None,
        )
        image_size = torch.first(given, keywords.get("image_size"))
        rows = torch.prefix_rows(table, class_token + registers, int(class_token), image_size, (patch[0], patch[1]))
        if given is not None:
            about = about._replace(keywords={**keywords, "image_size": given})
        swiglu = "blocks.0.mlp.fc1_g.weight" in shapes or (packed is not None and packed[0] == 2 * mlp_dim)
        if "attn_pool.latent" in shapes or pool is None:
            pool = "map" if "attn_pool.latent" in shapes else "token" if class_token and not fc_norm else "avg"
        found = {
            "patch_size": patch,
            "width": width,
            "depth": torch.depth(shapes, "blocks.", ".norm1.weight"),
            "mlp_dim": mlp_dim,
            "num_heads": heads,
            "num_classes": torch.length(shapes, "head.weight"),
            "class_token": class_token,
            "registers": registers,
            "pool": torch.known("global_pool", pool, _POOLS, about),
            "norm_after_pool": fc_norm,
            "posemb": "learned" if table else keywords.get("posemb", "none"),
            "posemb_resample": "bicubic_antialias",
            "qk_norm": qk_norm is not None,
            "qkv_bias": "blocks.0.attn.qkv.bias" in shapes,
            "layer_scale": (about.setting("init_values", float, of=args) or 1e-5)
            if "blocks.0.ls1.gamma" in shapes
            else 0.0,
            "mlp": "swiglu" if swiglu else torch.known("act_layer", activation, _ACTIVATIONS, about),
            "distilled": "head_dist.weight" in shapes,
        }
        if table:
            found["image_size"] = sized(table - rows, (patch[0], patch[1]), about)
        elif image_size is not None:
            found["image_size"] = image_size
        arch = VitArchitecture.of(**{**about.fields_of(VitArchitecture), **found})
        preprocessing = torch_preprocessing.from_timm(about, arch, "deit" if "dist_token" in shapes else "vit")
        return Description(arch, preprocessing, torch.listed(config.get("label_names")))

    def groups(self, arch: Architecture, shapes: Mapping[str, Shape] = NOTHING) -> list[Group]:
        """See `base.Format.groups`."""
        arch = torch.vit_of(arch, self.name)
        need_place(
            self.name, arch, stages=[None], attention=["full"], parallel=[False], rope=[0.0], pre_logits=[0],
            posemb=["learned", "none"], posemb_at=["stem"], pool=["tok", "gap", "map"], key_bias=[True],
        )  # fmt: skip
        if arch.norm_eps > 1e-6:  # timm uses 1e-6, and a smaller epsilon changes the results by no more than rounding
            need_place(self.name, arch, norm_eps=[1e-6])
        distilled = arch.distilled or "dist_token" in shapes
        if arch.distilled:
            need_place(self.name, arch, registers=[1], mlp=["gelu", "gelu_erf"], posemb=["learned"],
                       norm_after_pool=[False])  # fmt: skip
        if arch.pool == "map":
            need_place(self.name, arch, mlp=["gelu", "gelu_erf"])
        rows = arch.specials
        if "pos_embed" in shapes:
            rows = shapes["pos_embed"][1] - arch.grid[0] * arch.grid[1]
        groups = convolution("patch_embed.proj", "embedding", (*arch.patch_size, 3, arch.width))
        registers = "dist_token" if distilled else "reg_token"
        groups += torch.with_special_positions(arch, "pos_embed", registers, rows, "cls_token")
        for layer in range(arch.depth):
            groups += _block(f"blocks.{layer}", layer, arch, "blocks.0.mlp.fc1_g.weight" in shapes)
        groups += norm("norm", "Transformer/encoder_norm", arch.width) + norm("fc_norm", "vit_jax/fc_norm", arch.width)
        groups += _attention_pool(arch)
        groups += dense("head", "head", (arch.width, arch.num_classes))
        groups += dense("head_dist", torch.HEAD_DIST, (arch.width, arch.num_classes))
        return torch.kept(groups, arch)

    def sidecars(self, description: Description) -> dict[str, Any]:
        """Returns the `config.json` from which `timm.create_model("local-dir:FOLDER")` builds the model."""
        arch = description.architecture
        assert isinstance(arch, VitArchitecture)
        pool = {pool: name for name, pool in _POOLS.items()}[arch.pool]
        args: dict[str, Any] = {
            **sizes(arch, arch.mlp_dim * (2 if arch.mlp == "swiglu" else 1)),
            "qk_norm": arch.qk_norm,
            "global_pool": pool,
        }
        architecture = "deit_base_distilled_patch16_224"
        if not arch.distilled:
            args |= {
                "class_token": arch.class_token,
                "reg_tokens": arch.registers,
                "no_embed_class": False,
                "fc_norm": arch.norm_after_pool,
                "pos_embed": "learn" if arch.posemb == "learned" else "none",
            }
            architecture = "vit_giant_patch14_reg4_dinov2" if arch.mlp == "swiglu" else "vit_base_patch16_224"
        if arch.mlp == "gelu":
            args["act_layer"] = "gelu_tanh"
        return {"config.json": hub_config(architecture, args, description)}


def sizes(arch: VitArchitecture, hidden: int) -> dict[str, Any]:
    """Returns the arguments of timm's models that are sizes; `hidden` is the width inside of an MLP, as timm counts."""
    ratio = hidden / arch.width
    return {
        "img_size": list(arch.image_size),
        "patch_size": torch.number_or_pair(arch.patch_size),
        "embed_dim": arch.width,
        "depth": arch.depth,
        "num_heads": arch.num_heads,
        "mlp_ratio": ratio if int(arch.width * ratio) == hidden else (hidden + 0.5) / arch.width,
        "qkv_bias": arch.qkv_bias,
        "init_values": arch.layer_scale or None,
    }


def hub_config(architecture: str, args: dict[str, Any], description: Description) -> dict[str, Any]:
    """Returns the `config.json` that timm's hub has: a published architecture, and the arguments that differ."""
    arch, preprocessing, class_names = description
    assert isinstance(arch, VitArchitecture) and preprocessing is not None
    cfg = {
        **torch_preprocessing.to_timm(preprocessing),
        "num_classes": arch.num_classes,
        "first_conv": "patch_embed.proj",
        "classifier": ["head", "head_dist"] if arch.distilled else "head",
    }
    config: dict[str, Any] = {
        "architecture": architecture,
        "num_classes": arch.num_classes,
        "num_features": arch.width,
        "global_pool": args["global_pool"],
        "model_args": args,
        "pretrained_cfg": cfg,
    }
    if class_names:
        config["label_names"] = list(class_names)
    return config


def _block(file: str, layer: int, arch: VitArchitecture, separate_gate: bool) -> list[Group]:
    name, attention, heads = torch.block(layer), torch.attention(layer), arch.num_heads
    shape = (arch.width, heads, arch.width // heads)
    parts = ("query", "key", "value")
    return [
        *norm(f"{file}.norm1", f"{name}/LayerNorm_0", arch.width),
        fused(f"{file}.attn.qkv.weight", [f"{attention}/{part}/kernel" for part in parts], shape),
        fused_bias(f"{file}.attn.qkv.bias", [f"{attention}/{part}/bias" for part in parts], shape[1:]),
        *norm(f"{file}.attn.q_norm", f"{attention}/query_ln", shape[2]),
        *norm(f"{file}.attn.k_norm", f"{attention}/key_ln", shape[2]),
        *torch.attended(f"{file}.attn.proj", attention, arch),
        same(f"{file}.ls1.gamma", f"{torch.extra(layer)}/scale1", (arch.width,)),
        *norm(f"{file}.norm2", f"{name}/LayerNorm_2", arch.width),
        same(f"{file}.ls2.gamma", f"{torch.extra(layer)}/scale2", (arch.width,)),
        *torch.timm_mlp(f"{file}.mlp", layer, arch, separate_gate),
    ]


def _attention_pool(arch: VitArchitecture) -> list[Group]:
    name, attention = "MAPHead_0", "MAPHead_0/MultiHeadDotProductAttention_0"
    shape = (arch.width, arch.num_heads, arch.width // arch.num_heads)
    return [
        same("attn_pool.latent", f"{name}/probe", (1, 1, arch.width)),
        *dense("attn_pool.q", f"{attention}/query", shape),
        fused("attn_pool.kv.weight", [f"{attention}/key/kernel", f"{attention}/value/kernel"], shape),
        fused_bias("attn_pool.kv.bias", [f"{attention}/key/bias", f"{attention}/value/bias"], shape[1:]),
        *torch.attended("attn_pool.proj", attention, arch),
        *norm("attn_pool.norm", f"{name}/LayerNorm_0", arch.width),
        *dense("attn_pool.mlp.fc1", f"{name}/MlpBlock_0/Dense_0", (arch.width, arch.mlp_dim)),
        *dense("attn_pool.mlp.fc2", f"{name}/MlpBlock_0/Dense_1", (arch.mlp_dim, arch.width)),
    ]


def _published_heads(architecture: str, width: int) -> int | None:
    if _SIXTEEN.search(architecture) or width in (1152, 1280, 1408, 1664):
        return 16
    return width // 64 if width >= 192 and width % 64 == 0 else None
