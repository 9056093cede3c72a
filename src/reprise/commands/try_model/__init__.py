"""Implements `reprise try`: `uses` picks what to do with each kind of model, and a module each does it."""
