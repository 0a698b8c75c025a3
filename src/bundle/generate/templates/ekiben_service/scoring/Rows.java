import hex.genmodel.easy.RowData;
import java.util.Arrays;

/** Rows as they were read: what takes no more memory than a few times their text, whatever that is. */
final class Rows {
    /** Whether they were given as a list, and are answered with one. */
    boolean isMany;
    private final String[] columns;
    private int count;
    private int values;
    /** Where each row's values begin; and of each value its column, its number, and its text where it is one. */
    private int[] begins = new int[1];
    private int[] of = new int[8];
    private double[] numbers = new double[8];
    private String[] texts = new String[8];

    Rows(String[] columns) {
        this.columns = columns;
    }

    int count() {
        return count;
    }

    void clear() {
        count = values = 0;
    }

    void add(int column, double number, String text) {
        if (values == of.length) {
            int more = values + (values >> 1);
            of = Arrays.copyOf(of, more);
            numbers = Arrays.copyOf(numbers, more);
            texts = Arrays.copyOf(texts, more);
        }
        of[values] = column;
        numbers[values] = number;
        texts[values++] = text;
    }

    /** The values that were added since the last one are a row. */
    void end() {
        if (++count == begins.length) {
            begins = Arrays.copyOf(begins, Math.max(4, count + (count >> 1)));
        }
        begins[count] = values;
    }

    RowData row(int at) {
        RowData row = new RowData();
        for (int value = begins[at]; value < begins[at + 1]; value++) {
            row.put(columns[of[value]], texts[value] == null ? (Object) numbers[value] : texts[value]);
        }
        return row;
    }
}
