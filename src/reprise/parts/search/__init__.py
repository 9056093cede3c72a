"""Search for architectures: spaces of codes, tables of architectures that others have trained, and searchers."""
