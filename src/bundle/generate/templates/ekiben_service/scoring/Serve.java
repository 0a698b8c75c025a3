import java.io.IOException;
import java.net.InetSocketAddress;
import java.net.StandardSocketOptions;
import java.nio.channels.Channel;
import java.nio.channels.ServerSocketChannel;

/**
 * Answers HTTP with a model of h2o's, until SIGTERM: what is in hand then is answered, up to a time of grace, and what comes newly
 * is refused.
 *
 * Who starts it gives a listener as standard input, which stays his when this process ends, or the number of a port.
 */
public final class Serve {
    /** Connections that wait to be taken. */
    private static final int BACKLOG = 2048;
    /** Nanoseconds without a request after which nobody is on his way any more. */
    private static final long SETTLED = 100_000_000;

    private Serve() {
    }

    public static void main(ClassLoader pojo, String[] args) throws Exception {
        // What a library says is for the log.
        System.setOut(System.err);
        Settings settings = new Settings(args);
        Log log = new Log(System.getenv("LOG_LEVEL"));
        Shared shared = new Shared(settings.text("state", ""));
        Service service = new Service(settings, new Model(pojo, args[1]), log, shared);
        ServerSocketChannel listener;
        try {
            listener = listener(settings.text("port", ""));
        } catch (IOException error) {
            log.line(Log.ERROR, "port " + settings.text("port", "") + " cannot be listened on: " + error.getMessage());
            Runtime.getRuntime().halt(1);
            return;
        }
        Loop[] loops = new Loop[Runtime.getRuntime().availableProcessors()];
        for (int at = 0; at < loops.length; at++) {
            loops[at] = new Loop(service, loops);
        }
        Runtime.getRuntime().addShutdownHook(new Thread(() -> end(service, loops)));
        shared.ready();
        loops[0].listen(listener);
        for (Loop loop : loops) {
            new Thread(loop, "loop").start();
        }
        String name = settings.text("name", "") + " " + settings.text("version", "");
        log.line(Log.INFO, name + " listens on port " + ((InetSocketAddress) listener.getLocalAddress()).getPort());
    }

    private static ServerSocketChannel listener(String port) throws IOException {
        if (port.isEmpty()) {
            Channel given = System.inheritedChannel();
            if (!(given instanceof ServerSocketChannel)) {
                throw new IOException("standard input is no listener");
            }
            return (ServerSocketChannel) given;
        }
        ServerSocketChannel listener = ServerSocketChannel.open();
        listener.setOption(StandardSocketOptions.SO_REUSEADDR, true);
        listener.bind(new InetSocketAddress(Integer.parseInt(port)), BACKLOG);
        return listener;
    }

    /** What is done after SIGTERM, before the process ends. */
    private static void end(Service service, Loop[] loops) {
        long begun = System.nanoTime();
        service.drain();
        for (Loop loop : loops) {
            loop.wake();
        }
        long busy = begun;
        while (System.nanoTime() - begun < service.grace) {
            try {
                Thread.sleep(20);
            } catch (InterruptedException error) {
                break;
            }
            if (service.isBusy()) {
                busy = System.nanoTime();
            } else if (System.nanoTime() - busy > SETTLED) {
                break;
            }
        }
        for (Loop loop : loops) {
            loop.end();
        }
        // Not with the status of a signal: this is how it is to end.
        Runtime.getRuntime().halt(0);
    }
}
