"""One optimiser for a batch of canvases, and its state as those of the single runs' optimisers.

So a batch finishes what single runs began, and the reverse.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adadelta, Adagrad, Adam, Adamax, AdamW, NAdam, Optimizer, RAdam, RMSprop, Rprop

from nstbench.optimizers.lbfgs import LBFGS

# Each number is changed by its own derivative alone: a batch of canvases is one more dimension.
_ELEMENTWISE = (SGD, Adadelta, Adagrad, Adam, Adamax, AdamW, NAdam, RAdam, RMSprop, Rprop)

State = dict[str, Any]
"""What ``state_dict`` returns."""


def can_be_batched(single: Optimizer) -> bool:
    """Tell whether a batch can do what a run's own optimiser does."""
    if type(single) is torch.optim.LBFGS:
        settings = single.param_groups[0]
        return settings["max_iter"] == 1 and settings["line_search_fn"] is None and not _maximizes(single)
    return type(single) in (LBFGS, *_ELEMENTWISE)


def of_batch(single: Optimizer, parameters: Iterable[Tensor]) -> Optimizer:
    """Return the optimiser that does for a batch's ``parameters`` what ``single`` does for a run's."""
    settings = {k: v for k, v in single.param_groups[0].items() if k != "params"}
    if isinstance(single, torch.optim.LBFGS):
        names = ("lr", "history_size", "tolerance_grad", "tolerance_change")
        return LBFGS(parameters, **{name: settings[name] for name in names})
    batch: Optimizer = type(single)(parameters)  # type: ignore[call-arg]
    batch.param_groups[0].update(settings)
    return batch


def keep(optimizer: Optimizer, module: nn.Module, rows: Sequence[int], size: int) -> None:
    """Forget all but some canvases of a batch of ``size``: in ``module`` and in its optimiser.

    The parameters are replaced: those of another shape cannot stand in for what a graph was built of.
    """
    for owner in module.modules():
        for name, old in list(owner.named_parameters(recurse=False)):
            new = nn.Parameter(old.data[list(rows)])
            setattr(owner, name, new)
            for group in optimizer.param_groups:
                group["params"][:] = [new if p is old else p for p in group["params"]]
            if old in optimizer.state:
                state = optimizer.state.pop(old)
                optimizer.state[new] = {key: _take(value, rows, size) for key, value in state.items()}


def split(batch: Optimizer, single: Optimizer, row: int, size: int) -> State:
    """Return the state of one canvas of a batch of ``size``, as ``single``, a run's own, would keep it."""
    state: State = batch.state_dict()
    of_row = {
        number: {name: _take(value, [row], size) for name, value in of_parameter.items()}
        for number, of_parameter in state["state"].items()
    }
    if isinstance(single, torch.optim.LBFGS) and of_row:
        of_row = {0: _to_torch(of_row[0])}
    return {"state": of_row, "param_groups": single.state_dict()["param_groups"]}


def join(states: Sequence[State], batch: Optimizer) -> State:
    """Return the state of a batch, from those that its runs' own optimisers kept."""
    own: list[Mapping[Any, Any]] = [state["state"] for state in states]
    if isinstance(batch, LBFGS):
        size = batch.param_groups[0]["history_size"]
        own = [{0: _from_torch(s[0], size)} if "old_dirs" in s.get(0, ()) else s for s in own]
    joined = {
        number: {name: _put([s[number][name] for s in own]) for name in of_parameter}
        for number, of_parameter in own[0].items()
    }
    return {"state": joined, "param_groups": batch.state_dict()["param_groups"]}


def _take(value: Any, rows: Sequence[int], size: int) -> Any:
    if isinstance(value, Tensor):
        # A number, such as Adam's count of steps, is everybody's; optimisers change it in place.
        return value[list(rows)] if value.dim() and len(value) == size else value.clone()
    return [value[i] for i in rows] if isinstance(value, list) else value


def _put(values: Sequence[Any]) -> Any:
    first = values[0]
    if isinstance(first, Tensor):
        return torch.cat(list(values)) if first.dim() else first.clone()
    return [each for value in values for each in value] if isinstance(first, list) else first


def _to_torch(state: Mapping[str, Any]) -> State:
    """Return the state of one canvas as ``torch.optim.LBFGS`` keeps it."""
    (steps,), (newest,) = state["steps"], state["newest"]
    if not steps:  # its gradient was 0 from the start
        return {"func_evals": 0, "n_iter": 0}
    rho = state["rho"][0]
    places = [(newest - age) % len(rho) for age in reversed(range(len(rho)))]
    held = rho.tolist()
    kept = [k for k in places if held[k]]
    return {
        "func_evals": steps,
        "n_iter": steps,
        "d": state["direction"][0].clone(),
        "t": float(state["length"][0]),
        "old_dirs": [state["changes"][0, k].clone() for k in kept],
        "old_stps": [state["moves"][0, k].clone() for k in kept],
        "ro": [rho[k].clone() for k in kept],
        "H_diag": state["scale"][0].clone() if kept else 1,
        "prev_flat_grad": state["gradient"][0].clone(),
        "prev_loss": 0.0,  # only looked at with max_iter > 1
        "al": [None] * len(rho),
    }


def _from_torch(state: Mapping[str, Any], history: int) -> State:
    """Return as a batch of one what ``torch.optim.LBFGS`` kept."""
    g = state["prev_flat_grad"]
    kept = len(state["old_dirs"])

    def ring(vectors: Sequence[Tensor]) -> Tensor:
        held: Tensor = g.new_zeros(1, history, g.numel())
        for k, vector in enumerate(vectors):
            held[0, k] = vector
        return held

    rho = g.new_zeros(1, history)
    rho[0, :kept] = torch.tensor([float(r) for r in state["ro"]])
    return {
        "steps": [state["n_iter"]],
        "newest": [kept - 1],
        "changes": ring(state["old_dirs"]),
        "moves": ring(state["old_stps"]),
        "rho": rho,
        "scale": g.new_tensor([float(state["H_diag"])]),
        "length": g.new_tensor([float(state["t"])]),
        "direction": state["d"][None],
        "gradient": g[None],
    }


def _maximizes(optimizer: Optimizer) -> bool:
    return bool(optimizer.param_groups[0].get("maximize", False))
