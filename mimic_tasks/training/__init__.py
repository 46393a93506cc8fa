"""`mimic export-training`: the generator's docs as training data in LLaVA's form (METHODS 10)."""
