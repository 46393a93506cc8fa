"""Training: published checkpoints on exported data, and small reference checkpoints from nothing."""
