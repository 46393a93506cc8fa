"""Attention as sums over groups of tokens, watched in any model under any intervention (METHODS 8)."""
