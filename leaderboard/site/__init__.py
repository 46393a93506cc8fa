"""The static leaderboard: `summarize_*` functions make records and versioned JSON, pages only render them.

`results` reads one run's task, `ranks` compares the runs of a board, `boards` and `views` gather what the
pages show, `build` writes the site, `submission` checks what others send.
"""

VERSION = 3
"""Of the records under `data/`; a site of another version is rebuilt completely."""
