import java.util.Arrays;
import java.util.concurrent.atomic.AtomicLong;

/** The body of a request, as it comes (RFC 9112, sections 6 and 7), within the limits. */
final class Body {
    /** The line before a chunk, and what follows the last one. */
    private static final int LONGEST_LINE = 4096;
    private static final int LONGEST_TRAILER = 1 << 16;
    /** Bytes of one for which there is always room. */
    private static final int SMALL = 1 << 16;
    /** Bytes of all bodies that are held; what is read out of them takes a few times as much. */
    private static final long ROOM = Runtime.getRuntime().maxMemory() / 8;
    private static final AtomicLong HELD = new AtomicLong();

    private static final int SIZE = 0;
    private static final int EXTENSION = 1;
    private static final int SIZE_END = 2;
    private static final int DATA = 3;
    private static final int DATA_CR = 4;
    private static final int DATA_LF = 5;
    private static final int TRAILER = 6;
    private static final int TRAILER_LINE = 7;
    private static final int TRAILER_LF = 8;
    private static final int LAST_LF = 9;

    byte[] bytes = Response.NONE;
    int size;
    boolean isDone;
    private final int limit;
    private final boolean isChunked;
    private long left;
    private int state = SIZE;
    private int line;
    private boolean hasDigit;
    private long held;

    Body(Head head, long limit) {
        this.limit = (int) Math.min(limit, Math.min(ROOM, Integer.MAX_VALUE - 64));
        isChunked = head.isChunked;
        left = head.length;
        isDone = !head.hasBody();
    }

    /** Throws where it is larger than it may be, as far as that is known. */
    void check() throws Refusal {
        if (!isChunked && left > limit) {
            throw tooLarge();
        }
    }

    private Refusal tooLarge() {
        return Refusal.of(413, "too_large", "the body has more than " + limit + " bytes");
    }

    /** Takes what it needs of the bytes between two places: where it ends, or all. */
    int take(byte[] in, int begin, int end) throws Head.Bad, Refusal, Busy {
        if (!isChunked) {
            int count = (int) Math.min(left, end - begin);
            put(in, begin, count);
            left -= count;
            isDone = left == 0;
            return begin + count;
        }
        int at = begin;
        while (at < end && !isDone) {
            if (state == DATA) {
                int count = (int) Math.min(left, end - at);
                put(in, at, count);
                at += count;
                left -= count;
                state = left == 0 ? DATA_CR : DATA;
            } else {
                step(in[at++]);
            }
        }
        return at;
    }

    private void step(byte one) throws Head.Bad {
        switch (state) {
            case SIZE:
                int digit = one < 0 ? -1 : Character.digit(one, 16);
                if (digit >= 0 && left < 1L << 48) {
                    left = left << 4 | digit;
                    hasDigit = true;
                    count(LONGEST_LINE);
                    return;
                }
                wanted(hasDigit && (one == '\r' || one == ';'));
                state = one == '\r' ? SIZE_END : EXTENSION;
                return;
            case EXTENSION:
                count(LONGEST_LINE);
                wanted(one >= ' ' || one == '\t' || one == '\r' || one < 0);
                state = one == '\r' ? SIZE_END : EXTENSION;
                return;
            case SIZE_END:
                wanted(one == '\n');
                line = 0;
                hasDigit = false;
                state = left == 0 ? TRAILER : DATA;
                return;
            case DATA_CR:
                wanted(one == '\r');
                state = DATA_LF;
                return;
            case DATA_LF:
                wanted(one == '\n');
                state = SIZE;
                return;
            case TRAILER:
                count(LONGEST_TRAILER);
                wanted(one > ' ' || one == '\r');
                state = one == '\r' ? LAST_LF : TRAILER_LINE;
                return;
            case TRAILER_LINE:
                count(LONGEST_TRAILER);
                wanted(one >= ' ' || one == '\t' || one == '\r' || one < 0);
                state = one == '\r' ? TRAILER_LF : TRAILER_LINE;
                return;
            case TRAILER_LF:
                wanted(one == '\n');
                state = TRAILER;
                return;
            default:
                wanted(one == '\n');
                isDone = true;
        }
    }

    private void count(int most) throws Head.Bad {
        wanted(++line <= most);
    }

    private static void wanted(boolean is) throws Head.Bad {
        if (!is) {
            throw new Head.Bad();
        }
    }

    private void put(byte[] in, int begin, int count) throws Refusal, Busy {
        if (count > limit - size) {
            throw tooLarge();
        }
        if (size + count > bytes.length) {
            // No more than comes: what is announced may never come.
            long wanted = Math.max(size + count, Math.min(2L * bytes.length, size + (isChunked ? (long) limit : left)));
            int capacity = (int) Math.min(Math.max(wanted, 256), limit);
            if (capacity > SMALL) {
                long more = capacity - held;
                if (HELD.addAndGet(more) > ROOM) {
                    HELD.addAndGet(-more);
                    throw new Busy(1);
                }
                held += more;
            }
            bytes = Arrays.copyOf(bytes, capacity);
        }
        System.arraycopy(in, begin, bytes, size, count);
        size += count;
    }

    /** It has been read, or nobody reads it any more. */
    void free() {
        HELD.addAndGet(-held);
        held = 0;
        bytes = Response.NONE;
    }
}
