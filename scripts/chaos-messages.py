#!/usr/bin/env python3
"""Ends the worker and the broker again and again while messages are under way, and looks for what was lost.

    scripts/chaos-messages.py [PREDICTIONS [RECORDS]]      10000 of each where nothing is said; takes about three minutes

The service runs as a plain process in a virtual environment, against Debian's RabbitMQ on loopback. For each kind of message the worker is
killed three times (SIGKILL) and the broker restarted twice, once ended as an administrator does and once killed. Each message has to
be answered at least once, a repetition by the same message id; each record has to be in some training; and messages that cannot be
used, or that end the process, stop nothing.
"""

import asyncio
import collections
import json
import logging
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import venv

from rabbitmq import RabbitMQ, free_port

ROOT = pathlib.Path(__file__).resolve().parent.parent
PACKAGES = ["fastapi", "uvicorn", "aio-pika"]
SERVICE = ROOT / "src/bundle/generate/templates/ekiben_service"
PREDICT = """\
import os, pickle, time
MODEL = pickle.load(open("model.pkl", "rb"))

def predict(number: int) -> dict:
    if number == -1:
        raise RuntimeError("this one fails")
    if number == -2:
        os._exit(7)
    time.sleep(0.002)
    return {"number": number, "trained": len(MODEL)}
"""
TRAIN = """\
import json, time

def train(data=None, hyperparameters=None):
    records = [json.loads(line) for line in open(data)] if data else []
    if data:
        with open(hyperparameters["seen"], "a") as seen:
            seen.write(json.dumps([record["number"] for record in records]) + "\\n")
    time.sleep(0.3)
    return ["model"], {"records": len(records), "sum": sum(record["number"] for record in records)}
"""
SETTINGS = {
    "name": "chaos",
    "version": "1",
    "functions": [{"path": "/predict", "file": "predict.py", "function": "predict"}],
    "messages": {"function": "/predict", "subscribe": ["chaos.in"], "publish": ["chaos.out"], "prefetch": 16},
}


def environment_with_packages(folder):
    """PYTHON names an interpreter that has them already."""
    if os.environ.get("PYTHON"):
        return os.environ["PYTHON"]
    venv.create(folder / "venv", with_pip=True)
    subprocess.run([folder / "venv/bin/pip", "install", "-q", *PACKAGES], check=True)
    return str(folder / "venv/bin/python")


