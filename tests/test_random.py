"""PyTorch's random numbers, against hashes of its own and, where it is, against itself."""

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from rnnjax import LSTM, LayerNormGRU, to_torch
from rnnjax.random import (
    Processor,
    TorchGenerator,
    dropout_masks,
    orthogonal,
    this_processor,
    torch_init,
)
from rnnjax.random import generator as generator_module
from rnnjax.random.mcg31 import mcg31_bernoulli
from rnnjax.random.rounding import fused_multiply_add
from tests.random_draws import DRAWS, MODULES, ORTHOGONAL, digest, drawn_by, sizes_of
from train.recipes import build_model

REFERENCE = Path(__file__).parent / "reference"
KEPT = json.loads((REFERENCE / "random.json").read_text())
PROCESSORS = {
    "avx2": Processor(fma=True, vector_normal=True),
    "default": Processor(fma=False, vector_normal=False),
}
# The C library makes these where there is no AVX2, and it is not the same everywhere.
OF_C_LIBRARY = {"randn", "normal_", "nn.Embedding"}
LIVE_SEEDS = [3, 7, 99, 5000, 2**31, 2**32 - 1, 2**33 + 9, 2**62, 2**64 - 2, -3]
IDS = [(capability, name) for capability in PROCESSORS for name in DRAWS]


@pytest.fixture(scope="module")
def torch_random():
    """PyTorch's side of the comparison, on one thread."""
    pytest.importorskip("torch").set_num_threads(1)
    from tests import torch_random

    return torch_random


def digest_of_module(name, seed, processor):
    generator = TorchGenerator(seed, processor)
    module, input_size = MODULES[name]
    params = torch_init(module, generator, input_size)
    return digest([*to_torch(module, params).values(), generator.state()])


@pytest.mark.parametrize(("capability", "name"), IDS)
def test_draws_are_those_that_pytorch_made(capability, name):
    if capability == "default" and name in OF_C_LIBRARY:
        pytest.skip("the C library's numbers are compared live")
    drawn = drawn_by(name, PROCESSORS[capability])
    assert digest(drawn) == KEPT[capability]["draws"][name]


def test_every_draw_is_kept():
    assert (
        KEPT["avx2"]["draws"].keys() == KEPT["default"]["draws"].keys() == DRAWS.keys()
    )
    assert KEPT["avx2"]["modules"].keys() == MODULES.keys()


@pytest.mark.parametrize("name", MODULES)
def test_parameters_are_those_that_pytorch_made(name):
    seed = list(KEPT["avx2"]["modules"]).index(name)
    got = digest_of_module(name, seed, PROCESSORS["avx2"])
    assert got == KEPT["avx2"]["modules"][name]


def test_orthogonal_is_within_the_rounding_of_its_decomposition():
    generator = TorchGenerator(0, PROCESSORS["avx2"])
    for shape, expected in zip(ORTHOGONAL, KEPT["avx2"]["orthogonal"], strict=True):
        got = orthogonal(generator, shape)
        np.testing.assert_allclose(got.ravel(), expected, atol=5e-6)


@pytest.mark.parametrize("name", DRAWS)
def test_draws_are_pytorchs_live(torch_random, name):
    # One generator for all sizes: a wrong number of words shows in the next draw.
    for seed in LIVE_SEEDS:
        torch_random.seed(seed)
        generator = TorchGenerator(seed)
        for n in sizes_of(name):
            expected = torch_random.DRAWS[name](n).numpy()
            got = DRAWS[name](generator, n)
            assert (got.dtype, got.shape) == (expected.dtype, expected.shape)
            np.testing.assert_array_equal(got, expected, err_msg=f"{seed} {n}")
        np.testing.assert_array_equal(generator.state(), torch_random.state())


@pytest.mark.parametrize("name", MODULES)
def test_parameters_are_pytorchs_live(torch_random, name):
    torch_random.seed(20261127)
    generator = TorchGenerator(20261127)
    module, input_size = MODULES[name]
    got = to_torch(module, torch_init(module, generator, input_size))
    expected = torch_random.state_dict(name)
    assert expected.keys() - got.keys() <= {name for name in expected if "bn." in name}
    for key, array in got.items():
        np.testing.assert_array_equal(array, expected[key], err_msg=key)
    np.testing.assert_array_equal(generator.state(), torch_random.state())


