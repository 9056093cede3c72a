"""Reprise reproduces deep learning's landmark experiments by editing YAML."""

__version__ = "0.1.0"
