"""Any torchvision classification model as an encoder, with the nodes of its graph as layers."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn

from nstbench.encoders.base import (
    Encoder,
    Features,
    LayerInfo,
    Padding,
    Pooling,
    disable_in_place,
    pool_like,
    set_padding,
    side,
)
from nstbench.encoders.files import load_into
from nstbench.encoders.registry import Weights
from nstbench.encoders.state_dict import load_state_dict
from nstbench.encoders.weights import file_sha256, locate, own_file
from nstbench.errors import UserError, did_you_mean

# Input size for finding channels and strides of the graph; every classifier accepts it.
_PROBE = 224


class TorchvisionModel(Encoder):
    """A torchvision classification model, traced; its layers are the names of the graph's nodes.

    ``layers`` holds the nodes whose value is a map ``(B, C, h, w)``, such as ``layer1.0.relu`` of a
    ResNet. In-place operations of the graph (ReLUs, the ``+=`` of residuals) are replaced, as they
    would overwrite feature maps.

    Args:
        model: Name of the model in torchvision, such as ``resnet50``.
        weights: ``default`` for torchvision's own, ``none`` for random ones, or path of a file.
        seed: Seed of the random weights.
        pooling: Kind of pooling, ``max`` or ``average``.
        padding: Padding of the padded convolutions.
        download: Whether to fetch torchvision's weights if they are not on this machine.

    Raises:
        UserError: If there is no such model, it cannot be traced, or its weights are missing.
    """

    def __init__(
        self,
        model: str = "resnet18",
        weights: str = "default",
        seed: int = 0,
        pooling: Pooling = "max",
        padding: Padding = "zeros",
        download: bool = False,
    ) -> None:
        from torchvision import models

        known = models.list_models(module=models)
        if model not in known:
            hint = did_you_mean(model, known, what="models")
            raise UserError("encoder.model", model, "torchvision has no such classification model", hint)
        super().__init__("torch")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = models.get_model(model, weights=None)
        if weights != "none":
            file = _weight_file(model, weights, download)
            parameters = sum(p.numel() for p in network.parameters())
            load_into(network, load_state_dict(file, parameters=parameters), file.name)
            self.weights_sha256 = file_sha256(file)
        else:
            self.weights_sha256 = f"random:{model}:{seed}"
        _swap_pools(network, pooling)
        set_padding(network, padding)
        self.graph = _trace(model, network)
        try:
            self.layers = _geometry(self.graph)
        except (
            RuntimeError,
            AssertionError,
        ) as error:  # a fixed input size, or branches of different sizes
            reason = f"an encoder must accept pictures of any size ({str(error).splitlines()[0]})"
            hint = "Choose a convolutional model, and padding other than none."
            raise UserError("encoder.model", model, reason, hint) from error
        self.default_layers = _choose_layers(self.layers)
        self._parts: dict[tuple[str, ...], fx.GraphModule] = {}
        self.freeze()

    def smallest_picture(self, layers: Iterable[str]) -> int:
        """Return the shortest edge that runs, found by trials on the meta device."""
        part = deepcopy(_up_to(self.graph, list(layers))).to("meta")
        stride = super().smallest_picture(layers)
        for size in range(stride, 16 * stride):
            try:
                if all(min(v.shape[-2:]) > 0 for v in part(torch.empty(1, 3, size, size, device="meta"))):
                    return size
            except RuntimeError:
                continue
        return 16 * stride

    def _features(self, x: Tensor, layers: Sequence[str]) -> Features:
        key = tuple(layers)
        if key not in self._parts:
            self._parts[key] = _up_to(self.graph, layers)
        values = self._parts[key](x)
        return dict(zip(layers, values, strict=True))


def _weight_file(model: str, weights: str, download: bool) -> Path:
    if weights != "default":
        hint = "Type `default`, `none` (random weights) or the path of a file."
        return own_file(weights, "there is no such file", hint)
    from torchvision.models import get_model_weights

    url = get_model_weights(model).DEFAULT.url
    file = url.rsplit("/", 1)[-1]
    # torchvision's file names end in the first eight digits of their sha256.
    prefix = Path(file).stem.rsplit("-", 1)[-1]
    entry = Weights(
        name=model,
        file=file,
        urls=(url,),
        sha256=prefix,
        bytes=None,
        preprocessing="torch",
        architecture=model,
        licence="BSD-3-Clause (code); trained on ImageNet",
        note="torchvision's default weights",
    )
    return locate(entry, download=download)


def _swap_pools(network: nn.Module, pooling: Pooling) -> None:
    for module in network.modules():
        for name, child in module.named_children():
            if isinstance(child, nn.MaxPool2d):
                setattr(module, name, pool_like(child, pooling))


def _trace(model: str, network: nn.Module) -> fx.GraphModule:
    """Return the graph of the network in evaluation mode, without in-place operations."""
    from torchvision.models.feature_extraction import create_feature_extractor, get_graph_node_names

    network.eval()
    disable_in_place(network)
    try:
        names = get_graph_node_names(network)[1]
        graph: fx.GraphModule = create_feature_extractor(network, return_nodes={n: n for n in names[1:]})
    except Exception as error:  # torch.fx raises many types for what it cannot trace
        reason = f"its graph cannot be traced ({error})"
        raise UserError("encoder.model", model, reason, "Choose another model.") from error
    out_of_place = {operator.iadd: operator.add, operator.imul: operator.mul}
    for node in graph.graph.nodes:
        node.target = out_of_place.get(node.target, node.target)
        if node.kwargs.get("inplace"):
            node.kwargs = {**node.kwargs, "inplace": False}
    graph.recompile()
    return graph


def _outputs(graph: fx.GraphModule) -> dict[str, fx.Node]:
    """Return the nodes by the names that torchvision gave them."""
    output = next(node for node in graph.graph.nodes if node.op == "output")
    return dict(output.args[0])


def _up_to(graph: fx.GraphModule, layers: Sequence[str]) -> fx.GraphModule:
    """Return the part of the graph that computes ``layers``, with their values as outputs in that order."""
    mapping: dict[fx.Node, Any] = {}
    part = fx.Graph()
    named = _outputs(graph)
    needed: set[fx.Node] = set()
    todo = [named[layer] for layer in layers]
    while todo:
        node = todo.pop()
        if node not in needed:
            needed.add(node)
            todo.extend(node.all_input_nodes)
    for node in graph.graph.nodes:
        if node in needed:
            mapping[node] = part.node_copy(node, lambda n: mapping[n])
    part.output(tuple(mapping[named[layer]] for layer in layers))
    return fx.GraphModule(graph, part)


def _geometry(graph: fx.GraphModule) -> dict[str, LayerInfo]:
    """Return channels, stride and receptive field of every node that yields a feature map.

    The second dimension of a feature map is fixed and the last two grow with the picture, unlike
    those of maps with channels last, of tokens and of pooled vectors.
    """
    small, large = _shapes(graph, _PROBE, _PROBE), _shapes(graph, 2 * _PROBE, 3 * _PROBE)
    fields = _receptive_fields(graph)
    infos = {}
    for name, node in _outputs(graph).items():
        one, two = small[name], large[name]
        if len(one) == 4 and one[1] == two[1] and one[2] > 1 and two[2] > one[2] and two[3] > two[2]:
            infos[name] = LayerInfo(one[1], round(_PROBE / one[2]), fields[node])
    return infos


def _shapes(graph: fx.GraphModule, height: int, width: int) -> dict[str, tuple[int, ...]]:
    """Return the shape of every node's value for a picture, without computing the values."""
    probe = deepcopy(graph).to("meta")
    values = probe(torch.empty(1, 3, height, width, device="meta"))
    return {name: tuple(v.shape) if isinstance(v, Tensor) else () for name, v in values.items()}


