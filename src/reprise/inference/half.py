"""A network's ONNX file in half precision, as kept in the repository."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FEWEST = 1000
"""Smaller tensors are unchanged: they take little space, and some (a polynomial's coefficients, means) matter most."""


def halve(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the same network with large constants in float16, which are converted back when it is loaded.

    Constants that are grey values of images, k/255, become bytes: the support vectors of a machine on pixels.
    """
    found = onnx.ModelProto()
    found.CopyFrom(model)
    constants, casts = [], []
    for constant in found.graph.initializer:
        values = numpy_helper.to_array(constant)
        small, nodes = _smaller(values, constant.name, constant.data_type)
        constants.append(constant if small is None else numpy_helper.from_array(small, f"{constant.name}_kept"))
        casts += nodes
        if len(nodes) == 2:  # shades: bytes over 255
            constants.append(numpy_helper.from_array(np.array(255, values.dtype), f"{constant.name}_white"))
    nodes = [*casts, *found.graph.node]
    del found.graph.initializer[:], found.graph.node[:]
    found.graph.initializer.extend(constants)
    found.graph.node.extend(nodes)
    del found.graph.value_info[:]
    onnx.checker.check_model(found)
    return found


def _smaller(values: np.ndarray[Any, Any], name: str, kind: int) -> tuple[np.ndarray[Any, Any] | None, list[Any]]:
    """Return a smaller constant, and the nodes that restore it; None if it stays as it is."""
    if values.size < FEWEST or kind not in (TensorProto.FLOAT, TensorProto.DOUBLE):
        return None, []
    shades = values * 255
    if values.min() >= 0 and values.max() <= 1 and np.abs(shades - shades.round()).max() < 1e-4:
        nodes = [
            helper.make_node("Cast", [f"{name}_kept"], [f"{name}_shades"], to=kind),
            helper.make_node("Div", [f"{name}_shades", f"{name}_white"], [name]),
        ]
        return shades.round().astype(np.uint8), nodes
    if np.abs(values).max() > np.finfo(np.float16).max:
        return None, []
    return values.astype(np.float16), [helper.make_node("Cast", [f"{name}_kept"], [name], to=kind)]
