"""Reading, merging and validating YAML, with the position of every value."""
