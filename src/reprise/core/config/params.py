"""Schema of params.yaml and of each experiment's params/<key>.yaml."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from reprise.core.config.names import NAME_OF_WANDB, Name
from reprise.core.contract import Scale, Seed, Strict

Seeds = Annotated[list[Seed], Field(min_length=1)]
Count = Annotated[int, Field(ge=1)]


class Runtime(Strict):
    """How and on which hardware runs execute. Only `precision` and `threads` change what they compute."""

    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    """Hardware that runs use; auto takes a GPU if there is one."""
    devices: Count | Literal["auto"] = "auto"
    """Devices per run. With more than one, runs go one after another, each with DDP."""
    num_nodes: Count = 1
    """Machines per run."""
    strategy: Literal["auto", "ddp", "fsdp"] = "auto"
    """How a run is distributed over devices; auto leaves the choice to Lightning."""
    precision: Literal["auto", "32-true", "bf16-mixed"] = "auto"
    """auto: bfloat16 autocast if the experiment allows it and the hardware supports it, else float32."""
    engine: Literal["local", "ray"] = "local"
    """Where runs execute: as processes on this machine, or on a Ray cluster."""
    address: Annotated[str, Field(pattern=r"^(auto|[^/\s]+:[0-9]+)$")] = "auto"
    """Head of the Ray cluster as host:port; auto: the cluster that this machine belongs to."""
    workers: Count | Literal["auto"] = "auto"
    """Number of runs in parallel; auto: one per core, or one per GPU, or as many per GPU as `gpu_memory` allows."""
    gpu_memory: Annotated[float, Field(gt=0)] | None = None
    """GPU memory per run, in GiB. With it, `workers: auto` starts as many runs per GPU as fit into its free memory."""
    threads: Count = 1
    """Threads per run, or per device of a run. Changing it changes the last bits of results, so it makes a new run."""
    checkpoint_every: Annotated[float, Field(gt=0)] = 60.0
    """Seconds between checkpoints: the most work that a kill can lose."""

    @model_validator(mode="after")
    def _one_device_on_ray(self) -> Runtime:
        if self.engine == "ray" and (self.devices not in (1, "auto") or self.num_nodes > 1):
            raise ValueError("engine: ray gives each run one device, so devices and num_nodes are 1")
        if self.engine == "ray" and self.gpu_memory is not None:
            raise ValueError("engine: ray gives each run one device, so gpu_memory is null")
        return self


class Tracking(Strict):
    """Settings of Weights & Biases."""

    wandb: Literal["auto", "online", "offline", "off"] = "auto"
    """auto: online if there is an API key, else offline."""
    project: Annotated[str, Field(pattern=NAME_OF_WANDB)] = "reprise"
    """W&B project for the runs. The environment variable WANDB_PROJECT takes precedence."""
    entity: Annotated[str, Field(pattern=NAME_OF_WANDB)] | None = None
    """W&B team or user; null: WANDB_ENTITY, or your default entity."""


OWN_ARMS = "own_arms"


class Section(Strict):
    """Contents of params/<key>.yaml: the knobs of one experiment. Besides knobs, each scale may hold:

    - `arms`: overlays on arms of all scales; null removes an arm;
    - `own_arms`: arms that exist at this scale only.
    """

    paper: dict[str, Any]
    """Every knob, at the paper's value."""
    arms: Annotated[dict[Name, dict[str, Any]], Field(min_length=1)]
    """The variants compared: what each one changes."""
    laptop: dict[str, Any]
    """Laptop scale, an overlay on `paper`."""
    smoke: dict[str, Any]
    """Smoke scale, for tests: an overlay on `laptop`."""


class Params(Strict):
    """Contents of params.yaml."""

    scale: Scale
    """Problem size: smoke runs in seconds, laptop in minutes on two cores, paper at the paper's own size."""
    seeds: Seeds | Literal["auto"] = "auto"
    """Replicates, which also pair the arms. auto: from 1000 up, as many for each arm as its claims need."""
    runtime: Runtime = Runtime()
    """How and on which hardware runs execute."""
    tracking: Tracking = Tracking()
    """Settings of Weights & Biases."""
