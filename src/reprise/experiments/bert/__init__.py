"""BERT."""
from reprise.experiments.bert.config import Config
__all__ = ["Config"]
