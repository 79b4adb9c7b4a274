"""Names that other programs give to the keys of a config, and the error message for a key that does not exist.

The names come from timm's `train.py`, transformers' `TrainingArguments` and big_vision's configs. A name of another
program is never accepted. It gives an error that says which key is meant, and how that key differs.
"""

import difflib
from collections.abc import Mapping

from vit_jax.values import either

# Each row has our key, or another thing to write; how it differs from the others'; and the others' names for it. Of
# their keys only the last part is listed.
_TABLE: tuple[tuple[str, str, str], ...] = (
    ("optimizer.learning_rate", "", "lr base_lr peak_lr blr"),
    (
        "optimizer.weight_decay",
        "it is decoupled and multiplied by the learning rate, as in PyTorch's AdamW; big_vision's wd is not",
        "wd decay",
    ),
    ("optimizer.name", "", "opt optim optax_name optimizer_name"),
    ("optimizer.b1", "", "beta1 adam_beta1 opt_beta1"),
    ("optimizer.b2", "", "beta2 adam_beta2 opt_beta2"),
    ("optimizer.eps", "", "adam_epsilon epsilon opt_eps"),
    ("optimizer.grad_clip_norm", "", "clip_grad clip_norm grad_clip max_grad_norm grad_norm clip"),
    ("optimizer.average", "it is the decay", "ema ema_decay model_ema model_ema_decay polyak"),
    ("optimizer.moment_dtype", "", "mu_dtype"),
    ("optimizer.learning_rate_scale", "it takes pairs of pattern and factor", "layer_decay lr_mults"),
    ("optimizer.freeze", "it takes patterns of parameter names", "frozen freeze_layers"),
    ("schedule.name", "", "lr_schedule sched scheduler lr_scheduler lr_scheduler_type decay_type"),
    ("schedule.end_learning_rate", "", "min_lr final_lr end_lr lr_min"),
    ("schedule.warmup_steps", "or in another unit, such as warmup_epochs or warmup_percent", "warmup"),
    ("schedule.warmup_percent", "it is in percent of the run, 100 times the ratio", "warmup_ratio"),
    (
        "global_batch_size",
        "it counts the images of a step over all devices and processes",
        "batch_size batch bs train_batch_size",
    ),
    (
        "global_batch_size",
        "it counts the images of a step over all devices and processes, so multiply yours by the devices",
        "per_device_train_batch_size per_device_batch_size batch_size_per_device",
    ),
    (
        "evaluations.NAME.batch_size",
        "it counts the images of a step over all devices and processes",
        "per_device_eval_batch_size eval_batch_size validation_batch_size",
    ),
    (
        "accumulation_steps",
        "the batch is split into so many parts and stays the same",
        "grad_accum grad_accum_steps gradient_accumulation_steps accum accum_freq",
    ),
    ("total_epochs", "", "epochs num_epochs num_train_epochs max_epochs"),
    ("total_steps", "", "steps max_steps num_steps train_steps iterations"),
    (
        "data.workers",
        "0 decodes in data.threads threads of this process",
        "num_workers workers dataloader_num_workers j num_parallel_calls",
    ),
    ("data.name", "", "dataset dataset_name data_name ds"),
    ("data.data_dir", "", "data_path data_root train_dir imagefolder root"),
    ("data.split", "", "train_split split"),
    ("data.crop", "", "rrc scale random_crop inception_crop"),
    ("augmentation.flip", "", "hflip flip_lr random_flip"),
    ("augmentation.mixup", "it is the alpha of the Beta distribution", "mixup_alpha mixup_p"),
    ("augmentation.cutmix", "it is the alpha of the Beta distribution", "cutmix_alpha"),
    ("augmentation.cutmix_share", "", "mixup_switch_prob"),
    (
        "augmentation.randaugment_layers",
        "with augmentation.randaugment_magnitude; levels.augreg in vit_jax.data sets both by a name",
        "aa auto_augment rand_augment randaugment randaug ra_num_ops",
    ),
    ("augmentation.randaugment_magnitude", "it goes to 20", "ra_magnitude magnitude"),
    ("augmentation.erasing", "it is the probability", "reprob random_erase random_erasing re_prob"),
    ("augmentation.erasing_fill", "", "remode"),
    ("augmentation.brightness", "with contrast, saturation and hue", "color_jitter colour_jitter"),
    ("data.repeats", "", "aug_repeats repeated_aug"),
    ("task.teacher", "it takes whatever init_from takes", "teacher_model teacher_path teacher_name kd_model_name"),
    ("task.masked_share", "", "mask_ratio masking_ratio"),
    ("task.label_smoothing", "", "smoothing label_smoothing_factor label_smooth"),
    ("task.loss", "", "bce_loss loss_name criterion"),
    ("model.name", "weights come by init_from", "model_name model_name_or_path arch variant"),
    ("model.image_size", "", "img_size input_size res resolution image_res"),
    ("model.num_classes", "left out, it comes from the data set", "n_classes nb_classes num_labels"),
    ("model.drop_path", "", "drop_path_rate stoch_depth stochastic_depth droppath"),
    ("model.dropout", "", "drop drop_rate hidden_dropout_prob dropout_rate"),
    ("model.attention_dropout", "", "attn_drop attn_drop_rate attention_probs_dropout_prob"),
    ("model.width", "", "embed_dim hidden_size hidden_dim"),
    ("model.depth", "", "num_layers num_hidden_layers layers"),
    ("model.mlp_dim", "it is the width itself and no ratio", "intermediate_size mlp_ratio"),
    ("model.num_heads", "", "heads num_attention_heads"),
    ("model.pool", "", "pool_type global_pool pooling classifier"),
    ("model.pre_logits", "", "rep_size representation_size"),
    ("model.rope", "", "rope_theta rope_temperature rope_base"),
    ("model.layer_scale", "", "init_values ls_init layerscale_value"),
    ("model.registers", "", "reg_tokens num_register_tokens"),
    ("model.remat", "", "grad_checkpointing gradient_checkpointing remat_policy"),
    (
        "model.dtype",
        "parameters stay float32",
        "fp16 bf16 amp half_precision precision mixed_precision",
    ),
    (
        "init_from",
        "it takes a file, a run's folder or augreg:B/16",
        "pretrained initial_checkpoint finetune pretrained_dir model_init checkpoint_path init weights",
    ),
    ("--workdir", "the same workdir goes on by itself", "resume resume_from_checkpoint auto_resume"),
    ("--workdir", "", "output output_dir out_dir workdir log_dir logging_dir ckpt_dir"),
    ("seed", "", "rng_seed random_seed data_seed"),
    ("checkpoint.every_steps", "", "save_steps ckpt_steps checkpoint_every recovery_interval checkpoint_steps"),
    ("checkpoint.keep", "", "save_total_limit checkpoint_hist keep_ckpt"),
    ("wandb.project", "it is the name of the project", "wandb_project use_wandb log_wandb report_to"),
    ("log_steps", "", "logging_steps log_interval log_training_steps log_every log_freq"),
    ("evaluations.NAME.every_steps", "", "eval_steps eval_interval eval_every val_interval"),
    ("evaluations.NAME.split", "", "val_split eval_split test_split"),
    ("mesh.tensor", "", "tensor_parallel tp model_parallel"),
    ("mesh.data", "-1, the default, takes all devices", "mesh_shape dp data_parallel num_gpus n_gpu"),
    ("mesh.fsdp", "", "zero zero_stage shard_params"),
    ("preprocessing.shorter_side", "it is in pixels", "crop_pct resize_size val_resize_size"),
    ("preprocessing.interpolation", "", "train_interpolation resample"),
    ("preprocessing.mean", "", "image_mean img_mean"),
    ("preprocessing.std", "", "image_std img_std"),
)  # fmt: skip
ALIASES = {name: (key, note) for key, note, names in _TABLE for name in names.split()}


