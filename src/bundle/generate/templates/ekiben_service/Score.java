import hex.ModelCategory;
import hex.genmodel.GenModel;
import hex.genmodel.MojoModel;
import hex.genmodel.easy.EasyPredictModelWrapper;
import hex.genmodel.easy.RowData;
import hex.genmodel.easy.exception.PredictException;
import hex.genmodel.easy.prediction.*;
import java.io.*;
import java.net.URL;
import java.net.URLClassLoader;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import javax.tools.JavaCompiler;
import javax.tools.ToolProvider;

/**
 * Answers rows with a model of h2o, a MOJO or a POJO, for the process that started it, until that closes standard input.
 *
 * A message is its length (4 bytes, the highest first) and so many bytes. In: a number (8), how many rows (4), and for each row
 * and column a value: 0 for none, 1 and a double, or 2, a length (4) and a text. Out: the number, 0 and the answers as JSON; or 1
 * and why the rows cannot be used; or 2 and what went wrong. The first message out describes the model.
 */
public final class Score {
    /** Rows that are answered by who reads them: others would only be waited for. */
    private static final int FEW = 64;
    private static final int MOST = 1 << 28;

    private final GenModel model;
    private final String[] columns;
    private final boolean[] isText;
    private final ThreadLocal<EasyPredictModelWrapper> wrapper;
    private final DataOutputStream out;

    private Score(GenModel model, DataOutputStream out) {
        this.model = model;
        this.out = out;
        String[] original = model.getOrigNames();
        String[] names = original == null ? model.getNames() : original;
        String[][] domains = original == null ? model.getDomainValues() : model.getOrigDomainValues();
        int count = original == null ? model.nfeatures() : model.getOrigNumCols();
        columns = new String[count];
        isText = new boolean[count];
        for (int at = 0; at < count; at++) {
            columns[at] = names[at];
            isText[at] = domains[at] != null;
        }
        // Some models keep what they compute with between two steps.
        wrapper = ThreadLocal.withInitial(() -> new EasyPredictModelWrapper(
                new EasyPredictModelWrapper.Config().setModel(model.internal_threadSafeInstance())));
    }

    public static void main(String[] args) throws Exception {
        DataOutputStream out = new DataOutputStream(new BufferedOutputStream(new FileOutputStream(FileDescriptor.out), 1 << 16));
        // What a library says is for the log.
        System.setOut(System.err);
        DataInputStream in = new DataInputStream(new BufferedInputStream(new FileInputStream(FileDescriptor.in), 1 << 16));
        String file = args[0];
        GenModel model = file.endsWith(".java") ? compiled(Path.of(file)) : MojoModel.load(file);
        Score score = new Score(model, out);
        score.wrapper.get();
        score.send(0, 0, score.described());
        score.answer(in);
        System.exit(0);
    }

    /** A POJO is source text: there is a compiler in each runtime since Java 11. */
    private static GenModel compiled(Path source) throws Exception {
        JavaCompiler compiler = ToolProvider.getSystemJavaCompiler();
        if (compiler == null) {
            throw new IllegalStateException("this Java has no compiler (the module jdk.compiler), which a POJO needs");
        }
        Path folder = Files.createTempDirectory("model");
        int status = compiler.run(null, null, null, "-nowarn", "-proc:none", "-implicit:none",
                "-cp", System.getProperty("java.class.path"), "-d", folder.toString(), source.toString());
        if (status != 0) {
            throw new IllegalArgumentException(source.getFileName() + " cannot be compiled");
        }
        String name = source.getFileName().toString().replaceAll("\\.java$", "");
        // Classes of one model are loaded as it goes on.
        URLClassLoader loader = new URLClassLoader(new URL[] {folder.toUri().toURL()}, Score.class.getClassLoader());
        return (GenModel) loader.loadClass(name).getDeclaredConstructor().newInstance();
    }

