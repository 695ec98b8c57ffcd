"""Runs binary and sub-bit networks in stock TensorFlow Lite interpreters, without TensorFlow or Larq."""

from __future__ import annotations

import ctypes
from pathlib import Path

__all__ = ["cmake_dir", "library_path", "load_delegate"]

_FOLDER = Path(__file__).parent
_Report = ctypes.CFUNCTYPE(None, ctypes.c_char_p)


def _load() -> ctypes.CDLL:
    path = _FOLDER / "lib" / "liblarq_sks_runtime.so"
    try:
        # As the interpreters load delegates: a call keeps Python's lock, which the report of an error needs.
        library = ctypes.PyDLL(str(path))
    except OSError as error:
        raise ImportError(
            "larq-sks-runtime needs its compiled library, which is for 64-bit Linux on x86 and Arm. "
            f"Received: {error}. Where a wheel does not fit, build it on the machine itself, with a C++17 compiler: "
            "`pip install ./runtime` in a checkout of larq_sks. On other systems, files that are not compact run in "
            "the interpreter of larq-compute-engine."
        ) from error
    library.tflite_plugin_create_delegate.argtypes = [
        ctypes.POINTER(ctypes.c_char_p),
        ctypes.POINTER(ctypes.c_char_p),
        ctypes.c_size_t,
        _Report,
    ]
    library.tflite_plugin_create_delegate.restype = ctypes.c_void_p
    library.tflite_plugin_destroy_delegate.argtypes = [ctypes.c_void_p]
    library.tflite_plugin_destroy_delegate.restype = None
    return library


_library = _load()


class _Delegate:
    """What interpreters take. They keep it alive, and ask it for its pointer."""

    def __init__(self, options: dict[str, str]):
        self._pointer = None
        # When Python ends, the delegate may go after this module's names.
        self._destroy = _library.tflite_plugin_destroy_delegate
        keys, values = (
            (ctypes.c_char_p * len(options))(*(text.encode() for text in texts))
            for texts in (options.keys(), options.values())
        )
        reports: list[str] = []
        report = _Report(lambda text: reports.append(text.decode()))
        self._pointer = _library.tflite_plugin_create_delegate(keys, values, len(options), report)
        if self._pointer is None:
            raise ValueError("; ".join(reports))

    def _get_native_delegate_pointer(self) -> int:
        return self._pointer

    def __del__(self):
        if self._pointer is not None:
            self._destroy(self._pointer)


def load_delegate(
    num_threads: int | None = None, isa: str = "auto", kernel: str = "auto"
) -> _Delegate:
    """Makes the delegate that an interpreter needs to run binary and sub-bit networks.

    It must come first among several delegates. What it cannot run of a file, it reports with the reason,
    and the interpreter then fails with that report.

    Example:
        ```python
        from ai_edge_litert.interpreter import Interpreter  # or tf.lite, or tflite_runtime.interpreter
        import larq_sks_runtime

        interpreter = Interpreter("net.tflite", experimental_delegates=[larq_sks_runtime.load_delegate()])
        ```

    Arguments:
        num_threads: How many threads run a convolution, from 1 to 64. `None`: as many as the interpreter
            was told by its own `num_threads`.
        isa: The instructions to use: "portable", "popcnt", "avx2", "avx512" or "neon". "auto": the best
            that the processor has. Outputs are the same.
        kernel: "classic" computes every 3x3 kernel by itself, "shared" computes equal codewords once where
            it can. "auto": what should be faster for the layer. Outputs are the same.

    Returns:
        An object for the argument `experimental_delegates` of an interpreter.

    Raises:
        ValueError: If an argument is none of those, or the processor lacks the instructions.
    """
    if num_threads is not None and (
        isinstance(num_threads, bool) or not isinstance(num_threads, int) or num_threads < 1
    ):
        raise ValueError(
            f"`num_threads` must be an integer from 1 to 64, or None. Received: {num_threads!r}."
        )
    return _Delegate({"num_threads": str(num_threads or 0), "isa": str(isa), "kernel": str(kernel)})


def library_path() -> str:
    """Tells where the shared library is, for the `load_delegate` of an interpreter or a program in C++.

    Example:
        ```python
        tf.lite.experimental.load_delegate(larq_sks_runtime.library_path(), {"num_threads": 2})
        ```

    Returns:
        The path of the file.
    """
    return str(_FOLDER / "lib" / "liblarq_sks_runtime.so")


def cmake_dir() -> str:
    """Tells where CMake finds the package for C++ programs, `find_package(larq_sks_runtime)`.

    Example:
        ```
        cmake -D larq_sks_runtime_DIR="$(python -c 'import larq_sks_runtime as r; print(r.cmake_dir())')" .
        ```

    Returns:
        The folder with larq_sks_runtime-config.cmake.
    """
    return str(_FOLDER / "lib" / "cmake" / "larq_sks_runtime")