def test_draws_without_avx2_are_pytorchs_live(torch_random):
    from tests.reference import make_random

    live = make_random.hashes_with("default", *OF_C_LIBRARY)
    for name in OF_C_LIBRARY:
        assert digest(drawn_by(name, PROCESSORS["default"])) == live[name], name


def test_state_goes_to_pytorch_and_back(torch_random):
    torch = pytest.importorskip("torch")
    for draws in (0, 1, 623, 624, 700):
        generator = TorchGenerator(2**40 + 5)
        generator.words(draws)
        generator.normal(3)  # one is kept
        torch.set_rng_state(torch.tensor(generator.state()))
        np.testing.assert_array_equal(torch.get_rng_state().numpy(), generator.state())
        np.testing.assert_array_equal(torch.randn(2).numpy(), generator.normal(2))
        again = TorchGenerator.from_state(torch.get_rng_state().numpy())
        assert again.seed == 2**40 + 5
        np.testing.assert_array_equal(torch.randn(9).numpy(), again.normal(9))


def test_a_state_is_all_that_the_next_numbers_depend_on():
    generator = TorchGenerator(7)
    generator.uniform(1000)
    generator.normal(5)
    kept = generator.state()
    expected = [generator.normal(3), generator.randperm(900), generator.uniform(3)]
    again = TorchGenerator.from_state(kept)
    got = [again.normal(3), again.randperm(900), again.uniform(3)]
    assert digest(got) == digest(expected)


def test_the_processor_decides_on_last_places_only():
    one, two = (TorchGenerator(0, processor) for processor in PROCESSORS.values())
    a, b = one.uniform(1000, -0.3, 0.3), two.uniform(1000, -0.3, 0.3)
    assert 300 < (a != b).sum() < 700
    np.testing.assert_allclose(a, b, atol=3e-8)
    a, b = one.normal(1024), two.normal(1024)
    assert 0 < (a != b).sum()
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("extensions", "avx2"),
    [
        ({"baseline": ["X86_V2"], "found": ["X86_V3"], "not found": []}, True),
        ({"baseline": ["SSE3"], "found": ["AVX2", "FMA3"]}, True),
        ({"baseline": ["X86_V2"], "not found": ["X86_V3"]}, False),
    ],
)
def test_avx2_is_detected(monkeypatch, extensions, avx2):
    told = {"SIMD Extensions": extensions}
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    monkeypatch.setattr(np, "show_config", lambda mode: told)
    assert this_processor.__wrapped__() == Processor(fma=avx2, vector_normal=avx2)


def test_other_processors_have_fma_and_the_c_librarys_functions(monkeypatch):
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    assert this_processor.__wrapped__() == Processor(fma=True, vector_normal=False)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_fused_multiply_add_rounds_once(rng, dtype):
    x, factor, addend = rng.standard_normal((3, 500)).astype(dtype)
    # Sums that nearly cancel, and addends that only just matter.
    addend[:200] = -x[:200] * factor[:200]
    addend[200:300] *= dtype(2.0**-50)
    got = fused_multiply_add(x, factor, addend)
    assert got.dtype == dtype
    plain = x * factor + addend
    assert (got != plain).sum() > 200
    for i, value in enumerate(got):
        a, b, c = (Fraction(float(array[i])) for array in (x, factor, addend))
        exact, mine = a * b + c, Fraction(float(value))
        neighbours = (np.nextafter(value, dtype(way)) for way in (-np.inf, np.inf))
        for other in neighbours:
            assert abs(mine - exact) <= abs(Fraction(float(other)) - exact)


