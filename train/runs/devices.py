"""On which devices a training runs, and which part of it each of them has."""

import dataclasses
import math
from typing import Annotated, Any, Literal, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from train.cli import InputError, Output, default, flag

ROWS, GATES = "data", "model"
"""The axes of the devices: among one the batch is divided, among the other the weights."""


@dataclasses.dataclass(frozen=True)
class Devices:
    """Where it is trained; nothing of this changes what is learnt."""

    devices: Annotated[int | None, default("as many as can share a batch")] = None
    """Devices among which every batch (with --seeds: the replicas) is divided."""
    model_parallel: int = 1
    """Devices among which each weight matrix is divided: for one that does not fit."""
    backend: Literal["scan", "pallas", "cudnn"] = "scan"
    """What runs the steps: a kernel on a TPU, cuDNN's LSTM on a GPU; else the scan."""
    distributed: bool = False
    """This is one of several processes that train together, on all their devices."""
    coordinator: Annotated[str | None, default("the cluster's")] = None
    """distributed: address of the first process, such as 10.0.0.1:1234."""
    num_processes: Annotated[int | None, default("the cluster's")] = None
    """distributed: number of processes."""
    process_id: Annotated[int | None, default("the cluster's")] = None
    """distributed: number of this process; process 0 writes the run directory."""

    def check_devices(self) -> None:
        """Refuse flags that cannot be meant.

        Raises:
            InputError: If a number is too small, or a flag is given without the one that
                it belongs to.
        """
        least = {"devices": 1, "model_parallel": 1, "num_processes": 1, "process_id": 0}
        for name, number in least.items():
            value = getattr(self, name)
            if value is not None and value < number:
                raise InputError(f"{flag(name)} is {value}; expected at least {number}")
        for name in ("coordinator", "num_processes", "process_id"):
            if getattr(self, name) is not None and not self.distributed:
                raise InputError(
                    f"{flag(name)} belongs to --distributed; add it, or leave this out"
                )
        if self.coordinator is not None and not self.coordinator.rpartition(":")[0]:
            raise InputError(
                f"--coordinator is {self.coordinator!r}; expected the address of the "
                "first process and a port, such as 10.0.0.1:1234"
            )
        if (self.process_id or 0) >= (self.num_processes or math.inf):
            raise InputError(
                f"--process-id is {self.process_id}; expected less than the "
                f"{self.num_processes} of --num-processes"
            )


NOT_OF_A_RUN = [
    field.name for flags in (Output, Devices) for field in dataclasses.fields(flags)
]
"""Flags that decide nothing about what is learnt: config.json leaves them out."""


class Layout(NamedTuple):
    """Which device has what: a grid of devices.

    Along its axis ``data`` every batch is divided, row by row, and with it what each row
    carries to the next batch; or the replicas, if there are several. Along ``model`` the
    weights of the cells are, each device having some of the gates. Everything else is on
    every device.

    Attributes:
        mesh: The devices, ``(data, model)``.
        replicas: Whether there are several replicas, which are then what is divided.
    """

    mesh: Mesh
    replicas: bool = False

    def of_state(self, state: Any) -> Any:
        """How a training's state is divided: a sharding for every leaf."""

        def of(path, leaf):
            field, *inner = (_name(key) for key in path)
            axes: list[str | None] = [None] * leaf.ndim
            weights = field in ("params", "opt_state") and not _is_count(leaf)
            owned = self.replicas and (weights or field == "key")
            if owned or field == "carry":
                axes[0] = ROWS
            if weights and {"ih", "hh"}.intersection(inner):
                axes[-1] = GATES
            return self._sharding(*axes)

        return jax.tree_util.tree_map_with_path(of, state)

    def along(self, axis: int) -> NamedSharding:
        """Of arrays that are divided along one of their axes."""
        return self._sharding(*[None] * axis, ROWS)

    @property
    def everywhere(self) -> NamedSharding:
        """Of what every device has whole."""
        return self._sharding()

    def _sharding(self, *axes: str | None) -> NamedSharding:
        return NamedSharding(self.mesh, PartitionSpec(*axes))


def _is_count(leaf: Any) -> bool:
    """Whether a leaf of the optimiser's state only counts updates."""
    return np.issubdtype(leaf.dtype, np.integer)


def _name(key: Any) -> str:
    return str(getattr(key, "name", getattr(key, "key", getattr(key, "idx", key))))


