"""Our scores read an answer as a person would (METHODS 2, 2.1)."""

import dataclasses
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mimic_eval.records import UserError
from mimic_tasks.scoring import (
    COCO_CLASSES,
    doc_classes,
    find_mentions,
    plural,
    score,
    score_common,
    score_counting,
    score_listing,
    score_oddone,
)
from tests.work import calls


def names(text: str, *, negated: bool | None = None, classes: tuple[str, ...] = COCO_CLASSES) -> list[str]:
    found = find_mentions(text, classes)
    return [mention.class_name for mention in found if negated is None or mention.negated is negated]


def test_coco_has_80_classes_each_found_by_its_name_and_its_plural() -> None:
    assert len(COCO_CLASSES) == len(set(COCO_CLASSES)) == 80
    for name in COCO_CLASSES:
        for text in (name, plural(name), name.upper(), name.replace(" ", "_"), name.replace(" ", "-")):
            assert names(f"I see {text}.") == [name]
        assert names(name.replace(" ", "")) == [name]


@pytest.mark.parametrize(
    ("name", "many"),
    [
        ("person", "people"),
        ("bus", "buses"),
        ("bench", "benches"),
        ("sheep", "sheep"),
        ("skis", "skis"),
        ("scissors", "scissors"),
        ("broccoli", "broccoli"),
        ("wine glass", "wine glasses"),
        ("knife", "knives"),
        ("sandwich", "sandwiches"),
        ("couch", "couches"),
        ("mouse", "mice"),
        ("toothbrush", "toothbrushes"),
        ("tv", "tvs"),
        ("gentleman", "gentlemen"),
        ("High heels", "High heels"),
        ("Butterfly", "Butterflies"),  # was Butterflys
        ("Sunglasses", "Sunglasses"),  # was Sunglasseses
        ("Human foot", "Human feet"),
        ("ottoman", "ottomans"),
        ("policeman", "policemen"),
        ("mongoose", "mongooses"),
        ("blouse", "blouses"),
        ("leaf", "leaves"),
        ("reef", "reefs"),
        ("octopus", "octopuses"),
        ("Watercraft", "Watercraft"),
        ("TV", "TVs"),  # was TVS
    ],
)
def test_plurals(name: str, many: str) -> None:
    assert plural(name) == many


COCO_PLURALS = (
    "people, bicycles, cars, motorcycles, airplanes, buses, trains, trucks, boats, traffic lights, fire "
    "hydrants, stop signs, parking meters, benches, birds, cats, dogs, horses, sheep, cows, elephants, "
    "bears, zebras, giraffes, backpacks, umbrellas, handbags, ties, suitcases, frisbees, skis, "
    "snowboards, sports balls, kites, baseball bats, baseball gloves, skateboards, surfboards, tennis "
    "rackets, bottles, wine glasses, cups, forks, knives, spoons, bowls, bananas, apples, sandwiches, "
    "oranges, broccoli, carrots, hot dogs, pizzas, donuts, cakes, chairs, couches, potted plants, beds, "
    "dining tables, toilets, tvs, laptops, mice, remotes, keyboards, cell phones, microwaves, ovens, "
    "toasters, sinks, refrigerators, books, clocks, vases, scissors, teddy bears, hair driers, "
    "toothbrushes"
)
"""As questions of all builds so far have them; a change would be other bytes of the same build."""


def test_the_plurals_of_cocos_classes_are_those_of_all_builds() -> None:
    assert [plural(name) for name in COCO_CLASSES] == COCO_PLURALS.split(", ")


