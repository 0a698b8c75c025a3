import java.security.SecureRandom;
import java.util.Base64;
import java.util.LinkedHashMap;
import java.util.Map;

/**
 * Requests whose callers do not wait (RFC 7240, `Prefer: respond-async`): they get an address, and ask there later. They are held in
 * memory, so many for so long. Who knows the address knows the answer: it cannot be guessed.
 */
final class Later {
    /** Seconds after which to ask again. */
    private static final String PAUSE = "1";

    private final int most;
    private final long keep;
    private final String path;
    private final SecureRandom random = new SecureRandom();
    private final Map<String, Kept> known = new LinkedHashMap<>();

    /** An answer, or the work on it. */
    private static final class Kept {
        Work work;
        Response response;
        long end;
    }

    Later(int most, long keep, String path) {
        this.most = most;
        this.keep = keep;
        this.path = path;
    }

    static boolean isWanted(Head head) {
        for (String value : head.all("prefer")) {
            for (String part : value.split(",")) {
                if (part.split(";", 2)[0].trim().equalsIgnoreCase("respond-async")) {
                    return true;
                }
            }
        }
        return false;
    }

    /** What begins work, where there is a place for it. */
    interface Begin {
        void work(Work work) throws Busy;
    }

    /** What is answered at once. */
    Response begin(Rows rows, String requestId, Begin begin) throws Busy {
        byte[] bytes = new byte[32];
        random.nextBytes(bytes);
        String name = "0-" + Base64.getUrlEncoder().withoutPadding().encodeToString(bytes);
        Kept kept = new Kept();
        kept.work = new Work(rows, requestId, response -> finish(kept, response));
        synchronized (known) {
            clear();
            if (known.size() >= most) {
                throw new Busy(keep / 1e9);
            }
            begin.work(kept.work);
            known.put(name, kept);
        }
        String[] headers = {"location", path + name, "preference-applied", "respond-async", "retry-after", PAUSE};
        return Response.json(202, "{\"status\":\"running\"}", headers);
    }

    private void finish(Kept kept, Response response) {
        synchronized (known) {
            kept.response = response;
            kept.end = System.nanoTime() + keep;
        }
    }

    /** The answer to a GET or a DELETE of an address. */
    Response ask(String method, String name) {
        synchronized (known) {
            clear();
            Kept kept = known.get(name);
            if (kept == null) {
                return Response.detail(404, "no such request is known, or not any more");
            }
            if (method.equals("DELETE")) {
                known.remove(name);
                kept.work.leave();
                return Response.of(204, "", Response.NONE);
            }
            return kept.response != null ? kept.response : Response.json(202, "{\"status\":\"running\"}", "retry-after", PAUSE);
        }
    }

    private void clear() {
        long now = System.nanoTime();
        known.values().removeIf(kept -> kept.response != null && now - kept.end > 0);
    }
}
