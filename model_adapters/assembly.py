"""What an adapter is put together from, as its options say: device, dtype, sinks and relevance."""

import math
import os
import re
import sys
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mimic_eval.records import UserError
from model_adapters.families.base import Family
from model_adapters.features import FeatureCache
from model_adapters.interventions.base import Intervention
from model_adapters.interventions.options import DELIMITERS, TEXT_SINKS
from model_adapters.layers import format_layers
from model_adapters.layout import Layout
from model_adapters.options import AdapterOptions
from model_adapters.relevance import parse_relevance
from model_adapters.relevance.sources import RelevanceSource
from model_adapters.sinks import FindSinks, find_calibration, find_or_make_calibration


def find_sinks(
    options: AdapterOptions, model: Any, intervention: Intervention, family: Family | None = None
) -> FindSinks | None:
    """How sinks are detected, for an intervention that needs them.

    Args:
        options: as the user gave them.
        model: under PEFT or not.
        intervention: that needs them or not.
        family: the model's, where a missing calibration can be made; None: it is refused.

    Raises:
        UserError: the calibration found no sink dimension, or no score reaches tau.
    """
    given = options.sinks
    if given is None:
        return None
    pretrained = options.general.pretrained
    if family is not None and given.calibrate and given.calibration is None:
        calibration = find_or_make_calibration(model, family, pretrained=pretrained)
    else:
        calibration = find_calibration(model, given.calibration, pretrained=pretrained)
    if not calibration.dimensions and not given.allow_no_sinks:
        raise UserError(
            f"mask={intervention.name} needs sinks, but this model's calibration found no sink "
            "dimension: allow_no_sinks=true runs it all the same, as mask=none would"
        )
    text = TEXT_SINKS in intervention.needs
    finder = FindSinks(calibration, score=given.score, tau=given.tau, text=text)
    if given.score == "z" and given.tau is None and calibration.dimensions and not calibration.flagged:
        raise UserError(
            f"score=z has no tau for this model: in its calibration no token's ratio score is above "
            f"{calibration.ratio_tau:g}; give tau="
        )
    width = model.config.get_text_config().hidden_size
    most = math.sqrt(width)
    if calibration.dimensions and finder.score == "ratio" and (finder.tau or 0) >= most:
        raise UserError(
            f"score=ratio is at most {most:.3g} in a decoder of width {width}: "
            f"tau={finder.tau:g} finds no sink, choose a smaller one, or score=z"
        )
    return finder


def masked_layers(options: AdapterOptions, depth: int) -> frozenset[int]:
    """The layers that the mask changes; a line says where they are not those that were named.

    Args:
        options: as the user gave them.
        depth: layers of the decoder.
    """
    named = options.layer_set(depth)
    layers, why = options.mask.effective_layers(named)
    if layers != named:
        rest = f"only {format_layers(layers)} are changed" if layers else "none is changed, as with mask=none"
        print(f"mask={options.general.mask}: of layers {format_layers(named)} {rest}: {why}", file=sys.stderr)
    return layers


def changed_layers(options: AdapterOptions, family: Family, depth: int) -> frozenset[int]:
    """The layers that the intervention changes; those without softmax attention are never among them.

    Args:
        options: as the user gave them.
        family: of the checkpoint.
        depth: layers of the decoder.

    Raises:
        UserError: no layer is left.
    """
    requested = masked_layers(options, depth)
    softmax = family.attention_layers
    if softmax is None or requested <= softmax:
        return requested
    left, others = requested & softmax, format_layers(set(range(depth)) - softmax)
    if not left:
        raise UserError(
            f"layers={format_layers(requested)} have no softmax attention that "
            f"mask={options.general.mask} could change; those that have: {format_layers(softmax)}"
        )
    print(f"Layers {others} have no softmax attention and stay as they are", file=sys.stderr)
    return left


def check_delimiters(intervention: Intervention, family: Family) -> None:
    """Refuse a family without delimiters, for an intervention that needs them.

    Raises:
        UserError: none of its tokens is known to mark where an image starts or ends.
    """
    if DELIMITERS in intervention.needs and not family.delimiters:
        raise UserError(
            f"mask={intervention.name} needs tokens that mark where each image starts or ends, and of a "
            f"'{family.model_type}' checkpoint ({family.name}) none are known: choose another mask or model"
        )


def delimiters_of(
    intervention: Intervention, family: Family, layouts: Sequence[Layout], device: torch.device
) -> Tensor | None:
    """bool (B, N), the delimiters of each row; None for an intervention that does not need them."""
    if DELIMITERS not in intervention.needs:
        return None
    mask = torch.zeros(len(layouts), layouts[0].length, dtype=torch.bool)
    for row, layout in zip(mask, layouts, strict=True):
        row[list(family.delimiter_tokens(layout))] = True
    return mask.to(device)


def feature_cache(options: AdapterOptions, family: Family) -> FeatureCache | None:
    """Where the vision tower's output is stored, or None if the user wants none or the family has none.

    Raises:
        UserError: the user asks for what needs the vision tower's output, and the family cannot say it.
    """
    general = options.general
    if family.has_features:
        return FeatureCache(general.feature_cache * 2**20) if general.feature_cache else None
    requested = [f"pool={general.pool}"] if general.pool > 1 else []
    if "feature_cache" in options.given and general.feature_cache:
        requested.append(f"feature_cache={general.feature_cache}")
    if requested:
        raise UserError(
            f"{requested[0]} needs the vision tower's output apart from the decoder, which is not known of a "
            f"'{family.model_type}' checkpoint in hf_mask: leave it out"
        )
    return None


def relevance_source(
    options: AdapterOptions, device: torch.device, family: type[Family]
) -> RelevanceSource | None:
    """The source of relevance, for an intervention that needs it.

    Raises:
        UserError: an outside model that is not there, or a family whose tokens show no parts of a picture.
    """
    given = options.relevance
    if given is None:
        return None
    choice = parse_relevance(given.relevance)
    if choice.needs_places and not family.has_places:
        raise UserError(
            f"relevance={choice} needs the part of the picture that each token shows, and {family.name}'s "
            "tokens show none: choose uniform or attention"
        )
    source = RelevanceSource(
        choice,
        grounding=given.grounding,
        sam=given.sam,
        clip=given.clip,
        box_threshold=given.box_threshold,
        text_threshold=given.text_threshold,
        top=given.top,
        device=str(device),
        dtype=given.relevance_dtype,
    )
    source.identities()  # a missing one is refused before anything is run
    return source


def chosen_device(name: str | None) -> torch.device:
    """The requested device, else this process's GPU, else the CPU."""
    gpus = torch.cuda.device_count()
    if name is None:
        return torch.device(f"cuda:{os.environ.get('LOCAL_RANK', 0)}" if gpus else "cpu")
    if not re.fullmatch(r"cpu|cuda(:\d+)?", name):
        raise UserError(f"device must be cpu, cuda or cuda:N, got '{name}'")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= gpus:
        raise UserError(f"device={name}: this machine has {gpus} GPUs that torch can use")
    return device


def chosen_dtype(name: str, device: torch.device) -> Any:
    if name == "auto":
        return torch.float32 if device.type == "cpu" else "auto"
    return getattr(torch, name)
