"""`mask=focus` and its noise: against a hand loop, by seed, cached, counted, refused."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from PIL import Image

from mimic_eval.records import UserError, announced_effects, announced_run
from model_adapters.features import FeatureCache
from model_adapters.interventions.focus import Noise
from model_adapters.interventions.focus.kernel import Focus, FocusPasses
from model_adapters.interventions.focus.noise import DEVIATION, MEAN, NoisePicture, draw
from model_adapters.interventions.focus.reference import focus_logits, replaced_images
from model_adapters.models import LlavaOvMask
from model_adapters.options import AdapterOptions
from model_adapters.passes import PassInput, StepCounts
from model_adapters.picture import as_pictures
from tests.model_adapters.test_resume import answers as answers_to
from tests.model_adapters.test_resume import counted, messages
from tests.oracles.passes import greedy_by_hand, transformers_attention

STEPS = 6
SETTINGS = {"max_new_tokens": STEPS, "do_sample": False, "until": []}


def picture(seed: int) -> Image.Image:
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 255, (50 + 5 * seed, 80, 3), dtype=np.uint8))


DOCS: list[dict[str, Any]] = [
    {
        "images": [picture(10 * n + m) for m in range(n)],
        "question": f"{n}?{' Why?' * n}",
        "content_hash": f"h{n}",
    }
    for n in (2, 1, 3)
]


def model_of(tiny: Path, **arguments: Any) -> LlavaOvMask:
    return LlavaOvMask(**{"pretrained": str(tiny), "mask": "focus", "journal": "off"} | arguments)


def answers(model: LlavaOvMask, docs: Sequence[dict[str, Any]] = DOCS) -> list[str]:
    return answers_to(model, list(docs), max_new_tokens=STEPS)


def passes_by_hand(doc: dict[str, Any], *, shared: bool, kind: Noise, seed: int) -> list[list[Image.Image]]:
    passes = []
    for number, replaced in enumerate(replaced_images(len(doc["images"]))):
        drawn = "shared" if shared else number
        passes.append(
            [
                draw(kind, own.size, f"{seed}/{doc['content_hash']}/{drawn}/{place}")
                if place in replaced
                else own
                for place, own in enumerate(doc["images"])
            ]
        )
    return passes


WAYS: list[dict[str, Any]] = [
    {},
    {"shared_noise": True, "lambda": "0.5", "noise_seed": "7"},
    {"noise": "black", "lambda": "1.5", "cut": "0.2"},
]


@pytest.mark.parametrize("way", WAYS, ids=["usual", "shared", "cut"])
def test_answers_are_those_of_a_hand_loop_in_batches_and_alone(tiny: Path, way: dict[str, Any]) -> None:
    model = model_of(tiny, **way)
    want = []
    with transformers_attention(model.model):
        for doc in DOCS:
            shown = passes_by_hand(
                doc,
                shared=bool(way.get("shared_noise")),
                kind=way.get("noise", "imagenet_uniform"),
                seed=int(way.get("noise_seed", 0)),
            )
            prompt = prompt_of(model, doc)
            tokens = greedy_by_hand(
                model.model,
                model.family,
                shown,
                prompt,
                lambda logits: focus_logits(
                    logits, float(way.get("lambda", 0.1)), float(way["cut"]) if "cut" in way else None
                ),
                steps=STEPS,
            )
            want.append(model.family.processor.tokenizer.decode(tokens, skip_special_tokens=True))
    assert answers(model) == want
    assert want[0] != answers(model_of(tiny, mask="none"))[0]  # or it could not fail
    model.batch_size = 7
    assert answers(model) == want


# Noise


def test_noise_is_that_of_its_definition() -> None:
    """ImageNet's mean + deviation x U(0, 1), not mean + deviation x (U - 1/2) or N(0, 1)."""
    pixels = np.asarray(draw("imagenet_uniform", (300, 200), "seed")) / 255
    assert pixels.shape == (200, 300, 3)
    for c in range(3):
        channel = pixels[..., c]
        assert abs(channel.min() - MEAN[c]) < 1 / 255
        assert abs(channel.max() - MEAN[c] - DEVIATION[c]) < 1.5 / 255
        assert abs(channel.mean() - MEAN[c] - DEVIATION[c] / 2) < 0.002
        assert abs(channel.std() - DEVIATION[c] / 12**0.5) < 0.002
    uniform = np.asarray(draw("uniform", (300, 200), "seed"))
    shares = np.bincount(uniform.ravel(), minlength=256) / uniform.size * 255
    assert np.abs(shares[1:-1] - 1).max() < 0.2
    assert np.abs(shares[[0, -1]] - 0.5).max() < 0.1
    gaussian = np.asarray(draw("gaussian", (300, 200), "seed")) / 255
    assert abs((gaussian == 0).mean() - 0.5) < 0.01
    assert abs((gaussian == 1).mean() - 0.1587) < 0.005  # above 1
    assert {*np.asarray(draw("gray", (4, 3), "")).ravel()} == {127}
    assert {*np.asarray(draw("black", (4, 3), "")).ravel()} == {0}