# What to write instead of a value of another program, by our key and their value.
VALUES = {
    ("optimizer.name", "adamw"): "write adam: weight decay is decoupled already, which is what AdamW means",
    ("optimizer.name", "momentum"): "write sgd, with optimizer.momentum",
    ("optimizer.name", "sgdm"): "write sgd, with optimizer.momentum",
    ("task.loss", "bce"): "write sigmoid",
    ("task.loss", "cross_entropy"): "write softmax",
    ("task.loss", "ce"): "write softmax",
    ("schedule.name", "warmup_cosine"): "write cosine, with schedule.warmup_steps",
    ("model.pool", "token"): "write tok",
    ("model.pool", "cls"): "write tok",
    ("model.pool", "avg"): "write gap",
    ("model.dtype", "bf16"): "write bfloat16",
    ("model.dtype", "fp32"): "write float32",
    ("model.dtype", "fp16"): "write bfloat16, which needs no scaling of the loss",
    ("model.dtype", "float16"): "write bfloat16, which needs no scaling of the loss",
}


def unknown_key(key: str, valid: Mapping[str, tuple[str, ...]]) -> str:
    """Returns the error message for a key that does not exist; it names the key that is meant, or the nearest one.

    Args:
        key: the dotted key that was given.
        valid: the valid keys, each with its possible values; without values if they can't be listed.
    """
    section, _, name = key.rpartition(".")
    # Candidates, the best first: what another program calls by this name, a key of this name in another section, a
    # similar name in the same section, any similar key. A config file that sets a key of a section gives the name
    # without the section.
    same = [k for k in valid if k.rpartition(".")[2] == name]
    alias = ALIASES.get(name.lower().replace("-", "_"))
    if alias and not (section and f"{section}.{name}" in valid):
        meant, note = alias
        choices = valid.get(meant)
        notes = "; ".join(filter(None, [f"it is {either(choices)}" if choices else "", note]))
        meant = meant if meant.startswith("--") else f"config.{meant}"
        return f"there is no config.{key}; what is meant here is {meant}" + (f": {notes}" if notes else "")
    siblings = {k.rpartition(".")[2]: k for k in valid if not section or k.rpartition(".")[0] == section}
    near = same or [siblings[n] for n in difflib.get_close_matches(name, siblings, 1, 0.0)]
    near = near or difflib.get_close_matches(key, valid, 1, 0.0)
    return f"there is no config.{key}; the nearest valid key is config.{near[0]}"