def test_an_answer_in_the_plural_names_a_class_with_a_capital_letter() -> None:
    scored = score_listing("butterflies, dogs", {"gt": "Butterfly, Dog"})
    assert scored.score == 1.0  # was 0.5: "Butterflys" was looked for


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("hot dog", ["hot dog"]),
        ("hotdogs and dogs", ["hot dog", "dog"]),
        ("teddy bear", ["teddy bear"]),
        ("carrot", ["carrot"]),
        ("cattle", ["cow"]),
        ("category, scary, dogma", []),
        ("cat1 cat_2", ["cat"]),  # an underscore ends a word, a digit does not
        ("sofa, television, doughnuts, motorbike, plane", ["couch", "tv", "donut", "motorcycle", "airplane"]),
        ("a man, two women and some children", ["person", "person", "person"]),
        ("tv remote", ["remote"]),
        ("an orange cat", ["cat"]),
        ("oranges, cats", ["orange", "cat"]),
        ("the cat's bowl", ["cat", "bowl"]),
        ("glass, bag, computer", []),
        ("bus stop", []),
        ("carrot cake", ["cake"]),
    ],
)
def test_the_longest_whole_word_name_wins(text: str, found: list[str]) -> None:
    assert names(text) == found


def test_a_mention_spans_its_words() -> None:
    (mention,) = find_mentions("Two Hot-Dogs!", COCO_CLASSES)
    assert (mention.class_name, mention.start, mention.end) == ("hot dog", 4, 12)


@pytest.mark.parametrize(
    ("text", "said", "denied"),
    [
        ("no cat", [], ["cat"]),
        ("not a cat", [], ["cat"]),
        ("there isn't a cat", [], ["cat"]),
        ("there isn’t a cat", [], ["cat"]),
        ("without any cats", [], ["cat"]),
        ("neither cats nor dogs", [], ["cat", "dog"]),
        ("no cats, dogs, or birds", [], ["cat", "dog", "bird"]),
        ("no cats and dogs", [], ["cat", "dog"]),
        ("the cat is not present", [], ["cat"]),
        ("I do not see a cat", [], ["cat"]),
        ("not a cat but a dog", ["dog"], ["cat"]),
        ("no cats, only dogs", ["dog"], ["cat"]),
        ("not a cat, a dog", ["dog"], ["cat"]),
        ("no cat and a dog", ["dog"], ["cat"]),
        ("No, it is a cat", ["cat"], []),
        ("not only a cat", ["cat"], []),
        ("The cat is not in the other images", ["cat"], []),
        ("The one that is not like the others is the cat", ["cat"], []),
    ],
)
def test_negation_reaches_what_it_denies_and_no_further(
    text: str, said: list[str], denied: list[str]
) -> None:
    assert names(text, negated=False) == said
    assert names(text, negated=True) == denied


def test_a_docs_own_classes_are_known_and_its_own_words_stand() -> None:
    doc = {"targets": ["Zeppelin"], "boxes": [{"class": "Mobile phone"}, {"class": "Couch"}]}
    classes = doc_classes(doc, ["Cats"])
    assert {"Zeppelin", "Mobile phone", "Couch", "Cats", "dog"} <= set(classes)
    assert not {"cell phone", "couch", "cat"} & set(classes)
    assert names("zeppelins, cell phone, sofa, cat", classes=classes) == [
        "Zeppelin",
        "Mobile phone",
        "Couch",
        "Cats",
    ]


def test_a_class_beats_a_synonym_of_another_class() -> None:
    assert names("man", classes=doc_classes({}, ["Man"])) == ["Man"]
    assert names("people", classes=doc_classes({}, ["Man"])) == ["person"]


COUNTS = [
    ("3", 3),
    (" 3.\n", 3),
    ("3.0", 3),
    ("1,000", 1000),
    ("twenty-one", 21),
    ("Twenty one dogs", 21),
    ("one hundred and five", 105),
    ("a dozen", 12),
    ("Two dogs.", 2),
    ("two (2)", 2),
    ("**3**", 3),
    ("There are 3 dogs in total", 3),
    ("2 in the first and 3 in the second, 5 in total", 5),
    ("There are 5 dogs in total, 2 in the first and 3 in the second", 5),
    ("In total, there are 5 dogs", 5),
    ("2 + 3 = 5", 5),
    ("2+3=5", 5),
    ("Total: 2 + 3 = 5", 5),
    ("The total number of dogs is 7.", 7),
    ("Answer: 4", 4),
    ("Image 1: 2 dogs", 2),
    ("Images 1 and 2: 3 dogs", 3),
    ("Image 1: 2 dogs, Image 2: 3 dogs. Total: 5", 5),
    ("In the first image there are 2", 2),
    ("There are 4 dogs across the 3 images", 4),
    ("3\n\nImage 1 has 2, the other 1", 3),
    ("no dogs", 0),
    ("None.", 0),
    ("There aren't any dogs", 0),
    ("None of the images have dogs", 0),
    ("No, there are 3", 3),
    ("not 3 but 4", 4),
    ("I'm not sure, maybe 3", 3),
]


