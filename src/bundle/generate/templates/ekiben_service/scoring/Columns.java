import java.util.HashMap;
import java.util.Map;

/** What the columns of a model take, and what is said of a value that they do not take. */
final class Columns {
    /** What the values of a column are held against one by one; of more, the model says which it does not know. */
    private static final int MOST_VALUES = 10_000;

    final String[] names;
    /** A column of the name leaves no room for several rows. */
    final boolean takesRows;
    private final Map<String, Integer> places = new HashMap<>();
    /** Each word of a column by itself, so that a row's values are no new texts; none where any text, or a number, is taken. */
    private final Map<String, String>[] known;
    private final boolean[] isText;
    private final Mistake[] mistakes;

    @SuppressWarnings("unchecked")
    Columns(String[] names, String[][] words) {
        this.names = names;
        known = (Map<String, String>[]) new Map<?, ?>[names.length];
        isText = new boolean[names.length];
        mistakes = new Mistake[names.length];
        for (int at = 0; at < names.length; at++) {
            places.put(names[at], at);
            isText[at] = words[at] != null;
            if (words[at] == null) {
                mistakes[at] = new Mistake("float_type", "Input should be a valid number");
            } else if (words[at].length == 0 || words[at].length > MOST_VALUES) {
                mistakes[at] = new Mistake("string_type", "Input should be a valid string");
            } else {
                known[at] = new HashMap<>();
                for (String word : words[at]) {
                    known[at].put(word, word);
                }
                mistakes[at] = new Mistake("literal_error", "Input should be " + listed(words[at]));
            }
        }
        takesRows = !places.containsKey("rows");
    }

    /** The place of a column, -1 where there is none of the name. */
    int place(String name) {
        Integer place = places.get(name);
        return place == null ? -1 : place;
    }

    boolean isText(int column) {
        return isText[column];
    }

    /** The text as a value of a column; none where it is none. */
    String word(int column, String text) {
        return known[column] == null ? text : known[column].get(text);
    }

    Mistake mistake(int column) {
        return mistakes[column];
    }

    private static String listed(String[] words) {
        StringBuilder text = new StringBuilder();
        for (int at = 0; at < words.length; at++) {
            text.append(at == 0 ? "" : at == words.length - 1 ? " or " : ", ").append(quoted(words[at]));
        }
        return text.toString();
    }

    /** As Python shows a text. */
    private static String quoted(String word) {
        char quote = word.indexOf('\'') >= 0 && word.indexOf('"') < 0 ? '"' : '\'';
        StringBuilder text = new StringBuilder().append(quote);
        word.codePoints().forEach(one -> {
            if (one == quote || one == '\\') {
                text.append('\\').appendCodePoint(one);
            } else if (one == '\n' || one == '\r' || one == '\t') {
                text.append(one == '\n' ? "\\n" : one == '\r' ? "\\r" : "\\t");
            } else if (isShown(one)) {
                text.appendCodePoint(one);
            } else {
                text.append(String.format(one < 0x100 ? "\\x%02x" : one < 0x10000 ? "\\u%04x" : "\\U%08x", one));
            }
        });
        return text.append(quote).toString();
    }

    private static boolean isShown(int one) {
        switch (Character.getType(one)) {
            case Character.CONTROL:
            case Character.FORMAT:
            case Character.SURROGATE:
            case Character.PRIVATE_USE:
            case Character.UNASSIGNED:
            case Character.LINE_SEPARATOR:
            case Character.PARAGRAPH_SEPARATOR:
                return false;
            case Character.SPACE_SEPARATOR:
                return one == ' ';
            default:
                return true;
        }
    }
}
