"""A file that ``torch.load`` reads, written without torch.

Such a file is a zip archive: ``data.pkl``, a pickle that says which tensors there are,
and the numbers of each below ``data/``. The pickle is put together here from the few
opcodes that a state dict needs, so that no pickle is made of anything else.
"""

import io
import struct
import zipfile
from collections.abc import Mapping

import numpy as np

STORAGES = {
    "float64": "Double",
    "float32": "Float",
    "float16": "Half",
    "bfloat16": "BFloat16",
    "int64": "Long",
    "int32": "Int",
    "int16": "Short",
    "int8": "Char",
    "uint8": "Byte",
    "bool": "Bool",
}
"""What PyTorch calls an array of each type."""

ALIGNMENT = 64
"""In bytes: where PyTorch begins the numbers of a tensor, to map the file into memory."""

DICT = b"ccollections\nOrderedDict\n)R"
"""GLOBAL, EMPTY_TUPLE, REDUCE: an empty one."""


def torch_file(state_dict: Mapping[str, np.ndarray]) -> bytes:
    """A state dict as the file that ``torch.save`` would make of it.

    Args:
        state_dict: From PyTorch's names to arrays, such as :func:`rnnjax.to_torch`
            returns.

    Returns:
        The file's bytes, for a name that ends in ``.pt``. ``torch.load`` reads it, also
        with ``weights_only=True``; the same arrays give the same bytes.

    Raises:
        ValueError: If PyTorch has no such type of array.

    Example:
        >>> data = torch_file({"weight": np.ones((2, 3), np.float32)})
        >>> with zipfile.ZipFile(io.BytesIO(data)) as archive:
        ...     archive.namelist()
        ['archive/data.pkl', 'archive/byteorder', 'archive/data/0', 'archive/version']

    Source:
        ``torch.save`` of PyTorch 2.13; ``torch._weights_only_unpickler`` for what it
        may contain.
    """
    arrays = {name: np.asarray(array) for name, array in state_dict.items()}
    tensors = [
        _text(name) + _tensor(name, array, number)
        for number, (name, array) in enumerate(arrays.items())
    ]
    # PROTO 2, the dict, MARK … SETITEMS, STOP.
    pickled = b"\x80\x02" + DICT + b"(" + b"".join(tensors) + b"u."
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        _put(archive, "data.pkl", pickled)
        _put(archive, "byteorder", b"little")
        for number, array in enumerate(arrays.values()):
            little = array.astype(array.dtype.newbyteorder("<"))
            _put(archive, f"data/{number}", little.tobytes())
        _put(archive, "version", b"3\n")
    return file.getvalue()


def _put(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    entry = zipfile.ZipInfo(f"archive/{name}")
    # A local header, the name, and the four bytes that announce an extra field.
    begin = archive.start_dir + 30 + len(entry.filename) + 4
    padding = -begin % ALIGNMENT
    entry.extra = b"FB" + struct.pack("<H", padding) + b"Z" * padding
    archive.writestr(entry, data)


def _tensor(name: str, array: np.ndarray, number: int) -> bytes:
    """What rebuilds an array from its numbers."""
    if array.dtype.name not in STORAGES:
        raise ValueError(
            f"{name} has type {array.dtype}; expected one of {', '.join(STORAGES)}"
        )
    strides = [int(np.prod(array.shape[axis + 1 :])) for axis in range(array.ndim)]
    kind = f"ctorch\n{STORAGES[array.dtype.name]}Storage\n".encode()
    storage = _tuple(
        _text("storage"), kind, _text(str(number)), _text("cpu"), _number(array.size)
    )
    return (
        b"ctorch._utils\n_rebuild_tensor_v2\n"
        + _tuple(
            storage + b"Q",  # BINPERSID
            _number(0),
            _tuple(*map(_number, array.shape)),
            _tuple(*map(_number, strides)),
            b"\x89",  # NEWFALSE: no gradient.
            DICT,  # No hooks.
        )
        + b"R"
    )


def _tuple(*items: bytes) -> bytes:
    return b"(" + b"".join(items) + b"t"


def _text(text: str) -> bytes:
    data = text.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def _number(number: int) -> bytes:
    if number < 2**31:
        return b"J" + struct.pack("<i", number)
    return b"\x8a\x08" + struct.pack("<q", number)
