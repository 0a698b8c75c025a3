import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;

/** The head of a request (RFC 9112, sections 3 and 5), read strictly: what could be read in two ways is none. */
final class Head {
    /** No request. */
    static final class Bad extends Exception {
        private static final long serialVersionUID = 1;

        Bad() {
            super(null, null, false, false);
        }
    }

    final String method;
    /** Percent-decoded, and without the query. */
    final String path;
    final String query;
    final boolean isChunked;
    /** Of the body; 0 where there is none, or nobody knows. */
    final long length;
    final boolean isKept;
    /** Whether the body is sent when it is asked for. */
    final boolean isExpecting;
    /** Whether the answer is to say that the connection is kept. */
    final boolean isOld;
    private final List<String> names = new ArrayList<>();
    private final List<String> values = new ArrayList<>();

    /** Of the bytes between two places, the last of which end an empty line. */
    Head(byte[] bytes, int begin, int end) throws Bad {
        int at = line(bytes, begin, end);
        String first = text(bytes, begin, at);
        int space = first.indexOf(' ');
        int last = first.lastIndexOf(' ');
        String version = first.substring(last + 1);
        if (space <= 0 || last == space || !isToken(first, 0, space) || !version.startsWith("HTTP/1.") || version.length() != 8) {
            throw new Bad();
        }
        char minor = version.charAt(7);
        if (minor != '0' && minor != '1') {
            throw new Bad();
        }
        isOld = minor == '0';
        method = first.substring(0, space);
        String target = first.substring(space + 1, last);
        for (int one = 0; one < target.length(); one++) {
            if (target.charAt(one) <= ' ' || target.charAt(one) == 0x7f) {
                throw new Bad();
            }
        }
        String whole = withoutOrigin(target);
        int mark = whole.indexOf('?');
        query = mark < 0 ? "" : whole.substring(mark);
        path = decoded(mark < 0 ? whole : whole.substring(0, mark));
        for (at += 2; at < end - 2; ) {
            int next = line(bytes, at, end);
            header(text(bytes, at, next));
            at = next + 2;
        }
        isChunked = isChunked();
        length = length();
        String connection = get("connection").toLowerCase();
        isKept = isOld ? has(connection, "keep-alive") : !has(connection, "close");
        isExpecting = !isOld && get("expect").equalsIgnoreCase("100-continue");
    }

    /** The value of a header, the last where there are several; empty where there is none. */
    String get(String name) {
        for (int at = names.size() - 1; at >= 0; at--) {
            if (names.get(at).equals(name)) {
                return values.get(at);
            }
        }
        return "";
    }

    List<String> all(String name) {
        List<String> all = new ArrayList<>();
        for (int at = 0; at < names.size(); at++) {
            if (names.get(at).equals(name)) {
                all.add(values.get(at));
            }
        }
        return all;
    }

    boolean has(String name) {
        return names.contains(name);
    }

    boolean hasBody() {
        return isChunked || length > 0;
    }

    private void header(String line) throws Bad {
        int colon = line.indexOf(':');
        if (colon <= 0 || !isToken(line, 0, colon)) {
            // A line that goes on with a space, or a name before one, as well.
            throw new Bad();
        }
        int begin = colon + 1;
        int end = line.length();
        while (begin < end && isBlank(line.charAt(begin))) {
            begin++;
        }
        while (end > begin && isBlank(line.charAt(end - 1))) {
            end--;
        }
        for (int at = begin; at < end; at++) {
            char one = line.charAt(at);
            if (one < ' ' && one != '\t' || one == 0x7f) {
                throw new Bad();
            }
        }
        names.add(line.substring(0, colon).toLowerCase());
        values.add(line.substring(begin, end));
    }

    private boolean isChunked() throws Bad {
        List<String> codings = all("transfer-encoding");
        if (codings.isEmpty()) {
            return false;
        }
        if (isOld || codings.size() > 1 || !codings.get(0).equalsIgnoreCase("chunked") || has("content-length")) {
            throw new Bad();
        }
        return true;
    }

    private long length() throws Bad {
        List<String> lengths = all("content-length");
        if (lengths.isEmpty()) {
            return 0;
        }
        String one = lengths.get(0);
        if (lengths.size() > 1 || one.isEmpty() || one.length() > 18 || !one.chars().allMatch(digit -> digit >= '0' && digit <= '9')) {
            throw new Bad();
        }
        return Long.parseLong(one);
    }

    /** `http://host/path` is asked of proxies, and of others all the same. */
    private static String withoutOrigin(String target) throws Bad {
        if (target.startsWith("/")) {
            return target;
        }
        String lower = target.toLowerCase();
        if (!lower.startsWith("http://") && !lower.startsWith("https://")) {
            if (target.equals("*")) {
                return target;
            }
            throw new Bad();
        }
        int slash = target.indexOf('/', target.indexOf("://") + 3);
        return slash < 0 ? "/" : target.substring(slash);
    }

    private static String decoded(String text) {
        if (text.indexOf('%') < 0) {
            return text;
        }
        byte[] bytes = new byte[text.length()];
        int length = 0;
        for (int at = 0; at < text.length(); at++) {
            char one = text.charAt(at);
            if (one == '%' && at + 2 < text.length() && digit(text, at + 1) >= 0 && digit(text, at + 2) >= 0) {
                one = (char) (digit(text, at + 1) << 4 | digit(text, at + 2));
                at += 2;
            }
            bytes[length++] = (byte) one;
        }
        return new String(bytes, 0, length, StandardCharsets.UTF_8);
    }

    private static int digit(String text, int at) {
        return Character.digit(text.charAt(at), 16);
    }

    /** The end of a line, which two bytes end. */
    private static int line(byte[] bytes, int begin, int end) throws Bad {
        for (int at = begin; at < end; at++) {
            if (bytes[at] == '\r' && at + 1 < end && bytes[at + 1] == '\n') {
                return at;
            }
            if (bytes[at] == '\r' || bytes[at] == '\n' || bytes[at] == 0) {
                throw new Bad();
            }
        }
        throw new Bad();
    }

    private static String text(byte[] bytes, int begin, int end) {
        return new String(bytes, begin, end - begin, StandardCharsets.ISO_8859_1);
    }

    private static boolean isBlank(char one) {
        return one == ' ' || one == '\t';
    }

    private static boolean isToken(String text, int begin, int end) {
        for (int at = begin; at < end; at++) {
            char one = text.charAt(at);
            boolean isLetter = one >= 'a' && one <= 'z' || one >= 'A' && one <= 'Z' || one >= '0' && one <= '9';
            if (!isLetter && "!#$%&'*+-.^_`|~".indexOf(one) < 0) {
                return false;
            }
        }
        return true;
    }

    private static boolean has(String list, String word) {
        for (String one : list.split(",")) {
            if (one.trim().equals(word)) {
                return true;
            }
        }
        return false;
    }
}