class Worker:
    """The service, which is started again as soon as it has been killed, as a cluster does."""

    def __init__(self, python, app, mode, environment):
        self.command, self.app, self.environment = [python, "-m", "ekiben_service", mode], app, environment
        self.log = open(app.parent / f"{mode}.log", "ab")
        self.start()

    def start(self):
        self.process = subprocess.Popen(
            self.command, cwd=self.app, env=self.environment, stderr=self.log, stdout=self.log, start_new_session=True
        )

    def kill(self):
        """All of its processes, as when a container is killed."""
        found = subprocess.run(["ps", "-e", "-o", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
        children = collections.defaultdict(list)
        for line in found.splitlines():
            pid, parent = map(int, line.split())
            children[parent].append(pid)
        ending = [self.process.pid]
        for pid in ending:
            ending += children[pid]
        for pid in ending:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.process.wait()
        self.start()

    def watch(self):
        """Starts it anew where it has ended by itself; whether it had."""
        if self.process.poll() is None:
            return False
        self.start()
        return True

    def close(self):
        self.process.terminate()
        try:
            return self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise SystemExit("the worker does not end") from None


class Peer:
    """Who sends, and takes answers; over as many connections as are lost."""

    def __init__(self, url, key):
        self.url, self.key = url, key
        self.got = []

    async def channel(self):
        import aio_pika

        while True:
            try:
                connection = await asyncio.wait_for(aio_pika.connect(self.url), 10)
                channel = await connection.channel()
                return connection, channel, await channel.get_exchange("amq.topic")
            except Exception:
                await asyncio.sleep(0.3)

    async def bind(self, queue):
        connection, channel, exchange = await self.channel()
        await (await channel.declare_queue(queue, durable=True)).bind(exchange, self.key)
        await connection.close()

    async def send(self, key, bodies, pace=0.0):
        """Each until the broker has confirmed it, as (id, body)."""
        import aio_pika

        waiting = collections.deque(bodies)
        while waiting:
            connection, channel, exchange = await self.channel()
            try:
                while waiting:
                    part = [waiting[place] for place in range(min(50, len(waiting)))]
                    sending = []
                    for id, body in part:
                        message = aio_pika.Message(body, message_id=id, correlation_id=f"c-{id}", delivery_mode=2)
                        sending.append(exchange.publish(message, key, mandatory=True))
                    await asyncio.wait_for(asyncio.gather(*sending), 10)
                    for _ in part:
                        waiting.popleft()
                    await asyncio.sleep(pace * len(part))
                await connection.close()
            except Exception:
                await asyncio.sleep(0.2)

    async def receive(self, queue):
        """All that comes, for ever."""
        while True:
            connection, channel, _ = await self.channel()
            lost = asyncio.Event()
            connection.close_callbacks.add(lambda *_: lost.set())
            try:
                await channel.set_qos(prefetch_count=200)
                await (await channel.declare_queue(queue, durable=True)).consume(self.take)
                await lost.wait()
            except Exception:
                await asyncio.sleep(0.2)

    async def take(self, message):
        self.got.append(message)
        try:
            await message.ack()
        except Exception:
            # It comes again.
            pass


async def disturb(worker, rabbit, is_done, span):
    """Three kills and two restarts, spread over so many seconds."""
    for number, what in enumerate(["kill", "stop", "kill", "broker", "kill"]):
        await asyncio.sleep(span / 5 * random.uniform(0.6, 1.2))
        print(f"    {what} ({is_done()})", flush=True)
        if what == "kill":
            worker.kill()
        else:
            await asyncio.get_running_loop().run_in_executor(None, rabbit.restart, what == "broker")


async def until(condition, seconds, worker):
    end, begun = time.monotonic() + seconds, 0
    while not condition() and time.monotonic() < end:
        begun += worker.watch()
        await asyncio.sleep(0.1)
    return begun


async def predictions(rabbit, worker, count):
    peer = Peer(rabbit.url, "chaos.out")
    await peer.bind("answers")
    await until(lambda: log_of(worker).count("messages come from") > 0, 30, worker)
    receiving = asyncio.ensure_future(peer.receive("answers"))
    begun = time.monotonic()
    poison = {count // 3: b"{", count // 2: b'{"number": "text"}', count // 4: b'{"number": -1}'}
    bodies = [(f"m{number}", json.dumps({"number": number}).encode()) for number in range(count)]
    for place, body in sorted(poison.items(), reverse=True):
        bodies.insert(place, (f"poison{place}", body))

    def answered():
        return len({message.message_id for message in peer.got})

    await asyncio.gather(peer.send("chaos.in", bodies, 0.003), disturb(worker, rabbit, answered, max(count * 0.003, 15)))
    await until(lambda: answered() >= count, 120, worker)
    seconds = time.monotonic() - begun
    # One that ends the process each time, among others.
    last = [(f"n{number}", json.dumps({"number": number if number != 50 else -2}).encode()) for number in range(100)]
    await peer.send("chaos.in", last)
    starts = await until(lambda: answered() >= count + 99, 60, worker)
    dead = Peer(rabbit.url, "")
    await asyncio.sleep(3)
    burying = asyncio.ensure_future(dead.receive("chaos:dead"))
    starts += await until(lambda: len(dead.got) >= 4, 40, worker)
    receiving.cancel()
    burying.cancel()
    wanted = {f"m{number}" for number in range(count)} | {f"n{number}" for number in range(100) if number != 50}
    ids = collections.Counter(message.message_id for message in peer.got)
    repeated = sum(times > 1 for times in ids.values())
    marked = sum(bool(message.headers.get("x-redelivered")) for message in peer.got)
    wrong = [m for m in peer.got if json.loads(m.body)["number"] != int(m.message_id[1:]) or m.correlation_id != f"c-{m.message_id}"]
    print(f"    {count + 99} answered in {seconds:.1f} s, {repeated} of them more than once; {marked} marked as delivered before")
    print(f"    put aside: {[(m.message_id, m.headers['x-reason']) for m in dead.got]}; {starts} starts after the end of the process")
    missing = wanted - set(ids)
    assert not missing, f"{len(missing)} were lost: {sorted(missing)[:5]}"
    assert set(ids) == wanted, f"answers to what nobody asked: {sorted(set(ids) - wanted)[:5]}"
    assert not wrong, "an answer belongs to another message"
    assert sorted({m.message_id for m in dead.got}) == sorted([*(f"poison{place}" for place in poison), "n50"])


async def trainings(rabbit, worker, count, seen):
    peer = Peer(rabbit.url, "chaos.statistics")
    await peer.bind("statistics")
    await until(lambda: log_of(worker).count("messages come from") > 0, 30, worker)
    receiving = asyncio.ensure_future(peer.receive("statistics"))
    bodies = [(f"r{number}", json.dumps({"number": number, "text": "ü\n\t"}, indent=1).encode()) for number in range(count)]
    bodies.insert(count // 2, ("poison", b"no JSON"))

    def trained():
        lines = seen.read_text().splitlines(True) if seen.exists() else []
        # The last may have been cut off where the process was killed.
        return collections.Counter(number for line in lines if line.endswith("\n") for number in json.loads(line))

    begun = time.monotonic()
    span = max(count * 0.003, 15)
    await asyncio.gather(peer.send("chaos.train", bodies, 0.003), disturb(worker, rabbit, lambda: len(trained()), span))
    await until(lambda: len(trained()) >= count, 90, worker)
    seconds = time.monotonic() - begun
    await asyncio.sleep(2)
    receiving.cancel()
    numbers = trained()
    twice = sum(times > 1 for times in numbers.values())
    sums = sum(json.loads(message.body)["records"] for message in peer.got)
    print(f"    {count} records in {seconds:.1f} s; {twice} in more than one training; statistics of {sums} records in {len(peer.got)} messages")
    missing = set(range(count)) - set(numbers)
    assert not missing, f"{len(missing)} records were lost: {sorted(missing)[:5]}"
    assert sums >= count, "statistics were lost"


def log_of(worker):
    return pathlib.Path(worker.log.name).read_text()


def main():
    logging.getLogger("aiormq").setLevel(logging.CRITICAL)
    logging.getLogger("aio_pika").setLevel(logging.CRITICAL)
    predicted, learnt = ([int(word) for word in sys.argv[1:]] + [10_000, 10_000])[:2]
    folder = pathlib.Path(tempfile.mkdtemp(prefix="chaos-"))
    python = environment_with_packages(folder)
    sys.path += subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_paths()['purelib'])"], capture_output=True, text=True, check=True
    ).stdout.split()
    app = folder / "app"
    app.mkdir()
    shutil.copytree(SERVICE, app / "ekiben_service")
    (app / "predict.py").write_text(PREDICT)
    (app / "train.py").write_text(TRAIN)
    seen = folder / "seen"
    settings = {
        **SETTINGS,
        "trained": {"file": "model.pkl", "packed": str(folder / "models")},
        "training": {
            "train": {"file": "train.py", "function": "train"},
            "parameters": {"seen": str(seen)},
            "messages": {"subscribe": ["chaos.train"], "publish": ["chaos.statistics"], "buffer": max(learnt // 10, 1)},
        },
    }
    (app / "ekiben_service/service.json").write_text(json.dumps(settings))
    (app / "ekiben_service/openapi.json").write_text("{}")
    with RabbitMQ(folder / "broker") as rabbit:
        environment = {
            **os.environ,
            "EKIBEN_AMQP_URL": rabbit.url,
            "EKIBEN_TRAINED": str(folder / "trained"),
            "TMPDIR": str(folder),
            "PORT": str(free_port()),
        }
        for title, mode, work in (
            ("predictions", "consume", lambda worker: predictions(rabbit, worker, predicted)),
            ("training", "learn", lambda worker: trainings(rabbit, worker, learnt, seen)),
        ):
            print(f"{title}:", flush=True)
            if mode == "consume":
                subprocess.run([python, "-m", "ekiben_service", "train"], cwd=app, env=environment, check=True)
            worker = Worker(python, app, mode, environment)
            try:
                asyncio.run(work(worker))
                status = worker.close()
                assert status == 0, f"the worker ends with {status}"
            except BaseException:
                print(f"see {folder}")
                worker.process.kill()
                raise
    shutil.rmtree(folder)
    print("nothing was lost")


if __name__ == "__main__":
    main()