@pytest.mark.parametrize(("response", "number"), COUNTS)
def test_counting_reads_the_number(response: str, number: int) -> None:
    scored = score_counting(response, {"gt": str(number)})
    assert (scored.parsed, scored.status, scored.score) == (number, "parsed", 1.0)
    assert score_counting(response, {"gt": str(number + 1)}).score == 0.0


@pytest.mark.parametrize(
    ("response", "status"),
    [
        ("", "empty"),
        ("  \n", "empty"),
        ("3-4", "ambiguous"),
        ("3 or 4", "ambiguous"),
        ("between 3 and 4", "ambiguous"),
        ("2 in one, 3 in the other", "ambiguous"),
        ("-3", "unparsed"),
        ("minus 3", "unparsed"),
        ("3.5", "unparsed"),
        ("50%", "unparsed"),
        ("at least 3", "unparsed"),
        ("3+", "unparsed"),
        ("3rd", "unparsed"),
        ("several", "unparsed"),
        ("No.", "unparsed"),
        ("9" * 5000, "unparsed"),
        ("not 3", "negated"),
        ("There aren't 3", "negated"),
        ("I cannot tell", "refused"),
        ("I can’t determine the number", "refused"),
        ("I don't know", "refused"),
        ("Sorry", "refused"),
        ("I'm sorry, but I can't see 3 images.", "refused"),
        ("I'm not sure.", "refused"),
    ],
)
def test_counting_says_why_an_answer_is_not_read(response: str, status: str) -> None:
    scored = score_counting(response, {"gt": "3"})
    assert (scored.parsed, scored.status, scored.score) == (None, status, 0.0)


def test_numbers_of_other_classes_are_not_the_count() -> None:
    doc = {"gt": "3", "targets": ["dog"]}
    for response in ("3 dogs and 2 cats", "no cats and 3 dogs", "3 puppies next to 2 cats"):
        assert score_counting(response, doc).score == 1.0
    assert score_counting("3 cats", doc).status == "unparsed"


TWO = {"gt": "dog: 2, car: 1", "targets": ["dog", "car"], "k": 2}


@pytest.mark.parametrize(
    "response",
    [
        "dog: 2, car: 1",
        "car: 1, dog: 2",
        "Dog = 2; Car = 1",
        "2 dogs, 1 car",
        "2 dogs and 1 car",
        "There are two dogs and one automobile.",
        "dog: 2 and 1 car",
        "1. dog: 2\n2. car: 1",
        "- dog - 2\n- car - 1",
        "dogs: 2 cars: 1",
        "2, 1",
        "2 and 1",
        "2 dogs, 1 car, 3 in total",
        "dog: two (2), car: 1",
    ],
)
def test_several_counts_are_read_in_every_accepted_form(response: str) -> None:
    scored = score_counting(response, TWO)
    assert (scored.parsed, scored.status) == ({"dog": 2, "car": 1}, "parsed")
    assert (scored.score, scored.class_accuracy) == (1.0, 1.0)


