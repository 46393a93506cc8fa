"""The permuted tasks: each doc of a plain task under several orders of its images, in one run.

`orders` draws them, `expand` makes the rows, `hooks` is what lmms-eval calls, `tasks` writes the task files,
`limit` makes ``--limit`` count docs. This folder also holds the task files of the embedded data.
"""
