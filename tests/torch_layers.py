"""``torch.nn.RNN/GRU/LSTM`` at work: values, gradients and training, as NumPy arrays.

`make_case` and `make_trajectory` are pure: the same arguments and seed give the same
arrays. ``reference/make_layers.py`` keeps some; where torch is installed, tests make
more. The arguments have the names of `rnnjax.Elman`, `rnnjax.GRU` and `rnnjax.LSTM`.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

KINDS = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}
OPTIMISERS = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD}


def make_stack(
    kind: str,
    input_size: int,
    features: int,
    *,
    num_layers: int = 1,
    bidirectional: bool = False,
    use_bias: bool = True,
    activation: str = "tanh",
    projection: int | None = None,
    seed: int = 0,
) -> nn.RNNBase:
    """Build a batch-first stack with torch's own initialisation, biases included.

    Args:
        kind: A key of `KINDS`.
        activation: Of ``"rnn"`` only: ``"tanh"`` or ``"relu"``.
        projection: Of ``"lstm"`` only: torch's ``proj_size``.
    """
    options = {
        "rnn": {"nonlinearity": activation},
        "gru": {},
        "lstm": {"proj_size": projection or 0},
    }[kind]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return KINDS[kind](
            input_size,
            features,
            num_layers=num_layers,
            bidirectional=bidirectional,
            bias=use_bias,
            batch_first=True,
            **options,
        )


def run_packed(
    stack: nn.RNNBase,
    inputs: torch.Tensor,
    seq_lengths: torch.Tensor | None,
    carry=None,
):
    """Run a batch-first stack over the real steps of each row; zeros at padding.

    With ``seq_lengths`` of None every step is real and nothing is packed.
    """
    if seq_lengths is None:
        return stack(inputs, carry)
    packed = pack_padded_sequence(
        inputs, seq_lengths, batch_first=True, enforce_sorted=False
    )
    outputs, carry = stack(packed, carry)
    outputs, _ = pad_packed_sequence(
        outputs, batch_first=True, total_length=inputs.shape[1]
    )
    return outputs, carry


def make_case(
    kind: str,
    *,
    initial_carry: bool = False,
    seq_lengths: Sequence[int] | None = None,
    input_size: int = 4,
    features: int = 5,
    batch: int = 3,
    time: int = 7,
    seed: int = 0,
    **options,
) -> dict[str, np.ndarray]:
    """Run one stack forward and backward on random data.

    The loss is a randomly weighted sum of the outputs and of the final states. What
    stands in the padding of the inputs is random too.

    Args:
        initial_carry: Whether to start from random states; torch's zeros otherwise.
        seq_lengths: Real steps of each row; None runs all ``time`` steps unpacked.
        **options: Passed to `make_stack`.

    Returns:
        ``weights/<torch name>``, ``inputs (batch, time, input)``, ``seq_lengths``
        (where given), ``h0`` and ``c0`` (where the case has them), ``outputs``,
        ``h_n``, ``c_n`` (LSTM), ``loss_weights/<outputs, h_n or c_n>``, ``loss``, and
        ``grads/<torch name, inputs, h0 or c0>``. States are in torch's layout
        ``(layers * directions, batch, ·)``.
    """
    rng = np.random.default_rng(seed)
    stack = make_stack(kind, input_size, features, seed=seed, **options)
    lengths = None if seq_lengths is None else torch.tensor(seq_lengths)

    def normal(*shape: int) -> torch.Tensor:
        return torch.tensor(rng.standard_normal(shape), dtype=torch.float32)

    inputs = normal(batch, time, input_size).requires_grad_()
    carry, carries = None, {}
    if initial_carry:
        cells = stack.num_layers * (2 if stack.bidirectional else 1)
        widths = {"h0": stack.proj_size or features}
        if kind == "lstm":
            widths["c0"] = features
        for name, width in widths.items():
            carries[name] = normal(cells, batch, width).requires_grad_()
        carry = tuple(carries.values()) if kind == "lstm" else carries["h0"]

    outputs, final = run_packed(stack, inputs, lengths, carry)
    final = final if kind == "lstm" else (final,)
    results = {"outputs": outputs, **dict(zip(("h_n", "c_n"), final, strict=False))}
    loss_weights = {name: normal(*value.shape) for name, value in results.items()}
    loss = sum((results[name] * loss_weights[name]).sum() for name in results)
    loss.backward()

    weights = dict(stack.named_parameters())
    variables = {**weights, "inputs": inputs, **carries}
    case = {
        **prefixed("weights", weights),
        "inputs": inputs,
        **carries,
        **results,
        **prefixed("loss_weights", loss_weights),
        "loss": loss,
        **prefixed("grads", {name: value.grad for name, value in variables.items()}),
    }
    arrays = as_arrays(case)
    if seq_lengths is not None:
        arrays["seq_lengths"] = np.array(seq_lengths, np.int32)
    return arrays


def make_trajectory(
    kind: str,
    optimiser: str,
    *,
    seq_lengths: Sequence[int],
    optimiser_options: dict[str, float],
    clip: float,
    updates: int = 100,
    input_size: int = 4,
    features: int = 5,
    time: int = 7,
    seed: int = 0,
    **options,
) -> dict[str, np.ndarray]:
    """Fit a stack's outputs to fixed random targets, clipping the global norm.

    The loss is the sum of squared errors at real steps, divided by their number of
    values.

    Args:
        optimiser: A key of `OPTIMISERS`.
        optimiser_options: Its keyword arguments (``lr``, ``momentum``).
        **options: Passed to `make_stack`.

    Returns:
        ``inputs``, ``seq_lengths``, ``targets (batch, time, out)``,
        ``losses (updates,)`` and ``grad_norms (updates,)``, both before the update of
        the same index and the norms before clipping, ``init/<torch name>`` and
        ``final/<torch name>``.
    """
    rng = np.random.default_rng(seed)
    stack = make_stack(kind, input_size, features, seed=seed, **options)
    initial = as_arrays(prefixed("init", dict(stack.named_parameters())))
    lengths = torch.tensor(seq_lengths)
    batch = len(seq_lengths)
    out = (2 if stack.bidirectional else 1) * (stack.proj_size or features)
    inputs, targets = (
        torch.tensor(rng.standard_normal((batch, time, width)), dtype=torch.float32)
        for width in (input_size, out)
    )
    mask = (torch.arange(time) < lengths[:, None])[..., None]
    steps = OPTIMISERS[optimiser](stack.parameters(), **optimiser_options)
    losses, grad_norms = [], []
    for _ in range(updates):
        outputs, _ = run_packed(stack, inputs, lengths)
        loss = ((outputs - targets) ** 2 * mask).sum() / (mask.sum() * out)
        steps.zero_grad()
        loss.backward()
        grad_norms.append(nn.utils.clip_grad_norm_(stack.parameters(), clip))
        steps.step()
        losses.append(loss)
    return {
        "seq_lengths": np.array(seq_lengths, np.int32),
        **initial,
        **as_arrays(
            {
                "inputs": inputs,
                "targets": targets,
                "losses": torch.stack(losses),
                "grad_norms": torch.stack(grad_norms),
                **prefixed("final", dict(stack.named_parameters())),
            }
        ),
    }


def as_arrays(tensors: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
    """Copy tensors to NumPy, so that later updates in place do not reach the copies."""
    return {name: tensor.detach().numpy().copy() for name, tensor in tensors.items()}


def prefixed(prefix: str, tensors: dict) -> dict:
    """Return the same values under ``<prefix>/<name>``."""
    return {f"{prefix}/{name}": tensor for name, tensor in tensors.items()}
