"""What `mimic tune` does: the values that are tried, the docs, the runs, and what is written of them."""
