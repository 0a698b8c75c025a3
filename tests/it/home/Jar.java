import java.io.FileOutputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.jar.Attributes;
import java.util.jar.JarEntry;
import java.util.jar.JarOutputStream;
import java.util.jar.Manifest;
import javax.tools.ToolProvider;

/** Compiles a class and packs it as a program, with a runtime alone: `java Jar.java Predict.java predict.jar`. */
public class Jar {
    public static void main(String[] args) throws Exception {
        Path source = Path.of(args[0]);
        Path classes = Files.createTempDirectory("classes");
        var compiler = ToolProvider.getSystemJavaCompiler();
        if (compiler.run(null, null, null, "-encoding", "UTF-8", "-d", classes.toString(), source.toString()) != 0) {
            System.exit(1);
        }
        Manifest manifest = new Manifest();
        manifest.getMainAttributes().put(Attributes.Name.MANIFEST_VERSION, "1.0");
        String main = source.getFileName().toString().replace(".java", "");
        manifest.getMainAttributes().put(Attributes.Name.MAIN_CLASS, main);
        try (var jar = new JarOutputStream(new FileOutputStream(args[1]), manifest); var files = Files.list(classes)) {
            for (Path file : files.toList()) {
                jar.putNextEntry(new JarEntry(file.getFileName().toString()));
                Files.copy(file, jar);
                jar.closeEntry();
            }
        }
    }
}
