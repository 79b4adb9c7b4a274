"""The format of the transformers library, as `save_pretrained` writes it.

It can hold the models ViT, DeiT, DINOv2, and the vision tower of SigLIP. DINOv2 may have registers and SwiGLU. The
folder of a model has `model.safetensors`, `config.json`, and `preprocessor_config.json`, which says how images are
resized and normalised.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from vit_jax.checkpoints.containers import Shape
from vit_jax.checkpoints.formats import torch_names as torch
from vit_jax.checkpoints.formats import torch_preprocessing
from vit_jax.checkpoints.formats.base import NOTHING, About, Description, need_place, sized
from vit_jax.checkpoints.formats.torch_names import convolution, dense, fused, fused_bias, norm
from vit_jax.checkpoints.groups import Group, padding, reshaped, same
from vit_jax.errors import UserError
from vit_jax.models.architecture import Architecture, VitArchitecture

_PREFIXES = ("vit.", "deit.", "dinov2.", "dinov2_with_registers.", "vision_model.")
_TOWER = "vision_model."


class Transformers:
    """The format `transformers`. Each kind of model, `vit`, `deit`, `dinov2` or `siglip`, has its own array names."""

    name, suffix = "transformers", ".safetensors"

    def rename(self, names: Iterable[str]) -> dict[str, str] | None:
        """See `base.Format.rename`.

        The standard names have no prefix for the model without its head, such as `vit.`. Of a model with a text and a
        vision tower, only the vision tower is used.
        """
        names = list(names)
        if any(name.startswith("text_model.") for name in names):
            names = [name for name in names if name.startswith(_TOWER)]
        found = {}
        for name in names:
            prefix = next((p for p in _PREFIXES if name.startswith(p)), "")
            if not name.endswith("position_ids"):
                found[name[len(prefix) :]] = name
        if "embeddings.patch_embedding.weight" in found and "classifier.weight" in found:
            # SigLIP's classifier reads the average of the tokens. Such a file has unused arrays of attention pooling.
            found = {name: file for name, file in found.items() if not name.startswith("head.")}
        known = ("embeddings.patch_embeddings.projection.weight", "embeddings.patch_embedding.weight")
        return found if any(name in found for name in known) else None

    def describe(self, shapes: Mapping[str, Shape], about: About) -> Description:
        """See `base.Format.describe`."""
        kind, config = _kind(shapes), about.setting("vision_config", dict, about.config)
        siglip = kind == "siglip"
        patch = shapes[f"embeddings.patch_embedding{'' if siglip else 's.projection'}.weight"]
        layers = "encoder.layers." if siglip else "encoder.layer."
        activation = about.setting("hidden_act", str, "gelu_pytorch_tanh" if siglip else "gelu", config)
        mlp = torch.known("hidden_act", activation, torch.ACTIVATIONS, about)
        swiglu = "encoder.layer.0.mlp.weights_in.weight" in shapes
        heads = torch.first(about.setting("num_attention_heads", int, of=config), about.keywords.get("num_heads"))
        if heads is None:
            heads = about.need("num_heads", "how many heads it has")
        class_token, width = not siglip, patch[0]
        registers = shapes.get("embeddings.register_tokens", (1, 0))[1] + (kind == "deit")
        if siglip:
            tokens, pool = shapes["embeddings.position_embedding.weight"][0], "map" if "head.probe" in shapes else "gap"
        else:
            tokens = shapes["embeddings.position_embeddings"][1] - (2 if kind == "deit" else 1)
            pool = "tok+gap" if shapes.get("classifier.weight", (0, 0))[1] == 2 * width else "tok"
        if (image_size := about.setting("image_size", int | tuple[int, int], of=config)) is not None:
            about = about._replace(keywords={**about.keywords, "image_size": image_size})
        scaled = "encoder.layer.0.layer_scale1.lambda1" in shapes
        found = {
            "patch_size": patch[2:],
            "width": width,
            "depth": torch.depth(shapes, layers, ".mlp.fc1.bias" if siglip else ".attention.output.dense.bias"),
            "mlp_dim": _mlp_dim(shapes, kind),
            "num_heads": heads,
            "num_classes": torch.length(shapes, "classifier.weight") or torch.length(shapes, "cls_classifier.weight"),
            "pre_logits": torch.length(shapes, "pooler.dense.weight"),
            "class_token": class_token,
            "registers": registers,
            "pool": pool,
            "distilled": "distillation_classifier.weight" in shapes,
            "posemb": "learned",
            "posemb_resample": "bicubic_antialias" if kind == "dinov2" and registers else "bicubic",
            "qkv_bias": siglip or "encoder.layer.0.attention.attention.query.bias" in shapes,
            "layer_scale": (about.setting("layerscale_value", float, of=config) or 1.0) if scaled else 0.0,
            "mlp": "swiglu" if swiglu else mlp,
            "norm_eps": about.setting("layer_norm_eps", float, 1e-12 if kind in ("vit", "deit") else 1e-6, config),
            "image_size": sized(tokens, (patch[2], patch[3]), about),
        }
        arch = VitArchitecture.of(**{**about.fields_of(VitArchitecture), **found})
        names = _class_names(about) if arch.num_classes else ()
        return Description(arch, torch_preprocessing.from_transformers(about, kind, arch), names)

    def groups(self, arch: Architecture, shapes: Mapping[str, Shape] = NOTHING) -> list[Group]:
        """See `base.Format.groups`."""
        arch = torch.vit_of(arch, self.name)
        need_place(
            self.name, arch, stages=[None], attention=["full"], parallel=[False], rope=[0.0], qk_norm=[False],
            posemb=["learned"], posemb_at=["stem"], norm_after_pool=[False], key_bias=[True],
        )  # fmt: skip
        kind = _kind(shapes) if shapes else _kind_to_write(arch, self.name)
        if kind == "siglip":
            groups = torch.kept(_siglip(arch), arch)
            return groups if shapes else _prefixed(groups, arch, kind)
        tokens = "embeddings."
        registers = "distillation_token" if kind == "deit" else "register_tokens"
        rows = arch.specials if kind == "deit" else 1
        groups = convolution(f"{tokens}patch_embeddings.projection", "embedding", (*arch.patch_size, 3, arch.width))
        table = f"{tokens}position_embeddings"
        groups += torch.with_special_positions(arch, table, tokens + registers, rows, f"{tokens}cls_token")
        groups += norm("layernorm", "Transformer/encoder_norm", arch.width)
        for layer in range(arch.depth):
            groups += (_dinov2_block if kind == "dinov2" else _vit_block)(f"encoder.layer.{layer}", layer, arch)
        if kind == "dinov2" and (not shapes or "embeddings.mask_token" in shapes):
            groups.append(padding("embeddings.mask_token", (1, arch.width)))
        features = 2 * arch.width if arch.pool == "tok+gap" else arch.width
        groups += dense("pooler.dense", "pre_logits", (arch.width, arch.pre_logits))
        groups += dense("cls_classifier" if arch.distilled else "classifier", "head", (features, arch.num_classes))
        groups += dense("distillation_classifier", torch.HEAD_DIST, (arch.width, arch.num_classes))
        groups = torch.kept(groups, arch)
        return groups if shapes else _prefixed(groups, arch, kind)

    def sidecars(self, description: Description) -> dict[str, Any]:
        """Returns the `config.json` and `preprocessor_config.json` that `from_pretrained` reads."""
        arch, preprocessing, class_names = description
        assert isinstance(arch, VitArchitecture) and preprocessing is not None
        kind = _kind_to_write(arch, self.name)
        model_type = _model_type(arch, kind)
        config: dict[str, Any] = {
            "architectures": [_class(arch, kind)],
            "model_type": model_type,
            "hidden_size": arch.width,
            "num_hidden_layers": arch.depth,
            "num_attention_heads": arch.num_heads,
            "hidden_act": "gelu_pytorch_tanh" if arch.mlp == "gelu" else "gelu",
            "layer_norm_eps": arch.norm_eps,
            "image_size": torch.number_or_pair(arch.image_size),
            "patch_size": torch.number_or_pair(arch.patch_size),
            "num_channels": 3,
        }
        if kind == "dinov2":
            config |= {
                "mlp_ratio": _mlp_ratio(arch, self.name),
                "use_swiglu_ffn": arch.mlp == "swiglu",
                "layerscale_value": arch.layer_scale,
            }
            if arch.registers:
                config["num_register_tokens"] = arch.registers
        else:
            config["intermediate_size"] = arch.mlp_dim
        if kind == "siglip":
            config["vision_use_head"] = arch.pool == "map"
        else:
            config["qkv_bias"] = arch.qkv_bias
        if arch.pre_logits:
            config |= {"pooler_output_size": arch.pre_logits, "pooler_act": "tanh"}
        if kind == "siglip" and arch.num_classes:
            config = {"architectures": config.pop("architectures"), "model_type": "siglip", "vision_config": config}
        if "For" in _class(arch, kind):
            labels = class_names or tuple(f"LABEL_{i}" for i in range(arch.num_classes))
            config["id2label"] = {str(i): label for i, label in enumerate(labels)}
            config["label2id"] = {label: i for i, label in enumerate(labels)}
        return {"config.json": config, "preprocessor_config.json": torch_preprocessing.to_transformers(preprocessing)}


_CLASSES = {
    "vit": "ViT", "deit": "DeiT", "dinov2": "Dinov2", "dinov2_with_registers": "Dinov2WithRegisters",
    "siglip_vision_model": "Siglip",
}  # fmt: skip


def _kind(shapes: Mapping[str, Shape]) -> str:
    if "embeddings.patch_embedding.weight" in shapes:
        return "siglip"
    if "embeddings.distillation_token" in shapes:
        return "deit"
    return "dinov2" if "encoder.layer.0.norm1.weight" in shapes else "vit"


def _class_names(about: About) -> tuple[str, ...]:
    """Returns the names in `id2label` of config.json, in the order of their numbers; () if there are none.

    Raises:
        UserError: the keys are not the numbers from 0.
    """
    labels = about.setting("id2label", dict, {})
    if labels.keys() != {str(number) for number in range(len(labels))}:
        raise UserError(
            f"config.json beside {about.name} can't be used: the keys of id2label are not the numbers from 0 to "
            f"{len(labels) - 1}; mend it, or take it out"
        )
    return tuple(labels[str(number)] for number in range(len(labels)))


def _kind_to_write(arch: VitArchitecture, format: str) -> str:
    """Returns the kind of model (vit, deit, dinov2 or siglip) as which an architecture can be written.

    Raises:
        UserError: no kind can store every part of the architecture.
    """
    sides = arch.image_size, arch.patch_size
    if not arch.class_token or arch.layer_scale:  # SigLIP and DINOv2 need square images and patches
        need_place(format, arch, image_size=[(s, s) for s in sides[0]], patch_size=[(s, s) for s in sides[1]])
    if not arch.class_token:
        need_place(format, arch, registers=[0], layer_scale=[0.0], mlp=["gelu", "gelu_erf"], pre_logits=[0],
                   qkv_bias=[True], pool=["gap", "map"])  # fmt: skip
        if arch.pool == "map":
            need_place(format, arch, num_classes=[0])
        return "siglip"
    need_place(format, arch, pool=["tok", "tok+gap"])
    if arch.layer_scale:
        need_place(format, arch, distilled=[False], pre_logits=[0])
        need_place(format, arch, pool=["tok+gap"] if arch.num_classes else ["tok"])
        _mlp_ratio(arch, format)
        return "dinov2"
    need_place(format, arch, mlp=["gelu", "gelu_erf"], pool=["tok"], registers=[0, 1])
    if arch.pre_logits:
        need_place(format, arch, num_classes=[0])
    return "deit" if arch.registers else "vit"


def _model_type(arch: VitArchitecture, kind: str) -> str:
    if kind == "dinov2" and arch.registers:
        return "dinov2_with_registers"
    return "siglip_vision_model" if kind == "siglip" else kind


def _class(arch: VitArchitecture, kind: str) -> str:
    stem = _CLASSES[_model_type(arch, kind)]
    # ViTModel and DeiTModel need a `pooler` layer. A model without one is written as a classifier with 0 classes, which
    # returns the features.
    if not arch.num_classes and (kind not in ("vit", "deit") or arch.pre_logits):
        return f"{stem}VisionModel" if kind == "siglip" else f"{stem}Model"
    return f"{stem}ForImageClassification{'WithTeacher' if arch.distilled else ''}"


def _prefixed(groups: list[Group], arch: VitArchitecture, kind: str) -> list[Group]:
    """Returns the groups with the names that a file to be written has.

    In the file of a classifier, all names except those of the heads start with a prefix, such as `vit.`.
    """
    if "For" not in _class(arch, kind):
        return groups
    prefix = _TOWER if kind == "siglip" else f"{_model_type(arch, kind)}."

    def name(file: str) -> str:
        return file if "classifier." in file else prefix + file

    return [group._replace(files={name(file): shape for file, shape in group.files.items()}) for group in groups]


def _mlp_dim(shapes: Mapping[str, Shape], kind: str) -> int:
    layer = "encoder.layers.0" if kind == "siglip" else "encoder.layer.0"
    names = ("output.dense.weight", "mlp.fc2.weight", "mlp.weights_out.weight")
    return next(shapes[f"{layer}.{name}"][1] for name in names if f"{layer}.{name}" in shapes)


def _mlp_ratio(arch: VitArchitecture, format: str) -> int:
    """Returns the `mlp_ratio` in DINOv2's config that gives `arch.mlp_dim`.

    The MLP's width is `mlp_ratio` times the model's width. For SwiGLU, DINOv2 takes two thirds of that and rounds up to
    a multiple of 8.

    Raises:
        UserError: no whole ratio up to 32 gives `arch.mlp_dim`.
    """
    for ratio in range(1, 33):
        hidden = arch.width * ratio
        if (hidden if arch.mlp != "swiglu" else (hidden * 2 // 3 + 7) // 8 * 8) == arch.mlp_dim:
            return ratio
    raise UserError(
        f"the format {format} has no place for mlp_dim={arch.mlp_dim}, which is no whole ratio of width={arch.width}; "
        "write the format original (.npz), which has one for everything"
    )


def _vit_block(file: str, layer: int, arch: VitArchitecture) -> list[Group]:
    name, mlp = torch.block(layer), f"{torch.block(layer)}/MlpBlock_3"
    return [
        *norm(f"{file}.layernorm_before", f"{name}/LayerNorm_0", arch.width),
        *torch.projections(f"{file}.attention.attention.", ("query", "key", "value"), torch.attention(layer), arch),
        *torch.attended(f"{file}.attention.output.dense", torch.attention(layer), arch),
        *norm(f"{file}.layernorm_after", f"{name}/LayerNorm_2", arch.width),
        *dense(f"{file}.intermediate.dense", f"{mlp}/Dense_0", (arch.width, arch.mlp_dim)),
        *dense(f"{file}.output.dense", f"{mlp}/Dense_1", (arch.mlp_dim, arch.width)),
    ]


def _dinov2_block(file: str, layer: int, arch: VitArchitecture) -> list[Group]:
    name, mlp = torch.block(layer), f"{torch.block(layer)}/MlpBlock_3"
    groups = [
        *norm(f"{file}.norm1", f"{name}/LayerNorm_0", arch.width),
        *torch.projections(f"{file}.attention.attention.", ("query", "key", "value"), torch.attention(layer), arch),
        *torch.attended(f"{file}.attention.output.dense", torch.attention(layer), arch),
        same(f"{file}.layer_scale1.lambda1", f"{torch.extra(layer)}/scale1", (arch.width,)),
        *norm(f"{file}.norm2", f"{name}/LayerNorm_2", arch.width),
        same(f"{file}.layer_scale2.lambda1", f"{torch.extra(layer)}/scale2", (arch.width,)),
    ]
    if arch.mlp == "swiglu":
        groups += torch.swiglu(f"{file}.mlp.weights_in", layer, arch)
        return groups + dense(f"{file}.mlp.weights_out", f"{mlp}/Dense_1", (arch.mlp_dim, arch.width))
    groups += dense(f"{file}.mlp.fc1", f"{mlp}/Dense_0", (arch.width, arch.mlp_dim))
    return groups + dense(f"{file}.mlp.fc2", f"{mlp}/Dense_1", (arch.mlp_dim, arch.width))


def _siglip(arch: VitArchitecture) -> list[Group]:
    """Returns the groups of SigLIP's vision tower, including those of its attention pooling and of a classifier.

    The caller removes the groups of parameters that the architecture does not have.
    """
    patches, width = arch.grid[0] * arch.grid[1], arch.width
    table, heads = "embeddings.position_embedding.weight", (arch.num_heads, width // arch.num_heads)
    groups = convolution("embeddings.patch_embedding", "embedding", (*arch.patch_size, 3, width))
    groups.append(reshaped(table, (patches, width), torch.POSITIONS, (1, patches, width)))
    groups += norm("post_layernorm", "Transformer/encoder_norm", width)
    for layer in range(arch.depth):
        file, name, mlp = f"encoder.layers.{layer}", torch.block(layer), f"{torch.block(layer)}/MlpBlock_3"
        groups += [
            *norm(f"{file}.layer_norm1", f"{name}/LayerNorm_0", width),
            *torch.projections(f"{file}.self_attn.", ("q_proj", "k_proj", "v_proj"), torch.attention(layer), arch),
            *torch.attended(f"{file}.self_attn.out_proj", torch.attention(layer), arch),
            *norm(f"{file}.layer_norm2", f"{name}/LayerNorm_2", width),
            *dense(f"{file}.mlp.fc1", f"{mlp}/Dense_0", (width, arch.mlp_dim)),
            *dense(f"{file}.mlp.fc2", f"{mlp}/Dense_1", (arch.mlp_dim, width)),
        ]
    name, attention = "MAPHead_0", "MAPHead_0/MultiHeadDotProductAttention_0"
    parts = [f"{attention}/{part}" for part in ("query", "key", "value")]
    groups += [
        same("head.probe", f"{name}/probe", (1, 1, width)),
        fused("head.attention.in_proj_weight", [f"{part}/kernel" for part in parts], (width, *heads)),
        fused_bias("head.attention.in_proj_bias", [f"{part}/bias" for part in parts], heads),
        *torch.attended("head.attention.out_proj", attention, arch),
        *norm("head.layernorm", f"{name}/LayerNorm_0", width),
        *dense("head.mlp.fc1", f"{name}/MlpBlock_0/Dense_0", (width, arch.mlp_dim)),
        *dense("head.mlp.fc2", f"{name}/MlpBlock_0/Dense_1", (arch.mlp_dim, width)),
        *dense("classifier", "head", (width, arch.num_classes)),
    ]
    return groups
