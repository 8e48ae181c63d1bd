"""PyTorch's generator of random numbers on a CPU: same seed, same numbers."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from rnnjax.random import box_muller, state
from rnnjax.random.mcg31 import mcg31_bernoulli
from rnnjax.random.processor import Processor, this_processor
from rnnjax.random.rounding import fused_multiply_add

NUMBERS_AT_ONCE = 2**15
"""Numbers to draw at once, so that what is computed from them stays in the cache."""

WIDE = 2**28
"""From so many different integers on PyTorch draws 64 bits for one."""

INSIDE_OUT = (2**32 - 1) // 20
"""From so many entries on PyTorch makes a permutation by another algorithm."""

Shape = int | Sequence[int]


class TorchGenerator:
    r"""``torch.Generator()`` on a CPU, in NumPy.

    It is a Mersenne twister (MT19937), begun with the low 32 bits of the seed. A number
    in float32 is the low 24 bits of one word, one in float64 the low 53 of two. Numbers
    are drawn in the order in which they lie in memory, which is that of the indices but
    for a tensor whose axes were exchanged: its ``memory`` has to be told, the axes from
    the slowest to the fastest. The outputs of ``nn.RNN(batch_first=True)``, ``(batch,
    time, features)``, say, lie time by time: ``memory=(1, 0, 2)``.

    What is drawn equals PyTorch's to the last bit (2.7 and later; what differed before
    is ``mkl_bernoulli`` in :class:`Processor`).

    Args:
        seed: As for ``torch.manual_seed``: from -2**63 to 2**64 - 1. A negative one is
            the same as 2**64 more.
        processor: Whose last places; None is this machine's, see
            :func:`this_processor`. A run that should be repeated elsewhere has to keep
            it.

    Attributes:
        seed: The seed, from 0 to 2**64 - 1.
        processor: See the arguments.

    Raises:
        ValueError: On a seed that PyTorch does not take either.

    Example:
        >>> generator = TorchGenerator(0)
        >>> generator.uniform(3).tolist()  # torch.manual_seed(0); torch.rand(3)
        [0.49625658988952637, 0.7682217955589294, 0.08847743272781372]
        >>> generator.randperm(5).tolist()  # torch.randperm(5)
        [0, 4, 2, 1, 3]

        A training that goes on later needs the state:

        >>> again = TorchGenerator.from_state(generator.state(), generator.processor)
        >>> float(again.normal(()) - generator.normal(()))
        0.0

    Source:
        ``torch.Generator`` (ATen/core/MT19937RNGEngine.h, DistributionsHelper.h,
        native/cpu/DistributionTemplates.h); Matsumoto & Nishimura, 1998.
    """

    def __init__(self, seed: int = 0, processor: Processor | None = None):
        if not -(2**63) <= seed < 2**64:
            raise ValueError(
                f"the seed is {seed}; expected one from -2**63 to 2**64 - 1, as "
                "torch.manual_seed does"
            )
        self.seed = seed % 2**64
        self.processor = this_processor() if processor is None else processor
        self._engine = np.random.RandomState(self.seed % 2**32)
        self._kept_normal: float | None = None

    @classmethod
    def from_state(
        cls, array: np.ndarray, processor: Processor | None = None
    ) -> "TorchGenerator":
        """A generator that goes on where another one was.

        Args:
            array: ``(5056,)`` uint8: from :meth:`state`, or what
                ``torch.get_rng_state().numpy()`` gives.
            processor: See the class.

        Raises:
            ValueError: If the bytes are no state of a generator.
        """
        seed, words, position, kept_normal = state.from_bytes(array)
        generator = cls(seed, processor)
        generator._engine.set_state(("MT19937", words, position, 0, 0.0))
        generator._kept_normal = kept_normal
        return generator

    def state(self) -> np.ndarray:
        """All that the next numbers depend on, besides the processor.

        Returns:
            ``(5056,)`` uint8, which ``torch.set_rng_state`` takes as well.
        """
        engine: Any = self._engine.get_state(legacy=False)["state"]
        words, position = engine["key"], int(engine["pos"])
        kept = self._kept_normal
        return state.to_bytes(state.State(self.seed, words, position, kept))

    def words(self, n: int) -> np.ndarray:
        """``(n,)`` uint32, the twister's own numbers."""
        return self._engine.randint(0, 2**32, n, np.uint32)

    def double_words(self, n: int) -> np.ndarray:
        """``(n,)`` uint64 of two words each, the first one above."""
        words = self.words(2 * n)
        return words[::2].astype(np.uint64) << np.uint64(32) | words[1::2]

    def uniform(
        self,
        shape: Shape,
        low: float = 0.0,
        high: float = 1.0,
        dtype: type = np.float32,
        memory: Sequence[int] | None = None,
    ) -> np.ndarray:
        """``torch.rand(shape)``, ``torch.empty(shape).uniform_(low, high)``.

        Args:
            shape: Of the result.
            low: The least number.
            high: What no number reaches (but by rounding).
            dtype: ``np.float32`` or ``np.float64``.
            memory: See the class.

        Returns:
            An array of that shape and type.
        """
        shape = as_shape(shape)
        numbers: np.ndarray = np.empty(math.prod(shape), dtype)
        start = numbers.dtype.type(low)
        width = numbers.dtype.type(high) - start
        for piece in pieces(numbers.size):
            x = self._uniform(piece.stop - piece.start, dtype)
            if (low, high) == (0, 1):
                numbers[piece] = x
            elif self.processor.fma:
                numbers[piece] = fused_multiply_add(x, width, start)
            else:
                numbers[piece] = x * width + start
        return from_memory(numbers, shape, memory)

    def _uniform(self, n: int, dtype: type = np.float32) -> np.ndarray:
        if dtype == np.float32:
            return (self.words(n) & 0xFFFFFF).astype(np.float32) * np.float32(2.0**-24)
        return self._below_2_53(n).astype(np.float64) * 2.0**-53

    def _below_2_53(self, n: int) -> np.ndarray:
        return self.double_words(n) & np.uint64(2**53 - 1)

    def normal(
        self,
        shape: Shape,
        mean: float = 0.0,
        std: float = 1.0,
        memory: Sequence[int] | None = None,
    ) -> np.ndarray:
        """``torch.randn(shape)``, ``torch.empty(shape).normal_(mean, std)``.

        Fewer than 16 numbers, and those of a tensor whose axes were exchanged, are made
        in pairs; the second of the last pair may be left, and is then the first of the
        next few. From 16 on they are made in sixteens; the last 16 are drawn anew
        where the number of all is no multiple of 16.

        Args:
            shape: Of the result.
            mean: Their mean.
            std: Their standard deviation.
            memory: See the class.

        Returns:
            An array of that shape in float32.
        """
        shape = as_shape(shape)
        n = math.prod(shape)
        if n < 16 or not is_contiguous(shape, memory):
            numbers = (self._pairs(n) * std + mean).astype(np.float32)
            return from_memory(numbers, shape, memory)
        uniforms = self.uniform(n)
        numbers = np.empty(n, np.float32)
        for piece in pieces(n - n % 16):
            numbers[piece] = box_muller.of_sixteens(
                uniforms[piece], mean, std, self.processor
            )
        if n % 16:
            again = self.uniform(16)
            numbers[-16:] = box_muller.of_sixteens(again, mean, std, self.processor)
        return numbers.reshape(shape)

    def _pairs(self, n: int) -> np.ndarray:
        kept = [] if self._kept_normal is None or n == 0 else [self._kept_normal]
        if n:
            self._kept_normal = None
        numbers = kept
        uniforms = self._uniform((n - len(kept) + 1) // 2 * 2, np.float64)
        for first, second in uniforms.reshape(-1, 2).tolist():
            numbers += box_muller.of_pair(first, second)
        if len(numbers) > n:
            self._kept_normal = numbers.pop()
        return np.array(numbers, np.float64)

    def randint(self, low: int, high: int, shape: Shape) -> np.ndarray:
        """``torch.randint(low, high, shape)``.

        Args:
            low: The least integer.
            high: One more than the greatest.
            shape: Of the result.

        Returns:
            An array of that shape in int64.

        Raises:
            ValueError: If there is no integer from ``low`` to ``high - 1``.
        """
        if not -(2**63) <= low < high < 2**63:
            raise ValueError(
                f"low is {low} and high is {high}; expected low < high, both of 64 bits"
            )
        shape = as_shape(shape)
        n, span = math.prod(shape), high - low
        words = self.double_words(n) if span >= WIDE else self.words(n)
        # The sum wraps around, as PyTorch's does.
        below = (words % words.dtype.type(span)).astype(np.uint64)
        return (below + np.uint64(low % 2**64)).view(np.int64).reshape(shape)

    def random_int64(self, n: int = 1) -> np.ndarray:
        """``torch.empty(n, dtype=torch.int64).random_()``, of which loaders make seeds.

        Args:
            n: How many.

        Returns:
            ``(n,)`` int64, from 0 to 2**63 - 1.
        """
        return (self.double_words(n) & np.uint64(2**63 - 1)).astype(np.int64)

    def randperm(self, n: int) -> np.ndarray:
        """``torch.randperm(n)``.

        Args:
            n: How many.

        Returns:
            ``(n,)`` int64, the integers from 0 to n - 1.
        """
        if n >= INSIDE_OUT:
            return self._inside_out(n)
        words = self.words(max(n - 1, 0))
        jumps = words % np.arange(n, n - words.size, -1, dtype=np.uint32)
        order = list(range(n))
        for i, jump in enumerate(jumps.tolist()):
            order[i], order[i + jump] = order[i + jump], order[i]
        return np.array(order, np.int64)

    def _inside_out(self, n: int) -> np.ndarray:
        order = np.empty(n, np.int64)
        # Its items are read and written faster than an array's.
        entries = memoryview(order)  # type: ignore[arg-type]
        for piece in pieces(n):
            count = np.arange(piece.start + 1, piece.stop + 1, dtype=np.uint64)
            places = self.double_words(count.size) % count
            for i, place in enumerate(places.tolist(), piece.start):
                entries[i] = i
                entries[i] = entries[place]
                entries[place] = i
        return order

    def bernoulli(
        self, shape: Shape, p: float, memory: Sequence[int] | None = None
    ) -> np.ndarray:
        """``torch.empty(shape).bernoulli_(p)``: True with one probability for all.

        Args:
            shape: Of the result.
            p: Probability of True.
            memory: See the class.

        Returns:
            An array of that shape in bool.

        Raises:
            ValueError: If p is no probability.
        """
        check_probability(p)
        shape = as_shape(shape)
        n = math.prod(shape)
        if self.processor.mkl_bernoulli:
            if not n:
                return np.empty(shape, bool)
            # MKL fills a tensor of its own, in the order of the indices.
            seed = int(self.words(1)[0])
            return mcg31_bernoulli(seed, n, p).reshape(shape)
        drawn = np.empty(n, bool)
        # x * 2**-53 < p, of integers.
        bound = np.uint64(math.ceil(p * 2**53))
        for piece in pieces(n):
            drawn[piece] = self._below_2_53(piece.stop - piece.start) < bound
        return from_memory(drawn, shape, memory)

    def bernoulli_each(self, p: np.ndarray) -> np.ndarray:
        """``torch.bernoulli(p)``: True with a probability of its own for each.

        Args:
            p: Probabilities, in float32 or float64, in the order of memory.

        Returns:
            An array of that shape in bool.
        """
        p = np.asarray(p)
        dtype = np.float64 if p.dtype == np.float64 else np.float32
        return self._uniform(p.size, dtype).reshape(p.shape) < p.astype(dtype)

    def dropout_mask(
        self, shape: Shape, rate: float, memory: Sequence[int] | None = None
    ) -> np.ndarray:
        """What ``torch.nn.Dropout(rate)`` keeps of a tensor of this shape in training.

        PyTorch multiplies what is kept by ``float32(1) / float32(1 - rate)``. At rates
        of 0 and 1 nothing is drawn.

        Args:
            shape: Of the tensor.
            rate: Probability of dropping a number.
            memory: How the tensor lies in memory, see the class.

        Returns:
            An array of that shape in bool, True where a number is kept.

        Raises:
            ValueError: If the rate is no probability.

        Example:
            >>> x = np.ones((2, 3), np.float32)
            >>> kept = TorchGenerator(0).dropout_mask(x.shape, 0.5)
            >>> np.where(kept, x * (np.float32(1) / np.float32(0.5)), 0).tolist()
            [[0.0, 0.0, 2.0], [0.0, 0.0, 0.0]]
        """
        check_probability(rate)
        if rate in (0, 1):
            return np.full(as_shape(shape), rate == 0)
        return self.bernoulli(shape, 1 - rate, memory)

    def exponential(self, shape: Shape, rate: float = 1.0) -> np.ndarray:
        """``torch.empty(shape).exponential_(rate)``.

        Args:
            shape: Of the result.
            rate: One over the mean.

        Returns:
            An array of that shape in float32.
        """
        shape = as_shape(shape)
        uniforms = self._uniform(math.prod(shape), np.float64)
        return (-1 / rate * np.log1p(-uniforms)).astype(np.float32).reshape(shape)

    def multinomial(
        self, weights: np.ndarray, num_samples: int = 1, replacement: bool = False
    ) -> np.ndarray:
        """``torch.multinomial(weights, num_samples, replacement)``.

        Two classes that come out exactly alike (without replacement, one in a million
        pairs) may be returned in the other order.

        Args:
            weights: ``(classes,)`` or ``(rows, classes)``, in float32: how probable each
                class is, up to a factor.
            num_samples: How many classes to draw from each row.
            replacement: Whether a class may be drawn again.

        Returns:
            ``(num_samples,)`` or ``(rows, num_samples)`` int64.

        Raises:
            ValueError: If there are fewer classes than should be drawn.
        """
        weights = np.asarray(weights, np.float32)
        classes = weights.shape[-1]
        if not replacement and num_samples > classes:
            raise ValueError(
                f"num_samples is {num_samples}; expected at most {classes}, the number "
                "of classes, or replacement=True"
            )
        if not replacement or num_samples == 1:
            # The first of independent arrivals at these rates.
            arrivals = weights / self.exponential(weights.shape)
            return np.argsort(-arrivals, axis=-1, kind="stable")[..., :num_samples]
        samples = []
        for row in weights.reshape(-1, classes):
            sums = np.cumsum(row)
            sums /= sums[-1]
            sums[-1] = 1
            samples.append(
                np.searchsorted(sums, self._uniform(num_samples, np.float64))
            )
        return np.reshape(samples, (*weights.shape[:-1], num_samples))


def as_shape(shape: Shape) -> tuple[int, ...]:
    """The shape as a tuple; an integer is that of a vector."""
    return (shape,) if isinstance(shape, int) else tuple(shape)


def pieces(n: int) -> Iterator[slice]:
    """Slices of ``n`` numbers that fit a processor's cache."""
    for start in range(0, n, NUMBERS_AT_ONCE):
        yield slice(start, min(start + NUMBERS_AT_ONCE, n))


def from_memory(
    numbers: np.ndarray, shape: tuple[int, ...], memory: Sequence[int] | None
) -> np.ndarray:
    """Numbers ``(n,)`` that lie in the order of ``memory``, by their indices."""
    if memory is None:
        return numbers.reshape(shape)
    if sorted(memory) != list(range(len(shape))):
        raise ValueError(
            f"memory is {tuple(memory)}; expected each of the axes 0 to "
            f"{len(shape) - 1} once, from the slowest to the fastest"
        )
    in_order = numbers.reshape([shape[axis] for axis in memory])
    return in_order.transpose(np.argsort(memory))


def is_contiguous(shape: tuple[int, ...], memory: Sequence[int] | None) -> bool:
    """Whether numbers that lie so are in the order of their indices, too."""
    axes = [axis for axis in memory or () if shape[axis] != 1]
    return axes == sorted(axes)


def check_probability(p: float) -> None:
    """Refuse what is not from 0 to 1."""
    if not 0 <= p <= 1:
        raise ValueError(f"the probability is {p}; expected one from 0 to 1")
