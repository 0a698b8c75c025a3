import java.io.ByteArrayOutputStream;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.List;

/**
 * Reads a request: JSON (RFC 8259, and NaN and Infinity as numbers), strictly, straight into rows. What is wrong is said as the
 * Python service says it, whose checks are pydantic's: of a text that is no JSON where it ceases to be, else of all values.
 *
 * Nothing is kept of what is not asked for, and no depth of nesting takes more than a bounded part of the stack.
 */
final class Reader {
    /** Objects and lists within each other. */
    private static final int DEEPEST = 200;
    /** Digits of a whole number. */
    private static final int LONGEST_NUMBER = 4300;
    /** Mistakes that are told. */
    private static final int MOST_MISTAKES = 1000;
    private static final String CONTROL = "control character (\\u0000-\\u001F) found while parsing a string";

    private final byte[] text;
    private final int end;
    private final Columns columns;
    private final Rows rows;
    private int at;
    private int depth;

    /** Of the object that is being read: the columns that it has, what is wrong with each, and members that nobody knows. */
    private final Members outer;
    private final Members inner;
    private boolean hasRows;
    private final List<Refusal.Found> within = new ArrayList<>();

    private Reader(byte[] text, int end, Columns columns) {
        this.text = text;
        this.end = end;
        this.columns = columns;
        rows = new Rows(columns.names);
        outer = new Members(columns.names.length);
        inner = new Members(columns.takesRows ? columns.names.length : 0);
    }

    static Rows read(byte[] text, int length, Columns columns) throws Refusal {
        try {
            return new Reader(text, length, columns).document();
        } catch (Broken broken) {
            throw Refusal.of(422, "json_invalid", "Invalid JSON: " + broken.getMessage());
        }
    }

    /** No JSON. */
    private static final class Broken extends Exception {
        private static final long serialVersionUID = 1;

        Broken(String message) {
            super(message, null, false, false);
        }
    }

    private static final class Members {
        final List<Integer> found = new ArrayList<>();
        final double[] numbers;
        final String[] texts;
        /** 0 for none, 1 for a value, 2 for nothing in its place, 3 for a mistake. */
        final byte[] state;
        final List<String> extra = new ArrayList<>();

        Members(int columns) {
            numbers = new double[columns];
            texts = new String[columns];
            state = new byte[columns];
        }

        void clear() {
            for (int column : found) {
                state[column] = 0;
            }
            found.clear();
            extra.clear();
        }
    }

    private Rows document() throws Broken, Refusal {
        List<Refusal.Found> mistakes = new ArrayList<>();
        byte first = next();
        if (first == '{') {
            object(outer, true);
        } else {
            value(first);
            mistakes.add(new Refusal.Found(Mistake.NO_OBJECT, new Object[0]));
        }
        space();
        if (at < end) {
            throw broken("trailing characters", at);
        }
        List<Refusal.Found> beside = new ArrayList<>();
        tell(outer, new Object[0], mistakes, beside);
        mistakes.addAll(within);
        mistakes.addAll(beside);
        if (!mistakes.isEmpty()) {
            throw Refusal.of(422, mistakes.size() > MOST_MISTAKES ? mistakes.subList(0, MOST_MISTAKES) : mistakes);
        }
        if (hasRows) {
            if (!outer.found.isEmpty()) {
                throw Refusal.of(422, "value_error", "beside `rows` there can be no columns");
            }
            rows.isMany = true;
        } else if (outer.found.isEmpty()) {
            String[] names = columns.names;
            String known = String.join(", ", names.length > 50 ? Arrays.copyOf(names, 50) : names);
            throw Refusal.of(422, "value_error", "no column is given: the model knows " + known);
        } else {
            keep(outer);
        }
        return rows;
    }

    private void keep(Members members) {
        for (int column : members.found) {
            if (members.state[column] == 1) {
                rows.add(column, members.numbers[column], members.texts[column]);
            }
        }
        rows.end();
    }

    /** What is wrong in an object: first its columns in their order, then what it has besides. */
    private void tell(Members members, Object[] place, List<Refusal.Found> of, List<Refusal.Found> beside) {
        boolean isWrong = !members.extra.isEmpty();
        for (int column : members.found) {
            isWrong |= members.state[column] == 3;
        }
        if (!isWrong) {
            return;
        }
        members.found.sort(Comparator.naturalOrder());
        for (int column : members.found) {
            if (members.state[column] == 3) {
                of.add(new Refusal.Found(columns.mistake(column), below(place, columns.names[column])));
            }
        }
        for (String name : members.extra) {
            beside.add(new Refusal.Found(Mistake.EXTRA, below(place, name)));
        }
    }

    private static Object[] below(Object[] place, Object... more) {
        Object[] all = Arrays.copyOf(place, place.length + more.length);
        System.arraycopy(more, 0, all, place.length, more.length);
        return all;
    }

    // Values that are asked for.