def test_the_same_seed_draws_the_same_bytes_everywhere() -> None:
    """The digests are of this machine on 2026-11-28; other versions of NumPy and Python must agree."""
    kinds = get_args(Noise)
    found = [hashlib.sha256(draw(kind, (37, 21), "0/doc/1/2").tobytes()).hexdigest()[:8] for kind in kinds]
    assert found == DIGESTS
    assert (
        draw("uniform", (37, 21), "0/doc/1/2").tobytes() != draw("uniform", (37, 21), "0/doc/2/1").tobytes()
    )


DIGESTS = ["1941207a", "fb4e4b49", "b25d369a", "a921f540", "bd273f08"]


def test_noise_has_the_size_of_its_picture_and_is_drawn_for_seed_doc_pass_and_image() -> None:
    doc = PassInput(as_pictures([picture(1), picture(4), picture(4)]), "?", seed="doc")

    def hashes(doc: PassInput = doc, **change: Any) -> list[list[str]]:
        usual = {"lam": 0.1, "noise": "uniform", "shared_noise": False, "noise_seed": 0, "cut": None}
        passes = FocusPasses(**usual | change).expand(doc)
        for row in passes:
            assert [own.image.size for own in row.pictures] == [own.image.size for own in doc.pictures]
            assert row.prompt == doc.prompt
        return [[own.sha256 for own in row.pictures] for row in passes]

    usual, real = hashes(), [own.sha256 for own in doc.pictures]
    assert usual == hashes()
    for number, row in enumerate(usual):
        assert [own == real[place] for place, own in enumerate(row)] == [
            place == number - 1 for place in range(3)
        ]
    noise = {own for row in usual for own in row} - set(real)
    assert len(noise) == 3 * 3  # M of pass 0, M (M - 1) of the others
    for change in ({"noise_seed": 1}, {"noise": "gaussian"}):
        assert not noise & {own for row in hashes(**change) for own in row}
    assert not noise & {own for row in hashes(replace(doc, seed="other")) for own in row}
    shared = {own for row in hashes(shared_noise=True) for own in row} - set(real)
    assert len(shared) == 3
    constant = [own for row in hashes(noise="gray") for own in row]
    assert len({*constant} - set(real)) == 2  # of each size one, the same for every doc
    assert {*constant} == {own for row in hashes(replace(doc, seed="x"), noise="gray") for own in row}


# Logits


@pytest.mark.parametrize("cut", [None, 0.05, 1.0])
def test_logits_are_those_of_the_definition(cut: float | None) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(4, 50, generator=generator, dtype=torch.float64)
    logits[2, 7] = -torch.inf  # a token that one pass rules out
    passes = FocusPasses(lam=0.7, noise="black", shared_noise=False, noise_seed=0, cut=cut)
    counts = StepCounts()
    (got,) = passes.combine(logits, [slice(0, 4)], counts)
    want = focus_logits(list(logits), 0.7, cut)
    want[7] = -torch.inf
    torch.testing.assert_close(got, want, rtol=0, atol=1e-14)
    uncut = focus_logits(list(logits), 0.7)
    if cut is None:
        assert counts.docs([1]) == [{}]
    else:
        decided = int(got[uncut.argmax()] == -torch.inf)
        assert counts.docs([1]) == [{"steps": 1, "cut_steps": decided}]
    if cut == 1.0:
        assert int(got.argmax()) == int(logits[1:].mean(dim=0).argmax())


