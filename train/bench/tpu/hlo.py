"""What the text of a compiled program says: its loops, and where their arrays live."""

import re
from typing import NamedTuple

_COLLECTIVES = (
    *("all-reduce", "all-gather", "all-to-all"),
    *("reduce-scatter", "collective-permute"),
)

# A TPU's memory spaces, as layouts name them: nothing stands for HBM.
_SPACES = {None: "HBM", "1": "VMEM"}

_COMPUTATION = re.compile(r"^(?:ENTRY )?%?([\w.\-]+) \(.*\{$")
_CALL = re.compile(r" call\(.*to_apply=%?([\w.\-]+)")
_CALLS = re.compile(r" calls=%?([\w.\-]+)")
_BRANCHES = re.compile(r" conditional\(.*branch_computations=\{([^}]*)\}")
_WHILE = re.compile(r"= \((.*)\) while\(.*condition=%?([\w.\-]+), body=%?([\w.\-]+)")
_ARRAY = re.compile(r"([a-z]+\d*\w*)\[([\d,]*)\](?:\{([^}]*)\})?")
_SPACE = re.compile(r"S\((\d+)\)")
_OP_NAME = re.compile(r'op_name="([^"]*)"')
_CYCLES = re.compile(r'"estimated_cycles":"(\d+)"')
_CONSTANT = re.compile(r"= s32\[\]\S* constant\((\d+)\)")
_COLLECTIVE = re.compile(rf"= (.*) ({'|'.join(_COLLECTIVES)})(?:-start)?\(")


class Array(NamedTuple):
    """An array of a program.

    Attributes:
        dtype: Its type, such as ``bf16``.
        shape: Its shape.
        space: Where it lives: ``HBM``, ``VMEM``, or the number of another memory.
    """

    dtype: str
    shape: tuple[int, ...]
    space: str


class Loop(NamedTuple):
    """A while loop.

    Attributes:
        op_name: Which operation of JAX it comes from.
        arrays: What goes from one turn to the next.
        body: Name of the computation that it repeats.
        turns: How many times; None if that depends on the input.
    """

    op_name: str
    arrays: tuple[Array, ...]
    body: str
    turns: int | None

    @property
    def is_backward(self) -> bool:
        """Whether it belongs to a derivative's backward pass."""
        return "transpose(" in self.op_name


class Collective(NamedTuple):
    """Something that several devices do together.

    Attributes:
        kind: What, such as ``all-reduce``.
        arrays: With what.
    """

    kind: str
    arrays: tuple[Array, ...]

    @property
    def is_of_gradients(self) -> bool:
        """Whether it adds up matrices, which in a training are gradients."""
        return self.kind == "all-reduce" and any(
            len(array.shape) > 1 and "f" in array.dtype for array in self.arrays
        )


def arrays(text: str) -> tuple[Array, ...]:
    """The arrays of a type in XLA's text.

    Example:
        >>> arrays("bf16[8,128]{1,0:T(8,128)(2,1)S(1)}, s32[]{:T(128)}")[0]
        Array(dtype='bf16', shape=(8, 128), space='VMEM')
    """
    found = []
    for dtype, shape, layout in _ARRAY.findall(text):
        space = _SPACE.search(layout)
        number = space and space[1]
        sizes = tuple(int(size) for size in shape.split(",") if size)
        found.append(Array(dtype, sizes, _SPACES.get(number, f"S({number})")))
    return tuple(found)


class Module:
    """A compiled program's text, as ``compiled.as_text()`` gives it.

    Args:
        text: The text.

    Attributes:
        computations: The lines of every computation, by name.
        loops: All while loops.
    """

    def __init__(self, text: str):
        self.computations: dict[str, list[str]] = {}
        lines: list[str] = []
        self._entry = ""
        for line in text.splitlines():
            if match := _COMPUTATION.match(line):
                self.computations[match[1]] = lines = []
                if line.startswith("ENTRY"):
                    self._entry = match[1]
            lines.append(line)
        self.loops = [
            loop
            for lines in self.computations.values()
            for loop in map(self._loop, lines)
            if loop is not None
        ]
        self._turns = {loop.body: loop.turns or 1 for loop in self.loops}

    def _loop(self, line: str) -> Loop | None:
        if not (match := _WHILE.search(line)):
            return None
        carried, condition, body = match.groups()
        name = _OP_NAME.search(line)
        # A loop over time ends at a constant; others may compare with several.
        limits = _CONSTANT.findall("\n".join(self.computations[condition]))
        return Loop(
            name[1] if name else "",
            arrays(carried),
            body,
            int(limits[0]) if len(limits) == 1 else None,
        )

    @property
    def time_loops(self) -> list[Loop]:
        """The loops over time; how often that over the updates turns is not known."""
        return [loop for loop in self.loops if loop.turns is not None]

    def cycles(self, name: str | None = None) -> int:
        """The compiler's estimate of a computation, of the whole program if None.

        It is the sum of what the compiler wrote at every operation that it fused. Loops
        count as often as they turn; those whose turns depend on the input count once.
        Of the branches of a choice, the longest counts.
        """
        total = 0
        for line in self._lines(name):
            if match := _CYCLES.search(line):
                total += int(match[1])
            elif match := _WHILE.search(line):
                total += self._turns[match[3]] * self.cycles(match[3])
            else:
                total += max(map(self.cycles, _choices(line)), default=0)
        return total

    def collectives(self, name: str | None = None) -> list[Collective]:
        """What devices do together in a computation, in the whole program if None.

        Every loop counts once; of the branches of a choice, that with the most.
        """
        found: list[Collective] = []
        for line in self._lines(name):
            if match := _COLLECTIVE.search(line):
                found.append(Collective(match[2], arrays(match[1])))
            elif match := _WHILE.search(line):
                found += self.collectives(match[3])
            elif match := _CALLS.search(line):
                found += self.collectives(match[1])
            elif branches := [self.collectives(name) for name in _choices(line)]:
                most = max(branches, key=len)
                found += most
        return found

    def _lines(self, name: str | None) -> list[str]:
        return self.computations[self._entry if name is None else name]


def _choices(line: str) -> list[str]:
    """The computations of which an instruction runs one."""
    if match := _CALL.search(line):
        return [match[1]]
    if match := _BRANCHES.search(line):
        return [name.strip(" %") for name in match[1].split(",")]
    return []
