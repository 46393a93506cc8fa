"""`mimic reproduce`: `plan` reads what the user wants, `data` builds, `estimate` predicts, `running` runs."""