def test_a_negative_weight_of_an_impossible_token_is_no_nan() -> None:
    """-inf - lambda x -inf was NaN, which ended the run."""
    logits = torch.tensor([[-torch.inf, 0.0], [-torch.inf, 1.0], [-torch.inf, 3.0]])
    passes = FocusPasses(lam=0.5, noise="black", shared_noise=False, noise_seed=0, cut=None)
    assert passes.combine(logits, [slice(0, 3)]).tolist() == [[-torch.inf, 2.0]]


def test_one_image_and_none_are_one_pass_bit_for_bit(tiny: Path) -> None:
    model, plain = model_of(tiny), model_of(tiny, mask="none")
    rows = [DOCS[1], {**DOCS[1], "images": []}]
    with counted(model) as sizes:
        assert answers(model, rows) == answers(plain, rows)
    assert sizes == [1, 1]
    heard = []
    for one in (model, plain):
        handle = one.model.register_forward_hook(lambda module, args, out: heard.append(out.logits.clone()))
        one.reply([DOCS[1]["images"]], [prompt_of(one, DOCS[1])], {**SETTINGS, "max_new_tokens": 1})
        handle.remove()
    assert torch.equal(*heard)


# Cost


@pytest.mark.parametrize("shared", [True, False])
def test_each_picture_is_encoded_once_and_noise_takes_no_other_pictures_place(
    tiny: Path, shared: bool
) -> None:
    """2M pictures with shared noise, M (M + 1) without; stored are the M of the doc alone."""
    model = model_of(tiny, shared_noise=shared)
    cache = model.answerer.features
    assert cache is not None
    record = model.reply([DOCS[2]["images"]], [prompt_of(model, DOCS[2])], SETTINGS)[0].record
    pictures = 6 if shared else 12
    assert record == {"passes": {"passes": 4, "pictures": pictures}}
    assert cache.encoded == pictures
    assert cache.reused == 12 - pictures
    assert len(cache._stored) == 3
    bare = model_of(tiny, shared_noise=shared, feature_cache="off")
    assert answers(bare, DOCS[2:]) == answers(model, DOCS[2:])


def test_gray_pictures_are_stored_for_the_next_doc(tiny: Path) -> None:
    model = model_of(tiny, noise="gray")
    cache = model.answerer.features
    assert isinstance(cache, FeatureCache)
    answers(model, [{"images": [picture(1), picture(1).rotate(180)], "question": "?"}])
    answers(model, [{"images": [picture(1).rotate(180), picture(1)], "question": "?"}])
    assert cache.encoded == 3


def test_noise_is_neither_drawn_nor_kept_for_its_hash() -> None:
    noise = NoisePicture("uniform", (10**6, 10**6), "seed")  # three million million bytes
    assert len(noise.sha256) == 64
    small = NoisePicture("uniform", (4, 4), "seed")
    assert small.image is not small.image


