"""TensorBoard files, without waiting for torch, and without a thread.

tensorboardX imports torch wherever it is installed, though scalars need none of it, and
that alone takes longer than training a small model. Its own writer writes in a thread:
on a full disk that thread ends with a traceback, and the training waits for it forever.
"""

import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

_torch_was_unknown = "torch" not in sys.modules
if _torch_was_unknown:
    # An import of it now fails, which tensorboardX expects.
    sys.modules["torch"] = None  # type: ignore[assignment]
try:
    from tensorboardX.event_file_writer import EventsWriter
    from tensorboardX.proto.event_pb2 import Event, SessionLog
    from tensorboardX.summary import scalar
finally:
    if _torch_was_unknown:
        del sys.modules["torch"]


class ScalarWriter:
    """Writes scalars; they are on the disk when a call returns.

    Args:
        directory: Where the file goes.
        step: Where a continued run goes on; later figures of an earlier try are hidden.

    Raises:
        OSError: Here or in ``add_scalars``, if it cannot be written.
    """

    def __init__(self, directory: Path, step: int):
        self._events = EventsWriter(str(directory / "events"))
        start = SessionLog(status=SessionLog.START)
        self._write(Event(step=step, session_log=start))

    def add_scalars(self, values: Mapping[str, float], step: int) -> None:
        """Write some figures of a step."""
        for name, value in values.items():
            self._write(Event(step=step, summary=scalar(name, value)))
        self._events.flush()

    def _write(self, event: Event) -> None:
        event.wall_time = time.time()
        self._events.write_event(event)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._events.close()
