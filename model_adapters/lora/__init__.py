"""LoRA and other adapters of PEFT: read, renamed to the loaded model's modules, put on, and compared."""

from model_adapters.lora.loading import load_adapter

__all__ = ["load_adapter"]