def test_large_permutations_grow_inside_out(monkeypatch):
    # PyTorch's own begin at 214,748,364 entries.
    monkeypatch.setattr(generator_module, "INSIDE_OUT", 1000)
    monkeypatch.setattr(generator_module, "NUMBERS_AT_ONCE", 300)
    words = [int(word) for word in TorchGenerator(3).double_words(1000)]
    expected = []
    for i, word in enumerate(words):
        place = word % (i + 1)
        expected.append(i)
        expected[i], expected[place] = expected[place], i
    got = TorchGenerator(3).randperm(1000)
    assert got.tolist() == expected
    assert sorted(expected) == list(range(1000))
    assert TorchGenerator(3).randperm(999).tolist() != expected[:999]


def test_mkl_bernoulli_is_its_recurrence():
    word = int(TorchGenerator(123).words(1)[0])
    x, expected = word % (2**31 - 1), []
    for _ in range(1000):
        expected.append(x / (2**31 - 1) < 0.3)
        x = 1132489760 * x % (2**31 - 1)
    assert mcg31_bernoulli(word, 1000, 0.3).tolist() == expected
    generator = TorchGenerator(123, Processor(True, True, mkl_bernoulli=True))
    mask = generator.bernoulli((10, 100), 0.3, memory=(1, 0))
    assert mask.ravel().tolist() == expected
    # What an Intel user's PyTorch 2.2 printed: rasbt/LLMs-from-scratch, issue 57.
    generator = TorchGenerator(123, Processor(True, True, mkl_bernoulli=True))
    mask = generator.dropout_mask(36, 0.5).astype(int)
    printed = "111111 010000 001010 110001 100001 010000"
    assert "".join(map(str, mask)) == printed.replace(" ", "")
    # One word is all that it takes.
    assert generator.words(1) == TorchGenerator(123).words(2)[1]
    assert generator.bernoulli((0, 3), 0.3).shape == (0, 3)


def test_numbers_drawn_in_parts_are_those_drawn_at_once():
    whole = TorchGenerator(5).uniform(100_000, -0.1, 0.1)
    generator = TorchGenerator(5)
    parts = [generator.uniform(n, -0.1, 0.1) for n in (1, 40_000, 59_999)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)


@pytest.mark.parametrize("seed", [2**64, -(2**63) - 1])
def test_seeds_beyond_64_bits_are_refused(seed):
    with pytest.raises(ValueError, match="expected one from -2"):
        TorchGenerator(seed)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros(5056, np.uint8),
        np.zeros(5055, np.uint8),
        np.zeros(5056, np.int64),
        np.full(5056, 255, np.uint8),
    ],
)
def test_what_is_no_state_is_refused(array):
    with pytest.raises(ValueError, match="state"):
        TorchGenerator.from_state(array)


def test_bad_arguments_are_refused():
    generator = TorchGenerator(0)
    with pytest.raises(ValueError, match="low is 3 and high is 3"):
        generator.randint(3, 3, 2)
    with pytest.raises(ValueError, match="probability is 1.5"):
        generator.bernoulli(3, 1.5)
    with pytest.raises(ValueError, match="probability is -0.5"):
        generator.dropout_mask(3, -0.5)
    with pytest.raises(ValueError, match=r"memory is \(0, 0\)"):
        generator.uniform((2, 3), memory=(0, 0))
    with pytest.raises(ValueError, match="num_samples is 4; expected at most 3"):
        generator.multinomial(np.ones(3), 4)


def test_modules_that_pytorch_does_not_have_are_refused():
    generator = TorchGenerator(0)
    with pytest.raises(ValueError, match="input of LSTM is not known; give input_size"):
        torch_init(LSTM(3), generator)
    with pytest.raises(TypeError, match="LayerNormGRU"):
        torch_init(LayerNormGRU(3), generator, 5)
    for module in (build_model("best", "gru"), LayerNormGRU(3)):
        with pytest.raises(TypeError, match=type(module).__name__):
            dropout_masks(module, generator, 2, 5)
    with pytest.raises(ValueError, match="variational"):
        dropout_masks(
            LSTM(3, num_layers=2, dropout=0.5, variational=True), generator, 2, 5
        )
    # Nothing was drawn.
    np.testing.assert_array_equal(generator.state(), TorchGenerator(0).state())
