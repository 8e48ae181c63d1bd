"""An ONNX graph, written as arithmetic on its values.

The package onnx, an extra, does the checking and the bytes.
"""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import numpy as np

Shape = tuple[int | str, ...]

OPSET = 14
"""The lowest with every operator used here: any onnxruntime since 1.8, of 2021."""

IR_VERSION = 7
"""Of the file's own format: the one that came with opset 14."""

MAX_BYTES = 2**31 - 2**20
"""Protocol buffers hold less than 2 GiB; the nodes and their names fit in the rest."""


def import_onnx() -> Any:
    """The package onnx.

    Raises:
        ImportError: If it is not installed; the message says how to get it.
    """
    try:
        import onnx
    except ImportError as error:
        raise ImportError(
            'ONNX files need the package onnx: pip install "rnnjax[convert]"'
        ) from error
    return onnx


@dataclasses.dataclass(frozen=True)
class Value:
    """What an input, a weight or a node of a graph gives.

    Attributes:
        graph: The graph that it belongs to.
        name: Its name there.
    """

    graph: Graph
    name: str

    # NumPy leaves `array + value` to the value.
    __array_ufunc__ = None

    def __add__(self, other: Operand) -> Value:
        return self.graph.add("Add", self, other)

    def __sub__(self, other: Operand) -> Value:
        return self.graph.add("Sub", self, other)

    def __rsub__(self, other: Operand) -> Value:
        return self.graph.add("Sub", other, self)

    def __mul__(self, other: Operand) -> Value:
        return self.graph.add("Mul", self, other)

    def __truediv__(self, other: Operand) -> Value:
        return self.graph.add("Div", self, other)

    def __matmul__(self, other: Operand) -> Value:
        return self.graph.add("MatMul", self, other)

    def __lt__(self, other: Operand) -> Value:
        return self.graph.add("Less", self, other)


Operand = Value | np.ndarray | np.generic


class Graph:
    """Inputs, weights, nodes and outputs.

    Args:
        outer: The graph whose node this one is the body of; None for the outermost.
    """

    def __init__(self, outer: Graph | None = None) -> None:
        self._onnx = import_onnx()
        self.inputs: list[Any] = []
        self.outputs: list[Any] = []
        self.nodes: list[Any] = []
        # A body sees the weights of the graph around it.
        self.weights: dict[str, np.ndarray] = {} if outer is None else outer.weights
        self._numbers: itertools.count[int] = (
            itertools.count() if outer is None else outer._numbers
        )

    def body(self) -> Graph:
        """A graph for a node of this one, which sees what is known here."""
        return Graph(self)

    def input(self, name: str | None, dtype: Any, shape: Shape) -> Value:
        """What the caller gives; a string is the name of a size that may be any."""
        name = name or f"input_{next(self._numbers)}"
        self.inputs.append(self._described(name, dtype, shape))
        return Value(self, name)

    def output(self, name: str | None, value: Value, dtype: Any, shape: Shape) -> None:
        """What the caller gets."""
        name = name or f"output_{next(self._numbers)}"
        node = self._onnx.helper.make_node("Identity", [value.name], [name], name=name)
        self.nodes.append(node)
        self.outputs.append(self._described(name, dtype, shape))

    def weight(self, name: str, array: np.ndarray) -> Value:
        """An array of the file; an input of the same name may replace it."""
        assert name not in self.weights
        self.weights[name] = np.ascontiguousarray(array)
        return Value(self, name)

    def add(self, op: str, *operands: Operand | None, **attributes: Any) -> Value:
        """A node with one output.

        Args:
            op: Name of the operator.
            *operands: Values, or arrays, which become weights; None leaves one out.
            **attributes: The operator's.
        """
        return self.add_many(op, 1, *operands, **attributes)[0]

    def add_many(
        self, op: str, count: int, *operands: Operand | None, **attributes: Any
    ) -> tuple[Value, ...]:
        """A node with several outputs, see :meth:`add`."""
        names = [self._name_of(operand) for operand in operands]
        while names and not names[-1]:
            names.pop()
        number = next(self._numbers)
        outputs = [f"{op}_{number}", *(f"{op}_{number}_{i}" for i in range(1, count))]
        node = self._onnx.helper.make_node(
            op, names, outputs, name=outputs[0], **attributes
        )
        self.nodes.append(node)
        return tuple(Value(self, name) for name in outputs)

    def size(self, value: Value, axis: int) -> Value:
        """How many there are along an axis, an int64 ``(1,)``."""
        return self.add("Gather", self.add("Shape", value), np.array([axis]))

    def cast(self, value: Value, dtype: Any) -> Value:
        """The same numbers in another type."""
        return self.add("Cast", value, to=self._element(dtype))

    def where(self, mask: Value, one: Operand, other: Operand) -> Value:
        """One where the mask is True, else the other."""
        return self.add("Where", mask, one, other)

    def unsqueeze(self, value: Value, axis: int) -> Value:
        """With one more axis, of size 1."""
        return self.add("Unsqueeze", value, np.array([axis]))

    def squeeze(self, value: Value, axis: int) -> Value:
        """Without an axis of size 1."""
        return self.add("Squeeze", value, np.array([axis]))

    def split(self, value: Value, count: int, axis: int = -1) -> tuple[Value, ...]:
        """Parts of equal width."""
        return self.add_many("Split", count, value, axis=axis)

    def swap(self, value: Value) -> Value:
        """``(batch, time, features)`` as ``(time, batch, features)``, or back."""
        return self.add("Transpose", value, perm=[1, 0, 2])

    def as_attribute(self) -> Any:
        """The graph as a node has it; its weights lie in the outermost graph."""
        make = self._onnx.helper.make_graph
        return make(self.nodes, "step", self.inputs, self.outputs)

    def to_bytes(self, name: str) -> bytes:
        """The checked file.

        Args:
            name: What the graph is called.

        Raises:
            ValueError: If there is more than an ONNX file holds.
        """
        num_bytes = sum(array.nbytes for array in self.weights.values())
        if num_bytes > MAX_BYTES:
            raise ValueError(
                f"the weights have {num_bytes:,} bytes; an ONNX file holds at most "
                f"{MAX_BYTES:,}"
            )
        onnx = self._onnx
        graph = onnx.helper.make_graph(
            self.nodes,
            name,
            self.inputs,
            self.outputs,
            [onnx.numpy_helper.from_array(a, n) for n, a in self.weights.items()],
        )
        model = onnx.helper.make_model(
            graph,
            producer_name="rnnjax",
            ir_version=IR_VERSION,
            opset_imports=[onnx.helper.make_opsetid("", OPSET)],
        )
        onnx.checker.check_model(model, full_check=True)
        return model.SerializeToString(deterministic=True)

    def _name_of(self, operand: Operand | None) -> str:
        if operand is None:
            return ""
        if isinstance(operand, Value):
            return operand.name
        return self.weight(f"constant_{next(self._numbers)}", np.asarray(operand)).name

    def _described(self, name: str, dtype: Any, shape: Shape) -> Any:
        describe = self._onnx.helper.make_tensor_value_info
        return describe(name, self._element(dtype), shape)

    def _element(self, dtype: Any) -> int:
        return self._onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
