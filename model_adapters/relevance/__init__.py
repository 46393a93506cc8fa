"""Relevance: which visual tokens are grounded in the question, and how much each matters (METHODS 7).

`choice` reads what the user chose; `places` says where tokens lie in their picture (families make them);
`query` is what a source may know of a doc; `sources` puts the parts together.
"""

from model_adapters.relevance.choice import RELEVANCES, RelevanceChoice, parse_relevance

__all__ = ["RELEVANCES", "RelevanceChoice", "parse_relevance"]