@pytest.mark.parametrize(
    ("response", "status", "parsed", "share"),
    [
        ("dog: 2, car: 3", "parsed", {"dog": 2, "car": 3}, 0.5),
        ("1, 2", "parsed", {"dog": 1, "car": 2}, 0.0),
        ("2 dogs, no cars", "parsed", {"dog": 2, "car": 0}, 0.5),
        ("dog: 2", "ambiguous", {"dog": 2}, 0.5),
        ("dog: 2, dog: 3, car: 1", "ambiguous", {"car": 1}, 0.5),
        ("dog: 3-4, car: 1", "ambiguous", {"car": 1}, 0.5),
        ("2, 1, 3", "ambiguous", None, 0.0),
        ("2", "ambiguous", None, 0.0),
        ("cat: 2, horse: 1", "ambiguous", None, 0.0),
        ("I don't know", "refused", None, 0.0),
        ("", "empty", None, 0.0),
        ("dogs", "ambiguous", None, 0.0),
    ],
)
def test_several_counts_need_all_right_and_report_the_share(
    response: str, status: str, parsed: dict[str, int] | None, share: float
) -> None:
    scored = score_counting(response, TWO)
    assert (scored.status, scored.parsed, scored.score, scored.class_accuracy) == (status, parsed, 0.0, share)


@pytest.mark.parametrize(
    ("response", "gt"),
    [
        ("cat", "cat"),
        ("Cats.", "cat"),
        ("sofa", "couch"),
        ("dogs", "dog"),
        ("cell_phone", "cell phone"),
        ("dog. The other images contain cats", "dog"),
        ("dog\ncat is only in one", "dog"),
        ("The answer is dog! Not cat.", "dog"),
        ("not a cat but a dog", "dog"),
        ("zeppelin", "zeppelin"),
    ],
)
def test_common_and_oddone_accept_one_class_that_is_gt(response: str, gt: str) -> None:
    for scorer in (score_common, score_oddone):
        scored = scorer(response, {"gt": gt})
        assert (scored.parsed, scored.status, scored.score) == (gt, "parsed", 1.0)


def test_what_the_other_images_lack_is_the_odd_one_and_not_common() -> None:
    answer = "The cat is not present in the other images"
    assert score_oddone(answer, {"gt": "cat"}).parsed == "cat"
    assert score_common(answer, {"gt": "cat"}).score == 0.0


@pytest.mark.parametrize(
    ("response", "status"),
    [
        ("", "empty"),
        ("no cat", "negated"),
        ("There is no cat.", "negated"),
        ("cat and dog", "ambiguous"),
        ("All of them.\ncat and dog", "ambiguous"),
        ("I'm sorry, I cannot identify the cat.", "refused"),
        ("I can't tell", "refused"),
        ("unicorn", "unparsed"),
        ("category", "unparsed"),
        ("cattle", "parsed"),
        ("carrot", "parsed"),
        ("hot dog", "parsed"),
    ],
)
def test_common_refuses_what_is_not_exactly_gt(response: str, status: str) -> None:
    for gt in ("cat", "car", "dog"):
        scored = score_common(response, {"gt": gt})
        assert (scored.status, scored.score) == (status, 0.0)


@pytest.mark.parametrize(
    "response",
    [
        "cat, dog",
        "dogs and cats",
        "cat; dog",
        "- cat\n- dog",
        "1. Cat\n2. Dog",
        "1. Cat 2. Dog",
        "The animals are: cat, dog.",
        "Here are the animals:\n* **cat**\n* **dog**",
        "cat, cat, dog",
        "There is a cat and a dog in the images.",
        "cat, dog, etc.",
        "cat (3), dog (2)",
        "cat, dog, no birds",
    ],
)
def test_listing_reads_every_form_of_a_list(response: str) -> None:
    scored = score_listing(response, {"gt": "cat, dog"})
    assert (scored.parsed, scored.status, scored.score) == (("cat", "dog"), "parsed", 1.0)
    assert (scored.recalled, scored.generated, scored.relevant) == (2, 2, 2)


