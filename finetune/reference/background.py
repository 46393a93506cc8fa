"""Sinks at tokens of the background, planted before the questions are learnt (METHODS 6).

Massive activations do not emerge in a training this small. They are written into the weights, and
the training has to answer with them: the tokens that have them have lost what they showed.
"""

from itertools import islice
from typing import Any

import torch

from finetune.reference.collate import prompt
from finetune.reference.seeing import NOTHING, Glances, token_labels
from mimic_tasks.images import decode_strict
from mimic_tasks.pool import Pool
from model_adapters.engine import decoder_layers
from model_adapters.families.base import Family
from model_adapters.sinks.planted import PlantedSinks, draw_attention, plant_sinks

SIZES = (1, 2, 3, 4, 6) * 2
"""Pictures of the probe's prompts."""
DIMENSION = 7
TIMES_MEDIAN = 1500.0
"""Half precision holds the largest activations, and `mimic calibrate` finds their dimension."""


def plant_in_background(
    model: Any, family: Family, pool: Pool, *, share: float, layer: int, seed: int
) -> PlantedSinks:
    """Plant sinks at tokens on which no object lies, and let the heads attend to them.

    The decoder's config names them: a calibration is kept by the config (`sinks.model_config`), and that of a
    checkpoint without sinks is not this one's.

    Args:
        model: whose vision tower has learnt to see.
        family: the model's.
        pool: of scenes, for the probe.
        share: of the visual tokens.
        layer: the first layer whose input has the sinks.
        seed: of the draw of scenes.
    """
    glances = Glances(pool, steps=1, images=sum(SIZES), seed=seed)[0]
    pictures = [decode_strict(glance.path.read_bytes()) for glance in glances]
    places, rest = [], iter(pictures)
    for row in (list(islice(rest, size)) for size in SIZES):
        places += family.places(family.prepare([row], [prompt(family, "", len(row))]).inputs, [row])[0]
    labels = torch.cat(
        [
            token_labels(place, glance.boxes, glance.classes)
            for place, glance in zip(places, glances, strict=True)
        ]
    )
    planted = plant_sinks(
        model,
        family,
        dimensions=(DIMENSION,),
        layer=layer,
        share=share,
        times_median=TIMES_MEDIAN,
        pictures=pictures,
        sizes=SIZES,
        among=(labels == NOTHING).all(dim=1),
    )
    draw_attention(model, family, planted, pictures=pictures, sizes=SIZES)
    model.config.get_text_config().planted_sinks = {"dimension": DIMENSION, "layer": layer}
    return planted


@torch.no_grad()
def remove_sinks(model: Any) -> None:
    """Take planted sinks away: what wrote them writes nothing, and the config names none."""
    config = model.config.get_text_config()
    block: Any = decoder_layers(model)[config.planted_sinks["layer"] - 1]
    block.mlp.down_proj.weight[config.planted_sinks["dimension"], 0] = 0
    del config.planted_sinks
