"""What Grounding DINO looks for (METHODS 7)."""

import re

from mimic_eval.records import TASKS
from model_adapters.relevance.query import Query

_MOST = 8
_ANYTHING = "object"
_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*|[^\w\s]")
_FUNCTION_WORDS = """
a about above across after again all also an and another any anything are as at be because been before being
below between both but by can could did do does doing each either else every everything exactly few fewer
for from had half has have having he her hers him his how i if in into is it its just least less like many
more most much my neither no none nor not nothing of off on one ones only or other others our out over own
per please same several she should so some something such than that the their them then there these they
thing things this those through to together too under up us very was we were what when where whether which
while who whom whose why will with within without would yes you your
"""
_QUESTION_WORDS = """
answer answers appear appearing appears ask asked based best bottom caption categories category choice
choose class classes color colour comma commas common compare contain contained containing contains correct
count counted counting describe described describes description difference differences different directly
false find first following form fourth give given image images instance instances kind kinds last left
letter list listed look looked looking majority minority name named names naming number numbers odd option
options photo photograph photographs photos picture pictures present provide question reply right same
second see seen select separate separated show showing shown shows similar single tell there third top total
true type types visible visual word words
"""
_STOP = frozenset(f"{_FUNCTION_WORDS} {_QUESTION_WORDS}".split())


def phrases_of(query: Query) -> tuple[str, ...]:
    """The things that a doc's question names, without its answer.

    Counting: the queried classes. Listing: the category. Any other question: its noun phrases.
    """
    named = TASKS.get(query.kind).named(query.targets, query.category) if query.kind is not None else ()
    return tuple(name.lower() for name in named) or noun_phrases(query.question)


def noun_phrases(question: str) -> tuple[str, ...]:
    """The phrases of a question that may name things: its runs of words that are no function words.

    No grammar: a word counts as part of a name unless it is one of about 250 listed English function words
    and words of questions about images ("how", "which", "picture", "answer"), so other verbs and adjectives
    stay. Punctuation ends a phrase; numbers, letters and placeholders like ``<image>`` are left out.

    Returns:
        At most 8 different phrases, lower case, in order; ``("object",)`` if the question names nothing.
    """
    phrases: list[str] = []
    run: list[str] = []
    for word in [*_WORD.findall(re.sub(r"<[^<>]*>", ".", question.lower())), "."]:
        if word in _STOP or len(word) == 1 or not word[0].isalpha():
            if run:
                phrases.append(" ".join(run))
            run = []
        else:
            run.append(word)
    return tuple(dict.fromkeys(phrases))[:_MOST] or (_ANYTHING,)
