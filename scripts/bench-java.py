#!/usr/bin/env python3
"""Measures a MOJO of h2o's behind Ekiben's service beside the same model behind a Java program with its own HTTP server, and writes
the table into docs/benchmarks.md.

    scripts/bench-java.py H2O-GENMODEL.JAR [EKIBEN]      on a machine with nothing else to do; takes two minutes

Single rows, by `ab` with 8 callers on kept connections, one after the other in three rounds; medians are given. All have the same
Java with the options that Ekiben gives it. The third is Ekiben's service with Python at the port, as it is where there is more than
the model: here a function beside it. Needs apache2-utils and openjdk-17-jre-headless; the packages come from the package index.
"""

import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

from importlib import import_module  # noqa: E402

service_bench = import_module("bench-service")

ROOT = pathlib.Path(__file__).resolve().parent.parent
SECTION = ("<!-- java -->", "<!-- /java -->")
OWN = ["fastapi", "fastapi-swagger", "httptools", "uvicorn"]
ROUNDS = 3
ROW = {"warmth": 71.5, "shaking.rate": 2.5, "make": "south"}

# As it is written by hand: the server of the JDK, a thread for each processor and caller, the JSON library that genmodel has.
SERVER = """\
import ai.h2o.com.google.gson.*;
import com.sun.net.httpserver.*;
import hex.genmodel.*;
import hex.genmodel.easy.*;
import hex.genmodel.easy.prediction.*;
import java.io.*;
import java.net.*;
import java.nio.charset.StandardCharsets;
import java.util.*;
import java.util.concurrent.*;

public class Server {
    public static void main(String[] args) throws Exception {
        EasyPredictModelWrapper model = new EasyPredictModelWrapper(MojoModel.load(args[0]));
        String[] labels = model.getResponseDomainValues();
        HttpServer server = HttpServer.create(new InetSocketAddress("127.0.0.1", Integer.parseInt(args[1])), 0);
        server.setExecutor(Executors.newFixedThreadPool(8));
        server.createContext("/readyz", exchange -> answer(exchange, "{}"));
        server.createContext("/predict", exchange -> {
            try {
                String text = new String(exchange.getRequestBody().readAllBytes(), StandardCharsets.UTF_8);
                RowData row = new RowData();
                for (Map.Entry<String, JsonElement> member : JsonParser.parseString(text).getAsJsonObject().entrySet()) {
                    JsonPrimitive value = member.getValue().getAsJsonPrimitive();
                    row.put(member.getKey(), value.isNumber() ? (Object) value.getAsDouble() : value.getAsString());
                }
                MultinomialModelPrediction found = model.predictMultinomial(row);
                JsonObject probabilities = new JsonObject();
                for (int at = 0; at < labels.length; at++) {
                    probabilities.addProperty(labels[at], found.classProbabilities[at]);
                }
                JsonObject answer = new JsonObject();
                answer.addProperty("label", found.label);
                answer.add("probabilities", probabilities);
                answer(exchange, answer.toString());
            } catch (Exception error) {
                error.printStackTrace();
                exchange.sendResponseHeaders(500, -1);
            }
        });
        server.start();
    }

    static void answer(HttpExchange exchange, String text) throws IOException {
        byte[] bytes = text.getBytes(StandardCharsets.UTF_8);
        exchange.getResponseHeaders().set("content-type", "application/json");
        exchange.sendResponseHeaders(200, bytes.length);
        try (OutputStream out = exchange.getResponseBody()) {
            out.write(bytes);
        }
    }
}
"""
OPTIONS = ["-XX:+UseSerialGC", "-XX:-UsePerfData", "-Dsun.net.httpserver.nodelay=true"]


def asked(server, body):
    request = urllib.request.Request(
        f"http://127.0.0.1:{server.port}/predict", body.read_bytes(), {"content-type": "application/json"}
    )
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


def main():
    genmodel = pathlib.Path(sys.argv[1]).resolve()
    ekiben = pathlib.Path(sys.argv[2] if len(sys.argv) > 2 else ROOT / "target/release/ekiben").resolve()
    with tempfile.TemporaryDirectory() as folder:
        work = pathlib.Path(folder)
        subprocess.run([sys.executable, "-m", "venv", work / "own"], check=True)
        subprocess.run([work / "own/bin/python", "-m", "pip", "install", "-q", *OWN], check=True)
        environment = os.environ | {"EKIBEN_HOME": str(work / "store")}

        def packed(name, more):
            project = work / "projects" / name
            project.mkdir(parents=True)
            shutil.copy(ROOT / "fixtures/mojo/classes.zip", project / "classes.zip")
            shutil.copy(genmodel, project / "h2o-genmodel.jar")
            (project / "more.py").write_text("def more() -> int:\n    return 1\n")
            manifest = {
                "name": "bench",
                "version": "1",
                "system": {"packages": ["openjdk-17-jre-headless"]},
                "service": {"java": {"model": "classes.zip"}, **more},
            }
            (project / "ekiben.json").write_text(json.dumps(manifest))
            for command in (["pack", project, "-o", f"{project}.ekiben"], ["unpack", f"{project}.ekiben", work / name]):
                subprocess.run([ekiben, *command], env=environment, check=True, capture_output=True)

        packed("ekiben", {})
        packed("python", {"functions": {"more": "more.py:more"}})
        body = work / "row.json"
        body.write_text(json.dumps(ROW))
        (work / "Server.java").write_text(SERVER)

        def own(name):
            port = service_bench.free_port()
            variables = {"PORT": str(port), "LOG_LEVEL": "warning"}
            return service_bench.Server([work / "own/bin/python", "-m", "ekiben_service"], work / name, variables, port)

        def by_hand():
            port = service_bench.free_port()
            command = ["java", *OPTIONS, "-cp", genmodel, "Server.java", work / "ekiben/classes.zip", port]
            return service_bench.Server(command, work, {}, port)

        rates, answers, starts = {}, {}, {}
        for _ in range(ROUNDS):
            for name, start in (("ekiben", own), ("java", lambda _: by_hand()), ("python", own)):
                begun = time.perf_counter()
                with start(name) as server:
                    answers[name] = asked(server, body)
                    starts.setdefault(name, []).append(time.perf_counter() - begun)
                    # Java compiles what is asked often.
                    server.rate("/predict", body, 8, 3)
                    rates.setdefault(name, []).append(server.rate("/predict", body, 8))
    if answers["ekiben"] != answers["java"] or answers["python"] != answers["java"]:
        sys.exit(f"the answers are not the same: {answers}")
    found = {name: statistics.median(values) for name, values in rates.items()}
    first = {name: statistics.median(values) for name, values in starts.items()}
    ratio = found["ekiben"] / found["java"]
    lines = ["| | ekiben | Java by hand | ratio | goal | Python at the port |", "|---|--:|--:|--:|--:|--:|"]
    rates = f"{found['ekiben']:,.0f} | {found['java']:,.0f} | {ratio:.2f} | 0.8 | {found['python']:,.0f}"
    lines.append(f"| rows of a MOJO a second, 8 callers | {rates} |")
    starts = f"{first['ekiben']:.1f} s | {first['java']:.1f} s | | | {first['python']:.1f} s"
    lines.append(f"| the first answer after the start | {starts} |")
    table = "\n".join(lines)
    print(table)
    path = ROOT / "docs/benchmarks.md"
    before, rest = path.read_text().split(f"{SECTION[0]}\n", 1)
    after = rest.split(SECTION[1], 1)[1]
    path.write_text(f"{before}{SECTION[0]}\n{table}\n{SECTION[1]}{after}")


if __name__ == "__main__":
    main()
