/** A text of JSON. Numbers that are none in JSON are written as they are, unless another way is asked for. */
final class Json {
    /** What becomes of NaN and infinity. */
    enum Odd { PLAIN, NULL, TEXT }

    /** Whether there were any. */
    boolean hasOdd;
    private final StringBuilder built = new StringBuilder(128);
    private final Odd odd;

    Json() {
        this(Odd.PLAIN);
    }

    Json(Odd odd) {
        this.odd = odd;
    }

    int length() {
        return built.length();
    }

    Json raw(String text) {
        built.append(text);
        return this;
    }

    Json raw(long value) {
        built.append(value);
        return this;
    }

    Json number(double value) {
        if (Double.isNaN(value) || Double.isInfinite(value)) {
            hasOdd = true;
            if (odd == Odd.NULL) {
                return raw("null");
            }
            if (odd == Odd.TEXT) {
                return raw("\"").raw(Double.toString(value)).raw("\"");
            }
        }
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
            int place = "\"\\\b\f\n\r\t".indexOf(one);
            if (place >= 0) {
                built.append('\\').append("\"\\bfnrt".charAt(place));
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