def test_shared_noise_is_drawn_once_for_all_passes(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was drawn for each pass that shows it: M times as often."""
    drawn: list[str] = []

    def counting(kind: Noise, size: tuple[int, int], seed: str) -> Image.Image:
        drawn.append(seed)
        return draw(kind, size, seed)

    monkeypatch.setattr("model_adapters.interventions.focus.noise.draw", counting)
    answers(model_of(tiny, shared_noise=True), DOCS[2:])
    assert sorted(drawn) == [f"0/h3/shared/{place}" for place in range(3)]


# The journal and the record


def test_every_argument_is_in_the_journals_key(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MIMIC_CACHE", str(tmp_path))
    model = model_of(tiny, journal="on")
    assert model.journal is not None
    folders = {model.journal.folder}
    changes: list[dict[str, Any]] = [
        {"lambda": 0.2},
        {"noise": "uniform"},
        {"noise": "shared"},
        {"noise_seed": 1},
        {"cut": 0.5},
        {"mask": "orders"},
        {"mask": "orders", "shifts": 2},
        {"mask": "delimiters"},
        {"mask": "delimiters", "scale": 2},
        {"mask": "none"},
    ]
    for change in changes:
        model.change(pretrained=str(tiny), **{"mask": "focus"} | change)
        folders.add(model.journal.folder)
    assert len(folders) == 1 + len(changes)


def test_the_record_has_passes_pictures_and_cuts_whatever_the_batch(
    tiny: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Steps after a doc's end, while others of its batch go on, were counted too."""
    effects = []
    for batch_size in (1, 8):
        model = model_of(tiny, cut="0.9", **{"lambda": 2}, batch_size=batch_size)
        ends = model.model.generation_config
        ends.eos_token_id = [*_common_tokens(model), ends.eos_token_id]
        answers(model)
        effects.append(announced_effects()["passes"])
    alone, together = effects
    assert alone == together
    assert {name: alone[name] for name in ("docs", "docs_in_one_pass", "passes", "most", "pictures")} == {
        "docs": 3,
        "docs_in_one_pass": 1,
        "passes": 3 + 1 + 4,
        "most": 4,
        "pictures": 2 * 3 + 1 + 3 * 4,
    }
    assert 0 < alone["cut_steps"] <= alone["steps"] < 2 * STEPS
    line = (
        "mask=focus answered 3 docs in 8 passes, 4 at most for one doc, which show 19 different pictures; "
        "docs of one pass, as with mask=none: 1; "
        f"the cut decided {alone['cut_steps']} of {alone['steps']} tokens"
    )
    assert line in capsys.readouterr().err.splitlines()
    settings = announced_run()
    assert settings["mask"] == "focus"
    assert settings["layers"] == "none"
    assert [settings[name] for name in ("lambda", "noise", "shared_noise", "noise_seed", "cut")] == [
        2.0,
        "imagenet_uniform",
        False,
        0,
        0.9,
    ]


def _common_tokens(model: LlavaOvMask) -> list[int]:
    """The third token of a doc's answer: with it as an end token docs end at different steps."""
    tokenizer = model.family.processor.tokenizer
    text = answers(model, DOCS[:1])[0]
    return list(tokenizer(text, add_special_tokens=False)["input_ids"][2:3])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"lambda": "x"}, "lambda must be a number of at least 0, got 'x'$"),
        ({"lambda": -1}, "lambda must be a number of at least 0, got '-1'$"),
        ({"lambda": "nan"}, "lambda must be a number of at least 0, got 'nan'$"),
        ({"lamda": 1}, r"Unknown model argument 'lamda'\. Did you mean 'lambda'\?"),
        ({"cut": 0}, "cut must be a number above 0 and of at most 1, got '0'$"),
        ({"cut": 1.5}, "cut must be a number above 0 and of at most 1, got '1.5'$"),
        (
            {"noise": "white"},
            r"Unknown noise 'white'\. Valid: black, gaussian, gray, imagenet_uniform, uniform",
        ),
        ({"noise_seed": "-1"}, "noise_seed must be an integer of 1 to 18 digits, got '-1'"),
        ({"shared_noise": "yes"}, "shared_noise must be true or false, got 'yes'"),
        ({"noise": "shared", "shared_noise": False}, "noise=shared and shared_noise=false disagree"),
        ({"layers": "all"}, "layers=all is not used by mask=focus"),
        ({"mask": "block", "lambda": 1}, "lambda=1 is not used by mask=block: .* choose mask=focus"),
    ],
)
def test_a_wrong_argument_is_one_line(given: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        AdapterOptions.parse({"mask": "focus", **given})
    assert "\n" not in str(error.value)


def test_noise_shared_is_short_for_shared_noise() -> None:
    short = AdapterOptions.parse({"mask": "focus", "noise": "shared", "lambda": "0.3"}).intervention()
    assert isinstance(short, Focus)
    assert short.settings() == {
        "lambda": 0.3,
        "noise": "imagenet_uniform",
        "shared_noise": True,
        "noise_seed": 0,
        "cut": None,
    }
    assert short.passes.seeded
    assert not Focus(noise="gray").passes.seeded


def prompt_of(model: LlavaOvMask, doc: dict[str, Any]) -> str:
    return model.family.prompt([_without_pictures(messages(doc)[0])])


def _without_pictures(message: dict[str, Any]) -> dict[str, Any]:
    return {
        "role": message["role"],
        "content": [part if part["type"] == "text" else {"type": "image"} for part in message["content"]],
    }
