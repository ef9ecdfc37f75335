"""Any torchvision classification model as an encoder, with the nodes of its graph as layers."""

from __future__ import annotations

import operator
from collections.abc import Sequence
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
    pool_like,
    refuse_in_place,
    set_padding,
)
from nstbench.encoders.files import load_into
from nstbench.encoders.weights import Weights, file_sha256, load_state_dict, locate
from nstbench.errors import UserError, did_you_mean

# The size at which the graph is walked to learn its channels and strides; every classifier takes it.
_PROBE = 224


class TorchvisionModel(Encoder):
    """A torchvision classification model, traced; its layers are the names of the graph's nodes.

    ``layers`` holds the nodes whose value is a map ``(B, C, h, w)``, such as ``layer1.0.relu`` of a
    ResNet. In-place operations of the graph (ReLUs, the ``+=`` of residuals) are replaced, so that
    a captured map stays what it was.

    Args:
        model: torchvision's name, such as ``resnet50``.
        weights: ``default`` for torchvision's own, ``none`` for random ones, or the path of a file.
        seed: of the random weights.
        pooling: ``max`` or ``average``.
        padding: of the padded convolutions.
        download: fetch torchvision's weights if they are not on this machine.

    Raises:
        UserError: if there is no such model, it cannot be traced, or its weights are missing.
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
            load_into(network, load_state_dict(file, setting="encoder.weights"), file.name)
            self.weights_sha256 = file_sha256(file)
        else:
            self.weights_sha256 = f"random:{model}:{seed}"
        _swap_pools(network, pooling)
        set_padding(network, padding)
        self.graph = _trace(model, network)
        self.layers = _geometry(self.graph)
        self.default_layers = _spread(self.layers)
        self._parts: dict[tuple[str, ...], fx.GraphModule] = {}
        self.freeze()

    def _features(self, x: Tensor, layers: Sequence[str]) -> Features:
        key = tuple(layers)
        if key not in self._parts:
            self._parts[key] = _up_to(self.graph, layers)
        values = self._parts[key](x)
        return dict(zip(layers, values, strict=True))


def _weight_file(model: str, weights: str, download: bool) -> Path:
    if weights != "default":
        if not Path(weights).is_file():
            hint = "Give `default`, `none` (random weights) or the path of a file."
            raise UserError("encoder.weights", weights, "there is no such file", hint)
        return Path(weights)
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
    """Return the graph of the network in evaluation mode, free of in-place operations."""
    from torchvision.models.feature_extraction import create_feature_extractor, get_graph_node_names

    network.eval()
    refuse_in_place(network)
    try:
        names = get_graph_node_names(network)[1]
        graph: fx.GraphModule = create_feature_extractor(network, return_nodes={n: n for n in names[1:]})
    except Exception as error:  # torch.fx raises many kinds for what it cannot follow
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
    """Return the part of the graph that ``layers`` need, returning their values in that order."""
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
    """Return channels, stride and receptive field of every node that yields a feature map."""
    from copy import deepcopy

    probe = deepcopy(graph).to("meta")  # shapes without arithmetic
    values = probe(torch.empty(1, 3, _PROBE, _PROBE, device="meta"))
    fields = _receptive_fields(graph)
    infos = {}
    for name, node in _outputs(graph).items():
        value = values[name]
        if isinstance(value, Tensor) and value.ndim == 4 and value.shape[-1] > 1:
            stride = round(_PROBE / value.shape[-1])
            infos[name] = LayerInfo(value.shape[1], stride, fields[node])
    return infos


def _receptive_fields(graph: fx.GraphModule) -> dict[fx.Node, int | None]:
    """Walk the graph, adding (kernel - 1)·stride at each window; None once a node sees everything."""
    fields: dict[fx.Node, int | None] = {}
    strides: dict[fx.Node, int] = {}
    modules = dict(graph.named_modules())
    for node in graph.graph.nodes:
        inputs = node.all_input_nodes
        if not inputs:
            fields[node], strides[node] = 1, 1
            continue
        known = [fields[n] for n in inputs]
        stride = max(strides[n] for n in inputs)
        field = None if None in known else max(f for f in known if f is not None)
        module = modules.get(str(node.target)) if node.op == "call_module" else None
        if isinstance(module, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d):
            kernel = _first(module.kernel_size)
            if isinstance(module, nn.Conv2d):
                kernel = (kernel - 1) * module.dilation[0] + 1
            field = None if field is None else field + (kernel - 1) * stride
            stride *= _first(module.stride)
        elif isinstance(module, nn.AdaptiveAvgPool2d | nn.Linear) or _mixes_positions(node):
            field = None
        fields[node], strides[node] = field, stride
    return fields


def _mixes_positions(node: fx.Node) -> bool:
    return node.op in {"call_function", "call_method"} and getattr(node.target, "__name__", node.target) in {
        "flatten",
        "mean",
        "matmul",
        "adaptive_avg_pool2d",
        "avg_pool2d",
        "softmax",
    }


def _first(size: int | tuple[int, ...]) -> int:
    return size if isinstance(size, int) else size[0]


def _spread(layers: dict[str, LayerInfo]) -> dict[str, list[str]]:
    """Choose layers for a network nobody has studied: the last map at each of its strides.

    Content takes the map at stride 8, where VGG's relu4_2 lies, or the nearest there is.
    """
    last: dict[int, str] = {}
    for name, info in layers.items():
        last[info.stride] = name
    content = min(last, key=lambda stride: abs(stride - 8))
    return {"content": [last[content]], "style": list(last.values())}
