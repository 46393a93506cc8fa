"""What a cell cost: tokens, passes, attention FLOPs three ways, time and memory."""

import contextlib
import resource
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mimic_eval.studies import Cost

if TYPE_CHECKING:
    from model_adapters.adapter import MaskedModel

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@dataclass(frozen=True)
class DecoderSize:
    """What the FLOPs of a decoder's layers follow from.

    Attributes:
        layers: number.
        heads: of queries, in a layer.
        width: of a head.
        linear: weights of all matrices of the layers.
    """

    layers: int
    heads: int
    width: int
    linear: int

    def attention(self, pairs: float) -> float:
        """FLOPs of one layer: products of queries with keys, and of weights with values.

        Args:
            pairs: of a query and a key, of one head.
        """
        return 4.0 * self.heads * self.width * pairs


def decoder_size(model: "MaskedModel") -> DecoderSize:
    """Of a loaded model; adapters of PEFT are among its matrices."""
    from model_adapters.engine import decoder_layers

    config = model.model.config.get_text_config()
    heads = int(config.num_attention_heads)
    layers = list(decoder_layers(model.base))
    matrices = (weight for layer in layers for weight in layer.parameters() if weight.ndim == 2)
    return DecoderSize(
        len(layers),
        heads,
        int(getattr(config, "head_dim", None) or config.hidden_size // heads),
        sum(int(weight.numel()) for weight in matrices),
    )


def cost_of_scores(
    mimic: Mapping[str, Any],
    size: DecoderSize,
    *,
    docs: int,
    spent: tuple[float, int] | None,
    peak_memory: int | None,
) -> Cost:
    """What a run of `lmms_eval` cost.

    FLOPs are those of prompts, as plain causal attention needs them. Blocked pairs of query and key are left
    out, opened ones added; the small products of the other methods (a column for each sink, a vector for each
    image) are not counted.

    Args:
        mimic: our part of its results.
        size: of the decoder.
        docs: in it.
        spent: seconds, and the docs that were answered in them; None: not known.
        peak_memory: bytes, or None.
    """
    run, effects = mimic["run"], mimic["effects"]
    masked = _masked_layers(run)
    seconds, answered = (None, None) if spent is None else spent
    known: dict[str, Any] = {
        "docs": docs, "answered": answered, "seconds": seconds, "peak_memory": peak_memory,
        "device": run.get("device"), "layers": size.layers, "masked_layers": masked,
    }  # fmt: skip
    work = mimic.get("work", {})
    if "causal_pairs" not in work:  # no doc has an answer
        return Cost(**known)
    dense = size.attention(work["causal_pairs"])
    counts = effects.get("edits", {}).get("counts", {})
    changed = 4.0 * size.width * (counts.get("opened_pairs", 0) - counts.get("blocked_pairs", 0))
    linear = 2.0 * size.linear * work["prompt_tokens"]
    attention = size.layers * dense
    return Cost(
        **known,
        **{name: work[name] for name in ("passes", "prompt_tokens", "visual_tokens", "output_tokens")},
        layer_flops=dense + changed / max(masked, 1),
        layer_flops_dense=dense,
        attention_flops=attention + changed,
        attention_flops_dense=attention,
        decoder_flops=linear + attention + changed,
        decoder_flops_dense=linear + attention,
    )


def _masked_layers(run: Mapping[str, Any]) -> int:
    from model_adapters.layers import parse_layers

    text = str(run.get("layers", "none"))
    return 0 if text in ("none", "") else len(parse_layers(text, int(run["depth"])))


class Peak:
    """The most memory since the start of a block.

    Attributes:
        bytes: after the block; of the GPU if torch has one, else of the process.
    """

    bytes: int | None = None


@contextlib.contextmanager
def peak_memory() -> Iterator[Peak]:
    """Measure the most memory that is held in the block."""
    import torch

    peak, on_gpu = Peak(), torch.cuda.is_available()
    if on_gpu:
        for device in range(torch.cuda.device_count()):
            torch.cuda.reset_peak_memory_stats(device)
    else:
        with contextlib.suppress(OSError):  # another system than Linux: the peak of the whole process
            _RESET.write_text("5")
    yield peak
    if on_gpu:
        peak.bytes = sum(map(torch.cuda.max_memory_allocated, range(torch.cuda.device_count())))
    else:
        peak.bytes = _resident()


def _resident() -> int:
    """The process's peak of resident memory, bytes."""
    with contextlib.suppress(OSError):
        for line in _STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
