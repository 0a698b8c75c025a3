import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.channels.CancelledKeyException;
import java.nio.channels.SelectionKey;
import java.nio.channels.Selector;
import java.nio.channels.ServerSocketChannel;
import java.nio.channels.SocketChannel;
import java.util.HashSet;
import java.util.Iterator;
import java.util.Queue;
import java.util.Set;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.atomic.AtomicInteger;

/** A thread that answers some of the connections; the first of them takes all, and hands them round. */
final class Loop implements Runnable {
    /** Connections of all loops: each may hold a head and the body of a small request. */
    private static final long MOST = Math.min(10_000, Runtime.getRuntime().maxMemory() >> 18);
    /** Milliseconds between two looks at those that take their time, where some have little of it, and where there are none. */
    private static final int SOON = 20;
    private static final int LOOK = 250;
    /** Nanoseconds after which one that retires takes no connection any more. */
    private static final long SETTLED = 300_000_000;
    private static final AtomicInteger COUNT = new AtomicInteger();

    final Service service;
    /** What is read at once; of this thread. */
    final ByteBuffer buffer = ByteBuffer.allocateDirect(1 << 16);
    private final Loop[] all;
    private final Selector selector;
    private final Set<Connection> connections = new HashSet<>();
    private final Queue<Runnable> tasks = new ConcurrentLinkedQueue<>();
    private volatile Thread thread;
    private ServerSocketChannel listener;
    private SelectionKey listening;
    private int next;
    private long looked;
    private long retired;
    private volatile boolean isEnding;

    Loop(Service service, Loop[] all) throws IOException {
        this.service = service;
        this.all = all;
        selector = Selector.open();
    }

    void listen(ServerSocketChannel listener) throws IOException {
        listener.configureBlocking(false);
        this.listener = listener;
        listening = listener.register(selector, SelectionKey.OP_ACCEPT);
    }

    /** Runs in this loop's thread, now where that is the one that asks. */
    void execute(Runnable task) {
        if (Thread.currentThread() == thread) {
            task.run();
        } else {
            tasks.add(task);
            selector.wakeup();
        }
    }

    void wake() {
        selector.wakeup();
    }

    /** Takes nothing more. */
    void end() {
        isEnding = true;
        wake();
    }

    void closed(Connection connection) {
        if (connections.remove(connection)) {
            COUNT.decrementAndGet();
        }
    }

    SelectionKey register(SocketChannel channel, Connection connection) throws IOException {
        return channel.register(selector, SelectionKey.OP_READ, connection);
    }

    @Override
    public void run() {
        thread = Thread.currentThread();
        while (!isEnding) {
            try {
                selector.select(connections.isEmpty() ? LOOK : service.hasDeadlines ? SOON : LOOK);
                for (Runnable task = tasks.poll(); task != null; task = tasks.poll()) {
                    task.run();
                }
                Iterator<SelectionKey> keys = selector.selectedKeys().iterator();
                while (keys.hasNext()) {
                    SelectionKey key = keys.next();
                    keys.remove();
                    if (key == listening) {
                        accept();
                    } else {
                        happened((Connection) key.attachment(), key);
                    }
                }
                look();
            } catch (IOException | RuntimeException error) {
                service.log.line(Log.ERROR, "connections are not answered", "", "", error);
            }
        }
    }

    private void happened(Connection connection, SelectionKey key) {
        try {
            if (key.isWritable()) {
                connection.writable();
            }
            if (key.isValid() && key.isReadable()) {
                connection.readable();
            }
        } catch (CancelledKeyException | IOException gone) {
            connection.close();
        } catch (RuntimeException | StackOverflowError error) {
            service.log.line(Log.ERROR, "the request failed", "", "", error);
            connection.close();
        }
    }

    private void accept() throws IOException {
        while (COUNT.get() < MOST) {
            SocketChannel channel;
            try {
                channel = listener.accept();
            } catch (IOException error) {
                // No descriptor is left, as it may be: those who wait are looked at again.
                listening.interestOps(0);
                service.log.line(Log.WARNING, "a connection cannot be taken: " + error.getMessage());
                return;
            }
            if (channel == null) {
                return;
            }
            COUNT.incrementAndGet();
            Loop loop = all[next++ % all.length];
            loop.execute(() -> loop.take(channel));
        }
        listening.interestOps(0);
    }

    private void take(SocketChannel channel) {
        Connection connection = new Connection(this, channel);
        connections.add(connection);
        try {
            connection.open();
        } catch (IOException gone) {
            connection.close();
        }
    }

    /** Those who take their time, and whether there are others who answer. */
    private void look() {
        long now = System.nanoTime();
        if (now - looked < SOON * 1_000_000L) {
            return;
        }
        looked = now;
        for (Connection connection : connections.toArray(new Connection[0])) {
            connection.look(now);
        }
        if (listening == null || !listening.isValid()) {
            if (retired != 0 && now - retired > SETTLED && COUNT.get() == 0) {
                Runtime.getRuntime().halt(0);
            }
            return;
        }
        if (service.shared.isRetiring()) {
            // The listener itself goes on: others have it as well.
            listening.cancel();
            retired = now;
        } else if (listening.interestOps() == 0 && COUNT.get() < MOST) {
            listening.interestOps(SelectionKey.OP_ACCEPT);
        }
    }
}
