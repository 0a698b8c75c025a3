"""What is counted of messages and of training with them, by all processes together."""

from __future__ import annotations

from typing import Any, Dict, Iterator, List, Optional, Tuple

from . import broker
from .state import Key, State

# By queue; in the order in which they are told.
COUNTERS = {
    "received": "Messages taken up.",
    "redelivered": "Deliveries of messages that had been delivered before.",
    "published": "Answers that the broker has confirmed.",
    "failed": "Times that a function failed at a message.",
    "dead": "Messages put aside, as they cannot be used.",
}
# Of the process that learns.
LEARNER = {
    "spool": ("gauge", "ekiben_training_spool_records", "Records that the model is not trained with yet."),
    "trainings": ("counter", "ekiben_trainings_total", "Models made of messages."),
    "trained": ("counter", "ekiben_training_records_total", "Records that models were made of."),
    "broken": ("counter", "ekiben_trainings_failed_total", "Trainings that made no model."),
    "aside": ("counter", "ekiben_training_records_aside_total", "Records put aside, as no model could be made of them."),
}


class Counts:
    """Those of this process, with `others` to be told as well."""

    def __init__(self, state: State, settings: Dict[str, Any], others: Optional[State] = None) -> None:
        self.state, self.others = state, others
        self.queues = broker.queues(settings)
        self.places = {queue: place for place, queue in enumerate(self.queues)}
        # Of one process alone, as all of them would count the same.
        self.is_first = state.worker == 0

    def add(self, kind: str, queue: str, count: int = 1) -> None:
        self.state.add(("m", kind, self.places[queue]), count)

    def depth(self, queue: str, count: int) -> None:
        """So many wait in a queue."""
        self.state.set(("m", "waiting", self.places[queue]), count)

    def learner(self, kind: str, count: float, is_gauge: bool = False) -> None:
        (self.state.set if is_gauge else self.state.add)(("l", kind), count)

    def connected(self, is_so: bool) -> None:
        self.state.set(("c",), is_so)

    def lines(self) -> Iterator[str]:
        sums: Dict[Key, float] = {}
        for state in (self.state, self.others):
            for key, value in state.sums().items() if state is not None else ():
                sums[key] = sums.get(key, 0) + value
        for kind, text in COUNTERS.items():
            yield from metric("counter", f"ekiben_messages_{kind}_total", text, self.by_queue(sums, kind))
        waiting = self.by_queue(sums, "waiting")
        yield from metric("gauge", "ekiben_messages_waiting", "Messages that wait in the queue, as seen last.", waiting)
        connections = [("", sums.get(("c",), 0))]
        yield from metric("gauge", "ekiben_broker_connections", "Connections to the broker that messages come by.", connections)
        for kind, (type, name, text) in LEARNER.items():
            if ("l", kind) in sums:
                yield from metric(type, name, text, [("", sums["l", kind])])

    def by_queue(self, sums: Dict[Key, float], kind: str) -> List[Tuple[str, float]]:
        return [(f'{{queue="{escaped(queue)}"}}', sums.get(("m", kind, place), 0)) for place, queue in enumerate(self.queues)]


def metric(type: str, name: str, text: str, values: List[Tuple[str, float]]) -> Iterator[str]:
    yield f"# HELP {name} {text}"
    yield f"# TYPE {name} {type}"
    for labels, value in values:
        yield f"{name}{labels} {int(value)}"


def escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
