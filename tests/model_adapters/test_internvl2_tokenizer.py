"""InternVL2's original prompts and tokenizers, rebuilt without the code beside them (METHODS 12)."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
import sentencepiece

from mimic_eval.records import UserError
from model_adapters.internvl2 import OriginalCheckpoint
from model_adapters.internvl2.prompts import FORMATS
from model_adapters.models import Internvl2Mask
from tests.oracles import internvl2 as reference

MESSAGES = [
    {
        "role": "user",
        "content": [*[{"type": "image"}] * 2, {"type": "text", "text": "How many cats are there?"}],
    }
]

# ---- prompts

SYSTEM_2 = (
    "你是由上海人工智能实验室联合商汤科技开发的书生多模态大模型，"
    "英文名叫InternVL, 是一个有用无害的人工智能助手。"
)
SYSTEM_2_5 = (
    "你是书生·万象，英文名是InternVL，"
    "是由上海人工智能实验室、清华大学及多家合作单位联合开发的多模态大语言模型。"
)
CHATML = (
    "<|im_start|>system\nSYSTEM<|im_end|><|im_start|>user\n<IMG_CONTEXT>\n<IMG_CONTEXT>\n"
    "How many cats are there?<|im_end|><|im_start|>assistant\n"
)
PROMPTS = {
    "Hermes-2": CHATML.replace("SYSTEM", SYSTEM_2),
    "internlm2-chat": CHATML.replace("SYSTEM", SYSTEM_2),
    "internvl2_5": CHATML.replace("SYSTEM", SYSTEM_2_5).replace("<|im_end|>", "<|im_end|>\n"),
    "phi3-chat": (
        f"<|system|>\n{SYSTEM_2}<|end|><|user|>\n<IMG_CONTEXT>\n<IMG_CONTEXT>\n"
        "How many cats are there?<|end|><|assistant|>\n"
    ),
}


@pytest.mark.parametrize("template", FORMATS)
def test_prompts_are_those_of_the_original_chat_code(template: str, tmp_path: Path) -> None:
    reference.make_original(tmp_path / "o", "4B" if template == "phi3-chat" else "2B", template=template)
    processor = OriginalCheckpoint(str(tmp_path / "o")).make_processor()
    assert processor.apply_chat_template(MESSAGES, add_generation_prompt=True) == PROMPTS[template]
    own = [{"role": "system", "content": "Be brief. 'x' {{ y }}"}, *MESSAGES]
    text = processor.apply_chat_template(own, add_generation_prompt=True)
    system = SYSTEM_2_5 if template == "internvl2_5" else SYSTEM_2
    assert text == PROMPTS[template].replace(system, "Be brief. 'x' {{ y }}")


# ---- tokenizers


def spelled(folder: Path, text: str) -> list[int]:
    """What SentencePiece says of a text without added tokens, as the original slow classes use it."""
    model = sentencepiece.SentencePieceProcessor(model_proto=(folder / "tokenizer.model").read_bytes())
    return list(model.encode(text))


ALPHABET = [
    "cats",
    "dogs",
    " ",
    "  ",
    "\n",
    "How many",
    "answer",
    "is",
    "?",
    "ü",
    "书",
    "🦊",
    "0",
    "tables.",
    "\t",
    "x",
]


@pytest.mark.parametrize("kind", ["2B", "4B", "40B"])
def test_tokens_are_sentencepieces(kind: str, originals: dict[str, Path]) -> None:
    tokenizer = OriginalCheckpoint(str(originals[kind])).make_processor().tokenizer
    draw = random.Random(0)
    begin = [] if kind == "40B" else [1]
    for _ in range(300):
        text = "".join(draw.choice(ALPHABET) for _ in range(draw.randrange(1, 12)))
        if kind == "4B" and text[0] == " ":
            continue  # the slow Llama class itself differs from SentencePiece there
        ids = tokenizer(text)["input_ids"]
        assert ids == begin + spelled(originals[kind], text), repr(text)
        assert tokenizer.decode(ids, skip_special_tokens=True) == text


@pytest.mark.parametrize("rule", ["identity", "nfkc", "nmt_nfkc"])
@pytest.mark.parametrize("collapse", [False, True])
@pytest.mark.parametrize("prefix", [False, True])
def test_tokens_are_sentencepieces_also_where_it_changes_the_text(
    rule: str, collapse: bool, prefix: bool, tmp_path: Path
) -> None:
    reference.make_original(tmp_path / "o", "2B")
    model = reference.train_sentencepiece(
        dummy_prefix=prefix,
        user_defined=["[UNUSED_TOKEN_0]", "[UNUSED_TOKEN_1]", "[UNUSED_TOKEN_2]"],
        normalization_rule_name=rule,
        remove_extra_whitespaces=collapse,
    )
    (tmp_path / "o/tokenizer.model").write_bytes(model)
    tokenizer = OriginalCheckpoint(str(tmp_path / "o")).make_processor().tokenizer
    draw = random.Random(2)
    for _ in range(200):
        text = "".join(draw.choice([*ALPHABET, "ｃａｔ", "①", "   "]) for _ in range(draw.randrange(1, 12)))
        assert tokenizer(text)["input_ids"] == [1, *spelled(tmp_path / "o", text)], repr(text)


def test_added_tokens_keep_their_ids_and_split_the_text(originals: dict[str, Path]) -> None:
    folder = originals["2B"]
    tokenizer = OriginalCheckpoint(str(folder)).make_processor().tokenizer
    listed = json.loads((folder / "tokenizer_config.json").read_text())["added_tokens_decoder"]
    assert {token["content"]: int(i) for i, token in listed.items()}.items() <= tokenizer.get_vocab().items()
    text = "<|im_start|>user\nHow many<img><IMG_CONTEXT></img> cats[UNUSED_TOKEN_2]?<|im_end|>"
    named = {name: tokenizer.convert_tokens_to_ids(name) for name in ("<img>", "</img>", "<IMG_CONTEXT>")}
    want = [
        1,
        4,
        *spelled(folder, "user\nHow many"),
        *(named[n] for n in ("<img>", "<IMG_CONTEXT>", "</img>")),
    ]
    want += [*spelled(folder, " cats"), 5, *spelled(folder, "?"), 3]
    assert tokenizer(text)["input_ids"] == want


def test_phi3s_role_tokens_swallow_the_line_break_after_them(originals: dict[str, Path]) -> None:
    tokenizer = OriginalCheckpoint(str(originals["4B"])).make_processor().tokenizer
    assert tokenizer("<|user|>\ncats")["input_ids"] == tokenizer("<|user|>cats")["input_ids"]
    assert tokenizer.convert_ids_to_tokens(tokenizer("<|user|>\ncats")["input_ids"])[1] == "<|user|>"


def test_a_qwen2_tokenizer_is_qwen2s(originals: dict[str, Path]) -> None:
    from transformers import Qwen2Tokenizer

    ours = OriginalCheckpoint(str(originals["1B"])).make_processor().tokenizer
    theirs = Qwen2Tokenizer.from_pretrained(originals["1B"])
    draw = random.Random(1)
    for _ in range(300):
        text = "".join(draw.choice([*ALPHABET, "<|im_end|>", "<img>"]) for _ in range(draw.randrange(1, 12)))
        assert ours(text)["input_ids"] == theirs(text)["input_ids"]


def test_a_tokenizer_json_and_added_tokens_json_serve_too(originals: dict[str, Path], tmp_path: Path) -> None:
    import shutil

    from transformers import AutoTokenizer

    want = OriginalCheckpoint(str(originals["1B"])).make_processor().tokenizer
    shutil.copytree(originals["1B"], tmp_path / "o")
    want.save_pretrained(tmp_path / "saved")
    shutil.copy(tmp_path / "saved/tokenizer.json", tmp_path / "o")
    settings = json.loads((tmp_path / "o/tokenizer_config.json").read_text())
    added = {token["content"]: int(place) for place, token in settings.pop("added_tokens_decoder").items()}
    (tmp_path / "o/tokenizer_config.json").write_text(json.dumps(settings))
    (tmp_path / "o/added_tokens.json").write_text(json.dumps(added))
    for name in ("vocab.json", "merges.txt"):
        (tmp_path / "o" / name).unlink()
    got = OriginalCheckpoint(str(tmp_path / "o")).make_processor().tokenizer
    text = "How many cats?<|im_end|><img>"
    assert got(text)["input_ids"] == want(text)["input_ids"]
    assert AutoTokenizer.from_pretrained(tmp_path / "saved")(text)["input_ids"] == want(text)["input_ids"]


# ---- refusals


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("tokenizer.model", None, "it has no tokenizer.model, no tokenizer.json, and no vocab.json"),
        ("tokenizer.model", b"\x0a", "its tokenizer.model cannot be read"),
        ("tokenizer.model", b"not a model at all", "its tokenizer.model cannot be read"),
        ("tokenizer_config.json", None, "it has no tokenizer_config.json"),
        ("tokenizer_config.json", b"{", "its tokenizer_config.json cannot be read"),
    ],
)
def test_tokenizer_files_that_do_not_fit_are_refused(
    file: str, content: bytes | None, message: str, tmp_path: Path
) -> None:
    reference.make_original(tmp_path / "o", "2B")
    if content is None:
        (tmp_path / "o" / file).unlink()
    else:
        (tmp_path / "o" / file).write_bytes(content)
    with pytest.raises(UserError) as error:
        Internvl2Mask(pretrained=str(tmp_path / "o"))
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "unigram", "vocab_size": 300}, "its tokenizer.model is no BPE model"),
        ({"vocab_size": 410}, "its added token <img> should be 420, not 410"),
    ],
)
def test_a_sentencepiece_model_that_cannot_be_rebuilt_is_refused(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    reference.make_original(tmp_path / "o", "2B")
    model = reference.train_sentencepiece(dummy_prefix=False, user_defined=["a1", "a2", "a3"], **changes)
    (tmp_path / "o/tokenizer.model").write_bytes(model)
    with pytest.raises(UserError, match=message):
        OriginalCheckpoint(str(tmp_path / "o"))
