"""The order in which ``torch.utils.data.DataLoader`` takes examples."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from rnnjax.random.generator import TorchGenerator


@dataclass(frozen=True)
class DataLoader:
    """The indices that ``torch.utils.data.DataLoader`` takes, without its workers.

    Every ``iter`` takes two words of a generator, as a seed of workers, even without
    workers and without shuffling: an unshuffled loader of a validation changes what is
    drawn after it. To shuffle, the first batch takes two more, the seed of a generator
    that draws the permutation and is forgotten. A loader's own generator draws it
    itself, and at the end of an epoch a second one of which nothing is used; an epoch
    that is left early has not drawn that one.

    Attributes:
        size: Number of examples.
        generator: The global one, that of ``torch.manual_seed``.
        batch_size: Number of examples in a batch.
        shuffle: Whether every epoch has an order of its own.
        drop_last: Whether to leave out a last batch that is smaller.
        own_generator: What is given as ``DataLoader(generator=…)``; None is nothing.

    Raises:
        ValueError: On a batch size or a number of examples below 1.

    Example:
        >>> loader = DataLoader(5, TorchGenerator(0), batch_size=2, shuffle=True)
        >>> [batch.tolist() for batch in loader]
        [[1, 4], [2, 3], [0]]

    Source:
        ``torch.utils.data.dataloader`` and ``sampler``, with ``num_workers=0``.
    """

    size: int
    generator: TorchGenerator
    batch_size: int = 1
    shuffle: bool = False
    drop_last: bool = False
    own_generator: TorchGenerator | None = None

    def __post_init__(self):
        if self.size < 1 or self.batch_size < 1:
            raise ValueError(
                f"size is {self.size} and batch_size {self.batch_size}; expected both "
                "to be at least 1"
            )

    def __iter__(self) -> Iterator[np.ndarray]:
        # Now, not at the first batch.
        (self.own_generator or self.generator).random_int64()
        return self._batches()

    def _batches(self) -> Iterator[np.ndarray]:
        indices = self._indices()
        while batch := list(itertools.islice(indices, self.batch_size)):
            if len(batch) == self.batch_size or not self.drop_last:
                yield np.array(batch)

    def _indices(self) -> Iterator[int]:
        if not self.shuffle:
            yield from range(self.size)
            return
        source = self.own_generator
        if source is None:
            source = TorchGenerator(int(self.generator.random_int64()[0]))
        yield from source.randperm(self.size).tolist()
        # PyTorch fills up what a multiple of all examples leaves: nothing.
        source.randperm(self.size)
