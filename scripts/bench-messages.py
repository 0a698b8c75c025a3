#!/usr/bin/env python3
"""Measures predictions over the message bus, side by side with a hand-written worker around the same function.

    scripts/bench-messages.py [MESSAGES [ROUNDS]]      on a machine with nothing else to do

Both take from a durable queue, 16 messages at once, ask the function in a thread, publish the answer persistent and confirmed, and acknowledge.
One after the other, in turns; medians are given.
"""

import asyncio
import importlib.util
import json
import logging
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

from rabbitmq import RabbitMQ, free_port

HERE = pathlib.Path(__file__).resolve().parent
SERVICE = HERE.parent / "src/bundle/generate/templates/ekiben_service"
MODEL = """\
def predict(rows: list[list[float]]) -> list[float]:
    return [sum(row) for row in rows]
"""
WORKER = """\
import asyncio, json, os

import aio_pika

from predict import predict


async def main():
    connection = await aio_pika.connect_robust(os.environ["EKIBEN_AMQP_URL"])
    channel = await connection.channel()
    await channel.set_qos(prefetch_count=16)
    exchange = await channel.get_exchange("amq.topic")
    queue = await channel.declare_queue("bench:hand", durable=True)
    await queue.bind(exchange, "bench.in")

    async def take(message):
        async with message.process():
            document = json.loads(message.body)
            result = await asyncio.to_thread(predict, **document)
            answer = aio_pika.Message(
                json.dumps(result).encode(),
                content_type="application/json",
                message_id=message.message_id,
                correlation_id=message.correlation_id,
                delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
            )
            await exchange.publish(answer, routing_key="bench.out", mandatory=False)

    await queue.consume(take)
    await asyncio.Future()


asyncio.run(main())
"""
BODY = json.dumps({"rows": [[5.1, 3.5, 1.4, 0.2]]}).encode()


async def measured(rabbit, queue, command, app, count):
    """Messages a second that are answered, of so many that wait when the worker starts."""
    import aio_pika

    connection = await aio_pika.connect(rabbit.url)
    channel = await connection.channel()
    exchange = await channel.get_exchange("amq.topic")
    await (await channel.declare_queue(queue, durable=True)).bind(exchange, "bench.in")
    answers = await channel.declare_queue("bench:answers", durable=True)
    await answers.bind(exchange, "bench.out")
    for begin in range(0, count, 200):
        sending = []
        for number in range(begin, min(begin + 200, count)):
            message = aio_pika.Message(BODY, message_id=str(number), correlation_id=str(number), delivery_mode=2)
            sending.append(exchange.publish(message, "bench.in"))
        await asyncio.gather(*sending)
    environment = {**os.environ, "EKIBEN_AMQP_URL": rabbit.url, "PORT": str(free_port()), "LOG_LEVEL": "warning"}
    worker = subprocess.Popen(command, cwd=app, env=environment)
    times = []
    try:
        # The broker counts: who takes them would share the processors with the worker.
        while True:
            waiting = (await channel.declare_queue("bench:answers", passive=True)).declaration_result.message_count
            times.append((time.monotonic(), waiting))
            if waiting >= count:
                break
            await asyncio.sleep(0.05)
    finally:
        worker.terminate()
        worker.wait()
    await channel.queue_delete(queue)
    await channel.queue_delete("bench:answers")
    await connection.close()
    # From the first tenth to the last, so that the start is no part of it.
    first = next(one for one in times if one[1] >= count / 10)
    last = next(one for one in times if one[1] >= count * 9 / 10)
    return (last[1] - first[1]) / (last[0] - first[0])


def main():
    logging.getLogger("aiormq").setLevel(logging.CRITICAL)
    count, rounds = ([int(word) for word in sys.argv[1:]] + [10_000, 5][len(sys.argv) - 1 :])[:2]
    if importlib.util.find_spec("aio_pika") is None:
        raise SystemExit("needs fastapi, uvicorn and aio-pika: pip install fastapi uvicorn aio-pika")
    folder = pathlib.Path(tempfile.mkdtemp(prefix="bench-"))
    app = folder / "app"
    shutil.copytree(SERVICE, app / "ekiben_service")
    (app / "predict.py").write_text(MODEL)
    (app / "worker.py").write_text(WORKER)
    settings = {
        "name": "bench",
        "version": "1",
        "functions": [{"path": "/predict", "file": "predict.py", "function": "predict"}],
        "messages": {"function": "/predict", "subscribe": ["bench.in"], "publish": ["bench.out"], "prefetch": 16},
    }
    (app / "ekiben_service/service.json").write_text(json.dumps(settings))
    (app / "ekiben_service/openapi.json").write_text("{}")
    workers = {
        "hand-written": ("bench:hand", [sys.executable, "worker.py"]),
        "Ekiben": ("bench:predict:bench.in", [sys.executable, "-m", "ekiben_service", "consume"]),
    }
    rates = {name: [] for name in workers}
    with RabbitMQ(folder / "broker") as rabbit:
        for _ in range(rounds):
            for name, (queue, command) in workers.items():
                rates[name].append(asyncio.run(measured(rabbit, queue, command, app, count)))
    shutil.rmtree(folder)
    medians = {name: statistics.median(found) for name, found in rates.items()}
    for name, median in medians.items():
        print(f"{name:>13}: {median:8.0f} a second   ({', '.join(f'{one:.0f}' for one in rates[name])})")
    print(f"{'':>13}  {medians['Ekiben'] / medians['hand-written']:8.2f} of it")


if __name__ == "__main__":
    main()
