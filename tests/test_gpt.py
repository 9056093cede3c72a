"""GPT: to be written."""
