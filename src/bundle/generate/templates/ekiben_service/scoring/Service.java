import hex.genmodel.easy.exception.PredictException;
import java.io.IOException;
import java.math.BigDecimal;
import java.math.MathContext;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.Paths;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Set;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;

/** Finds who answers a request, answers with the model, and tells of it. */
final class Service {
    /** Asked every few seconds, and answered to the end. */
    private static final Set<String> QUIET = Set.of("/healthz", "/livez", "/readyz", "/metrics");
    /** Where answers are asked for that nobody waited for. */
    private static final String LATER = "/requests/";
    private static final String PREDICT = "/predict";
    /** Bytes of a body that is read by who takes it, and nanoseconds of work that he does himself: another would only be waited for. */
    private static final int SMALL = 1 << 14;
    private static final double SHORT = 1_000_000;
    /** Characters of an answer. */
    private static final long LONGEST = Math.min(1 << 28, Runtime.getRuntime().maxMemory() / 16);

    private static final byte[] EMPTY = {'{', '}'};

    final Log log;
    final Shared shared;
    final long largest;
    final long grace;
    final boolean hasDeadlines;
    private final Model model;
    private final Columns columns;
    private final Load load;
    private final Later later;
    private final Metrics metrics;
    private final ExecutorService pool = Executors.newFixedThreadPool(Runtime.getRuntime().availableProcessors());
    private final String root;
    private final long timeout;
    private final String nan;
    private final List<Route> routes = new ArrayList<>();
    /** Nanoseconds that a row takes. */
    private volatile double usual = 10_000;
    private volatile boolean hasWarned;

    /** A path, whole or with a name below it, and the file that answers, where one does. */
    private static final class Route {
        final String path;
        final List<String> methods;
        final Path file;
        final String kind;

        Route(String path, Path file, String kind, String... methods) {
            this.path = path;
            this.file = file;
            this.kind = kind;
            this.methods = Arrays.asList(methods);
        }

        boolean is(String path) {
            return this.path.equals(LATER) ? path.startsWith(LATER) && isName(path.substring(LATER.length())) : this.path.equals(path);
        }

        private static boolean isName(String text) {
            return !text.isEmpty() && text.indexOf('/') < 0;
        }
    }

    Service(Settings settings, Model model, Log log, Shared shared) {
        this.model = model;
        this.log = log;
        this.shared = shared;
        columns = new Columns(model.columns, model.words);
        root = settings.text("root", "");
        largest = settings.number("largest", 100_000_000);
        grace = settings.time("grace", 8);
        timeout = settings.time("timeout", 0);
        hasDeadlines = timeout > 0;
        nan = settings.text("nan", "null");
        load = new Load((int) settings.number("concurrency", 1000), (int) settings.number("queue", 1000));
        later = new Later((int) settings.number("most", 100), settings.time("keep", 600), root + LATER);
        for (String path : new String[] {"/healthz", "/livez", "/readyz", "/metrics"}) {
            routes.add(new Route(path, null, "", "GET", "HEAD"));
        }
        routes.add(new Route("/openapi.json", Paths.get(settings.text("openapi", "")), "application/json", "GET", "HEAD"));
        if (!settings.text("swagger", "").isEmpty()) {
            Path files = Paths.get(settings.text("swagger", ""));
            routes.add(new Route("/", null, "", "GET", "HEAD"));
            routes.add(new Route("/docs", Paths.get(settings.text("docs", "")), "text/html; charset=utf-8", "GET", "HEAD"));
            String script = "swagger-ui-bundle.js";
            routes.add(new Route("/docs/" + script, files.resolve(script), "text/javascript; charset=utf-8", "GET", "HEAD"));
            String style = "swagger-ui.css";
            routes.add(new Route("/docs/" + style, files.resolve(style), "text/css; charset=utf-8", "GET", "HEAD"));
        }
        routes.add(new Route(PREDICT, null, "", "POST"));
        routes.add(new Route(LATER, null, "", "GET", "HEAD", "DELETE"));
        List<String> known = new ArrayList<>();
        routes.forEach(route -> known.add(route.path.equals(LATER) ? LATER + "{name}" : route.path));
        metrics = new Metrics(known);
    }

    void drain() {
        shared.drain();
    }

