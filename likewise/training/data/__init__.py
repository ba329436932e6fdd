"""From data sets to batches: columns and their roles, the plan and its checks, tokens, collation, streams."""