@pytest.mark.parametrize(
    ("response", "status", "counts"),
    [
        ("cat, dog, horse", "parsed", (2, 3, 2)),
        ("cat, unicorn", "parsed", (1, 2, 2)),
        ("zorp, zorp, the zorp", "parsed", (0, 1, 2)),
        ("a hot dog and a cat", "parsed", (1, 2, 2)),
        ("no cat, dog", "parsed", (1, 1, 2)),
        ("no cats or dogs", "negated", (0, 0, 2)),
        ("none", "negated", (0, 0, 2)),
        ("There are many lovely creatures to be seen here", "unparsed", (0, 0, 2)),
        ("I cannot see the images", "refused", (0, 0, 2)),
        ("", "empty", (0, 0, 2)),
        ("...", "unparsed", (0, 0, 2)),
    ],
)
def test_listing_counts_for_the_corpus_f1(response: str, status: str, counts: tuple[int, int, int]) -> None:
    scored = score_listing(response, {"gt": "cat, dog"})
    assert (scored.recalled, scored.generated, scored.relevant) == counts
    recalled, generated, relevant = counts
    assert scored.status == status
    assert scored.score == pytest.approx(2 * recalled / (generated + relevant))


GTS = {"counting": "3", "listing": "cat, dog", "common": "cat", "oddone": "hot dog"}
PIECES = st.sampled_from(
    [
        *COCO_CLASSES[:20],
        "no",
        "not",
        "3",
        "-",
        "two",
        ",",
        ":",
        "=",
        "in total",
        "\n",
        "Image 1",
        "n't",
        "orange",
        "3.5",
    ]
)


@settings(deadline=None)
@given(st.one_of(st.text(), st.lists(PIECES).map(" ".join)))
def test_no_response_crashes_a_scorer(response: str) -> None:
    docs: list[tuple[str, dict[str, Any]]] = [
        *((kind, {"gt": gt}) for kind, gt in GTS.items()),
        ("counting", TWO),
    ]
    for kind, doc in docs:
        scored = score(kind, response, doc)
        assert 0.0 <= scored.score <= 1.0
        assert scored.status == "parsed" or scored.score == 0.0
        assert score(kind, response, doc) == scored
        if kind == "listing":
            assert scored.recalled <= min(scored.generated, scored.relevant)


@settings(deadline=None)
@given(st.from_regex(r"[A-Za-z]{1,9}( [A-Za-z]{1,9})?", fullmatch=True))
def test_any_class_name_is_found_by_itself_in_its_doc(name: str) -> None:
    (found,) = find_mentions(name, doc_classes({"targets": [name], "boxes": None}))
    assert found.class_name.casefold() == name.casefold()


@pytest.mark.parametrize(
    ("kind", "gt", "message"),
    [
        ("counting", "three", "gt of a counting doc must be an integer >= 0 .*, got 'three'"),
        ("counting", "dog: x", "gt of a counting doc must be"),
        ("counting", ": 2", "gt of several counts must read like 'dog: 2, car: 1', got ': 2'"),
        ("common", "", "gt must name a class, got ''"),
        ("listing", ", ", "gt must name a class"),
        ("comon", "cat", "Unknown task 'comon'. Did you mean 'common'"),
    ],
)
def test_a_gt_or_task_that_does_not_fit_is_a_users_error(kind: str, gt: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        score(kind, "3", {"gt": gt})


def test_results_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        score_common("cat", {"gt": "cat"}).score = 2.0  # type: ignore[misc]


def test_importing_the_room_loads_nothing_slow() -> None:
    code = (
        "import sys, mimic_tasks.scoring, stats\n"
        "print([m for m in ('word2number', 'scipy', 'statsmodels', 'torch') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_very_long_answer_is_read_in_linear_time() -> None:
    def work(words: int) -> int:
        return calls(lambda: score_counting("dog and " * words, {"gt": "dog: 1, cat: 2"}))

    work(1)
    assert work(8_000) < 2.1 * work(4_000)  # 4 times as many in the quadratic reading
    score_counting("dog and " * 20_000, {"gt": "dog: 1, cat: 2"})  # which took minutes here
