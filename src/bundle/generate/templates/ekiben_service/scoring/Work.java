import java.util.concurrent.atomic.AtomicInteger;
import java.util.function.Consumer;

/** Rows that are to be answered: they wait, are under way, or nobody wants the answer any more. */
final class Work {
    private static final int WAITING = 0;
    private static final int BEGUN = 1;
    private static final int GONE = 2;

    final Rows rows;
    final String requestId;
    /** Who gets the answer, in whatever thread. */
    final Consumer<Response> done;
    private final AtomicInteger state = new AtomicInteger(WAITING);
    private volatile boolean isDropped;

    Work(Rows rows, String requestId, Consumer<Response> done) {
        this.rows = rows;
        this.requestId = requestId;
        this.done = done;
    }

    /** False where nobody waits for it. */
    boolean begin() {
        return state.compareAndSet(WAITING, BEGUN);
    }

    boolean hasBegun() {
        return state.get() == BEGUN;
    }

    boolean isGone() {
        return state.get() == GONE;
    }

    /** Whether the answer is for nobody. */
    boolean isDropped() {
        return isDropped;
    }

    /** What has not begun does not begin, and what has ends early. */
    void leave() {
        isDropped = true;
        state.compareAndSet(WAITING, GONE);
    }
}
