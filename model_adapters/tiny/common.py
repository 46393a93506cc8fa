"""What the tiny checkpoints share: tokenizer, chat template, the scale of their weights and their note."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mimic_eval.records.folders import check_empty
from model_adapters.disk import NOTE

SPECIAL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<image>", "<video>")
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }} "
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}<image>{% endif %}{% endfor %}"
    "{% for part in message['content'] %}{% if part['type'] == 'text' %}{{ '\n' + part['text'] }}"
    "{% endif %}{% endfor %}"
    "<|im_end|>{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
_CORPUS_SIZE = 400
_TURN = (
    "{{% for message in messages %}}{start}{{% for part in message['content'] %}}"
    "{{% if part['type'] == 'image' %}}{image}{{% else %}}{{{{ part['text'] }}}}{{% endif %}}"
    "{{% endfor %}}{end}{{% endfor %}}{{% if add_generation_prompt %}}{answer}{{% endif %}}"
)
_VOCABULARY = 1536
WEIGHT_SCALE = 0.2  # ten times the usual, so that answers depend on the images and not on the last token


def check_new(out: Path) -> None:
    """Refuse a folder with files.

    Raises:
        UserError: it is no folder, or not empty.
    """
    check_empty(out, "")


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw weights from a seed, and leave torch's own state as it was."""
    import torch

    state = torch.random.get_rng_state()
    torch.manual_seed(seed)
    try:
        yield
    finally:
        torch.random.set_rng_state(state)


@dataclass(frozen=True)
class Making:
    """What the tiny checkpoints of all families are made from.

    Attributes:
        seed: of the weights.
        hidden: width of both towers, a multiple of 32.
        layers: of the decoder.
        intermediate: width of the decoder's MLPs, or None for twice `hidden`.
        vision_layers: of the vision tower.
        weight_scale: standard deviation of the weights; the default makes answers of random weights depend
            on the images and not on the last token, training starts from the usual 0.02.
        corpus: lines that the tokenizer is trained on, or None for sentences about numbers and things.
        words: see `make_tokenizer`.
    """

    seed: int = 0
    hidden: int = 64
    layers: int = 6
    intermediate: int | None = None
    vision_layers: int = 2
    weight_scale: float = WEIGHT_SCALE
    corpus: tuple[str, ...] | None = None
    words: tuple[str, ...] = ()


def write_note(out: Path, *, seed: int) -> None:
    """Say in the checkpoint that its weights are random."""
    note = {"kind": "random", "seed": seed, "description": "random weights: its answers mean nothing"}
    (out / NOTE).write_text(json.dumps(note) + "\n", encoding="utf-8")


def decoder_settings(tokenizer: Any, making: Making) -> dict[str, Any]:
    """The shape of the decoder: four heads, two KV heads."""
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": making.hidden,
        "intermediate_size": making.intermediate or 2 * making.hidden,
        "num_hidden_layers": making.layers,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "initializer_range": making.weight_scale,
    }


def llama_config(tokenizer: Any, making: Making) -> Any:
    """A Llama decoder."""
    from transformers import LlamaConfig

    return LlamaConfig(
        **decoder_settings(tokenizer, making), max_position_embeddings=8192, **token_ids(tokenizer)
    )


def token_ids(tokenizer: Any) -> dict[str, int | None]:
    """The ids that a decoder's config names."""
    return {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}


def qwen2_config(tokenizer: Any, making: Making) -> Any:
    """A Qwen2 decoder."""
    from transformers import Qwen2Config

    return Qwen2Config(
        **decoder_settings(tokenizer, making),
        max_position_embeddings=32768,
        tie_word_embeddings=False,
    )


def qwen3_config(tokenizer: Any, making: Making) -> Any:
    """A Qwen3 decoder: its queries and keys have norms."""
    from transformers import Qwen3Config

    return Qwen3Config(
        **decoder_settings(tokenizer, making), head_dim=making.hidden // 4, tie_word_embeddings=False
    )


def siglip_config(making: Making, *, image_size: int, patch_size: int) -> Any:
    """A SigLIP tower."""
    from transformers import SiglipVisionConfig

    return SiglipVisionConfig(
        hidden_size=making.hidden,
        intermediate_size=2 * making.hidden,
        num_hidden_layers=making.vision_layers,
        num_attention_heads=4,
        image_size=image_size,
        patch_size=patch_size,
        vision_use_head=False,
        initializer_range=making.weight_scale,
    )


