"""Layers against ``torch.nn`` beyond `test_layers_reference`; it needs torch."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

from rnnjax import (
    ElmanCell,
    GRUCell,
    LayerNormGRUCell,
    LayerNormLSTMCell,
    LSTMCarry,
    LSTMCell,
    MultiHeadAttention,
    Recurrent,
    from_torch,
    length_mask,
    to_torch,
    torch_uniform,
)
from rnnjax.dropout import Dropout
from tests.helpers import (
    GRADIENTS,
    assert_close,
    from_states,
    make_stack,
    random_params,
    to_states,
)

torch = pytest.importorskip("torch")

from tests import torch_layers

torch.set_num_threads(1)
pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections is not supported")

FEATURES, INPUTS = 5, 4
VARIANTS = {
    "rnn": [{"activation": "tanh"}, {"activation": "relu"}],
    "gru": [{}],
    "lstm": [{}, {"projection": 3}],
}
EVERY_CONFIGURATION = [
    {
        "kind": kind,
        "num_layers": num_layers,
        "bidirectional": bidirectional,
        "use_bias": use_bias,
        **variant,
    }
    for kind, variants in VARIANTS.items()
    for variant in variants
    for num_layers in (1, 2, 3)
    for bidirectional in (False, True)
    for use_bias in (True, False)
]


def name_of(configuration):
    return "-".join(str(value) for value in configuration.values())


@pytest.mark.parametrize("configuration", EVERY_CONFIGURATION, ids=name_of)
def test_torch_loads_the_file(configuration, tmp_path):
    """torch -> rnnjax -> file -> another torch module, bit for bit."""
    options = {"input_size": INPUTS, "features": FEATURES, **configuration}
    theirs = torch_layers.make_stack(**options)
    stack = make_stack(**options)
    params = from_torch(stack, theirs.state_dict())
    save_file(to_torch(stack, params), tmp_path / "stack.safetensors")

    from safetensors.torch import load_file

    loaded = torch_layers.make_stack(**options, seed=1)
    loaded.load_state_dict(load_file(tmp_path / "stack.safetensors"))
    for name, tensor in theirs.state_dict().items():
        assert torch.equal(tensor, loaded.state_dict()[name]), name


@pytest.mark.parametrize(
    ("cell", "theirs"),
    [
        (ElmanCell(5), "RNNCell"),
        (GRUCell(5), "GRUCell"),
        (LSTMCell(5), "LSTMCell"),
        (GRUCell(5, use_bias=False), "GRUCell"),
    ],
)
def test_cells(cell, theirs, rng):
    torch.manual_seed(0)
    theirs = getattr(torch.nn, theirs)(4, 5, bias=cell.use_bias)
    x, *states = rng.standard_normal((3, 3, 5)).astype(np.float32)
    x = x[:, :4]
    carry = LSTMCarry(*states) if isinstance(cell, LSTMCell) else states[0]
    expected = theirs(
        torch.tensor(x),
        jax.tree.map(torch.tensor, tuple(carry))
        if isinstance(cell, LSTMCell)
        else torch.tensor(carry),
    )
    params = from_torch(cell, theirs.state_dict())
    carry, _ = cell.apply({"params": params}, carry, x)
    if isinstance(cell, LSTMCell):
        carry = tuple(carry)
    assert_close(carry, jax.tree.map(lambda t: t.detach().numpy(), expected))


def test_weights_in_bfloat16_are_read():
    theirs = torch_layers.make_stack("gru", 4, 5).bfloat16()
    params = from_torch(make_stack("gru", 5), theirs.state_dict())
    expected = theirs.weight_ih_l0.detach().float().numpy().T
    np.testing.assert_array_equal(params["layer_0"]["cell"]["ih"]["kernel"], expected)


@pytest.mark.parametrize(
    ("kind", "bidirectional"), [("rnn", True), ("gru", False), ("lstm", False)]
)
def test_dropout_with_the_same_mask(kind, bidirectional, rng):
    """Two layers, and the mask that was drawn between them given to torch."""
    arguments = {"kind": kind, "bidirectional": bidirectional, "num_layers": 2}
    theirs = torch_layers.make_stack(input_size=4, features=5, **arguments)
    stack = make_stack(features=5, **arguments).clone(dropout=0.4)
    params = from_torch(stack, theirs.state_dict())
    inputs = rng.standard_normal((3, 7, 4)).astype(np.float32)
    seq_lengths = np.array([4, 1, 7])

    def run(params):
        (carry, ys), sown = stack.apply(
            {"params": params},
            inputs,
            seq_lengths,
            deterministic=False,
            rngs={"dropout": jax.random.key(0)},
            capture_intermediates=lambda module, _: isinstance(module, Dropout),
        )
        (dropped,) = sown["intermediates"]["Dropout_0"]["__call__"]
        return jnp.sum(jnp.sin(ys)), (to_states(carry), ys, dropped)

    grads, (states, ys, dropped) = jax.jit(jax.grad(run, has_aux=True))(params)
    mask = torch.tensor(np.asarray(dropped) != 0) / 0.6

    layers = [
        torch_layers.make_stack(kind, width, 5, bidirectional=bidirectional)
        for width in (4, 10 if bidirectional else 5)
    ]
    for index, layer in enumerate(layers):
        for name, parameter in layer.named_parameters():
            name = name.replace("_l0", f"_l{index}")
            parameter.data = theirs.get_parameter(name).data
    lengths = torch.tensor(seq_lengths)
    middle, first = torch_layers.run_packed(layers[0], torch.tensor(inputs), lengths)
    outputs, last = torch_layers.run_packed(layers[1], middle * mask, lengths)
    outputs.sin().sum().backward()
    if kind != "lstm":
        first, last = (first,), (last,)
    expected = {
        name: torch.cat([a, b]).detach().numpy()
        for name, a, b in zip(("h_n", "c_n"), first, last, strict=False)
    }
    assert_close((states, ys), (expected, outputs.detach().numpy()))
    ours = to_torch(stack, grads)
    for index, layer in enumerate(layers):
        for name, parameter in layer.named_parameters():
            actual = ours[name.replace("_l0", f"_l{index}")]
            assert_close(actual, parameter.grad.numpy(), GRADIENTS)


def test_multi_head_attention(rng):
    torch.manual_seed(0)
    theirs = torch.nn.MultiheadAttention(6, 3, batch_first=True)
    torch.nn.init.normal_(theirs.in_proj_bias)
    torch.nn.init.normal_(theirs.out_proj.bias)
    attention = MultiHeadAttention(num_heads=3)
    params = from_torch(attention, theirs.state_dict())
    states, queries = rng.standard_normal((2, 2, 7, 6)).astype(np.float32)
    mask = np.asarray(length_mask(np.array([4, 7]), 7))
    expected = theirs(
        torch.tensor(queries),
        torch.tensor(states),
        torch.tensor(states),
        key_padding_mask=torch.tensor(~mask),
        average_attn_weights=False,
    )
    context, weights = jax.jit(attention.apply)(
        {"params": params}, queries, states[:, None], mask[:, None]
    )
    context_expected, weights_expected = (t.detach().numpy() for t in expected)
    assert_close(context, context_expected)
    assert_close(weights.swapaxes(1, 2), weights_expected)
    back = to_torch(attention, params)
    theirs.load_state_dict({name: torch.tensor(back[name]) for name in back})


def test_layer_norm_cells(rng):
    """The same equations, written with torch."""
    from torch.nn.functional import layer_norm

    h, c, x = rng.standard_normal((3, 3, 5)).astype(np.float32)

    def norm(x, name):
        scale, bias = (torch.tensor(np.asarray(p[name][k])) for k in ("scale", "bias"))
        return layer_norm(x, scale.shape, scale, bias)

    def product(x, name):
        return torch.tensor(x @ np.asarray(p[name]["kernel"]))

    cell, carry = LayerNormLSTMCell(5), LSTMCarry(h, c)
    p = random_params(cell, carry, x)
    gates = norm(product(x, "ih"), "ih_norm") + norm(product(h, "hh"), "hh_norm")
    i, f, g, o = gates.chunk(4, -1)
    new_c = f.sigmoid() * torch.tensor(c) + i.sigmoid() * g.tanh()
    new_h = o.sigmoid() * norm(new_c, "c_norm").tanh()
    actual, _ = cell.apply({"params": p}, carry, x)
    assert_close(tuple(actual), (new_h.numpy(), new_c.numpy()))

    cell = LayerNormGRUCell(5)
    p = random_params(cell, h, x)
    ih, hh = product(x, "ih"), product(h, "hh")
    rz = norm(ih[:, :10], "ih_norm") + norm(hh[:, :10], "hh_norm")
    r, z = rz.sigmoid().chunk(2, -1)
    n = (norm(ih[:, 10:], "in_norm") + r * norm(hh[:, 10:], "hn_norm")).tanh()
    new_h = (1 - z) * n + z * torch.tensor(h)
    actual, _ = cell.apply({"params": p}, h, x)
    assert_close(actual, new_h.numpy())


class MyUnidirectionalRNN(torch.nn.Module):
    """Exercise 1 of lesson 002, solved."""

    def __init__(self, num_feats, rnn_size=128):
        super().__init__()
        self.rnn_size = rnn_size
        self.W = torch.nn.Linear(num_feats, rnn_size, bias=False)
        self.U = torch.nn.Linear(rnn_size, rnn_size, bias=False)
        self.b = torch.nn.Parameter(torch.zeros(1, rnn_size))

    def forward(self, x):
        ht = torch.zeros(len(x), self.rnn_size)
        hts = []
        for xt in x.unbind(1):
            ht = self.W(xt) + self.U(ht) + self.b
            hts.append(ht)
        return torch.stack(hts, 1)


def test_the_layer_of_lesson_002(rng):
    torch.manual_seed(0)
    theirs = MyUnidirectionalRNN(10, 32)
    torch.nn.init.normal_(theirs.b)
    cell = ElmanCell(
        32,
        hh_bias=False,
        activation="identity",
        ih_init=torch_uniform(10),
        hh_init=torch_uniform(32),
        bias_init=nn.initializers.zeros,
    )
    inputs = rng.standard_normal((5, 15, 10)).astype(np.float32)
    state = {name: t.detach().numpy() for name, t in theirs.state_dict().items()}
    params = {
        "ih": {"kernel": state["W.weight"].T, "bias": state["b"][0]},
        "hh": {"kernel": state["U.weight"].T},
    }
    _, ys = Recurrent(cell).apply({"params": {"cell": params}}, inputs)
    assert_close(ys, theirs(torch.tensor(inputs)).detach().numpy(), 1e-5)


def test_initial_states_are_torchs(rng):
    """Positions in the carry: a state given to one layer and direction only."""
    theirs = torch_layers.make_stack("gru", 4, 5, num_layers=2, bidirectional=True)
    stack = make_stack("gru", 5, num_layers=2, bidirectional=True)
    params = from_torch(stack, theirs.state_dict())
    inputs = rng.standard_normal((3, 7, 4)).astype(np.float32)
    run = jax.jit(lambda h0: stack.apply({"params": params}, inputs, None, tuple(h0)))
    for index in range(4):
        h0 = np.zeros((4, 3, 5), np.float32)
        h0[index] = 1
        outputs, h_n = theirs(torch.tensor(inputs), torch.tensor(h0))
        carry, ys = run(from_states(stack, h0))
        assert_close(ys, outputs.detach().numpy())
        assert_close(to_states(carry)["h_n"], h_n.detach().numpy())
