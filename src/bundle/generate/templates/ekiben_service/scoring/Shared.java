import java.io.IOException;
import java.io.RandomAccessFile;
import java.nio.ByteOrder;
import java.nio.DoubleBuffer;
import java.nio.channels.FileChannel;

/**
 * What this process and the one that keeps it tell each other, in memory that both have: `state.py` says what stands where. Where
 * nobody keeps it the memory is its own.
 */
final class Shared {
    private static final int DRAINING = 0;
    private static final int RETIRING = 2;
    private static final int HELD = 3;
    /** The first numbers of the first worker: a record each of eight numbers, the first of which is it. */
    private static final int READY = 8;
    private static final int NUMBERS = 16;

    private final DoubleBuffer numbers;

    Shared(String file) throws IOException {
        if (file.isEmpty()) {
            numbers = DoubleBuffer.allocate(NUMBERS);
            return;
        }
        try (RandomAccessFile memory = new RandomAccessFile(file, "rw"); FileChannel channel = memory.getChannel()) {
            numbers = channel.map(FileChannel.MapMode.READ_WRITE, 0, NUMBERS * 8L).order(ByteOrder.nativeOrder()).asDoubleBuffer();
        }
    }

    void ready() {
        numbers.put(READY, 1);
    }

    void drain() {
        numbers.put(DRAINING, 1);
    }

    boolean isDraining() {
        return numbers.get(DRAINING) != 0;
    }

    /** Whether another process takes what comes. */
    boolean isRetiring() {
        return numbers.get(RETIRING) != 0;
    }

    /** The status as others are told. */
    String status() {
        if (isDraining()) {
            return "ending";
        }
        return numbers.get(READY) != 0 && numbers.get(HELD) == 0 ? "ok" : "starting";
    }
}
