"""A table of the settings of other style transfer tools, with their equivalents in nstbench."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

_JOHNSON = "neural-style"  # Johnson 2015, Lua, and its port to PyTorch
_FAST = "fast-neural-style"  # Johnson et al. 2016, Lua, and the example in pytorch/examples
_CROWSON = "style-transfer-pytorch"
_PYSTICHE = "pystiche"
_TUTORIALS = "PyTorch's and TensorFlow's tutorials"

# Patterns of typed values that are copied into the suggestion.
_WHOLE = r"[1-9]\d{0,8}"
_NUMBER = r"0*[1-9]\d{0,5}(\.\d+)?|0?\.\d*[1-9]\d*"
_ZERO = r"0*\.?0+"  # 0 is 0 in every unit
_FILE = r"(?!-)[^\s,\[\]{}()'\"=*?]+"
_FILES = rf"{_FILE}(,{_FILE})*"
_LAYERS = r"(relu|conv)[1-5]_[1-4](,(relu|conv)[1-5]_[1-4])*"
_NUMBERS = rf"({_NUMBER})(,({_NUMBER}))*"


@dataclass(frozen=True)
class Equivalent:
    """nstbench's equivalent of a setting of other tools.

    Attributes:
        names: Names in the other tools, with ``_`` for ``-``.
        typed: Overrides to type in nstbench; ``""`` if it has no equivalent.
        tool: One tool that has the setting.
        note: Clause that says what is different in nstbench.
        pattern: Regular expression of values that are copied into ``taken``; ``""``: none.
        taken: Overrides like ``typed``, with ``{}`` for a value that matches ``pattern``.
        choices: Overrides for particular values.
    """

    names: tuple[str, ...]
    typed: str
    tool: str
    note: str = ""
    pattern: str = ""
    taken: str = ""
    choices: Mapping[str, str] = field(default_factory=dict)

    def for_value(self, value: str) -> str:
        """Return the overrides for a value, or with an example value if it does not match."""
        if value in self.choices:
            return self.choices[value]
        if self.pattern and re.fullmatch(self.pattern, value):
            return self.taken.format(value)
        return self.typed


def _row(names: str, typed: str, tool: str, note: str = "", pattern: str = "", taken: str = "") -> Equivalent:
    return Equivalent(tuple(names.split()), typed, tool, note, pattern, taken)


def _chosen(names: str, typed: str, tool: str, choices: Mapping[str, str], note: str = "") -> Equivalent:
    return Equivalent(tuple(names.split()), typed, tool, note, choices=choices)


_UNITS = "weights are in another unit, see docs/units.md"
_FOLDERS = "the picture is <output>/<study>/<run_id>/canvas.png"
_NO_NETWORKS = "networks are not trained here"
_GPU_CHOICES = {"-1": "trainer=cpu", "cpu": "trainer=cpu", "mps": "trainer=mps", "c": "trainer=cpu"}
_CUDA_CHOICES = {"0": "trainer=cpu", "false": "trainer=cpu", "False": "trainer=cpu"}

EQUIVALENTS: tuple[Equivalent, ...] = (
    # pictures
    _row(
        "content_image content_img content_path content_image_path content_target content_images ci",
        "content=photo.jpg",
        _JOHNSON,
        pattern=_FILE,
        taken="content={}",
    ),
    _row(
        "style_image style_img style_path style_image_path style_target style_images styles si",
        "style=painting.jpg",
        _JOHNSON,
        "several are blended: style=[a.jpg,b.jpg]",
        _FILES,
        "style=[{}]",
    ),
    _row("input_image", "content=photo.jpg", _FAST, pattern=_FILE, taken="content={}"),
    _row("input_dir", "-m 'content=glob(photos/*.jpg)'", _FAST),
    _row(
        "style_blend_weights style_weights sw",
        "pictures.style_weights=[1]",
        _JOHNSON,
        "one for each picture in style",
        _NUMBERS,
        "pictures.style_weights=[{}]",
    ),
    _row(
        "style_scale style_scale_fac",
        "pictures.style_scale=1.5",
        _JOHNSON,
        "",
        _NUMBER,
        "pictures.style_scale={}",
    ),
    _row(
        "style_size style_image_size",
        "pictures.style_scale=1.5",
        _FAST,
        "the style picture is measured like size, times this",
    ),
    _row("content_scale", "size=512", _FAST, "the longer edge in pixels"),
    _row("content_mask content_seg", "pictures.guides.sky.content=mask.png", _JOHNSON),
    _row("style_mask style_seg", "pictures.guides.sky.style=mask.png", _JOHNSON),
    _chosen(
        "original_colors original_colours preserve_color preserve_colors",
        "colour=luminance",
        _JOHNSON,
        {"0": "colour=none", "false": "colour=none"},
    ),
    _row("color_control transfer_color", "colour=histogram", _JOHNSON),
    # sizes and steps
    _row(
        "image_size img_size imsize max_size max_dim end_scale image_height height",
        "size=512",
        _JOHNSON,
        "the longer edge, unless pictures.size_is says otherwise",
        _WHOLE,
        "size={}",
    ),
    _row(
        "num_iterations iterations num_iters n_iter n_iters max_iter max_iterations iters iter_count "
        "num_steps n_steps epochs num_epochs",
        "steps=500",
        _JOHNSON,
        "",
        _WHOLE,
        "steps={}",
    ),
    _row("min_scale ms", "schedule=coarse_to_fine", _CROWSON, "it begins at a quarter of size"),
    _row("initial_iterations ii", "schedule=coarse_to_fine", _CROWSON, "every stage has the same steps"),
    _row("image_pyramid pyramid octaves num_octaves", "schedule=coarse_to_fine", _PYSTICHE),
    # weights
    _row(
        "content_weight content_weights cw",
        "weights.content=1",
        _JOHNSON,
        _UNITS,
        _ZERO,
        "weights.content={}",
    ),
    _row("style_weight style_factor", "weights.style=20", _JOHNSON, _UNITS, _ZERO, "weights.style={}"),
    _row(
        "tv_weight tv_strength total_variation_weight smoothness_weight regularization_weight tw",
        "weights.regularizer=0.02",
        _JOHNSON,
        _UNITS,
        _ZERO,
        "weights.regularizer={}",
    ),
    _row("score_weight", "weights.style=20", _PYSTICHE, _UNITS),
    _chosen(
        "normalize_gradients",
        "weights.unit=gradient",
        _JOHNSON,
        {"0": "weights.unit=unit", "false": "weights.unit=unit"},
    ),
    _row("normalize_weights", "weights.unit=unit", _JOHNSON),
    _row("hyper_parameters impl_params", "recipe=gatys2016/paper", _PYSTICHE),
    # losses and layers
    _row("content_loss", "loss/content=features", _PYSTICHE),
    _row("style_loss", "loss/style=gram", _PYSTICHE),
    _row("style_target_type", "loss/style=gram", _FAST),
    _row("regularization", "loss/regularizer=tv", _PYSTICHE),
    _row(
        "content_layers content_layer",
        "layers.content=[relu4_2]",
        _JOHNSON,
        "",
        _LAYERS,
        "layers.content=[{}]",
    ),
    _row(
        "style_layers style_layer",
        "layers.style=[relu1_1,relu2_1]",
        _JOHNSON,
        "",
        _LAYERS,
        "layers.style=[{}]",
    ),
    # the encoder
    _row(
        "model_file loss_network vgg_path vgg_model_dir",
        "encoder=vgg19",
        _JOHNSON,
        "encoder.weights=… for a file",
    ),
    _row("proto_file", "encoder=vgg19_caffe", _JOHNSON),
    _chosen(
        "model network arch",
        "encoder=vgg19",
        _JOHNSON,
        {"vgg16": "encoder=vgg16", "vgg19": "encoder=vgg19", "vgg": "encoder=vgg19"},
    ),
    _row("multi_layer_encoder", "encoder=vgg19", _PYSTICHE),
    _chosen(
        "pooling pool",
        "encoder.pooling=average",
        _JOHNSON,
        {"max": "encoder.pooling=max", "avg": "encoder.pooling=average"},
    ),
    _row("padding_type", "encoder.padding=reflect", _FAST),
    # the start
    _chosen(
        "init init_method starting_point init_type",
        "canvas.start=content",
        _JOHNSON,
        dict.fromkeys(("random", "noise", "gray", "uniform", "normal", "style_stats"), "canvas.start=noise")
        | {"style": "canvas.start=style"},
        "or noise, style, or a picture",
    ),
    _row(
        "init_image init_img initial_image", "canvas.start=start.png", _JOHNSON, "", _FILE, "canvas.start={}"
    ),
    _row("noise_ratio", "canvas.noise_share=0.5", _TUTORIALS),
    # the optimiser
    _row("learning_rate lr", "optimizer.lr=1", _JOHNSON, "optimizer=adam takes 0.01, of pixels in [0, 1]"),
    _row("step_size ss", "optimizer=adam optimizer.lr=0.01", _CROWSON, "of pixels in [0, 1]"),
    _row(
        "lbfgs_num_correction",
        "optimizer.history_size=20",
        _JOHNSON,
        "of optimizer=lbfgs",
        _WHOLE,
        "optimizer.history_size={}",
    ),
    _row("avg_decay ad", "", _CROWSON, "steps are not averaged here"),
    _row("beta1 adam_beta1", "optimizer=adam optimizer.betas=[0.9,0.99]", _JOHNSON),
    # the device
    _chosen(
        "gpu device devices gpus gpu_id",
        "trainer=cuda",
        _JOHNSON,
        _GPU_CHOICES,
        "CUDA_VISIBLE_DEVICES picks one",
    ),
    _chosen("cuda use_cuda use_cudnn", "trainer=cuda", _FAST, _CUDA_CHOICES),
    _row(
        "multigpu_strategy",
        "blockwise.tile=512",
        _JOHNSON,
        "a picture too large for memory is encoded in blocks",
    ),
    _chosen(
        "backend",
        "trainer=auto",
        _JOHNSON,
        {"cudnn": "trainer=cuda", "mkl": "trainer=cpu", "nn": "trainer=auto"},
    ),
    _row("cudnn_autotune cudnn_benchmark", "trainer=auto", _JOHNSON, "PyTorch chooses the algorithms"),
    _row("random_seed manual_seed", "seed=0", _CROWSON, "", r"\d{1,9}", "seed={}"),
    # what is written
    _row(
        "output_image output_path output_img save_path out output_file",
        "output=outputs study=mine",
        _JOHNSON,
        _FOLDERS,
    ),
    _row(
        "output_dir out_dir save_dir result_dir results_dir",
        "output=outputs",
        _JOHNSON,
        _FOLDERS,
        _FILE,
        "output={}",
    ),
    _row(
        "output_name experiment_name run_name",
        "study=mine",
        _JOHNSON,
        _FOLDERS,
        r"[A-Za-z][\w-]*",
        "study={}",
    ),
    _row(
        "save_iter save_every save_freq save_interval checkpoint_iterations",
        "record.snapshot_every=100",
        _JOHNSON,
        "",
        _WHOLE,
        "record.snapshot_every={}",
    ),
    _row(
        "print_iter print_every log_interval log_every",
        "record.curves_every=10",
        _JOHNSON,
        "into curves.csv",
        _WHOLE,
        "record.curves_every={}",
    ),
    _row(
        "checkpoint_interval checkpoint_every",
        "record.checkpoint_every=50",
        _FAST,
        "",
        _WHOLE,
        "record.checkpoint_every={}",
    ),
    # training of networks
    _row(
        "dataset train_dataset h5_file save_model_dir checkpoint_model_dir batch_size export_onnx",
        "",
        _FAST,
        _NO_NETWORKS,
    ),
    _row("web host port browser proof", "logger=tensorboard", _CROWSON, "curves and pictures while it runs"),
)
