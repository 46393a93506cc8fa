"""The original tokenizers without their remote code: SentencePiece models, Qwen2's files, `tokenizer.json`.

What the slow classes of the original repositories do is rebuilt on the `tokenizers` library: added tokens
keep their ids and their stripping, and a SentencePiece model its dummy prefix.
"""

from pathlib import Path
from typing import Any

from mimic_eval.records import UserError
from model_adapters.internvl2.files import one_line, read_json
from model_adapters.internvl2.sentencepiece_file import BPE, Kind, SentencePieceFile, read_sentencepiece

NAMED_TOKENS = {
    "start_image_token": "<img>",
    "end_image_token": "</img>",
    "context_image_token": "<IMG_CONTEXT>",
}
_VIDEO_TOKEN = "<video>"  # the native processor asks for one; not among the original tokens
_BEGIN, _END, _UNKNOWN = "<s>", "</s>", "<unk>"


def load_tokenizer(folder: Path, *, end_token: str) -> Any:
    """The tokenizer of an original checkpoint, as a native processor takes it.

    Args:
        folder: with `tokenizer_config.json` and the vocabulary's files.
        end_token: that ends an answer; it must be known.

    Raises:
        UserError: files that are missing, or a tokenizer that cannot be rebuilt exactly.
    """
    from transformers import PreTrainedTokenizerFast

    settings = read_json(folder / "tokenizer_config.json")
    added = _added_tokens(folder, settings)
    if (folder / "tokenizer.model").is_file():
        backend, defaults = _sentencepiece(folder / "tokenizer.model", settings, added)
    elif (folder / "tokenizer.json").is_file():
        backend, defaults = _from_json(folder / "tokenizer.json"), {}
    elif (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
        backend, defaults = _qwen2(folder), {}
    else:
        raise UserError("it has no tokenizer.model, no tokenizer.json, and no vocab.json with merges.txt")
    for token_id, token in sorted(added.items()):
        backend.add_tokens([token])
        if backend.token_to_id(token.content) != token_id:
            given = backend.token_to_id(token.content)
            raise UserError(f"its added token {token.content} should be {token_id}, not {given}")
    for token in (*NAMED_TOKENS.values(), end_token):
        if backend.token_to_id(token) is None:
            raise UserError(f"its tokenizer lacks {token}")
    named = {key: _content(settings.get(key)) for key in ("bos_token", "eos_token", "pad_token", "unk_token")}
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        padding_side="left",
        model_max_length=settings.get("model_max_length"),
        extra_special_tokens={**NAMED_TOKENS, "video_token": _VIDEO_TOKEN},
        **{**defaults, **{key: value for key, value in named.items() if value}},
    )


def _content(token: Any) -> str | None:
    return token.get("content") if isinstance(token, dict) else token


def _added_tokens(folder: Path, settings: dict[str, Any]) -> dict[int, Any]:
    """The added tokens by id: `tokenizer_config.json`'s, else `added_tokens.json`'s."""
    from tokenizers import AddedToken

    listed = settings.get("added_tokens_decoder")
    if listed:
        flags = ("single_word", "lstrip", "rstrip", "normalized", "special")
        return {
            int(token_id): AddedToken(token["content"], **{key: token[key] for key in flags if key in token})
            for token_id, token in listed.items()
        }
    if not (folder / "added_tokens.json").is_file():
        return {}
    return {
        int(token_id): AddedToken(content, normalized=False, special=True)
        for content, token_id in read_json(folder / "added_tokens.json").items()
    }


def _from_json(path: Path) -> Any:
    from tokenizers import Tokenizer

    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises nothing narrower
        raise UserError(f"its {path.name} cannot be read: {one_line(error)}") from error


