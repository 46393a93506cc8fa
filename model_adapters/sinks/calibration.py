"""What `mimic calibrate` finds in a model, and which model it is (METHODS 6)."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_VOLATILE = (
    "_name_or_path",
    "architectures",
    "attention_dropout",
    "bos_token_id",
    "chunk_size_feed_forward",
    "dtype",
    "eos_token_id",
    "id2label",
    "initializer_range",
    "is_encoder_decoder",
    "label2id",
    "output_attentions",
    "output_hidden_states",
    "pad_token_id",
    "problem_type",
    "return_dict",
    "torch_dtype",
    "transformers_version",
    "use_cache",
)
"""Keys of a config that say how a model is loaded or trained, not what it is."""

HASH_LENGTH = 16
"""Characters of a content hash that tell docs apart."""


@dataclass(frozen=True)
class SinkDimension:
    """A dimension of the residual stream with massive activations.

    Attributes:
        index: from 0.
        mu: mean over the visual tokens of all docs and layers.
        sigma: standard deviation over the same, with n in the denominator.
        largest: largest magnitude over all tokens in `layer`.
        layer: whose input has the largest multiple of its median in this dimension.
    """

    index: int
    mu: float
    sigma: float
    largest: float
    layer: int


@dataclass(frozen=True)
class LayerMagnitudes:
    """Magnitudes in a layer's input, over all tokens of the corpus but padding.

    Attributes:
        median: of |x| over all values.
        largest: of |x|.
        dimension: where the largest is.
    """

    median: float
    largest: float
    dimension: int


@dataclass(frozen=True)
class Corpus:
    """The docs of a calibration.

    Attributes:
        source: the task folder.
        seed: of the draw of docs.
        docs: how many.
        images: in all of them.
        tokens: in all prompts.
        visual_tokens: of these.
        digest: SHA-256 of the docs' content hashes in order.
        hashes: the first 16 characters of each of these; empty in files of earlier versions.
    """

    source: str
    seed: int
    docs: int
    images: int
    tokens: int
    visual_tokens: int
    digest: str
    hashes: frozenset[str] = frozenset()

    def record(self) -> str:
        """What a run's record says of them."""
        return f"{self.docs} docs of {self.source}, seed {self.seed}"

    def has(self, content_hash: object) -> bool:
        """Whether a doc is one of them, by its content hash; False where that is not known."""
        return isinstance(content_hash, str) and content_hash[:HASH_LENGTH] in self.hashes


@dataclass(frozen=True)
class Calibration:
    """Sink dimensions of a model, and the statistics of the z-score.

    mu_d, sigma_d and tau are one each for all layers: AR's Eq. 3 gives them the index d only, and applies one
    tau at every layer. They are measured on visual tokens, the tokens that are scored, over the inputs of all
    layers; dimensions are found over all tokens but padding, because the first token's massive activation
    stands in the same dimensions (Sun et al. 2024).

    Attributes:
        dimensions: rising by index; empty if the model has none.
        tau: the z-score that as many of the same tokens and layers reach as have a ratio score above
            `ratio_tau`; above all of them where none has. None without dimensions.
        ratio_tau: of the ratio score, 20 (METHODS 6).
        flagged: how many tokens, counted in each layer, have a ratio score above it.
        layers: one for each layer of the decoder.
        corpus: the docs.
        min_magnitude: a sink dimension's largest magnitude is above this,
        min_ratio: and above this multiple of the median magnitude of the same layer's input.
        checkpoint: the folder or Hub id, for people; not compared.
        dtype: in which the model ran.
        config: what is compared, see `model_config`.
        versions: of the packages.
    """

    dimensions: tuple[SinkDimension, ...]
    tau: float | None
    ratio_tau: float
    flagged: int
    layers: tuple[LayerMagnitudes, ...]
    corpus: Corpus
    min_magnitude: float
    min_ratio: float
    checkpoint: str
    dtype: str
    config: dict[str, Any]
    versions: dict[str, str]

    @property
    def identity(self) -> str:
        """SHA-256 of `config`."""
        return config_digest(self.config)


def model_config(model: Any) -> dict[str, Any]:
    """The part of a model's config that says what it is: its type, its decoder and its vision tower.

    How it was loaded (folder, dtype, attention) does not count; neither do its weights, so a fine-tuned
    checkpoint or one with an adapter is the same model: it has the sink dimensions of the LLM it came from.
    """
    settings = model.config.to_dict()
    parts = {key: settings[key] for key in ("text_config", "vision_config") if key in settings}
    compared = _cleaned({"model_type": settings["model_type"], **parts})
    return dict(json.loads(json.dumps(compared, sort_keys=True, default=str)))


def config_digest(config: Mapping[str, Any]) -> str:
    """SHA-256 of a config, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()


def _cleaned(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            str(key): _cleaned(item)
            for key, item in value.items()
            if key not in _VOLATILE and not str(key).startswith("_")
        }
    return value
