"""States on the disk, through Orbax."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from train.cli import InputError


class Checkpoints:
    """The last few states of a training, by number of finished rounds.

    Args:
        directory: Where they are.
    """

    def __init__(self, directory: Path):
        self._manager = ocp.CheckpointManager(
            directory.resolve(),
            options=ocp.CheckpointManagerOptions(
                max_to_keep=2, cleanup_tmp_directories=True
            ),
        )

    def latest(self) -> int | None:
        """Number of finished rounds of the newest state, or None."""
        return self._manager.latest_step()

    def save(self, num_rounds: int, tree: Any) -> None:
        """Save a state; an error of writing it is raised here.

        Args:
            num_rounds: Number of finished rounds.
            tree: The state; keys of randomness as raw data.
        """
        self._manager.save(num_rounds, args=ocp.args.StandardSave(tree))
        self._manager.wait_until_finished()

    def restore(self, num_rounds: int, like: Any) -> Any:
        """Restore a state.

        Args:
            num_rounds: Which.
            like: A tree of the same structure, shapes and types.

        Returns:
            The state.

        Raises:
            InputError: If what is on the disk has another structure, shape or type.
        """
        where = f"checkpoint {num_rounds} in {self._manager.directory}"
        try:
            tree = self._manager.restore(
                num_rounds, args=ocp.args.StandardRestore(like)
            )
        except (ValueError, KeyError, OSError) as error:
            reason = str(error).splitlines()[0]
            raise InputError(f"{where} cannot be read: {reason}") from error
        # Orbax itself would hand out another shape, and cast another type.
        for (path, leaf), (_, wanted) in zip(
            jax.tree.leaves_with_path(tree),
            jax.tree.leaves_with_path(like),
            strict=True,
        ):
            if np.shape(leaf) != np.shape(wanted) or leaf.dtype != wanted.dtype:
                raise InputError(
                    f"{where} has {jax.tree_util.keystr(path)} of shape "
                    f"{np.shape(leaf)} and type {leaf.dtype}; expected "
                    f"{np.shape(wanted)} and {wanted.dtype}"
                )
        return tree

    def close(self) -> None:
        """Wait for what is being written."""
        self._manager.close()
