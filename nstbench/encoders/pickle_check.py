"""Checking what a pickle of tensors would create, without creating it.

`torch.load(weights_only=True)` runs no code of a file, but it calls the classes it allows with the file's
arguments: 25 bytes that call `torch.Tensor(1500000000)` take 6 GB. Here a pickle is read with a stack of
descriptions instead of objects, and only the contents of state dicts are accepted.
"""

from __future__ import annotations

import pickletools
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections.abc import Callable
from dataclasses import dataclass, field
from math import prod
from typing import IO, Any

MOST_OPERATIONS = 300_000
"""Largest number of operations of a pickle: each may create an object of some 200 bytes."""

_MOST_COPIED = 4 * MOST_OPERATIONS
"""Largest number of elements that calls copy: a long list could be the argument of many calls."""

PYTHON_OBJECTS = (
    "the file holds Python objects, not only tensors; loading it could run code, so it is refused"
)
DAMAGED = "the file is damaged, cut short, or no file of weights"


class TensorFileError(Exception):
    """A file of tensors that cannot or must not be read.

    Args:
        reason: Reason, as a clause.
        hint: What to do instead, as a sentence.
    """

    def __init__(self, reason: str, hint: str = "Get the file once more.") -> None:
        self.reason, self.hint = reason, hint
        super().__init__(reason)


def objects_error() -> TensorFileError:
    """Return the error for a file that holds more than tensors, numbers and names."""
    hint = "If you trust it, load it yourself and save its state_dict() alone, best as .safetensors."
    return TensorFileError(PYTHON_OBJECTS, hint)


@dataclass(frozen=True)
class _Global:
    name: str


@dataclass
class _Mapping:
    """A dict or OrderedDict, described by its length."""

    length: int = 0
    ordered: bool = False


@dataclass(frozen=True)
class _Other:
    """A value whose contents no call uses: a tensor, a device, a set."""


@dataclass(frozen=True)
class Storage:
    """Memory that a pickle would allocate.

    Attributes:
        key: Name of the storage in the file.
        elements: Number of elements.
        bytes: Size in memory.
    """

    key: str
    elements: int
    bytes: int


@dataclass
class Contents:
    """What a pickle would create.

    Attributes:
        value: Pickled object if it is a number, else its description.
        storages: Storages of its tensors, by key.
        tensor_bytes: Sum of the sizes of its tensors, of which several may share a storage.
    """

    value: Any = None
    storages: dict[str, Storage] = field(default_factory=dict)
    tensor_bytes: int = 0


_ITEM_SIZES = {
    "Double": 8,
    "Float": 4,
    "Half": 2,
    "BFloat16": 2,
    "Long": 8,
    "Int": 4,
    "Short": 2,
    "Char": 1,
    "Byte": 1,
    "Bool": 1,
    "ComplexFloat": 8,
    "ComplexDouble": 16,
    "Untyped": 1,
}
_STORAGES = {
    f"{module}.{kind}Storage": size
    for kind, size in _ITEM_SIZES.items()
    for module in ("torch", "torch.cuda", "torch.storage")
}
_DTYPES = {
    f"torch.{name}"
    for name in (
        *("float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool"),
        *("complex64", "complex128"),
    )
}


def contents_of(file: IO[bytes]) -> Contents:
    """Return what the pickle at the file's position would create; move the position to its end.

    Args:
        file: File whose `read(n)` allocates no more than the bytes left, for any n.

    Raises:
        TensorFileError: If the pickle is damaged, holds other objects than tensors, numbers, strings and
            their containers, or would take much more memory than such a file needs.
    """
    reading = _Reading()
    try:
        for count, (operation, argument, _) in enumerate(pickletools.genops(file)):
            if count >= MOST_OPERATIONS:
                raise TensorFileError(f"it holds more than {MOST_OPERATIONS:,} objects, so it is refused")
            step = _STEPS.get(operation.name)
            if step is None:
                raise objects_error()
            step(reading, argument)
    except (ValueError, IndexError, KeyError, TypeError, OverflowError) as error:
        raise TensorFileError(DAMAGED) from error
    return reading.contents


