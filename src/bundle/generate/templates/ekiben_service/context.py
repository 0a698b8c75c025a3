"""What belongs to the request that is being answered, wherever it is asked for."""

try:
    from contextvars import ContextVar
except ImportError:
    # Python 3.6, whose small service answers each request in one thread.
    import threading

    class ContextVar:  # type: ignore
        def __init__(self, name, default):
            self.default, self.local = default, threading.local()

        def get(self):
            return getattr(self.local, "value", self.default)

        def set(self, value):
            self.local.value = value


__all__ = ["ContextVar"]
