"""What params.yaml and each experiment's params/<key>.yaml can say."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from reprise.core.config.names import NAME_OF_WANDB, Name
from reprise.core.contract import Scale, Seed, Strict

Seeds = Annotated[list[Seed], Field(min_length=1)]
Count = Annotated[int, Field(ge=1)]


class Runtime(Strict):
    """On what, and how, runs execute; none of it but `precision` and `threads` changes what they compute."""

    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    """What runs compute on; auto: a GPU where there is one."""
    devices: Count | Literal["auto"] = "auto"
    """Devices of one run. With more than one, runs go one after another, each by DDP."""
    num_nodes: Count = 1
    """Machines that one run is spread over."""
    strategy: Literal["auto", "ddp", "fsdp"] = "auto"
    """How a run is spread over devices; auto: as Lightning chooses."""
    precision: Literal["auto", "32-true", "bf16-mixed"] = "auto"
    """auto: bfloat16 autocast where the experiment allows it and the processor has it, else float32."""
    engine: Literal["local", "ray"] = "local"
    """Where the grid of arms and seeds runs: processes of this machine, or a Ray cluster."""
    address: Annotated[str, Field(pattern=r"^(auto|[^/\s]+:[0-9]+)$")] = "auto"
    """The head of the Ray cluster, host:port; auto: of the cluster that this machine is a node of."""
    workers: Count | Literal["auto"] = "auto"
    """Runs side by side, on GPUs also several on each; auto: one for each core, or as `gpu_memory` says of GPUs."""
    gpu_memory: Annotated[float, Field(gt=0)] | None = None
    """GiB of a GPU that a run may take: `workers: auto` puts as many on each as its free memory holds; null: one."""
    threads: Count = 1
    """Threads of each run, or of each of its devices; another number changes the last bits, and makes another run."""
    checkpoint_every: Annotated[float, Field(gt=0)] = 60.0
    """Seconds: the most that a kill can cost."""

    @model_validator(mode="after")
    def _one_device_on_ray(self) -> Runtime:
        if self.engine == "ray" and (self.devices not in (1, "auto") or self.num_nodes > 1):
            raise ValueError("engine: ray gives each run one device, so devices and num_nodes are 1")
        if self.engine == "ray" and self.gpu_memory is not None:
            raise ValueError("engine: ray gives each run one device, so gpu_memory is null")
        return self


class Tracking(Strict):
    """Weights & Biases."""

    wandb: Literal["auto", "online", "offline", "off"] = "auto"
    """auto: online where there is a key, else offline."""
    project: Annotated[str, Field(pattern=NAME_OF_WANDB)] = "reprise"
    """The W&B project that runs go to; WANDB_PROJECT in the environment goes before it."""
    entity: Annotated[str, Field(pattern=NAME_OF_WANDB)] | None = None
    """The W&B team or user; null: WANDB_ENTITY, or your own."""


OWN_ARMS = "own_arms"


class Section(Strict):
    """The whole of params/<key>.yaml: the knobs of one experiment. Beside its knobs each scale may hold:

    - `arms`: overlays on arms of all scales; null takes an arm away;
    - `own_arms`: arms that this scale alone has.
    """

    paper: dict[str, Any]
    """Every knob at the paper's value."""
    arms: Annotated[dict[Name, dict[str, Any]], Field(min_length=1)]
    """The variants: what each of them changes."""
    laptop: dict[str, Any]
    """What is smaller on a laptop: an overlay on `paper`."""
    smoke: dict[str, Any]
    """What is smaller still in tests: an overlay on `laptop`."""


class Params(Strict):
    """The whole of params.yaml."""

    scale: Scale
    """How large the problem is: smoke for seconds, laptop for minutes on two cores, paper as in the paper."""
    seeds: Seeds | Literal["auto"] = "auto"
    """Replicates; arms are compared paired by seed. auto: for each arm as many as its claims need, from 1000 up."""
    runtime: Runtime = Runtime()
    """On what, and how, runs execute."""
    tracking: Tracking = Tracking()
    """Weights & Biases."""