class _Reading:
    """The state of reading a pickle: its stack, its memo, and its contents so far."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.marks: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        self.copied = 0
        self.contents = Contents()

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def take_marked(self) -> list[Any]:
        items, self.stack = self.stack, self.marks.pop()
        return items

    def mark(self) -> None:
        self.marks.append(self.stack)
        self.stack = []

    def memoize(self, key: int) -> None:
        self.memo[key] = self.stack[-1]

    def take_tuple(self, length: int) -> None:
        items = tuple(self.stack[-length:])
        if len(items) < length:
            raise IndexError
        self.stack[-length:] = [items]

    def append(self, items: list[Any]) -> None:
        if type(self.stack[-1]) is not list:
            raise TypeError
        self.stack[-1].extend(items)

    def set_items(self, items: list[Any]) -> None:
        if type(self.stack[-1]) is not _Mapping or len(items) % 2:
            raise TypeError
        self.stack[-1].length += len(items) // 2

    def count_copies(self, count: int) -> None:
        self.copied += count
        if self.copied > _MOST_COPIED:
            raise TensorFileError("it copies its contents many times over, so it is refused")

    def look_up(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        if (module, name) in NAME_MAPPING:  # names of Python 2, in files of 2017
            module, name = NAME_MAPPING[module, name]
        else:
            module = IMPORT_MAPPING.get(module, module)
        full = f"{module}.{name}"
        if full not in _CALLS and full not in _STORAGES and full not in _DTYPES:
            raise objects_error()
        self.push(_Global(full))

    def call(self) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        if type(function) is not _Global or function.name not in _CALLS or type(arguments) is not tuple:
            raise objects_error()
        self.push(_CALLS[function.name](self, *arguments))

    def build(self) -> None:
        state, instance = self.stack.pop(), self.stack[-1]
        if type(instance) is not _Mapping or not instance.ordered or type(state) is not _Mapping:
            raise objects_error()
        self.count_copies(state.length)

    def find_storage(self) -> None:
        tag, storage_type, key, _, elements, *_ = self.stack.pop()
        if tag != "storage" or type(storage_type) is not _Global or type(elements) is not int or elements < 0:
            raise ValueError
        storage = Storage(str(key), elements, elements * _STORAGES[storage_type.name])
        self.push(self.contents.storages.setdefault(storage.key, storage))

    def end(self) -> None:
        self.contents.value = self.stack.pop()


def _tensor(reading: _Reading, storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> _Other:
    """Count a tensor, which must not extend beyond its storage: torch would enlarge that."""
    numbers = (offset, *size, *stride)
    if type(storage) is not Storage or any(type(n) is not int or n < 0 for n in numbers):
        raise ValueError
    if len(size) > 64:
        raise ValueError
    elements = prod(size)
    if (
        elements
        and offset + 1 + sum((n - 1) * s for n, s in zip(size, stride, strict=True)) > storage.elements
    ):
        raise ValueError
    reading.contents.tensor_bytes += elements * (storage.bytes // max(1, storage.elements))
    return _Other()


def _ordered(reading: _Reading, items: Any = ()) -> _Mapping:
    if type(items) not in (list, tuple):
        raise objects_error()
    reading.count_copies(len(items))  # Python 2 passed the items to the call
    return _Mapping(len(items), ordered=True)


def _size(reading: _Reading, size: Any) -> tuple[Any, ...]:
    reading.count_copies(len(size))
    return tuple(size)


def _encoded(reading: _Reading, text: Any, encoding: Any = "latin1") -> _Other:
    if type(text) is not str or encoding not in ("latin1", "utf-8"):
        raise objects_error()
    reading.count_copies(len(text))
    return _Other()


def _set(reading: _Reading, items: Any = ()) -> _Other:
    if type(items) is not list:
        raise objects_error()
    reading.count_copies(len(items))
    return _Other()


def _device(reading: _Reading, *name: Any) -> _Other:
    return _Other()


def _parameter(reading: _Reading, data: Any, *_: Any) -> Any:
    return data


_CALLS: dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": _ordered,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": _parameter,
    "torch.Size": _size,
    "torch.device": _device,
    "_codecs.encode": _encoded,
    "builtins.set": _set,
}

_PUSHED = ("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINSTRING")

_STEPS: dict[str, Callable[[_Reading, Any], None]] = {
    "PROTO": lambda r, _: None,
    "STOP": lambda r, _: r.end(),
    "MARK": lambda r, _: r.mark(),
    "NONE": lambda r, _: r.push(None),
    "NEWTRUE": lambda r, _: r.push(True),
    "NEWFALSE": lambda r, _: r.push(False),
    "EMPTY_TUPLE": lambda r, _: r.push(()),
    "EMPTY_LIST": lambda r, _: r.push([]),
    "EMPTY_DICT": lambda r, _: r.push(_Mapping()),
    "EMPTY_SET": lambda r, _: r.push(_Other()),
    **dict.fromkeys(_PUSHED, lambda r, argument: r.push(argument)),
    **dict.fromkeys(("BINPUT", "LONG_BINPUT"), lambda r, key: r.memoize(key)),
    **dict.fromkeys(("BINGET", "LONG_BINGET"), lambda r, key: r.push(r.memo[key])),
    "TUPLE": lambda r, _: r.push(tuple(r.take_marked())),
    "TUPLE1": lambda r, _: r.take_tuple(1),
    "TUPLE2": lambda r, _: r.take_tuple(2),
    "TUPLE3": lambda r, _: r.take_tuple(3),
    "APPEND": lambda r, _: r.append([r.stack.pop()]),
    "APPENDS": lambda r, _: r.append(r.take_marked()),
    "SETITEM": lambda r, _: r.set_items([r.stack.pop(), r.stack.pop()]),
    "SETITEMS": lambda r, _: r.set_items(r.take_marked()),
    "GLOBAL": lambda r, name: r.look_up(name),
    "REDUCE": lambda r, _: r.call(),
    "BUILD": lambda r, _: r.build(),
    "BINPERSID": lambda r, _: r.find_storage(),
}
