"""`mimic diagnose`: a run's attention, two runs compared, and the search for heads."""
