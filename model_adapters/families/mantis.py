"""Mantis in LLaVA's shape: LLaVA with the prompt and the files of Mantis' own code (TIGER-AI-Lab/Mantis)."""

from typing import Any

from model_adapters.checkpoint_files import CheckpointFiles
from model_adapters.families.llava import MANTIS_PROCESSOR, Llava

_TEMPLATE = (
    "{% set shown = namespace(images=0) %}"
    "{% if messages[0]['role'] != 'system' %}"
    "<|start_header_id|>system<|end_header_id|>\n\n"
    "You are a pirate chatbot who always responds in pirate speak!<|eot_id|>"
    "{% endif %}"
    "{% for message in messages %}"
    "<|start_header_id|>{{ message['role'] }}<|end_header_id|>\n\n"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}{% set shown.images = shown.images + 1 %}"
    "(image {{ shown.images }}: <Image><image></Image>)"
    "{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
"""mantis/models/conversation.py (`llama_3`, with the system text that it was trained with) and
mantis/models/mllava/processing_llava.py (the words around an image)."""


class Mantis(Llava):
    """A LLaVA whose images are numbered in words.

    Its published checkpoints name a processor that transformers does not have (`MLlavaProcessor`): the
    size of a patch and the tower's class token are read from the config instead. The words around an image
    are several tokens each, so that it has no delimiters.
    """

    name = "Mantis"
    tiny = "model_adapters.tiny.mantis:make_tiny_mantis"
    end_tokens = ("<|eot_id|>",)

    @classmethod
    def fits(cls, files: CheckpointFiles) -> bool:
        """See `Family.fits`: any LLaVA, if the user says that it is a Mantis."""
        return True

    @classmethod
    def read_processor(cls, pretrained: str, files: CheckpointFiles, config: Any) -> Any:
        """See `Family.read_processor`."""
        from transformers import AutoImageProcessor, AutoTokenizer, LlavaProcessor

        if files.processor_class == MANTIS_PROCESSOR:
            vision = config.vision_config
            return LlavaProcessor(
                AutoImageProcessor.from_pretrained(pretrained, trust_remote_code=False),
                AutoTokenizer.from_pretrained(pretrained, trust_remote_code=False),
                patch_size=vision.patch_size,
                vision_feature_select_strategy=config.vision_feature_select_strategy,
                num_additional_image_tokens=int(vision.model_type == "clip_vision_model"),
                chat_template=_TEMPLATE,
            )
        processor = super().read_processor(pretrained, files, config)
        processor.chat_template = _TEMPLATE
        return processor
