"""A calibration as if it had been measured."""

from model_adapters.sinks import Calibration, Corpus, LayerMagnitudes, SinkDimension


def made(*, dims: tuple[int, ...] = (1, 4), tau: float | None = 2.0, width: int = 8) -> Calibration:
    """A calibration as if it had been measured."""
    return Calibration(
        dimensions=tuple(SinkDimension(d, 0.5 * d, 1.0 + d, 500.0, 1) for d in dims),
        tau=tau,
        ratio_tau=20.0,
        flagged=3,
        layers=(LayerMagnitudes(0.1, 500.0, 1),),
        corpus=Corpus("made", 0, 1, 2, 12, 5, "0" * 64),
        min_magnitude=100.0,
        min_ratio=1000.0,
        checkpoint="made",
        dtype="float32",
        config={"model_type": "made", "text_config": {"hidden_size": width}},
        versions={"torch": "0"},
    )
