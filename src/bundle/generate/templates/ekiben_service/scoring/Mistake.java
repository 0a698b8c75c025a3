/** What is wrong with a value: the kind, and in words. */
final class Mistake {
    static final Mistake EXTRA = new Mistake("extra_forbidden", "Extra inputs are not permitted");
    static final Mistake NO_OBJECT = new Mistake("dict_type", "Input should be an object");
    static final Mistake NO_LIST = new Mistake("list_type", "Input should be a valid array");

    final String type;
    final String message;

    Mistake(String type, String message) {
        this.type = type;
        this.message = message;
    }
}
