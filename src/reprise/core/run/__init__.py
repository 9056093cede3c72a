"""One run, from prepared data to weights and scores, and the grid of all of them."""
