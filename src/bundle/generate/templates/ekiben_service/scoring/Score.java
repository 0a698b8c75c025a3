import java.io.ByteArrayOutputStream;
import java.io.OutputStream;
import java.lang.reflect.InvocationTargetException;
import java.net.URI;
import java.nio.file.Path;
import java.nio.file.Paths;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import javax.tools.FileObject;
import javax.tools.ForwardingJavaFileManager;
import javax.tools.JavaCompiler;
import javax.tools.JavaFileManager;
import javax.tools.JavaFileObject;
import javax.tools.SimpleJavaFileObject;
import javax.tools.StandardJavaFileManager;
import javax.tools.ToolProvider;

/**
 * Answers rows with a model of h2o, a MOJO or a POJO. This is what `java` runs as a source file, which is one alone: it compiles
 * the others beside it, and a POJO, in memory. There is a compiler in each runtime since Java 11, and no more is needed.
 *
 * `pipe MODEL` answers the process that started it (`Pipe`), `serve MODEL NAME=VALUE…` answers HTTP (`Serve`).
 */
public final class Score {
    private Score() {
    }

    public static void main(String[] args) throws Throwable {
        // What runs a source file does not tell where it lies.
        Path folder = Paths.get(System.getProperty("ekiben.scoring"));
        String main = args[0].equals("pipe") ? "Pipe" : "Serve";
        List<Path> sources = new ArrayList<>(List.of(folder.resolve(main + ".java")));
        Path model = Paths.get(args[1]);
        boolean isPojo = model.toString().endsWith(".java");
        if (isPojo) {
            sources.add(model);
            args[1] = model.getFileName().toString().replaceAll("\\.java$", "");
        }
        ClassLoader loader = compiled(folder, sources);
        Thread.currentThread().setContextClassLoader(loader);
        try {
            loader.loadClass(main).getMethod("main", ClassLoader.class, String[].class).invoke(null, isPojo ? loader : null, args);
        } catch (InvocationTargetException error) {
            throw error.getCause();
        }
    }

    /** With all that they need of those in the folder. */
    private static ClassLoader compiled(Path folder, List<Path> sources) throws Exception {
        JavaCompiler compiler = ToolProvider.getSystemJavaCompiler();
        if (compiler == null) {
            throw new IllegalStateException("this Java has no compiler: the module jdk.compiler");
        }
        String library = System.getProperty("java.class.path");
        List<String> options = List.of("-nowarn", "-proc:none", "-implicit:class", "-cp", library, "-sourcepath", folder.toString());
        try (StandardJavaFileManager files = compiler.getStandardFileManager(null, null, null)) {
            Compiled compiled = new Compiled(files);
            if (!compiler.getTask(null, compiled, null, options, null, files.getJavaFileObjectsFromPaths(sources)).call()) {
                throw new IllegalArgumentException("the model cannot be compiled");
            }
            return compiled.loader();
        }
    }

    /** Takes what the compiler writes. */
    private static final class Compiled extends ForwardingJavaFileManager<StandardJavaFileManager> {
        private final Map<String, ByteArrayOutputStream> classes = new ConcurrentHashMap<>();

        Compiled(StandardJavaFileManager files) {
            super(files);
        }

        @Override
        public JavaFileObject getJavaFileForOutput(
                JavaFileManager.Location location, String name, JavaFileObject.Kind kind, FileObject sibling) {
            return new SimpleJavaFileObject(URI.create("memory:///" + name.replace('.', '/') + kind.extension), kind) {
                @Override
                public OutputStream openOutputStream() {
                    return classes.computeIfAbsent(name, none -> new ByteArrayOutputStream());
                }
            };
        }

        /** Classes are loaded as it goes on. */
        ClassLoader loader() {
            return new ClassLoader(Score.class.getClassLoader()) {
                @Override
                protected Class<?> findClass(String name) throws ClassNotFoundException {
                    ByteArrayOutputStream bytes = classes.get(name);
                    if (bytes == null) {
                        throw new ClassNotFoundException(name);
                    }
                    return defineClass(name, bytes.toByteArray(), 0, bytes.size());
                }
            };
        }
    }
}