def clip_config(making: Making, *, image_size: int, patch_size: int) -> Any:
    """A CLIP tower, whose first token is of the class."""
    from transformers import CLIPVisionConfig

    return CLIPVisionConfig(
        hidden_size=making.hidden,
        intermediate_size=2 * making.hidden,
        num_hidden_layers=making.vision_layers + 1,  # the features are those before the last
        num_attention_heads=4,
        image_size=image_size,
        patch_size=patch_size,
        initializer_factor=5 * making.weight_scale,
    )


def draw(parameter: Any, making: Making) -> None:
    """Random numbers for a parameter that transformers makes all equal."""
    import torch

    torch.nn.init.normal_(parameter, std=making.weight_scale)


def write_checkpoint(out: Path, model: Any, processor: Any, making: Making) -> None:
    """Write a model in half precision, its processor and its note; an answer ends with the end token."""
    tokenizer = processor.tokenizer
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    out.mkdir(parents=True, exist_ok=True)
    model.half().save_pretrained(out)
    processor.save_pretrained(out)
    write_note(out, seed=making.seed)


def make_tokenizer(
    special_tokens: Sequence[str] = SPECIAL_TOKENS,
    *,
    corpus: Sequence[str] | None = None,
    words: Sequence[str] = (),
    bos: str | None = None,
    eos: str = "<|im_end|>",
    pad: str = "<|endoftext|>",
    named: Mapping[str, str] | None = None,
) -> Any:
    """A byte-level BPE tokenizer.

    Args:
        special_tokens: those of the checkpoint, `eos` and `pad` among them.
        corpus: lines that it is trained on, or None for sentences about numbers and things.
        words: with a corpus: these and digits stand for themselves; whatever is between them, be it half a
            sentence, may become one token, so that a fixed wording costs a tiny model next to nothing.
        bos: one of `special_tokens` that starts every text, or None if none does.
        eos: ends an answer.
        pad: for padding.
        named: special tokens that are attributes of the tokenizer, by the attribute's name.
    """
    from tokenizers import ByteLevelBPETokenizer
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    if corpus is None:
        made = ByteLevelBPETokenizer()
        made.train_from_iterator(
            _sentences(), vocab_size=512, special_tokens=list(special_tokens), show_progress=False
        )
        trained = made._tokenizer
    else:
        trained = _phrase_tokenizer(special_tokens, corpus, words)
    if bos is not None:
        trained.post_processor = TemplateProcessing(
            single=f"{bos} $A", special_tokens=[(bos, trained.token_to_id(bos))]
        )
    names = {"eos_token": eos, "pad_token": pad, **({} if bos is None else {"bos_token": bos})}
    if named is not None:
        return PreTrainedTokenizerFast(tokenizer_object=trained, extra_special_tokens=dict(named), **names)
    others = [token for token in special_tokens if token != pad]
    return PreTrainedTokenizerFast(tokenizer_object=trained, additional_special_tokens=others, **names)


def turns(*, start: str, image: str, end: str, answer: str, first: str = "") -> str:
    """A chat template that shows the parts of each turn in their order.

    Args:
        start: of a turn; `message` is the turn.
        image: for an image.
        end: of a turn.
        answer: what the answer of the model follows.
        first: before all turns.
    """
    return first + _TURN.format(start=start, image=image, end=end, answer=answer)


def _sentences() -> list[str]:
    numbers = "zero one two three four five six seven eight nine ten"
    things = "images number total object class category name answer question many every all list"
    lines = [
        f"{n} {t} {i}, how many {t} in the images?"
        for i in range(40)
        for n in numbers.split()[:5]
        for t in things.split()
    ]
    return lines[:_CORPUS_SIZE] + numbers.split()


def _phrase_tokenizer(special_tokens: Sequence[str], corpus: Sequence[str], words: Sequence[str]) -> Any:
    """A byte-level BPE whose merges go across spaces, but not across `words` and digits."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    longest_first = sorted(map(re.escape, words), key=lambda word: (-len(word), word))
    apart = [r"\d", *([r" ?\b(?:" + "|".join(longest_first) + r")\b"] if words else [])]
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.Sequence(
        [
            *(pre_tokenizers.Split(Regex(pattern), "isolated") for pattern in reversed(apart)),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    trained.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=_VOCABULARY,
        special_tokens=list(special_tokens),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    trained.train_from_iterator(corpus, trainer)
    return trained
