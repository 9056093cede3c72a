"""x"""
from reprise.experiments.gan.config import Config
from reprise.experiments.gan.networks import networks
from reprise.experiments.gan.task import Task

__all__ = ["Config", "Task", "networks"]
