"""What the engine asks of an intervention."""

from typing import Any, Protocol

from torch import Tensor

from model_adapters.layout import Layout


class Intervention(Protocol):
    """A change of the decoder's attention.

    Attributes:
        name: its value of ``mask=``.
    """

    name: str

    def prefill(
        self, query: Tensor, key: Tensor, value: Tensor, layouts: tuple[Layout, ...], *, scale: float
    ) -> Tensor:
        """Attention of the prompt in a changed layer.

        Args:
            query: (B, H, N, D), after RoPE.
            key: (B, KV, N, D), after RoPE.
            value: (B, KV, N, D).
            layouts: B layouts of length N.
            scale: factor on the scores.

        Returns:
            (B, H, N, D); what stands at padding is not used.
        """
        ...

    def settings(self) -> dict[str, Any]:
        """The settings beside its layers, for the run's record."""
        ...
