import java.io.IOException;
import java.net.StandardSocketOptions;
import java.nio.ByteBuffer;
import java.nio.channels.SelectionKey;
import java.nio.channels.SocketChannel;
import java.nio.charset.StandardCharsets;
import java.time.Instant;
import java.time.ZoneOffset;
import java.time.ZonedDateTime;
import java.time.format.DateTimeFormatter;

/** A connection, whose requests are answered one after the other. It belongs to the thread of its loop. */
final class Connection {
    private static final int LONGEST_HEAD = 1 << 16;
    /** Bytes that are read ahead while a request is answered, and of a body that nobody wants which are passed over. */
    private static final int AHEAD = 8192;
    private static final int SKIPPED = 1 << 16;
    private static final long SECOND = 1_000_000_000;
    /** How long a head may take; how long nothing may come of a body, be taken of an answer, or be asked. */
    private static final long HEAD_TIME = 30 * SECOND;
    private static final long STILL = 60 * SECOND;
    /** The same of one that is to end. */
    private static final long ENDING = 5 * SECOND;
    private static final long LINGERING = 2 * SECOND;
    private static final byte[] CONTINUE = "HTTP/1.1 100 Continue\r\n\r\n".getBytes(StandardCharsets.ISO_8859_1);

    private static final String INVALID = "Invalid HTTP request received.";

    private enum State { HEAD, BODY, WAITING, WRITING, SKIPPING, LINGERING, CLOSED }

    final Loop loop;
    private final Service service;
    private final SocketChannel channel;
    private SelectionKey key;
    private State state = State.HEAD;
    private byte[] in = Response.NONE;
    private int begin;
    private int end;
    /** What of the head has been looked through. */
    private int scanned;
    private Exchange exchange;
    private final ByteBuffer[] out = {ByteBuffer.wrap(Response.NONE), ByteBuffer.wrap(Response.NONE)};
    private boolean isLast;
    private long skip;
    private boolean isAdvancing;
    /** When something came or went; when the head that is being read began. */
    private long since = System.nanoTime();
    private long headSince;

    Connection(Loop loop, SocketChannel channel) {
        this.loop = loop;
        this.channel = channel;
        service = loop.service;
    }

    void open() throws IOException {
        channel.configureBlocking(false);
        channel.setOption(StandardSocketOptions.TCP_NODELAY, true);
        key = loop.register(channel, this);
    }

    void readable() throws IOException {
        int room = state == State.WAITING || state == State.WRITING ? AHEAD - (end - begin) : LONGEST_HEAD;
        if (room <= 0) {
            key.interestOps(key.interestOps() & ~SelectionKey.OP_READ);
            return;
        }
        ByteBuffer buffer = loop.buffer;
        buffer.clear().limit(Math.min(room, buffer.capacity()));
        int count = channel.read(buffer);
        if (state != State.LINGERING) {
            since = System.nanoTime();
        }
        if (count < 0) {
            ended();
            return;
        }
        buffer.flip();
        if (begin == end) {
            begin = end = 0;
        }
        if (end + count > in.length) {
            int held = end - begin;
            byte[] next = held + count > in.length ? new byte[Math.max(held + count, 2048)] : in;
            System.arraycopy(in, begin, next, 0, held);
            scanned -= begin;
            in = next;
            begin = 0;
            end = held;
        }
        buffer.get(in, end, count);
        end += count;
        advance();
    }

    void writable() throws IOException {
        advance();
    }

    /** Nothing more comes. */
    private void ended() throws IOException {
        if (state == State.WRITING) {
            isLast = true;
            key.interestOps(key.interestOps() & ~SelectionKey.OP_READ);
        } else {
            close();
        }
    }

    private void advance() throws IOException {
        if (isAdvancing) {
            return;
        }
        isAdvancing = true;
        try {
            while (step()) {
                // As far as it goes.
            }
        } finally {
            isAdvancing = false;
        }
        if (begin == end && in.length > AHEAD) {
            in = Response.NONE;
            begin = end = 0;
        }
        if (state != State.CLOSED && end - begin < AHEAD && (key.interestOps() & SelectionKey.OP_READ) == 0 && !isLast) {
            key.interestOps(key.interestOps() | SelectionKey.OP_READ);
        }
    }

