"""docs/ledger.md: what public releases compute beside their papers, and what is computed here."""

import ast
import re
from math import log
from pathlib import Path

import pytest
import torch
from torch import Tensor

from mimic_eval.studies.tables import printed_table
from mimic_tasks.scoring.items import score_both
from model_adapters.attention import causal_prefill
from model_adapters.interventions.base import LayerView
from model_adapters.interventions.block.kernel import BlockMask
from model_adapters.interventions.block.reference import block_mask
from model_adapters.interventions.focus.kernel import FocusPasses
from model_adapters.interventions.reference import causal_mask, causal_weights
from model_adapters.interventions.remasking.kernel import AttentionRemasking
from model_adapters.interventions.sofa.kernel import Sofa
from model_adapters.interventions.sofa.reference import factors
from model_adapters.interventions.var.reference import redistributed_weights
from model_adapters.layers import parse_layers
from model_adapters.layout import Layout, Span
from model_adapters.models import LlavaOvMask
from model_adapters.options import AdapterOptions
from stats import attainable, overall_attainable
from tests.makers.outside import picture
from tests.oracles.remasking import SCALE, draw_doc, layout_of, tensors, view_of

ROOT = Path(__file__).resolve().parents[2]
LEDGER = (ROOT / "docs" / "ledger.md").read_text()
NAMED = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", LEDGER)


