import java.util.ArrayList;
import java.util.List;

/** A request that is not answered by the model: a status, and what is wrong as JSON, in FastAPI's shape. */
final class Refusal extends Exception {
    private static final long serialVersionUID = 1;
    final int status;
    final transient Json detail;

    private Refusal(int status, Json detail) {
        super(null, null, false, false);
        this.status = status;
        this.detail = detail;
    }

    static Refusal of(int status, String type, String message) {
        List<Found> one = new ArrayList<>();
        one.add(new Found(new Mistake(type, message), new Object[0]));
        return of(status, one);
    }

    static Refusal of(int status, List<Found> mistakes) {
        Json json = new Json().raw("[");
        for (int at = 0; at < mistakes.size(); at++) {
            Found found = mistakes.get(at);
            json.raw(at == 0 ? "" : ",").raw("{\"type\":").text(found.mistake.type).raw(",\"loc\":[\"body\"");
            for (Object step : found.place) {
                json.raw(",");
                if (step instanceof Integer) {
                    json.raw((Integer) step);
                } else {
                    json.text((String) step);
                }
            }
            json.raw("],\"msg\":").text(found.mistake.message).raw("}");
        }
        return new Refusal(status, json.raw("]"));
    }

    /** A mistake and where it is. */
    static final class Found {
        final Mistake mistake;
        final Object[] place;

        Found(Mistake mistake, Object[] place) {
            this.mistake = mistake;
            this.place = place;
        }
    }
}
