#!/bin/sh
# Measures `ekiben validate`, and writes the section between the marks in docs/benchmarks.md.
#
# Needs python3. EKIBEN_FUZZ is how many inputs the readers of foreign bytes get (a million).
set -eu
cd "$(dirname "$0")/.."
cargo build --release --locked
rm -f target/tmp/fuzz.txt
# Without optimisation of our own code, so that arithmetic is checked.
EKIBEN_FUZZ="${EKIBEN_FUZZ:-1000000}" cargo test --locked --test it -- --ignored models::a_million_inputs
exec python3 - <<'PYTHON'
import json, os, resource, statistics, struct, subprocess, tempfile, time

EKIBEN = os.path.abspath("target/release/ekiben")


def run(*paths):
    """Seconds, seconds of the processors, and the largest memory in MB, of one run."""
    start = time.perf_counter()
    child = subprocess.Popen([EKIBEN, "validate", "--color", "never", *paths], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, _, usage = os.wait4(child.pid, 0)
    return time.perf_counter() - start, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def measure(times, *paths):
    runs = [run(*paths) for _ in range(times)]
    seconds, processors, memory = zip(*runs)
    return statistics.median(seconds) * 1000, statistics.median(processors) * 1000, max(memory)


rows = [("`fixtures/iris`, from the start of the process to its verdict", measure(50, "fixtures/iris"), "under 10 ms")]
with tempfile.TemporaryDirectory() as folder:
    for number in range(1000):
        project = f"{folder}/many/p{number}"
        os.makedirs(f"{project}/src")
        for name in ("ekiben.yaml", "model.pkl", "requirements.txt", "src/predict.py"):
            with open(f"fixtures/iris/{name}", "rb") as source, open(f"{project}/{name}", "wb") as target:
                target.write(source.read())
    rows.append(("a repository of 1,000 such projects", measure(5, f"{folder}/many"), "under 1 s"))
    size = 4 << 30
    with open(f"{folder}/a.pkl", "wb") as file:
        file.write(b"\x80\x05\x8e" + struct.pack("<Q", size))
        file.truncate(file.tell() + size)
        file.seek(0, 2)
        file.write(b".")
    header = json.dumps({"a": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}).encode()
    with open(f"{folder}/a.safetensors", "wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        file.truncate(file.tell() + size)
    rows.append(("a pickle of 4 GiB", measure(20, f"{folder}/a.pkl"), "under 100 MB"))
    rows.append(("safetensors of 4 GiB", measure(20, f"{folder}/a.safetensors"), "under 100 MB"))
table = "| | time | of the processors | memory | goal |\n|---|---|---|---|---|\n"
for what, (milliseconds, processors, memory), goal in rows:
    table += f"| {what} | {milliseconds:.1f} ms | {processors:.1f} ms | {memory:.0f} MB | {goal} |\n"
with open("target/tmp/fuzz.txt", encoding="ascii") as file:
    count, slowest, peak, _ = file.read().split()
table += f"\n{int(count):,} mutated inputs for the readers of foreign bytes: no panic, the slowest took {slowest} ms, "
table += f"{int(peak) // 1024} MB of memory at the most.\n"
table += "\nMade by `scripts/bench-validate.sh`.\n"
print(table)
path = "docs/benchmarks.md"
text = open(path, encoding="utf-8").read() if os.path.exists(path) else "# Benchmarks\n"
begin, end = "<!-- validate -->\n", "<!-- /validate -->\n"
if begin not in text:
    text += f"\n## Validation\n\n{begin}{end}"
before, _, rest = text.partition(begin)
_, _, after = rest.partition(end)
with open(path, "w", encoding="utf-8") as file:
    file.write(before + begin + table + end + after)
PYTHON