def _receptive_fields(graph: fx.GraphModule) -> dict[fx.Node, int | None]:
    """Return each node's receptive field: the sum of (kernel - 1)·stride; None: the whole picture."""
    reaches: dict[fx.Node, _Reach] = {}
    modules = dict(graph.named_modules())
    for node in graph.graph.nodes:
        inputs = [reaches[n] for n in node.all_input_nodes]
        known = [field for field, _ in inputs]
        field = None if None in known else max((f for f in known if f is not None), default=1)
        stride = max((stride for _, stride in inputs), default=1)
        if node.op == "call_module":
            reaches[node] = _reach_after(modules[str(node.target)], field, stride)
        else:
            reaches[node] = (None if _mixes_positions(node) else field, stride)
    return {node: field for node, (field, _) in reaches.items()}


_Reach = tuple[int | None, int]
"""A receptive field and a stride."""


def _reach_after(module: nn.Module, field: int | None, stride: int) -> _Reach:
    """Return the receptive field and the stride after a module."""
    if isinstance(module, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d):
        kernel = side(module.kernel_size)
        if isinstance(module, nn.Conv2d):
            kernel = (kernel - 1) * module.dilation[0] + 1
        field = None if field is None else field + (kernel - 1) * stride
        return field, stride * side(module.stride)
    if isinstance(module, nn.Sequential):  # torchvision's fused blocks are traced as one node
        for part in module:
            field, stride = _reach_after(part, field, stride)
        return field, stride
    mixes = isinstance(module, nn.AdaptiveAvgPool2d | nn.Linear) or any(module.children())
    return (None if mixes else field), stride


def _mixes_positions(node: fx.Node) -> bool:
    name = getattr(node.target, "__name__", node.target)
    mixing = {"flatten", "mean", "matmul", "adaptive_avg_pool2d", "avg_pool2d", "softmax"}
    return node.op in {"call_function", "call_method"} and name in mixing


_HEADS = ("avgpool", "classifier", "fc", "head")


def _choose_layers(layers: dict[str, LayerInfo]) -> dict[str, list[str]]:
    """Return default layers for a network without published ones: the last map at each of its strides.

    Content uses the map at stride 8, as VGG's relu4_2, or at the nearest stride; patches use the maps
    at strides 4 and 8, as VGG's relu3_1 and relu4_1.
    """
    last = {info.stride: name for name, info in layers.items() if not name.startswith(_HEADS)}
    four, eight = (min(last, key=lambda stride: abs(stride - wanted)) for wanted in (4, 8))
    patches = list(dict.fromkeys([last[four], last[eight]]))
    return {"content": [last[eight]], "style": list(last.values()), "patches": patches}