    /** Whether nothing more is answered on a connection. */
    boolean isLeaving() {
        return shared.isDraining() || shared.isRetiring();
    }

    boolean isBusy() {
        return metrics.inProgress.get() > 0;
    }

    /** What is answered without the body; none where the model answers with it. */
    Response begin(Exchange exchange) {
        metrics.inProgress.incrementAndGet();
        Head head = exchange.head;
        String path = head.path;
        if (!root.isEmpty() && (path.equals(root) || path.startsWith(root + "/"))) {
            path = path.length() == root.length() ? "/" : path.substring(root.length());
        } else if (!root.isEmpty() && !QUIET.contains(path)) {
            // No path of ours has no slash.
            path = "";
        }
        exchange.path = path;
        if (shared.isDraining() && !QUIET.contains(path) && !path.startsWith(LATER)) {
            return Response.failed(503, "the service ends", exchange.id, "retry-after", "1");
        }
        if (!head.method.equals("POST") || !path.equals(PREDICT)) {
            return other(head, path);
        }
        try {
            // Before a body is read for nothing.
            load.check();
        } catch (Busy busy) {
            return Response.busy(busy, exchange.id);
        }
        exchange.deadline = hasDeadlines ? exchange.started + timeout : 0;
        return null;
    }

    private Response other(Head head, String path) {
        for (Route route : routes) {
            if (route.is(path)) {
                if (!route.methods.contains(head.method)) {
                    return Response.detail(405, "Method Not Allowed", "allow", String.join(", ", route.methods));
                }
                return of(route, head, path);
            }
        }
        // Outside of the root, they would lead there.
        if (root.isEmpty() && path.length() > 1) {
            String toggled = path.endsWith("/") ? path.substring(0, path.length() - 1) : path + "/";
            if (routes.stream().anyMatch(route -> route.is(toggled))) {
                return Response.of(307, "", Response.NONE, "location", toggled + head.query);
            }
        }
        return Response.detail(404, "Not Found");
    }

    private Response of(Route route, Head head, String path) {
        switch (route.path) {
            case "/healthz":
            case "/livez":
                return Response.json(200, "{\"status\":\"ok\"}");
            case "/readyz":
                String status = shared.status();
                return Response.json(status.equals("ok") ? 200 : 503, new Json().raw("{\"status\":").text(status).raw("}").toString());
            case "/metrics":
                byte[] text = metrics.text(load.waiting()).getBytes(StandardCharsets.UTF_8);
                return Response.of(200, Metrics.CONTENT_TYPE, text);
            case "/":
                return Response.of(307, "", Response.NONE, "location", root + "/docs");
            case LATER:
                return later.ask(head.method, path.substring(LATER.length()));
            default:
                try {
                    return Response.of(200, route.kind, Files.readAllBytes(route.file));
                } catch (IOException error) {
                    log.line(Log.ERROR, "the request failed", "", "", error);
                    return Response.detail(500, "internal error");
                }
        }
    }

    /** Answers a request whose body is there. */
    void answer(Exchange exchange) {
        if (exchange.body.size <= SMALL) {
            read(exchange, true);
        } else {
            pool.execute(() -> read(exchange, false));
        }
    }

    private void read(Exchange exchange, boolean isLoop) {
        Head head = exchange.head;
        Body body = exchange.body;
        try {
            Rows rows = body.size == 0 ? Reader.read(EMPTY, EMPTY.length, columns) : Reader.read(body.bytes, body.size, columns);
            if (Later.isWanted(head)) {
                exchange.answer(later.begin(rows, exchange.id, work -> begin(work, true)));
                return;
            }
            exchange.work = new Work(rows, exchange.id, exchange::answer);
            begin(exchange.work, isLoop && rows.count() * usual > SHORT);
        } catch (Refusal refusal) {
            exchange.answer(Response.refused(kind(head, refusal)));
        } catch (Busy busy) {
            exchange.answer(Response.busy(busy, exchange.id));
        } catch (RuntimeException error) {
            exchange.answer(failed(exchange.id, error));
        } finally {
            body.free();
        }
    }

