"""Networks in portable files: written, loaded back, and compared with the live network."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from reprise.core.contract import Failed
from reprise.inference.models import Network, agree

Format = Literal["onnx", "torch"]
SUFFIXES: dict[Format, str] = {"onnx": ".onnx", "torch": ".pt2"}
TOLERANCE = 1e-4
"""Relative to the largest output, or to 1 if that is larger."""


def write(network: Network, folder: Path, kind: Format) -> tuple[Path, float]:
    """Write the network to `folder`, and return the file and its largest difference from the live network.

    Raises:
        Failed: the format cannot represent it, or the loaded file gives different outputs.
    """
    path = folder / f"{network.name}{SUFFIXES[kind]}"
    network.module.eval()
    try:
        with _quiet():
            (_write_onnx if kind == "onnx" else _write_torch)(network, path)
    except Exception as error:
        other = next(each for each in SUFFIXES if each != kind)
        said = _first_line(error)
        raise Failed(f"{network.name} cannot be written as {kind}: {said}; `--format {other}` may do it") from error
    return path, check(network, path, kind)


def check(network: Network, path: Path, kind: Format) -> float:
    """Return the largest difference between outputs of the file and the live network, over several batch sizes.

    Raises:
        Failed: a difference exceeds TOLERANCE.
    """
    first = next(iter(network.inputs.values()))
    batches = [tuple(value[:size] for value in network.inputs.values()) for size in (len(first), len(first) - 1, 1)]
    if network.longest is not None:
        batches.append(tuple(value[:, : first.shape[1] // 2] for value in network.inputs.values()))
    differences = []
    for inputs in batches:
        size = len(inputs[0])
        with torch.no_grad():
            expected = (network.live or network.module)(*inputs)
        try:
            found = _run_onnx(path, network, inputs) if kind == "onnx" else _run_torch(path, inputs)
        except Exception as error:  # each runtime has errors of its own
            raise Failed(f"{path.name} was written, but does not run on {size} inputs: {_first_line(error)}") from error
        if not agree(found, expected, TOLERANCE):
            raise Failed(
                f"{path.name} disagrees with {network.name}: for {size} inputs the outputs differ by "
                f"{_difference(found, expected)}, more than {TOLERANCE:g} of the largest or of 1"
            )
        differences.append(_largest_difference(found, expected))
    return max(differences)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _difference(found: Tensor, expected: Tensor) -> str:
    if found.shape != expected.shape:
        return f"their shapes, {list(found.shape)} for {list(expected.shape)}"
    return f"{_largest_difference(found, expected):.3g}"


def _largest_difference(found: Tensor, expected: Tensor) -> float:
    return float((found.double() - expected.double()).nan_to_num(posinf=0, neginf=0).abs().max())


def _write_onnx(network: Network, path: Path) -> None:
    program = torch.onnx.export(
        network.module,
        tuple(network.inputs.values()),
        dynamo=True,
        input_names=list(network.inputs),
        output_names=[network.output],
        dynamic_shapes=_free(network),
        external_data=False,
        verbose=False,
    )
    assert program is not None
    program.save(path)


def _run_onnx(path: Path, network: Network, inputs: tuple[Tensor, ...]) -> Tensor:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    named = {name: value.numpy() for name, value in zip(network.inputs, inputs, strict=True)}
    (found,) = session.run(None, {one.name: named[one.name] for one in session.get_inputs()})
    return torch.from_numpy(found)  # type: ignore[arg-type]


def inputs_of(path: Path, network: Network) -> list[str]:
    """Return the inputs that the file takes. ONNX drops inputs that have no effect."""
    if path.suffix != SUFFIXES["onnx"]:
        return list(network.inputs)
    import onnxruntime

    taken = {one.name for one in onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).get_inputs()}
    return [name for name in network.inputs if name in taken]


def _write_torch(network: Network, path: Path) -> None:
    with torch.no_grad():
        program = torch.export.export(network.module, tuple(network.inputs.values()), dynamic_shapes=_free(network))
    torch.export.save(program, path)


def _run_torch(path: Path, inputs: tuple[Tensor, ...]) -> Tensor:
    with torch.no_grad(), _quiet():
        return torch.export.load(path).module()(*inputs)


def _free(network: Network) -> tuple[dict[int, torch.export.Dim], ...]:
    axes = {0: torch.export.Dim("batch")}
    if network.longest is not None:
        axes[1] = torch.export.Dim("seq", max=network.longest)
    return (axes,) * len(network.inputs)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporters' many irrelevant reports and warnings."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
