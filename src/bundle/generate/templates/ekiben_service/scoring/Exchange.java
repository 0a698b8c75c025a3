import java.util.concurrent.ThreadLocalRandom;

/** A request and its answer. But for its answer, which may come from elsewhere, it belongs to the thread of its loop. */
final class Exchange {
    final Connection connection;
    final Head head;
    final String id;
    final long started = System.nanoTime();
    /** As the service sees it. */
    String path;
    /** When the time is up; 0 where it never is. */
    long deadline;
    Body body;
    /** What answers it, where that is under way. */
    volatile Work work;
    boolean isAnswered;

    Exchange(Connection connection, Head head) {
        this.connection = connection;
        this.head = head;
        String given = head.get("x-request-id");
        id = isSane(given) ? given : random();
    }

    /** Answers it, in whatever thread. */
    void answer(Response response) {
        connection.loop.execute(() -> connection.answer(this, response));
    }

    private static boolean isSane(String id) {
        if (id.isEmpty() || id.length() > 128) {
            return false;
        }
        for (int at = 0; at < id.length(); at++) {
            char one = id.charAt(at);
            boolean isLetter = one >= 'a' && one <= 'z' || one >= 'A' && one <= 'Z' || one >= '0' && one <= '9';
            if (!isLetter && one != '.' && one != '_' && one != '-') {
                return false;
            }
        }
        return true;
    }

    private static String random() {
        ThreadLocalRandom random = ThreadLocalRandom.current();
        char[] id = new char[32];
        for (int half = 0; half < 2; half++) {
            long bits = random.nextLong();
            for (int at = 0; at < 16; at++, bits >>>= 4) {
                id[half * 16 + at] = "0123456789abcdef".charAt((int) bits & 15);
            }
        }
        return new String(id);
    }
}
