"""The words and numbers that YAML's blocks are made of."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=64)]
"""Experiments, arms, datasets, parts, metrics and claims: lower case, digits and underscores.

It names files and folders, and a tag of W&B, which holds 64 characters.
"""
NAME_OF_WANDB = r"^[^/\\#?%:]{1,128}$"
"""What W&B takes as the name of a project, team or user."""
Text = Annotated[str, Field(min_length=1)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Share = Annotated[float, Field(ge=0, le=1)]
NotNegative = Annotated[float, Field(ge=0)]
