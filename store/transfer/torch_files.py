"""Reading one tensor from a `.pt` file that somebody else wrote; nothing in it is ever executed."""

import os
import pickle
import struct
import warnings
from pathlib import Path

import ml_dtypes

from store.features import Array
from store.transfer.errors import UnusableFileError

# What `torch.load` ends in when it is given cut, changed or foreign bytes.
_DAMAGED = (
    pickle.UnpicklingError,
    OSError,  # it seeks to where the file is not
    RuntimeError,
    EOFError,
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
    AssertionError,
    OverflowError,
    MemoryError,
    struct.error,
)


def read_torch_tensor(path: Path) -> Array:
    """The tensor in the file, in memory of its own; bfloat16 is `ml_dtypes.bfloat16`.

    Raises UnusableFileError for a file that cannot be read, holds anything but one dense tensor, or is of a dtype
    that NumPy does not have.
    """
    import torch  # takes a second

    try:
        file = path.open("rb")
    except OSError as error:
        raise UnusableFileError(str(path), f"cannot be read: {error.strerror}; check it") from error
    try:
        with file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about unusual files; what matters is checked below
            size = os.fstat(file.fileno()).st_size
            content = torch.load(file, map_location="cpu", weights_only=True)
    except _DAMAGED as error:
        raise UnusableFileError(
            str(path), f"is no readable .pt file of plain tensors ({type(error).__name__}); write it again"
        ) from error
    if not isinstance(content, torch.Tensor):
        raise UnusableFileError(str(path), f"holds a {type(content).__name__}, not a tensor")
    if content.layout != torch.strided or content.is_quantized or content.device.type != "cpu":
        raise UnusableFileError(str(path), "holds no dense tensor; save it with .to_dense()")
    # strides of 0 can claim any size; the bytes of an honest tensor are all in the file
    if content.numel() * content.element_size() > size:
        raise UnusableFileError(str(path), f"claims shape {list(content.shape)}, more than the file holds")
    content = content.detach().resolve_neg().contiguous()
    if content.dtype == torch.bfloat16:
        bits: Array = content.view(torch.uint16).numpy()
        return bits.view(ml_dtypes.bfloat16)
    try:
        array: Array = content.numpy()
    except TypeError as error:
        raise UnusableFileError(str(path), f"is {content.dtype}; save it as a float type") from error
    return array
