/** There is no place, and none to wait for one; or the time was up before there was one. */
final class Busy extends Exception {
    private static final long serialVersionUID = 1;
    final int retryAfter;

    Busy(double seconds) {
        super("the service has more requests than it can take", null, false, false);
        retryAfter = (int) Math.min(Math.max(Math.ceil(seconds), 1), 60);
    }
}