    /** The members of a row, or of the whole request. What is read begins with its brace. */
    private void object(Members members, boolean isOuter) throws Broken {
        for (String name = firstKey(); name != null; name = nextKey()) {
            byte first = next();
            int column = columns.place(name);
            if (column >= 0) {
                column(members, column, first);
            } else if (isOuter && columns.takesRows && name.equals("rows")) {
                several(first);
            } else {
                value(first);
                if (members.extra.size() < MOST_MISTAKES) {
                    members.extra.add(name);
                }
            }
        }
    }

    private void column(Members members, int column, byte first) throws Broken {
        if (members.state[column] == 0) {
            members.found.add(column);
        }
        byte state = 3;
        if (columns.isText(column) && first == '"') {
            String word = columns.word(column, string());
            members.texts[column] = word;
            state = (byte) (word == null ? 3 : 1);
        } else if (!columns.isText(column) && isNumber(first)) {
            members.numbers[column] = number(first);
            members.texts[column] = null;
            state = 1;
        } else {
            value(first);
            state = (byte) (first == 'n' ? 2 : 3);
        }
        members.state[column] = state;
    }

    private void several(byte first) throws Broken {
        // The last one counts, where there are several.
        hasRows = true;
        rows.clear();
        within.clear();
        if (first != '[') {
            value(first);
            within.add(new Refusal.Found(Mistake.NO_LIST, new Object[] {"rows"}));
            return;
        }
        if (!isFull()) {
            return;
        }
        for (int number = 0; ; number++) {
            byte one = next();
            if (one == '{') {
                inner.clear();
                object(inner, false);
                List<Refusal.Found> beside = new ArrayList<>();
                tell(inner, new Object[] {"rows", number}, within, beside);
                within.addAll(beside);
                keep(inner);
            } else {
                value(one);
                within.add(new Refusal.Found(Mistake.NO_OBJECT, new Object[] {"rows", number}));
            }
            if (within.size() > MOST_MISTAKES) {
                within.subList(MOST_MISTAKES, within.size()).clear();
            }
            if (!more(']')) {
                return;
            }
        }
    }

    // JSON.

    /** The first byte of a value. */
    private byte next() throws Broken {
        space();
        if (at >= end) {
            throw broken("EOF while parsing a value", at);
        }
        return text[at];
    }

    private void space() {
        while (at < end && (text[at] == ' ' || text[at] == '\n' || text[at] == '\r' || text[at] == '\t')) {
            at++;
        }
    }

    /** What is within an object or a list, which is not empty. */
    private void enter() throws Broken {
        if (++depth > DEEPEST) {
            throw broken("recursion limit exceeded", at);
        }
    }

    /** Whether there is something in a list, which begins here. */
    private boolean isFull() throws Broken {
        at++;
        space();
        if (at >= end) {
            throw broken("EOF while parsing a list", at);
        }
        if (text[at] == ']') {
            at++;
            return false;
        }
        enter();
        return true;
    }

    /** A value that nobody wants. */
    private void value(byte first) throws Broken {
        switch (first) {
            case '{':
                for (String name = firstKey(); name != null; name = nextKey()) {
                    value(next());
                }
                return;
            case '[':
                for (boolean isMore = isFull(); isMore; isMore = more(']')) {
                    value(next());
                }
                return;
            case '"':
                string();
                return;
            case 't':
                word("true");
                return;
            case 'f':
                word("false");
                return;
            case 'n':
                word("null");
                return;
            default:
                if (!isNumber(first)) {
                    throw broken("expected value", at);
                }
                number(first);
        }
    }

    /** Whether another value follows; else the end of the object or list has been read. */
    private boolean more(char close) throws Broken {
        space();
        if (at >= end) {
            throw broken(close == ']' ? "EOF while parsing a list" : "EOF while parsing an object", at);
        }
        byte one = text[at];
        if (one == close) {
            at++;
            depth--;
            return false;
        }
        if (one != ',') {
            throw broken("expected `,` or `" + close + "`", at);
        }
        at++;
        space();
        if (at >= end) {
            throw broken("EOF while parsing a value", at);
        }
        if (text[at] == close) {
            throw broken("trailing comma", at);
        }
        return true;
    }

    private String firstKey() throws Broken {
        at++;
        space();
        if (at >= end) {
            throw broken("EOF while parsing an object", at);
        }
        if (text[at] == '}') {
            at++;
            return null;
        }
        String name = key();
        next();
        enter();
        return name;
    }

    private String nextKey() throws Broken {
        return more('}') ? key() : null;
    }

    private String key() throws Broken {
        if (text[at] != '"') {
            throw broken("key must be a string", at);
        }
        String name = string();
        space();
        if (at >= end) {
            throw broken("EOF while parsing an object", at);
        }
        if (text[at] != ':') {
            throw broken("expected `:`", at);
        }
        at++;
        return name;
    }

    private void word(String word) throws Broken {
        for (int letter = 0; letter < word.length(); letter++, at++) {
            if (at >= end) {
                throw broken("EOF while parsing a value", at);
            }
            if (text[at] != word.charAt(letter)) {
                throw broken("expected ident", at);
            }
        }
    }

    private static boolean isNumber(byte first) {
        return first >= '0' && first <= '9' || first == '-' || first == 'N' || first == 'I';
    }