def make_layout(
    flags: Devices, rows: int, replicas: int, hidden_size: int
) -> Layout | None:
    """Divide a training among devices.

    Args:
        flags: What the person wants.
        rows: Of a batch.
        replicas: Number of models that are trained side by side.
        hidden_size: Width of the recurrence.

    Returns:
        The layout; None if one device does it all.

    Raises:
        InputError: If there are not so many devices, or they cannot share the batch.
    """
    there, model = jax.device_count(), flags.model_parallel
    # XLA does not divide these among devices.
    alone = flags.backend in ("pallas", "cudnn")
    wanted = flags.devices or (1 if alone else there)
    if alone and (wanted > 1 or jax.process_count() > 1):
        raise InputError(
            f"--backend {flags.backend} runs on one device; leave it out, or give "
            "--devices 1 and no --distributed"
        )
    if wanted > there:
        raise InputError(
            f"--devices is {wanted}; JAX has {there}"
            + (
                " (on a CPU, XLA_FLAGS=--xla_force_host_platform_device_count="
                f"{wanted} makes so many)"
                if jax.default_backend() == "cpu"
                else ""
            )
        )
    if wanted % model or hidden_size % model:
        raise InputError(
            f"--model-parallel is {model}; expected a number that divides the "
            f"{wanted} devices and the hidden size {hidden_size}"
        )
    what, whole = ("replicas", replicas) if replicas > 1 else ("rows", rows)
    data = wanted // model
    if whole % data:
        fitting = math.gcd(whole, data)
        if flags.devices is not None or jax.process_count() > 1:
            raise InputError(
                f"{data} devices cannot share the {whole} {what} of "
                f"{'the training' if replicas > 1 else 'a batch'} evenly; give "
                f"--{'seeds' if replicas > 1 else 'batch-size'} "
                f"{math.ceil(whole / data) * data}, or --devices {fitting * model}"
            )
        data = fitting
    if there > 1:
        share = f", the weights among {model}" if model > 1 else ""
        print(
            f"{data * model} of {there} devices: {whole // data} of {whole} {what} on "
            f"each{share}"
        )
    if data * model == 1:
        return None
    # JAX orders them so that neighbours are connected; of several processes all take part.
    devices = np.array(jax.devices()[: data * model]).reshape(data, model)
    return Layout(Mesh(devices, (ROWS, GATES)), replicas > 1)


def place(tree: Any, shardings: Any) -> Any:
    """Put a tree on the devices, each process only its own part.

    Args:
        tree: Arrays, the same in every process.
        shardings: One for every leaf.
    """

    def put(leaf, sharding):
        if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(put(jax.random.key_data(leaf), sharding))
        array = np.asarray(leaf)
        return jax.make_array_from_callback(
            array.shape, sharding, lambda index: array[index]
        )

    return jax.tree.map(put, tree, shardings)


def placed(layout: Layout | None, state: Any) -> Any:
    """A training's state on the devices of a layout; None is where it is."""
    return state if layout is None else place(state, layout.of_state(state))


def local(tree: Any) -> Any:
    """A tree whole on this process's own devices; all processes have to ask for it.

    What every device has is taken from the first one, so that only that one goes on with
    it. What is divided among this process's devices stays so.
    """

    def whole(leaf):
        if not isinstance(leaf, jax.Array) or len(leaf.sharding.device_set) == 1:
            return leaf
        if leaf.is_fully_replicated:
            return leaf.addressable_data(0)
        if leaf.is_fully_addressable:
            return leaf
        everywhere = NamedSharding(leaf.sharding.mesh, PartitionSpec())
        # To the host, leaf by leaf: all of them, whole, may not fit on a device.
        return jax.device_get(jax.jit(lambda x: x, out_shardings=everywhere)(leaf))

    return jax.tree.map(whole, tree)


def kept(layout: Layout | None, state: Any, rest: Any) -> tuple[Any, ...]:
    """Inside a compiled loop: its results, divided as they came.

    Args:
        layout: The devices; None is one.
        state: A training's state.
        rest: What every device is to have whole.

    Returns:
        ``(state, *rest)``.
    """
    if layout is None:
        return state, *rest
    constrain = jax.lax.with_sharding_constraint
    state = constrain(state, layout.of_state(state))
    return state, *constrain(rest, layout.everywhere)
