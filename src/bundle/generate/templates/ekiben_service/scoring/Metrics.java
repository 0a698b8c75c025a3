import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.atomic.AtomicInteger;

/** Metrics in Prometheus' text format 0.0.4. */
final class Metrics {
    static final String CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8";
    private static final double[] BOUNDS = {0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0};
    private static final List<String> METHODS = Arrays.asList("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS");

    final AtomicInteger inProgress = new AtomicInteger();
    private final double started = System.currentTimeMillis() / 1000.0;
    private final Map<String, Of> paths = new TreeMap<>();

    /** Those of a path. */
    private static final class Of {
        final Map<String, long[]> counts = new TreeMap<>();
        final long[] buckets = new long[BOUNDS.length + 1];
        double sum;
    }

    Metrics(List<String> known) {
        known.forEach(path -> paths.put(path, new Of()));
        paths.put("other", new Of());
    }

    void observe(String method, String path, int status, double seconds) {
        Of of = paths.getOrDefault(path, paths.get("other"));
        String key = (METHODS.contains(method) ? method : "other") + " " + status;
        int bucket = 0;
        while (bucket < BOUNDS.length && seconds > BOUNDS[bucket]) {
            bucket++;
        }
        synchronized (of) {
            of.counts.computeIfAbsent(key, none -> new long[1])[0]++;
            of.buckets[bucket]++;
            of.sum += seconds;
        }
    }

    String text(int waiting) {
        StringBuilder text = new StringBuilder();
        told(text, "ekiben_requests_total", "counter", "Requests answered.");
        TreeMap<String, String> counters = new TreeMap<>();
        StringBuilder times = new StringBuilder();
        paths.forEach((path, of) -> {
            synchronized (of) {
                of.counts.forEach((key, count) -> {
                    String[] words = key.split(" ");
                    String labels = "{method=\"" + words[0] + "\",path=\"" + path + "\",status=\"" + words[1] + "\"} ";
                    counters.put(words[0] + " " + path + " " + words[1], "ekiben_requests_total" + labels + count[0] + "\n");
                });
                if (!of.counts.isEmpty()) {
                    histogram(times, path, of);
                }
            }
        });
        counters.values().forEach(text::append);
        told(text, "ekiben_request_duration_seconds", "histogram", "Time from request to answer.");
        text.append(times);
        told(text, "ekiben_requests_in_progress", "gauge", "Requests being answered.");
        text.append("ekiben_requests_in_progress ").append(inProgress.get()).append('\n');
        told(text, "ekiben_requests_waiting", "gauge", "Requests that wait until the model has time for them.");
        text.append("ekiben_requests_waiting ").append(waiting).append('\n');
        told(text, "process_start_time_seconds", "gauge", "Start of the service, in seconds since 1970.");
        return text.append("process_start_time_seconds ").append(started).append('\n').toString();
    }

    private static void told(StringBuilder text, String name, String type, String help) {
        text.append("# HELP ").append(name).append(' ').append(help).append('\n');
        text.append("# TYPE ").append(name).append(' ').append(type).append('\n');
    }

    private static void histogram(StringBuilder text, String path, Of of) {
        long total = 0;
        String name = "ekiben_request_duration_seconds";
        for (int at = 0; at <= BOUNDS.length; at++) {
            total += of.buckets[at];
            String bound = at < BOUNDS.length ? Double.toString(BOUNDS[at]) : "+Inf";
            text.append(name).append("_bucket{path=\"").append(path).append("\",le=\"").append(bound).append("\"} ");
            text.append(total).append('\n');
        }
        text.append(name).append("_sum{path=\"").append(path).append("\"} ").append(of.sum).append('\n');
        text.append(name).append("_count{path=\"").append(path).append("\"} ").append(total).append('\n');
    }
}