    /** What was no JSON may not have been meant as such. */
    private static Refusal kind(Head head, Refusal refusal) {
        String kind = head.get("content-type").split(";", 2)[0].trim().toLowerCase();
        String coding = head.has("content-encoding") ? head.get("content-encoding") : "identity";
        if (!coding.equals("identity")) {
            return Refusal.of(415, "media_type", "a body with the coding " + coding + " is not taken: send it as it is");
        }
        if (kind.equals("multipart/form-data")) {
            return Refusal.of(415, "media_type", "a body of the kind " + kind + " is not taken: send application/json");
        }
        return refusal;
    }

    /** In this thread or, where it takes too long for that, in another one; when there is a place. */
    private void begin(Work work, boolean isLong) throws Busy {
        if (!load.enter(work)) {
            return;
        }
        if (isLong) {
            pool.execute(() -> work(work));
        } else {
            work(work);
        }
    }

    private void work(Work work) {
        long begun = System.nanoTime();
        Response response = scored(work);
        long took = System.nanoTime() - begun;
        if (work.rows.count() > 0) {
            usual += (took / (double) work.rows.count() - usual) / 16;
        }
        for (Work next : load.leave(took / 1e9)) {
            pool.execute(() -> work(next));
        }
        work.done.accept(response);
    }

    private Response scored(Work work) {
        Rows rows = work.rows;
        Json json = new Json(nan.equals("null") ? Json.Odd.NULL : nan.equals("text") ? Json.Odd.TEXT : Json.Odd.PLAIN);
        try {
            json.raw(rows.isMany ? "[" : "");
            for (int at = 0; at < rows.count() && !work.isDropped(); at++) {
                json.raw(at == 0 ? "" : ",");
                model.predict(rows.row(at), json);
                if (json.length() > LONGEST) {
                    return refused(work, "these are too many rows for one request", null);
                }
            }
            json.raw(rows.isMany ? "]" : "");
        } catch (PredictException error) {
            return refused(work, String.valueOf(error.getMessage()), error);
        } catch (Exception | StackOverflowError error) {
            return failed(work.requestId, error);
        }
        if (json.hasOdd && nan.equals("error")) {
            String words = "the answer holds NaN or infinity, which `service.nan` of the manifest forbids";
            return failed(work.requestId, new ArithmeticException(words));
        }
        if (json.hasOdd && nan.equals("null") && !hasWarned) {
            hasWarned = true;
            log.line(Log.WARNING, "predict answers NaN or infinity: JSON has neither, so they become null");
        }
        return Response.json(200, json.toString());
    }

    /** The model's way to say that it cannot use this input. */
    private Response refused(Work work, String words, Exception error) {
        log.line(Log.WARNING, "the model refused its input", "", work.requestId, error);
        return Response.refused(Refusal.of(422, "value_error", words));
    }

    private Response failed(String requestId, Throwable error) {
        log.line(Log.ERROR, "the request failed", "", requestId, error);
        return Response.failed(500, "internal error", requestId);
    }

    /** The time of a request is up. */
    Response late(Exchange exchange) {
        Work work = exchange.work;
        boolean hasBegun = work != null && work.hasBegun();
        left(exchange, false);
        if (!hasBegun) {
            return Response.busy(load.late(), exchange.id);
        }
        String seconds = new BigDecimal(timeout / 1e9, new MathContext(6)).stripTrailingZeros().toPlainString();
        return Response.failed(504, "there was no answer within " + seconds + " s", exchange.id);
    }

    /** Nobody waits for the answer any more. */
    void left(Exchange exchange, boolean isReading) {
        if (exchange.work != null) {
            exchange.work.leave();
        }
        if (isReading) {
            exchange.body.free();
        }
    }

    void answered(Exchange exchange, int status) {
        // Who knows the rest of the path knows the answer.
        String path = exchange.path.startsWith(LATER) ? LATER + "{name}" : exchange.path;
        double seconds = (System.nanoTime() - exchange.started) / 1e9;
        metrics.observe(exchange.head.method, path, status, seconds);
        int level = QUIET.contains(path) && status < 400 ? Log.DEBUG : Log.INFO;
        if (log.has(level)) {
            Json fields = new Json().raw(",\"method\":").text(exchange.head.method).raw(",\"path\":").text(path);
            fields.raw(",\"status\":").raw(status).raw(",\"seconds\":").number(Math.round(seconds * 1e6) / 1e6);
            log.line(level, "answered", fields.toString(), exchange.id, null);
        }
    }

    void finished() {
        metrics.inProgress.decrementAndGet();
    }
}