    /** Whether there is more to do. */
    private boolean step() throws IOException {
        switch (state) {
            case HEAD:
                return head();
            case BODY:
                return body();
            case WRITING:
                return write();
            case SKIPPING:
                int count = (int) Math.min(skip, end - begin);
                begin += count;
                skip -= count;
                if (skip > 0) {
                    return false;
                }
                state = State.HEAD;
                return true;
            case LINGERING:
                begin = end = 0;
                return false;
            default:
                return false;
        }
    }

    private boolean head() throws IOException {
        // Some send an empty line behind a body.
        while (begin < end && (in[begin] == '\r' || in[begin] == '\n')) {
            begin++;
        }
        if (begin == end) {
            headSince = 0;
            scanned = 0;
            return false;
        }
        if (headSince == 0) {
            headSince = System.nanoTime();
        }
        int at = Math.max(scanned, begin);
        for (; at < end; at++) {
            if (in[at] == '\r' && at + 1 < end && in[at + 1] != '\n') {
                return refuse(400, INVALID);
            }
            if (in[at] == '\n') {
                if (at == begin || in[at - 1] != '\r') {
                    return refuse(400, INVALID);
                }
                if (at - begin >= 3 && in[at - 2] == '\n') {
                    break;
                }
            }
        }
        if (at - begin > LONGEST_HEAD) {
            return refuse(431, "The head of the request is too large.");
        }
        if (at == end) {
            // But for the last byte, which another may belong to.
            scanned = end - 1;
            return false;
        }
        Head head;
        try {
            head = new Head(in, begin, at + 1);
        } catch (Head.Bad bad) {
            return refuse(400, INVALID);
        }
        begin = at + 1;
        scanned = 0;
        headSince = 0;
        exchange = new Exchange(this, head);
        Response response = service.begin(exchange);
        if (response != null) {
            answer(exchange, response);
            return true;
        }
        try {
            exchange.body = new Body(head, service.largest);
            exchange.body.check();
        } catch (Refusal refusal) {
            answer(exchange, Response.refused(refusal).last());
            return true;
        }
        state = State.BODY;
        if (head.isExpecting && head.hasBody() && begin == end) {
            out[0] = ByteBuffer.wrap(CONTINUE);
            flush();
        }
        return true;
    }

    private boolean body() throws IOException {
        Body body = exchange.body;
        try {
            if (!body.isDone) {
                if (begin == end) {
                    return false;
                }
                begin = body.take(in, begin, end);
                if (!body.isDone) {
                    return true;
                }
            }
        } catch (Refusal refusal) {
            answer(exchange, Response.refused(refusal).last());
            return true;
        } catch (Busy busy) {
            answer(exchange, Response.busy(busy, exchange.id).last());
            return true;
        } catch (Head.Bad bad) {
            answer(exchange, plain(400, INVALID).last());
            return true;
        }
        state = State.WAITING;
        service.answer(exchange);
        return state != State.WAITING;
    }

    /** What is no request has no id, and no place in what is counted. */
    private boolean refuse(int status, String words) {
        send(plain(status, words), "", false, true);
        return true;
    }

    private static Response plain(int status, String words) {
        return Response.of(status, "text/plain; charset=utf-8", words.getBytes(StandardCharsets.UTF_8));
    }

    /** Answers the request that is under way; of another one, whose connection went on without it, nobody wants to know. */
    void answer(Exchange asked, Response response) {
        if (exchange != asked || asked.isAnswered || state == State.CLOSED) {
            return;
        }
        asked.isAnswered = true;
        Head head = asked.head;
        isLast = response.isLast || !head.isKept || service.isLeaving();
        boolean isRead = state == State.WAITING;
        if (state == State.BODY) {
            asked.body.free();
            isLast = true;
        } else if (!isRead && head.hasBody()) {
            // A body that nobody wants: a small one is passed over.
            skip = head.length;
            isLast |= head.isChunked || head.isExpecting || skip > SKIPPED;
        }
        service.answered(asked, response.status);
        send(response, asked.id, head.method.equals("HEAD"), isLast);
        if (!isAdvancing) {
            try {
                advance();
            } catch (IOException gone) {
                close();
            }
        }
    }

