"""Debian's RabbitMQ (package rabbitmq-server) on loopback, as any user and without systemd; for the scripts beside this one."""

import os
import pathlib
import shutil
import signal
import socket
import subprocess
import time

SERVER = "/usr/lib/rabbitmq/bin/rabbitmq-server"


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


class RabbitMQ:
    """A broker of its own in a folder; its durable queues are there after it has been ended and started again."""

    def __init__(self, folder):
        if not os.path.exists(SERVER):
            raise SystemExit("rabbitmq-server is needed")
        self.folder = pathlib.Path(folder)
        self.port, self.mapper_port, distribution = free_port(), free_port(), free_port()
        self.url = f"amqp://guest:guest@127.0.0.1:{self.port}/"
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "rabbitmq.conf").write_text(f"listeners.tcp.1 = 127.0.0.1:{self.port}\nloopback_users = none\n")
        (self.folder / "plugins").write_text("[].\n")
        self.environment = {
            **os.environ,
            "HOME": str(self.folder),
            "RABBITMQ_NODENAME": f"ekiben{self.port}@localhost",
            "RABBITMQ_MNESIA_BASE": str(self.folder / "data"),
            "RABBITMQ_LOG_BASE": str(self.folder / "log"),
            "RABBITMQ_CONFIG_FILE": str(self.folder / "rabbitmq.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "plugins"),
            "RABBITMQ_PID_FILE": str(self.folder / "pid"),
            "RABBITMQ_DIST_PORT": str(distribution),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(self.mapper_port),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
        }
        # Its own, so that it ends with us.
        self.mapper = subprocess.Popen([shutil.which("epmd"), "-port", str(self.mapper_port)], env=self.environment)
        self.process = None

    def start(self):
        with open(self.folder / "out", "ab") as out:
            self.process = subprocess.Popen([SERVER], env=self.environment, stdout=out, stderr=out, start_new_session=True)
        end = time.monotonic() + 60
        while time.monotonic() < end:
            try:
                with socket.create_connection(("127.0.0.1", self.port), 1) as one:
                    one.sendall(b"AMQP\0\0\x09\1")
                    if one.recv(1):
                        return self
            except OSError:
                pass
            time.sleep(0.1)
        raise SystemExit(f"RabbitMQ does not start: {(self.folder / 'out').read_text()}")

    def stop(self):
        """As an administrator does."""
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()
            self.process = None

    def kill(self):
        """As a machine that fails does."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.process = None

    def restart(self, is_killed=False):
        self.kill() if is_killed else self.stop()
        self.start()

    def close(self):
        self.stop()
        self.mapper.terminate()
        self.mapper.wait()
        # The broker starts one too, where ours was not there yet.
        subprocess.run([shutil.which("epmd"), "-port", str(self.mapper_port), "-kill"], env=self.environment, capture_output=True)

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.close()
