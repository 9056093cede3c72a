"""Small files that the metrics depend on, with the scripts that made them."""