def _qwen2(folder: Path) -> Any:
    """Qwen2's byte-level BPE, as `Qwen2Tokenizer` builds it from `vocab.json` and `merges.txt`."""
    from transformers import Qwen2Tokenizer

    lines = (folder / "merges.txt").read_text(encoding="utf-8").splitlines()
    merges = [tuple(line.split(" ")) for line in lines if line and not line.startswith("#version")]
    if not merges:
        raise UserError("its merges.txt has no merges")
    vocabulary = read_json(folder / "vocab.json")
    try:
        return Qwen2Tokenizer(vocab=vocabulary, merges=merges).backend_tokenizer
    except Exception as error:  # the library raises nothing narrower
        raise UserError(f"its vocab.json and merges.txt cannot be read: {one_line(error)}") from error


def _sentencepiece(path: Path, settings: dict[str, Any], added: dict[int, Any]) -> tuple[Any, dict[str, Any]]:
    """A SentencePiece BPE model, as InternLM2Tokenizer and LlamaTokenizer use it.

    Returns:
        The backend, and the special tokens that those classes set by themselves.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, processors
    from transformers.tokenization_utils_base import generate_merges

    try:
        model = read_sentencepiece(path)
    except (OSError, ValueError) as error:
        raise UserError(f"its {path.name} cannot be read: {one_line(error)}") from error
    if model.model_type != BPE:
        raise UserError(f"its {path.name} is no BPE model")
    pieces = [added[i].content if i in added else entry.text for i, entry in enumerate(model.entries)]
    scores = {name: entry.score for name, entry in zip(pieces, model.entries, strict=True)}
    unsplit = {name for i, name in enumerate(pieces) if i in added or model.entries[i].kind != Kind.NORMAL}
    vocabulary = {name: i for i, name in enumerate(pieces)}
    backend = Tokenizer(
        models.BPE(
            vocab=vocabulary,
            merges=generate_merges(vocabulary, scores, skip_tokens=unsplit),
            unk_token=_UNKNOWN,
            fuse_unk=True,
            byte_fallback=model.byte_fallback,
        )
    )
    prefix = model.dummy_prefix and settings.get("add_prefix_space") is not False
    _change_text(backend, model, settings, prefix=prefix)
    strip = [decoders.Strip(" ", left=1)] if prefix else []
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), *strip]
    )
    for i, entry in enumerate(model.entries):
        if i not in added and entry.kind in (Kind.CONTROL, Kind.USER_DEFINED):
            control = entry.kind == Kind.CONTROL
            backend.add_tokens([AddedToken(entry.text, normalized=False, special=control)])
    if settings.get("add_bos_token", True):
        begin = _content(settings.get("bos_token")) or _BEGIN
        if begin not in vocabulary:
            raise UserError(f"its {path.name} lacks {begin}")
        backend.post_processor = processors.TemplateProcessing(
            single=f"{begin} $A",
            pair=f"{begin} $A {begin} $B",
            special_tokens=[(begin, vocabulary[begin])],
        )
    return backend, {
        "bos_token": _BEGIN,
        "eos_token": _END,
        "unk_token": _UNKNOWN,
        "pad_token": _END,
    }


def _change_text(backend: Any, model: SentencePieceFile, settings: dict[str, Any], *, prefix: bool) -> None:
    """What happens to a text before it is cut into pieces.

    InternLM2's class and Llama's "legacy" one put the dummy prefix before each text between added tokens,
    Llama's other one before the first alone.
    """
    from tokenizers import Regex, normalizers, pre_tokenizers

    steps: list[Any] = [normalizers.Precompiled(model.charsmap)] if model.charsmap else []
    if model.collapses_spaces:
        steps += [
            normalizers.Replace(Regex(defaults), new) for defaults, new in ((" {2,}", " "), (r"\A | \z", ""))
        ]
    if settings.get("tokenizer_class") != "InternLM2Tokenizer" and settings.get("legacy") is False:
        scheme = "first" if prefix else "never"
        backend.pre_tokenizer = pre_tokenizers.Metaspace("▁", prepend_scheme=scheme, split=False)
    else:
        steps += [normalizers.Prepend("▁")] if prefix else []
        steps.append(normalizers.Replace(" ", "▁"))
    if steps:
        backend.normalizer = normalizers.Sequence(steps)
