"""The stages of the pipeline, `python -m stages.<name>`, and the rooms that they are made of.

Sets TensorFlow up before anything imports it. Only what a stage itself says is printed: to see TensorFlow's messages
as well, set TF_CPP_MIN_LOG_LEVEL=0.
"""

import importlib.util
import logging
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from types import TracebackType

# Without AVX-512 TensorFlow leaves oneDNN off, and then the gradients of ResNet50's convolutions take three times as
# long.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
LOGGED = re.compile(rb"WARNING: All log messages before absl|[IWE]\d{4} \d\d:|To enable the following instructions:")
"""How the lines begin that TensorFlow's libraries write while they load, whatever the log level."""


@contextmanager
def unlogged() -> Iterator[None]:
    """Drop the lines of LOGGED that the block writes to stderr, from C++ as well; the others appear when it ends."""
    sys.stderr.flush()
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as written:
        os.dup2(written.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(stderr, 2)
            os.close(stderr)
            written.seek(0)
            for line in written:
                if not LOGGED.match(line):
                    os.write(2, line)


class QuietTensorFlow:
    """Lets TensorFlow load within unlogged(): no variable reaches what its libraries log before they read any."""

    @classmethod
    def find_spec(cls, name: str, path=None, target=None) -> ModuleSpec | None:
        """Find TensorFlow, once; other modules are found by those who do that."""
        if name != "tensorflow":
            return None
        sys.meta_path.remove(cls)
        spec = importlib.util.find_spec(name)
        if spec and spec.loader:
            load = spec.loader.exec_module

            def load_unlogged(module):
                with unlogged():
                    load(module)

            spec.loader.exec_module = load_unlogged  # type: ignore[method-assign]
        return spec


def interrupted(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Say in one line that Ctrl-C came while a stage's modules were loading; see common/command.py for later."""
    if not issubclass(kind, KeyboardInterrupt):
        return sys.__excepthook__(kind, error, trace)
    print("\nInterrupted before it began.", file=sys.stderr)
    sys.exit(130)


def is_news(record: logging.LogRecord) -> bool:
    """Return whether a message of TensorFlow is none about retracing.

    Keras traces each phase of a training anew, as image size, dropout and learning layers differ, and twice: for full
    batches and for the last one. With few batches an epoch TensorFlow takes that for a mistake.
    """
    return "triggered tf.function retracing" not in record.getMessage()


if sys.argv[0] == "-m":  # what Python calls a module's program while its package is loading
    sys.excepthook = interrupted
if "tensorflow" not in sys.modules and os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3") == "3":
    sys.meta_path.insert(0, QuietTensorFlow)
    logging.getLogger("tensorflow").addFilter(is_news)