    private String described() {
        Json json = new Json();
        json.raw("{\"category\":").text(model.getModelCategory().toString()).raw(",\"columns\":[");
        String[][] domains = model.getOrigNames() == null ? model.getDomainValues() : model.getOrigDomainValues();
        for (int at = 0; at < columns.length; at++) {
            json.raw(at == 0 ? "[" : ",[").text(columns[at]).raw(",");
            if (isText[at]) {
                json.texts(domains[at]);
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
                predict(wrapper.get(), read.get(at), json);
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
        for (String column : columns) {
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

    private void predict(EasyPredictModelWrapper wrapper, RowData row, Json json) throws PredictException {
        ModelCategory category = model.getModelCategory();
        switch (category) {
            case Binomial: {
                BinomialModelPrediction found = wrapper.predictBinomial(row);
                labelled(found.label, found.classProbabilities, json);
                return;
            }
            case Multinomial: {
                MultinomialModelPrediction found = wrapper.predictMultinomial(row);
                labelled(found.label, found.classProbabilities, json);
                return;
            }
            case Ordinal: {
                OrdinalModelPrediction found = wrapper.predictOrdinal(row);
                labelled(found.label, found.classProbabilities, json);
                return;
            }
            case Regression:
                json.raw("{\"value\":").number(wrapper.predictRegression(row).value).raw("}");
                return;
            case CoxPH:
                json.raw("{\"value\":").number(wrapper.predictCoxPH(row).value).raw("}");
                return;
            case Clustering:
                json.raw("{\"cluster\":").raw(Integer.toString(wrapper.predictClustering(row).cluster)).raw("}");
                return;
            case DimReduction:
                json.raw("{\"dimensions\":").numbers(wrapper.predictDimReduction(row).dimensions).raw("}");
                return;
            case AutoEncoder:
                json.raw("{\"error\":").number(wrapper.predictAutoEncoder(row).mse).raw("}");
                return;
            case AnomalyDetection: {
                AnomalyDetectionPrediction found = wrapper.predictAnomalyDetection(row);
                json.raw("{\"score\":").number(found.score).raw(",\"normalized\":").number(found.normalizedScore);
                if (found.isAnomaly != null) {
                    json.raw(",\"anomaly\":").raw(found.isAnomaly.toString());
                }
                json.raw("}");
                return;
            }
            default:
                throw new IllegalArgumentException("models of the kind " + category + " are not served");
        }
    }

    private void labelled(String label, double[] probabilities, Json json) {
        String[] labels = model.getDomainValues(model.getResponseIdx());
        json.raw("{\"label\":").text(label).raw(",\"probabilities\":{");
        for (int at = 0; at < probabilities.length; at++) {
            json.raw(at == 0 ? "" : ",").text(labels[at]).raw(":").number(probabilities[at]);
        }
        json.raw("}}");
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

    /** A text of JSON, in which numbers may be NaN and Infinity. */
    private static final class Json {
        private final StringBuilder built = new StringBuilder();

        Json raw(String text) {
            built.append(text);
            return this;
        }

        Json number(double value) {
            built.append(value);
            return this;
        }

        Json numbers(double[] values) {
            raw("[");
            for (int at = 0; at < values.length; at++) {
                raw(at == 0 ? "" : ",").number(values[at]);
            }
            return raw("]");
        }

        Json texts(String[] values) {
            raw("[");
            for (int at = 0; at < values.length; at++) {
                raw(at == 0 ? "" : ",").text(values[at]);
            }
            return raw("]");
        }

        Json text(String value) {
            built.append('"');
            for (int at = 0; at < value.length(); at++) {
                char one = value.charAt(at);
                if (one == '"' || one == '\\') {
                    built.append('\\').append(one);
                } else if (one < ' ') {
                    built.append(String.format("\\u%04x", (int) one));
                } else {
                    built.append(one);
                }
            }
            built.append('"');
            return this;
        }

        @Override
        public String toString() {
            return built.toString();
        }
    }
}