    private void send(Response response, String id, boolean isHead, boolean last) {
        isLast = last;
        StringBuilder head = new StringBuilder(256);
        head.append("HTTP/1.1 ").append(response.status).append(' ').append(Response.reason(response.status)).append("\r\n");
        head.append("date: ").append(Dated.now()).append("\r\n").append(response.headers);
        if (response.status != 204) {
            head.append("content-length: ").append(response.body.length).append("\r\n");
        }
        if (!id.isEmpty()) {
            head.append("x-request-id: ").append(id).append("\r\n");
        }
        if (isLast) {
            head.append("connection: close\r\n");
        } else if (exchange.head.isOld) {
            head.append("connection: keep-alive\r\n");
        }
        byte[] lines = head.append("\r\n").toString().getBytes(StandardCharsets.ISO_8859_1);
        byte[] body = isHead ? Response.NONE : response.body;
        if (out[0].hasRemaining()) {
            // What was promised before it.
            lines = joined(out[0], lines);
        }
        boolean isSmall = body.length <= AHEAD;
        out[0] = ByteBuffer.wrap(isSmall ? joined(ByteBuffer.wrap(lines), body) : lines);
        out[1] = ByteBuffer.wrap(isSmall ? Response.NONE : body);
        state = State.WRITING;
        since = System.nanoTime();
    }

    private static byte[] joined(ByteBuffer first, byte[] second) {
        int length = first.remaining();
        byte[] all = new byte[length + second.length];
        first.get(all, 0, length);
        System.arraycopy(second, 0, all, length, second.length);
        return all;
    }

    private boolean write() throws IOException {
        if (!flush()) {
            return false;
        }
        if (exchange != null) {
            service.finished();
            exchange = null;
        }
        if (!isLast) {
            state = State.SKIPPING;
            return true;
        }
        // What comes still is read: else the answer could be lost with it.
        channel.shutdownOutput();
        state = State.LINGERING;
        begin = end = 0;
        key.interestOps(SelectionKey.OP_READ);
        return false;
    }

    private boolean flush() throws IOException {
        if (out[0].hasRemaining() || out[1].hasRemaining()) {
            if (channel.write(out) > 0) {
                since = System.nanoTime();
            }
        }
        boolean isAll = !out[0].hasRemaining() && !out[1].hasRemaining();
        int wanted = isAll ? key.interestOps() & ~SelectionKey.OP_WRITE : key.interestOps() | SelectionKey.OP_WRITE;
        if (wanted != key.interestOps()) {
            key.interestOps(wanted);
        }
        if (isAll) {
            out[1] = ByteBuffer.wrap(Response.NONE);
        }
        return isAll;
    }

    /** Whether it has taken too long. */
    void look(long now) {
        switch (state) {
            case HEAD:
                if (headSince != 0 ? now - headSince > HEAD_TIME : now - since > (service.isLeaving() ? ENDING : STILL)) {
                    close();
                }
                return;
            case BODY:
                if (isOver(now) || now - since > STILL) {
                    answer(exchange, Response.failed(408, "the request did not come in time", exchange.id).last());
                }
                return;
            case WAITING:
                if (isOver(now)) {
                    Response response = service.late(exchange);
                    answer(exchange, response);
                }
                return;
            case LINGERING:
                if (now - since > LINGERING) {
                    close();
                }
                return;
            default:
                if (now - since > STILL) {
                    close();
                }
        }
    }

    private boolean isOver(long now) {
        return exchange.deadline != 0 && now - exchange.deadline >= 0;
    }

    void close() {
        if (state == State.CLOSED) {
            return;
        }
        if (exchange != null) {
            if (!exchange.isAnswered) {
                service.answered(exchange, 499);
                service.left(exchange, state == State.BODY);
            }
            service.finished();
            exchange = null;
        }
        state = State.CLOSED;
        in = Response.NONE;
        begin = end = 0;
        out[0] = out[1] = ByteBuffer.wrap(Response.NONE);
        try {
            channel.close();
        } catch (IOException error) {
            // It is closed.
        }
        loop.closed(this);
    }

    /** The date in the head of an answer (RFC 9110, section 5.6.7), made once a second. */
    private static final class Dated {
        private static final DateTimeFormatter FORM = DateTimeFormatter.RFC_1123_DATE_TIME;
        private static volatile Dated last = new Dated(0);
        private final long second;
        private final String text;

        private Dated(long second) {
            this.second = second;
            // Of two digits, as it is there.
            String written = FORM.format(ZonedDateTime.ofInstant(Instant.ofEpochSecond(second), ZoneOffset.UTC));
            text = written.charAt(6) == ' ' ? written.substring(0, 5) + "0" + written.substring(5) : written;
        }

        static String now() {
            long second = System.currentTimeMillis() / 1000;
            Dated found = last;
            if (found.second != second) {
                last = found = new Dated(second);
            }
            return found.text;
        }
    }
}
