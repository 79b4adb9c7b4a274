"""The sections about the model and the form of its images."""

import dataclasses

from vit_jax.schema.key import key


@dataclasses.dataclass(frozen=True)
class Model:
    """The model: the keywords of `vit_jax.create`.

    A key that is None gets its value from the variant, or from the file of `init_from` if that is set; `num_classes`
    comes from the data set, or is 0 if the task trains no head. A key that the model's family does not have can't be
    set.
    """

    # The upper limits are far above every real model. They stop a damaged file from requesting endless time or memory.
    name: str = key("B/16", "the variant, such as R50+B/16, Mixer-B/16 or BiT-R50x1")
    image_size: int | tuple[int, int] = key(
        224, "side of the square images, or (height, width)", least=1, most=2**20, unit="pixels"
    )
    num_classes: int | None = key(None, "number of classes, the width of the head; 0 for no head", least=0, most=2**24)
    patch_size: int | tuple[int, int] | None = key(
        None,
        "side of the square patches, or (height, width); in a hybrid, in positions of the ResNet's output",
        least=1,
        unit="pixels",
    )
    width: int | None = key(None, "number of features of each token", least=1, most=2**24)
    depth: int | None = key(None, "number of blocks in the encoder", least=1, most=10_000)
    mlp_dim: int | None = key(
        None, "number of hidden features of each block's MLP; in a Mixer, of its MLP over channels", least=1, most=2**24
    )
    tokens_mlp_dim: int | None = key(
        None, "in a Mixer, number of hidden features of each block's MLP over tokens", least=1, most=2**24
    )
    num_heads: int | None = key(None, "number of heads of the attention", least=1, most=2**24)
    stages: tuple[int, ...] | None = key(
        None,
        "number of units in each stage of the ResNet: of BiT, or of a hybrid, whose ResNet precedes the patches",
        least=1,
    )
    stem_width: int | None = key(
        None, "number of channels after the first convolution of that ResNet", least=1, most=2**24
    )
    attention: str | None = key(
        None,
        "full: attention over all tokens; axial: along the rows and then along the columns, each followed by an MLP",
        choices=("full", "axial"),
    )
    mlp: str | None = key(
        None,
        "nonlinearity of the MLP: the tanh approximation of GELU (as in the original code), exact GELU, or the gated "
        "SwiGLU (2002.05202)",
        choices=("gelu", "gelu_erf", "swiglu"),
    )
    parallel: bool | None = key(
        None, "compute attention and MLP from the same normalised input and add both (2302.05442)"
    )
    qk_norm: bool | None = key(None, "apply a layer norm over each head's features to queries and keys")
    qkv_bias: bool | None = key(None, "whether queries, keys and values have biases")
    key_bias: bool | None = key(None, "whether keys have a bias, too, if `qkv_bias` is set")
    layer_scale: float | None = key(
        None, "initial value of the learned scale of each residual branch (2103.17239); 0 for no scale", least=0
    )
    norm_eps: float | None = key(None, "number added to the variance in norms", least=0)
    norm_after_pool: bool | None = key(None, "apply the final norm to the pooled features instead of to the tokens")
    pool: str | None = key(
        None,
        "what the head reads: the class token, the average of the patches, attention pooling, or the class token and "
        "the average concatenated",
        choices=("tok", "gap", "map", "tok+gap"),
    )
    class_token: bool | None = key(None, "have a class token even if `pool` does not read it")
    registers: int | None = key(
        None, "number of register tokens, which are further special tokens (2309.16588)", least=0, most=2**24
    )
    distilled: bool | None = key(
        None,
        "make the first register a distillation token, which a second head reads, so that logits are the mean of both "
        "heads (2012.12877); needs `pool=tok` and `registers=1`",
    )
    posemb: str | None = key(
        None,
        "position embeddings: a learned table; two learned tables of half the width, for rows and columns; learned "
        "offsets in the attention; fixed sines and cosines; or none",
        choices=("learned", "learned2d", "relative", "sincos2d", "none"),
    )
    posemb_at: str | None = key(
        None,
        "where position embeddings are added: before the first layer, in each layer with a table of its own, or in "
        "each layer with the same table",
        choices=("stem", "layers", "shared"),
    )
    posemb_std: float | None = key(
        None,
        "standard deviation of the initial position embeddings",
        least=0,
        only=("posemb", "learned", "learned2d", "relative"),
    )
    posemb_resample: str | None = key(
        None,
        "how position embeddings are resampled to another grid of patches",
        choices=("bilinear", "bicubic", "bicubic_antialias"),
    )
    rope: float | None = key(None, "base of 2-D rotary position embeddings, such as 100; 0 for none", least=0)
    rope_coordinates: str | None = key(
        None,
        "coordinates of the rotary positions: indices of rows and columns, or from -1 to 1 over the image",
        choices=("grid", "unit"),
    )
    patchify: str | None = key(
        None,
        "how patches are embedded: by a convolution or by a matrix product, with the same parameters and result",
        choices=("conv", "matmul"),
    )
    pre_logits: int | None = key(
        None, "width of a dense layer with tanh before the head; 0 for none", least=0, most=2**24
    )
    head_bias: float = key(0.0, "initial bias of a new head")
    dropout: float | None = key(None, "dropout rate", least=0, below=1)
    attention_dropout: float | None = key(None, "dropout rate of the attention weights", least=0, below=1)
    drop_path: float | None = key(
        None,
        "stochastic depth: rate at which the last block is dropped; the rates grow linearly from 0 at the first block",
        least=0,
        below=1,
    )
    scan: bool = key(
        True,
        "compile one block and loop over all of them; false unrolls the loop, which makes a step faster and compiling "
        "slower",
    )
    remat: str = key(
        "none",
        "what is kept for the backward pass, which recomputes the rest: everything, results of matrix products, these "
        "in the hosts' memory, or only the input of each block",
        choices=("none", "dots", "offload", "full"),
    )
    dtype: str = key(
        "float32", "type of the computation; parameters are always float32", choices=("float32", "bfloat16")
    )


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """How an image becomes the input of the model, in training, in evaluations and wherever the saved model is used.

    Training does not read `shorter_side` and `keep_aspect`; it crops as `data.crop` says. A key that is None gets its
    value from the file of `init_from`. Without `init_from`, the default is to resize the whole image bilinearly and to
    scale pixels to [-1, 1].
    """

    shorter_side: int | None = key(
        None,
        "resize the image so that its shorter side has this length, and crop the centre; 0 to resize the whole image "
        "and not crop",
        least=0,
        unit="pixels",
    )
    keep_aspect: bool | None = key(
        None,
        "with shorter_side, whether resizing keeps the image's aspect ratio; false stretches it to the aspect ratio of"
        " the crop",
    )
    interpolation: str | None = key(
        None, "filter of Pillow for resizing", choices=("nearest", "bilinear", "bicubic", "lanczos", "box", "hamming")
    )
    mean: tuple[float, float, float] | None = key(None, "mean of each channel, with pixels from 0 to 1")
    std: tuple[float, float, float] | None = key(
        None, "standard deviation of each channel, with pixels from 0 to 1", above=0
    )
    antialias: bool | None = key(
        None,
        "with the filter bilinear, whether making images smaller reduces aliasing; false is faster, and is what the "
        "paper's own code does",
    )
