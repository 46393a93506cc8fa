"""Hooks on decoder layers: what an intervention needs of their inputs, and does to their outputs."""

from typing import TYPE_CHECKING, Any

import torch

from model_adapters.interventions.base import LayerView
from model_adapters.interventions.options import TEXT_SINKS

if TYPE_CHECKING:
    from model_adapters.engine import Engine, _Handle


class SinkHook:
    """A forward pre-hook of a decoder layer: finds the prompt's sinks in the layer's input."""

    def __init__(self, layer: int, handle: "_Handle", engine: "Engine") -> None:
        self.layer = layer
        self.handle = handle
        self.engine = engine

    def __call__(self, module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        run = self.handle.run
        hidden = args[0] if args else kwargs["hidden_states"]
        find_sinks = self.engine.find_sinks
        if run is None or run.engine is not self.engine or find_sinks is None:
            return
        if hidden.shape[1] == run.layouts[0].length:  # else a generated token: the prompt's sinks stay
            sinks = find_sinks(hidden, run.layouts, self.layer)
            if TEXT_SINKS in self.engine.intervention.needs:
                visual = torch.stack([layout.image_numbers() >= 0 for layout in run.layouts])
                visual = visual.to(sinks.device)
                run.text_sinks[self.layer] = sinks & ~visual
                sinks = sinks & visual
            run.sinks[self.layer] = sinks


class OutputHook:
    """A forward hook of a decoder layer: the intervention gets the layer's output for the prompt."""

    def __init__(self, layer: int, handle: "_Handle", engine: "Engine") -> None:
        self.layer = layer
        self.handle = handle
        self.engine = engine

    def __call__(self, module: torch.nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        run = self.handle.run
        if run is None or run.engine is not self.engine or not run.attended.get(self.layer):
            return output
        view = LayerView(
            run.layouts,
            self.layer,
            run.sinks.get(self.layer),
            run.relevance,
            run.record,
            queries=run.queries,
            text_sinks=run.text_sinks.get(self.layer),
            delimiters=run.delimiters,
        )
        if isinstance(output, tuple):
            return self.engine.intervention.after_layer(output[0], view), *output[1:]
        return self.engine.intervention.after_layer(output, view)