def functions(file: str) -> set[str]:
    nodes = ast.walk(ast.parse((ROOT / file).read_text()))
    return {node.name for node in nodes if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize(("file", "name"), NAMED, ids=[name for _, name in NAMED])
def test_a_test_that_the_ledger_names_exists(file: str, name: str) -> None:
    assert name in functions(file)


def test_every_entry_names_a_test_and_every_test_here_is_named() -> None:
    rows = [line for line in LEDGER.splitlines() if line.startswith("| ") and not line.startswith("| paper")]
    assert len(rows) > 15
    assert [row for row in rows if "`tests/" not in row] == []
    named = {name for file, name in NAMED if file == "tests/mimic_eval/test_ledger.py"}
    own = {name for name in functions("tests/mimic_eval/test_ledger.py") if name.startswith("test_")}
    assert own - named == {
        "test_a_test_that_the_ledger_names_exists",
        "test_every_entry_names_a_test_and_every_test_here_is_named",
    }


# MIMIC


def masked_by_the_release(first: int, last: int, depth: int) -> list[int]:
    """Its loop over the layers: outside of the range the mask is dropped, and then never there again."""
    there, masked = True, []
    for layer in range(depth):
        there = there and first <= layer <= last
        if there:
            masked.append(layer)
    return masked


@pytest.mark.parametrize(("named", "depth"), [("12-23", 24), ("14-27", 28), ("0-11", 24), ("0-23", 24)])
def test_the_released_mask_is_off_unless_its_layers_begin_at_0(named: str, depth: int) -> None:
    first, last = map(int, named.split("-"))
    options = AdapterOptions.parse({"mask": "block", "variant": "released", "layers": named})
    layers = options.mask.effective_layers(options.layer_set(depth)).layers
    assert sorted(layers) == masked_by_the_release(first, last, depth)
    assert bool(layers) == (first == 0)
    paper = AdapterOptions.parse({"mask": "block", "layers": named})
    assert paper.mask.effective_layers(paper.layer_set(depth)).layers == parse_layers(named, depth)


def test_the_text_before_the_images_is_masked_as_in_the_release_unless_prefix_says_so() -> None:
    layout = layout_of([3, 4, 0, 5, 2])
    image = layout.images[0].indices()
    assert not block_mask(layout)[image, :3].any()
    assert block_mask(layout, prefix=True)[image, :3].all()
    qkv = tensors(1, layout.length)
    other = [qkv[0], qkv[1].clone(), qkv[2].clone()]
    other[1][:, :, :3] += 1
    other[2][:, :, :3] += 1
    for prefix in (False, True):
        mask = BlockMask(prefix=prefix)
        before, after = (mask.prefill(*x, LayerView((layout,)), scale=SCALE) for x in (qkv, other))
        assert torch.equal(before[:, :, image], after[:, :, image]) == (not prefix)


def test_prompts_above_20000_tokens_are_masked_too() -> None:
    """The release drops its mask there in evaluation, and says so on stdout only."""
    layout = Layout(20_050, 0, (Span(10, 10_000), Span(10_000, 20_000)))
    rows = torch.tensor([15_000, 20_040])
    query, key = torch.ones(1, 2, 4), torch.ones(1, layout.length, 4)
    image, text = BlockMask().weights(query, key, LayerView((layout,)), 0, rows, scale=1.0)[0]
    assert image[:10_000].max() == 0
    assert float(image[10_000:15_001].sum()) == pytest.approx(1)
    assert text[:20_041].min() > 0


def test_the_saving_is_89_percent_of_a_masked_layer_and_half_of_that_of_all_attention() -> None:
    """Ten images of 730 tokens and 54 of text; 12 of 24 layers are masked. -81 % is the paper's."""
    layout = layout_of([14, *[730, 0] * 9, 730, 40])
    dense, masked = int(causal_mask(layout).sum()), int(block_mask(layout).sum())
    assert layout.length == 7354
    assert round(100 * (1 - masked / dense)) == 89
    assert 44 <= 100 * 12 * (dense - masked) / (24 * dense) <= 45


def test_the_four_scores_of_the_7b_model_do_not_average_to_the_printed_number() -> None:
    base = overall_attainable("54.0", ["71.5", "29.7", "58.1", "56.6"], [1] * 4)
    masked = overall_attainable("63.8", ["75.5", "51.2", "72.1", "55.0"], [1] * 4)
    assert base.verdict == "attainable"
    assert masked.verdict == "not attainable"
    assert "63.4" in masked.reason


def test_a_perfect_list_scores_half_officially_and_fully_here() -> None:
    both = score_both("listing", "cat, dog", {"gt": "cat, dog"})
    assert both.official["counts"] == (1, 2, 2)
    assert both.ours["score"] == 1.0


# VAR


def test_each_prompt_has_its_own_sinks_whatever_came_before(
    planted: Path, calibrations: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The release keeps the sinks of its first question for all that follow."""
    monkeypatch.setenv("MIMIC_CACHE", str(calibrations))
    model = LlavaOvMask(pretrained=str(planted), mask="var", score="z", tau=1.0, journal="off", device="cpu")
    found: list[Tensor] = []
    find = model.engine.find_sinks
    assert find is not None

    def noted(hidden: Tensor, layouts: tuple[Layout, ...], layer: int) -> Tensor:
        found.append(find(hidden, layouts, layer))
        return found[-1]

    monkeypatch.setattr(model.engine, "find_sinks", noted)

    def sinks_of(seed: int) -> list[Tensor]:
        found.clear()
        content = [{"type": "image"}, {"type": "image"}, {"type": "text", "text": "Which?"}]
        prompt = model.family.prompt([{"role": "user", "content": content}])
        model.reply([[picture(seed), picture(seed + 1)]], [prompt], {"max_new_tokens": 2, "until": []})
        return list(found)

    second_alone, first, second = sinks_of(7), sinks_of(3), sinks_of(7)
    assert all(map(torch.equal, second, second_alone))
    assert not all(map(torch.equal, first, second))


def test_the_last_layer_is_left_alone_unless_the_released_variant_is_chosen() -> None:
    def layers(**more: str) -> frozenset[int]:
        return AdapterOptions.parse({"mask": "var", **more}).layer_set(32)

    assert layers() == frozenset(range(2, 31))
    assert layers(variant="released") == frozenset(range(2, 32))


def test_the_small_number_is_added_to_the_visual_mass_once_and_not_once_a_token() -> None:
    """With 576 visual tokens the release lowers a share of 0.5005 to 0.4991 at I = 0.2, and edits the row."""
    visual, sink, on_images = 576, 1, 0.2
    layout = Layout(visual + 2, 0, (Span(1, visual + 1),))
    alpha = torch.zeros(1, layout.length, layout.length, dtype=torch.float64)
    row = alpha[0, -1]
    row[1] = 0.5005 * on_images
    row[2 : visual + 1] = (on_images - row[1]) / (visual - sink)
    row[0] = 1 - on_images
    sinks = torch.zeros(layout.length, dtype=torch.bool)
    sinks[1] = True
    released = row[1] / (row[1 : visual + 1] + 1e-6).sum()
    assert released <= 0.5 < row[1] / (on_images + 1e-6)
    none = torch.zeros_like(sinks)
    edited = redistributed_weights(alpha, layout, sinks, none, min_visual_share=0.19)
    assert torch.equal(edited[0, -1], row)
    row[1] -= 0.002 * on_images  # a share below one half in both
    edited = redistributed_weights(alpha, layout, sinks, none, min_visual_share=0.19)
    assert not torch.equal(edited[0, -1], row)


# SoFA


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_minus_10000_times_one_minus_sigma_opens_nothing(dtype: torch.dtype) -> None:
    """The re-implementation in FOCUS's code; here half of sigma is half of the weight."""
    scores = 20 * torch.randn(50, generator=torch.Generator().manual_seed(0))
    scores = scores.to(dtype)
    seen = torch.arange(50) < 30
    closed = torch.softmax(torch.where(seen, scores, -1e4), dim=-1)
    for sigma in (0.0, 0.25, 0.5, 0.75, 0.97):
        added = torch.where(seen, 0.0, (1 - sigma) * -1e4).to(dtype)
        assert torch.equal(torch.softmax(scores + added, dim=-1), closed)
    assert not torch.equal(torch.softmax(scores, dim=-1), closed)
    half = torch.softmax(scores.double() + torch.where(seen, 0.0, log(0.5)), dim=-1)
    full = torch.softmax(scores.double(), dim=-1)
    ratios = (half / full)[~seen] / (half / full)[seen][0]
    torch.testing.assert_close(ratios, torch.full_like(ratios, 0.5))


def test_an_image_sees_its_own_later_tokens_only_with_own_image() -> None:
    layout = layout_of([1, 3, 0, 3, 2])
    seen = causal_mask(layout)
    plain, opened = (factors(layout, seen, sigma=0.5, own_image=own) for own in (False, True))
    assert plain[1, 3] == 0  # a later token of its own image
    assert opened[1, 3] == 0.5
    assert plain[1, 4] == opened[1, 4] == 0.5  # of the next image
    qkv = tensors(1, layout.length)
    last = layout.images[1].indices()
    view = LayerView((layout,))
    base = causal_prefill(*qkv, (layout,), scale=SCALE)
    paper, release = (Sofa(sigma=0.5, own_image=o).prefill(*qkv, view, scale=SCALE) for o in (False, True))
    assert torch.equal(paper[:, :, last], base[:, :, last])
    assert not torch.equal(release[:, :, last], base[:, :, last])


def test_images_side_by_side_are_told_apart() -> None:
    """The re-implementation counts runs of image tokens: without text between, two images are one run."""
    layout = layout_of([2, 4, 0, 4, 3])
    runs = torch.diff((layout.image_numbers() >= 0).int(), prepend=torch.zeros(1, dtype=torch.int)) == 1
    assert int(runs.sum()) == 1
    qkv = tensors(1, layout.length)
    first = layout.images[0].indices()
    sofa = Sofa(sigma=0.5).prefill(*qkv, LayerView((layout,)), scale=SCALE)
    assert not torch.equal(sofa[:, :, first], causal_prefill(*qkv, (layout,), scale=SCALE)[:, :, first])


# FOCUS


def test_the_factor_m_changes_no_greedy_choice_and_every_sampled_one() -> None:
    """The release adds the M passes and takes M lambda l_0 off; here it is their mean."""
    generator = torch.Generator().manual_seed(0)
    passes = FocusPasses(lam=0.1, noise="black", shared_noise=False, noise_seed=0, cut=None)
    for m in (2, 5, 9):
        logits = torch.randn(200, m + 1, 1000, generator=generator, dtype=torch.float64)
        ours = torch.stack([passes.combine(doc, [slice(0, m + 1)])[0] for doc in logits])
        released = logits[:, 1:].sum(dim=1) - m * 0.1 * logits[:, 0]
        torch.testing.assert_close(released, m * ours)
        assert torch.equal(released.argmax(dim=-1), ours.argmax(dim=-1))
        cold, warm = (torch.softmax(x / 0.2, dim=-1).max(dim=-1).values for x in (released, ours))
        assert bool((cold > warm).all())  # as if the temperature were 0.2 / M


# AR

SUB_TASKS = {
    "Count": 234, "Action": 164, "Ground": 84, "Match": 464, "Order": 64, "Scene": 186, "Diff": 340,
    "Cartoon": 78, "Diagram": 398, "Geogra": 100, "Attribute": 196, "Retrieval": 292,
}  # fmt: skip
"""MuirBench's questions by sub-task: 2,600."""


def table4(*methods: str) -> list[dict[str, str]]:
    table = printed_table("ar_muirbench")
    names = [column.name for column in table.columns]
    assert {column.name: column.items for column in table.columns[1:]} == SUB_TASKS
    return [
        dict(zip(names, (value or "" for value in row.values), strict=True))
        for row in table.rows
        if row.setting in methods
    ]


def counts_of(rows: list[dict[str, str]]) -> tuple[int, int]:
    """Numbers that can be k of the sub-task's n questions, and all of them."""
    verdicts = [attainable(row[name], n).verdict for row in rows for name, n in SUB_TASKS.items()]
    return verdicts.count("attainable"), len(verdicts)


def test_most_numbers_of_ars_table_4_are_no_counts_of_questions() -> None:
    """91 of 432, as many as chance gives; of MuirBench's own rows 138 of 144."""
    assert sum(SUB_TASKS.values()) == 2600
    assert counts_of(table4("VAR", "SoFA", "AR")) == (91, 432)
    assert counts_of(table4("base")) == (9, 48)
    assert counts_of(table4("published")) == (138, 144)
    chances = [attainable("50.0", n).chance for n in SUB_TASKS.values()]
    expected = sum(chance for chance in chances if chance is not None) * 36
    assert 90 < expected < 96


def test_the_overall_numbers_of_ars_table_4_do_not_follow_from_their_parts() -> None:
    """Of 40 rows of its own 9 do, weighted by questions or not; of MuirBench's rows 11 of 12."""

    def follow(*methods: str) -> tuple[int, int]:
        rows, sizes = table4(*methods), list(SUB_TASKS.values())
        verdicts = [
            overall_attainable(row["overall"], [row[name] for name in SUB_TASKS], sizes).verdict
            for row in rows
        ]
        return verdicts.count("attainable"), len(rows)

    assert follow("base", "VAR", "SoFA", "AR") == (9, 40)
    assert follow("published") == (11, 12)


def test_with_one_image_ar_is_the_identity_so_its_single_image_table_is_another_reading() -> None:
    layout = layout_of([2, 9, 4])
    doc = draw_doc(layout, seed=1, sinks=0.3, grounded=0.5)
    assert doc.sinks.any()
    assert doc.grounded.any()
    qkv = tensors(1, layout.length)
    base = causal_prefill(*qkv, (layout,), scale=SCALE)
    for kernel, same in (
        (AttentionRemasking(), True),
        (AttentionRemasking(empty_rows="mask"), False),
        (AttentionRemasking(links="later_tokens"), False),
    ):
        out = kernel.prefill(*qkv, view_of([doc]), scale=SCALE)
        assert torch.equal(out, base) == same


def test_equation_10_leaves_rows_with_nothing_to_open_their_sinks() -> None:
    """Abstract and section 4 mask sinks in every row; Eq. 10's last sentence says identity: `empty_rows`."""
    layout = layout_of([2, 5, 0, 5, 4])
    doc = draw_doc(layout, seed=2, sinks=0.4, grounded=0.6)
    qkv = tensors(1, layout.length)
    base = causal_prefill(*qkv, (layout,), scale=SCALE)
    text = torch.arange(12, 16)
    keep, mask = (
        AttentionRemasking(empty_rows=rule).prefill(*qkv, view_of([doc]), scale=SCALE)[:, :, text]
        for rule in ("keep", "mask")
    )
    assert torch.equal(keep, base[:, :, text])
    assert not torch.equal(mask, base[:, :, text])
    weights = causal_weights(qkv[0][0], qkv[1][0], layout, scale=SCALE)
    assert bool((weights[:, text][:, :, doc.sinks] > 0).any())
