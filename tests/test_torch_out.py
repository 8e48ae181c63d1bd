"""What `torch_file` writes, PyTorch reads, and with no code in it."""

import io
import pickletools
import zipfile

import ml_dtypes
import numpy as np
import pytest

from rnnjax import LSTM, to_torch, torch_file
from rnnjax.weights.torch_out import STORAGES
from tests.helpers import normal, random_params

GLOBALS = {
    "collections OrderedDict",
    "torch._utils _rebuild_tensor_v2",
    "torch FloatStorage",
    "torch LongStorage",
}


def arrays_of_every_type() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    named = {"bfloat16": ml_dtypes.bfloat16}
    return {
        f"Größe.{name}": rng.uniform(-9, 9, (3, 2, 5)).astype(named.get(name, name))
        for name in STORAGES
    }


STRANGE = {
    "scalar": np.float32(3.5),
    "empty": np.zeros((0, 4), np.float32),
    "transposed": np.arange(12, dtype=np.float32).reshape(3, 4).T,
    "big-endian": np.arange(5, dtype=">f4"),
    "": np.arange(3),
}


def test_live_every_type_and_shape():
    torch = pytest.importorskip("torch")
    arrays = arrays_of_every_type() | STRANGE
    read = torch.load(io.BytesIO(torch_file(arrays)), weights_only=True)
    assert list(read) == list(arrays)
    for name, array in arrays.items():
        tensor, array = read[name], np.asarray(array)
        assert str(tensor.dtype) == f"torch.{array.dtype.name}"
        assert tensor.is_contiguous()
        assert not tensor.requires_grad
        if tensor.dtype == torch.bfloat16:
            tensor, array = tensor.float(), array.astype(np.float32)
        np.testing.assert_array_equal(tensor.numpy(), array)


def test_live_a_layer_of_torchs_takes_it(tmp_path):
    torch = pytest.importorskip("torch")
    ours = LSTM(4, num_layers=2, bidirectional=True)
    inputs = normal(0, 3, 7, 5)
    state_dict = to_torch(ours, random_params(ours, inputs))
    path = tmp_path / "lstm.pt"
    path.write_bytes(torch_file(state_dict))
    theirs = torch.nn.LSTM(5, 4, 2, bidirectional=True, batch_first=True)
    # Mapped into memory, which needs the alignment.
    theirs.load_state_dict(torch.load(path, weights_only=True, mmap=True))
    for name, tensor in theirs.state_dict().items():
        np.testing.assert_array_equal(tensor.numpy(), state_dict[name])


def test_the_archive_is_as_torchs():
    arrays = {"a": normal(0, 3, 4), "b": np.arange(100_000)}
    data = torch_file(arrays)
    assert data == torch_file(arrays)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.testzip() is None
        for number, array in enumerate(arrays.values()):
            entry = archive.getinfo(f"archive/data/{number}")
            assert entry.compress_type == zipfile.ZIP_STORED
            place = data.index(array.tobytes())
            assert place > entry.header_offset
            assert place % 64 == 0
        pickled = archive.read("archive/data.pkl")
    called = {
        argument
        for opcode, argument, _ in pickletools.genops(pickled)
        if opcode.name == "GLOBAL"
    }
    assert called == GLOBALS


def test_large_numbers():
    # Strides of an array without numbers may be as large as one likes.
    torch = pytest.importorskip("torch")
    huge = np.zeros((0, 2**33), np.float32)
    read = torch.load(io.BytesIO(torch_file({"huge": huge})), weights_only=True)
    assert read["huge"].shape == huge.shape


def test_a_type_that_torch_lacks():
    with pytest.raises(
        ValueError, match=r"^name has type <U3; expected one of float64"
    ):
        torch_file({"name": np.array("GRU")})