    private double number(byte first) throws Broken {
        int begin = at;
        if (first == 'N') {
            word("NaN");
            return Double.NaN;
        }
        if (first == '-') {
            at++;
        }
        if (at < end && text[at] == 'I') {
            word("Infinity");
            return first == '-' ? Double.NEGATIVE_INFINITY : Double.POSITIVE_INFINITY;
        }
        int digits = at;
        digits("EOF while parsing a value");
        if (text[digits] == '0' && at > digits + 1) {
            throw broken("invalid number", digits + 1);
        }
        int whole = at - digits;
        boolean isWhole = true;
        if (at < end && text[at] == '.') {
            isWhole = false;
            at++;
            digits("EOF while parsing a value");
        }
        if (at < end && (text[at] == 'e' || text[at] == 'E')) {
            isWhole = false;
            at++;
            if (at < end && (text[at] == '+' || text[at] == '-')) {
                at++;
            }
            digits("EOF while parsing a value");
        }
        if (isWhole && whole <= 15) {
            long value = 0;
            for (int digit = digits; digit < at; digit++) {
                value = value * 10 + text[digit] - '0';
            }
            return first == '-' ? -value : value;
        }
        if (whole > LONGEST_NUMBER) {
            throw broken("number out of range", Math.min(at, digits + LONGEST_NUMBER + 1));
        }
        return Double.parseDouble(new String(text, begin, at - begin, StandardCharsets.ISO_8859_1));
    }

    private void digits(String ended) throws Broken {
        int begin = at;
        while (at < end && text[at] >= '0' && text[at] <= '9') {
            at++;
        }
        if (at == begin) {
            throw broken(at >= end ? ended : "invalid number", at);
        }
    }

    private String string() throws Broken {
        int begin = ++at;
        boolean isPlain = true;
        while (at < end && text[at] != '"' && text[at] != '\\') {
            byte one = text[at];
            if (one >= 0 && one < ' ') {
                throw broken(CONTROL, at);
            }
            isPlain &= one >= 0;
            at++;
        }
        if (at < end && text[at] == '"') {
            int wrong = isPlain ? -1 : Utf8.wrong(text, begin, at);
            if (wrong >= 0) {
                throw broken("invalid unicode code point", wrong);
            }
            at++;
            return new String(text, begin, at - 1 - begin, isPlain ? StandardCharsets.ISO_8859_1 : StandardCharsets.UTF_8);
        }
        // What is no text is noticed when the whole of it has been read.
        ByteArrayOutputStream built = new ByteArrayOutputStream();
        built.write(text, begin, at - begin);
        while (at < end) {
            byte one = text[at];
            if (one == '"') {
                at++;
                byte[] bytes = built.toByteArray();
                int wrong = Utf8.wrong(bytes, 0, bytes.length);
                if (wrong >= 0) {
                    throw broken("invalid unicode code point", begin + wrong);
                }
                return new String(bytes, StandardCharsets.UTF_8);
            }
            if (one >= 0 && one < ' ') {
                throw broken(CONTROL, at);
            }
            at++;
            if (one == '\\') {
                escape(built);
            } else {
                built.write(one);
            }
        }
        throw broken("EOF while parsing a string", at);
    }

    private void escape(ByteArrayOutputStream built) throws Broken {
        if (at >= end) {
            throw broken("EOF while parsing a string", at);
        }
        byte one = text[at];
        int place = "\"\\/bfnrt".indexOf(one);
        if (place >= 0) {
            built.write("\"\\/\b\f\n\r\t".charAt(place));
            at++;
            return;
        }
        if (one != 'u') {
            throw broken("invalid escape", at);
        }
        at++;
        char unit = hex();
        if (Character.isLowSurrogate(unit)) {
            throw broken("lone leading surrogate in hex escape", at - 1);
        }
        int point = unit;
        if (Character.isHighSurrogate(unit)) {
            for (char wanted : new char[] {'\\', 'u'}) {
                if (at >= end) {
                    throw broken("EOF while parsing a string", at);
                }
                if (text[at] != wanted) {
                    throw broken("unexpected end of hex escape", at);
                }
                at++;
            }
            char second = hex();
            if (!Character.isLowSurrogate(second)) {
                throw broken("lone leading surrogate in hex escape", at - 1);
            }
            point = Character.toCodePoint(unit, second);
        }
        byte[] bytes = new String(Character.toChars(point)).getBytes(StandardCharsets.UTF_8);
        built.write(bytes, 0, bytes.length);
    }

    private char hex() throws Broken {
        int unit = 0;
        if (at + 4 > end) {
            throw broken("EOF while parsing a string", end);
        }
        for (int digit = 0; digit < 4; digit++, at++) {
            int value = Character.digit(text[at], 16);
            if (value < 0) {
                throw broken("invalid escape", at);
            }
            unit = unit << 4 | value;
        }
        return (char) unit;
    }

    private Broken broken(String what, int place) {
        int line = 1;
        int begin = 0;
        for (int one = 0; one < end && one <= place; one++) {
            if (text[one] == '\n') {
                line++;
                begin = one + 1;
            }
        }
        int column = Math.max(place < end ? place + 1 - begin : end - begin, 0);
        return new Broken(what + " at line " + line + " column " + column);
    }
}
