"""Constrained strings and numbers that the YAML models share."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=64)]
"""Name of an experiment, arm, dataset, part, metric or claim: lower-case letters, digits and underscores.

Names become file names, folder names and W&B tags. The 64 characters are W&B's limit on a tag.
"""
NAME_OF_WANDB = r"^[^/\\#?%:]{1,128}$"
"""Pattern that W&B accepts for the name of a project, team or user."""
Text = Annotated[str, Field(min_length=1)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Share = Annotated[float, Field(ge=0, le=1)]
NotNegative = Annotated[float, Field(ge=0)]
