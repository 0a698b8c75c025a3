import hex.genmodel.easy.RowData;
import hex.genmodel.easy.exception.PredictException;
import java.io.*;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;

/**
 * Answers rows for the process that started it, until that closes standard input.
 *
 * A message is its length (4 bytes, the highest first) and so many bytes. In: a number (8), how many rows (4), and for each row
 * and column a value: 0 for none, 1 and a double, or 2, a length (4) and a text. Out: the number, 0 and the answers as JSON; or 1
 * and why the rows cannot be used; or 2 and what went wrong. The first message out describes the model.
 */
public final class Pipe {
    /** Rows that are answered by who reads them: others would only be waited for. */
    private static final int FEW = 64;
    private static final int MOST = 1 << 28;

    private final Model model;
    private final DataOutputStream out;

    private Pipe(Model model, DataOutputStream out) {
        this.model = model;
        this.out = out;
    }

    public static void main(ClassLoader pojo, String[] args) throws Exception {
        DataOutputStream out = new DataOutputStream(new BufferedOutputStream(new FileOutputStream(FileDescriptor.out), 1 << 16));
        // What a library says is for the log.
        System.setOut(System.err);
        DataInputStream in = new DataInputStream(new BufferedInputStream(new FileInputStream(FileDescriptor.in), 1 << 16));
        Pipe pipe = new Pipe(new Model(pojo, args[1]), out);
        pipe.send(0, 0, pipe.described());
        pipe.answer(in);
        System.exit(0);
    }

    private String described() {
        Json json = new Json();
        json.raw("{\"category\":").text(model.category()).raw(",\"columns\":[");
        for (int at = 0; at < model.columns.length; at++) {
            json.raw(at == 0 ? "[" : ",[").text(model.columns[at]).raw(",");
            if (model.words[at] != null) {
                json.texts(model.words[at]);
            } else {
                json.raw("null");
            }
            json.raw("]");
        }
        return json.raw("]}").toString();
    }

    private void answer(DataInputStream in) throws IOException {
        ExecutorService pool = Executors.newFixedThreadPool(Runtime.getRuntime().availableProcessors());
        while (true) {
            int length;
            try {
                length = in.readInt();
            } catch (EOFException end) {
                return;
            }
            if (length < 12 || length > MOST) {
                throw new IOException("a message of " + length + " bytes");
            }
            byte[] message = new byte[length];
            in.readFully(message);
            DataInputStream rows = new DataInputStream(new ByteArrayInputStream(message));
            long number = rows.readLong();
            int count = rows.readInt();
            if (count <= FEW) {
                work(number, count, rows);
            } else {
                pool.execute(() -> work(number, count, rows));
            }
            // Several at once, where there are several.
            if (in.available() == 0) {
                synchronized (out) {
                    out.flush();
                }
            }
        }
    }

    private void work(long number, int count, DataInputStream rows) {
        int status = 0;
        String said;
        try {
            List<RowData> read = new ArrayList<>();
            for (int at = 0; at < count; at++) {
                read.add(row(rows));
            }
            Json json = new Json().raw("[");
            for (int at = 0; at < count; at++) {
                if (at > 0) {
                    json.raw(",");
                }
                model.predict(read.get(at), json);
            }
            said = json.raw("]").toString();
        } catch (PredictException error) {
            status = 1;
            said = String.valueOf(error.getMessage());
        } catch (Exception error) {
            error.printStackTrace();
            status = 2;
            said = error.toString();
        }
        try {
            send(number, status, said);
            if (count > FEW) {
                synchronized (out) {
                    out.flush();
                }
            }
        } catch (IOException error) {
            // Nobody waits any more.
            System.exit(0);
        }
    }

    private RowData row(DataInputStream in) throws IOException {
        RowData row = new RowData();
        for (String column : model.columns) {
            switch (in.readByte()) {
                case 1:
                    row.put(column, in.readDouble());
                    break;
                case 2:
                    byte[] text = new byte[in.readInt()];
                    in.readFully(text);
                    row.put(column, new String(text, StandardCharsets.UTF_8));
                    break;
                default:
            }
        }
        return row;
    }

    private void send(long number, int status, String said) throws IOException {
        byte[] text = said.getBytes(StandardCharsets.UTF_8);
        synchronized (out) {
            out.writeInt(text.length + 9);
            out.writeLong(number);
            out.writeByte(status);
            out.write(text);
            if (number == 0) {
                out.flush();
            }
        }
    }
}
