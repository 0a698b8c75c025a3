import java.io.FileDescriptor;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.PrintWriter;
import java.io.StringWriter;
import java.nio.charset.StandardCharsets;
import java.time.Instant;
import java.time.ZoneOffset;
import java.time.format.DateTimeFormatter;
import java.util.Arrays;
import java.util.List;

/** Logs: one JSON object a line, on standard error, with the id of the request that it belongs to. */
final class Log {
    static final int DEBUG = 0;
    static final int INFO = 1;
    static final int WARNING = 2;
    static final int ERROR = 3;
    private static final List<String> LEVELS = Arrays.asList("debug", "info", "warning", "error", "critical");
    private static final DateTimeFormatter TIME = DateTimeFormatter.ofPattern("uuuu-MM-dd'T'HH:mm:ss.SSS'Z'").withZone(ZoneOffset.UTC);

    private final FileOutputStream out = new FileOutputStream(FileDescriptor.err);
    private final int least;

    /** With what is as important as a level, or more. */
    Log(String level) {
        int known = level == null ? -1 : LEVELS.indexOf(level.toLowerCase());
        least = known < 0 ? INFO : known;
    }

    boolean has(int level) {
        return level >= least;
    }

    void line(int level, String message) {
        line(level, message, "", "", null);
    }

    /** `fields` is a part of a JSON object, with a comma before each member. */
    void line(int level, String message, String fields, String requestId, Throwable error) {
        if (!has(level)) {
            return;
        }
        Json json = new Json().raw("{\"time\":\"").raw(TIME.format(Instant.now())).raw("\",\"level\":\"").raw(LEVELS.get(level));
        json.raw("\",\"message\":").text(message).raw(fields);
        if (!requestId.isEmpty()) {
            json.raw(",\"request_id\":").text(requestId);
        }
        if (error != null) {
            StringWriter trace = new StringWriter();
            error.printStackTrace(new PrintWriter(trace));
            json.raw(",\"exception\":").text(trace.toString().trim());
        }
        byte[] bytes = json.raw("}\n").toString().getBytes(StandardCharsets.UTF_8);
        synchronized (out) {
            try {
                out.write(bytes);
            } catch (IOException nobody) {
                // Who listened has gone.
            }
        }
    }
}
