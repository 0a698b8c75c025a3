import java.util.HashMap;
import java.util.Map;

/** What the service is told: words of the form NAME=VALUE. */
final class Settings {
    private final Map<String, String> told = new HashMap<>();

    Settings(String[] words) {
        for (String word : words) {
            int at = word.indexOf('=');
            if (at > 0) {
                told.put(word.substring(0, at), word.substring(at + 1));
            }
        }
    }

    String text(String name, String usual) {
        return told.getOrDefault(name, usual);
    }

    long number(String name, long usual) {
        String text = told.get(name);
        return text == null ? usual : Long.parseLong(text);
    }

    /** Nanoseconds, of seconds; 0 where nothing is said. */
    long time(String name, double usual) {
        String text = told.get(name);
        return (long) ((text == null ? usual : Double.parseDouble(text)) * 1e9);
    }
}
