"""Parts of the benchmark programs: what the machine can do, how long a call takes, what memory it needs, and how that is told."""
